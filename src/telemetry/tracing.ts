import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  createTraceState,
  isSpanContextValid,
  trace,
  type Attributes,
  type Link,
  type Span,
  type SpanContext,
  type TraceState,
  type Tracer,
} from '@opentelemetry/api'
import { millisToHrTime, parseTraceParent } from '@opentelemetry/core'
import type { SpanProcessor } from '@opentelemetry/sdk-trace'
import { isFailure, type Leg, type Outcome } from '../heartbeat/classify.ts'
import type { Redact } from '../redaction.ts'
import type { Transport } from '../upstreams/upstream.ts'
import { withoutUndefined } from './attribute-sets.ts'
import type { SpanIds } from './exemplars.ts'
import { methodLabel } from './labels.ts'
import { label, semconv } from './names.ts'
import { telemetryResource, type Env } from './resource.ts'
import { spanQueue, type SpanDropReason } from './span-queue.ts'
import { samplingOf, traceSettings, type Sampling, type TraceSettings } from './trace-settings.ts'

/** W3C Trace Context, as `params._meta` (SEP-414) or HTTP headers carry it. */
export interface TraceParent {
  readonly traceparent?: string | undefined
  readonly tracestate?: string | undefined
}

/** How an operation ended; `errorType` makes the span an error, whose description is `message`. */
export interface OperationResult {
  readonly errorType?: string | undefined
  readonly rpcStatusCode?: number | undefined
  readonly message?: string | undefined
  readonly attributes?: Attributes | undefined
}

/** A place in a trace. It has ids even if nothing is recorded, for logs. */
export interface TracePlace extends SpanIds {
  readonly sampled: boolean
}

/** One operation's place in a trace. */
export interface OperationSpan extends TracePlace {
  /** What the parent's makers say in `tracestate`; spans below have it, too (W3C Trace Context §3.3). */
  readonly traceState?: TraceState | undefined
  end(result: OperationResult): void
}

/** Which end of an operation a span is: what a client asked of us, or we of the server. */
export type Side = 'server' | 'client'

/** What a span starts with; `attributes` is only called for spans that are kept. */
export interface SpanStart {
  readonly upstream: string
  readonly method: string
  /** The tool of tools/call or the prompt of prompts/get. */
  readonly target?: string | undefined
  readonly attributes?: ((side: Side) => Attributes) | undefined
}

/** What a SERVER span starts with: where its parent may be found. */
export interface ServerSpanStart extends SpanStart {
  readonly meta?: TraceParent | undefined
  readonly http?: TraceParent | undefined
}

/** A heartbeat that is over. */
export interface HeartbeatTrace {
  readonly upstream: string
  readonly transport: Transport
  readonly leg: Leg
  readonly method: string
  readonly outcome: Outcome
  readonly startedAtWallMs: number
  readonly durationMs: number
  readonly slow: boolean
  readonly stateChanged: boolean
  readonly reason?: string | undefined
}

/** Traces of operations and heartbeats. */
export interface Tracing {
  /** Where spans are sent, `undefined` if they are not. */
  readonly exportsTo: string | undefined
  /** A SERVER span; its parent is in `meta`, with a link to the HTTP context, which is the parent if `meta` is empty. */
  readonly startServer: (start: ServerSpanStart) => OperationSpan
  /** A CLIENT span below `parent`. */
  readonly startClient: (parent: OperationSpan, start: SpanStart) => OperationSpan
  /** Failures, slow heartbeats and changes of state are always kept, 1 % of the others. */
  readonly heartbeat: (heartbeat: HeartbeatTrace) => TracePlace
  /**
   * What a measurement may name as its exemplar: a trace that is kept, as OpenTelemetry's default filter has it. While
   * nothing is exported every id counts, because it still finds the log line.
   */
  readonly exemplarOf: (place: TracePlace) => SpanIds | undefined
  /**
   * What tells the next one on the way of its parent (W3C Trace Context §3.2). Undefined while nothing is exported: a
   * parent that nobody ever sees would tear the trace.
   */
  readonly traceparentOf: (place: TracePlace) => string | undefined
  /** Sends what is left. Rejects if that fails. */
  readonly shutdown: () => Promise<void>
}

/** The share of uneventful heartbeats whose trace is kept. */
const keptHeartbeats = 0.01

/**
 * Sets up tracing as the environment says. Without an endpoint no SDK is loaded, nothing is recorded, and ids are
 * all that is made. Sampling is decided here, before a span or its attributes exist.
 */
