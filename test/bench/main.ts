/**
 * What mcp-vitals costs: the same requests go to a tiny server directly, through a bare node:http pipe, and through
 * mcp-vitals with everything on, in interleaved rounds of one run.
 *
 *   npm run bench                          the whole matrix, about two minutes
 *   npm run bench -- --quick               short rounds
 *   npm run bench -- --json                one JSON object on stdout
 *   npm run bench -- --targets direct,pipe without mcp-vitals
 *
 * Exit code 1 when mcp-vitals is below the floor, 2 when the run itself failed.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { startPeer, type RunningProcess } from '../peers/spawn.ts'
import { startVitals } from '../support/vitals.ts'
import { median, runLoad, type LoadResult } from './load.ts'
import { processUsage, type ProcessUsage } from './proc.ts'

const targetNames = ['direct', 'pipe', 'vitals'] as const
type TargetName = (typeof targetNames)[number]

/** The least share of the bare pipe's requests per second that mcp-vitals may reach, where there is concurrency. */
const floorRatio = 0.6
const floorConcurrency = 16
const answerSizes = [100, 10_000, 1_000_000]
const concurrencies = [1, 16, 64]

interface Target {
  readonly name: TargetName
  readonly url: string
  /** The process whose CPU and memory count: the proxy, or the server itself when there is none. */
  readonly pid: number
}

interface Round extends LoadResult {
  readonly requestsPerSecond: number
  readonly cpuSecondsPer1000: number | undefined
  readonly residentBytes: number | undefined
}

interface Row {
  readonly answerBytes: number
  readonly concurrency: number
  readonly target: TargetName
  readonly requestsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuSecondsPer1000: number | undefined
  readonly residentMib: number | undefined
  readonly generatorCpuRatio: number
}

interface Ratio {
  readonly answerBytes: number
  readonly concurrency: number
  /** Median over the rounds of mcp-vitals' requests per second over the pipe's in the same round. */
  readonly ratio: number
  readonly verdict: 'PASS' | 'FAIL' | 'no floor'
}

interface Plan {
  readonly rounds: number
  readonly durationMs: number
  readonly warmUpMs: number
  readonly maxRequests: number
}

const fullPlan: Plan = { rounds: 3, durationMs: 1200, warmUpMs: 500, maxRequests: 100_000 }
const quickPlan: Plan = { rounds: 3, durationMs: 300, warmUpMs: 200, maxRequests: 20_000 }

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      targets: { type: 'string', default: targetNames.join(',') },
      rounds: { type: 'string' },
    },
  })
  const wanted = values.targets.split(',')
  const names = targetNames.filter((name) => wanted.includes(name))
  const base = values.quick ? quickPlan : fullPlan
  const plan = values.rounds === undefined ? base : { ...base, rounds: Math.max(1, Math.trunc(Number(values.rounds))) }
  const stops: Stops = []
  try {
    const targets = await startTargets(names, stops)
    const { rows, ratios } = await runMatrix(targets, plan)
    const report = { machine: machine(), plan, floorRatio, rows, ratios }
    console.log(values.json ? JSON.stringify(report, null, 2) : formatReport(report))
    return ratios.some(({ verdict }) => verdict === 'FAIL') ? 1 : 0
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

async function startTargets(names: readonly TargetName[], stops: Stops): Promise<Target[]> {
  const echo = await startPeer('test/peers/echo-server.ts')
  stops.push(echo.stop)
  const targets: Target[] = []
  for (const name of names) targets.push(await starters[name](echo, stops))
  return targets
}

type Stops = (() => Promise<void>)[]
type Starter = (echo: RunningProcess<string>, stops: Stops) => Promise<Target>

const starters: Readonly<Record<TargetName, Starter>> = {
  direct: async (echo) => ({ name: 'direct', url: echo.ready, pid: echo.pid }),
  pipe: async (echo, stops) => {
    const pipe = await startPeer('test/bench/bare-pipe.ts', { UPSTREAM: new URL(echo.ready).origin })
    stops.push(pipe.stop)
    return { name: 'pipe', url: `${pipe.ready}/mcp`, pid: pipe.pid }
  },
  vitals: async (echo, stops) => {
    const vitals = await startVitals({ config: { mcpServers: { echo: { url: echo.ready } } } })
    stops.push(vitals.stop)
    return { name: 'vitals', url: `${vitals.dataUrl}/echo/mcp`, pid: vitals.pid }
  },
}

async function runMatrix(targets: readonly Target[], plan: Plan): Promise<{ rows: Row[]; ratios: Ratio[] }> {
  const rows: Row[] = []
  const ratios: Ratio[] = []
  for (const answerBytes of answerSizes) {
    for (const concurrency of concurrencies) {
      process.stderr.write(`${size(answerBytes)} × ${concurrency}\n`)
      const rounds = await runCell(targets, { answerBytes, concurrency }, plan)
      for (const [target, results] of rounds) rows.push(rowOf(target, { answerBytes, concurrency }, results))
      const [pipe, vitals] = [rounds.get('pipe'), rounds.get('vitals')]
      if (pipe && vitals) ratios.push(ratioOf({ answerBytes, concurrency }, pipe, vitals))
    }
  }
  return { rows, ratios }
}

interface Cell {
  readonly answerBytes: number
  readonly concurrency: number
}

/** Warms every target up, then A B C A B C…, so that what drifts drifts for all. */
async function runCell(targets: readonly Target[], cell: Cell, plan: Plan): Promise<Map<TargetName, Round[]>> {
  const { rounds, durationMs, warmUpMs, maxRequests } = plan
  for (const { url } of targets) await runLoad({ url, ...cell, durationMs: warmUpMs, maxRequests })
  const results = new Map<TargetName, Round[]>(targets.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const { name, url, pid } of targets) {
      const before = processUsage(pid)
      const load = await runLoad({ url, ...cell, durationMs, maxRequests })
      results.get(name)?.push(roundOf(load, before, processUsage(pid)))
    }
  }
  return results
}

