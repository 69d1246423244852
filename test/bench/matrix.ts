import { type LoadResult, type OpenLane, median, runLoad } from './load.ts'
import { type ProcessUsage, processUsage } from './proc.ts'

/** Something that takes requests. */
export interface Target {
  readonly name: string
  /** The process whose CPU and memory count: the proxy, or the server itself when there is none. */
  readonly pid: number
  /** How requests are sent whose answers have that many bytes. */
  readonly lanes: (answerBytes: number) => OpenLane
}

export interface Cell {
  readonly answerBytes: number
  readonly concurrency: number
}

export interface Plan {
  readonly rounds: number
  readonly durationMs: number
  readonly maxRequests: number
}

interface Round extends LoadResult {
  readonly requestsPerSecond: number
  readonly cpuSecondsPer1000: number | undefined
  readonly residentBytes: number | undefined
}

/** Medians over the rounds; the ratios are medians of the ratios to the reference in the same round. */
export interface Row extends Cell {
  readonly target: string
  readonly requestsPerSecond: number
  readonly ratio: number
  readonly p50Ms: number
  readonly p50Ratio: number
  readonly p99Ms: number
  readonly cpuSecondsPer1000: number | undefined
  readonly residentMib: number | undefined
  readonly generatorCpuRatio: number
}

/** Loads every target with every cell; the first target that bears the name is what the others are compared with. */
export async function runMatrix(
  targets: readonly Target[],
  { cells, reference, plan }: { readonly cells: readonly Cell[]; readonly reference: string; readonly plan: Plan },
): Promise<Row[]> {
  for (const target of targets) await loadOnce(target, { answerBytes: 100, concurrency: 64 }, hot)
  const rows: Row[] = []
  for (const cell of cells) {
    process.stderr.write(`${cellName(cell)}: ${targets.map(({ name }) => name).join(', ')}\n`)
    const rounds = await runCell(targets, cell, plan)
    const base = rounds.get(reference) ?? []
    for (const [target, results] of rounds) rows.push(rowOf(target, { cell, results, base }))
  }
  return rows
}

interface Until {
  readonly durationMs: number
  readonly maxRequests: number
}

/** Enough for V8 to compile what is hot, within a bound for those that would need minutes for it. */
const hot: Until = { durationMs: 6000, maxRequests: 30_000 }
/** Enough to get used to another size or number. */
const warmUp: Until = { durationMs: 1000, maxRequests: 2000 }

function loadOnce({ name, lanes }: Target, { answerBytes, concurrency }: Cell, until: Until): Promise<LoadResult> {
  return runLoad({ name, openLane: lanes(answerBytes), concurrency, ...until })
}

/** Warms every target up, then A B C, C B A, …, so that what drifts drifts for all. */
async function runCell(
  targets: readonly Target[],
  cell: Cell,
  { rounds, durationMs, maxRequests }: Plan,
): Promise<Map<string, Round[]>> {
  for (const target of targets) await loadOnce(target, cell, warmUp)
  const results = new Map<string, Round[]>(targets.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
      const before = processUsage(target.pid)
      const result = await loadOnce(target, cell, { durationMs, maxRequests })
      results.get(target.name)?.push(roundOf(result, before, processUsage(target.pid)))
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

function rowOf(
  target: string,
  { cell, results, base }: { readonly cell: Cell; readonly results: readonly Round[]; readonly base: readonly Round[] },
): Row {
  const mid = (pick: (round: Round) => number) => median(results.map(pick))
  const midOrNone = (pick: (round: Round) => number | undefined) => {
    const values = results.map(pick).filter((value) => value !== undefined)
    return values.length > 0 ? median(values) : undefined
  }
  const toBase = (pick: (round: Round) => number) =>
    median(results.map((round, i) => pick(round) / (base[i] ? pick(base[i]) : Number.NaN)))
  return {
    ...cell,
    target,
    requestsPerSecond: mid((round) => round.requestsPerSecond),
    ratio: toBase((round) => round.requestsPerSecond),
    p50Ms: mid((round) => round.p50Ms),
    p50Ratio: toBase((round) => round.p50Ms),
    p99Ms: mid((round) => round.p99Ms),
    cpuSecondsPer1000: midOrNone((round) => round.cpuSecondsPer1000),
    residentMib: midOrNone((round) => round.residentBytes && round.residentBytes / 2 ** 20),
    generatorCpuRatio: mid((round) => round.generatorCpuRatio),
  }
}

export function cellName({ answerBytes, concurrency }: Cell): string {
  return `${size(answerBytes)} × ${concurrency}`
}

export function size(bytes: number): string {
  if (bytes >= 1_000_000) return `${bytes / 1_000_000} MB`
  return bytes >= 1000 ? `${bytes / 1000} KB` : `${bytes} B`
}
