import { expect, it } from 'vitest'
import { type LoopLoad, LoopMeter } from '../../src/telemetry/own-load.ts'
import { fakeClock } from '../support/fake-clock.ts'

/** A meter on an event loop that the test describes. */
function metered() {
  const clock = fakeClock()
  let load: LoopLoad = { delayP99Ms: 0, utilisation: 0 }
  let restarts = 0
  const meter = new LoopMeter(clock, { read: () => load, restart: () => (restarts += 1), stop: () => undefined })
  return {
    clock,
    meter,
    is: (delayP99Ms: number, utilisation: number) => (load = { delayP99Ms, utilisation }),
    restarts: () => restarts,
  }
}

it('tells nothing of a window that has hardly begun, but what the one before said', async () => {
  const { clock, meter, is, restarts } = metered()
  is(800, 0.9)
  await clock.advance(4999)
  expect(meter.read()).toEqual({ delayP99Ms: 0, utilisation: 0 })
  await clock.advance(1)
  expect(meter.read()).toEqual({ delayP99Ms: 800, utilisation: 0.9 })
  await clock.advance(5000)
  is(300, 0.5)
  expect(meter.read()).toEqual({ delayP99Ms: 300, utilisation: 0.5 })
  expect(restarts()).toBe(1)
  is(900, 1)
  await clock.advance(4999)
  expect(meter.read()).toEqual({ delayP99Ms: 300, utilisation: 0.5 })
  await clock.advance(1)
  expect(meter.read()).toEqual({ delayP99Ms: 900, utilisation: 1 })
})

it('measures the loop that it runs in', async () => {
  let nowMs = 0
  const meter = new LoopMeter({ now: () => nowMs, wallTime: () => 0, after: () => ({ cancel: () => undefined }) })
  await new Promise((resolve) => setImmediate(resolve))
  nowMs = 6000
  const { delayP99Ms, utilisation } = meter.read()
  meter.stop()
  expect(delayP99Ms).toBeGreaterThanOrEqual(0)
  expect(utilisation).toBeGreaterThan(0)
  expect(utilisation).toBeLessThanOrEqual(1)
})
