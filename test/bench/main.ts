/**
 * What mcp-vitals costs, everything on, beside the least that any program in its place would cost and beside other
 * people's: the same requests in interleaved rounds of one run.
 *
 *   npm run bench                    everything, about ten minutes
 *   npm run bench -- http stdio      some sections: http, stdio, peers, instrumentation,
 *                                    telemetry, memory, cold-start, fleet
 *   npm run bench -- --quick         short rounds
 *   npm run bench -- --rounds 30
 *   npm run bench -- fleet --servers 1000 --seconds 60
 *   npm run bench -- --json          one JSON object on stdout
 *
 * Exit code 1 when a floor (floors.ts) is missed, 2 when the run itself failed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setup as build } from '../built.ts'
import { isKept } from './floors.ts'
import type { Plan } from './matrix.ts'
import { formatSection, machine } from './report.ts'
import { type SectionName, type Stops, sectionNames, sections } from './sections.ts'

/** Many short rounds rather than few long ones: what disturbs one of a pair disturbs the other one too. */
const fullPlan: Plan = { rounds: 15, durationMs: 350, maxRequests: 100_000 }
const quickPlan: Plan = { rounds: 5, durationMs: 250, maxRequests: 20_000 }

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      servers: { type: 'string', default: '1000' },
      seconds: { type: 'string', default: '60' },
    },
  })
  const unknown = positionals.find((name) => !isSection(name))
  if (unknown !== undefined) throw new Error(`"${unknown}" is no section: ${sectionNames.join(', ')}`)
  const wanted = sectionNames.filter((name) => positionals.length === 0 || positionals.includes(name))
  const base = values.quick ? quickPlan : fullPlan
  const fleet = { upstreams: Number(values.servers), calmMs: Number(values.seconds) * 1000 }
  const plan = values.rounds === undefined ? base : { ...base, rounds: Math.max(1, Math.trunc(Number(values.rounds))) }
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-bench-'))
  // What is deployed: from its sources it weighs more.
  const removeBuilt = await build()
  try {
    const reports = []
    if (!values.json) console.log(introduction(plan))
    for (const name of wanted) {
      const [loadBefore] = loadavg()
      const result = await withStops((stops) => sections[name]({ plan, fleet, directory, stops }))
      const report = { ...result, load: [loadBefore, loadavg()[0]] }
      reports.push(report)
      if (!values.json) console.log(`\n${formatSection(report)}`)
    }
    if (values.json) console.log(JSON.stringify({ machine: machine(), plan, reports }, null, 2))
    return reports.every(({ checks }) => checks.every(isKept)) ? 0 : 1
  } finally {
    await removeBuilt()
    await rm(directory, { recursive: true, force: true })
  }
}

function isSection(name: string): name is SectionName {
  return sectionNames.some((known) => known === name)
}

async function withStops<T>(run: (stops: Stops) => Promise<T>): Promise<T> {
  const stops: Stops = []
  try {
    return await run(stops)
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

function introduction({ rounds, durationMs }: Plan): string {
  return [
    machine(),
    'The load generator, the proxies and the servers are one process each and share these cores with whatever else runs:',
    'read the ratios, not the absolute numbers. CPU and RSS are of the process named (direct: the server’s).',
    `Medians of ${rounds} interleaved rounds of ${durationMs} ms.`,
  ].join('\n')
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error)
  process.exitCode = 2
}
