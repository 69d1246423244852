import type { IncomingMessage } from 'node:http'
import { KnownError } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import type { Session } from '../sessions/session.ts'
import { insideSession } from '../upstreams/borrowed-channel.ts'
import type { Endpoint, UpstreamEndpoint } from '../upstreams/endpoint.ts'
import type { HttpExchange, ResponseHead } from '../upstreams/http.ts'
import { readMemory } from '../upstreams/read-memory.ts'
import type { StreamEnd } from '../telemetry/instruments.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { sseEvent } from '../wire/sse.ts'
import { ContentDecoder } from '../wire/content-decoder.ts'
import { endToEndHeaders, headerNames, headerValue, isEventStream, isJson } from '../wire/headers.ts'
import { bridgedHeaders } from './bridged-headers.ts'
import type { BorrowedSessions } from './borrowed-session.ts'
import type { ClientPeers, ListeningStream } from './client-peers.ts'
import { Admission, type AdmissionDeps, type Claim, claimOf } from './admission.ts'
import {
  type Exchange,
  ObservedBody,
  clientOf,
  declaredBytes,
  dropUnread,
  holdWholeBytes,
  receive,
  receiveBody,
  requestHeader,
  searchOf,
  sessionIdOf,
} from './exchange.ts'
import { BatchOperation, unreadIn } from './batch-operation.ts'
import { type Cancellable, type CancellableRequests, type UnreadPost, isCancellable } from './cancellable.ts'
import { type InventoryReader, inventoryReader } from './learn.ts'
import {
  BodyObserver,
  type ObserveDeps,
  type Operation,
  type OperationEnd,
  beginOperation,
  peeringOf,
  tellTraffic,
} from './observe.ts'
import type { ProtectedResources } from './protected-resources.ts'
import { Relay } from './relay.ts'
import { accepted, replyError } from './replies.ts'
import { ReplyStream } from './reply-stream.ts'
import type { OpenStream, Streams } from './streams.ts'

export interface ForwardDeps extends ObserveDeps, AdmissionDeps {
  readonly directory: SessionDirectory
  readonly streams: Streams
  readonly maxBodyBytes: number
  readonly borrowedSessions: BorrowedSessions
  readonly clientPeers: ClientPeers
  readonly cancellable: CancellableRequests
  /**
   * Has the server asked on our own connection, to be answered within the time given; what is given tells whether it has
   * answered since.
   */
  readonly lookForLife: (upstream: string, leftMs: number) => () => boolean
  /** Whether the listener's own bearer token came in `Authorization`, which is then ours and goes no further. */
  readonly ownsAuthorization: boolean
  /** In front of our paths where clients reach us below another one: `/vitals`, or nothing. */
  readonly publicPath: string
  /** Undefined when we do not know the address by which clients reach us. */
  readonly protectedResources?: ProtectedResources | undefined
}

/** The headers of the request as the upstream gets them. */
export function forwardedHeaders(deps: ForwardDeps, exchange: Exchange, endpoint: Endpoint): string[] {
  const drop = deps.ownsAuthorization ? new Set(endpoint.replaced).add('authorization') : endpoint.replaced
  const headers = endToEndHeaders(exchange.incoming.rawHeaders, { drop })
  for (const [name, value] of endpoint.headers) headers.push(name, value)
  return headers
}

/** Where clients POST to a session over HTTP+SSE, as they see our address. */
export function messagesPath({ publicPath }: ForwardDeps, upstream: string, session: string): string {
  return `${publicPath}/${upstream}/messages?session_id=${session}`
}

/** For a body that is not the client's; undici knows its length. */
export function withoutLength(headers: readonly string[]): string[] {
  return headers.filter((_part, index) => headers[index - (index % 2)]?.toLowerCase() !== 'content-length')
}

/** The endpoint's path and query with the client's query behind them. */
export function forwardedPath(exchange: Exchange, { url }: Endpoint): string {
  const query = searchOf(exchange)
  return url.pathname + (url.search === '' ? query : url.search + query.replace('?', '&'))
}

/**
 * Streamable HTTP to Streamable HTTP, both eras: method, query, headers, body and answer pass as they are; what we
 * want to know is read on the side.
 */
