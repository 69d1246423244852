import { KnownError } from '../errors.ts'
import { isSdkDisabled, otlpUrl, wholeNumberOf } from './otlp-settings.ts'
import type { Env } from './resource.ts'
import type { BatchSettings } from './span-queue.ts'

/** Which spans are kept: a share of the new traces, and whether a parent's own decision is followed. */
export interface Sampling {
  readonly ratio: number
  readonly parentBased: boolean
}

/** Where spans go, or that they go nowhere. */
export type TraceSettings =
  | { readonly kind: 'off' }
  | { readonly kind: 'otlp'; readonly url: string; readonly sampling: Sampling; readonly batches: BatchSettings }

/** OpenTelemetry specification, OTLP exporter: where a collector listens unless one says otherwise. */
const defaultUrl = 'http://localhost:4318/v1/traces'

/**
 * Reads the standard variables: OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT,
 * OTEL_TRACES_SAMPLER[_ARG] and OTEL_BSP_*. SDK 3.x reads none of these itself, but the exporter reads its headers, time-out,
 * compression and certificates from `process.env`. Unlike the specification's default, nothing is sent unless an endpoint
 * or OTEL_TRACES_EXPORTER asks for it.
 */
export function traceSettings(env: Env): TraceSettings {
  const exporters = (env['OTEL_TRACES_EXPORTER'] ?? '').split(',').map((name) => name.trim())
  const url = otlpUrl(env, 'TRACES', '/v1/traces') ?? (exporters.includes('otlp') ? defaultUrl : undefined)
  if (url === undefined || exporters.includes('none') || isSdkDisabled(env)) return { kind: 'off' }
  return { kind: 'otlp', url, sampling: samplingOf(env), batches: batchSettings(env) }
}

function batchSettings(env: Env): BatchSettings {
  return {
    scheduleDelayMs: wholeNumberOf(env, 'OTEL_BSP_SCHEDULE_DELAY', 5000),
    exportTimeoutMs: wholeNumberOf(env, 'OTEL_BSP_EXPORT_TIMEOUT', 30_000),
    maxQueueSize: wholeNumberOf(env, 'OTEL_BSP_MAX_QUEUE_SIZE', 2048),
    maxExportBatchSize: wholeNumberOf(env, 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 512),
  }
}

/** The samplers of the specification by name; the ratio is 1 unless the argument is a number from 0 to 1. */
export function samplingOf(env: Env): Sampling {
  const name = env['OTEL_TRACES_SAMPLER'] || 'parentbased_always_on'
  const parentBased = name.startsWith('parentbased_')
  switch (name.replace(/^parentbased_/, '')) {
    case 'always_on':
      return { ratio: 1, parentBased }
    case 'always_off':
      return { ratio: 0, parentBased }
    case 'traceidratio':
      return { ratio: ratioOf(env['OTEL_TRACES_SAMPLER_ARG']), parentBased }
    default:
      throw new KnownError('config_invalid', `OTEL_TRACES_SAMPLER is "${name}": not a sampler that we know`)
  }
}

function ratioOf(text: string | undefined): number {
  const ratio = text === undefined || text.trim() === '' ? 1 : Number(text)
  if (ratio >= 0 && ratio <= 1) return ratio
  throw new KnownError('config_invalid', `OTEL_TRACES_SAMPLER_ARG is "${text}": not a number from 0 to 1`)
}
