import type { Clock, Timer } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { type LegHealth, type SessionPing, nextPingMs, observePing, stateOf } from '../sessions/health.ts'
import type { Session, SessionPeer } from '../sessions/session.ts'
import { type Leg, type Outcome, isAnswered, meaningOf } from './classify.ts'
import { type ProbeResult, type Rung, ask } from './probe.ts'
import type { Scheduler } from './scheduler.ts'
import { answerMs, followStalls } from './stall.ts'

/** Which end of a session is asked: its server or its client. */
export type SessionLeg = Exclude<Leg, 'upstream'>

/** One heartbeat inside a session, once it is over. */
export interface SessionBeat {
  readonly session: Session
  readonly result: ProbeResult
  readonly startedAtWallMs: number
  readonly timeoutMs: number
  /** How long a session is idle between two of them. */
  readonly intervalMs: number
  /** When this session is due again if it stays idle. */
  readonly nextInMs: number
}

export interface SessionBeatsOptions {
  readonly upstream: string
  readonly clock: Clock
  readonly scheduler: Scheduler
  /** Those with this upstream. */
  readonly sessions: () => Iterable<Session>
  /** How long a session has to be idle before this end of it is asked; `Infinity` asks none. */
  readonly idleMs: (leg: SessionLeg) => number
  /** Whether anybody is asked on this leg now. */
  readonly isAllowed: (leg: SessionLeg) => boolean
  /** What the server is asked, as far as it is; a client gets a `ping`. */
  readonly serverMethod: () => Rung
  /** When this server last answered somebody else, monotonic. */
  readonly lastHeardMs: () => number
  /** What this end takes to answer elsewhere, as far as that is known. */
  readonly usualMs: (leg: SessionLeg) => number | undefined
  /** How long an answer is waited for. */
  readonly timeoutMs: number
  readonly onBeat: (beat: SessionBeat) => void
  /** Its server does not know it any more. */
  readonly onGone: (session: Session) => void
  /** Which sessions hang, and how many were asked that do not; told when that changes. */
  readonly onHung: (hung: readonly Session[], others: number) => void
}

interface Due {
  readonly session: Session
  readonly leg: SessionLeg
  readonly atMs: number
}

const legs: readonly SessionLeg[] = ['session', 'client']

/** However long the intervals are: sessions that were not there before are seen within this time. */
const longestLookMs = 10_000
const shortestLookMs = 1000

/**
 * Asks the two ends of idle sessions whether they live, one after the other within one upstream: a hundred sessions
 * that hang then take one place of the common budget, and other upstreams notice nothing.
 */
export class SessionBeats {
  readonly #options: SessionBeatsOptions
  readonly #key: string
  #timer: Timer | undefined
  #isStopped = false
  #isAsking = false
  /** Whether some session hung when it was last told. */
  #isHung = false

  constructor(options: SessionBeatsOptions) {
    this.#options = options
    this.#key = `${options.upstream} sessions`
  }

