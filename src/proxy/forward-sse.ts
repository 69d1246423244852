import { randomUUID } from 'node:crypto'
import { KnownError, errorMessage } from '../errors.ts'
import type { Session } from '../sessions/session.ts'
import type { Endpoint, UpstreamEndpoint } from '../upstreams/endpoint.ts'
import type { HttpExchange, ResponseHead } from '../upstreams/http.ts'
import { messagesUrl } from '../upstreams/sse-channel.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { headerValue, isEventStream } from '../wire/headers.ts'
import { unreadIn } from './batch-operation.ts'
import { DeadlineWatch } from './deadlines.ts'
import { EndpointRewriter } from './endpoint-rewriter.ts'
import { type Exchange, clientOf, receiveBody, requestHeader, searchOf } from './exchange.ts'
import { type ForwardDeps, forwardedHeaders, forwardedPath } from './forward.ts'
import { type InventoryReader, inventoryReader } from './learn.ts'
import { BodyObserver, type Operation, type OperationEnd, beginOperation, peeringOf, tellTraffic } from './observe.ts'
import { Relay } from './relay.ts'
import { replyError } from './replies.ts'
import type { OpenStream as ClientStream } from './streams.ts'

/** Requests of one stream that wait for their answer; more are passed on unmeasured. */
const maxPending = 1000

interface OpenStream {
  readonly upstream: string
  readonly messages: URL
  readonly session: Session | undefined
  /** By the raw text of the JSON-RPC id. */
  readonly pending: Map<string, Operation>
  /** Reads the list that a pending request asked for. */
  learner: InventoryReader | undefined
}

/**
 * HTTP+SSE (2024-11-05) to HTTP+SSE: the stream passes as it is, but for its `endpoint` event, which names our own
 * mount; what is posted there goes to the address that the server named.
 */
export class SseForwarder {
  readonly #deps: ForwardDeps
  readonly #streams = new Map<string, OpenStream>()

  constructor(deps: ForwardDeps) {
    this.#deps = deps
  }

