import type { Clock } from '../clock.ts'
import { type Outcome, meaningOf } from './classify.ts'
import type { ProbeMode } from './probe.ts'
import { type Evidence, type Verdict, isUp } from './verdict.ts'

/** A client's request that failed below JSON-RPC. */
export interface TrafficFailure {
  readonly outcome: Outcome
  readonly reason: string
  /** For how long it was given nothing, before it was given up. */
  readonly silentMs?: number
  readonly traceId?: string | undefined
}

/** What is known of the server at which a client's request failed. */
export interface TrafficContext {
  readonly probe: ProbeMode
  readonly verdict: Pick<Verdict, 'state' | 'misses'>
  /** Nothing runs that could have answered. */
  readonly isAbsent: boolean
}

/** A client's request that was given up after so long without any sign of work on it. */
export interface Abandoned {
  readonly silentMs: number
  readonly traceId?: string | undefined
  readonly probe: ProbeMode
  /** A heartbeat would have waited for so long. */
  readonly maxTimeoutMs: number
  /** Whether a process of ours works is seen from the process. */
  readonly isOwn: boolean
}

/** What breaks within this time broke by one blow, such as the requests that a crash cuts off. */
const oneBlowMs = 1000

/** What clients' requests tell about their server, and when they last did; all times are monotonic. */
export class Traffic {
  readonly #clock: Clock
  #answeredMs = Number.NEGATIVE_INFINITY
  #standInMs = Number.NEGATIVE_INFINITY
  #unansweredMs = Number.NEGATIVE_INFINITY
  #givenUpMs = Number.NEGATIVE_INFINITY
  /** When one last broke that counted. */
  #brokeMs = Number.NEGATIVE_INFINITY

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** When a client was last answered. */
  get answeredMs(): number {
    return this.#answeredMs
  }

  /** The same by what we would have asked: as good as a heartbeat of that moment. */
  get standInMs(): number {
    return this.#standInMs
  }

  /** When a client last went without an answer. */
  get unansweredMs(): number {
    return this.#unansweredMs
  }

  /** A client was answered, `standsIn` by the very process that heartbeats ask. */
  answered(standsIn: boolean): void {
    this.#answeredMs = this.#clock.now()
    if (standsIn) this.#standInMs = this.#answeredMs
  }

  /**
   * What a failed request is evidence of; undefined where it says nothing new. Clients can cause failures of their own, so
   * they raise suspicion once, and the probe that follows decides. What is not up has said so already: a probe for each
   * client that tries nevertheless would be a storm. Of what is idle because no client asked, they are the first to know.
   */
  failed({ outcome, reason, silentMs = 0 }: TrafficFailure, context: TrafficContext): Evidence | undefined {
    const { probe, verdict, isAbsent } = context
    const kind = meaningOf(outcome)
    if (kind !== 'silent' && kind !== 'missed' && kind !== 'gone') return undefined
    const nowMs = this.#clock.now()
    this.#unansweredMs = nowMs
    const isUnasked = probe === 'passive' && verdict.state === 'idle' && !isAbsent
    const isOnlyEvidence = probe === 'passive' && kind !== 'gone'
    const isNews = kind === 'gone' ? isUp(verdict.state) === true || isUnasked : verdict.misses === 0
    const isStraggler = verdict.state === 'idle' && !isUnasked
    if (isStraggler || (!isNews && !isOnlyEvidence)) return undefined
    // Whoever was answered since that request was sent knows better: one request was lost.
    const wasHeardSince = this.#answeredMs > nowMs - silentMs
    if (isOnlyEvidence && kind === 'silent' && wasHeardSince) return undefined
    if (isOnlyEvidence && kind === 'missed') {
      if (nowMs < this.#brokeMs + oneBlowMs) return undefined
      this.#brokeMs = nowMs
    }
    const why = {
      reason: `a client's request failed: ${reason}`,
      // Where nobody else asks, it tells of the moment from which on the server was silent, which may be over.
      atMs: nowMs - (isOnlyEvidence ? silentMs : 0),
    }
    if (kind === 'gone') return { kind, ...why }
    // That one request was given up is old news of the server; whether it is silent now, the probe that follows tells.
    return { kind: kind === 'silent' && probe === 'active' ? 'missed' : kind, by: 'traffic', ...why }
  }

  /**
   * What a request is that its client gave up: where nobody else asks, a failure, if a heartbeat would have been one.
   * Requests that wait side by side are one.
   */
  givenUp({ silentMs, traceId, probe, maxTimeoutMs, isOwn }: Abandoned): TrafficFailure | undefined {
    const nowMs = this.#clock.now()
    this.#unansweredMs = nowMs
    const isOneMore = nowMs - silentMs >= this.#givenUpMs
    if (probe !== 'passive' || isOwn || silentMs < maxTimeoutMs || !isOneMore) return undefined
    this.#givenUpMs = nowMs
    const reason = `nothing came for ${Math.round(silentMs / 1000)} s, until its client gave it up`
    return { outcome: 'timeout', reason, silentMs, traceId }
  }
}
