import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import {
  type StallWatch,
  answerMs,
  endWatch,
  followStalls,
  look,
  stalledBy,
  watchStalls,
} from '../../src/heartbeat/stall.ts'
import { VirtualTime } from '../simulation/virtual-time.ts'

/** From when to when our event loop stood still. */
interface Stall {
  readonly fromMs: number
  readonly untilMs: number
}

const timeoutMs = 2000

/** Stalls in the order of time, each after the one before was over. */
const stalls = fc
  .array(fc.record({ afterMs: fc.integer({ min: 1, max: 1500 }), forMs: fc.integer({ min: 1, max: 3000 }) }), {
    maxLength: 6,
  })
  .map((gaps) => {
    let atMs = 0
    return gaps.map(({ afterMs, forMs }): Stall => {
      const fromMs = atMs + afterMs
      atMs = fromMs + forMs
      return { fromMs, untilMs: atMs }
    })
  })

/** When something that was due then really happens. */
function happensAt(dueMs: number, all: readonly Stall[]): number {
  return all.find(({ fromMs, untilMs }) => fromMs <= dueMs && dueMs < untilMs)?.untilMs ?? dueMs
}

/** Looks as a timer would, up to the moment at which the answer is read. */
function watchUntil(readMs: number, all: readonly Stall[]): StallWatch {
  let watch = watchStalls(0, timeoutMs)
  for (;;) {
    const atMs = happensAt(watch.nextLookMs, all)
    if (atMs >= readMs || atMs >= timeoutMs) return watch
    watch = look(watch, atMs)
  }
}

describe('the measure of our own stalls', () => {
  it('is nothing where timers are as late as they always are', () => {
    let watch = watchStalls(0, timeoutMs)
    let looks = 0
    while (watch.nextLookMs < timeoutMs) {
      watch = look(watch, watch.nextLookMs + 1)
      looks += 1
    }
    expect(stalledBy(watch, timeoutMs + 1)).toBe(0)
    expect(looks).toBeLessThan(20)
  })

  it('counts what a timer is late by, also before that timer has fired', () => {
    const watch = watchStalls(0, timeoutMs)
    expect(stalledBy(watch, 400)).toBe(365)
    expect(look(watch, 400).stalledMs).toBe(365)
    expect(look(watch, 34)).toBe(watch)
  })

  it('ends with the last look', () => {
    const ended = endWatch(watchStalls(0, timeoutMs), 400)
    expect([ended.stalledMs, stalledBy(ended, 9000)]).toEqual([365, 365])
  })

  it('never exceeds what it was, and leaves no answer so much slower that its server were suspect', () => {
    fc.assert(
      fc.property(stalls, fc.integer({ min: 1, max: timeoutMs - 1 }), (all, arrivedMs) => {
        const readMs = happensAt(arrivedMs, all)
        const watch = watchUntil(readMs, all)
        const stalledMs = stalledBy(watch, readMs)
        const reallyMs = all.reduce(
          (sum, { fromMs, untilMs }) => sum + Math.max(0, Math.min(untilMs, readMs) - fromMs),
          0,
        )
        expect(stalledMs).toBeLessThanOrEqual(reallyMs)
        const toleranceMs = Math.max(35, arrivedMs / 2) + 10
        expect(readMs - stalledMs).toBeLessThanOrEqual(arrivedMs + toleranceMs)
        const [calm, ill] = defaults.suspicion.rttRatio
        const suspectRatio = calm + defaults.suspicion.suspect * (ill - calm)
        const isNoticeable = toleranceMs >= defaults.suspicion.noticeableMs
        if (isNoticeable) expect((arrivedMs + toleranceMs) / arrivedMs).toBeLessThan(suspectRatio)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('followStalls', () => {
  it('measures for how long the loop stood still, as far as anybody looks', async () => {
    const time = new VirtualTime()
    time.at(1000, () => time.stall(700))
    const stalls = followStalls(time, 5000)
    await time.run(2000)
    const stalledMs = stalls.end()
    expect(stalledMs).toBeLessThanOrEqual(700)
    expect(stalledMs).toBeGreaterThan(400)
  })

  it('takes a calm time for one', async () => {
    const time = new VirtualTime()
    const stalls = followStalls(time, 5000)
    await time.run(5000)
    expect(stalls.end()).toBe(0)
  })
})

describe('answerMs', () => {
  it.each<[number, number, number | undefined, number, string]>([
    [800, 0, undefined, 800, 'nothing stood still'],
    [800, 650, 140, 150, 'it took at least that'],
    [800, 750, 140, 140, 'it may have taken the usual time'],
    [800, 750, undefined, 800, 'nobody knows what is usual'],
    [800, 750, 900, 800, 'it took no longer than it took'],
  ])(
    'of %s ms, of which %s may be ours and where %s are usual, leaves %s: %s',
    (tookMs, stalledMs, usualMs, expected) => {
      expect(answerMs(tookMs, stalledMs, usualMs)).toBe(expected)
    },
  )
})
