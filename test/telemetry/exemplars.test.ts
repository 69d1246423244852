import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bucketIndex, ExemplarReservoir } from '../../src/telemetry/exemplars.ts'
import { fakeClock } from '../support/fake-clock.ts'

describe('bucketIndex', () => {
  it.each([
    [0, 0],
    [0.01, 0],
    [0.0101, 1],
    [1, 2],
    [1.1, 3],
  ])('%d falls into bucket %d of 0.01, 0.1, 1', (value, index) =>
    expect(bucketIndex([0.01, 0.1, 1], value)).toBe(index),
  )

  it('is the first whose bound is not below the value', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.double({ noNaN: true })), fc.double({ noNaN: true }), (unsorted, value) => {
        const bounds = unsorted.toSorted((a, b) => a - b)
        const first = bounds.findIndex((bound) => value <= bound)
        expect(bucketIndex(bounds, value)).toBe(first < 0 ? bounds.length : first)
      }),
    )
  })
})

describe('ExemplarReservoir', () => {
  it('keeps the last of each bucket with its time, for each attributes object', async () => {
    const clock = fakeClock(0, 1000)
    const reservoir = new ExemplarReservoir(clock)
    const attributes = { upstream: 'a' }
    reservoir.offer(attributes, { bucket: 1, value: 0.5, span: { traceId: 't1', spanId: 's1' } })
    await clock.advance(500)
    reservoir.offer(attributes, { bucket: 1, value: 0.6, span: { traceId: 't2', spanId: 's2' } })
    expect(reservoir.of(attributes)?.[0]).toBeUndefined()
    expect(reservoir.of(attributes)?.[1]).toEqual({ value: 0.6, wallMs: 1500, span: { traceId: 't2', spanId: 's2' } })
    expect(reservoir.of({ upstream: 'a' })).toBeUndefined()
  })
})
