import { expect, it } from 'vitest'
import { LoopMeter, type LoopProbe } from '../../src/telemetry/own-load.ts'
import { fakeClock } from '../support/fake-clock.ts'

/** A meter that is read once a second, on an event loop whose ticks come once a second with the delays of a script. */
function metered() {
  const clock = fakeClock()
  const ticks: { readonly atMs: number; readonly delayMs: number }[] = []
  const probe = (): LoopProbe => {
    let sinceMs = clock.now()
    return {
      read: () => {
        const longestDelayMs = Math.max(0, ...ticks.filter(({ atMs }) => atMs > sinceMs).map(({ delayMs }) => delayMs))
        return { delayP99Ms: longestDelayMs, longestDelayMs, utilisation: longestDelayMs / 1000 }
      },
      restart: () => (sinceMs = clock.now()),
      stop: () => undefined,
    }
  }
  const meter = new LoopMeter(clock, probe)
  const read = async (...delaysMs: readonly number[]) => {
    const readings: number[] = []
    for (const delayMs of delaysMs) {
      await clock.advance(1000)
      ticks.push({ atMs: clock.now(), delayMs })
      readings.push(meter.read().delayP99Ms)
    }
    return readings
  }
  return { meter, read }
}

it('tells nothing while it has seen hardly anything', async () => {
  const { meter, read } = metered()
  expect(await read(800, 800, 800, 800)).toEqual([0, 0, 0, 0])
  expect(meter.read().utilisation).toBe(0)
  expect(await read(800)).toEqual([800])
  expect(meter.read().utilisation).toBe(0.8)
})

it('tells a delay at once, and of none that is over for two seconds', async () => {
  const { read } = metered()
  await read(0, 0, 0, 0, 0, 0, 0)
  for (let second = 0; second < 15; second++) {
    expect(await read(400, 0, 0, 0)).toEqual([400, 400, 0, 0])
  }
})

it('tells a delay for as long as it lasts', async () => {
  const { read } = metered()
  await read(0, 0, 0, 0, 0)
  const lasting = Array.from({ length: 30 }, () => 300)
  expect(await read(...lasting)).toEqual(lasting)
  expect(await read(0, 0, 0)).toEqual([300, 0, 0])
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
