import type { Clock } from '../clock.ts'
import type { Era } from '../wire/era.ts'
import type { Waiting } from '../sessions/session.ts'
import type { Talker } from './conversation.ts'
import { Ladder } from './ladder.ts'
import {
  type CheckOptions,
  type Checks,
  type ProbeMethod,
  type Prober,
  type ProbeResult,
  ask,
  fixedRung,
} from './probe.ts'
import { type Look, type LookedAt, processRuns, saysSomething, wayTo } from './unasked.ts'

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
    /** Undefined while it is not known whether the server offers any. */
    readonly hasTools: boolean | undefined
    waiting(): Waiting
  }
  readonly process: LookedAt
  /** Whether something could be asked now. */
  readonly canAsk: () => boolean
  /** Only a server that said nothing since is asked. */
  readonly idleSinceMs: () => number
  /** For how long a question that its client leaves unanswered excuses its silence while nobody waits for it. */
  readonly excusedMs: number
  /** What to ask; looked up each time. */
  readonly method: () => ProbeMethod
}

/**
 * Heartbeats of a server that its client started itself and shares with nobody: inside that conversation, once its
 * opening exchange is over, and only while it is idle.
 */
export class WrapperProber implements Prober {
  readonly #options: WrapperProberOptions
  readonly #ladder = new Ladder('process')

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
    const { clock, session, canAsk, idleSinceMs, excusedMs } = this.#options
    const { era = 'legacy', key, lastHeardMs } = session
    const way = wayTo({
      hasSpoken: lastHeardMs > Number.NEGATIVE_INFINITY,
      isIdle: lastHeardMs <= idleSinceMs(),
      isOpened: session.era !== undefined,
      canAsk: canAsk(),
      waiting: session.waiting(),
      isOverdue: clock.now() - lastHeardMs >= excusedMs,
    })
    const run = (method: string, done: Promise<ProbeResult>): Checks => {
      return { runs: [{ leg: 'session', method, session: key, done }], alive: 0 }
    }
    switch (way.kind) {
      case 'heard':
        return { runs: [], alive: 1, aliveSinceMs: lastHeardMs }
      case 'ask':
        return run(this.#method(era), this.#ask(era, deadlineMs))
      case 'listen':
        return run('traffic', this.#listen(deadlineMs))
      case 'look':
        return run('process', this.#look(deadlineMs, way.proves))
    }
  }

  /** Nothing of ours goes in while the client waits. */
  #listen(deadlineMs: number): Promise<ProbeResult> {
    const { clock, session } = this.#options
    return saysSomething(
      { clock, leg: 'session', session: session.key, deadlineMs },
      { lastHeardMs: () => session.lastHeardMs, isAwaited: () => session.waiting() === 'client' },
    )
  }

  #look(deadlineMs: number, proves?: Look): Promise<ProbeResult> {
    const { clock, session, process } = this.#options
    return processRuns({ clock, leg: 'session', session: session.key, deadlineMs }, process, proves)
  }

  async #ask(era: Era, deadlineMs: number): Promise<ProbeResult> {
    const { talker, clock, session, method } = this.#options
    const { key, hasTools } = session
    const look = (leftMs: number) => this.#look(leftMs)
    if (method() === 'transport') return look(deadlineMs)
    const beat = { talker, clock, era, leg: 'session', session: key, deadlineMs } as const
    const fixed = fixedRung(method(), era)
    const { result } = fixed
      ? await ask({ ...beat, method: fixed })
      : await this.#ladder.ask({ ...beat, liveness: hasTools === true ? undefined : look })
    return result
  }

  forget(): void {
    // The connection is the client's: it is never opened again.
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  #method(era: Era): string {
    const preferred = this.#options.method()
    if (preferred === 'transport') return 'process'
    return fixedRung(preferred, era) ?? this.#ladder.rung(this.#options.session)
  }
}
