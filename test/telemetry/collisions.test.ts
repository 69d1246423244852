import { describe, expect, it } from 'vitest'
import { refuseCollisions, refuseResourceCollisions } from '../../src/telemetry/collisions.ts'
import { liveMetrics, type Metric } from '../../src/telemetry/names.ts'

const metric = (instrument: string, family: string, kind: Metric['kind'], labels: readonly string[] = []): Metric => {
  return { instrument, family, kind, labels, unit: '', help: 'x', live: true }
}

describe('names', () => {
  it('of our metrics do not collide', () => {
    expect(() => refuseCollisions(liveMetrics())).not.toThrow()
  })

  it.each<[string, readonly Metric[], string]>([
    [
      'two families',
      [metric('a.b', 'a_b', 'gauge'), metric('a_b', 'a_b', 'gauge')],
      'the metrics a.b and a_b both have the samples a_b',
    ],
    [
      'a gauge and the count of a histogram',
      [metric('a', 'a', 'histogram'), metric('a.count', 'a_count', 'gauge')],
      'the metrics a and a.count both have the samples a_count',
    ],
    [
      'a gauge and the OpenMetrics family of a counter',
      [metric('a', 'a', 'gauge'), metric('a.total', 'a_total', 'counter')],
      'the metrics a and a.total both have the samples a',
    ],
    [
      'two labels',
      [metric('a', 'a', 'gauge', ['error.type', 'error_type'])],
      'the labels error.type and error_type of a are the same',
    ],
  ])('are refused: %s', (_, metrics, message) => {
    expect(() => refuseCollisions(metrics)).toThrow(message)
  })

  it.each([
    [{ 'a.b': 1, a_b: 2 }, 'the resource attributes "a.b" and "a_b" (OTEL_RESOURCE_ATTRIBUTES) are both the label a_b'],
    [{ 'service.name': 'x', 'service-name': 'y' }, 'are both the label service_name'],
  ])('of a resource are refused: %j', (attributes, message) => {
    expect(() => refuseResourceCollisions(attributes)).toThrow(message)
  })
})
