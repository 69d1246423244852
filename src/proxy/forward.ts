import { KnownError } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import type { Session } from '../sessions/session.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import type { HttpExchange } from '../upstreams/http.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { endToEndHeaders, headerNames, headerValue, isEventStream, isJson } from '../wire/headers.ts'
import {
  type Exchange,
  ObservedBody,
  clientOf,
  declaredBytes,
  holdWholeBytes,
  receiveBody,
  requestHeader,
  searchOf,
  sessionIdOf,
} from './exchange.ts'
import { type InventoryReader, inventoryReader } from './learn.ts'
import { BodyObserver, type ObserveDeps, type Operation, beginOperation } from './observe.ts'
import { replyError } from './replies.ts'

export interface ForwardDeps extends ObserveDeps {
  readonly directory: SessionDirectory
  readonly maxBodyBytes: number
  /** Whether the listener's own bearer token came in `Authorization`, which is then ours and goes no further. */
  readonly ownsAuthorization: boolean
  readonly onRequest: (upstream: string, inFlight: 1 | -1) => void
}

/** What of the request the upstream must not see as the client sent it. */
export function forwardedHeaders(deps: ForwardDeps, exchange: Exchange, endpoint: Endpoint): string[] {
  const drop = new Set(['expect', ...endpoint.headers.keys()])
  if (deps.ownsAuthorization) drop.add('authorization')
  if (!endpoint.clientHost) drop.add('host')
  const headers = endToEndHeaders(exchange.incoming.rawHeaders, { drop })
  if (!endpoint.clientHost) headers.push('host', endpoint.url.host)
  for (const [name, value] of endpoint.headers) headers.push(name, value)
  return headers
}

/**
 * Streamable HTTP to Streamable HTTP, both eras: method, query, headers, body and answer pass as they are; what we
 * want to know is read on the side.
 */
export function forward(deps: ForwardDeps, exchange: Exchange, endpoint: Endpoint): void {
  const { incoming, outgoing } = exchange
  const declared = declaredBytes(exchange)
  const refuse = (error: KnownError) => {
    deps.instruments.countRejected(error.code)
    replyError(incoming, outgoing, error)
  }
  if (declared !== undefined && declared <= holdWholeBytes) {
    receiveBody(
      exchange,
      deps.maxBodyBytes,
      (body) => {
        const passage = new Passage(deps, exchange, endpoint)
        if (body.length > 0) passage.requestRead(readEnvelope(body))
        passage.send(body.length > 0 ? body : null)
      },
      refuse,
    )
    return
  }
  if (declared !== undefined && declared > deps.maxBodyBytes) {
    return refuse(
      new KnownError('body_too_large', `the body has ${declared} bytes; max_body_bytes is ${deps.maxBodyBytes}`),
    )
  }
  const passage = new Passage(deps, exchange, endpoint)
  const body = new ObservedBody(deps.maxBodyBytes, (envelope) => passage.requestRead(envelope))
  body.once('error', (error) => {
    if (error instanceof KnownError) passage.refuse(error)
  })
  passage.send(incoming.pipe(body))
}

/** One request on its way to the upstream and its answer on the way back. */
class Passage {
  readonly #deps: ForwardDeps
  readonly #exchange: Exchange
  readonly #endpoint: Endpoint
  readonly #session: Session | undefined
  #request: Envelope | undefined
  #answer: Envelope | undefined
  #newSession: Session | undefined
  #operation: Operation | undefined
  #observer: BodyObserver | undefined
  #learn: InventoryReader | undefined
  #upstream: HttpExchange | undefined
  #status = 0
  #over = false

