import { SDK_INFO } from '@opentelemetry/core'
import { resourceFromAttributes, type Resource } from '@opentelemetry/resources'
import type { Attributes } from '@opentelemetry/api'
import { refuseResourceCollisions } from './collisions.ts'

/** The environment, as `process.env` has it. */
export type Env = Readonly<Record<string, string | undefined>>

/**
 * Who sends our telemetry: our name and version, then OTEL_RESOURCE_ATTRIBUTES, then OTEL_SERVICE_NAME, the later
 * winning (OpenTelemetry specification, Resource SDK). The SDK's detectors would read `process.env` itself.
 */
export function telemetryResource(env: Env, version: string): Resource {
  const name = env['OTEL_SERVICE_NAME']
  const attributes = {
    'service.name': 'mcp-vitals',
    'service.version': version,
    ...SDK_INFO,
    ...resourceAttributes(env['OTEL_RESOURCE_ATTRIBUTES'] ?? ''),
    ...(name ? { 'service.name': name } : {}),
  }
  refuseResourceCollisions(attributes)
  return resourceFromAttributes(attributes)
}

/** Reads `key=value,key=value` with percent-encoding; on any error all of it is discarded, as the specification says. */
function resourceAttributes(text: string): Attributes {
  const attributes: Attributes = {}
  for (const pair of text.split(',').filter((part) => part.trim() !== '')) {
    const [key, value, ...rest] = pair.split('=')
    if (!key?.trim() || value === undefined || rest.length > 0) return {}
    const decodedKey = percentDecoded(key.trim())
    const decodedValue = percentDecoded(value.trim())
    if (decodedKey === undefined || decodedValue === undefined) return {}
    attributes[decodedKey] = decodedValue
  }
  return attributes
}

function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined // A malformed escape: the caller discards the whole list.
  }
}
