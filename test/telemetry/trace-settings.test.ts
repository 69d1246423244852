import { describe, expect, it } from 'vitest'
import { samplingOf, traceSettings } from '../../src/telemetry/trace-settings.ts'

const batches = { scheduleDelayMs: 5000, exportTimeoutMs: 30_000, maxQueueSize: 2048, maxExportBatchSize: 512 }
const always = { ratio: 1, parentBased: true }

describe('traceSettings (OTLP Exporter specification, "Endpoint URLs for OTLP/HTTP")', () => {
  it.each([
    ['nothing', {}, { kind: 'off' }],
    ['an empty endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: '' }, { kind: 'off' }],
    [
      'the base',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' },
      { kind: 'otlp', url: 'http://c:4318/v1/traces', sampling: always, batches },
    ],
    [
      'a base with a path',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c/otlp/' },
      { kind: 'otlp', url: 'https://c/otlp/v1/traces', sampling: always, batches },
    ],
    [
      'the endpoint of traces, as it is',
      { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://t/x', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' },
      { kind: 'otlp', url: 'http://t/x', sampling: always, batches },
    ],
    [
      'this machine, if spans are asked for and nothing else is said',
      { OTEL_TRACES_EXPORTER: 'otlp' },
      { kind: 'otlp', url: 'http://localhost:4318/v1/traces', sampling: always, batches },
    ],
    ['disabled', { OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' }, { kind: 'off' }],
    ['no exporter', { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' }, { kind: 'off' }],
  ])('%s', (_, env, settings) => expect(traceSettings(env)).toEqual(settings))

  it('reads how many spans may wait, and how long', () => {
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318',
      OTEL_BSP_SCHEDULE_DELAY: '1',
      OTEL_BSP_EXPORT_TIMEOUT: '2',
      OTEL_BSP_MAX_QUEUE_SIZE: '3',
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '4',
    }
    expect(traceSettings(env)).toMatchObject({
      batches: { scheduleDelayMs: 1, exportTimeoutMs: 2, maxQueueSize: 3, maxExportBatchSize: 4 },
    })
    expect(() => traceSettings({ ...env, OTEL_BSP_MAX_QUEUE_SIZE: '-1' })).toThrow(
      'OTEL_BSP_MAX_QUEUE_SIZE is "-1": not a whole number above 0',
    )
  })

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
