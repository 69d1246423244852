import { defaults } from '../defaults.ts'
import type { KnownError } from '../errors.ts'
import type { StreamEnd } from '../telemetry/instruments.ts'
import { Unauthorized } from '../upstreams/reply.ts'
import { sseEvent } from '../wire/sse.ts'
import { type Exchange, onGone, requestHeader } from './exchange.ts'
import { accepted, errorMessageFor, replyError } from './replies.ts'
import type { OpenStream, Streams } from './streams.ts'
import type { Swept } from './sweep.ts'

/** Where the answer to one bridged request goes, and what the server says before it. */
export interface Reply {
  /** The server is asked now: until then, a failure can have a status of its own. */
  asked(): void
  message(message: Buffer): void
  /** Sends the answer and ends. `headers` go with it when nothing was sent before. */
  answer(message: Buffer, status: number, headers?: Readonly<Record<string, string>>): void
  /** Sends an error of ours in place of the answer; `id` is the request's. */
  fail(error: KnownError, id: string | undefined, details?: Readonly<Record<string, unknown>>): void
  /** Ends without an answer. */
  end(): void
  /** Breaks the connection of a client that is too far behind, with everything that it has not read yet. */
  cut(): void
  /** Hears once that the client left before the end, also when that was before this call. */
  onGone(listener: () => void): void
}

export interface ReplyStreamOptions {
  readonly exchange: Exchange
  /** The client's. */
  readonly transport: 'http' | 'sse'
  readonly streams: Streams
  /** Whether the status may be decided before the answer is there; not where the client learns from it. */
  readonly mayBeginEarly?: boolean
  /** Of the answer if it becomes a stream. */
  readonly headers?: Readonly<Record<string, string>>
  /** `true` asks the sender to wait until `false`: the client reads slower than the server writes. */
  readonly pressure: (isFull: boolean) => void
}

/** Longer text costs more to copy than a second piece. */
const onePieceBytes = 4096

/**
 * The answer to one bridged POST: plain JSON when the answer is the first thing to say, an event stream when something
 * else comes before it or when it takes long (MCP 2025-11-25, Transports, "Sending Messages to the Server": the server
 * chooses): clients, and what is between them and us, give up connections without a byte (Node's fetch after 300 s).
 */
export class ReplyStream implements Reply, Swept {
  readonly #options: ReplyStreamOptions
  readonly #exchange: Exchange
  #stream: OpenStream | undefined
  #askedMs: number | undefined
  place: number | undefined
  #isFull = false

  constructor(options: ReplyStreamOptions) {
    this.#options = options
    this.#exchange = options.exchange
  }

