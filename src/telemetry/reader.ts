import {
  AggregationTemporality,
  InstrumentType,
  MeterProvider,
  MetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics'
import type { Meter } from '@opentelemetry/api'
import type { Resource } from '@opentelemetry/resources'
import { SeriesKeys } from './series.ts'

/**
 * Series per instrument before the SDK folds the rest into `otel_metric_overflow`. Our own label bounds bite first;
 * this leaves room for 1,000 upstreams with 12 states, or 26 heartbeat outcomes, or a full set of tools each.
 */
const maxSeriesPerInstrument = 200_000

/**
 * The one reader of its metrics: it feeds both `/metrics` and the controllers (a second reader would double the cost
 * of each record). Everything is cumulative but gauges, which are DELTA, or a series once seen would never go away.
 */
class SnapshotReader extends MetricReader {
  readonly #keys: SeriesKeys
  readonly #onError: (error: unknown) => void
  #last: Promise<unknown> = Promise.resolve()

  /** `onError` hears of gauges that could not be read; the snapshot then lacks them. */
  constructor(options: { readonly keys: SeriesKeys; readonly onError: (error: unknown) => void }) {
    super({
      aggregationTemporalitySelector: (type) =>
        type === InstrumentType.OBSERVABLE_GAUGE ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE,
      cardinalitySelector: () => maxSeriesPerInstrument,
    })
    this.#keys = options.keys
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
    return this.#keys.expand(resourceMetrics)
  }

  protected override async onForceFlush(): Promise<void> {}

  protected override async onShutdown(): Promise<void> {}
}

/** Where our instruments are made: those that the controllers read, and the rest, which only a scrape reads. */
export interface Meters {
  readonly readings: Meter
  readonly rest: Meter
  /** What is recorded with a key of these comes out with its attributes. */
  readonly keys: SeriesKeys
}

/** All that we measure. */
export interface Metering {
  readonly meters: Meters
  /** Every series now. */
  readonly snapshot: () => Promise<ResourceMetrics>
  /** The series of `meters.readings` alone. */
  readonly readings: () => Promise<ResourceMetrics>
}

/**
 * Our metrics in two pipelines. A collection costs as much as there are series, and 1,000 upstreams have 130,000, of
 * which the controllers, who collect every second, read 3 %.
 */
export function metering(options: {
  readonly resource: Resource
  readonly version: string
  readonly onError: (error: unknown) => void
}): Metering {
  const { resource, version, onError } = options
  const keys = new SeriesKeys()
  const pipeline = () => {
    const reader = new SnapshotReader({ keys, onError })
    return { reader, meter: new MeterProvider({ readers: [reader], resource }).getMeter('mcp-vitals', version) }
  }
  const readings = pipeline()
  const rest = pipeline()
  return {
    meters: { readings: readings.meter, rest: rest.meter, keys },
    snapshot: async () => {
      const [read, others] = await Promise.all([readings.reader.snapshot(), rest.reader.snapshot()])
      return { resource, scopeMetrics: [...read.scopeMetrics, ...others.scopeMetrics] }
    },
    readings: () => readings.reader.snapshot(),
  }
}
