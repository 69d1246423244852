import { KnownError, errorMessage } from '../errors.ts'
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

/** Messages of the server that wait for a stream to go out on. */
const maxBacklog = 100

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
    const isOpening = envelope.method === 'initialize'
    const headers = isOpening ? { [headerNames.sessionId]: this.#options.id } : {}
    const reply = new ReplyStream(outgoing, headers, (isFull) => this.#hold(isFull))
    const waiting: Waiting = { exchange, envelope, operation, reply, isClientGone: false }
    const id = envelope.id ?? 'null'
    const others = this.#waiting.get(id)
    if (others) others.push(waiting)
    else this.#waiting.set(id, [waiting])
    this.#options.onRequest(1)
    this.#note(1)
    // In the legacy era a lost connection is no cancellation: the answer is still waited for.
    outgoing.once('close', () => {
      waiting.isClientGone = !outgoing.writableFinished
      if (waiting.isClientGone && isOpening) this.end('refused')
    })
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
    for (const message of this.#backlog.splice(0)) stream.message(message)
  }

  onMessage(message: Buffer, envelope: Envelope): void {
    if (envelope.kind === 'response') this.#answer(message, envelope)
    else this.#speak(message, envelope)
  }

  onClose(why: string): void {
    const error = new KnownError('upstream_exited', why)
    for (const waiting of [...this.#waiting.values()].flat()) this.#fail(waiting, error, true)
    this.end('exited')
  }

  end(end: SessionEnd): void {
    if (this.#over) return
    this.#over = true
    const error = new KnownError('upstream_closed', `the session ended (${end})`)
    for (const waiting of [...this.#waiting.values()].flat()) this.#fail(waiting, error, true)
    this.#stream?.end()
    if (this.#session) this.#options.directory.end(this.#session, end)
    void this.#options.onEnd(this.#line)
  }

  #send(message: Buffer): Promise<void> {
    if (this.#line) return this.#line.channel.send(message)
    return Promise.reject(new KnownError('upstream_exited', 'the process of this session does not run'))
  }

  /** Back-pressure: a client that does not read stops the server's stdout. */
  #hold(isFull: boolean): void {
    const stdout = this.#line?.process.stdout
    if (isFull) stdout?.pause()
    else stdout?.resume()
  }

  #answer(message: Buffer, envelope: Envelope): void {
    const waiting = this.#take(envelope.id ?? 'null')
    if (!waiting) return this.#options.onDropped('no_request')
    const { method } = waiting.envelope
    if (method === 'initialize') this.#opened(waiting, envelope)
    if (method === 'tools/list') this.#options.onNames('tool', namesIn(message, 'tools'))
    if (method === 'prompts/list') this.#options.onNames('prompt', namesIn(message, 'prompts'))
    if (waiting.isClientGone) this.#options.onDropped('client_gone')
    else waiting.reply.answer(message, statusOfAnswer(envelope.error, 'legacy'))
    waiting.operation.end({ kind: 'answer', envelope })
    if (method === 'initialize' && envelope.error) this.end('refused')
  }

  #opened({ exchange }: Waiting, answer: Envelope): void {
    if (answer.error) return
    const { id, client, directory } = this.#options
    const { upstream } = exchange
    this.#session = directory.add({ id, upstream, transport: 'http', client, protocolVersion: answer.protocolVersion })
  }

  /**
   * What the server says unasked goes to the request that it belongs to where that is known (its progress token, or
   * the only one under way), else to the GET stream, else to the oldest request, else it waits for a stream.
   */
  #speak(message: Buffer, envelope: Envelope): void {
    const waiting = [...this.#waiting.values()].flat().filter((one) => !one.isClientGone)
    const owner =
      envelope.progressToken === undefined
        ? undefined
        : waiting.find((one) => one.envelope.progressToken === envelope.progressToken)
    const only = waiting.length === 1 ? waiting[0] : undefined
    const target = owner?.reply ?? only?.reply ?? this.#stream ?? waiting[0]?.reply
    if (target) return target.message(message)
    if (this.#backlog.length < maxBacklog) this.#backlog.push(message)
    else this.#options.onDropped('no_stream')
  }

  #take(id: string): Waiting | undefined {
    const queue = this.#waiting.get(id)
    const waiting = queue?.shift()
    if (queue?.length === 0) this.#waiting.delete(id)
    if (!waiting) return undefined
    this.#options.onRequest(-1)
    this.#note(-1)
    return waiting
  }

  #fail(waiting: Waiting, error: KnownError, delivered: boolean): void {
    const id = waiting.envelope.id ?? 'null'
    const queue = this.#waiting.get(id)
    if (!queue?.includes(waiting)) return
    queue.splice(queue.indexOf(waiting), 1)
    if (queue.length === 0) this.#waiting.delete(id)
    this.#options.onRequest(-1)
    this.#note(-1)
    waiting.operation.end({ kind: 'failure', error })
    if (waiting.isClientGone) return
    const { incoming, outgoing } = waiting.exchange
    const details = { delivered }
    if (outgoing.headersSent) waiting.reply.answer(Buffer.from(errorMessageFor(error, id, details)), 200)
    else replyError(incoming, outgoing, error, { id, details })
  }

  #note(pending: 1 | -1): void {
    if (!this.#session) return
    this.#session.pending = Math.max(0, this.#session.pending + pending)
    if (pending === 1) this.#session.messages += 1
    this.#options.directory.touch(this.#session)
  }
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}
