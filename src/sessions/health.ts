import { defaults } from '../defaults.ts'

/** What a session looks like from its heartbeats; `unasked` is one of which none has said anything yet. */
export const sessionStates = ['unasked', 'healthy', 'suspect', 'hung'] as const
export type SessionState = (typeof sessionStates)[number]

/** What the heartbeats inside one session came to, towards one of its ends. Times are monotonic milliseconds. */
export interface LegHealth {
  readonly heartbeats: number
  /** In a row. */
  readonly misses: number
  /** When the first of them was asked. */
  readonly silentSinceMs: number | undefined
  readonly lastMs: number
  /** Whether this end was ever known to live. */
  readonly isProven: boolean
  /** Of the last answer. */
  readonly roundTripMs: number | undefined
  /** The credentials that we asked with are not good any more: only the client can bring others. */
  readonly isRefused: boolean
}

/** Towards the server, and towards the client. */
export interface SessionHealth {
  readonly session: LegHealth
  readonly client: LegHealth
}

const unasked: LegHealth = {
  heartbeats: 0,
  misses: 0,
  silentSinceMs: undefined,
  lastMs: Number.NEGATIVE_INFINITY,
  isProven: false,
  roundTripMs: undefined,
  isRefused: false,
}

export const newHealth: SessionHealth = { session: unasked, client: unasked }

/**
 * One heartbeat inside a session; `nothing` is one that proves neither life nor death, and with `forgotten` the session
 * that was asked is over, be there another one in its place or not.
 */
export interface SessionPing {
  readonly meaning: 'answered' | 'missed' | 'refused' | 'nothing' | 'forgotten'
  readonly atMs: number
  /** Undefined where nothing was asked. */
  readonly roundTripMs: number | undefined
}

export function observePing(before: LegHealth, { meaning, atMs, roundTripMs }: SessionPing): LegHealth {
  const after = { ...before, heartbeats: before.heartbeats + 1, lastMs: atMs, isRefused: meaning === 'refused' }
  switch (meaning) {
    case 'answered':
      return {
        ...after,
        misses: 0,
        silentSinceMs: undefined,
        isProven: true,
        roundTripMs: roundTripMs ?? before.roundTripMs,
      }
    case 'missed':
      return { ...after, misses: before.misses + 1, silentSinceMs: before.silentSinceMs ?? atMs - (roundTripMs ?? 0) }
    case 'forgotten':
      return { ...unasked, heartbeats: after.heartbeats, lastMs: atMs }
    case 'refused':
    case 'nothing':
      return after
  }
}

/** Real traffic proved that this end lives. */
export function observeTraffic(before: LegHealth): LegHealth {
  return before.misses === 0 ? before : { ...before, misses: 0, silentSinceMs: undefined, isProven: true }
}

export function stateOf({ misses, isProven }: LegHealth): SessionState {
  if (misses === 0) return isProven ? 'healthy' : 'unasked'
  return misses < defaults.heartbeat.missesToDown ? 'suspect' : 'hung'
}

/** The worse of both ends. */
export function worstOf({ session, client }: SessionHealth): SessionState {
  const states = [stateOf(session), stateOf(client)]
  return sessionStates.findLast((state) => states.includes(state)) ?? 'unasked'
}

/**
 * When a session may be asked next: after it was idle for `idleMs`, and after a miss sooner, so that it does not take
 * minutes until it is known whether that was a blip. `Infinity` waits for the client.
 */
export function nextPingMs(health: LegHealth, lastActiveMs: number, idleMs: number): number {
  const { lastMs, misses, isRefused } = health
  if (isRefused && lastActiveMs <= lastMs) return Number.POSITIVE_INFINITY
  const waitMs = misses === 0 ? idleMs : Math.min(idleMs, defaults.heartbeat.sessionRetryMs)
  return Math.max(lastActiveMs, lastMs) + waitMs
}
