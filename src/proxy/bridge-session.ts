import { type ErrorCode, KnownError, errorMessage } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import type { Session, SessionClient, SessionEnd } from '../sessions/session.ts'
import type { Line, LineListener } from '../upstreams/stdio.ts'
import type { Envelope } from '../wire/envelope.ts'
import { statusOfAnswer } from '../wire/era.ts'
import { headerNames } from '../wire/headers.ts'
import type { Exchange } from './exchange.ts'
import { namesIn } from './learn.ts'
import type { Operation } from './observe.ts'
import { ReplyStream } from './reply-stream.ts'
import { errorMessageFor, replyError } from './replies.ts'

export interface BridgeSessionOptions {
  readonly id: string
  readonly key: string
  readonly upstream: string
  readonly client: SessionClient
  readonly directory: SessionDirectory
  readonly onRequest: (inFlight: 1 | -1) => void
  readonly onDropped: (reason: 'client_gone' | 'no_request' | 'no_stream') => void
  readonly onNames: (kind: 'tool' | 'prompt', names: readonly string[]) => void
  /** The session is over; the line, if there was one, is to be closed. */
  readonly onEnd: (line: Line | undefined) => Promise<void>
}

interface Waiting {
  readonly exchange: Exchange
  readonly envelope: Envelope
  readonly operation: Operation
  readonly reply: ReplyStream
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
  stream_closed: 'session_not_found',
  refused: 'session_not_found',
  exited: 'upstream_exited',
  shutdown: 'shutting_down',
}

/** One legacy client's session with a process of its own. */
export class BridgeSession implements LineListener {
  readonly key: string
  readonly upstream: string
  readonly #options: BridgeSessionOptions
  /** By the raw text of the id; a client that uses an id twice at once gets its answers in the order it asked. */
  readonly #waiting = new Map<string, Waiting[]>()
  #line: Line | undefined
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
  }

  get session(): Session | undefined {
    return this.#session
  }

  attach(line: Line): void {
    if (this.#over) void this.#options.onEnd(line)
    else this.#line = line
  }

  /** Sends a request to the process; its answer ends the exchange, whenever it comes. */
  request(exchange: Exchange, message: Buffer, envelope: Envelope, operation: Operation): void {
    const { outgoing } = exchange
    const isOpening = this.#isOpening(envelope)
    const reply = new ReplyStream(outgoing, isOpening ? this.#idHeader() : {}, (isFull) => this.#hold(isFull))
    const waiting: Waiting = { exchange, envelope, operation, reply, isClientGone: false }
    const id = envelope.id ?? 'null'
    const others = this.#waiting.get(id)
    if (others) others.push(waiting)
    else this.#waiting.set(id, [waiting])
    this.#count(1)
    if (this.#session) this.#session.messages += 1
    const leave = () => {
      if (!outgoing.writableFinished) this.#clientGone(waiting, isOpening)
    }
    if (outgoing.destroyed) return leave()
    outgoing.once('close', leave)
    this.#send(message).catch((error: unknown) => this.#fail(waiting, known(error), false))
  }

  /** Sends a notification or an answer of the client to the process. */
  async tell(message: Buffer, envelope: Envelope): Promise<void> {
    await this.#send(message)
    if (this.#session) {
      this.#session.messages += 1
      this.#options.directory.touch(this.#session)
    }
    if (envelope.method === 'notifications/initialized' && this.#line) this.#line.opened = true
    if (envelope.method === 'notifications/cancelled') this.#cancelled(envelope.requestId)
  }

  /** GET: where the server may speak unasked. A new stream takes the place of an older one. */
  openStream(exchange: Exchange): void {
    const { outgoing } = exchange
    this.#stream?.end()
    const stream = new ReplyStream(outgoing, {}, (isFull) => this.#hold(isFull))
    this.#stream = stream
    if (this.#session) this.#session.openStreams = 1
    outgoing.once('close', () => {
      if (this.#stream !== stream) return
      this.#stream = undefined
      if (!this.#session) return
      this.#session.openStreams = 0
      this.#options.directory.touch(this.#session)
    })
    stream.open()
    this.#backlogBytes = 0
    for (const message of this.#backlog.splice(0)) stream.message(message)
  }

  onMessage(message: Buffer, envelope: Envelope): void {
    if (this.#over) return
    if (envelope.kind === 'response') this.#answer(message, envelope)
    else this.#speak(message, envelope)
  }

  onClose(why: string): void {
    this.#failAll(new KnownError('upstream_exited', why))
    this.end('exited')
  }

  end(end: SessionEnd): void {
    if (this.#over) return
    this.#over = true
    this.#failAll(new KnownError(codesOfEnds[end], `the session ended (${end})`))
    this.#stream?.end()
    this.#stream = undefined
    this.#backlog = []
    if (this.#session) this.#options.directory.end(this.#session, end)
    void this.#options.onEnd(this.#line)
  }

  /** A later `initialize` inside the session is the server's to judge and opens nothing. */
  #isOpening({ method }: Envelope): boolean {
    return method === 'initialize' && !this.#isOpen
  }

  #idHeader(): Readonly<Record<string, string>> {
    return { [headerNames.sessionId]: this.#options.id }
  }

  #send(message: Buffer): Promise<void> {
    if (this.#line) return this.#line.channel.send(message)
    return Promise.reject(new KnownError('upstream_exited', 'the process of this session does not run'))
  }

  /** Back-pressure: a client that does not read stops the server's stdout. */
  #hold(isFull: boolean): void {
    this.#fullStreams += isFull ? 1 : -1
    const stdout = this.#line?.process.stdout
    if (this.#fullStreams > 0) stdout?.pause()
    else stdout?.resume()
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
    this.#remove(waiting)
    const { method } = waiting.envelope
    if (isOpening && !envelope.error) this.#opened(envelope)
    if (method === 'tools/list') this.#options.onNames('tool', namesIn(message, 'tools'))
    if (method === 'prompts/list') this.#options.onNames('prompt', namesIn(message, 'prompts'))
    if (waiting.isClientGone) this.#options.onDropped('client_gone')
    else {
      const headers = isOpening && !envelope.error ? this.#idHeader() : {}
      waiting.reply.answer(message, statusOfAnswer(envelope.error, 'legacy'), headers)
    }
    waiting.operation.end({ kind: 'answer', envelope })
    if (isOpening && envelope.error) this.end('refused')
  }

  #opened({ protocolVersion }: Envelope): void {
    const { id, upstream, client, directory } = this.#options
    this.#isOpen = true
    this.#session = directory.add({ id, upstream, transport: 'http', client, protocolVersion })
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

  #targetOf({ kind, progressToken }: Envelope): ReplyStream | undefined {
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
    if (waiting.isClientGone) return
    const { id } = waiting.envelope
    const { incoming, outgoing } = waiting.exchange
    const details = { delivered }
    if (outgoing.headersSent) waiting.reply.answer(Buffer.from(errorMessageFor(error, id, details)), 200)
    else replyError(incoming, outgoing, error, { id, details })
  }

  /** Requests whose client waits: they hold up a shutdown, and keep the session from expiring. */
  #count(change: 1 | -1): void {
    this.#options.onRequest(change)
    if (!this.#session) return
    this.#session.pending = Math.max(0, this.#session.pending + change)
    this.#options.directory.touch(this.#session)
  }
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}
