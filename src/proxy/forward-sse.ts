import { randomUUID } from 'node:crypto'
import { KnownError, errorMessage } from '../errors.ts'
import type { Session } from '../sessions/session.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import type { HttpExchange } from '../upstreams/http.ts'
import { messagesUrl } from '../upstreams/sse-channel.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { endToEndHeaders, headerValue, isEventStream } from '../wire/headers.ts'
import { EndpointRewriter } from './endpoint-rewriter.ts'
import { type Exchange, clientOf, receiveBody, requestHeader, searchOf } from './exchange.ts'
import { type ForwardDeps, forwardedHeaders } from './forward.ts'
import { type InventoryReader, inventoryReader } from './learn.ts'
import { BodyObserver, type Operation, beginOperation } from './observe.ts'
import { replyError } from './replies.ts'

/** Requests of one stream that wait for their answer; more are passed on unmeasured. */
const maxPending = 1000

interface OpenStream {
  readonly messages: URL
  readonly session: Session | undefined
  /** By the raw text of the JSON-RPC id. */
  readonly pending: Map<string, Operation>
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
    const { pathname, search } = endpoint.url
    const query = searchOf(exchange)
    const passage = new StreamPassage(this.#deps, exchange, endpoint, {
      opened: (id, stream) => this.#streams.set(id, stream),
      closed: (id) => this.#streams.delete(id),
    })
    outgoing.once('close', () => passage.close(new KnownError('cancelled', 'the client closed its stream')))
    passage.attach(
      endpoint.send(
        {
          method: incoming.method ?? 'GET',
          path: pathname + (search === '' ? query : search + query.replace('?', '&')),
          headers: forwardedHeaders(this.#deps, exchange, endpoint),
          body: null,
        },
        passage,
      ),
    )
  }

  /** POST: one message of the client whose stream it is; the answer comes on that stream. */
  postMessage(exchange: Exchange, endpoint: Endpoint): void {
    const { incoming, outgoing } = exchange
    const { instruments, maxBodyBytes } = this.#deps
    const id = new URLSearchParams(searchOf(exchange)).get('session_id')
    const stream = id === null ? undefined : this.#streams.get(id)
    const refuse = (error: KnownError) => {
      instruments.countRejected(error.code)
      replyError(incoming, outgoing, error)
    }
    if (id === null) return refuse(new KnownError('session_missing', 'the query has no session_id'))
    if (!stream) return refuse(new KnownError('session_not_found', 'no open stream has this session_id'))
    receiveBody(exchange, maxBodyBytes, (body) => this.#deliver(exchange, endpoint, stream, body), refuse)
  }

  #deliver(exchange: Exchange, endpoint: Endpoint, stream: OpenStream, body: Buffer): void {
    const { incoming, outgoing, upstream } = exchange
    const envelope = readEnvelope(body)
    if (!envelope) this.#deps.instruments.countUnparsed(upstream)
    const operation = this.#begin(exchange, endpoint, stream, envelope)
    if (stream.session) this.#deps.directory.touch(stream.session)
    const fail = (error: KnownError) => {
      if (envelope?.id !== undefined) stream.pending.delete(envelope.id)
      if (operation) operation.end({ kind: 'failure', error })
      else this.#deps.traffic.onFailed(upstream, error)
    }
    endpoint.send(
      {
        method: 'POST',
        path: stream.messages.pathname + stream.messages.search,
        headers: forwardedHeaders(this.#deps, exchange, endpoint),
        body,
      },
      {
        onStart: ({ status, statusText, rawHeaders }) => {
          outgoing.sendDate = false
          outgoing.writeHead(status, statusText, endToEndHeaders(rawHeaders))
          if (status < 400 || envelope?.id === undefined) return
          stream.pending.delete(envelope.id)
          operation?.end({ kind: 'status', status })
        },
        onData: (chunk) => void outgoing.write(chunk),
        onEnd: () => void outgoing.end(),
        onError: (error) => {
          replyError(incoming, outgoing, error, { id: envelope?.id })
          fail(error)
        },
      },
    )
  }

  #begin(
    exchange: Exchange,
    endpoint: Endpoint,
    stream: OpenStream,
    envelope: Envelope | undefined,
  ): Operation | undefined {
    if (envelope?.kind !== 'request' || envelope.id === undefined || stream.pending.size >= maxPending) return undefined
    const { session } = stream
    if (session) {
      session.pending += 1
      session.messages += 1
    }
    const { hostname, port, protocol } = endpoint.url
    this.#deps.onRequest(exchange.upstream, 1)
    const measured = beginOperation(this.#deps, {
      peering: {
        upstream: exchange.upstream,
        network: 'tcp',
        address: hostname,
        port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      },
      envelope,
      protocolVersion: envelope.protocolVersion ?? session?.protocolVersion,
      sessionId: session?.key,
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs: exchange.arrivedAtMs,
    })
    const operation: Operation = {
      envelope,
      end: (end) => {
        this.#deps.onRequest(exchange.upstream, -1)
        measured.end(end)
      },
    }
    stream.pending.set(envelope.id, operation)
    return operation
  }
}

