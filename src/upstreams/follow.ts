import type { Clock, Timer } from '../clock.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { headerNames, headerValue, isEventStream } from '../wire/headers.ts'
import { SseMessageReader } from '../wire/sse.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import type { HttpExchange } from './http.ts'

export interface FollowOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly path: string
  readonly headers: readonly string[]
  readonly maxBodyBytes: number
  /** Resumes behind this event, after the usual pause; without it a new stream is opened at once. */
  readonly lastEventId?: string | undefined
  readonly signal: AbortSignal
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
  /** A stream could not be opened or was cut. */
  readonly onBroken?: (() => void) | undefined
  /** The server gives no event stream here; nothing more is tried. */
  readonly onRefused: (status: number) => void
}

/** The pause before a stream is opened again; it doubles while the server cannot be reached. */
const firstPauseMs = 1000
const longestPauseMs = 30_000

/**
 * Reads a server's event stream by GET and opens it again whenever it ends, behind the last event that had an id, so
 * that nothing is missed (MCP 2025-11-25, Transports, "Resumability and Redelivery"). Ends by `signal` alone.
 */
export function follow(options: FollowOptions): void {
  const { endpoint, clock, path, maxBodyBytes, signal, onMessage, onBroken, onRefused } = options
  let { lastEventId } = options
  let pauseMs = firstPauseMs
  let exchange: HttpExchange | undefined
  let timer: Timer | undefined
  const again = () => {
    if (signal.aborted) return
    timer = clock.after(pauseMs, open)
    pauseMs = Math.min(longestPauseMs, pauseMs * 2)
  }
  const open = () => {
    const reader = new SseMessageReader({
      maxBytes: maxBodyBytes,
      onMessage: ({ id, data }) => {
        if (id !== undefined && id !== '') lastEventId = id
        const envelope = readEnvelope(data)
        if (envelope && !signal.aborted) onMessage(data, envelope)
      },
      onTooLarge: () => undefined, // The request that it answers stays unanswered, as without us.
    })
    const resume = lastEventId === undefined ? [] : [headerNames.lastEventId, lastEventId]
    const headers = ownHeaders(endpoint, ['accept', 'text/event-stream', ...options.headers, ...resume])
    exchange = endpoint.send(
      { method: 'GET', path, headers, body: null },
      {
        onStart: ({ status, rawHeaders }) => {
          if (status === 200 && isEventStream(headerValue(rawHeaders, 'content-type'))) pauseMs = firstPauseMs
          else if (status >= 500) return
          else {
            exchange?.abort()
            onRefused(status)
          }
        },
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
  if (lastEventId === undefined) open()
  else again()
}
