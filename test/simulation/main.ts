/**
 * Lives through simulated worlds and says what came of them: `npm run simulate -- --seeds 1000`. A world that breaks a
 * rule is told with its timeline and how to replay it; the exit code is then 1.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { hourlyOutages } from './faults.ts'
import { type Figures, figuresOf, table } from './figures.ts'
import { rules } from './referee.ts'
import { liveThrough } from './small-world.ts'
import { type Policy, type WorldReport, runWorld } from './world.ts'
import { liveThroughAll } from './worlds.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    first: { type: 'string', default: '1' },
    upstreams: { type: 'string', default: '10' },
    hours: { type: 'string', default: '1' },
    'fleet-upstreams': { type: 'string', default: '200' },
    'fleet-hours': { type: 'string', default: '6' },
    workers: { type: 'string', default: String(availableParallelism()) },
    replay: { type: 'string' },
  },
})
const upstreams = Number(values.upstreams)
const hours = Number(values.hours)

/** The last lines of a timeline that still show how it came to this. */
const linesShown = 60

if (values.replay === undefined) {
  await tryWorlds(Number(values.first), Number(values.seeds))
  await compareIntervals(Number(values['fleet-upstreams']), Number(values['fleet-hours']))
} else await replay(Number(values.replay))

async function tryWorlds(first: number, count: number): Promise<void> {
  if (count === 0) return
  const startedMs = performance.now()
  const reports: WorldReport[] = []
  const broken: (readonly [number, WorldReport])[] = []
  const onReport = (seed: number, report: WorldReport) => {
    reports.push(report)
    if (report.violations.length > 0) broken.push([seed, report])
  }
  await liveThroughAll({ first, count, upstreams, hours, workers: Number(values.workers), onReport })
  for (const [seed, report] of broken.toSorted(([a], [b]) => a - b)) await tell(seed, report)
  const tookSeconds = (performance.now() - startedMs) / 1000
  console.log(
    `${count} worlds of ${upstreams} servers and ${hours} h in ${tookSeconds.toFixed(0)} s, ${broken.length} of them broke a rule\n`,
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

/** A calm fleet whose servers fall silent once an hour: what the adaptive interval is worth beside fixed ones. */
async function compareIntervals(servers: number, forHours: number): Promise<void> {
  if (servers === 0) return
  const cases: readonly (readonly [string, Policy, number])[] = [
    ['adaptive, half of the outages with a prelude', 'adaptive', 0.5],
    ['adaptive, no preludes', 'adaptive', 0],
    ['every 5 s', 5, 0.5],
    ['every 10 s', 10, 0.5],
    ['every 30 s', 30, 0.5],
  ]
  const rows: (readonly [string, Figures])[] = []
  for (const [name, policy, preludes] of cases) {
    const report = await runWorld({ seed: 1, plan: hourlyOutages(1, servers, forHours, preludes), policy })
    for (const { rule, upstream, what } of report.violations)
      console.log(`${name}: ${upstream} broke "${rules[rule]}": ${what}`)
    if (report.violations.length > 0) process.exitCode = 1
    rows.push([name, figuresOf([report])])
  }
  console.log(`${servers} servers, ${forHours} h, one outage an hour each, nothing but probes\n`)
  console.log(table(rows))
}
