import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect, it } from 'vitest'
import { type Delays, LoopLag } from '../../src/telemetry/loop-lag.ts'
import { fakeClock } from '../support/fake-clock.ts'

it('shows a delay to everybody who looks within 30 seconds, however often others look', async () => {
  const clock = fakeClock()
  const histograms: Delays[] = []
  const lag = new LoopLag(clock, () => {
    const histogram = monitorEventLoopDelay()
    histograms.push(histogram)
    return histogram
  })
  expect(histograms).toHaveLength(1)
  const seen: number[] = []
  for (let second = 1; second <= 120; second++) {
    await clock.advance(1000)
    seen.push(histograms.indexOf(lag.read()))
  }
  // The first one is all there is for a minute; then each is shown from its 30th to its 60th second.
  expect(seen.indexOf(1) + 1).toBe(60)
  expect(seen.indexOf(2) + 1).toBe(90)
  expect(seen.indexOf(3) + 1).toBe(120)
  expect(histograms).toHaveLength(5)
})
