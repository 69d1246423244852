import type { Clock } from '../clock.ts'
import type { HeartbeatConfig } from '../config/config.ts'
import { wasAsked } from '../heartbeat/classify.ts'
import type { HeartbeatReport } from '../heartbeat/contract.ts'
import type { Heartbeat } from '../heartbeat/loop.ts'
import type { ProbeResult, Prober } from '../heartbeat/probe.ts'
import type { Scheduler } from '../heartbeat/scheduler.ts'
import { SessionBeats, type SessionLeg, pingMeaning } from '../heartbeat/session-beats.ts'
import { isUp } from '../heartbeat/verdict.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import { observePing } from '../sessions/health.ts'
import type { Session } from '../sessions/session.ts'

export interface SessionHeartbeatsOptions {
  readonly upstream: string
  readonly clock: Clock
  readonly scheduler: Scheduler
  readonly directory: SessionDirectory
  readonly config: () => HeartbeatConfig
  readonly heartbeat: Heartbeat
  readonly prober: Prober
  /** The server does not know this session any more. */
  readonly onGone: (session: Session) => void
  /** A heartbeat towards a client, which says nothing about the upstream. */
  readonly onClientBeat: (report: HeartbeatReport, session: Session) => void
}

/** The heartbeats inside the sessions of one upstream, and what follows from them for it. */
export function sessionHeartbeats(options: SessionHeartbeatsOptions): SessionBeats {
  const { upstream, clock, scheduler, directory, config, heartbeat, prober, onGone, onClientBeat } = options
  return new SessionBeats({
    upstream,
    clock,
    scheduler,
    sessions: () => directory.of(upstream),
    idleMs: (leg) => (leg === 'session' ? config().sessionPingMs : config().clientPingMs),
    isAllowed: (leg) => isAllowed(leg, heartbeat, prober),
    serverMethod: () => (prober.describe().probe === 'tools/list' ? 'tools/list' : 'ping'),
    lastHeardMs: () => heartbeat.lastAnswerMs(),
    usualMs: (leg) => (leg === 'session' ? heartbeat.usualMs() : undefined),
    // Looked up at each: a reload may change it.
    get timeoutMs() {
      return config().maxTimeoutMs
    },
    onBeat: ({ session, result, startedAtWallMs, timeoutMs, intervalMs, nextInMs }) => {
      const report = { result, startedAtWallMs, timeoutMs, pace: { intervalMs, nextInMs } }
      if (result.leg === 'session') heartbeat.heardInSession(report)
      else onClientBeat(report, session)
    },
    onGone,
    onHung: (hung, others) => {
      const reason =
        hung.length === 0
          ? 'no session hangs any more'
          : `${hung.length} of ${hung.length + others} sessions do not answer: ${namesOf(hung)}`
      heartbeat.sessionsHung(hung.length, others, reason)
    },
  })
}

/** What a server is asked by us, and what is safe inside a client's session too. */
const askedInSessions: ReadonlySet<string> = new Set(['ping', 'tools/list'])

/**
 * A server is asked inside sessions only while it is asked for heartbeats of its own, and with the same: what ails it as
 * a whole is found there, and one that must not be asked, or answers no request, is left alone.
 */
function isAllowed(leg: SessionLeg, heartbeat: Heartbeat, prober: Prober): boolean {
  const { verdict, probe, pausedUntilWallMs } = heartbeat.glance()
  if (pausedUntilWallMs !== undefined || probe === 'off') return false
  if (leg === 'client') return true
  // While it works for somebody, nobody else is answered.
  const isAskable = verdict.state !== 'busy' && isUp(verdict.state) === true
  return probe === 'active' && isAskable && askedInSessions.has(prober.describe().probe)
}

const namesShown = 5

function namesOf(sessions: readonly Session[]): string {
  const names = sessions.slice(0, namesShown).map(({ key }) => key)
  return sessions.length > namesShown ? `${names.join(', ')}, …` : names.join(', ')
}

/** What a heartbeat in a process that belongs to one session says about that session. */
export function observeInSession(session: Session, result: ProbeResult, nowMs: number): void {
  const roundTripMs = wasAsked(result.method) ? result.durationMs : undefined
  const ping = { meaning: pingMeaning(result.outcome), atMs: nowMs, roundTripMs }
  session.health = { ...session.health, session: observePing(session.health.session, ping) }
}