export async function tracing(options: {
  readonly env: Env
  readonly serviceVersion: string
  readonly random?: () => number
  /** Hides secrets in the messages of errors, which are the words of a server. */
  readonly redact?: Redact
  /** Hears of every batch of spans that could not be sent. */
  readonly onExportError?: (error: Error) => void
  /** Whether a span that would be kept is given up, because we are overloaded. */
  readonly sheds?: () => boolean
  /** Hears of spans that nobody will ever see. */
  readonly onDropped?: (reason: SpanDropReason, spans: number) => void
  /** Takes the spans in place of the exporter; for tests. */
  readonly spanProcessor?: SpanProcessor
}): Promise<Tracing> {
  const settings = traceSettings(options.env)
  const url = settings.kind === 'otlp' ? settings.url : undefined
  const ids = new TraceIds(options.random ?? Math.random)
  const exporting = async ({ url: to, batches }: Extract<TraceSettings, { kind: 'otlp' }>) => {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto')
    const { onExportError = () => undefined, onDropped = () => undefined } = options
    return spanQueue({ exporter: new OTLPTraceExporter({ url: to }), batches, onExportError, onDropped })
  }
  const processor = options.spanProcessor ?? (settings.kind === 'otlp' ? await exporting(settings) : undefined)
  if (!processor) {
    return tracesOf({ ids, recorder: undefined, exportsTo: undefined, sheds: () => false, shutdown: async () => {} })
  }

  const { TracerProvider, AlwaysOnSampler } = await import('@opentelemetry/sdk-trace')
  const provider = new TracerProvider({
    resource: telemetryResource(options.env, options.serviceVersion),
    sampler: new AlwaysOnSampler(),
    spanProcessors: [processor],
    idGenerator: ids,
  })
  const recorder = {
    tracer: provider.getTracer('mcp-vitals', options.serviceVersion),
    sampling: settings.kind === 'otlp' ? settings.sampling : samplingOf(options.env),
    redact: options.redact ?? ((text: string) => text),
  }
  const sheds = options.sheds ?? (() => false)
  return tracesOf({ ids, recorder, exportsTo: url, sheds, shutdown: () => provider.shutdown() })
}

/**
 * Makes trace and span ids. What was made last is also what the SDK is given when it asks, so that the ids can be
 * known, and sampled by, before there is a span.
 */
class TraceIds {
  readonly #random: () => number
  readonly #bytes = Buffer.alloc(16)
  #traceId = ''
  #spanId = ''

  constructor(random: () => number) {
    this.#random = random
  }

  /** A new span in a trace, or in a new one. */
  next(traceId: string | undefined): SpanIds {
    this.#traceId = traceId ?? this.newTraceId()
    this.#spanId = this.newSpanId()
    return { traceId: this.#traceId, spanId: this.#spanId }
  }

  newTraceId(): string {
    return this.#hex(16)
  }

  newSpanId(): string {
    return this.#hex(8)
  }

  generateTraceId(): string {
    return this.#traceId
  }

  generateSpanId(): string {
    return this.#spanId
  }

  #hex(bytes: number): string {
    for (let at = 0; at < bytes; at += 4) this.#bytes.writeUInt32BE(Math.trunc(this.#random() * 2 ** 32), at)
    this.#bytes[0] = (this.#bytes[0] ?? 0) || 1 // An id of zeros only is invalid (W3C Trace Context §3.2.2).
    return this.#bytes.toString('hex', 0, bytes)
  }
}

interface Recorder {
  readonly tracer: Tracer
  readonly sampling: Sampling
  readonly redact: Redact
}

interface TracingParts {
  readonly ids: TraceIds
  readonly recorder: Recorder | undefined
  readonly exportsTo: string | undefined
  readonly sheds: () => boolean
  readonly shutdown: () => Promise<void>
}

function tracesOf({ ids, recorder, exportsTo, sheds, shutdown }: TracingParts): Tracing {
  return {
    exportsTo,
    shutdown,
    startServer: (start) => {
      const meta = remoteContext(start.meta)
      const http = remoteContext(start.http)
      const parent = meta ?? http
      if (!recorder) return new UnseenSpan(ids, parent)
      const made = ids.next(parent?.traceId)
      if (!isSampled(recorder.sampling, parent, made.traceId) || sheds()) return new UnseenSpan(ids, made)
      const links = meta && http ? [{ context: http }] : []
      return recorded(recorder, startSpan(recorder.tracer, { kind: SpanKind.SERVER, start, parent, links }))
    },
    startClient: (parent, start) => {
      if (!recorder || !parent.sampled) return new UnseenSpan(ids, parent)
      const { traceId } = ids.next(parent.traceId)
      const traceState = parent.traceState && { traceState: parent.traceState }
      const context = { traceId, spanId: parent.spanId, traceFlags: TraceFlags.SAMPLED, ...traceState }
      return recorded(
        recorder,
        startSpan(recorder.tracer, { kind: SpanKind.CLIENT, start, parent: context, links: [] }),
      )
    },
    heartbeat: (heartbeat) => {
      const made = ids.next(undefined)
      const sampled = recorder !== undefined && isKept(recorder.sampling, heartbeat, made.traceId)
      if (sampled) recordHeartbeat(recorder.tracer, heartbeat)
      return { ...made, sampled }
    },
    traceparentOf: ({ traceId, spanId, sampled }) => recorder && `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`,
    exemplarOf: (place) => (recorder && !place.sampled ? undefined : place),
  }
}

