import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { type Session, type SessionClient, type SessionEnd, isExpired } from './session.ts'

/** How many sessions that hold a process or connection of ours may be open at the same time. */
export interface SessionLimits {
  readonly total: number
  /** For one address of a client. */
  readonly perClient: number
  readonly perUpstream: (upstream: string) => number
  /** All who may want some of them. */
  readonly upstreams: readonly string[]
}

/** Whose session it is, and with whom. */
export interface SessionParties {
  readonly upstream: string
  readonly client: Pick<SessionClient, 'ip'>
}

/**
 * How many of the places that are left are not for one more session with this server. A quarter of all is kept for
 * servers that have fewer than their equal share of that quarter, as far as those lack it: so the sessions with one
 * server, or with many, leave the others some.
 */
export function keptForOthers(
  upstream: string,
  open: readonly Pick<SessionParties, 'upstream'>[],
  { total, perUpstream, upstreams }: Pick<SessionLimits, 'total' | 'perUpstream' | 'upstreams'>,
): number {
  const kept = Math.floor(total * defaults.keptSessionsRatio)
  const share = Math.max(1, Math.floor(kept / upstreams.length))
  const held = Map.groupBy(open, (one) => one.upstream)
  const lacking = (name: string) => Math.max(0, Math.min(share, perUpstream(name)) - (held.get(name)?.length ?? 0))
  if (lacking(upstream) > 0) return 0
  return Math.min(
    kept,
    upstreams.reduce((sum, name) => sum + lacking(name), 0),
  )
}

/**
 * Why one more session must not be opened; undefined if it may. Of several limits that it would cross the widest is
 * told: raising a narrower one would not help.
 */
export function refusalOf(
  { upstream, client }: SessionParties,
  open: readonly SessionParties[],
  limits: SessionLimits,
): KnownError | undefined {
  const { total, perUpstream, perClient } = limits
  if (open.length >= total) {
    return new KnownError('too_many_sessions', `${total} sessions are open, which is max_sessions`)
  }
  if (total - open.length <= keptForOthers(upstream, open, limits)) {
    const message = `${open.length} sessions are open, and what max_sessions (${total}) leaves is kept for servers with fewer than ${upstream} has`
    return new KnownError('too_many_sessions', message)
  }
  const most = perUpstream(upstream)
  if (open.filter((one) => one.upstream === upstream).length >= most) {
    const message = `${most} sessions with ${upstream} are open, which is its max_sessions`
    return new KnownError('too_many_upstream_sessions', message)
  }
  if (open.filter((one) => one.client.ip === client.ip).length >= perClient) {
    const message = `${perClient} sessions of clients at ${client.ip} are open, which is max_sessions_per_client`
    return new KnownError('too_many_client_sessions', message)
  }
  return undefined
}

/** How long a session may last. */
export interface LifeLimits {
  /** Without traffic, an open stream or a request under way. */
  readonly idleMs: number
  /** At all; `Infinity` is for ever. */
  readonly maxAgeMs: number
}

/** What becomes of a session now. */
export type Fate =
  { readonly kind: 'ends'; readonly end: SessionEnd } | { readonly kind: 'lives'; readonly lookAgainInMs: number }

/** How often we look whether the last requests of a session that is too old are over. */
const lastRequestsLookMs = 1000

/**
 * A session ends when it was idle for too long, or when it is too old and none of its requests is under way any more.
 * Before the moment to look again, nothing that happens can make it end.
 */
export function fateOf(session: Session, { idleMs, maxAgeMs }: LifeLimits, nowMs: number): Fate {
  if (isExpired(session, nowMs, idleMs)) return { kind: 'ends', end: 'expired' }
  const youthLeftMs = session.startedAtMs + maxAgeMs - nowMs
  if (youthLeftMs <= 0) {
    return session.pending === 0
      ? { kind: 'ends', end: 'too_old' }
      : { kind: 'lives', lookAgainInMs: lastRequestsLookMs }
  }
  const isBusy = session.openStreams > 0 || session.pending > 0
  const idleLeftMs = isBusy ? idleMs : session.lastActiveMs + idleMs - nowMs
  return { kind: 'lives', lookAgainInMs: Math.min(youthLeftMs, idleLeftMs) }
}
