/**
 * Lives through simulated worlds and says what came of them: `npm run simulate -- --seeds 1000`. A world that breaks a
 * rule is told with its timeline and how to replay it, a fleet that breaks a promise with the promise; the exit code is
 * then 1.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { figuresOf, table } from './figures.ts'
import { type Fleet, brokenPromises, fleetServers, spread } from './fleet.ts'
import { rules } from './referee.ts'
import { liveThrough } from './small-world.ts'
import type { Policy, WorldReport } from './world.ts'
import { type World, liveThroughAll, smallWorlds } from './worlds.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    first: { type: 'string', default: '1' },
    upstreams: { type: 'string', default: '10' },
    hours: { type: 'string', default: '1' },
    'fleet-upstreams': { type: 'string', default: String(fleetServers) },
    'fleet-hours': { type: 'string', default: '6' },
    draws: { type: 'string', default: '1' },
    workers: { type: 'string', default: String(availableParallelism()) },
    replay: { type: 'string' },
  },
})
const upstreams = Number(values.upstreams)
const hours = Number(values.hours)
const workers = Number(values.workers)

/** The last lines of a timeline that still show how it came to this. */
const linesShown = 60

if (values.replay === undefined) {
  await tryWorlds(Number(values.first), Number(values.seeds))
  const size = { upstreams: Number(values['fleet-upstreams']), hours: Number(values['fleet-hours']) }
  await compareIntervals(size, Number(values.draws))
} else await replay(Number(values.replay))

async function tryWorlds(first: number, count: number): Promise<void> {
  if (count === 0) return
  const startedMs = performance.now()
  const reports: WorldReport[] = []
  const broken: (readonly [number, WorldReport])[] = []
  await liveThroughAll(smallWorlds(first, count, { upstreams, hours }), workers, ({ seed }, report) => {
    reports.push(report)
    if (report.violations.length > 0) broken.push([seed, report])
  })
  const tookSeconds = (performance.now() - startedMs) / 1000
  for (const [seed, report] of broken.toSorted(([a], [b]) => a - b)) await tell(seed, report)
  const pace = `${tookSeconds.toFixed(0)} s (${(count / tookSeconds).toFixed(1)} worlds/s on ${workers} threads)`
  console.log(
    `${count} worlds of ${upstreams} servers and ${hours} h in ${pace}, ${broken.length} of them broke a rule\n`,
  )
  console.log(`${table([['all kinds of faults', figuresOf(reports)]])}\n`)
}

/** The timeline is written only now: the same seed gives the same world again. */
async function tell(seed: number, { violations }: WorldReport): Promise<void> {
  process.exitCode = 1
  const [first] = violations
  if (!first) return
  const lines = await timelineOf(seed)
  const at = lines.findIndex((line) => line.includes('VIOLATION'))
  const own = lines.slice(0, at + 1).filter((line) => line.includes(`  ${first.upstream} `) || line.includes('  us  '))
  console.log(`seed ${seed} broke ${violations.length} times, first "${rules[first.rule]}":`)
  console.log(own.slice(-linesShown).join('\n'))
  console.log(`all of it: npm run simulate -- --replay ${seed} --upstreams ${upstreams} --hours ${hours}\n`)
}

async function replay(seed: number): Promise<void> {
  const lines = await timelineOf(seed)
  console.log(lines.join('\n'))
  if (lines.some((line) => line.includes('VIOLATION'))) process.exitCode = 1
}

async function timelineOf(seed: number): Promise<readonly string[]> {
  const lines: string[] = []
  await liveThrough({ seed, upstreams, hours }, (line) => lines.push(line))
  return lines
}

interface Case {
  readonly name: string
  readonly policy: Policy
  readonly preludes: number
  readonly draws: number
}

type FleetWorld = World & { readonly kind: 'fleet' }

/** A calm fleet whose servers fall silent once an hour: what the adaptive interval is worth beside fixed ones. */
async function compareIntervals(size: Pick<Fleet, 'upstreams' | 'hours'>, draws: number): Promise<void> {
  if (size.upstreams === 0) return
  const cases: readonly Case[] = [
    { name: 'adaptive, half of the outages with a prelude', policy: 'adaptive', preludes: 0.5, draws },
    { name: 'adaptive, no preludes', policy: 'adaptive', preludes: 0, draws },
    { name: 'every 5 s', policy: 5, preludes: 0.5, draws: 1 },
    { name: 'every 10 s', policy: 10, preludes: 0.5, draws: 1 },
    { name: 'every 30 s', policy: 30, preludes: 0.5, draws: 1 },
  ]
  const startedMs = performance.now()
  const lived = new Map<Case, WorldReport[]>(cases.map((one) => [one, []]))
  const worlds = cases.flatMap((of) =>
    Array.from({ length: of.draws }, (_, at): FleetWorld & { readonly of: Case } => {
      return { kind: 'fleet', ...size, policy: of.policy, preludes: of.preludes, seed: at + 1, of }
    }),
  )
  await liveThroughAll(worlds, workers, ({ of, seed }, report) => {
    lived.get(of)?.push(report)
    for (const { rule, upstream, what } of report.violations)
      complain(of.name, `draw ${seed}: ${upstream} broke "${rules[rule]}": ${what}`)
  })
  const tookSeconds = (performance.now() - startedMs) / 1000
  console.log(
    `${size.upstreams} servers, ${size.hours} h, one outage an hour each, nothing but probes (took ${tookSeconds.toFixed(0)} s)\n`,
  )
  console.log(table([...lived].map(([{ name }, reports]) => [name, figuresOf(reports)])))
  for (const [{ name, policy, preludes }, reports] of lived) {
    if (policy !== 'adaptive') continue
    if (reports.length > 1) console.log(`\n${name}: ${spread(reports)}`)
    for (const promise of brokenPromises(reports, preludes, size.upstreams)) complain(name, promise)
  }
}

function complain(name: string, what: string): void {
  process.exitCode = 1
  console.log(`${name}: ${what}`)
}
