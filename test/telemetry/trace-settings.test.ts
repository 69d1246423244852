import { describe, expect, it } from 'vitest'
import { samplingOf, traceSettings } from '../../src/telemetry/trace-settings.ts'

const always = { ratio: 1, parentBased: true }

describe('traceSettings (OTLP Exporter specification, "Endpoint URLs for OTLP/HTTP")', () => {
  it.each([
    ['nothing', {}, { kind: 'off' }],
    ['an empty endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: '' }, { kind: 'off' }],
    [
      'the base',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' },
      { kind: 'otlp', url: 'http://c:4318/v1/traces', sampling: always },
    ],
    [
      'a base with a path',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c/otlp/' },
      { kind: 'otlp', url: 'https://c/otlp/v1/traces', sampling: always },
    ],
    [
      'the endpoint of traces, as it is',
      { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://t/x', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' },
      { kind: 'otlp', url: 'http://t/x', sampling: always },
    ],
    ['disabled', { OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' }, { kind: 'off' }],
    ['no exporter', { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' }, { kind: 'off' }],
  ])('%s', (_, env, settings) => expect(traceSettings(env)).toEqual(settings))

  it.each(['collector:4317', 'grpc://c:4317', 'nonsense'])('refuses %s', (value) => {
    expect(() => traceSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: value })).toThrow(
      'the environment variable OTEL_EXPORTER_OTLP_ENDPOINT is no http or https URL',
    )
  })
})

describe('samplingOf (OpenTelemetry specification, SDK environment variables)', () => {
  it.each([
    ['always_on', undefined, { ratio: 1, parentBased: false }],
    ['always_off', undefined, { ratio: 0, parentBased: false }],
    ['traceidratio', '0.25', { ratio: 0.25, parentBased: false }],
    ['traceidratio', undefined, { ratio: 1, parentBased: false }],
    ['parentbased_always_on', undefined, { ratio: 1, parentBased: true }],
    ['parentbased_always_off', undefined, { ratio: 0, parentBased: true }],
    ['parentbased_traceidratio', '0', { ratio: 0, parentBased: true }],
    [undefined, '0.5', { ratio: 1, parentBased: true }],
  ])('%s, %s', (name, argument, sampling) => {
    expect(samplingOf({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: argument })).toEqual(sampling)
  })

  it.each([
    [{ OTEL_TRACES_SAMPLER: 'xray' }, 'OTEL_TRACES_SAMPLER is "xray": not a sampler that we know'],
    [
      { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '20%' },
      'OTEL_TRACES_SAMPLER_ARG is "20%": not a number from 0 to 1',
    ],
  ])('refuses %j', (env, message) => expect(() => samplingOf(env)).toThrow(message))
})
