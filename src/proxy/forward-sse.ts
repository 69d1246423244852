import { randomUUID } from 'node:crypto'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { Questions } from '../sessions/questions.ts'
import type { SessionEnd } from '../sessions/session.ts'
import { besideStream } from '../upstreams/borrowed-channel.ts'
import type { UpstreamEndpoint } from '../upstreams/endpoint.ts'
import type { HttpExchange, ResponseHead } from '../upstreams/http.ts'
import { messagesUrl } from '../upstreams/sse-channel.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { EventTap } from '../wire/event-tap.ts'
import { headerValue, identityCoding, isEventStream } from '../wire/headers.ts'
import { sseEvent } from '../wire/sse.ts'
import { unreadIn } from './batch-operation.ts'
import { bridgedHeaders } from './bridged-headers.ts'
import { endedSession } from './ended-session.ts'
import { EndpointRewriter } from './endpoint-rewriter.ts'
import { type Exchange, clientOf, declaredBytes, receive, searchOf } from './exchange.ts'
import { type ForwardDeps, forwardedHeaders, forwardedPath, messagesPath } from './forward.ts'
import { tellTraffic } from './observe.ts'
import { Relay } from './relay.ts'
import { accepted, replyError } from './replies.ts'
import { SsePost, type SseStream } from './sse-post.ts'
import type { OpenStream as ClientStream } from './streams.ts'

/**
 * HTTP+SSE (2024-11-05) to HTTP+SSE: the stream passes as it is, but for its `endpoint` event, which names our own
 * mount; what is posted there goes to the address that the server named.
 */
export class SseForwarder {
  readonly #deps: ForwardDeps
  readonly #streams = new Map<string, SseStream>()

  constructor(deps: ForwardDeps) {
    this.#deps = deps
  }

