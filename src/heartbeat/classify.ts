import { type ErrorCode, TooManyRequests, Unreachable, errorCode } from '../errors.ts'

/** Which way a heartbeat looks: our own probe, inside a client's session towards the server, or towards the client. */
export const legs = ['upstream', 'session', 'client'] as const
export type Leg = (typeof legs)[number]

/** Methods of heartbeats for which nothing was asked: a process that runs, or what one says to its client. */
const unaskedMethods = ['process', 'traffic'] as const

/**
 * How long these take says nothing about how fast a server answers: an `initialize` may include its start, and for the
 * others nobody had to answer anything.
 */
export const untimedMethods: readonly string[] = ['initialize', ...unaskedMethods]

export function wasAsked(method: string): boolean {
  return !unaskedMethods.some((unasked) => unasked === method)
}

/** Whether the server itself must answer: that its port takes a connection says nothing of a process that hangs. */
export function isQuestion(method: string): boolean {
  return wasAsked(method) && method !== 'transport'
}

/** What one heartbeat came to. */
export const outcomes = [
  'ok',
  'late',
  'timeout',
  'refused',
  'reset',
  'closed',
  'exited',
  'http_error',
  'invalid',
  'unsupported',
  'unauthorized',
  'session_gone',
  'inconclusive',
] as const
export type Outcome = (typeof outcomes)[number]

/** What an outcome says about the upstream. */
export type Meaning = 'answered' | 'silent' | 'missed' | 'gone' | 'unauthorized' | 'inconclusive'

/**
 * Any JSON-RPC answer is a sign of life, an error included: `unsupported` is a server that answers −32601 to our probe.
 * `gone` needs no second look. A 401 or 403 proves a server, not a service; a 404 for a session and a probe that our own
 * stalled event loop spoiled prove nothing. Silence is a miss like others, but it may be anybody's fault; whoever answers
 * something wrong, or breaks the connection, is at fault itself.
 */
const meanings: Readonly<Record<Outcome, Meaning>> = {
  ok: 'answered',
  late: 'answered',
  unsupported: 'answered',
  timeout: 'silent',
  reset: 'missed',
  closed: 'missed',
  http_error: 'missed',
  invalid: 'missed',
  refused: 'gone',
  exited: 'gone',
  unauthorized: 'unauthorized',
  session_gone: 'inconclusive',
  inconclusive: 'inconclusive',
}

/**
 * The outcome of a probe that ended with a known error. What is our own fault is never blamed on the upstream; an
 * `invalid_message` is, because the only message that a probe reads is the upstream's answer.
 */
const codeOutcomes: Readonly<Record<ErrorCode, Outcome>> = {
  upstream_timeout: 'timeout',
  upstream_refused: 'refused',
  upstream_reset: 'reset',
  upstream_closed: 'closed',
  upstream_exited: 'exited',
  upstream_http_error: 'http_error',
  upstream_invalid: 'invalid',
  upstream_unauthorized: 'unauthorized',
  upstream_session_gone: 'session_gone',
  upstream_restarting: 'inconclusive',
  invalid_message: 'invalid',
  usage: 'inconclusive',
  config_invalid: 'inconclusive',
  listen_failed: 'inconclusive',
  host_not_allowed: 'inconclusive',
  origin_not_allowed: 'inconclusive',
  unauthorized: 'inconclusive',
  body_too_large: 'inconclusive',
  headers_too_large: 'inconclusive',
  malformed_request: 'inconclusive',
  header_mismatch: 'inconclusive',
  unsupported_version: 'inconclusive',
  unknown_path: 'inconclusive',
  unknown_upstream: 'inconclusive',
  method_not_allowed: 'inconclusive',
  session_missing: 'inconclusive',
  session_not_found: 'inconclusive',
  too_many_sessions: 'inconclusive',
  too_many_upstream_sessions: 'inconclusive',
  too_many_client_sessions: 'inconclusive',
  too_many_connections: 'inconclusive',
  queue_full: 'inconclusive',
  circuit_open: 'inconclusive',
  draining: 'inconclusive',
  overloaded: 'inconclusive',
  shutting_down: 'inconclusive',
  cancelled: 'inconclusive',
  internal: 'inconclusive',
}

/** What `outcome` says about the upstream. */
export function meaningOf(outcome: Outcome): Meaning {
  return meanings[outcome]
}

/** Whether the upstream gave any answer, however late or unhelpful. */
export function isAnswered(outcome: Outcome): boolean {
  return meanings[outcome] === 'answered'
}

/** Whether an answer failed to come; one alone makes an upstream suspect, three in a row take it down. */
export function isMiss(outcome: Outcome): boolean {
  return meanings[outcome] === 'missed' || meanings[outcome] === 'silent'
}

/** Whether nobody is there to answer, which takes the upstream down at once. */
export function isGone(outcome: Outcome): boolean {
  return meanings[outcome] === 'gone'
}

/** Whether the connection or the pipe is what failed, of a server that may run all the same. */
export function isUnreached(outcome: Outcome): boolean {
  return outcome === 'refused' || outcome === 'reset' || outcome === 'closed'
}

/** Whether the heartbeat counts as failed in rates and histories. */
export function isFailure(outcome: Outcome): boolean {
  return isMiss(outcome) || isGone(outcome)
}

/**
 * The outcome of a heartbeat that ended with this error. Whoever does not even take the connection in time is silent: it
 * has refused nothing, and packets may be lost on the way. Whoever wants to be asked less often is there, and says nothing
 * of how it serves others.
 */
export function outcomeOf(error: unknown): Outcome {
  if (error instanceof TooManyRequests) return 'inconclusive'
  return error instanceof Unreachable ? 'timeout' : outcomeOfCode(errorCode(error))
}

/** The same by its code alone. */
export function outcomeOfCode(code: ErrorCode): Outcome {
  return codeOutcomes[code]
}
