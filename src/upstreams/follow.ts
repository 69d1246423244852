import type { Clock, Timer } from '../clock.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { headerNames, headerValue, isEventStream, retryAfterMs } from '../wire/headers.ts'
import { SseMessageReader } from '../wire/sse.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import type { HttpExchange, ResponseHead } from './http.ts'
import type { ResumePoint } from './reply.ts'

export interface FollowOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly path: string
  readonly headers: readonly string[]
  readonly maxBodyBytes: number
  /** Resumes there, after the usual pause; without it a new stream is opened at once. */
  readonly from?: ResumePoint | undefined
  readonly signal: AbortSignal
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
  /** A message was longer than is carried. */
  readonly onTooLong: (bytes: number, envelope: Envelope | undefined) => void
  /** A stream could not be opened or was cut. */
  readonly onBroken?: (() => void) | undefined
  /** The server gives no event stream here; nothing more is tried. */
  readonly onRefused: (status: number) => void
}

/** The pause before a stream is opened again, unless the server names one; it doubles while that fails. */
const usualPauseMs = 1000
const longestPauseMs = 30_000
/** A server that wants us back at once gets a moment. */
const shortestPauseMs = 100

/** Statuses below 500 that pass: a token expired, another stream of ours is not over yet, there were too many requests. */
const passing: ReadonlySet<number> = new Set([401, 403, 408, 409, 425, 429])

/**
 * Reads a server's event stream by GET and opens it again whenever it ends, behind the last event that had an id, so
 * that nothing is missed, and not before the server's `retry` time is over (MCP 2025-11-25, Transports, "Resumability and
 * Redelivery" and "Sending Messages to the Server", 6). Ends by `signal`, or when the server offers no stream.
 */
export function follow(options: FollowOptions): void {
  const { endpoint, clock, path, maxBodyBytes, from, signal, onMessage, onTooLong, onBroken, onRefused } = options
  let lastEventId = from?.lastEventId
  let firstPauseMs = from?.retryMs ?? usualPauseMs
  let failures = 0
  let waitMs = 0
  let exchange: HttpExchange | undefined
  let timer: Timer | undefined
  const again = () => {
    if (signal.aborted) return
    const pauseMs = Math.max(shortestPauseMs, firstPauseMs)
    const longerMs = Math.min(longestPauseMs, pauseMs * 2 ** failures)
    timer = clock.after(Math.max(pauseMs, longerMs, waitMs), open)
    failures += 1
    waitMs = 0
  }
  const start = ({ status, rawHeaders }: ResponseHead) => {
    if (status === 200 && isEventStream(headerValue(rawHeaders, 'content-type'))) failures = 0
    else if (status >= 500 || passing.has(status)) waitMs = retryAfterMs(rawHeaders) ?? 0
    else {
      exchange?.abort()
      onRefused(status)
    }
  }
  const open = () => {
    const reader = new SseMessageReader({
      maxBytes: maxBodyBytes,
      onId: (id) => void (lastEventId = id || lastEventId),
      onRetry: (retryMs) => void (firstPauseMs = retryMs),
      onMessage: ({ type, data }) => {
        if (type !== 'message') return
        const envelope = readEnvelope(data)
        if (envelope && !signal.aborted) onMessage(data, envelope)
      },
      onTooLarge: ({ type, bytes, envelope }) => {
        if (type === 'message' && !signal.aborted) onTooLong(bytes, envelope)
      },
    })
    const resume = lastEventId === undefined ? [] : [headerNames.lastEventId, lastEventId]
    const headers = ownHeaders(endpoint, ['accept', 'text/event-stream', ...options.headers, ...resume])
    exchange = endpoint.send(
      { method: 'GET', path, headers, body: null },
      {
        onStart: start,
        onData: (chunk) => reader.push(chunk),
        onEnd: again,
        onError: () => {
          onBroken?.()
          again()
        },
      },
    )
  }
  const stop = () => {
    timer?.cancel()
    exchange?.abort()
  }
  signal.addEventListener('abort', stop, { once: true })
  if (from === undefined) open()
  else again()
}