  /** GET: opens the stream of one client. */
  openStream(exchange: Exchange, endpoint: UpstreamEndpoint): void {
    const { incoming, outgoing } = exchange
    const unwelcome = this.#deps.shedder.refusal('initialize') ?? endpoint.drain.refusal() ?? endpoint.crowded('stream')
    if (unwelcome) {
      this.#deps.instruments.countRejected(unwelcome.code)
      return replyError(incoming, outgoing, unwelcome)
    }
    const headers = plainStreamHeaders(forwardedHeaders(this.#deps, exchange, endpoint))
    const sentHost = headerValue(headers, 'host')
    const passage = new StreamPassage(this.#deps, { exchange, endpoint, sentHost, streams: this.#streams })
    outgoing.once('close', () => passage.close(new KnownError('cancelled', 'the client closed its stream')))
    passage.attach(
      endpoint.send(
        {
          method: incoming.method ?? 'GET',
          path: forwardedPath(exchange, endpoint),
          headers,
          body: null,
        },
        passage,
      ),
    )
  }

  /** POST: one message of the client whose stream it is; the answer comes on that stream. */
  postMessage(exchange: Exchange, endpoint: UpstreamEndpoint): void {
    const { incoming, outgoing } = exchange
    const { instruments, maxBodyBytes } = this.#deps
    const id = new URLSearchParams(searchOf(exchange)).get('session_id')
    const refuse = (error: KnownError) => {
      if (error.code === 'cancelled') return
      instruments.countRejected(error.code)
      replyError(incoming, outgoing, error)
    }
    const withStream = (use: (stream: SseStream) => void) => {
      if (id === null) return refuse(new KnownError('session_missing', 'the query has no session_id'))
      const stream = this.#streams.get(id)
      if (stream?.upstream === exchange.upstream) return use(stream)
      refuse(new KnownError('session_not_found', 'no open stream has this session_id'))
    }
    const deps = this.#deps
    const post = (stream: SseStream) => {
      stream.lend(exchange)
      return new SsePost({ deps, exchange, endpoint, stream })
    }
    const whole = (body: Buffer) =>
      withStream((stream) => {
        if (isForUs(deps, stream, body)) accepted(exchange)
        else post(stream).start(body)
      })
    const long = () =>
      withStream((stream) => {
        if (stream.session && declaredBytes(exchange) === undefined) deps.clientPeers.passesUnread(stream.session)
        post(stream).startLong()
      })
    // Looked up again, as the stream may end while the body still comes.
    withStream(() => receive(exchange, maxBodyBytes, { whole, long, fail: refuse }))
  }
}

/** Whether the client answers a request of ours; nothing is read twice where none was asked. */
function isForUs({ clientPeers }: ForwardDeps, { session }: SseStream, body: Buffer): boolean {
  if (!session || !clientPeers.hasAsked(session)) return false
  const envelope = readEnvelope(body)
  return envelope !== undefined && clientPeers.takeAnswer(session, body, envelope)
}

/** A compressed stream could not have its endpoint rewritten, so none is asked for; silence would allow it. */
function plainStreamHeaders(headers: readonly string[]): string[] {
  const isOther = (_part: string, index: number) => headers[index - (index % 2)]?.toLowerCase() !== 'accept-encoding'
  return [...headers.filter(isOther), ...identityCoding]
}

/** The length of a stream whose endpoint is rewritten is another one. */
const lengthHeader: ReadonlySet<string> = new Set(['content-length'])

interface StreamOptions {
  readonly exchange: Exchange
  readonly endpoint: UpstreamEndpoint
  /** The `Host` that the server was called with. */
  readonly sentHost: string | undefined
  readonly streams: Map<string, SseStream>
}

/** One client's stream, from the upstream's first byte to the end of either side. */
class StreamPassage {
  readonly #deps: ForwardDeps
  readonly #exchange: Exchange
  readonly #endpoint: UpstreamEndpoint
  readonly #sentHost: string | undefined
  readonly #streams: Map<string, SseStream>
  readonly #id = randomUUID()
  readonly #relay: Relay
  readonly #tap: EventTap
  readonly #rewriter: EndpointRewriter
  #upstream: HttpExchange | undefined
  #client: ClientStream | undefined
  #stream: SseStream | undefined
  /** Messages of ours that wait for the end of the event that is passing. */
  #untold: Buffer[] = []
  #status = 0
  #isEventStream = false
  #over = false

  constructor(deps: ForwardDeps, { exchange, endpoint, sentHost, streams }: StreamOptions) {
    this.#deps = deps
    this.#exchange = exchange
    this.#endpoint = endpoint
    this.#sentHost = sentHost
    this.#streams = streams
    this.#relay = new Relay(exchange.outgoing)
    this.#tap = new EventTap({
      maxHeldBytes: defaults.maxHeldBytes,
      isForeign: (id) => endpoint.ownRequests?.hasAsked(id) === true,
      onMessage: (envelope) => this.#heard(envelope),
      onEvent: () => this.#client?.event(),
      onAnswer: (message, envelope) => this.#answeredUs(message, envelope),
    })
    this.#rewriter = new EndpointRewriter((data) => this.#opened(data))
  }

  attach(upstream: HttpExchange): void {
    this.#upstream = upstream
    this.#relay.attach(upstream)
  }

  onStart(answered: ResponseHead): void {
    const { protectedResources } = this.#deps
    const head = protectedResources?.asPublic(answered, this.#exchange.upstream, 'sse', this.#endpoint) ?? answered
    this.#status = head.status
    this.#isEventStream = head.status === 200 && isEventStream(headerValue(head.rawHeaders, 'content-type'))
    if (this.#isEventStream) this.#openClient()
    this.#relay.start(head, this.#isEventStream ? lengthHeader : undefined)
  }

  /** Before the endpoint event is through, some of what was read may still be held back. */
  #openClient(): void {
    const { upstream, outgoing } = this.#exchange
    const isBetweenEvents = () => this.#isBetweenEvents()
    this.#client = this.#deps.streams.open({ upstream, transport: 'sse', outgoing, isBetweenEvents })
  }

  #isBetweenEvents(): boolean {
    return this.#stream !== undefined && this.#tap.isBetweenEvents
  }

  #tell(message: Buffer): void {
    this.#untold.push(message)
    this.#tellAll()
  }

  #tellAll(): void {
    if (this.#untold.length === 0 || !this.#isBetweenEvents()) return
    for (const data of this.#untold.splice(0)) {
      this.#client?.event()
      this.#relay.data(sseEvent({ type: 'message', data }))
    }
  }

  onData(chunk: Buffer): void {
    if (!this.#isEventStream) return this.#relay.data(chunk)
    let bytes: Buffer
    try {
      bytes = this.#rewriter.pass(chunk)
    } catch (error) {
      return this.onError(error instanceof KnownError ? error : new KnownError('internal', errorMessage(error)))
    }
    this.#stream?.learner?.push(chunk)
    this.#pass(this.#tap.push(bytes))
    this.#tellAll()
  }

  #pass(passing: readonly Buffer[]): void {
    for (const bytes of passing) this.#relay.data(bytes)
  }

