import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { newAvailability, observeAvailability, unavailableSeconds } from '../../src/heartbeat/availability.ts'

describe('unavailable seconds', () => {
  it('are back-dated to the first failed probe, run during the outage and stand still after it', () => {
    const before = observeAvailability(newAvailability(), false, 10_000)
    expect(unavailableSeconds(before, 40_000)).toBe(0)
    const during = observeAvailability(before, true, 42_000, 30_000)
    expect(unavailableSeconds(during, 42_000)).toBe(12)
    expect(unavailableSeconds(during, 50_000)).toBe(20)
    const after = observeAvailability(during, false, 60_000)
    expect(unavailableSeconds(after, 60_000)).toBe(30)
    expect(unavailableSeconds(after, 99_000)).toBe(30)
  })

  it('begin now when no failure is known', () => {
    expect(unavailableSeconds(observeAvailability(newAvailability(), true, 5000), 6000)).toBe(1)
  })

  it('are the same object while nothing changes', () => {
    const up = newAvailability()
    expect(observeAvailability(up, false, 1000)).toBe(up)
    const down = observeAvailability(up, true, 2000)
    expect(observeAvailability(down, true, 3000, 100)).toBe(down)
  })

  it('never count the same time twice: a stale first failure does not reach behind the last outage', () => {
    const first = observeAvailability(newAvailability(), true, 10_000)
    const over = observeAvailability(first, false, 20_000)
    const second = observeAvailability(over, true, 30_000, 12_000)
    expect(unavailableSeconds(second, 30_000)).toBe(20)
  })

  it('never decrease and never exceed the time that passed, back-dating included', () => {
    const step = fc.record({
      afterMs: fc.nat(100_000),
      unavailable: fc.boolean(),
      firstFailureMs: fc.option(fc.integer({ min: -10_000, max: 2_000_000 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        let [availability, nowMs, last] = [newAvailability(), 0, 0]
        for (const { afterMs, unavailable, firstFailureMs } of steps) {
          nowMs += afterMs
          for (const next of [availability, observeAvailability(availability, unavailable, nowMs, firstFailureMs)]) {
            availability = next
            const seconds = unavailableSeconds(availability, nowMs)
            expect(seconds).toBeGreaterThanOrEqual(last)
            expect(seconds).toBeLessThanOrEqual(nowMs / 1000)
            last = seconds
          }
        }
      }),
    )
  })
})
