import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { RttEstimate } from '../../src/heartbeat/timeout.ts'
import { observeHealth, observeRtt, probeTimeoutMs, worstLocalHealth } from '../../src/heartbeat/timeout.ts'

const calm = { isDown: false, localHealth: 0, minMs: 2000, maxMs: 5000 }
const estimateOf = (rtts: readonly number[]) =>
  rtts.reduce<RttEstimate | undefined>((estimate, rttMs) => observeRtt(estimate, rttMs), undefined)

describe('observeRtt', () => {
  it('starts with R and R/2 (RFC 6298 §2.2)', () => {
    expect(estimateOf([100])).toEqual({ smoothedMs: 100, variationMs: 50 })
  })

  it('then moves by 1/8 and 1/4 (RFC 6298 §2.3)', () => {
    expect(estimateOf([100, 180])).toEqual({ smoothedMs: 110, variationMs: 57.5 })
  })

  it('settles on a steady round trip', () => {
    const estimate = estimateOf(Array.from({ length: 60 }, () => 3000))
    expect(estimate?.smoothedMs).toBe(3000)
    expect(estimate?.variationMs).toBeLessThan(1)
  })
})

describe('probeTimeoutMs', () => {
  const slow = { smoothedMs: 2000, variationMs: 250 }
  const fast = { smoothedMs: 2, variationMs: 1 }
  it.each([
    ['nothing measured: all the patience there is', undefined, calm, 5000],
    ['fast: the lower bound', fast, calm, 2000],
    ['SRTT + 4·RTTVAR in between', slow, calm, 3000],
    ['very slow: the upper bound', { smoothedMs: 9000, variationMs: 1 }, calm, 5000],
    ['doubled while it is down', fast, { ...calm, isDown: true }, 4000],
    ['the upper bound may be doubled', { smoothedMs: 9000, variationMs: 1 }, { ...calm, isDown: true }, 10_000],
    ['stretched by the local health score', fast, { ...calm, localHealth: 1 }, 4000],
    ['… and doubled', fast, { ...calm, localHealth: 1, isDown: true }, 8000],
    ['never above twice the upper bound', fast, { ...calm, localHealth: 7, isDown: true }, 10_000],
    ['not a number: the upper bound', { smoothedMs: NaN, variationMs: NaN }, calm, 5000],
    ['a broken score counts as well', fast, { ...calm, localHealth: NaN }, 2000],
  ])('%s', (_, estimate, input, expected) => {
    expect(probeTimeoutMs(estimate, input)).toBe(expected)
  })

  it('stays within [min, 2·max] and grows with an outage and bad health', () => {
    const anything = fc.option(fc.record({ smoothedMs: fc.double(), variationMs: fc.double() }), { nil: undefined })
    fc.assert(
      fc.property(anything, fc.boolean(), fc.double(), (estimate, isDown, localHealth) => {
        const timeoutMs = probeTimeoutMs(estimate, { ...calm, isDown, localHealth })
        expect(timeoutMs).toBeGreaterThanOrEqual(2000)
        expect(timeoutMs).toBeLessThanOrEqual(10_000)
        const worse = probeTimeoutMs(estimate, { ...calm, isDown: true, localHealth: localHealth + 1 })
        expect(worse).toBeGreaterThanOrEqual(timeoutMs)
      }),
    )
  })
})

describe('local health', () => {
  it.each([
    [0, 'inconclusive', 1],
    [7, 'inconclusive', 7],
    [3, 'success', 2],
    [0, 'success', 0],
  ] as const)('%d after %s is %d', (score, event, expected) => {
    expect(observeHealth(score, event)).toBe(expected)
  })

  const event = fc.constantFrom('success' as const, 'inconclusive' as const)
  const after = (from: number, events: readonly ('success' | 'inconclusive')[]) => events.reduce(observeHealth, from)

  it('stays from 0 to 7, whatever it begins with, and moves by one at most', () => {
    fc.assert(
      fc.property(fc.double(), fc.array(event, { minLength: 1 }), (from, events) => {
        const score = after(from, events)
        expect(score >= 0 && score <= worstLocalHealth).toBe(true)
        for (const next of ['success', 'inconclusive'] as const)
          expect(Math.abs(observeHealth(score, next) - score)).toBeLessThanOrEqual(1)
      }),
    )
  })

  it('is well again after seven answers, worst after seven stalls, and keeps the order of two that meet the same', () => {
    const score = fc.integer({ min: 0, max: worstLocalHealth })
    fc.assert(
      fc.property(score, score, fc.array(event), (one, other, events) => {
        const [better, worse] = [after(Math.min(one, other), events), after(Math.max(one, other), events)]
        expect(better).toBeLessThanOrEqual(worse)
        expect(
          after(
            worse,
            Array.from({ length: worstLocalHealth }, () => 'success' as const),
          ),
        ).toBe(0)
        const stalls = Array.from({ length: worstLocalHealth }, () => 'inconclusive' as const)
        expect(after(better, stalls)).toBe(worstLocalHealth)
      }),
    )
  })
})
