import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Fullness, type Shedding, Shedder, shed } from '../../src/proxy/shed.ts'
import { fakeClock } from '../support/fake-clock.ts'

const calm: Fullness = { load: 0, heap: 0.1 }
const busy: Fullness = { load: 0.7, heap: 0.1 }
const overloaded: Fullness = { load: 0.8, heap: 0.1 }
const full: Fullness = { load: 0, heap: 0.85 }

describe('the law (control-law.md, "Shedding when we are overloaded")', () => {
  it.each([
    ['the first sign gives up the first thing at once', 'under', 0, 0, overloaded, 1],
    ['so does a heap that is nearly full', 'under', 0, 0, full, 1],
    ['the next follows after three seconds, not before', 'over', 1, 2999, overloaded, 1],
    ['the next follows after three seconds', 'over', 1, 3000, overloaded, 2],
    ['and the last', 'over', 2, 3000, overloaded, 3],
    ['there is no more to give up', 'over', 3, 60_000, overloaded, 3],
    ['an overload that has just come back has not lasted', 'under', 1, 9000, overloaded, 1],
    ['nor one that was less meanwhile', 'between', 1, 9000, overloaded, 1],
    ['between the bounds nothing changes', 'between', 2, 60_000, busy, 2],
    ['ten seconds of calm take one back, not fewer', 'under', 2, 9999, calm, 2],
    ['ten seconds of calm take one back', 'under', 2, 10_000, calm, 1],
    ['a calm that has just begun has not lasted', 'over', 2, 60_000, calm, 2],
    ['calm stays calm', 'under', 0, 60_000, calm, 0],
  ] as const)('%s', (_rule, trend, level, elapsedMs, fullness, expected) => {
    expect(shed({ level, trend, sinceMs: 0 }, fullness, elapsedMs).level).toBe(expected)
  })

  it('moves by one step at a time, stays within its levels, and ends up at nothing after 30 s of calm', () => {
    const fullness = fc.record({ load: fc.double({ min: 0, max: 1 }), heap: fc.double({ min: 0, max: 1 }) })
    fc.assert(
      fc.property(fc.array(fc.tuple(fullness, fc.nat({ max: 20_000 }))), (steps) => {
        let state: Shedding = { level: 0, trend: 'under', sinceMs: 0 }
        let nowMs = 0
        for (const [now, passedMs] of steps) {
          nowMs += passedMs
          const next = shed(state, now, nowMs)
          expect(Math.abs(next.level - state.level)).toBeLessThanOrEqual(1)
          expect(next.level).toBeGreaterThanOrEqual(0)
          expect(next.level).toBeLessThanOrEqual(3)
          state = next
        }
        state = shed(state, calm, nowMs)
        for (let n = 0; n < 3; n++) state = shed(state, calm, (nowMs += 10_000))
        expect(state.level).toBe(0)
      }),
    )
  })
})

describe('Shedder', () => {
  it('gives up traces, then new sessions, then tool calls, and never anything else; each time counts', async () => {
    const clock = fakeClock()
    let now = calm
    const counted: string[] = []
    const levels: string[] = []
    const shedder = new Shedder({
      clock,
      fullness: () => now,
      onShed: (what) => counted.push(what),
      onLevel: (given) => levels.push(given.join('+')),
    })
    shedder.start()
    const refused = () =>
      ['initialize', 'tools/call', 'tools/list', 'ping', 'notifications/cancelled', undefined].filter((method) =>
        shedder.refusal(method),
      )
    await clock.advance(5000)
    expect([refused(), shedder.sheds('trace'), counted]).toEqual([[], false, []])
    now = overloaded
    await clock.advance(1000)
    expect([refused(), shedder.sheds('trace')]).toEqual([[], true])
    await clock.advance(3000)
    expect(refused()).toEqual(['initialize'])
    await clock.advance(3000)
    expect(refused()).toEqual(['initialize', 'tools/call'])
    expect(shedder.refusal('tools/call')).toMatchObject({ code: 'overloaded' })
    now = calm
    await clock.advance(31_000)
    expect([refused(), shedder.sheds('trace')]).toEqual([[], false])
    expect(counted).toEqual(['trace', 'session', 'session', 'tool_call', 'tool_call'])
    expect(levels).toEqual(['trace', 'trace+session', 'trace+session+tool_call', 'trace+session', 'trace', ''])
    shedder.stop()
    expect(clock.pending()).toBe(0)
  })
})
