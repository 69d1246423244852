import type { BoundedSet } from '../bounded-set.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import type { Questions } from '../sessions/questions.ts'
import type { Session } from '../sessions/session.ts'
import type { UpstreamEndpoint } from '../upstreams/endpoint.ts'
import type { HttpExchange } from '../upstreams/http.ts'
import { cancellationOf } from '../wire/cancellation.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { Admission, type Claim, claimOf } from './admission.ts'
import { cancelledId, cancelledIds, isCancellable } from './cancellable.ts'
import { unreadIn } from './batch-operation.ts'
import { type Exchange, ObservedBody, dropUnread, holdWholeBytes, receiveBody, requestHeader } from './exchange.ts'
import { type ForwardDeps, forwardedHeaders, withoutLength } from './forward.ts'
import { type InventoryReader, inventoryReader } from './learn.ts'
import { type Operation, type OperationEnd, beginOperation, peeringOf, tellTraffic } from './observe.ts'
import { Relay } from './relay.ts'
import { accepted, errorMessageFor, replyError } from './replies.ts'

/** Requests of one stream that wait for their answer; more are passed on unmeasured. */
const maxPending = 1000

/** The stream of one HTTP+SSE client, as its POSTs know it. */
export interface SseStream {
  readonly upstream: string
  /** Where the server wants the client to POST. */
  readonly messages: URL
  readonly session: Session | undefined
  readonly questions: Questions
  /** Those that are not over. */
  readonly posts: Set<SsePost>
  /** Which of them an answer is for, by the raw text of the JSON-RPC id. */
  readonly pending: Map<string, SsePost>
  /** Reads the list that a pending request asked for. */
  learner: InventoryReader | undefined
  /** Whether the server is kept waiting because the client reads too slowly. */
  readonly isPaused: () => boolean
  /** Adds a message of ours. */
  readonly tell: (message: Buffer) => void
  /** What the headers of this request of the client contribute to our own messages in its session. */
  readonly lend: (exchange: Exchange) => void
}

export interface SsePostOptions {
  readonly deps: ForwardDeps
  readonly exchange: Exchange
  readonly endpoint: UpstreamEndpoint
  readonly stream: SseStream
}

/** One message of a client on its way to an HTTP+SSE server, until the answers to its requests passed on the stream. */
export class SsePost {
  readonly #options: SsePostOptions
  readonly #relay: Relay
  readonly #admission: Admission
  #envelope: Envelope | undefined
  /** Whether all of its body was seen, and with it what it asks. */
  #isRead = false
  /** What was cancelled while it waited for its turn with a body that nobody had read. */
  readonly #cancelledUnread: BoundedSet<string>
  /** Requests without an answer, by the raw text of their ids. */
  readonly #waiting = new Map<string, Operation>()
  #posted: HttpExchange | undefined
  #status = 0
  #isPosted = false
  #isOver = false

  constructor(options: SsePostOptions) {
    this.#options = options
    this.#relay = new Relay(options.exchange.outgoing)
    this.#cancelledUnread = cancelledIds(() => options.deps.instruments.countForgotten('cancellation'))
    this.#admission = new Admission(options.deps, options.exchange.upstream, options.endpoint)
  }

