import { KnownError, UnsupportedVersion, errorMessage } from '../errors.ts'
import { PassingMap } from '../passing-map.ts'
import type { Channel } from '../upstreams/channel.ts'
import type { Life } from '../upstreams/link.ts'
import type { Limited } from '../upstreams/queue.ts'
import { ToolHeaders } from '../upstreams/tool-headers.ts'
import { cancellationOf } from '../wire/cancellation.ts'
import { isWholeClaim } from '../wire/claim.ts'
import { type Envelope, edits, splice, textAt } from '../wire/envelope.ts'
import { statusOfAnswer } from '../wire/era.ts'
import { entriesIn, namesIn, namesOf } from '../wire/lists.ts'
import { AbandonedRequests } from './abandoned-requests.ts'
import { Admission, type AdmissionDeps, claimOf, deliver } from './admission.ts'
import { type Exchange, onGone, requestHeader, versionOf } from './exchange.ts'
import { type ObserveDeps, type Operation, type OperationEnd, type Peering, beginOperation } from './observe.ts'
import { type LifeDeps, LifeWatch, type LifeWatchOptions } from './life-watch.ts'
import { ReplyStream } from './reply-stream.ts'
import { accepted } from './replies.ts'
import type { Streams } from './streams.ts'

export interface ModernBridgeDeps extends ObserveDeps, AdmissionDeps, Pick<LifeDeps, 'cpuOf'> {
  readonly streams: Streams
}

/** The server that a bridge leads to. */
export interface ModernServer {
  readonly peering: Peering
  readonly limits: Limited
  readonly lines: SharedLines
  /** What it may be asked while it owes an answer. */
  readonly question: LifeWatchOptions['question']
}

/** An opened connection that no client owns: the resident process, or one that is ours to an HTTP+SSE server. */
export interface SharedLine extends Life {
  readonly channel: Channel
  /** The revisions that the server itself named when it was opened, if it was asked. */
  readonly supportedVersions?: readonly string[] | undefined
}

/** Where such connections come from; each is given back after the request, also when it could not be had. */
export interface SharedLines {
  /** At once where it is open already. */
  borrow(exchange: Exchange): SharedLine | Promise<SharedLine>
  release(line: SharedLine | undefined): void
  /** Whether they go on behind a request, with what the server still does for it. */
  readonly isLasting: boolean
}

interface Waiting {
  readonly exchange: Exchange
  readonly body: Buffer
  readonly envelope: Envelope
  readonly reply: ReplyStream
  readonly admission: Admission
  /** Measured from its turn on. */
  operation: Operation | undefined
  line: SharedLine | undefined
  /** Once the server was asked: our own id, as raw JSON text. */
  id: string | undefined
  isOver: boolean
}

/**
 * What one client may leave unread: the process serves others too, so it is not made to wait for the slowest of them;
 * a client further behind than this is cut off.
 */
const maxUnreadBytes = 16 * 1024 * 1024

/**
 * The requests of all modern clients of one server that needs an opening exchange, on connections that we opened. They
 * know no session, so their ids, progress tokens and subscription ids become ours on the way in and theirs again on the
 * way out: two clients that both use id 1 never meet. Everything else in a message stays byte for byte.
 */
export class ModernBridge {
  readonly #deps: ModernBridgeDeps
  readonly #peering: Peering
  readonly #limits: Limited
  readonly #lines: SharedLines
  /** What the server was asked, by our own id. */
  readonly #waiting = new PassingMap<string, Waiting>()
  readonly #question: LifeWatchOptions['question']
  readonly #lives = new WeakMap<SharedLine, LifeWatch>()
  readonly #abandoned: AbandonedRequests<SharedLine>
  readonly #toolHeaders: ToolHeaders
  #lastId = 0
  #ended: KnownError | undefined

