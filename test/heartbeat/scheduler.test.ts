import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sleep } from '../../src/clock.ts'
import { Scheduler } from '../../src/heartbeat/scheduler.ts'
import { fakeClock } from '../support/fake-clock.ts'

function setUp(options: { perSecond?: number; inFlight?: number; slotMs?: number } = {}) {
  const clock = fakeClock()
  const starts: string[] = []
  const errors: string[] = []
  const onError = (key: string, error: unknown) => errors.push(`${key}: ${String(error)}`)
  const scheduler = new Scheduler({ clock, perSecond: 50, inFlight: 16, slotMs: 100_000, onError, ...options })
  /** A task that takes `forMs` and notes its start. */
  const task =
    (name: string, forMs = 0) =>
    async () => {
      starts.push(`${name} at ${clock.now()}`)
      if (forMs > 0) await sleep(clock, forMs)
    }
  return { clock, starts, errors, scheduler, task }
}

describe('Scheduler', () => {
  it('starts tasks at their time, earliest first, whatever the order they came in', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('c', 300, task('c'))
    scheduler.schedule('a', 100, task('a'))
    scheduler.schedule('b', 200, task('b'))
    await clock.advance(250)
    expect(starts).toEqual(['a at 100', 'b at 200'])
    await clock.advance(50)
    expect(starts.at(-1)).toBe('c at 300')
  })

  it('starts equal deadlines in the order they came in, and the past at once', async () => {
    const { clock, starts, scheduler, task } = setUp()
    await clock.advance(1000)
    for (const name of ['a', 'b', 'c']) scheduler.schedule(name, name === 'b' ? -5 : 1000, task(name))
    await clock.advance(0)
    expect(starts).toEqual(['a at 1000', 'b at 1000', 'c at 1000'])
  })

  it('replaces an earlier schedule of the same key, to sooner or later', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('a', 100, task('old'))
    scheduler.schedule('a', 200, task('later'))
    scheduler.schedule('b', 500, task('old'))
    scheduler.schedule('b', 50, task('sooner'))
    expect([scheduler.nextAt('a'), scheduler.nextAt('b')]).toEqual([200, 50])
    await clock.advance(1000)
    expect(starts).toEqual(['sooner at 50', 'later at 200'])
    expect(scheduler.nextAt('a')).toBeUndefined()
  })

  it('cancels, and leaves no timer behind', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('a', 100, task('a'))
    scheduler.cancel('a')
    scheduler.cancel('never seen')
    expect(clock.pending()).toBe(0)
    await clock.advance(1000)
    expect(starts).toEqual([])
  })

  it('never overlaps a key with itself: a schedule made meanwhile waits for the end', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('a', 0, task('first', 500))
    await clock.advance(0)
    scheduler.schedule('a', 100, task('replaced'))
    scheduler.schedule('a', 200, task('second'))
    expect(scheduler.nextAt('a')).toBe(200)
    await clock.advance(499)
    expect(starts).toEqual(['first at 0'])
    await clock.advance(1)
    expect(starts).toEqual(['first at 0', 'second at 500'])
  })

  it('a running task that was cancelled has no successor, unless scheduled again', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('a', 0, task('first', 500))
    await clock.advance(0)
    scheduler.schedule('a', 100, task('second'))
    scheduler.cancel('a')
    expect(scheduler.nextAt('a')).toBeUndefined()
    scheduler.schedule('a', 600, task('third'))
    await clock.advance(1000)
    expect(starts).toEqual(['first at 0', 'third at 600'])
  })

  it('a task may schedule its own next run', async () => {
    const { clock, starts, scheduler, task } = setUp()
    const beat = async () => {
      await task('beat')()
      scheduler.schedule('a', clock.now() + 100, beat)
    }
    scheduler.schedule('a', 0, beat)
    await clock.advance(250)
    expect(starts).toEqual(['beat at 0', 'beat at 100', 'beat at 200'])
  })

  it('keeps to the slots, counts the backlog, and gives a free slot to who was due first', async () => {
    const { clock, starts, scheduler, task } = setUp({ inFlight: 2 })
    for (const name of ['a', 'b']) scheduler.schedule(name, 0, task(name, 100))
    await clock.advance(0)
    scheduler.schedule('d', 20, task('d', 100))
    scheduler.schedule('c', 10, task('c', 100))
    scheduler.schedule('e', 9000, task('e'))
    expect(scheduler.backlog()).toBe(0)
    await clock.advance(50)
    expect(starts).toEqual(['a at 0', 'b at 0'])
    expect(scheduler.backlog()).toBe(1)
    await clock.advance(50)
    expect(starts.slice(2)).toEqual(['c at 100', 'd at 100'])
    expect(scheduler.backlog()).toBe(0)
  })

  it('lets others start once a task took its time, though not one of its own key, and counts no slot twice', async () => {
    const { clock, starts, scheduler, task } = setUp({ inFlight: 1, slotMs: 100 })
    const waits = Promise.withResolvers<void>()
    scheduler.schedule('slow', 0, () => waits.promise)
    await clock.advance(0)
    scheduler.schedule('b', 10, task('b', 50))
    scheduler.schedule('c', 20, task('c', 50))
    scheduler.schedule('slow', 30, task('slow again'))
    await clock.advance(99)
    expect(starts).toEqual([])
    await clock.advance(1000)
    expect(starts).toEqual(['b at 100', 'c at 150'])
    waits.resolve()
    await clock.advance(0)
    expect(starts.at(-1)).toBe('slow again at 1099')
    expect(scheduler.backlog()).toBe(0)
  })

  it('keeps to the starts per second, and goes on exactly one second after the first of them', async () => {
    const { clock, starts, scheduler, task } = setUp({ perSecond: 3 })
    for (const name of ['a', 'b', 'c', 'd', 'e']) scheduler.schedule(name, name === 'c' ? 200 : 0, task(name))
    await clock.advance(200)
    expect(starts).toEqual(['a at 0', 'b at 0', 'd at 0'])
    await clock.advance(799)
    expect(starts).toHaveLength(3)
    await clock.advance(1)
    expect(starts.slice(3)).toEqual(['e at 1000', 'c at 1000'])
  })

  it('lets nobody starve: a key that is always due waits for its turn', async () => {
    const { clock, starts, scheduler, task } = setUp({ inFlight: 1 })
    const greedy = async () => {
      await sleep(clock, 100)
      scheduler.schedule('greedy', -1_000_000, greedy)
    }
    scheduler.schedule('greedy', 0, greedy)
    await clock.advance(0)
    scheduler.schedule('modest', 50, task('modest'))
    await clock.advance(1000)
    expect(starts).toEqual(['modest at 100'])
  })

  it('survives what a task throws, now or later, and tells', async () => {
    const { clock, starts, errors, scheduler, task } = setUp({ inFlight: 1 })
    scheduler.schedule('a', 0, () => {
      throw new Error('at once')
    })
    scheduler.schedule('b', 0, () => sleep(clock, 10).then(() => Promise.reject(new Error('later'))))
    scheduler.schedule('c', 0, task('c'))
    await clock.advance(20)
    expect(errors).toEqual(['a: Error: at once', 'b: Error: later'])
    expect(starts).toEqual(['c at 10'])
  })

  it('stops: nothing starts any more, not even the successor of a running task', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('a', 0, task('a', 100))
    scheduler.schedule('b', 50, task('b'))
    await clock.advance(0)
    scheduler.schedule('a', 20, task('again'))
    scheduler.stop()
    scheduler.schedule('c', 10, task('c'))
    await clock.advance(1000)
    expect(starts).toEqual(['a at 0'])
    expect(clock.pending()).toBe(0)
    expect(scheduler.nextAt('a')).toBeUndefined()
  })

  it('uses one timer for all, and reschedules a thousand keys again and again without growing', async () => {
    const { clock, starts, scheduler, task } = setUp({ perSecond: 5000 })
    for (let round = 0; round < 20; round++) {
      for (let key = 0; key < 1000; key++) scheduler.schedule(`${key}`, 1000 + ((key * 7919) % 1000), task(`${key}`))
    }
    expect(clock.pending()).toBe(1)
    await clock.advance(2000)
    const dueMs = starts.map((start) => 1000 + ((Number.parseInt(start) * 7919) % 1000))
    expect(dueMs).toEqual(Array.from({ length: 1000 }, (_, at) => 1000 + at))
  })

  it('starts nothing before the moment that it was given, whatever else is due', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('first', 10_000, task('first'))
    scheduler.schedule('unbounded', 10_050, task('unbounded'))
    scheduler.schedule('bounded', 10_060, task('bounded'), 10_055)
    scheduler.schedule('bounded by what is later than due', 10_070, task('bounded by what is later than due'), 20_000)
    await clock.advance(11_000)
    expect(starts).toEqual([
      'first at 10000',
      'unbounded at 10000',
      'bounded at 10060',
      'bounded by what is later than due at 10070',
    ])
  })

  it('starts what is due a little later with what is due: up to 1 % of its delay early, and never late', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('first', 10_000, task('first'))
    scheduler.schedule('soon after', 10_100, task('soon after'))
    scheduler.schedule('too much later', 10_110, task('too much later'))
    await clock.advance(9900)
    scheduler.schedule('asked for shortly before', 10_002, task('asked for shortly before'))
    await clock.advance(9900)
    expect(starts).toEqual([
      'first at 10000',
      // Its delay was short, and nobody overtakes it.
      'asked for shortly before at 10002',
      'soon after at 10002',
      'too much later at 10110',
    ])
  })

  it('treats a deadline that is not a number as now', async () => {
    const { clock, starts, scheduler, task } = setUp()
    scheduler.schedule('a', NaN, task('a'))
    scheduler.schedule('never', Infinity, task('never'))
    await clock.advance(0)
    expect(starts).toEqual(['a at 0'])
  })

  it('holds its promises for any load', { timeout: 20_000 }, async () => {
    const job = fc.record({
      key: fc.integer({ min: 0, max: 14 }),
      askedMs: fc.nat(1500),
      atMs: fc.nat(2500),
      forMs: fc.nat(300),
      cancel: fc.boolean(),
    })
    const limits = fc.record({
      perSecond: fc.integer({ min: 1, max: 9 }),
      inFlight: fc.integer({ min: 1, max: 5 }),
      slotMs: fc.integer({ min: 1, max: 400 }),
    })
    const load = fc.array(job, { maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(limits, load, async ({ slotMs, ...budget }, jobs) => {
        const { clock, errors, scheduler } = setUp({ slotMs, ...budget })
        const startedMs: number[] = []
        const running = new Map<number, number>()
        const atWork = () => [...running.values()].filter((sinceMs) => clock.now() - sinceMs < slotMs).length
        const due = new Map<number, number>()
        const wrong: string[] = []
        for (const { key, askedMs, atMs, forMs, cancel } of jobs) {
          clock.after(askedMs, () => {
            if (cancel && forMs % 4 === 0) {
              scheduler.cancel(`${key}`)
              due.delete(key)
              return
            }
            due.set(key, Math.max(atMs, clock.now()))
            const earliestMs = clock.now() + Math.max(0, atMs - clock.now()) * 0.99
            scheduler.schedule(`${key}`, atMs, async () => {
              const mineMs = due.get(key) ?? Infinity
              if (running.has(key)) wrong.push('overlap')
              if (earliestMs > clock.now()) wrong.push('too early')
              const overtaken = [...due].filter(([other, dueMs]) => !running.has(other) && dueMs < mineMs)
              if (overtaken.length > 0) wrong.push('overtaking')
              due.delete(key)
              running.set(key, clock.now())
              startedMs.push(clock.now())
              if (atWork() > budget.inFlight) wrong.push('too many in flight')
              if (forMs > 0) await sleep(clock, forMs)
              running.delete(key)
            })
          })
        }
        await clock.advance(60_000)
        startedMs.forEach((ms, at) => {
          const later = startedMs[at + budget.perSecond]
          if (later !== undefined && later - ms < 1000) wrong.push('too many starts in a second')
        })
        expect({ wrong, left: due.size, errors, pending: clock.pending() }).toEqual({
          wrong: [],
          left: 0,
          errors: [],
          pending: 0,
        })
      }),
      { numRuns: 60 },
    )
  })
})