  onEnd(): void {
    this.#pass(this.#tap.end())
    this.#relay.end()
    if (this.#status >= 500) {
      tellTraffic(this.#deps.traffic, this.#exchange, { kind: 'status', status: this.#status })
    }
    this.#client?.end('upstream_ended')
    this.close(new KnownError('upstream_closed', 'the server ended the event stream'))
  }

  onError(error: KnownError): void {
    replyError(this.#exchange.incoming, this.#exchange.outgoing, error)
    this.#deps.traffic.onFailed(this.#exchange.upstream, error)
    this.close(error)
  }

  /** The session ended elsewhere: its server does not know it any more, or we stop. */
  #sessionEnded(end: SessionEnd): void {
    if (this.#over) return
    this.#pass(this.#tap.end())
    this.#relay.end()
    this.#client?.end('upstream_ended')
    this.close(endedSession(end))
  }

  /** A session and its stream end together, and with them every request that still waits. */
  close(error: KnownError): void {
    if (this.#over) return
    this.#over = true
    this.#client?.end(error.code === 'cancelled' ? 'client_gone' : 'upstream_error')
    this.#upstream?.abort()
    this.#streams.delete(this.#id)
    for (const post of this.#stream?.posts ?? []) post.streamEnded(error)
    const session = this.#stream?.session
    if (!session) return
    session.openStreams = 0
    this.#deps.directory.end(session, 'stream_closed')
  }

  /** The server said where to POST: our own address goes to the client instead. */
  #opened(data: string): string {
    const { upstream } = this.#exchange
    const messages = messagesUrl(this.#endpoint.url, data, this.#sentHost)
    const session = this.#deps.directory.add({
      id: this.#id,
      upstream,
      transport: 'sse',
      client: clientOf(this.#exchange, undefined),
    })
    if (session) {
      session.openStreams = 1
      session.endings.add((end) => this.#sessionEnded(end))
      this.#deps.clientPeers.opened(session, {
        canSay: () => this.#isBetweenEvents() && !this.#relay.isPaused,
        say: (message) => this.#tell(message),
      })
    }
    this.#stream = {
      upstream,
      messages,
      session,
      questions: session?.questions ?? new Questions(),
      posts: new Set(),
      pending: new Map(),
      learner: undefined,
      isPaused: () => this.#relay.isPaused,
      tell: (message) => this.#tell(message),
      lend: (exchange) => this.#lend(exchange),
    }
    this.#lend(this.#exchange)
    this.#streams.set(this.#id, this.#stream)
    this.#deps.traffic.onAnswered(upstream)
    return messagesPath(this.#deps, upstream, this.#id)
  }

  /** The client's latest headers are those to ask its server with, where that is wanted. */
  #lend(exchange: Exchange): void {
    const { borrowedSessions, ownsAuthorization } = this.#deps
    const { session, messages } = this.#stream ?? {}
    if (!session || !messages) return
    borrowedSessions.heard({
      session,
      endpoint: this.#endpoint,
      headers: bridgedHeaders(exchange, ownsAuthorization),
      place: () => besideStream(messages, (id) => this.#tap.expect(id)),
      canHear: () => !this.#relay.isPaused,
    })
  }

  #answeredUs(message: Buffer, envelope: Envelope): void {
    if (this.#endpoint.ownRequests?.answeredElsewhere(message, envelope) === true) return
    const session = this.#stream?.session
    if (session) this.#deps.borrowedSessions.answered(session, message, envelope)
  }

  #heard(envelope: Envelope | undefined): void {
    const { instruments } = this.#deps
    for (let left = unreadIn(envelope); left > 0; left--) instruments.countUnparsed(this.#exchange.upstream)
    for (const message of envelope?.messages ?? [envelope]) if (message) this.#message(message)
  }

  /** A sign of life for the request that it names, and for all when it names none. */
  #message(envelope: Envelope): void {
    const stream = this.#stream
    if (!stream) return
    stream.questions.heardServer(envelope)
    const { kind, id, progressToken } = envelope
    if (kind === 'response') return stream.pending.get(id ?? '')?.answered(envelope)
    const isProgress = kind === 'notification' && progressToken !== undefined
    for (const post of stream.posts) if (!isProgress || post.owns(progressToken)) post.heard()
  }
}
