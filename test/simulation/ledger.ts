import { isAnswered, isFailure } from '../../src/heartbeat/classify.ts'
import type { HeartbeatDeps, HeartbeatInstruments } from '../../src/cli/monitor-deps.ts'
import type { Clock } from '../../src/clock.ts'
import { type UpstreamReading, emptyReading } from '../../src/telemetry/readings.ts'

/** A snapshot of the metrics is shared for this long. */
const maxAgeMs = 1000

/**
 * What the exported metrics would say about heartbeats, without exporting them: OpenTelemetry would take most of the
 * time. `ledger.test.ts` holds it against the real ones.
 */
export class Ledger {
  readonly #clock: Clock
  readonly #readings = new Map<string, UpstreamReading>()
  #shared: { readonly atMs: number; readonly readings: ReadonlyMap<string, UpstreamReading> } | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  readonly record: HeartbeatInstruments['recordHeartbeat'] = ({ upstream, leg, method, outcome, durationSeconds }) => {
    if (leg === 'client') return
    const before = this.#readings.get(upstream) ?? emptyReading([])
    const answered = isAnswered(outcome)
    const isTimed = answered && method !== 'initialize'
    this.#readings.set(upstream, {
      ...before,
      heartbeats: before.heartbeats + 1,
      failures: before.failures + (isFailure(outcome) ? 1 : 0),
      answered: before.answered + (answered ? 1 : 0),
      rttSumSeconds: before.rttSumSeconds + (isTimed ? durationSeconds : 0),
      rttCount: before.rttCount + (isTimed ? 1 : 0),
    })
  }

  /** A client's request, sent on to its server. */
  operation(upstream: string, isFailure: boolean): void {
    const before = this.#readings.get(upstream) ?? emptyReading([])
    this.#readings.set(upstream, {
      ...before,
      operations: before.operations + 1,
      operationFailures: before.operationFailures + (isFailure ? 1 : 0),
    })
  }

  readonly current: HeartbeatDeps['readings'] = () => {
    const nowMs = this.#clock.now()
    if (!this.#shared || nowMs - this.#shared.atMs >= maxAgeMs) {
      this.#shared = { atMs: nowMs, readings: new Map(this.#readings) }
    }
    return Promise.resolve(this.#shared.readings)
  }
}
