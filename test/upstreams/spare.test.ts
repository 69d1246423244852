import { describe, expect, it } from 'vitest'
import { SparePool } from '../../src/upstreams/spare.ts'
import { StartGate, type StartLane } from '../../src/upstreams/start-gate.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { type FakeProcess, fakeProcess, unstartable } from '../support/fake-process.ts'

const crash = { kind: 'exit', code: 1 } as const

interface Options {
  readonly count?: number
  readonly gate?: StartLane
  readonly isStartable?: (start: number) => boolean
}

/** A pool in virtual time with jitter at its upper end (whole delays). */
async function started({ count = 1, gate = new StartGate(4).lane(), isStartable = () => true }: Options = {}) {
  const clock = fakeClock()
  const log: string[] = []
  const processes: FakeProcess[] = []
  const halted = new Set<number>()
  let starts = 0
  const say = (text: string) => log.push(`${clock.now() / 1000} s: ${text}`)
  const pool = new SparePool({
    clock,
    random: () => 1,
    starts: gate,
    count,
    isStopped: (pid) => halted.has(pid),
    start: () => {
      starts += 1
      if (!isStartable(starts)) return unstartable()
      const process = fakeProcess({ pid: starts })
      processes.push(process)
      say(`start ${starts}`)
      return process
    },
    events: {
      onSpareExited: (_process, exit, decision) => say(`${exit.kind}, then ${decision.kind}`),
      onRestart: (reason) => say(`restart: ${reason}`),
    },
  })
  pool.start()
  await clock.advance(0)
  const pids = () => pool.all().map(({ pid }) => pid)
  const at = (pid: number) => {
    const found = processes.find((process) => process.pid === pid)
    if (!found) throw new Error(`process ${pid} was not started`)
    return found
  }
  const news = () => log.splice(0)
  return { clock, pool, processes, gate, pids, at, news, halted, starts: () => starts }
}

