/**
 * Tries the parsers with random inputs for as long as it is told: `npm run fuzz -- --seconds 600`. An input that breaks
 * a promise is made small, kept in the corpus and told; the exit code is then 1.
 */
import { parseArgs } from 'node:util'
import * as fc from 'fast-check'
import { anyInput, chunkSizes, keepInput } from './inputs.ts'
import { targets } from './targets.ts'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } })
const endsMs = performance.now() + Number(values.seconds) * 1000
const runsPerRound = 2000
const runs = new Map<string, number>()

while (performance.now() < endsMs && process.exitCode === undefined) {
  for (const [name, target] of Object.entries(targets)) {
    const property = fc.property(anyInput(name, target), chunkSizes, (bytes, sizes) => target.check(bytes, sizes))
    const seed = Math.trunc(Math.random() * 2 ** 31)
    // A parser that hangs would otherwise say nothing of where.
    process.stderr.write(`\r${name} seed ${seed}      `)
    const result = fc.check(property, { seed, numRuns: runsPerRound })
    runs.set(name, (runs.get(name) ?? 0) + result.numRuns)
    if (!result.failed || !result.counterexample) continue
    const [bytes, sizes] = result.counterexample
    process.exitCode = 1
    console.error(`\n${name}, seed ${seed}, chunks of ${sizes.join()} bytes: kept as ${keepInput(name, bytes)}`)
    console.error(result.errorInstance)
  }
}
console.log(`\n${[...runs].map(([name, count]) => `${name} ${count}`).join(', ')}`)
