import {
  AggregationTemporality,
  InstrumentType,
  MeterProvider,
  MetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics'
import type { Resource } from '@opentelemetry/resources'

/**
 * Series per instrument before the SDK folds the rest into `otel_metric_overflow`. Our own label bounds bite first;
 * this leaves room for 1,000 upstreams with 12 states, or 26 heartbeat outcomes, or a full set of tools each.
 */
const maxSeriesPerInstrument = 200_000

/**
 * The one reader of our metrics: it feeds both `/metrics` and the controllers (a second reader would double the cost
 * of each record). Everything is cumulative but gauges, which are DELTA, or a series once seen would never go away.
 */
export class SnapshotReader extends MetricReader {
  readonly #onError: (error: unknown) => void
  #last: Promise<unknown> = Promise.resolve()

  /** `onError` hears of gauges that could not be read; the snapshot then lacks them. */
  constructor(options: { readonly onError: (error: unknown) => void }) {
    super({
      aggregationTemporalitySelector: (type) =>
        type === InstrumentType.OBSERVABLE_GAUGE ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE,
      cardinalitySelector: () => maxSeriesPerInstrument,
    })
    this.#onError = options.onError
  }

  /** Every series now. Snapshots are immutable; collections run one after the other, else DELTA gauges would be torn. */
  snapshot(): Promise<ResourceMetrics> {
    const collected = this.#last.then(() => this.#collectOnce())
    this.#last = collected.catch(() => undefined)
    return collected
  }

  async #collectOnce(): Promise<ResourceMetrics> {
    const { resourceMetrics, errors } = await this.collect()
    for (const error of errors) this.#onError(error)
    return resourceMetrics
  }

  protected override async onForceFlush(): Promise<void> {}

  protected override async onShutdown(): Promise<void> {}
}

/** The provider that our instruments are made from, read by `reader` alone. */
export function meterProvider(options: {
  readonly reader: SnapshotReader
  readonly resource: Resource
}): MeterProvider {
  return new MeterProvider({ readers: [options.reader], resource: options.resource })
}
