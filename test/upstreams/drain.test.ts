import { expect, it } from 'vitest'
import { RetryLater } from '../../src/errors.ts'
import { Drain } from '../../src/upstreams/drain.ts'
import { fakeClock } from '../support/fake-clock.ts'

it('a drain refuses for its time, says how long, and ends by itself or before', async () => {
  const clock = fakeClock()
  const drain = new Drain(clock)
  const refused = () => {
    const refusal = drain.refusal()
    return refusal instanceof RetryLater ? [refusal.code, refusal.retryAfterSeconds] : refusal
  }
  expect([refused(), drain.untilWallMs()]).toEqual([undefined, undefined])
  drain.begin(10_500)
  expect(drain.untilWallMs()).toBe(clock.wallTime() + 10_500)
  expect(refused()).toEqual(['draining', 11])
  await clock.advance(10_000)
  expect(refused()).toEqual(['draining', 1])
  await clock.advance(500)
  expect([refused(), drain.untilWallMs()]).toEqual([undefined, undefined])
  drain.begin(10_000)
  drain.end()
  expect(refused()).toBeUndefined()
  expect(clock.pending()).toBe(0)
})
