import { KnownError } from '../errors.ts'
import type { Env } from './resource.ts'

/** Which spans are kept: a share of the new traces, and whether a parent's own decision is followed. */
export interface Sampling {
  readonly ratio: number
  readonly parentBased: boolean
}

/** Where spans go, or that they go nowhere. */
export type TraceSettings =
  { readonly kind: 'off' } | { readonly kind: 'otlp'; readonly url: string; readonly sampling: Sampling }

/**
 * Reads the standard variables: OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT and
 * OTEL_TRACES_SAMPLER[_ARG]. SDK 3.x reads none of these itself, but the exporter reads its headers, time-out,
 * compression and certificates from `process.env`.
 */
export function traceSettings(env: Env): TraceSettings {
  const url = tracesUrl(env)
  const isOff = env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none'
  return url === undefined || isOff ? { kind: 'off' } : { kind: 'otlp', url, sampling: samplingOf(env) }
}

/** The traces' own endpoint is used as it is; the common one is a base (OTLP Exporter specification, "Endpoint URLs"). */
function tracesUrl(env: Env): string | undefined {
  const own = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']
  const base = env['OTEL_EXPORTER_OTLP_ENDPOINT']
  if (own) return checkedUrl('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', own)
  if (base) return checkedUrl('OTEL_EXPORTER_OTLP_ENDPOINT', `${base.replace(/\/$/, '')}/v1/traces`)
  return undefined
}

function checkedUrl(variable: string, url: string): string {
  if (/^https?:\/\//i.test(url) && URL.canParse(url)) return url
  // The value may hold a password, so it is not shown.
  throw new KnownError('config_invalid', `the environment variable ${variable} is no http or https URL`)
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
