import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ErrorCode, KnownError, RetryLater, ServerBusy, UnsupportedVersion } from '../errors.ts'
import { Unauthorized } from '../upstreams/reply.ts'
import { type Exchange, holdWholeBytes } from './exchange.ts'

/**
 * Every answer of our own, as HTTP status and JSON-RPC code. Clients detect the era of a server from 4xx bodies, so
 * ours never use −32020…−32099, which the 2026-07-28 revision reserves, and an upstream's failure is a 5xx. The
 * exceptions are those of a bridge: it passes on what is for the client to act on, namely the 401, 403 or 429 of a
 * server, with what it asks for, and the 404 of a session that it forgot; and it refuses in the server's place what a
 * server has to refuse over HTTP and cannot over stdio: headers that contradict the body, and a revision other than
 * those that the server named.
 */
const replies: Readonly<Record<ErrorCode, { readonly status: number; readonly rpcCode: number }>> = {
  host_not_allowed: { status: 403, rpcCode: -32000 },
  origin_not_allowed: { status: 403, rpcCode: -32000 },
  unauthorized: { status: 401, rpcCode: -32000 },
  body_too_large: { status: 413, rpcCode: -32000 },
  headers_too_large: { status: 431, rpcCode: -32000 },
  malformed_request: { status: 400, rpcCode: -32000 },
  invalid_message: { status: 400, rpcCode: -32700 },
  header_mismatch: { status: 400, rpcCode: -32020 },
  unsupported_version: { status: 400, rpcCode: -32022 },
  unknown_path: { status: 404, rpcCode: -32000 },
  unknown_upstream: { status: 404, rpcCode: -32000 },
  method_not_allowed: { status: 405, rpcCode: -32000 },
  session_missing: { status: 400, rpcCode: -32000 },
  session_not_found: { status: 404, rpcCode: -32001 },
  too_many_sessions: { status: 503, rpcCode: -32000 },
  too_many_upstream_sessions: { status: 503, rpcCode: -32000 },
  too_many_client_sessions: { status: 503, rpcCode: -32000 },
  too_many_connections: { status: 503, rpcCode: -32000 },
  queue_full: { status: 503, rpcCode: -32000 },
  circuit_open: { status: 503, rpcCode: -32000 },
  draining: { status: 503, rpcCode: -32000 },
  overloaded: { status: 503, rpcCode: -32000 },
  shutting_down: { status: 503, rpcCode: -32000 },
  cancelled: { status: 499, rpcCode: -32000 },
  upstream_timeout: { status: 504, rpcCode: -32000 },
  upstream_refused: { status: 502, rpcCode: -32000 },
  upstream_reset: { status: 502, rpcCode: -32000 },
  upstream_closed: { status: 502, rpcCode: -32000 },
  upstream_exited: { status: 502, rpcCode: -32000 },
  upstream_restarting: { status: 503, rpcCode: -32000 },
  upstream_http_error: { status: 502, rpcCode: -32000 },
  upstream_invalid: { status: 502, rpcCode: -32000 },
  upstream_unauthorized: { status: 502, rpcCode: -32000 },
  upstream_session_gone: { status: 404, rpcCode: -32001 },
  usage: { status: 500, rpcCode: -32603 },
  config_invalid: { status: 500, rpcCode: -32603 },
  listen_failed: { status: 500, rpcCode: -32603 },
  internal: { status: 500, rpcCode: -32603 },
}

export function statusOf(code: ErrorCode): number {
  return replies[code].status
}

/**
 * The JSON-RPC error that a client gets for a failure of ours or of the upstream. `id` is the raw JSON text of the
 * request's id. `data.reason` is the error's code; a bug of ours says no more than that it is one.
 */
export function errorMessageFor(
  error: unknown,
  id: string | undefined,
  details: Readonly<Record<string, unknown>> = {},
): string {
  const code = error instanceof KnownError ? error.code : 'internal'
  const message = error instanceof KnownError ? `mcp-vitals: ${error.message}` : 'mcp-vitals: internal error'
  const told = error instanceof UnsupportedVersion ? error.data : {}
  const body = { code: replies[code].rpcCode, message, data: { reason: code, ...told, ...details } }
  return `{"jsonrpc":"2.0","id":${id ?? 'null'},"error":${JSON.stringify(body)}}`
}

/** There is no answer to come, or it comes elsewhere. */
export function accepted({ outgoing }: Exchange): void {
  outgoing.writeHead(202, { 'content-length': 0 }).end()
}

export interface ReplyOptions {
  readonly id?: string | undefined
  readonly details?: Readonly<Record<string, unknown>> | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** Answers with an error of ours, or cuts the connection when an answer is under way already. */
export function replyError(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  error: unknown,
  options: ReplyOptions = {},
): void {
  if (outgoing.headersSent) {
    outgoing.destroy()
    return
  }
  const code = error instanceof KnownError ? error.code : 'internal'
  const refusal = error instanceof Unauthorized ? error : undefined
  const busy = error instanceof ServerBusy ? error : undefined
  const status = refusal?.status ?? busy?.status ?? statusOf(code)
  const headers = {
    ...(status === 503 && { 'retry-after': String(error instanceof RetryLater ? error.retryAfterSeconds : 1) }),
    ...(busy?.retryAfter !== undefined && { 'retry-after': busy.retryAfter }),
    ...(code === 'unauthorized' && { 'www-authenticate': 'Bearer realm="mcp-vitals"' }),
    // What the server behind a bridge wants, so that the client can get it.
    ...(refusal?.challenge !== undefined && { 'www-authenticate': refusal.challenge }),
    ...options.headers,
  }
  sendWhole(incoming, outgoing, { status, headers, body: errorMessageFor(error, options.id, options.details) })
}

/** Answers with JSON of our own, whatever is left of the request. */
export function sendWhole(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  answer: {
    readonly status: number
    readonly headers: Readonly<Record<string, string>>
    readonly body: string
  },
): void {
  const body = Buffer.from(answer.body)
  const isLong = !incoming.complete && !isShort(incoming)
  outgoing.writeHead(answer.status, {
    'content-type': 'application/json',
    'content-length': body.length,
    ...(isLong && { connection: 'close' }),
    ...answer.headers,
  })
  if (isLong) linger(incoming, outgoing, body)
  else outgoing.end(body, () => incoming.resume())
}

/** Whether what is left of the request is so little that reading it costs less than a new connection. */
function isShort({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= holdWholeBytes
}

const lingerBytes = 16 * 1024 * 1024
const lingerIdleMs = 5000

/**
 * The answer goes out at once; the connection closes when the rest of the request has been read and dropped, up to a
 * limit. Closing it with unread bytes would reset it, and the client could lose the answer (RFC 9112 §9.6).
 */
function linger(incoming: IncomingMessage, outgoing: ServerResponse, body: Buffer): void {
  const close = () => void (outgoing.writableEnded || outgoing.end())
  let bytes = 0
  outgoing.write(body)
  incoming.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > lingerBytes) close()
  })
  for (const event of ['end', 'close', 'error']) incoming.once(event, close)
  incoming.setTimeout(lingerIdleMs, close)
  incoming.resume()
}
