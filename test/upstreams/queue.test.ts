import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { KnownError } from '../../src/errors.ts'
import { RequestQueue, type Turn } from '../../src/upstreams/queue.ts'
import { fakeClock } from '../support/fake-clock.ts'

const limits = { maxInFlight: 2, maxQueue: 2, queueTimeoutMs: 3000 }

function queueOf(changes: Partial<typeof limits> = {}) {
  const clock = fakeClock()
  const queue = new RequestQueue(clock, { ...limits, ...changes })
  const told: string[] = []
  const enter = (name: string): Turn =>
    queue.enter({
      start: () => void told.push(`${name} starts`),
      refuse: (error: KnownError) => void told.push(`${name} ${error.code} at ${clock.now()} ms`),
    })
  return { clock, queue, told, enter }
}

describe('a queue before a server', () => {
  it('starts at once what fits, and the rest in its order as turns are given back', () => {
    const { queue, told, enter } = queueOf()
    const [first] = ['a', 'b', 'c', 'd'].map(enter)
    expect(told).toEqual(['a starts', 'b starts'])
    expect(queue.length).toBe(2)
    first?.leave()
    first?.leave()
    expect(told).toEqual(['a starts', 'b starts', 'c starts'])
    expect(queue.length).toBe(1)
  })

  it('refuses at once when the queue is full', () => {
    const { told, enter } = queueOf()
    for (const name of ['a', 'b', 'c', 'd', 'e']) enter(name)
    expect(told).toEqual(['a starts', 'b starts', 'e queue_full at 0 ms'])
  })

  it('without a queue refuses all that does not fit', () => {
    const { told, enter } = queueOf({ maxQueue: 0 })
    for (const name of ['a', 'b', 'c']) enter(name)
    expect(told).toEqual(['a starts', 'b starts', 'c queue_full at 0 ms'])
  })

  it('refuses what has waited for queue_timeout_seconds, and forgets its timer otherwise', async () => {
    const { clock, told, enter } = queueOf()
    const [a] = ['a', 'b', 'c'].map(enter)
    await clock.advance(2000)
    enter('d')
    a?.leave()
    expect(clock.pending()).toBe(1)
    await clock.advance(3000)
    expect(told).toEqual(['a starts', 'b starts', 'c starts', 'd queue_full at 5000 ms'])
  })

  it('bears that all who wait are done at once when it is their turn', () => {
    const { queue, enter } = queueOf({ maxInFlight: 1, maxQueue: 50_000 })
    const first = enter('first')
    let started = 0
    const start = (turn: Turn) => {
      started += 1
      turn.leave()
    }
    for (let at = 0; at < 50_000; at++) queue.enter({ start, refuse: () => undefined })
    first.leave()
    expect([started, queue.length]).toEqual([50_000, 0])
  })

  it('leaves out who left while waiting, without giving a turn twice', () => {
    const { clock, queue, told, enter } = queueOf()
    const [a, , c] = ['a', 'b', 'c', 'd'].map(enter)
    c?.leave()
    c?.leave()
    expect([queue.length, clock.pending()]).toEqual([1, 1])
    a?.leave()
    expect(told).toEqual(['a starts', 'b starts', 'd starts'])
  })

  it('goes on when an entrant is over before its start returns', () => {
    const { queue } = queueOf({ maxInFlight: 1 })
    const told: string[] = []
    const enter = (name: string, ends: boolean) =>
      queue.enter({
        start: (turn) => {
          told.push(name)
          if (ends) turn.leave()
        },
        refuse: () => undefined,
      })
    enter('a', true)
    const b = enter('b', false)
    enter('c', true)
    enter('d', false)
    b.leave()
    expect(told).toEqual(['a', 'b', 'c', 'd'])
  })

  it('never exceeds its limits and never loses anybody, whatever the order of events', async () => {
    const step = fc.oneof(
      fc.constant({ kind: 'enter' as const }),
      fc.record({ kind: fc.constant('leave' as const), at: fc.nat(30) }),
      fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(4000) }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const clock = fakeClock()
        const queue = new RequestQueue(clock, limits)
        const states: string[] = []
        const turns: Turn[] = []
        for (const one of steps) {
          if (one.kind === 'wait') await clock.advance(one.ms)
          else if (one.kind === 'leave') {
            const at = one.at % Math.max(1, turns.length)
            if (states[at] !== undefined && states[at] !== 'refused') states[at] = 'left'
            turns[at]?.leave()
          } else {
            const at = states.push('waiting') - 1
            turns.push(
              queue.enter({ start: () => (states[at] = 'started'), refuse: () => void (states[at] = 'refused') }),
            )
          }
          const count = (state: string) => states.filter((other) => other === state).length
          expect(count('started')).toBeLessThanOrEqual(limits.maxInFlight)
          expect(count('waiting')).toBe(queue.length)
          if (queue.length > 0) expect(count('started')).toBe(limits.maxInFlight)
        }
      }),
      { numRuns: 100 },
    )
  })
})
