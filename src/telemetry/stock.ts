import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import type { MetricData, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { liveMetrics } from './names.ts'

/** OpenTelemetry's own text of our metrics, under our Prometheus names, so that the same dashboards and rules fit. */
export function stockText({ resource, scopeMetrics }: ResourceMetrics): string {
  const families = new Map(liveMetrics().map((metric) => [metric.instrument, metric.family]))
  const renamed = (metric: MetricData): MetricData => {
    const descriptor = { ...metric.descriptor, name: families.get(metric.descriptor.name) ?? metric.descriptor.name }
    return { ...metric, descriptor: { ...descriptor, unit: '' } }
  }
  const named = scopeMetrics.map(({ scope, metrics }) => ({ scope, metrics: metrics.map(renamed) }))
  return new PrometheusSerializer('', false, undefined, false, true).serialize({ resource, scopeMetrics: named })
}