function roundOf(load: LoadResult, before: ProcessUsage | undefined, after: ProcessUsage | undefined): Round {
  return {
    ...load,
    requestsPerSecond: load.requests / load.seconds,
    cpuSecondsPer1000: before && after ? ((after.cpuSeconds - before.cpuSeconds) / load.requests) * 1000 : undefined,
    residentBytes: after?.residentBytes,
  }
}

function rowOf(target: TargetName, cell: Cell, rounds: readonly Round[]): Row {
  const mid = (pick: (round: Round) => number) => median(rounds.map(pick))
  const midOrNone = (pick: (round: Round) => number | undefined) => {
    const values = rounds.map(pick).filter((value) => value !== undefined)
    return values.length > 0 ? median(values) : undefined
  }
  return {
    ...cell,
    target,
    requestsPerSecond: mid((round) => round.requestsPerSecond),
    p50Ms: mid((round) => round.p50Ms),
    p99Ms: mid((round) => round.p99Ms),
    cpuSecondsPer1000: midOrNone((round) => round.cpuSecondsPer1000),
    residentMib: midOrNone((round) => round.residentBytes && round.residentBytes / 2 ** 20),
    generatorCpuRatio: mid((round) => round.generatorCpuRatio),
  }
}

function ratioOf(cell: Cell, pipe: readonly Round[], vitals: readonly Round[]): Ratio {
  const ratio = median(vitals.map((round, i) => round.requestsPerSecond / (pipe[i]?.requestsPerSecond ?? Number.NaN)))
  if (cell.concurrency < floorConcurrency) return { ...cell, ratio, verdict: 'no floor' }
  return { ...cell, ratio, verdict: ratio >= floorRatio ? 'PASS' : 'FAIL' }
}

const machine = () => `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, node ${process.version}`

interface Report {
  readonly machine: string
  readonly plan: Plan
  readonly rows: readonly Row[]
  readonly ratios: readonly Ratio[]
}

function formatReport({ machine, plan, rows, ratios }: Report): string {
  const header = ['answer', 'conc.', 'target', 'req/s', 'p50 ms', 'p99 ms', 'CPU s/1000', 'RSS MiB', 'generator']
  const table = rows.map((row) => [
    size(row.answerBytes),
    String(row.concurrency),
    row.target,
    row.requestsPerSecond.toFixed(0),
    row.p50Ms.toFixed(2),
    row.p99Ms.toFixed(2),
    row.cpuSecondsPer1000?.toFixed(3) ?? '–',
    row.residentMib?.toFixed(0) ?? '–',
    `${(row.generatorCpuRatio * 100).toFixed(0)} %`,
  ])
  const saturated = rows.filter(({ generatorCpuRatio }) => generatorCpuRatio > 0.9)
  return [
    machine,
    'The load generator, the proxy and the echo server are one process each and share these cores with whatever else runs:',
    'read the ratios, not the absolute numbers. CPU and RSS are the proxy’s (direct: the echo server’s).',
    `Medians of ${plan.rounds} interleaved rounds of ${plan.durationMs} ms.`,
    '',
    ...alignColumns([header, ...table]),
    '',
    ...saturated.map((row) => `generator saturated: ${size(row.answerBytes)} × ${row.concurrency} ${row.target}`),
    ...ratios.map(formatRatio),
  ].join('\n')
}

function formatRatio({ answerBytes, concurrency, ratio, verdict }: Ratio): string {
  const floor = verdict === 'no floor' ? '' : `, floor ${floorRatio}: ${verdict}`
  return `vitals/pipe ${size(answerBytes)} × ${concurrency}: ${ratio.toFixed(2)}${floor}`
}

function alignColumns(table: readonly (readonly string[])[]): string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  return table.map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  '))
}

function size(bytes: number): string {
  if (bytes >= 1_000_000) return `${bytes / 1_000_000} MB`
  return bytes >= 1000 ? `${bytes / 1000} KB` : `${bytes} B`
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error)
  process.exitCode = 2
}