  constructor(deps: ModernBridgeDeps, { peering, limits, lines, question }: ModernServer) {
    this.#deps = deps
    this.#peering = peering
    this.#limits = limits
    this.#lines = lines
    this.#question = question
    const { clock, instruments } = deps
    this.#toolHeaders = new ToolHeaders(() => instruments.countForgotten('tool'))
    const onForgotten = () => instruments.countForgotten('request')
    this.#abandoned = new AbandonedRequests({ clock, lastingMs: limits.limits.requestTimeoutMs, onForgotten })
  }

  /**
   * Rejects when what nothing answers could not be passed on. Throws where headers contradict the arguments of a call,
   * which the server behind a bridge cannot see.
   */
  handle(exchange: Exchange, body: Buffer, envelope: Envelope): Promise<void> | void {
    if (envelope.kind !== 'request') return this.#tell(exchange, body, envelope)
    const mismatch = this.#toolHeaders.mismatch(body, envelope, (name) => requestHeader(exchange, name))
    if (mismatch !== undefined) throw new KnownError('header_mismatch', mismatch)
    const { streams } = this.#deps
    // From a 4xx to this one clients learn the era of the server (MCP 2026-07-28, Lifecycle).
    const mayBeginEarly = envelope.method !== 'server/discover'
    const waiting: Waiting = {
      exchange,
      body,
      envelope,
      reply: new ReplyStream({ exchange, transport: 'http', streams, mayBeginEarly, pressure: () => undefined }),
      admission: this.#admission(),
      operation: undefined,
      line: undefined,
      id: undefined,
      isOver: false,
    }
    // In the modern era the end of the client's connection is the cancellation.
    waiting.reply.onGone(() => this.#cancel(waiting))
    if (waiting.isOver) return
    waiting.admission.enter(claimOf(envelope), envelope.method, (refusal) => {
      if (refusal) this.#refuse(waiting, refusal)
      else this.#serve(waiting)
    })
  }

  #refuse(waiting: Waiting, error: KnownError): void {
    this.#deps.instruments.countRejected(error.code)
    this.#fail(waiting, error)
  }