export function forward(deps: ForwardDeps, exchange: Exchange, endpoint: UpstreamEndpoint): void {
  const { incoming, outgoing } = exchange
  const refuse = (error: KnownError) => {
    if (error.code === 'cancelled') return
    deps.instruments.countRejected(error.code)
    replyError(incoming, outgoing, error)
  }
  const whole = (body: Buffer) => forwardWhole(deps, exchange, endpoint, body)
  const long = () => forwardLong(deps, exchange, endpoint)
  receive(exchange, deps.maxBodyBytes, { whole, long, fail: refuse })
}

function forwardWhole(deps: ForwardDeps, exchange: Exchange, endpoint: UpstreamEndpoint, body: Buffer): void {
  const { incoming } = exchange
  const isEmpty = body.length === 0
  const envelope = isEmpty ? undefined : readEnvelope(body)
  if (envelope?.kind === 'response' && isForUs(deps, exchange, body, envelope)) return accepted(exchange)
  if (deps.cancellable.heard(exchange, envelope)) return accepted(exchange)
  const passage = new Passage(deps, exchange, endpoint)
  const claim = incoming.method === 'POST' ? claimOf(envelope) : claimBefore(incoming)
  passage.expectCancellation(envelope)
  passage.enter(claim, envelope?.method, (refusal) => {
    // Only now, so that the time in the queue does not count as the server's.
    if (!isEmpty) passage.requestRead(envelope)
    if (refusal) passage.refuse(refusal)
    else passage.send(isEmpty ? null : body)
  })
}

/** The body passes as it comes, and is read meanwhile. */
function forwardLong(deps: ForwardDeps, exchange: Exchange, endpoint: UpstreamEndpoint): void {
  const { incoming } = exchange
  const session = sessionOf(deps, exchange)
  if (session && declaredBytes(exchange) === undefined) deps.clientPeers.passesUnread(session)
  const passage = new Passage(deps, exchange, endpoint)
  const read = (envelope: Envelope | undefined) => {
    deps.cancellable.heard(exchange, envelope)
    passage.expectCancellation(envelope)
    passage.requestRead(envelope)
  }
  const fail = (error: Error) => {
    if (error instanceof KnownError && error.code !== 'cancelled') passage.refuse(error)
  }
  passage.waitUnread()
  passage.enter(claimBefore(incoming), requestHeader(exchange, headerNames.method), (refusal) => {
    if (refusal) return passage.refuse(refusal)
    if (passage.mayBeCancelled()) return passage.sendUnlessCancelled(read, fail)
    passage.send(incoming.pipe(new ObservedBody(deps.maxBodyBytes, read).once('error', fail)))
  })
}

/** Whether the client answers a request of ours. */
function isForUs(deps: ForwardDeps, exchange: Exchange, body: Buffer, answer: Envelope): boolean {
  const session = sessionOf(deps, exchange)
  return session !== undefined && deps.clientPeers.takeAnswer(session, body, answer)
}

function sessionOf({ directory }: ForwardDeps, exchange: Exchange): Session | undefined {
  const id = sessionIdOf(exchange)
  return id === undefined ? undefined : directory.get(exchange.upstream, id)
}

/** What is claimed before the body is known: a GET is a stream for what the server says unasked. */
function claimBefore({ method }: IncomingMessage): Claim {
  if (method === 'GET') return 'stream'
  return method === 'POST' ? 'answer' : 'delivery'
}

/** What is known of an answer that we cannot read: that there was one. */
const unreadAnswer: Envelope = { kind: 'response', ranges: {} }

/** One request on its way to the upstream and its answer on the way back. */
class Passage implements Cancellable {
  readonly #deps: ForwardDeps
  readonly #exchange: Exchange
  readonly #endpoint: UpstreamEndpoint
  readonly #relay: Relay
  readonly #admission: Admission
  #session: Session | undefined
  /** What its client may cancel. */
  #cancellable: Envelope | undefined
  /** While it waits for its turn with a body that nobody has read. */
  #unread: UnreadPost | undefined
  #request: Envelope | undefined
  #answer: Envelope | undefined
  #newSession: Session | undefined
  #operation: Operation | undefined
  /** The same if it is that of a batch. */
  #batch: BatchOperation | undefined
  /** Requests that were measured as part of the session. */
  #asked = 0
  #observer: BodyObserver | undefined
  #learn: InventoryReader | undefined
  #upstream: HttpExchange | undefined
  #stream: OpenStream | undefined
  #listening: ListeningStream | undefined
  #status = 0
  /** Of an encoded answer. */
  #decoder: ContentDecoder | undefined
  #isWhole = false
  #isUnread = false
  /** Its requests are answered or cancelled; its stream may go on. */
  #isSettled = false
  #over = false

