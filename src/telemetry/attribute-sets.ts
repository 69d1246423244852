import type { Attributes } from '@opentelemetry/api'
import type { SpanIds } from './exemplars.ts'
import { label, semconv } from './names.ts'
import {
  errorTypeLabel,
  httpVersionLabel,
  methodLabel,
  overflowValue,
  protocolVersionLabel,
  rpcStatusLabel,
  type LabelBounds,
} from './labels.ts'
import type { Series, SeriesKeys } from './series.ts'

/** One JSON-RPC request and its answer, as it ended. */
export interface Operation {
  readonly side: 'server' | 'client'
  readonly upstream: string
  readonly method: string
  readonly toolName?: string | undefined
  readonly promptName?: string | undefined
  readonly errorType?: string | undefined
  readonly rpcStatusCode?: number | undefined
  readonly protocolVersion?: string | undefined
  readonly networkTransport: 'tcp' | 'pipe'
  /** Implies `network.protocol.name=http`; only with tcp. */
  readonly httpVersion?: string | undefined
  readonly serverAddress?: string | undefined
  readonly serverPort?: number | undefined
  readonly durationSeconds: number
  /** What it may leave as its exemplar. */
  readonly span?: SpanIds | undefined
}

/** Gives one series per distinct attribute set: exemplars and the serializer's cached label strings are kept by it. */
export class AttributeSets {
  readonly #keys: SeriesKeys
  readonly #sets = new Map<string, Series>()

  constructor(keys: SeriesKeys) {
    this.#keys = keys
  }

  /** The set named `name`; the first time, `make` makes it. */
  of(name: string, make: () => Attributes): Series {
    const known = this.#sets.get(name)
    if (known) return known
    const made = this.#keys.of(make())
    this.#sets.set(name, made)
    return made
  }
}

/**
 * The attribute sets of operations, at most `maxPerUpstream` for each upstream. What exceeds that keeps its error and
 * loses its method and names, so that the figures per upstream stay true.
 */
export class OperationSets {
  readonly #sets = new Map<string, Series>()
  readonly #sizes = new Map<string, number>()
  readonly #options: OperationSetsOptions
  /** Most operations are like the one before. What lost a name may get it when others are admitted. */
  #last: { readonly operation: Operation; readonly series: Series; readonly names: number } | undefined

  constructor(options: OperationSetsOptions) {
    this.#options = options
  }

  of(operation: Operation): Series {
    const { labels } = this.#options
    const names = labels.count()
    if (this.#last?.names === names && isAlike(this.#last.operation, operation)) return this.#last.series
    const bounded = boundOperation(operation, labels)
    const key = operationKey(bounded)
    const series = this.#sets.get(key) ?? this.#add(key, bounded)
    this.#last = { operation, series, names }
    return series
  }

  #add(key: string, operation: BoundedOperation): Series {
    const { upstream, method } = operation
    const size = this.#sizes.get(upstream) ?? 0
    if (size >= this.#options.maxPerUpstream && method !== overflowValue) return this.#overflow(operation)
    const made = this.#options.keys.of(operationAttributes(operation))
    this.#sets.set(key, made)
    this.#sizes.set(upstream, size + 1)
    return made
  }

  #overflow({ upstream, errorType, networkTransport }: BoundedOperation): Series {
    const coarse: BoundedOperation = { upstream, method: overflowValue, errorType, networkTransport }
    const key = operationKey(coarse)
    return this.#sets.get(key) ?? this.#add(key, coarse)
  }
}

interface OperationSetsOptions {
  readonly keys: SeriesKeys
  readonly labels: LabelBounds
  readonly maxPerUpstream: number
}

/** Whether what is recorded under `attributes` lost a name, because it was never announced or there are too many. */
export function isOverflow(attributes: Attributes): boolean {
  const { [semconv.method]: method, [semconv.toolName]: tool, [semconv.promptName]: prompt } = attributes
  return method === overflowValue || tool === overflowValue || prompt === overflowValue
}

/** Whether two operations have the same attributes. */
function isAlike(one: Operation, other: Operation): boolean {
  return (
    one.method === other.method &&
    one.toolName === other.toolName &&
    one.upstream === other.upstream &&
    one.errorType === other.errorType &&
    one.rpcStatusCode === other.rpcStatusCode &&
    one.promptName === other.promptName &&
    one.protocolVersion === other.protocolVersion &&
    one.networkTransport === other.networkTransport &&
    one.httpVersion === other.httpVersion &&
    one.serverAddress === other.serverAddress &&
    one.serverPort === other.serverPort
  )
}

/** An operation whose every field is out of a closed or counted set. */
interface BoundedOperation {
  readonly upstream: string
  readonly method: string
  readonly networkTransport: string
  readonly toolName?: string | undefined
  readonly promptName?: string | undefined
  readonly errorType?: string | undefined
  readonly rpcStatus?: string | undefined
  readonly protocolVersion?: string | undefined
  readonly httpVersion?: string | undefined
  readonly serverAddress?: string | undefined
  readonly serverPort?: number | undefined
}

function boundOperation(o: Operation, labels: LabelBounds): BoundedOperation {
  return {
    upstream: o.upstream,
    method: methodLabel(o.method),
    networkTransport: o.networkTransport,
    toolName: o.toolName === undefined ? undefined : labels.bound(o.upstream, 'tool', o.toolName),
    promptName: o.promptName === undefined ? undefined : labels.bound(o.upstream, 'prompt', o.promptName),
    errorType: o.errorType === undefined ? undefined : errorTypeLabel(o.errorType),
    rpcStatus: o.rpcStatusCode === undefined ? undefined : rpcStatusLabel(o.rpcStatusCode),
    protocolVersion: o.protocolVersion === undefined ? undefined : protocolVersionLabel(o.protocolVersion),
    httpVersion: o.httpVersion === undefined ? undefined : httpVersionLabel(o.httpVersion),
    serverAddress: o.serverAddress,
    serverPort: o.serverPort,
  }
}

/** The separator cannot occur in the closed sets; a tool name holding it could at worst share another tool's series. */
function operationKey(o: BoundedOperation): string {
  return `${o.upstream}\0${o.method}\0${o.toolName}\0${o.promptName}\0${o.errorType}\0${o.rpcStatus}\0${o.protocolVersion}\0${o.networkTransport}\0${o.httpVersion}\0${o.serverAddress}\0${o.serverPort}`
}

function operationAttributes(o: BoundedOperation): Attributes {
  const isHttp = o.networkTransport === 'tcp' && o.httpVersion !== undefined
  return withoutUndefined({
    [label.upstream]: o.upstream,
    [semconv.method]: o.method,
    [semconv.toolName]: o.toolName,
    [semconv.promptName]: o.promptName,
    [semconv.genAiOperation]: o.method === 'tools/call' ? 'execute_tool' : undefined,
    [semconv.errorType]: o.errorType,
    [semconv.rpcStatusCode]: o.rpcStatus,
    [semconv.protocolVersion]: o.protocolVersion,
    [semconv.networkTransport]: o.networkTransport,
    [semconv.networkProtocol]: isHttp ? 'http' : undefined,
    [semconv.networkProtocolVersion]: isHttp ? o.httpVersion : undefined,
    [semconv.serverAddress]: o.serverAddress,
    [semconv.serverPort]: o.serverPort,
  })
}

/** The attributes that have a value. */
export function withoutUndefined(attributes: Readonly<Attributes>): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))
}