  constructor(deps: ForwardDeps, exchange: Exchange, endpoint: Endpoint) {
    this.#deps = deps
    this.#exchange = exchange
    this.#endpoint = endpoint
    const id = sessionIdOf(exchange)
    this.#session = id === undefined ? undefined : deps.directory.get(exchange.upstream, id)
    if (this.#session) this.#enterSession(this.#session)
  }

  #enterSession(session: Session): void {
    this.#deps.directory.touch(session)
    if (this.#exchange.incoming.method === 'GET') session.openStreams += 1
    else session.messages += 1
  }

  requestRead(envelope: Envelope | undefined): void {
    const { instruments } = this.#deps
    const { upstream, arrivedAtMs, incoming } = this.#exchange
    if (!envelope) {
      if (incoming.method === 'POST') instruments.countUnparsed(upstream)
      return
    }
    this.#request = envelope
    if (envelope.kind !== 'request' || this.#over) return
    if (this.#session) this.#session.pending += 1
    const { hostname, port, protocol } = this.#endpoint.url
    this.#operation = beginOperation(this.#deps, {
      peering: {
        upstream,
        network: 'tcp',
        address: hostname,
        port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      },
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
    const { incoming, outgoing, upstream } = this.#exchange
    const { pathname, search } = this.#endpoint.url
    const query = searchOf(this.#exchange)
    if (incoming.method !== 'GET') this.#deps.onRequest(upstream, 1)
    outgoing.once('close', () => this.#clientGone())
    this.#upstream = this.#endpoint.send(
      {
        method: incoming.method ?? 'POST',
        path: pathname + (search === '' ? query : search + query.replace('?', '&')),
        headers: forwardedHeaders(this.#deps, this.#exchange, this.#endpoint),
        body,
      },
      {
        onStart: (response) => this.#responseStart(response),
        onData: (chunk) => this.#responseData(chunk),
        onEnd: () => this.#responseEnd(),
        onError: (error) => this.#fail(error),
      },
    )
  }

  /** An answer of ours instead of the upstream's, and nothing of the request may arrive there any more. */
  refuse(error: KnownError): void {
    this.#deps.instruments.countRejected(error.code)
    this.#upstream?.abort()
    replyError(this.#exchange.incoming, this.#exchange.outgoing, error, { id: this.#request?.id })
    this.#finish({ kind: 'failure', error })
  }

  #responseStart({
    status,
    statusText,
    rawHeaders,
  }: {
    status: number
    statusText: string
    rawHeaders: string[]
  }): void {
    const { outgoing } = this.#exchange
    this.#status = status
    const contentType = headerValue(rawHeaders, 'content-type')
    this.#noteSession(status, rawHeaders)
    if (isEventStream(contentType)) this.#observe('events')
    else if (isJson(contentType)) this.#observe('json')
    outgoing.sendDate = false
    outgoing.writeHead(status, statusText, endToEndHeaders(rawHeaders))
    // Headers go out with the first bytes of the body when those are here already, else at once.
    process.nextTick(() => {
      if (!outgoing.writableEnded && !outgoing.destroyed) outgoing.flushHeaders()
    })
  }

  #observe(kind: 'json' | 'events'): void {
    this.#observer = new BodyObserver(kind, (envelope) => this.#heard(envelope))
    const method = this.#request?.method
    if (method !== 'tools/list' && method !== 'prompts/list') return
    const { upstream } = this.#exchange
    const { labels } = this.#deps.instruments
    this.#learn = inventoryReader(kind, method, (names) =>
      labels.admit(upstream, method === 'tools/list' ? 'tool' : 'prompt', names),
    )
  }

  #heard(envelope: Envelope | undefined): void {
    if (!envelope) return this.#deps.instruments.countUnparsed(this.#exchange.upstream)
    if (envelope.kind !== 'response') return
    const request = this.#request
    const isOurs = envelope.id === request?.id || envelope.id === undefined || envelope.id === 'null'
    if (!request || !isOurs) return
    if (envelope.protocolVersion !== undefined && request.method === 'initialize' && this.#newSession) {
      this.#newSession.protocolVersion = envelope.protocolVersion
    }
    this.#answer = envelope
  }

  /** A session begins with the header of an answered `initialize`, and ends with DELETE or the server's 404. */
  #noteSession(status: number, rawHeaders: readonly string[]): void {
    const { directory } = this.#deps
    const { upstream, incoming } = this.#exchange
    const id = headerValue(rawHeaders, headerNames.sessionId)
    if (status < 300 && this.#request?.method === 'initialize' && id !== undefined) {
      const client = clientOf(this.#exchange, this.#request)
      this.#newSession = directory.add({ id, upstream, transport: 'http', client })
      return
    }
    const known = sessionIdOf(this.#exchange)
    if (!this.#session && known !== undefined && status < 300 && incoming.method !== 'DELETE') {
      // The session is older than we are, or was forgotten while idle.
      directory.add({ id: known, upstream, transport: 'http', client: clientOf(this.#exchange, undefined) })
    }
    if (!this.#session) return
    if (status === 404) directory.end(this.#session, 'unknown')
    else if (incoming.method === 'DELETE' && status < 300) directory.end(this.#session, 'deleted')
  }

  #responseData(chunk: Buffer): void {
    const { outgoing } = this.#exchange
    if (!outgoing.write(chunk)) {
      this.#upstream?.pause()
      outgoing.once('drain', () => this.#upstream?.resume())
    }
    this.#observer?.push(chunk)
    this.#learn?.push(chunk)
  }

  #responseEnd(): void {
    this.#exchange.outgoing.end()
    this.#observer?.end()
    this.#learn?.end()
    if (this.#answer) this.#finish({ kind: 'answer', envelope: this.#answer })
    else if (this.#status >= 400) this.#finish({ kind: 'status', status: this.#status })
    else if (this.#request?.kind === 'request') {
      this.#finish({ kind: 'failure', error: new KnownError('upstream_closed', 'the answer ended without a message') })
    } else this.#finish(undefined)
  }

  #fail(error: KnownError): void {
    replyError(this.#exchange.incoming, this.#exchange.outgoing, error, { id: this.#request?.id })
    if (!this.#operation) this.#deps.traffic.onFailed(this.#exchange.upstream, error)
    this.#finish({ kind: 'failure', error })
  }

  #clientGone(): void {
    if (this.#over) return
    this.#upstream?.abort()
    if (this.#answer) return this.#finish({ kind: 'answer', envelope: this.#answer })
    this.#finish({ kind: 'failure', error: new KnownError('cancelled', 'the client closed the connection') })
  }

  #finish(end: Parameters<Operation['end']>[0] | undefined): void {
    if (this.#over) return
    this.#over = true
    const { upstream, incoming } = this.#exchange
    if (incoming.method !== 'GET') this.#deps.onRequest(upstream, -1)
    if (this.#session) this.#leaveSession(this.#session)
    if (end && this.#operation) this.#operation.end(end)
    else if (!end && incoming.method === 'POST') this.#deps.traffic.onAnswered(upstream)
  }

  #leaveSession(session: Session): void {
    if (this.#exchange.incoming.method === 'GET') session.openStreams -= 1
    if (this.#operation) session.pending -= 1
    this.#deps.directory.touch(session)
  }
}
