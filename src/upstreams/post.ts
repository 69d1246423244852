import type { Clock, Timer } from '../clock.ts'
import { KnownError } from '../errors.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import type { ResponseHead } from './http.ts'
import { Reply, type ResumePoint } from './reply.ts'

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
  /** The first that aborts closes the connection and rejects with `cancelled`. */
  readonly signals: readonly AbortSignal[]
  /** Returns whether this status says that our session is gone. */
  readonly onStart: (status: number, rawHeaders: readonly string[]) => boolean
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
  /** What came is longer than is carried; without the envelope the POST fails for it. */
  readonly onTooLong: (bytes: number, envelope: Envelope | undefined) => void
  /** Whether a stream that ends before the answer is no error where its events have ids. */
  readonly canResume?: boolean | undefined
}

/** A server that has answered, or taken what needs no answer, may take this long to end its body. */
const lingerMs = 1000

/**
 * Posts one message of our own. Resolves when its answer is complete, or with where the rest can be had; what needs no answer is done as soon as the server has taken it (2xx), whatever body it then leaves open.
 * Rejects with what is wrong with it.
 */
export function post(options: PostOptions): Promise<ResumePoint | undefined> {
  const { endpoint, clock, path, message, headers, maxBodyBytes, isAnsweredElsewhere, signals, onMessage, onTooLong } =
    options
  const { canResume = false } = options
  if (signals.some(({ aborted }) => aborted)) return Promise.reject(closedByUs())
  const asked = readEnvelope(message)
  return new Promise((resolve, reject) => {
    let linger: Timer | undefined
    const finish = (error?: KnownError, rest?: ResumePoint) => {
      linger?.cancel()
      for (const signal of signals) signal.removeEventListener('abort', cancel)
      if (error) reject(error)
      else resolve(rest)
    }
    const abort = (error?: KnownError) => {
      exchange.abort()
      finish(error)
    }
    const cancel = () => abort(closedByUs())
    const leaveSoon = () => void (linger ??= clock.after(lingerMs, abort))
    const start = (head: ResponseHead) => {
      reply.start(head, options.onStart(head.status, head.rawHeaders))
      const needsAnswer = asked?.kind === 'request' || asked?.kind === 'batch'
      if (needsAnswer || head.status >= 300) return
      resolve(undefined)
      leaveSoon()
    }
    const end = (error: KnownError | undefined) => {
      const rest = error && canResume ? reply.resumableFrom() : undefined
      finish(rest ? undefined : error, rest)
    }
    const reply = new Reply({
      asked,
      maxBodyBytes,
      isAnsweredElsewhere,
      onMessage,
      onAnswered: leaveSoon,
      onTooLong,
      onTooLarge: (bytes, error) => {
        onTooLong(bytes, undefined)
        abort(error)
      },
    })
    // Not `AbortSignal.any`: with its weak references it costs more than all the rest of a message.
    for (const signal of signals) signal.addEventListener('abort', cancel)
    const body = ['content-type', 'application/json', 'content-length', String(message.length)]
    const exchange = endpoint.send(
      { method: 'POST', path, headers: ownHeaders(endpoint, [...body, ...headers]), body: message },
      {
        onStart: start,
        onData: (chunk) => reply.push(chunk),
        onEnd: () => end(reply.end()),
        onError: end,
      },
    )
  })
}

function closedByUs(): KnownError {
  return new KnownError('cancelled', 'the connection was closed by us')
}
