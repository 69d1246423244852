import type { Clock } from '../clock.ts'
import { type ErrorCode, KnownError, errorMessage } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import { Questions } from '../sessions/questions.ts'
import type { Session, SessionClient, SessionEnd } from '../sessions/session.ts'
import type { HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Link } from '../upstreams/link.ts'
import { Peer } from '../upstreams/peer.ts'
import { type Envelope, batchEntries, edits, readEnvelope, splice, textAt } from '../wire/envelope.ts'
import { statusOfAnswer } from '../wire/era.ts'
import { headerNames } from '../wire/headers.ts'
import { namesIn } from '../wire/lists.ts'
import { type Admission, claimOf, deliver } from './admission.ts'
import { endedSession } from './ended-session.ts'
import { type Exchange, onGone } from './exchange.ts'
import type { Operation } from './observe.ts'
import { LifeWatch, type LifeWatchOptions } from './life-watch.ts'
import { OpenRequests } from './open-requests.ts'
import {
  type Reply,
  ReplyStream,
  type ReplyStreamOptions,
  batchReplies,
  openingReply,
  postedReply,
  streamReply,
} from './reply-stream.ts'
import { accepted } from './replies.ts'
import type { GuestListener } from './shared-process.ts'
import type { Streams } from './streams.ts'

export interface BridgeSessionOptions {
  readonly id: string
  readonly key: string
  readonly upstream: string
  /** The client's: the front of the bridge. */
  readonly transport: 'http' | 'sse'
  readonly client: SessionClient
  readonly clock: Clock
  readonly directory: SessionDirectory
  readonly streams: Streams
  /** The connection to the server, made for this session. */
  readonly link: (listener: GuestListener) => Link
  /** What tells whether the server lives while it owes an answer. */
  readonly signs: Pick<LifeWatchOptions, 'question' | 'cpuOf'>
  /** A new one for each message of the client. */
  readonly admission: () => Admission
  /** A limit of ours refused a request. */
  readonly onRejected: (code: ErrorCode) => void
  readonly onDropped: (reason: 'client_gone' | 'no_request' | 'no_stream') => void
  /** Of too many, one is not remembered. */
  readonly onForgotten: (what: 'request' | 'question') => void
  readonly onNames: (kind: 'tool' | 'prompt', names: readonly string[]) => void
  readonly onEnd: () => void
}

/** One message of the client, with what its HTTP headers contribute. */
export interface Posted {
  readonly message: Buffer
  readonly envelope: Envelope
  readonly headers: HeadersFor
}

/** A request of the client; `begin` starts to measure it, which is done when it is its turn. */
export interface Asked extends Posted {
  readonly begin: () => Operation
}

interface Waiting extends Asked {
  readonly reply: Reply
  readonly admission: Admission
  operation: Operation | undefined
  isSent: boolean
  isClientGone: boolean
  alias: string | undefined
}

/** What the server says while no stream is open waits for one, within these limits. */
const maxBacklogMessages = 100
const maxBacklogBytes = 4 * 1024 * 1024

/** How far a GET stream may fall behind, with one more message, while the session waits for an answer elsewhere. */
const maxUnreadBytes = 16 * 1024 * 1024

/** Failures before the server got the request; of any other it may have. */
const undelivered: ReadonlySet<ErrorCode> = new Set([
  'cancelled',
  'queue_full',
  'shutting_down',
  'upstream_refused',
  'upstream_exited',
  'upstream_restarting',
  'upstream_unauthorized',
  'upstream_session_gone',
])