  /** GET: opens the stream of one client. */
  openStream(exchange: Exchange, endpoint: Endpoint): void {
    const { incoming, outgoing } = exchange
    const passage = new StreamPassage(this.#deps, exchange, endpoint, this.#streams)
    outgoing.once('close', () => passage.close(new KnownError('cancelled', 'the client closed its stream')))
    passage.attach(
      endpoint.send(
        {
          method: incoming.method ?? 'GET',
          path: forwardedPath(exchange, endpoint),
          headers: plainStreamHeaders(forwardedHeaders(this.#deps, exchange, endpoint)),
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
    const withStream = (use: (stream: OpenStream) => void) => {
      if (id === null) return refuse(new KnownError('session_missing', 'the query has no session_id'))
      const stream = this.#streams.get(id)
      if (stream?.upstream === exchange.upstream) return use(stream)
      refuse(new KnownError('session_not_found', 'no open stream has this session_id'))
    }
    // The stream may end while the body still comes.
    withStream(() => {
      const deliver = (body: Buffer) => withStream((stream) => this.#deliver(exchange, endpoint, stream, body))
      receiveBody(exchange, maxBodyBytes, deliver, refuse)
    })
  }

  #deliver(exchange: Exchange, endpoint: UpstreamEndpoint, stream: OpenStream, body: Buffer): void {
    const { incoming, outgoing, upstream } = exchange
    const envelope = readEnvelope(body)
    for (let left = unreadIn(envelope); left > 0; left--) this.#deps.instruments.countUnparsed(upstream)
    const requests = envelope?.messages ?? [envelope]
    const operations = requests.flatMap((request) => this.#begin(exchange, endpoint, stream, request) ?? [])
    if (stream.session) {
      stream.session.messages += 1
      this.#deps.directory.touch(stream.session)
    }
    const undelivered = (end: OperationEnd) => {
      for (const operation of operations) operation.end(end)
      if (operations.length === 0) tellTraffic(this.#deps.traffic, upstream, end)
    }
    const relay = new Relay(outgoing)
    const fail = (error: KnownError) => {
      watch.stop()
      replyError(incoming, outgoing, error, { id: envelope?.kind === 'request' ? envelope.id : undefined })
      undelivered({ kind: 'failure', error })
    }
    const watch = new DeadlineWatch({
      clock: this.#deps.clock,
      sweep: this.#deps.sweep,
      deadlines: endpoint.limits,
      isExcused: () => relay.isPaused,
      onOverdue: (error) => {
        posted.abort()
        fail(error)
      },
    })
    const posted = endpoint.send(
      {
        method: 'POST',
        path: stream.messages.pathname + stream.messages.search,
        headers: forwardedHeaders(this.#deps, exchange, endpoint),
        body,
      },
      {
        onStart: (answered) => {
          const head = this.#deps.protectedResources?.asPublic(answered, upstream, 'sse', endpoint) ?? answered
          watch.heard()
          relay.start(head)
          if (head.status >= 400) undelivered({ kind: 'status', status: head.status })
        },
        onData: (chunk) => {
          watch.heard()
          relay.data(chunk)
        },
        onEnd: () => {
          watch.stop()
          relay.end()
        },
        onError: fail,
      },
    )
    relay.attach(posted)
    // The message is under way and its answer comes on the stream; only a reply that nobody reads must not block.
    outgoing.once('close', () => posted.resume())
  }

  /** An id that is in use already cannot be told apart in the answers, so its second request goes unmeasured. */
  #begin(
    exchange: Exchange,
    endpoint: Endpoint,
    stream: OpenStream,
    envelope: Envelope | undefined,
  ): Operation | undefined {
    if (envelope?.kind !== 'request' || envelope.id === undefined) return undefined
    const { pending, session } = stream
    const { id, method } = envelope
    const { upstream, arrivedAtMs } = exchange
    if (pending.size >= maxPending || pending.has(id)) return undefined
    const measured = beginOperation(this.#deps, {
      peering: peeringOf(upstream, endpoint),
      envelope,
      protocolVersion: envelope.protocolVersion ?? session?.protocolVersion,
      sessionId: session?.key,
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs,
    })
    const operation: Operation = {
      envelope,
      end: (end) => {
        if (!pending.delete(id)) return
        if (session) session.pending -= 1
        this.#deps.onRequest(upstream, -1)
        measured.end(end)
      },
    }
    pending.set(id, operation)
    if (session) session.pending += 1
    this.#deps.onRequest(upstream, 1)
    if (method === 'tools/list' || method === 'prompts/list') {
      const { labels } = this.#deps.instruments
      const kind = method === 'tools/list' ? 'tool' : 'prompt'
      stream.learner = inventoryReader('events', method, (names) => labels.admit(upstream, kind, names))
    }
    return operation
  }
}

/** A compressed stream could not have its endpoint rewritten, so none is asked for. */
function plainStreamHeaders(headers: readonly string[]): string[] {
  return headers.filter((_part, index) => headers[index - (index % 2)]?.toLowerCase() !== 'accept-encoding')
}

/** The length of a stream whose endpoint is rewritten is another one. */
const lengthHeader: ReadonlySet<string> = new Set(['content-length'])

/** One client's stream, from the upstream's first byte to the end of either side. */
class StreamPassage {
  readonly #deps: ForwardDeps
  readonly #exchange: Exchange
  readonly #endpoint: Endpoint
  readonly #streams: Map<string, OpenStream>
  readonly #id = randomUUID()
  readonly #relay: Relay
  readonly #observer: BodyObserver
  readonly #rewriter: EndpointRewriter
  #upstream: HttpExchange | undefined
  #client: ClientStream | undefined
  #stream: OpenStream | undefined
  #status = 0
  #isEventStream = false
  #over = false

  constructor(deps: ForwardDeps, exchange: Exchange, endpoint: Endpoint, streams: Map<string, OpenStream>) {
    this.#deps = deps
    this.#exchange = exchange
    this.#endpoint = endpoint
    this.#streams = streams
    this.#relay = new Relay(exchange.outgoing)
    this.#observer = new BodyObserver(
      'events',
      (envelope) => this.#heard(envelope),
      () => this.#client?.event(),
    )
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
    const isBetweenEvents = () => this.#stream !== undefined && this.#observer.isBetweenEvents
    this.#client = this.#deps.streams.open({ upstream, transport: 'sse', outgoing, isBetweenEvents })
  }

  onData(chunk: Buffer): void {
    if (!this.#isEventStream) return this.#relay.data(chunk)
    let bytes: Buffer
    try {
      bytes = this.#rewriter.pass(chunk)
    } catch (error) {
      return this.onError(error instanceof KnownError ? error : new KnownError('internal', errorMessage(error)))
    }
    if (bytes.length > 0) this.#relay.data(bytes)
    this.#stream?.learner?.push(chunk)
    this.#observer.push(chunk)
  }

  onEnd(): void {
    this.#relay.end()
    if (this.#status >= 500) {
      tellTraffic(this.#deps.traffic, this.#exchange.upstream, { kind: 'status', status: this.#status })
    }
    this.#client?.end('upstream_ended')
    this.close(new KnownError('upstream_closed', 'the server ended the event stream'))
  }

  onError(error: KnownError): void {
    replyError(this.#exchange.incoming, this.#exchange.outgoing, error)
    this.#deps.traffic.onFailed(this.#exchange.upstream, error)
    this.close(error)
  }

  /** A session and its stream end together, and with them every request that still waits. */
  close(error: KnownError): void {
    if (this.#over) return
    this.#over = true
    this.#client?.end(error.code === 'cancelled' ? 'client_gone' : 'upstream_error')
    this.#upstream?.abort()
    this.#streams.delete(this.#id)
    for (const operation of this.#stream?.pending.values() ?? []) operation.end({ kind: 'failure', error })
    const session = this.#stream?.session
    if (!session) return
    session.openStreams = 0
    this.#deps.directory.end(session, 'stream_closed')
  }

  /** The server said where to POST: our own address goes to the client instead. */
  #opened(data: string): string {
    const { upstream } = this.#exchange
    const messages = messagesUrl(this.#endpoint.url, data)
    const session = this.#deps.directory.add({
      id: this.#id,
      upstream,
      transport: 'sse',
      client: clientOf(this.#exchange, undefined),
    })
    if (session) session.openStreams = 1
    this.#stream = { upstream, messages, session, pending: new Map(), learner: undefined }
    this.#streams.set(this.#id, this.#stream)
    this.#deps.traffic.onAnswered(upstream)
    return `/${upstream}/messages?session_id=${this.#id}`
  }

  #heard(envelope: Envelope | undefined): void {
    const { instruments } = this.#deps
    for (let left = unreadIn(envelope); left > 0; left--) instruments.countUnparsed(this.#exchange.upstream)
    for (const message of envelope?.messages ?? [envelope]) if (message) this.#answered(message)
  }

  #answered(envelope: Envelope): void {
    const stream = this.#stream
    if (!stream || envelope.kind !== 'response' || envelope.id === undefined) return
    const operation = stream.pending.get(envelope.id)
    if (!operation) return
    const { method } = operation.envelope
    if (method === 'initialize' && stream.session) stream.session.protocolVersion = envelope.protocolVersion
    if (method === 'tools/list' || method === 'prompts/list') stream.learner = undefined
    operation.end({ kind: 'answer', envelope })
  }
}
