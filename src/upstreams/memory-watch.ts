import { type Clock, sleep } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ProcessTable } from './process-table.ts'

/** A process whose memory has a limit. */
export interface WatchedProcess {
  readonly pid: number
  /** It gets no more requests, since it is about to end. */
  refuse(): void
  /** Requests that wait for its answer. */
  inFlight(): number
  /** Ends it; another takes its place where one should. */
  replace(reason: string): void
}

export interface MemoryWatchOptions {
  readonly clock: Clock
  readonly table: Pick<ProcessTable, 'usageOf'>
  readonly lookMs: number
  /** `Infinity` where there is none; looked up each time. */
  readonly limitBytes: () => number
  readonly processes: () => readonly WatchedProcess[]
  /** One is above its limit for good, and is about to be replaced. */
  readonly onExceeded: (process: WatchedProcess, reason: string) => void
}

/** Looks in a row that have to find too much: what is used for a moment only is given back. */
const looksToAct = 2
const drainPollMs = 100

/** Replaces processes that use more memory, together with all that they started, than their limit. */
export class MemoryWatch {
  readonly #options: MemoryWatchOptions
  readonly #life = new AbortController()
  readonly #retiring = new Set<number>()
  #isLooking = false
  #excesses: ReadonlyMap<number, number> = new Map()

  constructor(options: MemoryWatchOptions) {
    this.#options = options
  }

  /** Looks from now on, as long as there is a limit; to be told again when there may be another. */
  follow(): void {
    if (!this.#isLooking) void this.#watch()
  }

  stop(): void {
    this.#life.abort()
  }

  async #watch(): Promise<void> {
    const { clock, lookMs, limitBytes } = this.#options
    const { signal } = this.#life
    const isWanted = () => !signal.aborted && limitBytes() !== Infinity
    this.#isLooking = true
    while (isWanted()) {
      await sleep(clock, lookMs, signal)
      if (isWanted()) this.#look()
    }
    this.#isLooking = false
  }

  #look(): void {
    const { table, processes, limitBytes } = this.#options
    const found = processes().flatMap((process) => {
      const residentBytes = table.usageOf(process.pid)?.residentBytes ?? 0
      return residentBytes > limitBytes() && !this.#retiring.has(process.pid) ? [{ process, residentBytes }] : []
    })
    this.#excesses = new Map(found.map(({ process: { pid } }) => [pid, (this.#excesses.get(pid) ?? 0) + 1]))
    for (const { process, residentBytes } of found) {
      if ((this.#excesses.get(process.pid) ?? 0) >= looksToAct) void this.#retire(process, residentBytes)
    }
  }

  /** Requests under way may finish, but not for ever. */
  async #retire(process: WatchedProcess, residentBytes: number): Promise<void> {
    const { clock, limitBytes, onExceeded } = this.#options
    const { signal } = this.#life
    const reason = `it uses ${inMib(residentBytes)} of memory, more than ${inMib(limitBytes())}`
    this.#retiring.add(process.pid)
    onExceeded(process, reason)
    process.refuse()
    const endsMs = clock.now() + defaults.supervision.memoryDrainMs
    while (process.inFlight() > 0 && clock.now() < endsMs && !signal.aborted) await sleep(clock, drainPollMs, signal)
    this.#retiring.delete(process.pid)
    if (!signal.aborted) process.replace(reason)
  }
}

function inMib(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`
}