  #serve(waiting: Waiting): void {
    const { exchange } = waiting
    waiting.operation = this.#measure(waiting)
    waiting.admission.sent({
      isExcused: () => exchange.outgoing.writableNeedDrain,
      onOverdue: (error) => this.#overdue(waiting, error),
      onSilent: (leftMs) => (waiting.line ? this.#lifeOf(waiting.line).look(leftMs) : () => false),
    })
    const line = this.#lines.borrow(exchange)
    if (!(line instanceof Promise)) return this.#serveOn(line, waiting)
    const unopened = (error: unknown) => {
      this.#lines.release(undefined)
      this.#fail(waiting, known(error))
    }
    line.then((opened) => this.#serveOn(opened, waiting), unopened)
  }

  #serveOn(line: SharedLine, waiting: Waiting): void {
    const unserved = unsupportedBy(line, waiting.envelope) ?? line.channel.refusal?.()
    if (this.#ended) this.#fail(waiting, this.#ended)
    else if (unserved) this.#refuse(waiting, unserved)
    if (waiting.isOver) this.#lines.release(line)
    else this.#ask(waiting, line)
  }

  /** Requests that the server may be at work on, whether or not somebody still waits. */
  atWork(): number {
    return this.#waiting.size + this.#abandoned.owners().length
  }

  /** True when the message belongs to a request of a client. */
  hear(message: Buffer, envelope: Envelope): boolean {
    if (envelope.kind === 'response') return this.#answer(message, envelope)
    if (envelope.kind !== 'notification') return false
    const key = envelope.progressToken ?? envelope.subscriptionId ?? envelope.requestId
    if (key === undefined && envelope.method !== 'notifications/message') return false
    const loggers = key === undefined ? this.#loggers() : []
    const waiting = key === undefined ? this.#onlyCause(loggers) : this.#waiting.get(key)
    if (!waiting) {
      const isMissed = key !== undefined || loggers.length > 0
      if (isMissed) this.#deps.instruments.countDropped(this.#peering.upstream, 'no_request')
      return key !== undefined
    }
    waiting.admission.heard()
    waiting.reply.message(translate(message, envelope, waiting))
    if (waiting.reply.unreadBytes > maxUnreadBytes) waiting.reply.cut()
    return key !== undefined
  }

  /** The process or connection is gone: every request on it gets its one error. */
  lost(line: SharedLine, error: KnownError): void {
    this.#abandoned.lost(line)
    for (const waiting of this.#waiting.values()) {
      if (waiting.line !== line) continue
      this.#fail(waiting, error)
    }
  }

  /** The server is let go: every request to it gets its one error. */
  end(error: KnownError): void {
    this.#ended = error
    for (const waiting of this.#waiting.values()) this.#fail(waiting, error)
  }

  #lifeOf(line: SharedLine): LifeWatch {
    const known = this.#lives.get(line)
    if (known) return known
    const { clock, cpuOf } = this.#deps
    const onAnswered = () => {
      for (const waiting of this.#waiting.values()) if (waiting.line === line) waiting.admission.heard()
    }
    const made = new LifeWatch({ clock, cpuOf, question: this.#question, life: () => line, onAnswered })
    this.#lives.set(line, made)
    return made
  }

  #ask(waiting: Waiting, line: SharedLine): void {
    const { body, envelope } = waiting
    this.#lastId += 1
    const id = `"vitals+${this.#lastId}"`
    waiting.line = line
    waiting.id = id
    this.#waiting.set(id, waiting)
    const { ranges } = envelope
    const message = splice(body, edits([ranges.id, id], [ranges.progressToken, id]))
    waiting.reply.asked()
    line.channel
      .send(waiting.operation?.traced(message) ?? message, {})
      .catch((error: unknown) => this.#fail(waiting, sessionless(known(error)), false))
  }

  /** `delivered` says whether the server got the request. */
  #fail(waiting: Waiting, error: KnownError, delivered = waiting.id !== undefined): void {
    if (!this.#end(waiting, { kind: 'failure', error })) return
    waiting.reply.fail(error, waiting.envelope.id, { delivered })
  }

  #overdue(waiting: Waiting, error: KnownError): void {
    this.#stop(waiting, error.message)
    this.#fail(waiting, error)
  }

  #cancel(waiting: Waiting): void {
    if (waiting.isOver) return
    this.#stop(waiting, 'the client closed the connection')
    this.#end(waiting, { kind: 'failure', error: waiting.admission.givenUp('the client closed the connection') })
  }

  /** Tells the server that nobody waits any more. */
  #stop({ id, line, envelope }: Waiting, reason: string): void {
    if (id === undefined || !line) return
    if (this.#lines.isLasting && claimOf(envelope) !== 'stream') this.#abandoned.add(id, line)
    line.channel.send(cancellationOf(id, reason), {}).catch(() => undefined) // The connection is gone, and the request with it.
  }

  /** Gives everything back; false when that was done already. */
  #end(waiting: Waiting, end: OperationEnd): boolean {
    if (waiting.isOver) return false
    waiting.isOver = true
    waiting.admission.over()
    if (waiting.id !== undefined) {
      this.#waiting.delete(waiting.id)
      this.#lines.release(waiting.line)
    }
    // What was refused or given up before its turn is measured too.
    waiting.operation ??= this.#measure(waiting)
    waiting.operation.end(end)
    return true
  }

  #answer(message: Buffer, envelope: Envelope): boolean {
    const id = envelope.id ?? ''
    this.#abandoned.answered(id)
    const waiting = this.#waiting.get(id)
    if (!waiting) {
      if (id.startsWith('"vitals+')) this.#deps.instruments.countDropped(this.#peering.upstream, 'no_request')
      return id.startsWith('"vitals+')
    }
    if (envelope.unfit !== undefined) {
      this.#fail(waiting, new KnownError('upstream_invalid', envelope.unfit))
      return true
    }
    this.#learn(message, waiting.envelope)
    waiting.reply.answer(translate(message, envelope, waiting), statusOf(envelope, waiting.body))
    this.#end(waiting, { kind: 'answer', envelope })
    return true
  }

