import type { Attributes } from '@opentelemetry/api'
import type { Clock } from '../clock.ts'

/** One measurement with the trace that it belongs to. */
export interface Exemplar {
  readonly value: number
  readonly wallMs: number
  readonly traceId: string
  readonly spanId: string
}

/** A measurement on offer: `bucket` is its index in the histogram, 0 for a counter. */
export interface ExemplarOffer {
  readonly bucket: number
  readonly value: number
  readonly traceId: string
  readonly spanId: string
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

  offer(attributes: Attributes, { bucket, value, traceId, spanId }: ExemplarOffer): void {
    let series = this.#kept.get(attributes)
    if (!series) this.#kept.set(attributes, (series = []))
    series[bucket] = { value, traceId, spanId, wallMs: this.#clock.wallTime() }
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
