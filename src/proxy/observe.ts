import type { Attributes } from '@opentelemetry/api'
import type { Clock } from '../clock.ts'
import { KnownError } from '../errors.ts'
import { bareUrl } from '../redaction.ts'
import { semconv } from '../telemetry/names.ts'
import type { Instruments } from '../telemetry/instruments.ts'
import type { OperationSpan, ServerSpanStart, Side, Tracing } from '../telemetry/tracing.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import type { Envelope } from '../wire/envelope.ts'
import { EnvelopeReader } from '../wire/envelope.ts'
import { EventMessages } from '../wire/event-messages.ts'
import { withTraceparent } from '../wire/trace-context.ts'

/** Where a server is, as client-side metrics name it. */
export interface Peering {
  readonly upstream: string
  /** `pipe` for a child process, else `tcp`. */
  readonly network: 'tcp' | 'pipe'
  /** The process is this client's alone, so how it does says nothing about what others get. */
  readonly isOwnProcess?: boolean
  readonly address?: string | undefined
  readonly port?: number | undefined
}

/** An endpoint as client-side metrics name it. */
export function peeringOf(upstream: string, { url }: Endpoint): Peering {
  const { hostname, port, protocol } = url
  const defaultPort = protocol === 'https:' ? 443 : 80
  return { upstream, network: 'tcp', address: hostname, port: port === '' ? defaultPort : Number(port) }
}

/** A client's request as it came in: what the metrics, spans and labels need of it. */
export interface ObservedRequest {
  readonly peering: Peering
  /** How the client reaches us: by HTTP unless it says `pipe`. */
  readonly clientNetwork?: 'tcp' | 'pipe'
  readonly envelope: Envelope
  readonly protocolVersion?: string | undefined
  readonly sessionId?: string | undefined
  readonly httpTraceparent?: string | undefined
  readonly httpTracestate?: string | undefined
  readonly arrivedAtMs: number
}

/** How an operation ended: with the server's answer, with a failure below JSON-RPC, or with a bare HTTP status. */
export type OperationEnd =
  | { readonly kind: 'answer'; readonly envelope: Envelope }
  | { readonly kind: 'failure'; readonly error: KnownError }
  | { readonly kind: 'status'; readonly status: number }

/** What passed traffic says about the health of an upstream. */
export interface TrafficEvents {
  onAnswered(upstream: string, from?: Pick<Evidence, 'isOwnProcess'>): void
  onFailed(upstream: string, error: KnownError, from?: Evidence): void
}

/** Where that comes from. */
export interface Evidence extends Pick<Peering, 'isOwnProcess'> {
  /** Of the operation, where it was one. */
  readonly traceId?: string | undefined
}

export interface ObserveDeps {
  readonly clock: Clock
  readonly instruments: Instruments
  readonly tracing: Tracing
  readonly traffic: TrafficEvents
  /** Whether requests to this upstream are to name our span as their parent, in their `_meta`; none unless given. */
  readonly injectsTraceparent?: (upstream: string) => boolean
}

/** One JSON-RPC request and its answer, measured on both our sides. Ending it twice does nothing. */
export interface Operation {
  readonly envelope: Envelope
  /** The request as the server gets it: with our span as its parent, where that is wanted. */
  traced(message: Buffer): Buffer
  end(end: OperationEnd): void
}

/** JSON-RPC errors that a server does not count as its own (OpenTelemetry's conventions for MCP, server side). */
const clientFaults = new Set([-32700, -32600, -32601, -32602, -32002])

/** Begins to measure a request; its spans start now, its histograms are recorded at the end. */
export function beginOperation(deps: ObserveDeps, request: ObservedRequest): Operation {
  return new MeasuredOperation(deps, request)
}

class MeasuredOperation implements Operation {
  readonly envelope: Envelope
  readonly #deps: ObserveDeps
  readonly #request: ObservedRequest
  readonly #server: OperationSpan
  readonly #client: OperationSpan
  readonly #startedMs: number
  #isOver = false

