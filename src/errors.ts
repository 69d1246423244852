/** Every failure that we expect and can name. The code is also the `error.type` attribute of metrics and spans. */
export const errorCodes = [
  'usage',
  'config_invalid',
  'listen_failed',
  'host_not_allowed',
  'origin_not_allowed',
  'unauthorized',
  'body_too_large',
  'headers_too_large',
  'malformed_request',
  'invalid_message',
  'header_mismatch',
  'unsupported_version',
  'unknown_path',
  'unknown_upstream',
  'method_not_allowed',
  'session_missing',
  'session_not_found',
  'too_many_sessions',
  'too_many_upstream_sessions',
  'too_many_client_sessions',
  'too_many_connections',
  'queue_full',
  'circuit_open',
  'draining',
  'overloaded',
  'shutting_down',
  'cancelled',
  'upstream_timeout',
  'upstream_refused',
  'upstream_reset',
  'upstream_closed',
  'upstream_exited',
  'upstream_restarting',
  'upstream_http_error',
  'upstream_invalid',
  'upstream_unauthorized',
  'upstream_session_gone',
  'internal',
] as const

export type ErrorCode = (typeof errorCodes)[number]

/** A failure that was foreseen: its message names the offending value and the rule, in lower case. */
export class KnownError extends Error {
  override readonly name = 'KnownError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** No connection came about in time: nothing was delivered, yet that is silence, where a refusal tells something. */
export class Unreachable extends KnownError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('upstream_refused', message, options)
  }
}

/** A server that was given up on, after it had been silent for so long. */
export class Unanswered extends KnownError {
  readonly silentMs: number

  constructor(message: string, silentMs: number) {
    super('upstream_timeout', message)
    this.silentMs = silentMs
  }
}

/** A request that its client gave up, after the server had given no sign of working on it for so long. */
export class GivenUp extends KnownError {
  readonly silentMs: number

  constructor(message: string, silentMs: number) {
    super('cancelled', message)
    this.silentMs = silentMs
  }
}

/** A refusal that does not last. */
export class RetryLater extends KnownError {
  /** A whole number, as `Retry-After` takes it (RFC 9110 §10.2.3). */
  readonly retryAfterSeconds: number

  constructor(code: ErrorCode, message: string, retryAfterSeconds: number) {
    super(code, message)
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** A server that is there and wants to be left alone for a while: HTTP 429, or 503 with `Retry-After`. */
export class ServerBusy extends KnownError {
  readonly status: 429 | 503
  /** Its `Retry-After` as it came: seconds, or a date (RFC 9110 §10.2.3). */
  readonly retryAfter: string | undefined

  constructor(status: 429 | 503, retryAfter: string | undefined) {
    const wish = status === 429 ? 'wants fewer requests' : 'asks to be tried again later'
    super('upstream_http_error', `HTTP ${status}: the server ${wish}`)
    this.status = status
    this.retryAfter = retryAfter
  }
}

/** One that serves, and wants to be asked less often (HTTP 429). */
export class TooManyRequests extends ServerBusy {
  /** The same, where it is a number of seconds. */
  readonly retryAfterMs: number | undefined

  constructor(retryAfter: string | undefined, retryAfterMs: number | undefined) {
    super(429, retryAfter)
    this.retryAfterMs = retryAfterMs
  }
}

/** A revision of the protocol that the server does not serve. */
export class UnsupportedVersion extends KnownError {
  /** What a client needs to choose another one (MCP 2026-07-28, UnsupportedProtocolVersionError). */
  readonly data: { readonly supported: readonly string[]; readonly requested: string }

  constructor(requested: string, supported: readonly string[]) {
    super('unsupported_version', `the server does not speak revision "${requested}", but ${supported.join(', ')}`)
    this.data = { supported, requested }
  }
}

/** The code of a known error; anything else is a bug and reads as `internal`. */
export function errorCode(error: unknown): ErrorCode {
  return error instanceof KnownError ? error.code : 'internal'
}

/** The message of whatever was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