  asked(): void {
    if (this.#options.mayBeginEarly) this.#options.streams.await(this)
  }

  /** Looks whether the server has been silent for long; since when is noted here, as asking costs more than waiting. */
  sweep(nowMs: number): void {
    this.#askedMs ??= nowMs
    if (nowMs - this.#askedMs < defaults.quickAnswerMs) return
    if (acceptsStream(this.#exchange)) this.open()
    else this.#options.streams.begun(this)
  }

  onGone(listener: () => void): void {
    onGone(this.#exchange, listener)
  }

  /** Turns the answer into an event stream, and sends its headers at once. */
  open(): void {
    const { outgoing, upstream } = this.#exchange
    const { streams, transport, headers } = this.#options
    streams.begun(this)
    if (this.#stream || outgoing.headersSent || outgoing.destroyed) return
    outgoing.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', ...headers })
    outgoing.flushHeaders()
    // Every event is written at once, so anything may come between two of them.
    const stream = streams.open({ upstream, transport, outgoing, isBetweenEvents: () => true })
    this.#stream = stream
    outgoing.once('close', () => stream.end(outgoing.writableFinished ? 'upstream_ended' : 'client_gone'))
  }

  /** Sends one message before the answer. */
  message(message: Buffer): void {
    this.event('message', message)
  }

  event(type: string, data: Buffer): void {
    this.open()
    this.#stream?.event()
    this.#write(sseEvent({ type, data }))
  }

  answer(message: Buffer, status: number, headers?: Readonly<Record<string, string>>): void {
    const { outgoing } = this.#exchange
    if (this.#stream) {
      this.message(message)
      return this.end()
    }
    this.#options.streams.begun(this)
    const own = { 'content-type': 'application/json', 'content-length': message.length }
    outgoing.writeHead(status, headers ? { ...own, ...headers } : own)
    // Node puts text behind the head in one piece, which costs the socket less than two; latin1 keeps each byte.
    if (message.length < onePieceBytes) return void outgoing.end(message.toString('latin1'), 'latin1')
    // A short answer is one write; a long one that the client leaves unread is back-pressure like a stream's.
    if (message.length < outgoing.writableHighWaterMark) return void outgoing.end(message)
    this.#write(message)
    outgoing.end()
  }

  fail(error: KnownError, id: string | undefined, details: Readonly<Record<string, unknown>> = {}): void {
    const { incoming, outgoing } = this.#exchange
    this.#options.streams.begun(this)
    if (!this.#stream) return replyError(incoming, outgoing, error, { id, details })
    this.message(Buffer.from(errorMessageFor(error, id, details)))
    this.end(error.code === 'upstream_timeout' ? 'stalled' : 'upstream_ended')
  }

  /** Ends without an answer: as a stream, since that alone needs none. */
  end(reason: StreamEnd = 'upstream_ended'): void {
    const { outgoing } = this.#exchange
    this.open()
    // A session that ends because its client left ends this, too.
    this.#stream?.end(outgoing.destroyed && !outgoing.writableFinished ? 'client_gone' : reason)
    outgoing.end()
  }

  cut(): void {
    this.#stream?.end('client_behind')
    this.#exchange.outgoing.destroy()
  }

  /** Whether the sender was last asked to wait. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** What the client has left unread so far, but for what the system holds. */
  get unreadBytes(): number {
    return this.#exchange.outgoing.writableLength
  }

  #write(bytes: Buffer): void {
    const { outgoing } = this.#exchange
    if (outgoing.destroyed || outgoing.writableEnded || outgoing.write(bytes) || this.#isFull) return
    this.#isFull = true
    this.#options.pressure(true)
    const relieve = () => {
      outgoing.off('drain', relieve)
      outgoing.off('close', relieve)
      this.#isFull = false
      this.#options.pressure(false)
    }
    outgoing.on('drain', relieve)
    outgoing.on('close', relieve)
  }
}

function acceptsStream(exchange: Exchange): boolean {
  return requestHeader(exchange, 'accept')?.includes('text/event-stream') === true
}

/** HTTP+SSE: every answer goes to the one stream of the session, which outlives them all. */
export function streamReply(stream: ReplyStream): Reply {
  return {
    asked: () => undefined,
    message: (message) => stream.message(message),
    answer: (message) => stream.message(message),
    fail: (error, id, details) => stream.message(Buffer.from(errorMessageFor(error, id, details))),
    end: () => undefined,
    cut: () => undefined,
    onGone: () => undefined, // The session ends with its stream.
  }
}

/** HTTP+SSE: the same for one POST, which is accepted when the server is asked; what fails before fails the POST. */
export function postedReply(stream: ReplyStream, exchange: Exchange): Reply {
  const { incoming, outgoing } = exchange
  const onStream = streamReply(stream)
  const accept = () => {
    if (!outgoing.headersSent) accepted(exchange)
  }
  return {
    ...onStream,
    asked: accept,
    fail: (error, id, details) => {
      if (outgoing.headersSent) onStream.fail(error, id, details)
      else replyError(incoming, outgoing, error, { id, details })
    },
    end: accept,
  }
}

/**
 * HTTP+SSE: the same for `initialize`, whose POST is left open until the server has said whether it wants other
 * credentials: that is the one answer that a client can only get by HTTP.
 */
export function openingReply(stream: ReplyStream, exchange: Exchange): Reply {
  const posted = postedReply(stream, exchange)
  let isAsked = false
  return {
    ...posted,
    asked: () => void (isAsked = true),
    answer: (message, status) => {
      posted.asked()
      posted.answer(message, status)
    },
    fail: (error, id, details) => {
      if (isAsked && !(error instanceof Unauthorized)) posted.asked()
      posted.fail(error, id, details)
    },
  }
}

/** A POSTed batch: its answers share one event stream, which ends with the last of them (MCP 2025-03-26, Transports). */
export function batchReplies(stream: ReplyStream, count: number): Reply[] {
  let left = count
  const listeners: (() => void)[] = []
  let isGone = false
  stream.onGone(() => {
    isGone = true
    for (const listener of listeners) listener()
  })
  const last = (message?: Buffer) => {
    if (message) stream.message(message)
    left -= 1
    if (left === 0) stream.end()
  }
  const reply: Reply = {
    asked: () => stream.asked(),
    message: (message) => stream.message(message),
    answer: (message) => last(message),
    fail: (error, id, details) => last(Buffer.from(errorMessageFor(error, id, details))),
    end: () => last(),
    cut: () => stream.cut(),
    onGone: (listener) => (isGone ? listener() : void listeners.push(listener)),
  }
  return Array.from({ length: count }, () => reply)
}
