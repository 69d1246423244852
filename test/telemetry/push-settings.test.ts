import { describe, expect, it } from 'vitest'
import { pushSettings } from '../../src/telemetry/push-settings.ts'

const common = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/' }
const own = { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'https://metrics.example/here' }
const otlp = { OTEL_METRICS_EXPORTER: 'otlp' }
const url = (address: string) => ({ url: address, intervalMs: 60_000 })

describe('metrics are pushed', () => {
  it.each<[string, Readonly<Record<string, string>>, string | undefined]>([
    ['not by default', {}, undefined],
    ['not for an endpoint that may be meant for spans', common, undefined],
    ['where they are asked for, to the common endpoint', { ...common, ...otlp }, 'http://collector:4318/v1/metrics'],
    ['where they have an endpoint of their own, as it is', { ...common, ...own }, 'https://metrics.example/here'],
    ['to this machine if nothing else is said', otlp, 'http://localhost:4318/v1/metrics'],
    ['beside Prometheus', { OTEL_METRICS_EXPORTER: 'prometheus, otlp' }, 'http://localhost:4318/v1/metrics'],
    ['not with none', { ...own, OTEL_METRICS_EXPORTER: 'none' }, undefined],
    ['not when the SDK is disabled', { ...own, OTEL_SDK_DISABLED: 'TRUE' }, undefined],
  ])('%s', (_, env, address) => {
    expect(pushSettings(env)).toEqual(address === undefined ? undefined : url(address))
  })

  it('as often as the environment says', () => {
    expect(pushSettings({ ...otlp, OTEL_METRIC_EXPORT_INTERVAL: '5000' })).toMatchObject({ intervalMs: 5000 })
  })

  it.each([
    [{ OTEL_METRICS_EXPORTER: 'console' }, 'OTEL_METRICS_EXPORTER is "console": it may be otlp, prometheus or none'],
    [{ ...otlp, OTEL_METRIC_EXPORT_INTERVAL: '5s' }, 'OTEL_METRIC_EXPORT_INTERVAL is "5s": not a whole number above 0'],
    [
      { ...otlp, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'delta' },
      'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is "delta": sums are sent cumulative only',
    ],
    [
      { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'me:pw@collector' },
      'the environment variable OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is no http or https URL',
    ],
  ])('and a mistake is told: %j', (env, message) => {
    expect(() => pushSettings(env)).toThrow(message)
  })
})
