import { describe, expect, it } from 'vitest'
import { Standstills } from '../../src/upstreams/standstills.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { stallableClock } from '../support/stallable-clock.ts'

function watched() {
  const base = fakeClock()
  const { clock, stall } = stallableClock(base)
  return { base, stall, standstills: new Standstills(clock) }
}

describe('Standstills', () => {
  it('counts nothing while the loop runs, however long that is', async () => {
    const { base, standstills } = watched()
    await base.advance(3_600_000)
    expect(standstills.count()).toBe(0)
  })

  it.each([0, 100, 250, 499])('counts each second of standing still, %i ms after a look', async (afterMs) => {
    const { base, stall, standstills } = watched()
    await base.advance(afterMs)
    stall(1000)
    expect(standstills.count()).toBe(1)
    await base.advance(10_000)
    stall(20_000)
    await base.advance(500)
    expect(standstills.count()).toBe(2)
    expect(standstills.count()).toBe(2)
  })

  it.each([0, 100, 250, 499])('takes less than half a second for nothing, %i ms after a look', async (afterMs) => {
    const { base, stall, standstills } = watched()
    await base.advance(afterMs)
    stall(490)
    expect(standstills.count()).toBe(0)
    await base.advance(10_000)
    expect(standstills.count()).toBe(0)
  })

  it('leaves no timer behind', async () => {
    const { base, standstills } = watched()
    await base.advance(5000)
    standstills.stop()
    expect(base.pending()).toBe(0)
  })
})