  #learn(answer: Buffer, { method }: Envelope): void {
    const { labels } = this.#deps.instruments
    if (method === 'prompts/list') labels.admit(this.#peering.upstream, 'prompt', namesIn(answer, 'prompts'))
    if (method !== 'tools/list') return
    const tools = entriesIn(answer, 'tools')
    labels.admit(this.#peering.upstream, 'tool', namesOf(tools))
    this.#toolHeaders.learn(tools)
  }

  /** The requests of which a log message may be; a subscription causes none. */
  #loggers(): readonly Waiting[] {
    return [...this.#waiting.values()].filter(({ envelope }) => claimOf(envelope) !== 'stream')
  }

  /**
   * A log message names no request, so it can only be attributed while there is a single one that may cause it, and one
   * that its client gave up may, too. Whatever else names none belongs to no client: changes are told to subscriptions
   * (MCP 2026-07-28), or were caused by our own handshake.
   */
  #onlyCause(loggers: readonly Waiting[]): Waiting | undefined {
    return loggers.length === 1 && this.#abandoned.owners().length === 0 ? loggers[0] : undefined
  }

  /**
   * A client's notification. One that names a request of its own by id is not passed on: in this era the connection's
   * end cancels, and the id could be another client's.
   */
  async #tell(exchange: Exchange, body: Buffer, envelope: Envelope): Promise<void> {
    if (envelope.requestId === undefined && envelope.kind === 'notification') {
      const admission = this.#admission()
      onGone(exchange, () => admission.abandon())
      await deliver(admission, () => this.#pass(exchange, body))
    }
    accepted(exchange)
  }

  async #pass(exchange: Exchange, body: Buffer): Promise<void> {
    let line: SharedLine | undefined
    try {
      line = await this.#lines.borrow(exchange)
      const refusal = line.channel.refusal?.()
      if (refusal) throw refusal
      await line.channel.send(body, {})
    } finally {
      this.#lines.release(line)
    }
  }

  #admission(): Admission {
    return new Admission(this.#deps, this.#peering.upstream, this.#limits)
  }

  #measure({ exchange, envelope }: Waiting): Operation {
    return beginOperation(this.#deps, {
      peering: this.#peering,
      envelope,
      protocolVersion: versionOf(exchange, envelope),
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs: exchange.arrivedAtMs,
    })
  }
}

const invalidParams = -32602

/**
 * Wrong arguments are the business of the tool and an answer like any other; a request that lacks what every request
 * has to say is refused by HTTP, too (MCP 2026-07-28, Streamable HTTP).
 */
function statusOf({ error }: Envelope, request: Buffer): number {
  if (error?.code === invalidParams && !isWholeClaim(request)) return 400
  return statusOfAnswer(error, 'modern')
}

/**
 * The refusal of a revision that the server does not serve, in its place: over stdio a server of SDK v2 looks at the
 * revision in the first message alone, which was ours (MCP 2026-07-28, Lifecycle, "Protocol Version Negotiation").
 */
function unsupportedBy({ supportedVersions }: SharedLine, { metaProtocolVersion }: Envelope): KnownError | undefined {
  if (!supportedVersions || metaProtocolVersion === undefined) return undefined
  if (supportedVersions.includes(metaProtocolVersion)) return undefined
  return new UnsupportedVersion(metaProtocolVersion, supportedVersions)
}

/** A client of this era has no session that it could open anew, and takes 404 for a method that does not exist. */
function sessionless(error: KnownError): KnownError {
  return error.code === 'upstream_session_gone' ? new KnownError('upstream_http_error', error.message) : error
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}

/** Our ids back into the client's own, as it wrote them. */
function translate(message: Buffer, { kind, ranges }: Envelope, { body, envelope: request }: Waiting): Buffer {
  const { id, progressToken, subscriptionId, requestId } = ranges
  const own = textAt(body, request.ranges.id) ?? 'null'
  if (kind === 'response') return splice(message, edits([id, own], [subscriptionId, own]))
  const ownToken = textAt(body, request.ranges.progressToken) ?? own
  return splice(message, edits([progressToken, ownToken], [subscriptionId, own], [requestId, own]))
}