/** One legacy client's session with a connection or process of its own. */
export class BridgeSession implements GuestListener {
  readonly key: string
  readonly upstream: string
  readonly transport: 'http' | 'sse'
  readonly client: SessionClient
  readonly #options: BridgeSessionOptions
  readonly #link: Link
  readonly #open: OpenRequests<Waiting>
  readonly #questions: Questions
  /** Our own end towards the client: what it asks goes to the stream that the client listens to. */
  readonly #toClient: Peer
  readonly #life: LifeWatch
  #session: Session | undefined
  #stream: ReplyStream | undefined
  #backlog: Buffer[] = []
  #backlogBytes = 0
  /** Streams that an answer comes on, and that the client reads slower than the server writes. */
  #fullAnswers = 0
  #isHeld = false
  #isLinked = false
  #isOpened = false
  /** The client has said that its opening exchange is over. */
  #isInitialized = false
  /** What whoever still waits for something is told, once the session has ended. */
  #ended: KnownError | undefined

  constructor(options: BridgeSessionOptions) {
    this.#options = options
    this.key = options.key
    this.upstream = options.upstream
    this.transport = options.transport
    this.client = options.client
    this.#open = new OpenRequests(() => options.onForgotten('request'))
    this.#questions = new Questions(() => options.onForgotten('question'))
    this.#link = options.link(this)
    this.#life = new LifeWatch({
      ...options.signs,
      clock: options.clock,
      life: () => this.#link.life,
      onAnswered: () => this.#heardAll(),
    })
    const send = (message: Buffer) => {
      this.#stream?.message(message)
      return Promise.resolve()
    }
    this.#toClient = new Peer({ send, close: () => Promise.resolve() }, options.clock)
  }

  get session(): Session | undefined {
    return this.#session
  }

  /** Connects to the server; rejects when that fails or the session ends meanwhile. */
  async open(headers: HeadersFor): Promise<void> {
    await this.#whileItLasts(this.#link.open(headers))
    this.#isLinked = true
  }

  /** The end of the session closes its link, and what fails by that failed because of the end. */
  async #whileItLasts(work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (error) {
      throw this.#ended ?? error
    }
  }

  /** Sends a request to the server; its answer ends the exchange, whenever it comes. */
  request(exchange: Exchange, asked: Asked): void {
    const isOpening = this.#isOpening(asked.envelope)
    this.#ask(asked, this.#replyStream(exchange, isOpening ? { headers: this.#idHeader() } : { mayBeginEarly: true }))
  }

  /** The same for all requests of a batch. */
  requests(exchange: Exchange, batch: readonly Asked[]): void {
    const replies = batchReplies(this.#replyStream(exchange, { mayBeginEarly: true }), batch.length)
    for (const [index, asked] of batch.entries()) {
      const reply = replies[index]
      if (reply) this.#ask(asked, reply)
    }
  }

  /** HTTP+SSE: the answer goes to the session's stream, and this ends the POST of the request. */
  requestOnStream(exchange: Exchange, asked: Asked): void {
    const stream = this.#stream
    if (!stream) return
    this.#ask(asked, this.#isOpening(asked.envelope) ? openingReply(stream, exchange) : postedReply(stream, exchange))
  }

  /** The same for all requests of a batch. */
  requestsOnStream(exchange: Exchange, batch: readonly Asked[]): void {
    for (const asked of batch) if (this.#stream) this.#ask(asked, streamReply(this.#stream))
    accepted(exchange)
  }

  #replyStream(exchange: Exchange, answer: Pick<ReplyStreamOptions, 'headers' | 'mayBeginEarly'> = {}): ReplyStream {
    const { streams, transport } = this.#options
    const pressure = (isFull: boolean) => {
      this.#fullAnswers += isFull ? 1 : -1
      this.#hold()
    }
    return new ReplyStream({ ...answer, exchange, transport, streams, pressure })
  }

  #ask(asked: Asked, reply: Reply): void {
    const { message, envelope, headers, begin } = asked
    const admission = this.#options.admission()
    const waiting: Waiting = {
      message,
      envelope,
      headers,
      begin,
      reply,
      admission,
      operation: undefined,
      isSent: false,
      isClientGone: false,
      alias: undefined,
    }
    this.#open.queue(waiting)
    this.#pend(1)
    if (this.#session) this.#session.messages += 1
    if (this.#ended) return this.#fail(waiting, this.#ended)
    reply.onGone(() => this.#clientGone(waiting))
    if (!this.#open.has(waiting)) return
    admission.enter(claimOf(envelope), envelope.method, (refusal) => {
      if (refusal) this.#refuse(waiting, refusal)
      else this.#send(waiting)
    })
  }

  #refuse(waiting: Waiting, error: KnownError): void {
    const isOpening = this.#isOpening(waiting.envelope)
    this.#options.onRejected(error.code)
    this.#fail(waiting, error)
    if (isOpening && this.transport === 'http') this.end('refused')
  }

  #send(waiting: Waiting): void {
    this.#open.ask(waiting)
    this.#hold()
    waiting.operation = waiting.begin()
    waiting.admission.sent({
      isExcused: () => this.#questions.isOpen || this.#isHeld,
      onOverdue: (error) => this.#overdue(waiting, error),
      // Nothing of ours goes in before the opening exchange.
      onSilent: this.#isOpened ? (leftMs) => this.#life.look(leftMs) : undefined,
    })
    waiting.reply.asked()
    const delivered = this.#isLinked ? this.#pass(waiting) : this.#deliver(waiting)
    delivered.catch((error: unknown) => this.#undelivered(waiting, known(error)))
  }

  /** The first request of a session over HTTP opens it. */
  async #deliver(waiting: Waiting): Promise<void> {
    if (!this.#isLinked) await this.open(waiting.headers)
    if (this.#open.has(waiting)) await this.#pass(waiting)
  }

  #pass(waiting: Waiting): Promise<void> {
    const { message, envelope, headers, alias } = waiting
    waiting.isSent = true
    const traced = measured(waiting).traced(message)
    const sent = alias === undefined ? traced : renamed(traced, alias)
    return this.#link.send(sent, sent === message ? envelope : (readEnvelope(sent) ?? envelope), headers)
  }

  #undelivered(waiting: Waiting, error: KnownError): void {
    const isOpening = this.#isOpening(waiting.envelope)
    if (undelivered.has(error.code)) waiting.isSent = false
    if (error.code === 'queue_full') this.#options.onRejected(error.code)
    this.#fail(waiting, error)
    if (error.code === 'upstream_session_gone') this.end('unknown')
    else if (isOpening && this.transport === 'http') this.end('refused')
    // It may run without reading any more; what it still has to answer is waited for.
    else if (error.code === 'upstream_exited' && this.#open.all().length === 0) this.end('exited')
  }

  /**
   * The server should stop (MCP 2025-11-25, Cancellation), but for `initialize`, which must not be cancelled: the
   * session that it should have opened is given up.
   */
  #overdue(waiting: Waiting, error: KnownError): void {
    const { envelope, headers } = waiting
    const isOpening = this.#isOpening(envelope)
    this.#fail(waiting, error)
    if (isOpening) return this.end('refused')
    if (envelope.method === 'initialize') return
    this.#link.giveUp(waiting.alias ?? envelope.id ?? 'null', error.message, headers)
  }

  /** Sends a notification or an answer of the client to the server. */
  async tell(exchange: Exchange, posted: Posted): Promise<void> {
    const { envelope, headers } = posted
    if (this.#toClient.takeAnswer(posted.message, envelope)) return
    const cancelled = envelope.method === 'notifications/cancelled' ? this.#cancelledBy(envelope) : undefined
    if (cancelled && this.#open.isQueued(cancelled)) return this.#cancel(cancelled)
    this.#questions.heardClient(envelope)
    const told = cancelled?.alias === undefined ? posted : cancellationOf(posted, cancelled.alias)
    const admission = this.#options.admission()
    onGone(exchange, () => admission.abandon())
    await this.#whileItLasts(deliver(admission, () => this.#link.send(told.message, told.envelope, headers)))
    if (envelope.method === 'notifications/initialized') this.#isInitialized = true
    if (this.#session) {
      this.#session.messages += 1
      this.#options.directory.touch(this.#session)
    }
    if (cancelled) this.#cancel(cancelled)
  }

  /** GET: where the server may speak unasked. A new stream takes the place of an older one. */
  openStream(exchange: Exchange): void {
    this.#stream?.end('replaced')
    const { streams, transport } = this.#options
    const stream = new ReplyStream({ exchange, transport, streams, pressure: () => this.#hold() })
    this.#stream = stream
    // Nothing more goes to the older one, so it holds nothing back, read or not.
    this.#hold()
    if (this.#session) this.#session.openStreams = 1
    exchange.outgoing.once('close', () => this.#streamClosed(stream))
    stream.open()
    this.#flush(stream)
  }

  #streamClosed(stream: ReplyStream): void {
    if (this.#stream !== stream) return
    this.#stream = undefined
    this.#hold()
    if (!this.#session) return
    this.#session.openStreams = 0
    this.#options.directory.touch(this.#session)
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
    if (this.#ended) return
    if (envelope.kind === 'batch') this.#hearBatch(message, envelope)
    else if (envelope.kind === 'response') this.#answer(message, envelope)
    else this.#speak(message, envelope)
  }

  /** Answers in one array may be those to several POSTs, so each goes its own way. */
  #hearBatch(batch: Buffer, read: Envelope): void {
    for (const { message, envelope } of batchEntries(batch, read) ?? []) {
      if (envelope) this.onMessage(message, envelope)
    }
  }

  onClose(error: KnownError): void {
    this.#failAll(error)
    this.end(endOf(error))
  }

  onBehind(): void {
    for (const { reply } of this.#open.all()) reply.cut()
    this.#stream?.cut()
    this.end('stream_closed')
  }

  end(end: SessionEnd): void {
    if (this.#ended) return
    this.#ended = endedSession(end)
    this.#failAll(this.#ended)
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
    return method === 'initialize' && !this.#isOpened
  }

  #idHeader(): Readonly<Record<string, string>> {
    return { [headerNames.sessionId]: this.#options.id }
  }

  /**
   * Back-pressure: a client that does not read stops the server's stream. But a client that leaves its GET stream unread
   * gets the answers that it waits for elsewhere all the same, as it would from the server itself.
   */
  #hold(): void {
    const isHeld = this.#fullAnswers > 0 || (this.#isUnread() && !this.#isAwaited())
    if (isHeld === this.#isHeld) return
    this.#isHeld = isHeld
    this.#link.hold(isHeld)
  }

  /** Whether the client leaves its GET stream unread. */
  #isUnread(): boolean {
    return this.transport === 'http' && this.#stream?.isFull === true
  }

  /** Whether the client waits for an answer of the server. */
  #isAwaited(): boolean {
    return this.#open.asked().some(({ isClientGone }) => !isClientGone)
  }

  /**
   * In the legacy era a lost connection is no cancellation: the answer is still waited for, but it keeps neither the
   * session nor a shutdown waiting. Only what the server has not got yet is given up, and a session whose id its client
   * never learns.
   */
  #clientGone(waiting: Waiting): void {
    if (waiting.isClientGone || !this.#open.has(waiting)) return
    const isOpening = this.#isOpening(waiting.envelope)
    waiting.isClientGone = true
    this.#hold()
    this.#pend(-1)
    if (!isOpening && !this.#open.isQueued(waiting)) return waiting.admission.abandon()
    this.#fail(waiting, new KnownError('cancelled', 'the client closed the connection'))
    if (isOpening) this.end('refused')
  }

  #cancelledBy({ requestId }: Envelope): Waiting | undefined {
    const waiting = requestId === undefined ? undefined : this.#open.cancelledBy(requestId)
    return waiting?.envelope.method === 'initialize' ? undefined : waiting
  }

  /**
   * The client gave a request up, and the server should not answer it (MCP 2025-11-25, Cancellation): its exchange ends
   * here, or it would stay open for ever.
   */
  #cancel(waiting: Waiting): void {
    if (!this.#remove(waiting, { isAnswered: false })) return
    measured(waiting).end({
      kind: 'failure',
      error: waiting.admission.givenUp('the client cancelled the request'),
    })
    if (!waiting.isClientGone) waiting.reply.end()
  }

  #answer(message: Buffer, envelope: Envelope): void {
    const waiting = this.#open.answeredBy(envelope.id)
    if (!waiting) return this.#options.onDropped('no_request')
    if (envelope.unfit !== undefined) {
      return this.#undelivered(waiting, new KnownError('upstream_invalid', envelope.unfit))
    }
    const isOpening = this.#isOpening(waiting.envelope)
    const isOpened = isOpening && !envelope.error
    this.#remove(waiting, { isAnswered: true })
    if (this.#session) this.#options.directory.answered(this.#session)
    const { method } = waiting.envelope
    if (isOpened) this.#opened(envelope)
    if (method === 'tools/list') this.#options.onNames('tool', namesIn(message, 'tools'))
    if (method === 'prompts/list') this.#options.onNames('prompt', namesIn(message, 'prompts'))
    if (waiting.isClientGone) this.#options.onDropped('client_gone')
    else {
      const answer = waiting.alias === undefined ? message : answerTo(waiting, message)
      waiting.reply.answer(answer, statusOfAnswer(envelope.error, 'legacy'), isOpened ? this.#idHeader() : undefined)
    }
    measured(waiting).end({ kind: 'answer', envelope })
    // Without a session there is nothing that the client could come back to, but for a stream that it holds open.
    if (isOpening && envelope.error && this.transport === 'http') this.end('refused')
  }

  #opened({ protocolVersion }: Envelope): void {
    this.#isOpened = true
    this.#register(protocolVersion)
  }

  #register(protocolVersion: string | undefined): void {
    const { id, upstream, transport, client, directory } = this.#options
    const questions = this.#questions
    this.#session ??= directory.add({ id, upstream, transport, client, questions, isBridged: true })
    if (!this.#session) return
    this.#session.protocolVersion = protocolVersion
    const { peer } = this.#link
    if (peer) this.#session.serverPeer = { canAsk: () => this.#canAsk(), request: (asked) => peer.request(asked) }
    this.#session.clientPeer = {
      canAsk: () => this.#canAsk() && this.#stream !== undefined,
      request: (asked) => this.#toClient.request(asked),
    }
  }

  /** Not before the opening exchange is over, and not while a slow client keeps the server waiting. */
  #canAsk(): boolean {
    return this.#isInitialized && this.#fullAnswers === 0 && !this.#isUnread() && !this.#questions.isOpen
  }

  /**
   * What the server says unasked goes to the request that it belongs to where that is known (its progress token, or
   * the only one under way), else to the GET stream, else to the oldest request, else it waits for a stream.
   */
  #speak(message: Buffer, envelope: Envelope): void {
    const owner = this.#ownerOf(envelope)
    this.#heard(envelope, owner)
    if (!owner && this.#isStale(envelope)) return this.#options.onDropped('no_request')
    this.#cutBehind()
    const target = this.#targetOf(owner)
    const told = owner?.alias === undefined ? message : progressOf(owner, message)
    if (!target && !this.#keep(told)) return this.#options.onDropped('no_stream')
    target?.message(told)
    this.#questions.heardServer(envelope)
  }

  /** While the link is not held, a GET stream could fall behind without end. */
  #cutBehind(): void {
    const stream = this.#stream
    if (!stream || !this.#isUnread() || this.#isHeld || stream.unreadBytes <= maxUnreadBytes) return
    this.#options.onDropped('client_gone')
    stream.cut()
    this.#streamClosed(stream)
  }

  /** A sign of life for the request that it names, and for all when it names none. */
  #heard({ kind, progressToken }: Envelope, owner: Waiting | undefined): void {
    if (owner) return owner.admission.heard()
    if (kind === 'notification' && progressToken !== undefined) return
    this.#heardAll()
  }

  #heardAll(): void {
    for (const { admission } of this.#open.asked()) admission.heard()
  }

  #keep(message: Buffer): boolean {
    const bytes = this.#backlogBytes + message.length
    if (this.#backlog.length >= maxBacklogMessages || bytes > maxBacklogBytes) return false
    this.#backlog.push(message)
    this.#backlogBytes = bytes
    return true
  }

  /** The request whose progress this is. */
  #ownerOf({ kind, progressToken }: Envelope): Waiting | undefined {
    if (kind !== 'notification' || progressToken === undefined) return undefined
    return this.#open.asked().find((one) => (one.alias ?? one.envelope.progressToken) === progressToken)
  }

  /** Progress of a request that was given up, under a token that its client has since used again. */
  #isStale({ kind, progressToken }: Envelope): boolean {
    if (kind !== 'notification' || progressToken === undefined) return false
    return this.#open
      .asked()
      .some(({ alias, envelope }) => alias !== undefined && envelope.progressToken === progressToken)
  }

  #targetOf(owner: Waiting | undefined): Reply | undefined {
    if (owner && !owner.isClientGone) return owner.reply
    const waiting = this.#open.asked().filter((one) => !one.isClientGone)
    const only = waiting.length === 1 ? waiting[0] : undefined
    return only?.reply ?? this.#stream ?? waiting[0]?.reply
  }

  /** False when it was over already. */
  #remove(waiting: Waiting, end: { readonly isAnswered: boolean }): boolean {
    if (!this.#open.remove(waiting, end)) return false
    this.#hold()
    waiting.admission.over()
    if (!waiting.isClientGone) this.#pend(-1)
    return true
  }

  #failAll(error: KnownError): void {
    for (const waiting of this.#open.all()) this.#fail(waiting, error)
  }

  #fail(waiting: Waiting, error: KnownError): void {
    if (!this.#remove(waiting, { isAnswered: false })) return
    measured(waiting).end({ kind: 'failure', error })
    if (waiting.isClientGone) return
    waiting.reply.fail(error, waiting.envelope.id, { delivered: waiting.isSent })
  }

  /** Requests whose client waits keep the session from expiring. */
  #pend(change: 1 | -1): void {
    if (!this.#session) return
    this.#session.pending = Math.max(0, this.#session.pending + change)
    this.#options.directory.touch(this.#session)
  }
}

/** What was refused or given up before its turn is measured too. */
function measured(waiting: Waiting): Operation {
  return (waiting.operation ??= waiting.begin())
}

/** The request under an id of ours, which is also its progress token: a client that repeats the one repeats the other. */
function renamed(message: Buffer, alias: string): Buffer {
  const { id, progressToken } = readEnvelope(message)?.ranges ?? {}
  return splice(message, edits([id, alias], [progressToken, alias]))
}

/** The client's cancellation of a request that the server knows under another id. */
function cancellationOf({ message, envelope, headers }: Posted, alias: string): Posted {
  const told = splice(message, edits([envelope.ranges.requestId, alias]))
  return { message: told, envelope: readEnvelope(told) ?? envelope, headers }
}

/** What the server says of a request under an id of ours, as the client knows it. */
function answerTo(waiting: Waiting, answer: Buffer): Buffer {
  const own = textAt(waiting.message, waiting.envelope.ranges.id) ?? 'null'
  return splice(answer, edits([readEnvelope(answer)?.ranges.id, own]))
}

function progressOf(waiting: Waiting, progress: Buffer): Buffer {
  const own = textAt(waiting.message, waiting.envelope.ranges.progressToken)
  return own === undefined ? progress : splice(progress, edits([readEnvelope(progress)?.ranges.progressToken, own]))
}

function endOf({ code }: KnownError): SessionEnd {
  if (code === 'upstream_exited') return 'exited'
  if (code === 'shutting_down') return 'replaced'
  return code === 'upstream_session_gone' ? 'unknown' : 'stream_closed'
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}
