import type { Clock } from '../clock.ts'
import type { Era } from '../wire/era.ts'
import { isAnswered } from './classify.ts'
import type { Talker } from './conversation.ts'
import {
  type CheckOptions,
  type Checks,
  type ProbeMethod,
  type Prober,
  type ProbeResult,
  type Rung,
  ask,
  askUnprovenPing,
  firstRung,
} from './probe.ts'

export interface WrapperProberOptions {
  /** Speaks to the server between the lines of its client. */
  readonly talker: Talker
  readonly clock: Clock
  readonly session: {
    readonly key: string
    /** Undefined until the client's opening exchange is over. */
    readonly era: Era | undefined
    readonly protocolVersion: string | undefined
    /** Monotonic time of the last message from the server. */
    readonly lastHeardMs: number
  }
  /** Whether something could be asked now. */
  readonly canAsk: () => boolean
  /** Only a server that said nothing since is asked. */
  readonly idleSinceMs: () => number
  /** What to ask; looked up each time. */
  readonly method: () => ProbeMethod
}

/**
 * Heartbeats of a server that its client started itself and shares with nobody: inside that conversation, once its
 * opening exchange is over, and only while it is idle.
 */
export class WrapperProber implements Prober {
  readonly #options: WrapperProberOptions
  #rung: Rung | undefined
  /** Whether this server ever answered a `ping`: silence then means trouble, and not a server that ignores it. */
  #isPingProven = false

  constructor(options: WrapperProberOptions) {
    this.#options = options
  }

  isAwaited(): boolean {
    return false
  }

  /** The opening exchange is the client's. */
  openingDeadlineMs(): undefined {
    return undefined
  }

  describe(): ReturnType<Prober['describe']> {
    const { era, protocolVersion } = this.#options.session
    return { probe: this.#method(era ?? 'legacy'), era, protocolVersion }
  }

  start({ deadlineMs }: CheckOptions): Checks {
    const { talker, clock, session, canAsk, idleSinceMs } = this.#options
    const { era, key } = session
    if (era === undefined) return { runs: [], alive: 0 }
    if (session.lastHeardMs > idleSinceMs()) return { runs: [], alive: 1 }
    if (!canAsk()) return { runs: [], alive: 0 }
    const method = this.#method(era)
    if (method === 'process') {
      const reason = 'the process runs'
      const result = { leg: 'session', method, session: key, outcome: 'ok', durationMs: 0, reason } as const
      return { runs: [{ leg: 'session', method, session: key, done: Promise.resolve(result) }], alive: 0 }
    }
    const beat = { talker, clock, era, leg: 'session', session: key, deadlineMs } as const
    const asked = method === 'ping' && !this.#isPingProven ? askUnprovenPing(beat) : ask({ ...beat, method })
    const done = asked.then(({ result, errorCode }) => this.#learn(result, errorCode))
    return { runs: [{ leg: 'session', method, session: key, done }], alive: 0 }
  }

  forget(): void {
    // The connection is the client's: it is never opened again.
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  #method(era: Era): Rung | 'process' {
    const preferred = this.#options.method()
    if (preferred !== 'auto') return preferred === 'transport' ? 'process' : preferred
    return era === 'modern' ? firstRung(era) : (this.#rung ?? firstRung(era))
  }

  #learn(result: ProbeResult, errorCode: number | undefined): ProbeResult {
    const { method, outcome } = result
    if (method === 'ping' && outcome === 'ok' && errorCode === undefined) this.#isPingProven = true
    // `tools/list` was asked only where a `ping` stayed unanswered, or where that is known.
    if ((method === 'ping' && outcome === 'unsupported') || (method === 'tools/list' && isAnswered(outcome))) {
      this.#rung = 'tools/list'
    }
    return result
  }
}
