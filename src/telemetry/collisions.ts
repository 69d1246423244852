import type { Attributes } from '@opentelemetry/api'
import { KnownError } from '../errors.ts'
import { labelName, type Metric } from './names.ts'

/**
 * Refuses two metrics, or two labels of one, that Prometheus would take for the same: it drops the whole scrape then.
 * The samples of a histogram have suffixes, and so has the family of a counter in OpenMetrics.
 */
export function refuseCollisions(metrics: readonly Metric[]): void {
  const owners = new Map<string, string>()
  for (const metric of metrics) {
    for (const name of sampleNames(metric)) {
      const owner = owners.get(name)
      if (owner !== undefined) {
        throw new KnownError('internal', `the metrics ${owner} and ${metric.instrument} both have the samples ${name}`)
      }
      owners.set(name, metric.instrument)
    }
    const [one, other] = sameLabels(metric.labels)
    if (one !== undefined) {
      throw new KnownError('internal', `the labels ${one} and ${other} of ${metric.instrument} are the same`)
    }
  }
}

/** The same for the resource, whose attributes are the labels of `target_info`; a user names these. */
export function refuseResourceCollisions(attributes: Attributes): void {
  const [one, other] = sameLabels(Object.keys(attributes))
  if (one === undefined) return
  throw new KnownError(
    'config_invalid',
    `the resource attributes "${one}" and "${other}" (OTEL_RESOURCE_ATTRIBUTES) are both the label ${labelName(one)}`,
  )
}

function sampleNames({ family, kind }: Metric): string[] {
  if (kind === 'histogram') return [family, `${family}_bucket`, `${family}_sum`, `${family}_count`]
  return kind === 'counter' ? [family, family.replace(/_total$/, '')] : [family]
}

/** The first two keys that become the same label; none if there are no such. */
function sameLabels(keys: readonly string[]): readonly [string, string] | readonly [undefined, undefined] {
  const owners = new Map<string, string>()
  for (const key of keys) {
    const owner = owners.get(labelName(key))
    if (owner !== undefined) return [owner, key]
    owners.set(labelName(key), key)
  }
  return [undefined, undefined]
}
