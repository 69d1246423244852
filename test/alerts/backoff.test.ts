import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { retryAfterMs, retryDelayMs } from '../../src/alerts/backoff.ts'

const law = { firstMs: 1000, maxMs: 60_000, maxRetryAfterMs: 600_000 }
const wallMs = Date.UTC(2026, 10, 22, 14, 0, 0)

describe('the wait for the next try', () => {
  it.each([
    [1, 0, 500],
    [1, 0.999, 999.5],
    [2, 0, 1000],
    [3, 0, 2000],
    [7, 0.5, 45_000],
    [100, 0.999, 59_970],
  ])('after failure %d with %d is %d ms', (failures, random, expected) => {
    expect(retryDelayMs(failures, { random }, law)).toBeCloseTo(expected)
  })

  it('is never shorter than the receiver asks for, within a limit', () => {
    expect(retryDelayMs(1, { random: 0, retryAfterMs: 30_000 }, law)).toBe(30_000)
    expect(retryDelayMs(1, { random: 0, retryAfterMs: 1e9 }, law)).toBe(600_000)
    expect(retryDelayMs(7, { random: 0, retryAfterMs: 1 }, law)).toBe(30_000)
  })

  it('is always more than nothing, and bounded', () => {
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), random, fc.option(fc.nat(), { nil: undefined }), (n, r, after) => {
        const delayMs = retryDelayMs(n, { random: r, retryAfterMs: after }, law)
        expect(delayMs).toBeGreaterThanOrEqual(500)
        expect(delayMs).toBeLessThanOrEqual(600_000)
      }),
    )
  })
})

// RFC 9110 §10.2.3: delay-seconds or an HTTP-date.
it.each([
  ['120', 120_000],
  [' 0 ', 0],
  ['Sun, 22 Nov 2026 14:00:30 GMT', 30_000],
  ['Sun, 22 Nov 2026 13:00:00 GMT', 0],
  ['soon', undefined],
  ['-1', undefined],
  ['1.5', undefined],
  ['', undefined],
  [undefined, undefined],
])('Retry-After: %s is %s ms', (value, expected) => {
  expect(retryAfterMs(value, wallMs)).toBe(expected)
})