  /** Sends the message when it is its turn. */
  start(body: Buffer): void {
    const { exchange, stream } = this.#options
    this.#hasRead(readEnvelope(body))
    if (this.#cancelsUnsent()) return accepted(exchange)
    stream.questions.heardClient(this.#envelope)
    this.#enter(claimOf(this.#envelope), this.#envelope?.method, () => this.#send(body))
  }

  /** The same for a long one: its body passes as it comes, and is read meanwhile. */
  startLong(): void {
    const { deps, exchange } = this.#options
    const read = (envelope: Envelope | undefined) => this.#passed(envelope)
    const fail = (error: Error) => this.#bodyFailed(error)
    this.#enter('answer', undefined, () => {
      if (this.#cancelledUnread.size > 0) return this.#sendUnlessCancelled()
      this.#send(exchange.incoming.pipe(new ObservedBody(deps.maxBodyBytes, read).once('error', fail)))
    })
  }

  #enter(claim: Claim, method: string | undefined, send: () => void): void {
    const { deps, exchange, stream } = this.#options
    stream.posts.add(this)
    if (stream.session) {
      stream.session.messages += 1
      deps.directory.touch(stream.session)
    }
    exchange.outgoing.once('close', () => this.#clientGone())
    this.#admission.enter(claim, method, (refusal) => {
      this.#beginAll()
      if (refusal) this.#refuse(refusal)
      else send()
    })
  }

  #hasRead(envelope: Envelope | undefined): void {
    const { deps, exchange } = this.#options
    this.#isRead = true
    this.#envelope = envelope
    for (let left = unreadIn(envelope); left > 0; left--) deps.instruments.countUnparsed(exchange.upstream)
  }

  /** The server has got all of a long message. */
  #passed(envelope: Envelope | undefined): void {
    if (this.#isOver) return
    this.#hasRead(envelope)
    this.#cancelsUnsent()
    this.#options.stream.questions.heardClient(envelope)
    this.#admission.turnsOut(claimOf(envelope))
    this.#beginAll()
  }

  /** What was cancelled before its turn may be what its body asks for, so nothing of it is sent before it is read. */
  #sendUnlessCancelled(): void {
    const { deps, exchange } = this.#options
    const whole = (body: Buffer) => {
      if (this.#isOver) return
      const envelope = readEnvelope(body)
      const id = envelope && isCancellable(envelope) ? envelope.id : undefined
      if (id !== undefined && this.#cancelledUnread.has(id)) {
        this.#hasRead(envelope)
        return this.dropped()
      }
      this.#passed(envelope)
      this.#send(body)
    }
    this.#underWay()
    receiveBody(exchange, deps.maxBodyBytes, whole, (error) => this.#bodyFailed(error))
    exchange.incoming.resume()
  }

  #bodyFailed(error: Error): void {
    if (this.#isOver || !(error instanceof KnownError) || error.code === 'cancelled') return
    this.#posted?.abort()
    this.#refuse(error)
  }

  /** Reads a cancellation; whether the server never got what it cancels, and so need not hear of either. */
  #cancelsUnsent(): boolean {
    const { posts, pending } = this.#options.stream
    for (const message of this.#envelope?.messages ?? []) {
      const one = message && cancelledId(message)
      if (one !== undefined) pending.get(one)?.cancelled(one)
    }
    const id = this.#envelope && cancelledId(this.#envelope)
    if (id === undefined) return false
    const unsent = [...posts].findLast((post) => post.waitsToAsk(id))
    const known = unsent ?? pending.get(id)
    if (unsent) unsent.dropped()
    else if (known) known.cancelled(id)
    else for (const post of posts) post.mayBeCancelled(id)
    return unsent !== undefined
  }

  /** A request of this id was cancelled that nobody knows: it may be this one, if it waits for its turn unread. */
  mayBeCancelled(id: string): void {
    if (!this.#isRead && !this.#posted) this.#cancelledUnread.add(id)
  }

  /** Whether it is a request of this id that waits for its turn. */
  waitsToAsk(id: string): boolean {
    const asked = this.#envelope
    return !this.#posted && asked !== undefined && isCancellable(asked) && asked.id === id
  }

  /** Its client cancelled it before its turn. */
  dropped(): void {
    accepted(this.#options.exchange)
    this.#beginAll()
    this.#endAll(this.#cancellation())
    this.#over()
  }

  /** The client cancelled this request; the server should not answer it any more (MCP 2025-11-25, Cancellation). */
  cancelled(id: string): void {
    const request = this.#waiting.get(id)
    if (!request || !isCancellable(request.envelope)) return
    this.#end(id, this.#cancellation())
    this.#settle()
  }

  #cancellation(): OperationEnd {
    return { kind: 'failure', error: this.#admission.givenUp('the client cancelled the request') }
  }

  /** Whether this token is that of one of its requests. */
  owns(progressToken: string): boolean {
    return [...this.#waiting.values()].some(({ envelope }) => envelope.progressToken === progressToken)
  }

  heard(): void {
    this.#admission.heard()
  }

  answered(envelope: Envelope): void {
    const { stream, deps } = this.#options
    if (stream.session) deps.directory.answered(stream.session)
    const { method } = this.#waiting.get(envelope.id ?? '')?.envelope ?? {}
    if (method === 'initialize' && stream.session) stream.session.protocolVersion = envelope.protocolVersion
    if (method === 'tools/list' || method === 'prompts/list') stream.learner = undefined
    this.#end(envelope.id ?? '', { kind: 'answer', envelope })
    this.#settle()
  }

  /** The stream has ended, and no answer will come. */
  streamEnded(error: KnownError): void {
    if (!this.#posted || !this.#isRead) {
      this.#posted?.abort()
      this.#beginAll()
      return this.#fail(new KnownError('session_not_found', 'the stream has ended', { cause: error }))
    }
    const failure = error.code === 'cancelled' ? this.#admission.givenUp(error.message) : error
    for (const id of this.#waiting.keys()) this.#end(id, { kind: 'failure', error: failure })
    this.#settle()
  }

  #underWay(): void {
    const { deps, exchange, stream } = this.#options
    this.#admission.sent({
      // A client that is slow to send, to read or to answer is not the server's fault.
      isExcused: () =>
        this.#relay.isPaused || !exchange.incoming.complete || stream.isPaused() || stream.questions.isOpen,
      onOverdue: (error) => this.#overdue(error),
      onSilent: (leftMs) => deps.lookForLife(exchange.upstream, leftMs),
    })
  }

  #send(body: Buffer | ObservedBody): void {
    const { deps, exchange, endpoint } = this.#options
    const relay = this.#relay
    this.#underWay()
    const isShort = Buffer.isBuffer(body) && body.length <= holdWholeBytes
    const sent = isShort ? (this.#waiting.get(this.#envelope?.id ?? '')?.traced(body) ?? body) : body
    const passed = forwardedHeaders(deps, exchange, endpoint)
    const headers = sent === body ? passed : withoutLength(passed)
    this.#posted = endpoint.send(
      { method: 'POST', path: this.#path(), headers, body: sent },
      {
        onStart: (answered) => {
          const head = deps.protectedResources?.asPublic(answered, exchange.upstream, 'sse', endpoint) ?? answered
          this.#status = head.status
          this.#admission.heard()
          relay.start(head)
          if (head.status >= 400) this.#endAll({ kind: 'status', status: head.status })
        },
        onData: (chunk) => {
          this.#admission.heard()
          relay.data(chunk)
        },
        onEnd: () => {
          relay.end()
          this.#isPosted = true
          this.#settle()
        },
        onError: (error) => this.#fail(error),
      },
    )
    relay.attach(this.#posted)
  }

  #path(): string {
    const { messages } = this.#options.stream
    return messages.pathname + messages.search
  }

  #beginAll(): void {
    for (const request of this.#envelope?.messages ?? [this.#envelope]) if (request) this.#begin(request)
  }

  /** An id that is in use already cannot be told apart in the answers, so its second request goes unmeasured. */
  #begin(envelope: Envelope): void {
    const { deps, exchange, endpoint, stream } = this.#options
    const { kind, id, method } = envelope
    if (kind !== 'request' || id === undefined) return
    if (stream.pending.has(id) || stream.pending.size >= maxPending) {
      return deps.instruments.countUnparsed(exchange.upstream)
    }
    stream.pending.set(id, this)
    if (stream.session) stream.session.pending += 1
    const operation = beginOperation(deps, {
      peering: peeringOf(exchange.upstream, endpoint),
      envelope,
      protocolVersion: envelope.protocolVersion ?? stream.session?.protocolVersion,
      sessionId: stream.session?.key,
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs: exchange.arrivedAtMs,
    })
    this.#waiting.set(id, operation)
    if (method !== 'tools/list' && method !== 'prompts/list') return
    const { labels } = deps.instruments
    const named = method === 'tools/list' ? 'tool' : 'prompt'
    stream.learner = inventoryReader('events', method, (names) => labels.admit(exchange.upstream, named, names))
  }

  #refuse(error: KnownError): void {
    this.#options.deps.instruments.countRejected(error.code)
    this.#fail(error)
  }

  #fail(error: KnownError): void {
    this.#reply(error)
    this.#endAll({ kind: 'failure', error })
    this.#over()
  }

  /** What was accepted is answered on the stream, and so is its error. */
  #overdue(error: KnownError): void {
    const isAccepted = this.#status >= 200 && this.#status < 300
    if (!this.#isPosted) {
      this.#posted?.abort()
      this.#reply(error)
    }
    for (const [id, { envelope }] of this.#waiting) {
      if (isAccepted) this.#options.stream.tell(Buffer.from(errorMessageFor(error, id)))
      // Which must not be cancelled (MCP 2025-11-25, Cancellation).
      if (envelope.method !== 'initialize') this.#giveUp(id, error.message)
    }
    this.#endAll({ kind: 'failure', error })
    this.#over()
  }

  /** Tells the server that nobody waits any more; it need not hear it. */
  #giveUp(id: string, reason: string): void {
    const { deps, exchange, endpoint } = this.#options
    const body = cancellationOf(id, reason)
    const headers = withoutLength(forwardedHeaders(deps, exchange, endpoint))
    const done = () => timer.cancel()
    const sent = endpoint.send(
      { method: 'POST', path: this.#path(), headers, body },
      { onStart: () => undefined, onData: () => undefined, onEnd: done, onError: done },
    )
    const timer = deps.clock.after(defaults.http.cancellationMs, () => sent.abort())
  }

  /** What the server has got whole is answered on the stream, whether or not its POST is read. */
  #clientGone(): void {
    if (this.#posted && this.#isRead) return this.#posted.resume()
    if (this.#isOver) return
    this.#posted?.abort()
    this.#beginAll()
    this.#endAll({ kind: 'failure', error: new KnownError('cancelled', 'the client closed the connection') })
    this.#over()
  }

  #reply(error: KnownError): void {
    const { incoming, outgoing } = this.#options.exchange
    const id = this.#envelope?.kind === 'request' ? this.#envelope.id : undefined
    replyError(incoming, outgoing, error, { id })
  }

  #end(id: string, end: OperationEnd): void {
    const { session, pending } = this.#options.stream
    const operation = this.#waiting.get(id)
    if (!operation) return
    this.#waiting.delete(id)
    pending.delete(id)
    if (session) session.pending -= 1
    operation.end(end)
  }

  #endAll(end: OperationEnd): void {
    const { deps, exchange } = this.#options
    if (this.#waiting.size === 0) return tellTraffic(deps.traffic, exchange, end)
    for (const id of this.#waiting.keys()) this.#end(id, end)
  }

  /** The place is the next one's as soon as all is answered, though the POST itself may last. */
  #settle(): void {
    if (this.#waiting.size > 0) return
    if (this.#isPosted) this.#over()
    else this.#admission.turnsOut('delivery')
  }

  #over(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#admission.over()
    this.#options.stream.posts.delete(this)
    dropUnread(this.#options.exchange)
  }
}