  constructor(deps: ForwardDeps, exchange: Exchange, endpoint: UpstreamEndpoint) {
    this.#deps = deps
    this.#exchange = exchange
    this.#endpoint = endpoint
    this.#relay = new Relay(exchange.outgoing)
    this.#admission = new Admission(deps, exchange.upstream, endpoint)
    const session = sessionOf(deps, exchange)
    if (session) this.#enterSession(session)
  }

  /** Calls `go` when it is the message's turn, or with the reason why that will not come. */
  enter(claim: Claim, method: string | undefined, go: (refusal?: KnownError) => void): void {
    this.#exchange.outgoing.once('close', () => this.#clientGone())
    this.#admission.enter(claim, method, go)
  }

  /** What its session cancels before its turn may be what its body asks for. */
  waitUnread(): void {
    if (this.#exchange.incoming.method === 'POST') this.#unread = this.#deps.cancellable.waitsUnread(this.#exchange)
  }

  /** Its turn has come: whether it has to be read whole before anything of it is sent. */
  mayBeCancelled(): boolean {
    const mayBe = this.#unread !== undefined && this.#unread.cancelled.size > 0
    if (!mayBe) this.#unread?.stop()
    return mayBe
  }

  sendUnlessCancelled(read: (envelope: Envelope | undefined) => void, fail: (error: KnownError) => void): void {
    const whole = (body: Buffer) => {
      if (this.#over) return
      this.#unread?.stop()
      const envelope = readEnvelope(body)
      if (envelope && this.#wasCancelled(envelope)) return this.#drop(envelope)
      read(envelope)
      this.send(body)
    }
    // Its deadlines begin as they do for a body that passes as it comes.
    this.#underWay()
    receiveBody(this.#exchange, this.#deps.maxBodyBytes, whole, fail)
    this.#exchange.incoming.resume()
  }

  #wasCancelled(message: Envelope): boolean {
    return message.id !== undefined && isCancellable(message) && this.#unread?.cancelled.has(message.id) === true
  }

  /** From now on, waiting for its turn or under way. */
  expectCancellation(envelope: Envelope | undefined): void {
    this.#cancellable = envelope
    this.#deps.cancellable.add(this.#exchange, envelope, this)
  }

  /**
   * The server should not answer it any more (MCP 2025-11-25, Cancellation), and many leave its stream open all the
   * same: that is for client and server to end.
   */
  cancel(id: string): boolean {
    if (this.#upstream) this.#settle(id, this.#cancellation())
    // The rest of a batch is wanted all the same.
    else if (this.#cancellable?.kind === 'request') {
      this.#drop(this.#cancellable)
      return true
    }
    return false
  }

  /** The server never gets it. */
  #drop(request: Envelope): void {
    const { streams } = this.#deps
    const exchange = this.#exchange
    this.requestRead(request)
    new ReplyStream({ exchange, transport: 'http', streams, pressure: () => undefined }).end()
    this.#finish(this.#cancellation(), 'upstream_ended')
  }

  #cancellation(): OperationEnd {
    return { kind: 'failure', error: this.#admission.givenUp('the client cancelled the request') }
  }

  requestRead(envelope: Envelope | undefined): void {
    if (this.#exchange.incoming.method === 'POST') this.#countUnread(envelope)
    if (!envelope) return
    this.#request = envelope
    this.#session?.questions.heardClient(envelope)
    this.#admission.turnsOut(claimOf(envelope))
    if (this.#over) return
    if (envelope.kind === 'request') this.#operation = this.#begin(envelope)
    if (envelope.kind === 'batch') this.#beginBatch(envelope)
    this.#asked = this.#batch?.size ?? (this.#operation ? 1 : 0)
    if (this.#session) this.#session.pending += this.#asked
  }

  #beginBatch(envelope: Envelope): void {
    const batch = new BatchOperation(envelope, (request) => this.#begin(request))
    if (batch.size === 0) return
    this.#batch = batch
    this.#operation = batch
  }

  #countUnread(message: Envelope | undefined): void {
    const { instruments } = this.#deps
    for (let left = unreadIn(message); left > 0; left--) instruments.countUnparsed(this.#exchange.upstream)
  }

  #begin(envelope: Envelope): Operation {
    const { upstream, arrivedAtMs } = this.#exchange
    return beginOperation(this.#deps, {
      peering: peeringOf(upstream, this.#endpoint),
      envelope,
      protocolVersion:
        requestHeader(this.#exchange, headerNames.protocolVersion) ??
        envelope.protocolVersion ??
        this.#session?.protocolVersion,
      sessionId: this.#session?.key,
      httpTraceparent: requestHeader(this.#exchange, 'traceparent'),
      httpTracestate: requestHeader(this.#exchange, 'tracestate'),
      arrivedAtMs,
    })
  }

  send(body: Buffer | ObservedBody | null): void {
    const { incoming } = this.#exchange
    this.#underWay()
    const isShort = Buffer.isBuffer(body) && body.length <= holdWholeBytes
    const sent = isShort ? (this.#operation?.traced(body) ?? body) : body
    const passed = forwardedHeaders(this.#deps, this.#exchange, this.#endpoint)
    const headers = sent === body ? passed : withoutLength(passed)
    this.#upstream = this.#endpoint.send(
      {
        method: incoming.method ?? 'POST',
        path: forwardedPath(this.#exchange, this.#endpoint),
        headers,
        body: sent,
      },
      {
        onStart: (head) => this.#responseStart(head),
        onData: (chunk) => this.#responseData(chunk),
        onEnd: () => this.#responseEnd(),
        onError: (error) => this.#fail(error, 'upstream_error'),
      },
    )
    this.#relay.attach(this.#upstream)
  }

  #underWay(): void {
    this.#admission.sent({
      // A client that is slow to send, to read or to answer is not the server's fault.
      isExcused: () =>
        this.#relay.isPaused || !this.#exchange.incoming.complete || this.#session?.questions.isOpen === true,
      onOverdue: (error) => this.#overdue(error),
      onSilent: (leftMs) => this.#deps.lookForLife(this.#exchange.upstream, leftMs),
    })
  }

  /** What is left of a stream whose request is over ends as if the server had ended it. */
  #overdue(error: KnownError): void {
    this.#upstream?.abort()
    if (!this.#isSettled || !this.#exchange.outgoing.headersSent) return this.#fail(error, 'stalled')
    this.#relay.end()
    this.#finish({ kind: 'failure', error }, 'stalled')
  }

  /** An answer of ours instead of the upstream's, and nothing of the request may arrive there any more. */
  refuse(error: KnownError): void {
    if (this.#over) return
    this.#deps.instruments.countRejected(error.code)
    this.#upstream?.abort()
    this.#reply(error)
    this.#finish({ kind: 'failure', error }, 'upstream_error')
  }

  #responseStart(answered: ResponseHead): void {
    const { protectedResources } = this.#deps
    const head = protectedResources?.asPublic(answered, this.#exchange.upstream, 'mcp', this.#endpoint) ?? answered
    const { status, rawHeaders } = head
    this.#status = status
    this.#admission.heard()
    this.#noteSession(status, rawHeaders)
    const contentType = headerValue(rawHeaders, 'content-type')
    const coding = headerValue(rawHeaders, 'content-encoding') ?? 'identity'
    if (coding.toLowerCase() !== 'identity') this.#decodes(coding)
    if (isEventStream(contentType)) this.#openStream(headerValue(rawHeaders, 'content-length') !== undefined)
    else if (isJson(contentType)) this.#observe('json')
    this.#relay.start(head)
  }

  #openStream(hasLength: boolean): void {
    this.#observe('events')
    const { outgoing, upstream, incoming } = this.#exchange
    const canAdd = !this.#decoder && !hasLength && incoming.method !== 'HEAD'
    const isBetweenEvents = canAdd ? () => this.#observer?.isBetweenEvents === true : undefined
    this.#stream = this.#deps.streams.open({ upstream, transport: 'http', outgoing, isBetweenEvents })
    if (incoming.method !== 'GET' || !this.#session) return
    this.#session.endings.add(this.#endStream)
    if (!isBetweenEvents) return
    this.#listening = {
      canSay: () => isBetweenEvents() && outgoing.headersSent && !this.#relay.isPaused,
      // Without an id: where the client resumes is the server's business.
      say: (message) => {
        this.#stream?.event()
        this.#relay.data(sseEvent({ type: 'message', data: message }))
      },
    }
    this.#deps.clientPeers.opened(this.#session, this.#listening)
  }

  #decodes(coding: string): void {
    const { clock } = this.#deps
    this.#decoder = new ContentDecoder({ clock, coding, onData: (chunk) => this.#read(chunk) })
  }

  #observe(kind: 'json' | 'events'): void {
    this.#observer = new BodyObserver(
      kind,
      (envelope) => this.#heard(envelope),
      () => this.#stream?.event(),
    )
    const method = this.#request?.method
    if (method !== 'tools/list' && method !== 'prompts/list') return
    const { upstream } = this.#exchange
    const { labels } = this.#deps.instruments
    this.#learn = inventoryReader(kind, method, (names) =>
      labels.admit(upstream, method === 'tools/list' ? 'tool' : 'prompt', names),
    )
  }

  #heard(envelope: Envelope | undefined): void {
    this.#countUnread(envelope)
    for (const message of envelope?.messages ?? [envelope]) if (message) this.#answered(message)
  }

  #answered(envelope: Envelope): void {
    if (envelope.kind !== 'response') return this.#session?.questions.heardServer(envelope)
    const request = this.#request
    if (this.#batch && envelope.id !== undefined) this.#settle(envelope.id, { kind: 'answer', envelope })
    // A server that refuses before it has read an id names none; only so is a batch answered as a whole.
    const isOurs = envelope.id === request?.id || envelope.id === undefined || envelope.id === 'null'
    if (!request || !isOurs) return
    if (envelope.protocolVersion !== undefined && request.method === 'initialize' && this.#newSession) {
      this.#newSession.protocolVersion = envelope.protocolVersion
    }
    this.#answer = envelope
    if (this.#session) this.#deps.directory.answered(this.#session)
    if (envelope.id !== undefined && envelope.id === request.id) this.#settle(envelope.id, { kind: 'answer', envelope })
  }

  /** A request is over with its answer or its cancellation, and so it is for the limits, whatever its stream does. */
  #settle(id: string, end: OperationEnd): void {
    if (this.#batch) this.#batch.endOne(id, end)
    else this.#operation?.end(end)
    if (this.#isSettled || this.#batch?.isAnswered === false) return
    this.#isSettled = true
    this.#admission.settled()
    this.#askedNoMore()
  }

  #askedNoMore(): void {
    this.#deps.cancellable.delete(this.#exchange, this.#cancellable, this)
    if (this.#session) this.#session.pending -= this.#asked
    this.#asked = 0
  }

  /** A session begins with the header of an answered `initialize`, and ends with DELETE or the server's 404. */
  #noteSession(status: number, rawHeaders: readonly string[]): void {
    const { directory } = this.#deps
    const { upstream, incoming } = this.#exchange
    const id = headerValue(rawHeaders, headerNames.sessionId)
    if (status < 300 && this.#request?.method === 'initialize' && id !== undefined) {
      const client = clientOf(this.#exchange, this.#request)
      this.#newSession = directory.add({ id, upstream, transport: 'http', client })
      if (this.#newSession) this.#lend(this.#newSession)
      return
    }
    if (this.#session && status === 404) directory.end(this.#session, 'unknown')
    else if (this.#session && incoming.method === 'DELETE' && status < 300) directory.end(this.#session, 'deleted')
    else if (!this.#session && incoming.method !== 'DELETE' && status < 300) this.#adoptSession()
  }

  /** The server knows a session that we do not: it is older than we are, or was forgotten while idle. */
  #adoptSession(): void {
    const { upstream } = this.#exchange
    const id = sessionIdOf(this.#exchange)
    if (id === undefined) return
    const protocolVersion = requestHeader(this.#exchange, headerNames.protocolVersion)
    const client = clientOf(this.#exchange, undefined)
    const session = this.#deps.directory.add({ id, upstream, transport: 'http', client, protocolVersion })
    if (!session) return
    this.#enterSession(session)
    session.pending += this.#asked
  }

  #enterSession(session: Session): void {
    this.#session = session
    this.#deps.directory.touch(session)
    if (this.#exchange.incoming.method === 'GET') session.openStreams += 1
    else session.messages += 1
    this.#lend(session)
  }

  #lend(session: Session): void {
    const { borrowedSessions, ownsAuthorization } = this.#deps
    borrowedSessions.heard({
      session,
      endpoint: this.#endpoint,
      headers: bridgedHeaders(this.#exchange, ownsAuthorization),
      place: () => insideSession(this.#endpoint, session.id, () => session.protocolVersion),
      canHear: () => true,
    })
  }

  /** A session and its stream end together. */
  readonly #endStream = (): void => {
    if (this.#over) return
    this.#upstream?.abort()
    this.#relay.end()
    this.#finish(undefined, 'upstream_ended')
  }

  #leaveSession(session: Session): void {
    session.endings.delete(this.#endStream)
    if (this.#exchange.incoming.method === 'GET') session.openStreams -= 1
    this.#deps.directory.touch(session)
  }

  #responseData(chunk: Buffer): void {
    this.#admission.heard()
    const isOurs = readMemory.isLent(chunk) && !this.#isKept()
    this.#relay.data(chunk, isOurs ? () => readMemory.giveBack(chunk) : undefined)
    if (!this.#decoder) this.#read(chunk)
    else if (this.#observer) this.#decoder.push(chunk)
  }

  /** Of those who look at an answer, only these two keep chunks until they have more. */
  #isKept(): boolean {
    return this.#decoder !== undefined || this.#learn !== undefined
  }

  #read(chunk: Buffer): void {
    this.#observer?.push(chunk)
    this.#learn?.push(chunk)
  }

  #responseEnd(): void {
    this.#isWhole = true
    this.#relay.end()
    if (this.#decoder) this.#decoder.end((isRead) => this.#readWhole(isRead))
    else this.#readWhole(true)
  }

  #readWhole(isRead: boolean): void {
    this.#isUnread = !isRead
    if (isRead) {
      this.#observer?.end()
      this.#learn?.end()
    } else this.#countUnread(undefined)
    this.#finish(this.#ending(), 'upstream_ended')
  }

  /** What the whole answer came to; undefined for a success that nobody waited for an answer in. */
  #ending(): OperationEnd | undefined {
    if (this.#answer) return { kind: 'answer', envelope: this.#answer }
    if (this.#status >= 400) return { kind: 'status', status: this.#status }
    if (!this.#operation || this.#batch?.isAnswered) return undefined
    // The second: MCP 2025-11-25, Transports, "Sending Messages to the Server": the server may end a stream that has
    // event ids before the answer, which the client then fetches by GET.
    if (this.#isUnread || this.#observer?.hasEventIds) return { kind: 'answer', envelope: unreadAnswer }
    return { kind: 'failure', error: new KnownError('upstream_closed', 'the answer ended without a message') }
  }

  #fail(error: KnownError, streamEnd: StreamEnd): void {
    if (this.#over) return
    this.#reply(error)
    this.#finish({ kind: 'failure', error }, streamEnd)
  }

  #reply(error: KnownError): void {
    replyError(this.#exchange.incoming, this.#exchange.outgoing, error, { id: this.#requestId() })
  }

  /** Only a request is answered by its id. */
  #requestId(): string | undefined {
    return this.#request?.kind === 'request' ? this.#request.id : undefined
  }

  #clientGone(): void {
    if (this.#over || this.#isWhole) return
    this.#upstream?.abort()
    if (this.#answer) return this.#finish({ kind: 'answer', envelope: this.#answer }, 'client_gone')
    const error = this.#admission.givenUp('the client closed the connection')
    this.#finish({ kind: 'failure', error }, 'client_gone')
  }

  #finish(end: OperationEnd | undefined, streamEnd: StreamEnd): void {
    if (this.#over) return
    this.#over = true
    const { upstream, incoming } = this.#exchange
    this.#admission.over()
    this.#unread?.stop()
    this.#decoder?.stop()
    this.#stream?.end(streamEnd)
    if (this.#session && this.#listening) this.#deps.clientPeers.closed(this.#session, this.#listening)
    this.#askedNoMore()
    if (this.#session) this.#leaveSession(this.#session)
    if (this.#operation && end) this.#operation.end(end)
    else if (end) tellTraffic(this.#deps.traffic, { upstream }, end)
    else if (incoming.method === 'POST') this.#deps.traffic.onAnswered(upstream)
    dropUnread(this.#exchange)
  }
}
