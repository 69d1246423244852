import { createHash } from 'node:crypto'
import type { Answer, RequestOptions } from '../upstreams/peer.ts'
import type { Transport } from '../upstreams/upstream.ts'
import type { SessionHealth } from './health.ts'
import type { Questions } from './questions.ts'

/** Why a session ended; what the client or server did, never what an operation did. */
export const sessionEnds = [
  'deleted',
  'unknown',
  'expired',
  'too_old',
  'stream_closed',
  'exited',
  'replaced',
  'refused',
  'removed',
  'shutdown',
] as const
export type SessionEnd = (typeof sessionEnds)[number]

/** Who opened a session: for people and logs, never for labels. */
export interface SessionClient {
  readonly ip: string
  readonly userAgent: string
  readonly name?: string | undefined
}

/** One end of a session, as requests of our own reach it; what it answers them is seen by nobody else. */
export interface SessionPeer {
  /** Whether something could be asked now. */
  canAsk(): boolean
  /** Rejects with a `KnownError`. */
  request(request: RequestOptions): Promise<Answer>
}

/**
 * What we know of one client session: an `Mcp-Session-Id`, an HTTP+SSE stream, or a bridged process. `transport` is the
 * client's. Times are monotonic milliseconds unless they say wall.
 */
export interface Session {
  /** The first 8 hex digits of a hash: fit for logs and `/debug`, useless to a thief. */
  readonly key: string
  readonly id: string
  readonly upstream: string
  readonly transport: Transport
  readonly client: SessionClient
  readonly startedAtMs: number
  readonly startedAtWallMs: number
  protocolVersion: string | undefined
  lastActiveMs: number
  /** Requests that wait for their answer. */
  pending: number
  /** Streams that the client holds open; a session with one never expires. */
  openStreams: number
  messages: number
  readonly questions: Questions
  health: SessionHealth
  /** Where our own `ping` may go inside this session; absent where it may not, and once the session has ended. */
  serverPeer: SessionPeer | undefined
  clientPeer: SessionPeer | undefined
  /** What ends together with it: streams that are forwarded. */
  readonly endings: Set<(end: SessionEnd) => void>
}

/** Who waits inside a session: its client for an answer, its server for one to a question of its own, both, or nobody. */
export type Waiting = 'nobody' | 'client' | 'server' | 'both'

export function waitingIn({ pending, questions }: Pick<Session, 'pending' | 'questions'>): Waiting {
  if (questions.isOpen) return pending > 0 ? 'both' : 'server'
  return pending > 0 ? 'client' : 'nobody'
}

export function sessionKey(id: string): string {
  return createHash('sha256').update(id).digest('hex').slice(0, 8)
}

export function isExpired(session: Session, nowMs: number, idleLimitMs: number): boolean {
  return session.openStreams === 0 && session.pending === 0 && nowMs - session.lastActiveMs >= idleLimitMs
}
