import { describe, expect, it } from 'vitest'
import { DeadlineWatch, overdue } from '../../src/proxy/deadlines.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { stallableClock } from '../support/stallable-clock.ts'

const deadlines = { stallTimeoutMs: 60_000, requestTimeoutMs: 600_000 }

describe('a request is overdue', () => {
  it.each([
    ['not just before the stall time-out', 0, 0, 59_999, undefined],
    ['at the stall time-out', 0, 0, 60_000, 'the server sent nothing for 60 s (stall_timeout_seconds)'],
    ['not while something comes', 0, 540_000, 599_999, undefined],
    ['at the absolute one', 0, 599_999, 600_000, 'the answer is not complete after 600 s (request_timeout_seconds)'],
    ['counted from when it was sent', 1000, 1000, 60_999, undefined],
  ])('%s', (_title, sentMs, heardMs, nowMs, message) => {
    expect(overdue({ sentMs, heardMs }, deadlines, nowMs)?.message).toBe(message)
  })

  it('never without time-outs', () => {
    const none = { stallTimeoutMs: Infinity, requestTimeoutMs: Infinity }
    expect(overdue({ sentMs: 0, heardMs: 0 }, none, Number.MAX_SAFE_INTEGER)).toBeUndefined()
  })
})

describe('a watch', () => {
  function watching(isExcused: () => boolean = () => false, onSilent?: (leftMs: number) => () => boolean) {
    const clock = fakeClock()
    const sweep = new Sweep(clock)
    const told: string[] = []
    const onOverdue = ({ code }: { code: string }) => void told.push(`${code} at ${clock.now()} ms`)
    const watch = new DeadlineWatch({ clock, sweep, deadlines, isExcused, onOverdue, onSilent })
    return { clock, told, watch }
  }

  it('tells once, at the first sweep after the deadline, and needs no timer afterwards', async () => {
    const { clock, told } = watching()
    await clock.advance(300_000)
    expect(told).toEqual(['upstream_timeout at 60000 ms'])
    expect(clock.pending()).toBe(0)
  })

  it('begins anew with every sign of the server, until the absolute deadline', async () => {
    const { clock, told, watch } = watching()
    for (let i = 0; i < 11; i++) {
      await clock.advance(59_000)
      watch.heard()
    }
    expect(told).toEqual(['upstream_timeout at 600000 ms'])
  })

  it('knows for how long the server has done nothing', async () => {
    let isExcused = false
    const { clock, watch } = watching(() => isExcused)
    await clock.advance(8000)
    expect(watch.silentMs()).toBe(8000)
    watch.heard()
    expect(watch.silentMs()).toBe(0)
    await clock.advance(3500)
    expect(watch.silentMs()).toBe(2500)
    isExcused = true
    expect(watch.silentMs()).toBe(0)
    watch.stop()
  })

  it('does not count the time in which the server waits for the client', async () => {
    let isPaused = true
    const { clock, told } = watching(() => isPaused)
    await clock.advance(100_000)
    isPaused = false
    await clock.advance(59_000)
    expect(told).toEqual([])
    await clock.advance(1000)
    expect(told).toEqual(['upstream_timeout at 160000 ms'])
  })

  it('hears what arrived while our event loop stood still before it gives up', async () => {
    const virtual = fakeClock()
    const { clock, stall } = stallableClock(virtual)
    const told: string[] = []
    const sweep = new Sweep(clock)
    const onOverdue = ({ code }: { code: string }) => void told.push(code)
    const watch = new DeadlineWatch({ clock, sweep, deadlines, isExcused: () => false, onOverdue })
    await virtual.advance(50_500)
    stall(20_000)
    await virtual.advance(600) // The look that is overdue comes before what lies there is read.
    expect(told).toEqual([])
    watch.heard()
    await virtual.advance(59_000)
    expect(told).toEqual([])
    await virtual.advance(10_000)
    expect(told).toEqual(['upstream_timeout'])
  })

  it('has the server asked once in each silence, at half of the time, and hears the answer', async () => {
    const asked: string[] = []
    const { clock, told, watch } = watching(undefined, (leftMs) => {
      asked.push(`at ${clock.now()} ms, for ${leftMs} ms`)
      return () => false
    })
    await clock.advance(59_000)
    expect(asked).toEqual(['at 30000 ms, for 30000 ms'])
    watch.heard()
    await clock.advance(59_000)
    expect(asked).toEqual(['at 30000 ms, for 30000 ms', 'at 90000 ms, for 30000 ms'])
    await clock.advance(5000)
    expect(told).toEqual(['upstream_timeout at 120000 ms'])
  })

  it('does not give up a server that works, until the absolute deadline', async () => {
    let isWorking = true
    const { clock, told } = watching(undefined, () => () => isWorking)
    await clock.advance(300_000)
    isWorking = false
    expect(told).toEqual([])
    await clock.advance(60_000)
    expect(told).toEqual(['upstream_timeout at 360000 ms'])
    const busy = watching(undefined, () => () => true)
    await busy.clock.advance(601_000)
    expect(busy.told).toEqual(['upstream_timeout at 600000 ms'])
  })

  it('is silent once stopped', async () => {
    const { clock, told, watch } = watching()
    watch.stop()
    await clock.advance(100_000)
    expect([told, clock.pending()]).toEqual([[], 0])
  })
})
