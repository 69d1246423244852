import type { ProcessTable } from './process-table.ts'

/** What the processes of one upstream use together; an absent field means that none runs. */
export interface UpstreamUsage {
  /** Since the start, those that have ended included. */
  readonly cpuSeconds: number
  readonly residentBytes?: number
  readonly openFds?: number
  readonly threads?: number
  /** What they started themselves, and those of it whose own parent has gone. */
  readonly children?: number
  readonly orphans?: number
}

/**
 * Adds up what the processes of one upstream use. CPU time only grows, whatever ends or is replaced; what a process used
 * between the last reading and its end is not seen.
 */
export class UsageMeter {
  readonly #table: Pick<ProcessTable, 'usageOf' | 'openFdsOf'>
  /** CPU time of each running process at the last reading. */
  #lastSeconds: ReadonlyMap<number, number> = new Map()
  #cpuSeconds = 0
  #wasSeen = false

  constructor(table: Pick<ProcessTable, 'usageOf' | 'openFdsOf'>) {
    this.#table = table
  }

  /** Undefined until a process was seen: where there is no `/proc`, for ever. */
  read(leaders: readonly number[]): UpstreamUsage | undefined {
    const trees = leaders.flatMap((pid) => {
      const usage = this.#table.usageOf(pid)
      return usage ? [{ pid, usage, openFds: this.#table.openFdsOf(pid) ?? 0 }] : []
    })
    for (const { pid, usage } of trees) {
      this.#cpuSeconds += Math.max(0, usage.cpuSeconds - (this.#lastSeconds.get(pid) ?? 0))
    }
    this.#lastSeconds = new Map(trees.map(({ pid, usage }) => [pid, usage.cpuSeconds]))
    this.#wasSeen ||= trees.length > 0
    if (trees.length === 0) return this.#wasSeen ? { cpuSeconds: this.#cpuSeconds } : undefined
    return {
      cpuSeconds: this.#cpuSeconds,
      residentBytes: trees.reduce((sum, { usage }) => sum + usage.residentBytes, 0),
      openFds: trees.reduce((sum, { openFds }) => sum + openFds, 0),
      threads: trees.reduce((sum, { usage }) => sum + usage.threads, 0),
      children: trees.reduce((sum, { usage }) => sum + usage.children, 0),
      orphans: trees.reduce((sum, { usage }) => sum + usage.orphans, 0),
    }
  }
}