interface StreamRegistry {
  opened(id: string, stream: OpenStream): void
  closed(id: string): void
}

/** One client's stream, from the upstream's first byte to the end of either side. */
class StreamPassage {
  readonly #deps: ForwardDeps
  readonly #exchange: Exchange
  readonly #endpoint: Endpoint
  readonly #registry: StreamRegistry
  readonly #id = randomUUID()
  readonly #observer: BodyObserver
  readonly #rewriter: EndpointRewriter
  readonly #learners: readonly InventoryReader[]
  #upstream: HttpExchange | undefined
  #stream: OpenStream | undefined
  #isEventStream = false
  #over = false

  constructor(deps: ForwardDeps, exchange: Exchange, endpoint: Endpoint, registry: StreamRegistry) {
    this.#deps = deps
    this.#exchange = exchange
    this.#endpoint = endpoint
    this.#registry = registry
    this.#observer = new BodyObserver('events', (envelope) => this.#heard(envelope))
    this.#rewriter = new EndpointRewriter((data) => this.#opened(data))
    const { labels } = deps.instruments
    const { upstream } = exchange
    this.#learners = [
      inventoryReader('events', 'tools/list', (names) => labels.admit(upstream, 'tool', names)),
      inventoryReader('events', 'prompts/list', (names) => labels.admit(upstream, 'prompt', names)),
    ]
  }

  attach(upstream: HttpExchange): void {
    this.#upstream = upstream
  }

  onStart({ status, statusText, rawHeaders }: { status: number; statusText: string; rawHeaders: string[] }): void {
    const { outgoing } = this.#exchange
    this.#isEventStream = status === 200 && isEventStream(headerValue(rawHeaders, 'content-type'))
    outgoing.sendDate = false
    outgoing.writeHead(status, statusText, endToEndHeaders(rawHeaders))
    outgoing.flushHeaders()
  }

  onData(chunk: Buffer): void {
    const { outgoing } = this.#exchange
    let bytes: Buffer = chunk
    try {
      if (this.#isEventStream) bytes = this.#rewriter.pass(chunk)
    } catch (error) {
      const known = error instanceof KnownError ? error : new KnownError('internal', errorMessage(error))
      return this.onError(known)
    }
    if (bytes.length > 0 && !outgoing.write(bytes)) {
      this.#upstream?.pause()
      outgoing.once('drain', () => this.#upstream?.resume())
    }
    if (!this.#isEventStream) return
    this.#observer.push(chunk)
    for (const learner of this.#learners) learner.push(chunk)
  }

  onEnd(): void {
    this.#exchange.outgoing.end()
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
    this.#upstream?.abort()
    this.#registry.closed(this.#id)
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
    this.#stream = { messages, session, pending: new Map() }
    this.#registry.opened(this.#id, this.#stream)
    this.#deps.traffic.onAnswered(upstream)
    return `/${upstream}/messages?session_id=${this.#id}`
  }

  #heard(envelope: Envelope | undefined): void {
    if (!envelope) return this.#deps.instruments.countUnparsed(this.#exchange.upstream)
    const stream = this.#stream
    if (!stream || envelope.kind !== 'response' || envelope.id === undefined) return
    const operation = stream.pending.get(envelope.id)
    if (!operation) return
    stream.pending.delete(envelope.id)
    if (stream.session) {
      stream.session.pending -= 1
      if (operation.envelope.method === 'initialize') stream.session.protocolVersion = envelope.protocolVersion
    }
    operation.end({ kind: 'answer', envelope })
  }
}
