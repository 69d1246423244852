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
  /** What is shared, as it was then; read at once by whoever gets it. */
  readonly #shared = new Map<string, UpstreamReading>()
  #sharedAtMs = Number.NEGATIVE_INFINITY
  /** What has changed since. */
  readonly #newer = new Map<string, UpstreamReading>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  readonly record: HeartbeatInstruments['recordHeartbeat'] = ({ upstream, leg, method, outcome, durationSeconds }) => {
    if (leg === 'client') return
    const before = this.#latest(upstream)
    const answered = isAnswered(outcome)
    const isTimed = answered && method !== 'initialize'
    this.#newer.set(upstream, {
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
    const before = this.#latest(upstream)
    this.#newer.set(upstream, {
      ...before,
      operations: before.operations + 1,
      operationFailures: before.operationFailures + (isFailure ? 1 : 0),
    })
  }

  readonly current: HeartbeatDeps['readings'] = () => {
    const nowMs = this.#clock.now()
    if (nowMs - this.#sharedAtMs >= maxAgeMs) {
      this.#sharedAtMs = nowMs
      for (const [upstream, reading] of this.#newer) this.#shared.set(upstream, reading)
      this.#newer.clear()
    }
    return Promise.resolve(this.#shared)
  }

  #latest(upstream: string): UpstreamReading {
    return this.#newer.get(upstream) ?? this.#shared.get(upstream) ?? emptyReading([])
  }
}
