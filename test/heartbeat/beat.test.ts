import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Beat, judgeTime } from '../../src/heartbeat/beat.ts'
import type { ProbeResult } from '../../src/heartbeat/probe.ts'
import { endWatch, watchStalls } from '../../src/heartbeat/stall.ts'

const timeoutMs = 2000

function beatOf({
  stalledMs = 0,
  usualMs,
}: {
  readonly stalledMs?: number
  readonly usualMs?: number | undefined
}): Beat {
  return {
    startedMs: 0,
    startedAtWallMs: 0,
    timeoutMs,
    usualMs,
    deadlineMs: 10_000,
    runs: [],
    alive: 0,
    settled: [],
    busy: new Map(),
    isTimeUp: false,
    stalls: { ...endWatch(watchStalls(0, timeoutMs), 0), stalledMs },
  }
}

function answered(durationMs: number): ProbeResult {
  return { leg: 'upstream', method: 'ping', session: undefined, outcome: 'ok', reason: 'ping answered', durationMs }
}

describe('the time of an answer', () => {
  it.each([
    ['as measured while our event loop ran', 500, 0, 100, 500],
    ['the usual where that is possible: the answer came after the stall', 500, 400, 480, 480],
    ['no shorter than what is left without the stall', 500, 400, 50, 100],
    ['no longer than what was measured', 500, 400, 900, 500],
    [
      'as measured where nothing is usual yet: a low baseline would make the next answers slow',
      500,
      400,
      undefined,
      500,
    ],
    ['never below zero', 30, 40, 0, 0],
  ])('is %s', (_, measuredMs, stalledMs, usualMs, durationMs) => {
    const judged = judgeTime(answered(measuredMs), beatOf({ stalledMs, usualMs }), measuredMs)
    expect(judged).toMatchObject({ outcome: 'ok', durationMs })
  })

  it.each([
    ['none follows from a heartbeat that our own stall spoiled: more stalls may have followed', 1900, 500],
    ['is what it was where the stall did not spoil it', 400, 4068 - 400],
  ])('after the time-out: %s', (_, stalledMs, durationMs) => {
    const beat = { ...beatOf({ stalledMs, usualMs: 500 }), isTimeUp: true }
    expect(judgeTime(answered(4068), beat, 4068).durationMs).toBe(durationMs)
  })

  it('is possible, and the usual one if that is', () => {
    const ms = fc.integer({ min: 0, max: timeoutMs })
    fc.assert(
      fc.property(ms, ms, ms, (measuredMs, stalledMs, usualMs) => {
        const { durationMs } = judgeTime(answered(measuredMs), beatOf({ stalledMs, usualMs }), measuredMs)
        const leastMs = Math.max(0, measuredMs - stalledMs)
        expect(durationMs).toBeGreaterThanOrEqual(leastMs)
        expect(durationMs).toBeLessThanOrEqual(measuredMs)
        if (usualMs >= leastMs && usualMs <= measuredMs) expect(durationMs).toBe(usualMs)
      }),
    )
  })
})
