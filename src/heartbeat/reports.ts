import type { HeartbeatEvents, HeartbeatReport } from './contract.ts'
import type { History, HistoryEntry } from './history.ts'

/** Records each heartbeat that is over and tells it: at once to what measures, and to people when the next one is planned. */
export class Reports {
  readonly #history: History
  readonly #events: Pick<HeartbeatEvents, 'onHeartbeat' | 'onNewFailure' | 'onReport'>
  /** What people are told later; undefined while nothing is to wait. */
  #untold: (() => void)[] | undefined

  constructor(history: History, events: Pick<HeartbeatEvents, 'onHeartbeat' | 'onNewFailure' | 'onReport'>) {
    this.#history = history
    this.#events = events
  }

  /** Gives the id of its trace. */
  tell(report: HeartbeatReport): string {
    const { leg, method, outcome, durationMs: responseTimeMs, reason, session } = report.result
    const newCause = this.#history.record({
      atWallMs: report.startedAtWallMs,
      leg,
      method,
      outcome,
      responseTimeMs,
      reason,
      ...(session !== undefined && { session }),
    })
    const traceId = this.#events.onHeartbeat(report)
    if (newCause !== undefined) this.#events.onNewFailure(newCause, traceId)
    // A heartbeat with a pace of its own knows when its next one comes.
    if (this.#untold && !report.pace) this.#untold.push(() => this.#events.onReport(report, traceId))
    else this.#events.onReport(report, traceId)
    return traceId
  }

  /** A client's request failed, which is evidence like a failed heartbeat. */
  noteTraffic(failure: Omit<HistoryEntry, 'leg' | 'method'>, traceId: string | undefined): void {
    const newCause = this.#history.note({ leg: 'upstream', method: 'traffic', ...failure })
    if (newCause !== undefined) this.#events.onNewFailure(newCause, traceId)
  }

  /** A heartbeat begins: until `release`, it is not known when the next one comes. */
  hold(): void {
    this.#untold = []
  }

  release(): void {
    const untold = this.#untold ?? []
    this.#untold = undefined
    for (const tell of untold) tell()
  }
}
