import { type ErrorCode, KnownError, errorMessage } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import type { Session, SessionClient, SessionEnd } from '../sessions/session.ts'
import type { HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Link, LinkListener } from '../upstreams/link.ts'
import { batchItems } from '../wire/batch.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { statusOfAnswer } from '../wire/era.ts'
import { headerNames } from '../wire/headers.ts'
import type { Exchange } from './exchange.ts'
import { namesIn } from './learn.ts'
import type { Operation } from './observe.ts'
import { type Reply, ReplyStream, batchReplies, openingReply, streamReply } from './reply-stream.ts'
import { accepted } from './replies.ts'
import type { Streams } from './streams.ts'

export interface BridgeSessionOptions {
  readonly id: string
  readonly key: string
  readonly upstream: string
  /** The client's: the front of the bridge. */
  readonly transport: 'http' | 'sse'
  readonly client: SessionClient
  readonly directory: SessionDirectory
  readonly streams: Streams
  /** The connection to the server, made for this session. */
  readonly link: (listener: LinkListener) => Link
  readonly onRequest: (inFlight: 1 | -1) => void
  readonly onDropped: (reason: 'client_gone' | 'no_request' | 'no_stream') => void
  readonly onNames: (kind: 'tool' | 'prompt', names: readonly string[]) => void
  readonly onEnd: () => void
}

/** One message of the client, with what its HTTP headers contribute. */
export interface Posted {
  readonly message: Buffer
  readonly envelope: Envelope
  readonly headers: HeadersFor
}

/** A request of the client, and the measuring of it. */
export interface Asked extends Posted {
  readonly operation: Operation
}

interface Waiting {
  readonly envelope: Envelope
  readonly operation: Operation
  readonly reply: Reply
  isClientGone: boolean
}

/** What the server says while no stream is open waits for one, within these limits. */
const maxBacklogMessages = 100
const maxBacklogBytes = 4 * 1024 * 1024

/** What a request still in flight is told when its session ends. Only a process that ended by itself is to blame. */
const codesOfEnds: Readonly<Record<SessionEnd, ErrorCode>> = {
  deleted: 'session_not_found',
  unknown: 'session_not_found',
  expired: 'session_not_found',
  too_old: 'session_not_found',
  stream_closed: 'session_not_found',
  refused: 'session_not_found',
  removed: 'session_not_found',
  exited: 'upstream_exited',
  shutdown: 'shutting_down',
}

/** Failures before the server got the request; of any other it may have. */
const undelivered: ReadonlySet<ErrorCode> = new Set([
  'cancelled',
  'shutting_down',
  'upstream_refused',
  'upstream_exited',
  'upstream_unauthorized',
  'upstream_session_gone',
])

/** One legacy client's session with a connection or process of its own. */
export class BridgeSession implements LinkListener {
  readonly key: string
  readonly upstream: string
  readonly transport: 'http' | 'sse'
  readonly client: SessionClient
  readonly #options: BridgeSessionOptions
  readonly #link: Link
  /** By the raw text of the id; a client that uses an id twice at once gets its answers in the order it asked. */
  readonly #waiting = new Map<string, Waiting[]>()
  #session: Session | undefined
  #stream: ReplyStream | undefined
  #backlog: Buffer[] = []
  #backlogBytes = 0
  #fullStreams = 0
  #isOpen = false
  #over = false

  constructor(options: BridgeSessionOptions) {
    this.#options = options
    this.key = options.key
    this.upstream = options.upstream
    this.transport = options.transport
    this.client = options.client
    this.#link = options.link(this)
  }

  get session(): Session | undefined {
    return this.#session
  }

  /** Connects to the server; rejects when that fails or the session ends meanwhile. */
  async open(headers: HeadersFor): Promise<void> {
    await this.#link.open(headers)
  }

  /** Sends a request to the server; its answer ends the exchange, whenever it comes. */
  request(exchange: Exchange, asked: Asked): void {
    this.#ask(asked, this.#replyStream(exchange, this.#isOpening(asked.envelope) ? this.#idHeader() : {}))
  }

