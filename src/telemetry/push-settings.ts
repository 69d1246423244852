import { KnownError } from '../errors.ts'
import { isSdkDisabled, otlpUrl, wholeNumberOf } from './otlp-settings.ts'
import type { Env } from './resource.ts'

/** Where metrics are sent, and how often. */
export interface PushSettings {
  readonly url: string
  readonly intervalMs: number
}

const temporalityVariable = 'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE'

/** OpenTelemetry specification, OTLP exporter: where a collector listens unless one says otherwise. */
const defaultUrl = 'http://localhost:4318/v1/metrics'

/**
 * Whether metrics are pushed, by the standard variables. `/metrics` is there in any case, so unlike the specification's
 * default a common endpoint alone, which is there for spans, pushes no metrics: OTEL_METRICS_EXPORTER=otlp or an
 * endpoint of their own does.
 */
export function pushSettings(env: Env): PushSettings | undefined {
  const exporters = (env['OTEL_METRICS_EXPORTER'] ?? '').split(',').map((name) => name.trim())
  for (const name of exporters) {
    if (['', 'otlp', 'prometheus', 'none'].includes(name)) continue
    throw new KnownError('config_invalid', `OTEL_METRICS_EXPORTER is "${name}": it may be otlp, prometheus or none`)
  }
  const isAsked = exporters.includes('otlp') || Boolean(env['OTEL_EXPORTER_OTLP_METRICS_ENDPOINT'])
  if (!isAsked || exporters.includes('none') || isSdkDisabled(env)) return undefined
  const temporality = env[temporalityVariable] ?? 'cumulative'
  if (temporality.toLowerCase() !== 'cumulative') {
    throw new KnownError('config_invalid', `${temporalityVariable} is "${temporality}": sums are sent cumulative only`)
  }
  return {
    url: otlpUrl(env, 'METRICS', '/v1/metrics') ?? defaultUrl,
    intervalMs: wholeNumberOf(env, 'OTEL_METRIC_EXPORT_INTERVAL', 60_000),
  }
}
