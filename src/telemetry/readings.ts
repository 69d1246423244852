import { DataPointType, type Histogram, type MetricData, type ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { Attributes } from '@opentelemetry/api'
import type { Clock } from '../clock.ts'
import { isAnswered, isFailure, outcomes, untimedMethods } from '../heartbeat/classify.ts'
import { heartbeatBounds, label, metrics, semconv } from './names.ts'

/** What one upstream's metrics say in total since we started, or between two snapshots. */
export interface UpstreamReading {
  /** Heartbeats towards the server; those towards its clients say nothing about it. */
  readonly heartbeats: number
  readonly failures: number
  /** Heartbeats that got an answer. */
  readonly answered: number
  readonly rttSumSeconds: number
  /**
   * Answered heartbeats, which `rttSumSeconds` and `buckets` are of, but for those that say nothing about how fast it
   * answers: `initialize`, which takes as long as the server needs to start, and those for which nothing was asked.
   */
  readonly rttCount: number
  readonly buckets: { readonly bounds: readonly number[]; readonly counts: readonly number[] }
  /** Requests that we sent to the server for its clients. */
  readonly operations: number
  readonly operationFailures: number
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

/** Requests from servers to clients: the answer is the client's, and often a person's. */
const clientMethods: ReadonlySet<unknown> = new Set(['sampling/createMessage', 'elicitation/create', 'roots/list'])

/** Reads the cumulative figures of every upstream out of one snapshot. */
export function readUpstreams({ scopeMetrics }: ResourceMetrics): Map<string, UpstreamReading> {
  const readings = new Map<string, Mutable<UpstreamReading>>()
  const readingOf = ({ [label.upstream]: upstream }: Attributes) => {
    const known = readings.get(String(upstream)) ?? { ...emptyReading(heartbeatBounds) }
    readings.set(String(upstream), known)
    return known
  }
  for (const metric of scopeMetrics.flatMap((scope) => scope.metrics)) {
    for (const { attributes, value } of histogramPoints(metric)) {
      // Most series of an upstream that is well tell of failures that never happened.
      if (value.count === 0) continue
      if (metric.descriptor.name === metrics.heartbeatDuration.instrument) {
        addHeartbeats(readingOf(attributes), attributes, value)
      } else if (metric.descriptor.name === metrics.clientOperationDuration.instrument) {
        addOperations(readingOf(attributes), attributes, value)
      }
    }
  }
  return readings
}

function histogramPoints(metric: MetricData) {
  return metric.dataPointType === DataPointType.HISTOGRAM ? metric.dataPoints : []
}

function addHeartbeats(reading: Mutable<UpstreamReading>, attributes: Attributes, value: Histogram): void {
  if (attributes[label.leg] === 'client') return
  reading.heartbeats += value.count
  const outcome = outcomes.find((known) => known === attributes[label.outcome])
  if (outcome === undefined) return
  if (isFailure(outcome)) reading.failures += value.count
  if (!isAnswered(outcome)) return
  reading.answered += value.count
  if (untimedMethods.includes(String(attributes[label.method]))) return
  reading.rttSumSeconds += value.sum ?? 0
  reading.rttCount += value.count
  const { bounds, counts } = reading.buckets
  reading.buckets = { bounds, counts: counts.map((count, index) => count + (value.buckets.counts[index] ?? 0)) }
}

function addOperations(reading: Mutable<UpstreamReading>, attributes: Attributes, value: Histogram): void {
  if (clientMethods.has(attributes[semconv.method])) return
  reading.operations += value.count
  if (isInfrastructureFailure(attributes[semconv.errorType])) reading.operationFailures += value.count
}

/** Whether an `error.type` blames the way to the server, or the server's HTTP front, rather than the request. */
export function isInfrastructureFailure(errorType: unknown): boolean {
  if (typeof errorType !== 'string') return false
  // The last of these the server never saw: nothing of it runs.
  const others = ['upstream_unauthorized', 'upstream_session_gone', 'upstream_restarting']
  if (others.includes(errorType)) return false
  return errorType.startsWith('upstream_') || /^5\d\d$/.test(errorType)
}

/** A reading of nothing. */
export function emptyReading(bounds: readonly number[]): UpstreamReading {
  return {
    heartbeats: 0,
    failures: 0,
    answered: 0,
    rttSumSeconds: 0,
    rttCount: 0,
    buckets: { bounds, counts: [...bounds.map(() => 0), 0] },
    operations: 0,
    operationFailures: 0,
  }
}

/** What happened between two readings of the same upstream. If any count fell, it started anew and all of it is new. */
export function diffReading(earlier: UpstreamReading | undefined, later: UpstreamReading): UpstreamReading {
  if (!earlier || hasReset(earlier, later)) return later
  const { bounds, counts } = later.buckets
  return {
    heartbeats: later.heartbeats - earlier.heartbeats,
    failures: later.failures - earlier.failures,
    answered: later.answered - earlier.answered,
    rttSumSeconds: Math.max(0, later.rttSumSeconds - earlier.rttSumSeconds),
    rttCount: later.rttCount - earlier.rttCount,
    buckets: { bounds, counts: counts.map((count, index) => count - (earlier.buckets.counts[index] ?? 0)) },
    operations: later.operations - earlier.operations,
    operationFailures: later.operationFailures - earlier.operationFailures,
  }
}

function hasReset(earlier: UpstreamReading, later: UpstreamReading): boolean {
  return (
    later.heartbeats < earlier.heartbeats ||
    later.failures < earlier.failures ||
    later.answered < earlier.answered ||
    later.rttCount < earlier.rttCount ||
    later.operations < earlier.operations ||
    later.operationFailures < earlier.operationFailures ||
    later.buckets.counts.some((count, index) => count < (earlier.buckets.counts[index] ?? 0))
  )
}

/**
 * The q-quantile of a histogram, as Prometheus's `histogram_quantile` has it: linear within a bucket, the first of
 * which starts at 0; what falls into the last one reads as the highest bound. `undefined` without observations.
 */
export function quantile(bounds: readonly number[], counts: readonly number[], q: number): number | undefined {
  const total = counts.reduce((sum, count) => sum + count, 0)
  if (total === 0 || Number.isNaN(q)) return undefined
  const rank = Math.min(1, Math.max(0, q)) * total
  let below = 0
  let lower = 0
  for (const [index, upper] of bounds.entries()) {
    const count = counts[index] ?? 0
    if (count > 0 && below + count >= rank) return lower + (upper - lower) * ((rank - below) / count)
    below += count
    lower = upper
  }
  return lower
}

/** How long controllers share the readings of one snapshot. */
const shortestAgeMs = 1000
const longestAgeMs = 5000
/** A collection may take this part of the time: one of 18 ms, as at 11,000 series, is kept for 1.8 s. */
const collectingRatio = 0.01

type Readings = ReadonlyMap<string, UpstreamReading>

/**
 * Shares what one snapshot says between all controllers: for a second, or for up to five where collecting takes long, be
 * it for many series or on a busy machine. The snapshot itself, many times larger, is forgotten at once. A failed one is
 * not kept.
 */
export class ReadingsCache {
  readonly #clock: Clock
  readonly #collect: () => Promise<ResourceMetrics>
  #maxAgeMs = shortestAgeMs
  #latest: { readonly atMs: number; readonly readings: Promise<Readings> } | undefined

  constructor(clock: Clock, collect: () => Promise<ResourceMetrics>) {
    this.#clock = clock
    this.#collect = collect
  }

  /** Readings that are at most `longestAgeMs` old. */
  current(): Promise<Readings> {
    const nowMs = this.#clock.now()
    if (this.#latest && nowMs - this.#latest.atMs < this.#maxAgeMs) return this.#latest.readings
    const collecting = { atMs: nowMs, readings: this.#collect().then(readUpstreams) }
    this.#latest = collecting
    collecting.readings.then(
      () => this.#keepFor((this.#clock.now() - nowMs) / collectingRatio),
      () => {
        if (this.#latest === collecting) this.#latest = undefined
      },
    )
    return collecting.readings
  }

  #keepFor(ageMs: number): void {
    this.#maxAgeMs = Math.min(longestAgeMs, Math.max(shortestAgeMs, ageMs))
  }
}
