import { KnownError } from '../errors.ts'
import type { Env } from './resource.ts'

/** OTEL_SDK_DISABLED: no signal is exported. */
export function isSdkDisabled(env: Env): boolean {
  return env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true'
}

/** A signal's own endpoint is used as it is; the common one is a base (OTLP Exporter specification, "Endpoint URLs"). */
export function otlpUrl(env: Env, signal: 'TRACES' | 'METRICS', path: string): string | undefined {
  const ownName = `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`
  const own = env[ownName]
  const base = env['OTEL_EXPORTER_OTLP_ENDPOINT']
  if (own) return checkedUrl(ownName, own)
  if (base) return checkedUrl('OTEL_EXPORTER_OTLP_ENDPOINT', `${base.replace(/\/$/, '')}${path}`)
  return undefined
}

function checkedUrl(variable: string, url: string): string {
  if (/^https?:\/\//i.test(url) && URL.canParse(url)) return url
  // The value may hold a password, so it is not shown.
  throw new KnownError('config_invalid', `the environment variable ${variable} is no http or https URL`)
}

/** A variable that holds a positive whole number, such as milliseconds. */
export function wholeNumberOf(env: Env, variable: string, preset: number): number {
  const text = env[variable]?.trim() ?? ''
  if (text === '') return preset
  const value = Number(text)
  if (Number.isInteger(value) && value > 0 && value < 2 ** 31) return value
  throw new KnownError('config_invalid', `${variable} is "${text}": not a whole number above 0`)
}