  constructor(deps: ObserveDeps, request: ObservedRequest) {
    this.envelope = request.envelope
    this.#deps = deps
    this.#request = request
    const start = spanStart(request)
    this.#server = deps.tracing.startServer(start)
    this.#startedMs = deps.clock.now()
    this.#client = deps.tracing.startClient(this.#server, start)
  }

  traced(message: Buffer): Buffer {
    const { injectsTraceparent, tracing } = this.#deps
    if (injectsTraceparent?.(this.#request.peering.upstream) !== true) return message
    const traceparent = tracing.traceparentOf(this.#client)
    return traceparent === undefined ? message : withTraceparent(message, traceparent)
  }

  end(end: OperationEnd): void {
    if (this.#isOver) return
    this.#isOver = true
    const { peering, envelope, arrivedAtMs } = this.#request
    const result = resultOf(end, envelope.method ?? '')
    const isClientFault = result.rpcStatusCode !== undefined && clientFaults.has(result.rpcStatusCode)
    const nowMs = this.#deps.clock.now()
    this.#record('client', result, result.errorType, nowMs - this.#startedMs)
    this.#record('server', result, isClientFault ? undefined : result.errorType, nowMs - arrivedAtMs)
    tellTraffic(this.#deps.traffic, peering, end, this.#server)
  }

  #record(side: Side, { rpcStatusCode, message }: Result, errorType: string | undefined, durationMs: number): void {
    const { instruments, tracing } = this.#deps
    const { peering, envelope, protocolVersion, clientNetwork = 'tcp' } = this.#request
    const { method, name } = envelope
    const span = side === 'server' ? this.#server : this.#client
    span.end({ errorType, rpcStatusCode, message })
    const networkTransport = side === 'server' ? clientNetwork : peering.network
    // Field by field: spreading objects costs as much as the record itself.
    instruments.recordOperation({
      side,
      upstream: peering.upstream,
      method: method ?? '',
      toolName: method === 'tools/call' ? name : undefined,
      promptName: method === 'prompts/get' ? name : undefined,
      errorType,
      rpcStatusCode,
      protocolVersion,
      networkTransport,
      httpVersion: httpVersionOf(networkTransport),
      serverAddress: side === 'client' ? peering.address : undefined,
      serverPort: side === 'client' ? peering.port : undefined,
      durationSeconds: durationMs / 1000,
      span: tracing.exemplarOf(span),
    })
  }
}

/** What an answer, a failure or a status says about the upstream's health. */
export function tellTraffic(
  traffic: TrafficEvents,
  { upstream, isOwnProcess = false }: Pick<Peering, 'upstream' | 'isOwnProcess'>,
  end: OperationEnd,
  span?: OperationSpan,
): void {
  if (end.kind === 'answer') return traffic.onAnswered(upstream, { isOwnProcess })
  const from = { isOwnProcess, traceId: span?.traceId }
  if (end.kind === 'failure') traffic.onFailed(upstream, end.error, from)
  else if (end.status >= 500) {
    const message = `HTTP ${end.status} without a JSON-RPC answer`
    traffic.onFailed(upstream, new KnownError('upstream_http_error', message), from)
  }
}

/** Both ends of one side are connected alike. */
function httpVersionOf(networkTransport: 'tcp' | 'pipe'): string | undefined {
  return networkTransport === 'tcp' ? '1.1' : undefined
}

function spanStart(request: ObservedRequest): ServerSpanStart {
  const { peering, envelope, httpTraceparent, httpTracestate } = request
  const { method = '', name, traceparent, tracestate } = envelope
  return {
    upstream: peering.upstream,
    method,
    target: method === 'tools/call' || method === 'prompts/get' ? name : undefined,
    meta: traceparent === undefined ? undefined : { traceparent, tracestate },
    http: httpTraceparent === undefined ? undefined : { traceparent: httpTraceparent, tracestate: httpTracestate },
    attributes: (side) => spanAttributes(request, side),
  }
}

function spanAttributes(request: ObservedRequest, side: Side): Attributes {
  const { peering, clientNetwork = 'tcp', envelope, sessionId, protocolVersion } = request
  const networkTransport = side === 'server' ? clientNetwork : peering.network
  const httpVersion = httpVersionOf(networkTransport)
  return {
    [semconv.sessionId]: sessionId,
    [semconv.requestId]: envelope.id === undefined ? undefined : plainId(envelope.id),
    [semconv.resourceUri]: envelope.uri === undefined ? undefined : bareUrl(envelope.uri),
    [semconv.protocolVersion]: protocolVersion,
    [semconv.networkTransport]: networkTransport,
    [semconv.networkProtocol]: httpVersion === undefined ? undefined : 'http',
    [semconv.networkProtocolVersion]: httpVersion,
    // The conventions want the address on the client side alone.
    [semconv.serverAddress]: side === 'client' ? peering.address : undefined,
    [semconv.serverPort]: side === 'client' ? peering.port : undefined,
  }
}

/** A string id without its quotes, as the conventions want it. */
function plainId(id: string): string {
  return id.startsWith('"') ? String(JSON.parse(id)) : id
}

interface Result {
  readonly errorType?: string | undefined
  readonly rpcStatusCode?: number | undefined
  readonly message?: string | undefined
}

function resultOf(end: OperationEnd, method: string): Result {
  switch (end.kind) {
    case 'failure':
      // Closing the connection is how a client ends a subscription.
      if (method === 'subscriptions/listen' && end.error.code === 'cancelled') return {}
      return { errorType: end.error.code, message: end.error.message }
    case 'status':
      return { errorType: statusError(end.status), message: `HTTP ${end.status} without a JSON-RPC answer` }
    case 'answer': {
      const { error, isError } = end.envelope
      if (error) return { errorType: String(error.code), rpcStatusCode: error.code, message: error.message }
      return isError === true ? { errorType: 'tool_error', message: 'the tool reports an error' } : {}
    }
  }
}

function statusError(status: number): string {
  return status === 401 || status === 403 ? 'upstream_unauthorized' : 'upstream_http_error'
}

/** Reads the messages in a response body as it passes: one JSON message, or the events of a stream. */
export class BodyObserver {
  readonly #onMessage: (envelope: Envelope | undefined) => void
  readonly #onEvent: () => void
  #json: EnvelopeReader | undefined
  readonly #events: EventMessages | undefined
  #hasEventIds = false

  /** `onEvent` hears of every event that a client would see, messages included. */
  constructor(
    kind: 'json' | 'events',
    onMessage: (envelope: Envelope | undefined) => void,
    onEvent: () => void = () => undefined,
  ) {
    this.#onMessage = onMessage
    this.#onEvent = onEvent
    if (kind === 'events') this.#events = this.#eventReader()
  }

  /** Whether events carry ids, so that a client can resume the stream. */
  get hasEventIds(): boolean {
    return this.#hasEventIds
  }

  /** Whether what has passed of a stream ends between two events. */
  get isBetweenEvents(): boolean {
    return this.#events?.isBetweenEvents ?? false
  }

  #eventReader(): EventMessages {
    return new EventMessages(({ id, hadData, isMessage, envelope }) => {
      if (hadData) this.#onEvent()
      this.#hasEventIds ||= id !== undefined && id !== ''
      if (isMessage) this.#onMessage(envelope)
    })
  }

  push(chunk: Uint8Array): void {
    if (this.#events) return this.#events.push(chunk)
    this.#json ??= new EnvelopeReader()
    this.#json.push(chunk)
  }

  /** An empty body is no message, whatever its type. */
  end(): void {
    const json = this.#json
    this.#json = undefined
    if (json) this.#onMessage(json.end())
  }
}
