import type { Attributes } from '@opentelemetry/api'
import type { MetricData, ResourceMetrics } from '@opentelemetry/sdk-metrics'

/** One series: its attributes, and the short `key` that it is recorded under. */
export interface Series {
  readonly attributes: Attributes
  readonly key: Attributes
}

/**
 * Stands in for attribute sets inside the SDK, which makes a sorted JSON text of the attributes of every measurement to
 * find its series, and keeps two copies of it: with ten attributes that costs more than everything else that recording
 * does. A key is a set of one number; snapshots get the attributes back.
 */
export class SeriesKeys {
  readonly #attributes = new WeakMap<Attributes, Attributes>()
  #count = 0

  of(attributes: Attributes): Series {
    const key = { series: ++this.#count }
    this.#attributes.set(key, attributes)
    return { attributes, key }
  }

  /** Puts the attributes where the keys are. It changes the points themselves, which a collection makes afresh. */
  expand(metrics: ResourceMetrics): ResourceMetrics {
    for (const { dataPoints } of metrics.scopeMetrics.flatMap((scope): MetricData[] => scope.metrics)) {
      for (const point of dataPoints) this.#expandPoint(point)
    }
    return metrics
  }

  #expandPoint(point: { attributes: Attributes }): void {
    point.attributes = this.#attributes.get(point.attributes) ?? point.attributes
  }
}
