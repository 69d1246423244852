import type { Attributes } from '@opentelemetry/api'
import type { Clock } from '../clock.ts'

/** The ids of a span, in lower-case hexadecimal (W3C Trace Context §3.2.2). */
export interface SpanIds {
  readonly traceId: string
  readonly spanId: string
}

/** One measurement with the trace that it belongs to. */
export interface Exemplar {
  readonly value: number
  readonly wallMs: number
  /** Its ids may be made only when they are read. */
  readonly span: SpanIds
}

/** A measurement on offer: `bucket` is its index in the histogram, 0 for a counter. */
export interface ExemplarOffer {
  readonly bucket: number
  readonly value: number
  readonly span: SpanIds
}

/**
 * Keeps the last exemplar of each bucket of each series. A series is named by its attributes object, which the
 * instruments intern, so this is bounded by the bounded attribute sets; an object must belong to one metric only.
 */
export class ExemplarReservoir {
  readonly #clock: Clock
  readonly #kept = new WeakMap<Attributes, (Exemplar | undefined)[]>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  offer(attributes: Attributes, { bucket, value, span }: ExemplarOffer): void {
    let series = this.#kept.get(attributes)
    if (!series) this.#kept.set(attributes, (series = []))
    series[bucket] = { value, span, wallMs: this.#clock.wallTime() }
  }

  /** The exemplars of one series by bucket index, `undefined` if it has none. */
  of(attributes: Attributes): readonly (Exemplar | undefined)[] | undefined {
    return this.#kept.get(attributes)
  }
}

/** The index of the bucket that `value` falls into: bounds are inclusive, the last bucket has none (OTLP histograms). */
export function bucketIndex(bounds: readonly number[], value: number): number {
  let index = 0
  while (index < bounds.length && value > (bounds[index] ?? 0)) index++
  return index
}
