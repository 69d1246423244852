import { KnownError, ServerBusy, TooManyRequests } from '../errors.ts'
import { type Envelope, isSameId, readEnvelope, withoutMark } from '../wire/envelope.ts'
import { headerValue, isEventStream, retryAfterMs } from '../wire/headers.ts'
import { isNameless, namedAfter } from '../wire/nameless.ts'
import { SseMessageReader } from '../wire/sse.ts'
import type { ResponseHead } from './http.ts'

export interface ReplyOptions {
  /** The message that was posted. */
  readonly asked: Envelope | undefined
  readonly maxBodyBytes: number
  /** HTTP+SSE: a request that was accepted is answered on the stream; the body then says nothing. */
  readonly isAnsweredElsewhere: boolean
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
  /** The request has its answer; whatever else comes is not waited for. */
  readonly onAnswered: () => void
  /** A message of the server was longer than is carried, and it was not the answer. */
  readonly onTooLong: (bytes: number, envelope: Envelope) => void
  /** It may have been the answer: there is no use in reading on. */
  readonly onTooLarge: (bytes: number, error: KnownError) => void
}

/** Where the rest of an answer can be had whose stream was cut. */
export interface ResumePoint {
  /** The last event that came. */
  readonly lastEventId: string
  /** How long the server wants us to wait, where it said so. */
  readonly retryMs: number | undefined
}

/** Reads what comes back for one POST of our own and says at its end what is wrong with it. */
export class Reply {
  readonly #options: ReplyOptions
  #status = 0
  #isSessionGone = false
  #challenge: string | undefined
  #location: string | undefined
  #busy: ServerBusy | undefined
  #lastEventId: string | undefined
  #retryMs: number | undefined
  #wasAnswered = false
  #stream: SseMessageReader | undefined
  #chunks: Buffer[] = []
  #bytes = 0

  constructor(options: ReplyOptions) {
    this.#options = options
  }

  start({ status, rawHeaders }: ResponseHead, isSessionGone: boolean): void {
    this.#status = status
    this.#isSessionGone = isSessionGone
    this.#challenge = headerValue(rawHeaders, 'www-authenticate')
    this.#location = headerValue(rawHeaders, 'location')
    this.#busy = busyOf(status, rawHeaders)
    if (!isEventStream(headerValue(rawHeaders, 'content-type'))) return
    this.#stream = new SseMessageReader({
      maxBytes: this.#options.maxBodyBytes,
      onId: (id) => void (this.#lastEventId = id || this.#lastEventId),
      onRetry: (retryMs) => void (this.#retryMs = retryMs),
      onMessage: ({ type, data }) => {
        if (type === 'message') this.#hear(data)
      },
      onTooLarge: ({ type, bytes, envelope }) => {
        if (type !== 'message') return
        if (envelope?.kind === 'request' || envelope?.kind === 'notification') this.#options.onTooLong(bytes, envelope)
        else this.#refuse(bytes)
      },
    })
  }

  push(chunk: Buffer): void {
    if (this.#stream) return this.#stream.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes <= this.#options.maxBodyBytes) this.#chunks.push(chunk)
    else this.#refuse(this.#bytes)
  }

  /** Of a stream that ended without the answer, if its events have ids. */
  resumableFrom(): ResumePoint | undefined {
    const isCut = this.#status === 200 && this.#stream !== undefined && !this.#wasAnswered
    const lastEventId = this.#lastEventId
    return isCut && lastEventId !== undefined ? { lastEventId, retryMs: this.#retryMs } : undefined
  }

  /** What is wrong with the answer as a whole; undefined when nothing is. */
  end(): KnownError | undefined {
    const refusal = refusalOf(this.#status, this.#isSessionGone, this.#challenge)
    if (refusal) return refusal
    const isAccepted = this.#status < 300
    if (isAccepted && this.#options.isAnsweredElsewhere) return undefined
    if (!this.#stream && this.#chunks.length > 0) this.#hear(withoutMark(Buffer.concat(this.#chunks)))
    if (this.#wasAnswered) return undefined
    if (this.#busy) return this.#busy
    if (!isAccepted) return new KnownError('upstream_http_error', this.#withoutAnswer())
    if (this.#options.asked?.kind !== 'request') return undefined
    if (this.#stream) return new KnownError('upstream_closed', 'the event stream ended without an answer')
    return new KnownError('upstream_invalid', `HTTP ${this.#status} with a body that is no answer to the request`)
  }

  #withoutAnswer(): string {
    const what = `HTTP ${this.#status} without a JSON-RPC answer`
    const location = this.#status < 400 ? this.#location : undefined
    return location === undefined ? what : `${what}: it redirects to ${location.slice(0, 200)}, which is not followed`
  }

  #hear(message: Buffer): void {
    const read = readEnvelope(message)
    if (!read) return
    if (isNameless(read)) this.#hearNameless(message, read)
    else this.#take(message, read)
  }

  /**
   * A server that refuses before it has read the id answers with `id: null`; that is the answer to this POST, and where
   * its receiver is told of several requests at a time (a pipe, the one stream of HTTP+SSE), the id alone tells so. The
   * `{"error":"…"}` of a gateway is no answer.
   */
  #hearNameless(message: Buffer, read: Envelope): void {
    if (!isJsonRpc(message)) return
    const { asked } = this.#options
    if (asked?.kind !== 'request' || asked.id === undefined) return this.#take(message, read)
    const named = namedAfter(message, read, asked.id)
    this.#take(named, readEnvelope(named) ?? { ...read, id: asked.id })
  }

  #take(message: Buffer, envelope: Envelope): void {
    const { asked, onMessage, onAnswered } = this.#options
    onMessage(message, envelope)
    if (envelope.kind !== 'response' || (asked?.kind === 'request' && !isSameId(asked.id, envelope.id))) return
    this.#wasAnswered = true
    onAnswered()
  }

  #refuse(bytes: number): void {
    this.#chunks = []
    const { maxBodyBytes, onTooLarge } = this.#options
    const unfit = `an answer of ${bytes} bytes or more; the limit is ${maxBodyBytes}`
    onTooLarge(bytes, new KnownError('upstream_invalid', unfit))
  }
}

function isJsonRpc(message: Buffer): boolean {
  try {
    const value: unknown = JSON.parse(message.toString())
    return typeof value === 'object' && value !== null && 'jsonrpc' in value && value.jsonrpc === '2.0'
  } catch {
    return false // Half a message.
  }
}

/** A server that says by its status that it is to be left alone for a while. */
export function busyOf(status: number, rawHeaders: readonly string[]): ServerBusy | undefined {
  const retryAfter = headerValue(rawHeaders, 'retry-after')
  if (status === 429) return new TooManyRequests(retryAfter, retryAfterMs(rawHeaders))
  return status === 503 && retryAfter !== undefined ? new ServerBusy(503, retryAfter) : undefined
}

function refusalOf(status: number, isSessionGone: boolean, challenge: string | undefined): KnownError | undefined {
  if (status === 401 || status === 403) return new Unauthorized(status, challenge)
  if (!isSessionGone) return undefined
  return new KnownError('upstream_session_gone', `HTTP ${status}: the server no longer knows our session`)
}

/** The server wants other credentials; what it said of them is for the client that has to get some. */
export class Unauthorized extends KnownError {
  readonly status: number
  /** `WWW-Authenticate`. */
  readonly challenge: string | undefined

  constructor(status: number, challenge: string | undefined) {
    super('upstream_unauthorized', `HTTP ${status}: credentials are missing or refused`)
    this.status = status
    this.challenge = challenge
  }
}
