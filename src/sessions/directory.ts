import type { Clock, Timer } from '../clock.ts'
import type { Transport } from '../upstreams/upstream.ts'
import { newHealth, observeTraffic } from './health.ts'
import { type LifeLimits, fateOf } from './limits.ts'
import { Questions } from './questions.ts'
import { type Session, type SessionClient, type SessionEnd, isExpired, sessionKey } from './session.ts'

export interface DirectoryOptions {
  readonly clock: Clock
  /** How many we keep track of; beyond it sessions still work, unseen. Bridged ones have limits of their own. */
  readonly maxTracked: number
  /** How often sessions are looked for that were idle for too long and of which we hold nothing but the record. */
  readonly cleanupIntervalMs: () => number
  /** How long a session of this upstream may be idle. */
  readonly idleLimitMs: (upstream: string) => number
  /** How long a bridged session of this upstream may last at all; without it for ever. */
  readonly maxAgeMs?: (upstream: string) => number
  /** A session is one too many to be kept track of, or what a server asked is one question too many. */
  readonly onForgotten?: (what: 'session' | 'question') => void
  /** A session of this upstream began. */
  readonly onStart: (upstream: string) => void
  readonly onEnd: (session: Session, end: SessionEnd, durationMs: number) => void
}

export interface NewSession {
  readonly id: string
  readonly upstream: string
  readonly transport: Transport
  readonly client: SessionClient
  readonly protocolVersion?: string | undefined
  /** Where somebody follows what its server asks its client. */
  readonly questions?: Questions
  /** It holds a process or connection of ours, and ends at the very moment when its time is over. */
  readonly isBridged?: boolean
}

/** All client sessions, found by upstream and id; they end when the client says so, or when their time is over. */
export class SessionDirectory {
  readonly #options: DirectoryOptions
  readonly #sessions = new Map<string, Session>()
  /** When to look at each bridged session again. */
  readonly #looks = new Map<Session, Timer>()
  #timer: Timer | undefined

  constructor(options: DirectoryOptions) {
    this.#options = options
  }

  /** Begins to expire idle sessions. */
  start(): void {
    this.#timer?.cancel()
    this.#timer = this.#options.clock.after(this.#options.cleanupIntervalMs(), () => {
      this.expire()
      this.start()
    })
  }

  /** Its intervals and limits may be others from now on. */
  follow(): void {
    if (this.#timer) this.start()
    for (const session of this.#looks.keys()) this.#lookAgain(session)
  }

  /** The session of this id, new or known; undefined when so many are tracked already that this one is not. */
  add(opened: NewSession): Session | undefined {
    const { id, upstream, transport, client, protocolVersion, isBridged = false } = opened
    const known = this.get(upstream, id)
    if (known) return known
    const { clock, maxTracked } = this.#options
    if (!isBridged && this.#sessions.size >= maxTracked) this.expire()
    if (!isBridged && this.#sessions.size >= maxTracked) {
      this.#options.onForgotten?.('session')
      return undefined
    }
    const session: Session = {
      key: sessionKey(id),
      id,
      upstream,
      transport,
      client,
      protocolVersion,
      startedAtMs: clock.now(),
      startedAtWallMs: clock.wallTime(),
      lastActiveMs: clock.now(),
      pending: 0,
      openStreams: 0,
      questions: opened.questions ?? new Questions(() => this.#options.onForgotten?.('question')),
      messages: 0,
      health: newHealth,
      serverPeer: undefined,
      clientPeer: undefined,
      endings: new Set(),
    }
    this.#sessions.set(keyOf(upstream, id), session)
    if (isBridged) this.#lookAgain(session)
    this.#options.onStart(upstream)
    return session
  }

  get(upstream: string, id: string): Session | undefined {
    return this.#sessions.get(keyOf(upstream, id))
  }

  touch(session: Session): void {
    session.lastActiveMs = this.#options.clock.now()
  }

  /** Its server answered a request of its client: as good as a heartbeat. */
  answered(session: Session): void {
    const before = session.health.session
    const after = observeTraffic(before)
    if (after !== before) session.health = { ...session.health, session: after }
  }

  /** Its streams end with it; nothing of ours may go into it any more, and nothing is kept with which it could. */
  end(session: Session, end: SessionEnd): void {
    if (!this.#sessions.delete(keyOf(session.upstream, session.id))) return
    session.serverPeer = undefined
    session.clientPeer = undefined
    this.#looks.get(session)?.cancel()
    this.#looks.delete(session)
    for (const ends of session.endings) ends(end)
    this.#options.onEnd(session, end, this.#options.clock.now() - session.startedAtMs)
  }

  /** Ends every session of an upstream: the server that knew them is gone. */
  endAll(upstream: string, end: SessionEnd): void {
    for (const session of this.#sessions.values()) if (session.upstream === upstream) this.end(session, end)
  }

  /** Whether it may still finish what is under way, but begin nothing. */
  isTooOld({ upstream, startedAtMs }: Session): boolean {
    return this.#options.clock.now() - startedAtMs >= this.#limitsOf(upstream).maxAgeMs
  }

  #lookAgain(session: Session): void {
    const { clock } = this.#options
    this.#looks.get(session)?.cancel()
    const fate = fateOf(session, this.#limitsOf(session.upstream), clock.now())
    if (fate.kind === 'ends') return this.end(session, fate.end)
    this.#looks.set(
      session,
      clock.after(fate.lookAgainInMs, () => this.#lookAgain(session)),
    )
  }

  #limitsOf(upstream: string): LifeLimits {
    const { idleLimitMs, maxAgeMs } = this.#options
    return { idleMs: idleLimitMs(upstream), maxAgeMs: maxAgeMs?.(upstream) ?? Infinity }
  }

  expire(): void {
    const { clock, idleLimitMs } = this.#options
    for (const session of this.#sessions.values()) {
      if (isExpired(session, clock.now(), idleLimitMs(session.upstream))) this.end(session, 'expired')
    }
  }

  all(): IterableIterator<Session> {
    return this.#sessions.values()
  }

  /** The one that logs and heartbeats name by this hash. */
  withKey(upstream: string, key: string): Session | undefined {
    for (const session of this.of(upstream)) if (session.key === key) return session
    return undefined
  }

  /** Those of one upstream. */
  *of(upstream: string): Generator<Session> {
    for (const session of this.#sessions.values()) if (session.upstream === upstream) yield session
  }

  stop(): void {
    this.#timer?.cancel()
    for (const session of this.#sessions.values()) this.end(session, 'shutdown')
  }
}

/** Ids are the server's, so two upstreams may use the same one. */
function keyOf(upstream: string, id: string): string {
  return `${upstream} ${id}`
}