  /** The same for all requests of a batch. */
  requests(exchange: Exchange, batch: readonly Asked[]): void {
    const replies = batchReplies(this.#replyStream(exchange), batch.length)
    for (const [index, asked] of batch.entries()) {
      const reply = replies[index]
      if (reply) this.#ask(asked, reply)
    }
  }

  /** HTTP+SSE: the answer goes to the session's stream, and this ends the POST of the request. */
  requestOnStream(exchange: Exchange, asked: Asked): void {
    const stream = this.#stream
    if (!stream) return
    if (this.#isOpening(asked.envelope)) return this.#ask(asked, openingReply(stream, exchange))
    this.#ask(asked, streamReply(stream))
    accepted(exchange)
  }

  /** The same for all requests of a batch. */
  requestsOnStream(exchange: Exchange, batch: readonly Asked[]): void {
    for (const asked of batch) if (this.#stream) this.#ask(asked, streamReply(this.#stream))
    accepted(exchange)
  }

  #replyStream(exchange: Exchange, headers: Readonly<Record<string, string>> = {}): ReplyStream {
    const { streams, transport } = this.#options
    return new ReplyStream({ exchange, transport, streams, headers, pressure: (isFull) => this.#hold(isFull) })
  }

  #ask({ message, envelope, headers, operation }: Asked, reply: Reply): void {
    if (this.#over) {
      const error = new KnownError('session_not_found', 'the session ended')
      operation.end({ kind: 'failure', error })
      return reply.fail(error, envelope.id, { delivered: false })
    }
    const isOpening = this.#isOpening(envelope)
    const waiting: Waiting = { envelope, operation, reply, isClientGone: false }
    const id = envelope.id ?? 'null'
    const others = this.#waiting.get(id)
    if (others) others.push(waiting)
    else this.#waiting.set(id, [waiting])
    this.#count(1)
    if (this.#session) this.#session.messages += 1
    reply.onGone(() => this.#clientGone(waiting, isOpening))
    if (this.#over) return
    this.#link.send(message, envelope, headers).catch((error: unknown) => this.#undelivered(waiting, known(error)))
  }

  #undelivered(waiting: Waiting, error: KnownError): void {
    const isOpening = this.#isOpening(waiting.envelope)
    this.#fail(waiting, error, !undelivered.has(error.code))
    if (error.code === 'upstream_session_gone') this.end('unknown')
    else if (isOpening && this.transport === 'http') this.end('refused')
  }

  /** Sends a notification or an answer of the client to the server. */
  async tell({ message, envelope, headers }: Posted): Promise<void> {
    await this.#link.send(message, envelope, headers)
    if (this.#session) {
      this.#session.messages += 1
      this.#options.directory.touch(this.#session)
    }
    if (envelope.method === 'notifications/cancelled') this.#cancelled(envelope.requestId)
  }

  /** GET: where the server may speak unasked. A new stream takes the place of an older one. */
  openStream(exchange: Exchange): void {
    this.#stream?.end('replaced')
    const stream = this.#replyStream(exchange)
    this.#stream = stream
    if (this.#session) this.#session.openStreams = 1
    exchange.outgoing.once('close', () => {
      if (this.#stream !== stream) return
      this.#stream = undefined
      if (!this.#session) return
      this.#session.openStreams = 0
      this.#options.directory.touch(this.#session)
    })
    stream.open()
    this.#flush(stream)
  }

  /** HTTP+SSE: the stream is the session; it begins with where to POST (MCP 2024-11-05, Transports). */
  openSseStream(exchange: Exchange, messagesPath: string): void {
    const stream = this.#replyStream(exchange)
    this.#stream = stream
    this.#register(undefined)
    if (this.#session) this.#session.openStreams = 1
    exchange.outgoing.once('close', () => this.end('stream_closed'))
    stream.event('endpoint', Buffer.from(messagesPath))
    this.#flush(stream)
  }

  #flush(stream: ReplyStream): void {
    this.#backlogBytes = 0
    for (const message of this.#backlog.splice(0)) stream.message(message)
  }

  onMessage(message: Buffer, envelope: Envelope): void {
    if (this.#over) return
    if (envelope.kind === 'batch') this.#hearBatch(message)
    else if (envelope.kind === 'response') this.#answer(message, envelope)
    else this.#speak(message, envelope)
  }

  /** Answers in one array may be those to several POSTs, so each goes its own way. */
  #hearBatch(batch: Buffer): void {
    for (const item of batchItems(batch) ?? []) {
      const envelope = readEnvelope(item)
      if (envelope && envelope.kind !== 'batch') this.onMessage(item, envelope)
    }
  }

  onClose(error: KnownError): void {
    this.#failAll(error)
    this.end(endOf(error))
  }

  end(end: SessionEnd): void {
    if (this.#over) return
    this.#over = true
    this.#failAll(new KnownError(codesOfEnds[end], `the session ended (${end})`))
    this.#stream?.end()
    this.#stream = undefined
    this.#backlog = []
    const session = this.#session
    if (session) {
      session.openStreams = 0
      this.#options.directory.end(session, end)
    }
    this.#options.onEnd()
    void this.#link.close()
  }

  /** A later `initialize` inside the session is the server's to judge and opens nothing. */
  #isOpening({ method }: Envelope): boolean {
    return method === 'initialize' && !this.#isOpen
  }

  #idHeader(): Readonly<Record<string, string>> {
    return { [headerNames.sessionId]: this.#options.id }
  }

  /** Back-pressure: a client that does not read stops the server's stream. */
  #hold(isFull: boolean): void {
    const wasHeld = this.#fullStreams > 0
    this.#fullStreams += isFull ? 1 : -1
    const isHeld = this.#fullStreams > 0
    if (isHeld !== wasHeld) this.#link.hold(isHeld)
  }

  /**
   * In the legacy era a lost connection is no cancellation: the answer is still waited for, but it keeps neither the
   * session nor a shutdown waiting. Only a client that never learns its session's id has given the session up.
   */
  #clientGone(waiting: Waiting, isOpening: boolean): void {
    if (waiting.isClientGone || !this.#isWaiting(waiting)) return
    waiting.isClientGone = true
    this.#count(-1)
    if (!isOpening) return
    waiting.operation.end({ kind: 'failure', error: new KnownError('cancelled', 'the client closed the connection') })
    this.end('refused')
  }

  /**
   * The client gave a request up, and the server should not answer it (MCP 2025-11-25, Cancellation): its exchange ends
   * here, or it would stay open for ever.
   */
  #cancelled(requestId: string | undefined): void {
    const waiting = requestId === undefined ? undefined : this.#waiting.get(requestId)?.at(-1)
    if (!waiting || waiting.envelope.method === 'initialize') return
    this.#remove(waiting)
    waiting.operation.end({ kind: 'failure', error: new KnownError('cancelled', 'the client cancelled the request') })
    if (!waiting.isClientGone) waiting.reply.end()
  }

  #answer(message: Buffer, envelope: Envelope): void {
    const waiting = this.#waiting.get(envelope.id ?? 'null')?.[0]
    if (!waiting) return this.#options.onDropped('no_request')
    const isOpening = this.#isOpening(waiting.envelope)
    const isOpened = isOpening && !envelope.error
    this.#remove(waiting)
    const { method } = waiting.envelope
    if (isOpened) this.#opened(envelope)
    if (method === 'tools/list') this.#options.onNames('tool', namesIn(message, 'tools'))
    if (method === 'prompts/list') this.#options.onNames('prompt', namesIn(message, 'prompts'))
    if (waiting.isClientGone) this.#options.onDropped('client_gone')
    else waiting.reply.answer(message, statusOfAnswer(envelope.error, 'legacy'), isOpened ? this.#idHeader() : {})
    waiting.operation.end({ kind: 'answer', envelope })
    // Without a session there is nothing that the client could come back to, but for a stream that it holds open.
    if (isOpening && envelope.error && this.transport === 'http') this.end('refused')
  }

  #opened({ protocolVersion }: Envelope): void {
    this.#isOpen = true
    this.#register(protocolVersion)
  }

  #register(protocolVersion: string | undefined): void {
    const { id, upstream, transport, client, directory } = this.#options
    this.#session ??= directory.add({ id, upstream, transport, client, isBridged: true })
    if (this.#session) this.#session.protocolVersion = protocolVersion
  }

  /**
   * What the server says unasked goes to the request that it belongs to where that is known (its progress token, or
   * the only one under way), else to the GET stream, else to the oldest request, else it waits for a stream.
   */
  #speak(message: Buffer, envelope: Envelope): void {
    const target = this.#targetOf(envelope)
    if (target) return target.message(message)
    const bytes = this.#backlogBytes + message.length
    if (this.#backlog.length >= maxBacklogMessages || bytes > maxBacklogBytes) {
      return this.#options.onDropped('no_stream')
    }
    this.#backlog.push(message)
    this.#backlogBytes = bytes
  }

  #targetOf({ kind, progressToken }: Envelope): Reply | undefined {
    const waiting = [...this.#waiting.values()].flat().filter((one) => !one.isClientGone)
    const owner =
      kind === 'notification' && progressToken !== undefined
        ? waiting.find((one) => one.envelope.progressToken === progressToken)
        : undefined
    const only = waiting.length === 1 ? waiting[0] : undefined
    return owner?.reply ?? only?.reply ?? this.#stream ?? waiting[0]?.reply
  }

  #isWaiting(waiting: Waiting): boolean {
    return this.#waiting.get(waiting.envelope.id ?? 'null')?.includes(waiting) ?? false
  }

  #remove(waiting: Waiting): void {
    const id = waiting.envelope.id ?? 'null'
    const queue = this.#waiting.get(id)?.filter((one) => one !== waiting) ?? []
    if (queue.length === 0) this.#waiting.delete(id)
    else this.#waiting.set(id, queue)
    if (!waiting.isClientGone) this.#count(-1)
  }

  #failAll(error: KnownError): void {
    for (const waiting of [...this.#waiting.values()].flat()) this.#fail(waiting, error, true)
  }

  #fail(waiting: Waiting, error: KnownError, delivered: boolean): void {
    if (!this.#isWaiting(waiting)) return
    this.#remove(waiting)
    waiting.operation.end({ kind: 'failure', error })
    if (!waiting.isClientGone) waiting.reply.fail(error, waiting.envelope.id, { delivered })
  }

  /** Requests whose client waits: they hold up a shutdown, and keep the session from expiring. */
  #count(change: 1 | -1): void {
    this.#options.onRequest(change)
    if (!this.#session) return
    this.#session.pending = Math.max(0, this.#session.pending + change)
    this.#options.directory.touch(this.#session)
  }
}

function endOf({ code }: KnownError): SessionEnd {
  if (code === 'upstream_exited') return 'exited'
  return code === 'upstream_session_gone' ? 'unknown' : 'stream_closed'
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}
