import { describe, expect, it } from 'vitest'
import {
  heartbeatBounds,
  labelName,
  liveMetrics,
  metrics,
  metricsTable,
  operationBounds,
} from '../../src/telemetry/names.ts'
import type { Metric } from '../../src/telemetry/names.ts'

const all = Object.values<Metric>(metrics)

/** OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", OTLP metric points to Prometheus. */
function translated({ instrument, unit, kind }: Metric): string {
  const suffix = { s: '_seconds', By: '_bytes', '1': kind === 'gauge' ? '_ratio' : '' }[unit] ?? ''
  return instrument.replaceAll('.', '_') + suffix + (kind === 'counter' ? '_total' : '')
}

describe('the table of metrics', () => {
  it.each(all.map((metric) => [metric.family, metric] as const))(
    '%s is what a Collector would call it',
    (family, metric) => {
      expect(translated(metric)).toBe(family)
    },
  )

  it('has no name twice', () => {
    expect(new Set(all.map(({ family }) => family)).size).toBe(all.length)
    expect(new Set(all.map(({ instrument }) => instrument)).size).toBe(all.length)
  })

  it.each(all.map((metric) => [metric.family, metric] as const))('%s has distinct, valid labels', (_, { labels }) => {
    const names = labels.map(labelName)
    expect(new Set(names).size).toBe(names.length)
    for (const name of names) expect(name).toMatch(/^[a-z][a-z0-9_]*$/)
  })

  it.each([operationBounds, heartbeatBounds])('has ascending bounds', (...bounds) => {
    expect(bounds.toSorted((a, b) => a - b)).toEqual(bounds)
  })

  it('has bounds for each histogram, and a help that is a sentence', () => {
    for (const { kind, bounds, help } of all) {
      expect(bounds !== undefined).toBe(kind === 'histogram')
      expect(help).toMatch(/^[A-Z0-9].*\.$/)
    }
  })
})

describe('metricsTable', () => {
  it('has one row per live metric', () => {
    const rows = metricsTable().trimEnd().split('\n').slice(2)
    expect(rows.length).toBe(liveMetrics().length)
    expect(rows).toContain(
      '| `mcp_upstream_up` | gauge |  | `upstream` `transport` | 1 if the server answers, 0 if not; absent while idle, paused or disabled. |',
    )
    const planned = all.filter(({ live }) => !live).map(({ family }) => family)
    for (const family of planned) expect(metricsTable()).not.toContain(family)
  })
})