describe('spare processes', () => {
  it('are started ahead, one after the other, and no more than wanted', async () => {
    const { clock, pids, news } = await started({ count: 3 })
    await clock.advance(60_000)
    expect(pids()).toEqual([1, 2, 3])
    expect(news()).toEqual(['0 s: start 1', '2 s: start 2', '4 s: start 3'])
  })

  it('are tried again at once when somebody asks, where the next start was ten minutes away', async () => {
    const { clock, pool, pids, starts } = await started({ isStartable: (start) => start > 1 })
    await clock.advance(300_000)
    expect(starts()).toBe(1)
    pool.tryAgain()
    await clock.advance(0)
    expect([starts(), pids()]).toEqual([2, [2]])
    await clock.advance(2000)
    await pool.stop()
    expect(clock.pending()).toBe(0)
  })

  it('are none where none are wanted', async () => {
    const { clock, starts, pool } = await started({ count: 0 })
    await clock.advance(60_000)
    expect([starts(), pool.take(), clock.pending()]).toEqual([0, undefined, 0])
  })

  it('are told nothing, and nobody reads what they say before they are taken', async () => {
    const { clock, at, pool } = await started()
    at(1).say('welcome')
    await clock.advance(60_000)
    expect(at(1).heard).toEqual([])
    expect(pool.take()?.stdout.read()?.toString()).toBe('welcome\n')
  })

  it('are replaced when one is taken, the oldest first, but only after a moment for its session', async () => {
    const { clock, pool, pids, news } = await started({ count: 2 })
    await clock.advance(10_000)
    news()
    expect(pool.take()?.pid).toBe(1)
    expect(pids()).toEqual([2])
    await clock.advance(99)
    expect(news()).toEqual([])
    await clock.advance(1)
    expect(news()).toEqual(['10.1 s: start 3'])
    expect(pids()).toEqual([2, 3])
  })

  it('are not to be had while all of them start or are taken', async () => {
    const { pool } = await started()
    expect(pool.take()?.pid).toBe(1)
    expect(pool.take()).toBeUndefined()
  })

  it('that a signal has stopped are passed over until they go on', async () => {
    const { clock, pool, pids, halted } = await started({ count: 2 })
    await clock.advance(10_000)
    halted.add(1)
    expect(pool.take()?.pid).toBe(2)
    expect(pool.take()).toBeUndefined()
    expect(pids()).toEqual([1])
    halted.clear()
    expect(pool.take()?.pid).toBe(1)
  })

  it('that end are replaced by the restart law: at once, then more and more slowly', async () => {
    const { clock, at, news } = await started()
    for (const pid of [1, 2, 3, 4]) {
      await clock.advance(5000)
      at(pid).end(crash)
      await clock.advance(0)
    }
    await clock.advance(60_000)
    expect(news()).toEqual([
      '0 s: start 1',
      '5 s: exit, then restart',
      '5 s: start 2',
      '5 s: restart: exit',
      '10 s: exit, then restart',
      '11 s: start 3',
      '11 s: restart: exit',
      '15 s: exit, then restart',
      '17 s: start 4',
      '17 s: restart: exit',
      '20 s: exit, then restart',
      '24 s: start 5',
      '24 s: restart: exit',
    ])
  })

  it('that all end at once are given up after ten, and tried again after ten minutes', async () => {
    const { clock, at, starts, news } = await started()
    for (let start = 1; start <= 10; start += 1) {
      while (starts() < start) await clock.advance(1000)
      at(start).end(crash)
      await clock.advance(0)
    }
    expect(news().at(-1)).toContain('exit, then give_up')
    await clock.advance(599_999)
    expect(starts()).toBe(10)
    await clock.advance(1)
    expect(starts()).toBe(11)
  })

  it('whose command cannot be run are tried again after ten minutes', async () => {
    const { clock, starts, pool, news } = await started({ isStartable: (start) => start > 1 })
    await clock.advance(599_999)
    expect([starts(), pool.all()]).toEqual([1, []])
    expect(news()).toEqual(['0 s: spawn_failed, then give_up'])
    await clock.advance(1)
    expect(news()).toEqual(['600 s: start 2'])
  })

  it('that end after they were taken are their session’s affair', async () => {
    const { clock, pool, at, news } = await started()
    await clock.advance(10_000)
    pool.take()
    at(1).end(crash)
    await clock.advance(60_000)
    expect(news()).toEqual(['0 s: start 1', '10.1 s: start 2'])
  })

  it('wait for a place among the starts, and hold it for two seconds or until they end', async () => {
    const gate = new StartGate(1).lane()
    const release = await gate.acquire()
    const { clock, starts, at } = await started({ gate })
    await clock.advance(60_000)
    expect(starts()).toBe(0)
    release()
    await clock.advance(0)
    expect(starts()).toBe(1)
    let entered = 0
    const enter = async () => {
      const leave = await gate.acquire()
      entered += 1
      leave()
    }
    void enter()
    await clock.advance(1999)
    expect(entered).toBe(0)
    await clock.advance(1)
    expect(entered).toBe(1)
    at(1).end(crash)
    await clock.advance(0)
    expect(starts()).toBe(2)
    void enter()
    at(2).end(crash)
    await clock.advance(0)
    expect(entered).toBe(2)
  })

  it('all end with the pool, and none follows', async () => {
    const { clock, pool, processes, starts } = await started({ count: 2 })
    await clock.advance(10_000)
    await pool.stop()
    await clock.advance(600_000)
    expect(processes.map((process) => process.exit() !== undefined)).toEqual([true, true])
    expect([pool.take(), starts(), clock.pending()]).toEqual([undefined, 2, 0])
  })

  it('none starts when the pool ends while it waits for a place', async () => {
    const gate = new StartGate(1).lane()
    const release = await gate.acquire()
    const { clock, pool, starts } = await started({ gate })
    await pool.stop()
    release()
    await clock.advance(60_000)
    expect([starts(), clock.pending()]).toEqual([0, 0])
  })
})
