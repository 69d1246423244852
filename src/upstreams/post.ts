import type { Clock, Timer } from '../clock.ts'
import { KnownError } from '../errors.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { headerValue } from '../wire/headers.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import { Reply } from './reply.ts'

export interface PostOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  /** Path and query. */
  readonly path: string
  readonly message: Buffer
  /** Besides those that every message of our own carries. */
  readonly headers: readonly string[]
  readonly maxBodyBytes: number
  readonly isAnsweredElsewhere: boolean
  /** Closes the connection and rejects with `cancelled`. */
  readonly signal: AbortSignal
  /** Returns whether a 404 would mean our session. */
  readonly onStart: (status: number, rawHeaders: readonly string[]) => boolean
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
}

/** A server that has answered on a stream may take this long to end it. */
const lingerMs = 1000

/** Posts one message of our own. Resolves when its answer is complete, and rejects with what is wrong with it. */
export function post(options: PostOptions): Promise<void> {
  const { endpoint, clock, path, message, headers, maxBodyBytes, isAnsweredElsewhere, signal, onMessage } = options
  if (signal.aborted) return Promise.reject(closedByUs())
  return new Promise((resolve, reject) => {
    let linger: Timer | undefined
    const finish = (error?: KnownError) => {
      linger?.cancel()
      signal.removeEventListener('abort', cancel)
      if (error) reject(error)
      else resolve()
    }
    const abort = (error?: KnownError) => {
      exchange.abort()
      finish(error)
    }
    const cancel = () => abort(closedByUs())
    const reply = new Reply({
      asked: readEnvelope(message),
      maxBodyBytes,
      isAnsweredElsewhere,
      onMessage,
      onAnswered: () => void (linger ??= clock.after(lingerMs, abort)),
      onTooLarge: abort,
    })
    signal.addEventListener('abort', cancel)
    const body = ['content-type', 'application/json', 'content-length', String(message.length)]
    const exchange = endpoint.send(
      { method: 'POST', path, headers: ownHeaders(endpoint, [...body, ...headers]), body: message },
      {
        onStart: ({ status, rawHeaders }) => {
          const hadSession = options.onStart(status, rawHeaders)
          reply.start(status, headerValue(rawHeaders, 'content-type'), hadSession)
        },
        onData: (chunk) => reply.push(chunk),
        onEnd: () => finish(reply.end()),
        onError: finish,
      },
    )
  })
}

function closedByUs(): KnownError {
  return new KnownError('cancelled', 'the connection was closed by us')
}