function remoteContext(carrier: TraceParent | undefined): SpanContext | undefined {
  if (carrier?.traceparent === undefined) return undefined
  const parsed = parseTraceParent(carrier.traceparent)
  if (!parsed || !isSpanContextValid(parsed)) return undefined
  const traceState = carrier.tracestate ? { traceState: createTraceState(carrier.tracestate) } : {}
  return { ...parsed, ...traceState, isRemote: true }
}

/** A parent's decision holds under the parent-based samplers; else the trace id decides, the same for all its spans. */
function isSampled(sampling: Sampling, parent: SpanContext | undefined, traceId: string): boolean {
  if (parent && sampling.parentBased) return (parent.traceFlags & TraceFlags.SAMPLED) !== 0
  return isWithin(sampling.ratio, traceId)
}

/** Trace ids are random, so their last 32 bits are a fair die. */
function isWithin(ratio: number, traceId: string): boolean {
  return Number.parseInt(traceId.slice(-8), 16) < ratio * 2 ** 32
}

function isKept(sampling: Sampling, { outcome, slow, stateChanged }: HeartbeatTrace, traceId: string): boolean {
  if (sampling.ratio === 0) return false
  return outcome !== 'ok' || slow || stateChanged || isWithin(keptHeartbeats, traceId)
}

/** A span that is not recorded. Its ids are made when somebody asks for them: of most spans nobody ever does. */
class UnseenSpan implements OperationSpan {
  readonly sampled = false
  readonly #ids: TraceIds
  readonly #parent: Pick<SpanIds, 'traceId'> | undefined
  #traceId: string | undefined
  #spanId: string | undefined

  constructor(ids: TraceIds, parent: Pick<SpanIds, 'traceId'> | undefined) {
    this.#ids = ids
    this.#parent = parent
  }

  get traceId(): string {
    return (this.#traceId ??= this.#parent?.traceId ?? this.#ids.newTraceId())
  }

  get spanId(): string {
    return (this.#spanId ??= this.#ids.newSpanId())
  }

  end(): void {
    // There is nothing to end.
  }
}

function recorded({ redact }: Recorder, span: Span): OperationSpan {
  const { traceId, spanId, traceState } = span.spanContext()
  return {
    traceId,
    spanId,
    traceState,
    sampled: true,
    end: ({ errorType, rpcStatusCode, message, attributes }) => {
      span.setAttributes(
        withoutUndefined({
          [semconv.errorType]: errorType,
          [semconv.rpcStatusCode]: rpcStatusCode === undefined ? undefined : String(rpcStatusCode),
          ...attributes,
        }),
      )
      if (errorType !== undefined) span.setStatus(errorStatus(message === undefined ? undefined : redact(message)))
      span.end()
    },
  }
}

function errorStatus(message: string | undefined) {
  return { code: SpanStatusCode.ERROR, ...(message === undefined ? {} : { message }) }
}

interface SpanParts {
  readonly kind: SpanKind
  readonly start: SpanStart
  readonly parent: SpanContext | undefined
  readonly links: Link[]
}

/** Named `{method} {tool or prompt}`, else the method; an unknown method is no span name, since anyone can make it up. */
function startSpan(tracer: Tracer, { kind, start, parent, links }: SpanParts): Span {
  const { upstream, method, target } = start
  const attributes = withoutUndefined({
    [label.upstream]: upstream,
    [semconv.method]: method,
    [semconv.toolName]: method === 'tools/call' ? target : undefined,
    [semconv.genAiOperation]: method === 'tools/call' ? 'execute_tool' : undefined,
    [semconv.promptName]: method === 'prompts/get' ? target : undefined,
    ...start.attributes?.(kind === SpanKind.SERVER ? 'server' : 'client'),
  })
  const name = methodLabel(method)
  const context = parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT
  return tracer.startSpan(target === undefined ? name : `${name} ${target}`, { kind, attributes, links }, context)
}

function recordHeartbeat(tracer: Tracer, heartbeat: HeartbeatTrace): void {
  const { upstream, transport, leg, method, outcome, startedAtWallMs, durationMs, slow, stateChanged } = heartbeat
  const hasFailed = isFailure(outcome)
  const attributes = withoutUndefined({
    [label.upstream]: upstream,
    [semconv.method]: method,
    [semconv.errorType]: hasFailed ? outcome : undefined,
    'mcp.heartbeat.transport': transport,
    'mcp.heartbeat.leg': leg,
    'mcp.heartbeat.outcome': outcome,
    'mcp.heartbeat.slow': slow,
    'mcp.heartbeat.state_changed': stateChanged,
    'mcp.heartbeat.reason': heartbeat.reason,
  })
  const startTime = millisToHrTime(startedAtWallMs)
  const span = tracer.startSpan(`heartbeat ${method}`, { kind: SpanKind.CLIENT, attributes, startTime }, ROOT_CONTEXT)
  if (hasFailed) span.setStatus(errorStatus(heartbeat.reason))
  span.end(millisToHrTime(startedAtWallMs + durationMs))
}