  /** Looks who is due; also whenever an interval may have become shorter. */
  start(): void {
    if (this.#isStopped || this.#isAsking) return
    const { clock, scheduler } = this.#options
    this.#timer?.cancel()
    this.#timer = undefined
    const lookMs = Math.min(...legs.map((leg) => this.#options.idleMs(leg)))
    if (lookMs === Number.POSITIVE_INFINITY) return
    const nowMs = clock.now()
    const next = this.#nextDue()
    if (next && next.atMs <= nowMs) return scheduler.schedule(this.#key, nowMs, () => this.#ask(next))
    const soonMs = Math.min(lookMs, longestLookMs, next ? next.atMs - nowMs : longestLookMs)
    this.#timer = clock.after(Math.max(shortestLookMs, soonMs), () => this.start())
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
    this.#options.scheduler.cancel(this.#key)
  }

  /** A session ended, and with it what was known of it. */
  sessionEnded(): void {
    if (this.#isHung) this.#tellHung()
  }

  #nextDue(): Due | undefined {
    let next: Due | undefined
    const sessions = [...this.#options.sessions()]
    if (sessions.length === 0) return undefined
    for (const leg of legs) {
      if (!this.#options.isAllowed(leg)) continue
      for (const session of sessions) {
        const atMs = this.#dueMs(session, leg)
        if (atMs < (next?.atMs ?? Number.POSITIVE_INFINITY)) next = { session, leg, atMs }
      }
    }
    return next
  }

  /** `Infinity` while it may not be asked at all, such as when its server works for it. */
  #dueMs(session: Session, leg: SessionLeg): number {
    const peer = peerOf(session, leg)
    if (!peer?.canAsk() || session.pending > 0) return Number.POSITIVE_INFINITY
    return nextPingMs(session.health[leg], session.lastActiveMs, this.#options.idleMs(leg))
  }

  async #ask({ session, leg }: Due): Promise<void> {
    const { clock } = this.#options
    const peer = peerOf(session, leg)
    this.#isAsking = true
    try {
      // The budget may have kept it waiting, and much may have happened meanwhile.
      const isDue = this.#options.isAllowed(leg) && this.#dueMs(session, leg) <= clock.now()
      if (peer && isDue) await this.#beat(session, leg, peer)
    } finally {
      this.#isAsking = false
      this.start()
    }
  }

  async #beat(session: Session, leg: SessionLeg, talker: SessionPeer): Promise<void> {
    const { clock, timeoutMs, serverMethod, usualMs, onBeat, onGone } = this.#options
    const startedAtWallMs = clock.wallTime()
    const stalls = followStalls(clock, timeoutMs)
    const asked = await ask({
      talker,
      clock,
      era: 'legacy',
      method: leg === 'session' ? serverMethod() : 'ping',
      leg,
      session: session.key,
      deadlineMs: timeoutMs,
    })
    const before = session.health[leg]
    const result = excused(asked.result, {
      stalledMs: stalls.end(),
      usualMs: before.roundTripMs ?? usualMs(leg),
      timeoutMs,
    })
    // It ended meanwhile, so whatever came proves nothing.
    if (this.#isStopped || !peerOf(session, leg)) return
    const meaning = leg === 'session' && this.#isServerSilent(before, result) ? 'nothing' : pingMeaning(result.outcome)
    const ping = { meaning, atMs: clock.now(), roundTripMs: result.durationMs }
    session.health = { ...session.health, [leg]: observePing(before, ping) }
    const intervalMs = this.#options.idleMs(leg)
    const nextMs = nextPingMs(session.health[leg], session.lastActiveMs, intervalMs)
    const nextInMs = Math.max(0, Math.min(nextMs - clock.now(), intervalMs))
    onBeat({ session, result, startedAtWallMs, timeoutMs, intervalMs, nextInMs })
    if (leg === 'session' && result.outcome === 'session_gone') onGone(session)
    if (leg === 'session') this.#tellHung()
  }

  /**
   * The last of the misses that make a session hung counts only if its server answered somebody else meanwhile: else the
   * server is silent as a whole, or at work, which its own heartbeat tells.
   */
  #isServerSilent({ misses, silentSinceMs }: LegHealth, { outcome, durationMs }: ProbeResult): boolean {
    if (pingMeaning(outcome) !== 'missed' || misses + 1 < defaults.heartbeat.missesToDown) return false
    return this.#options.lastHeardMs() < (silentSinceMs ?? this.#options.clock.now() - durationMs)
  }

  /** Told after each heartbeat while some hang: an outage of the whole server makes its verdict forget them. */
  #tellHung(): void {
    const asked = [...this.#options.sessions()].filter(({ serverPeer }) => serverPeer !== undefined)
    const hung = asked.filter(({ health }) => stateOf(health.session) === 'hung')
    if (hung.length === 0 && !this.#isHung) return
    this.#isHung = hung.length > 0
    this.#options.onHung(hung, asked.length - hung.length)
  }
}

function peerOf({ serverPeer, clientPeer }: Session, leg: SessionLeg): SessionPeer | undefined {
  return leg === 'session' ? serverPeer : clientPeer
}

interface Timing {
  /** How long our own event loop stood still meanwhile. */
  readonly stalledMs: number
  readonly usualMs: number | undefined
  readonly timeoutMs: number
}

/** What our own stalled event loop has made longer says nothing about the other side (Lifeguard, §III-A). */
function excused(result: ProbeResult, { stalledMs, usualMs, timeoutMs }: Timing): ProbeResult {
  if (isAnswered(result.outcome)) return { ...result, durationMs: answerMs(result.durationMs, stalledMs, usualMs) }
  if (result.outcome !== 'timeout' || stalledMs <= timeoutMs * defaults.heartbeat.stallRatio) return result
  return { ...result, outcome: 'inconclusive', reason: 'our own event loop stood still' }
}

/** What the outcome of a heartbeat says about the end that was asked. */
export function pingMeaning(outcome: Outcome): SessionPing['meaning'] {
  if (outcome === 'session_gone') return 'forgotten'
  switch (meaningOf(outcome)) {
    case 'answered':
      return 'answered'
    case 'silent':
    case 'missed':
    case 'gone':
      return 'missed'
    case 'unauthorized':
      return 'refused'
    case 'inconclusive':
      return 'nothing'
  }
}
