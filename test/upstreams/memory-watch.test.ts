import { afterEach, describe, expect, it } from 'vitest'
import { MemoryWatch } from '../../src/upstreams/memory-watch.ts'
import { fakeClock } from '../support/fake-clock.ts'

const mib = 1024 ** 2
const watches: MemoryWatch[] = []
afterEach(() => {
  for (const watch of watches.splice(0)) watch.stop()
})

/** Processes by pid with the MiB that they use and the requests that they work on; what happens to them is logged. */
function watched(limitMib = 100) {
  const clock = fakeClock()
  const processes = new Map<number, { mib: number; inFlight: number }>()
  const log: string[] = []
  const limit = { bytes: limitMib * mib }
  const say = (text: string) => log.push(`${clock.now() / 1000} s: ${text}`)
  const watch = new MemoryWatch({
    clock,
    lookMs: 10_000,
    table: {
      usageOf: (pid) => {
        const found = processes.get(pid)
        if (!found) return undefined
        const rest = { atMs: clock.now(), cpuSeconds: 0, threads: 1, children: 0, orphans: 0, isStopped: false }
        return { ...rest, residentBytes: found.mib * mib }
      },
    },
    limitBytes: () => limit.bytes,
    processes: () =>
      [...processes.keys()].map((pid) => ({
        pid,
        refuse: () => void say(`refuses ${pid}`),
        inFlight: () => processes.get(pid)?.inFlight ?? 0,
        replace: () => {
          processes.delete(pid)
          say(`replaces ${pid}`)
        },
      })),
    onExceeded: (_process, reason) => say(reason),
  })
  watches.push(watch)
  watch.follow()
  return { clock, processes, log, limit, watch }
}

describe('a memory limit', () => {
  it('is enforced at the second look in a row, when nothing is under way', async () => {
    const { clock, processes, log } = watched()
    processes.set(1, { mib: 101, inFlight: 0 })
    processes.set(2, { mib: 100, inFlight: 0 })
    await clock.advance(19_999)
    expect(log).toEqual([])
    await clock.advance(1)
    expect(log).toEqual(['20 s: it uses 101 MiB of memory, more than 100 MiB', '20 s: refuses 1', '20 s: replaces 1'])
    await clock.advance(100_000)
    expect(log).toHaveLength(3)
  })

  it('forgives what is given back in between', async () => {
    const { clock, processes, log } = watched()
    for (const used of [101, 99, 101, 99, 500, 10]) {
      processes.set(1, { mib: used, inFlight: 0 })
      await clock.advance(10_000)
    }
    expect(log).toEqual([])
  })

  it('lets requests finish, and refuses new ones meanwhile', async () => {
    const { clock, processes, log } = watched()
    const server = { mib: 200, inFlight: 2 }
    processes.set(1, server)
    await clock.advance(23_000)
    expect(log.at(-1)).toBe('20 s: refuses 1')
    server.inFlight = 0
    await clock.advance(100)
    expect(log.at(-1)).toMatch(/^23(\.1)? s: replaces 1$/)
  })

  it('waits for them ten seconds, and no longer', async () => {
    const { clock, processes, log } = watched()
    processes.set(1, { mib: 200, inFlight: 1 })
    await clock.advance(29_999)
    expect(log).toHaveLength(2)
    await clock.advance(1)
    expect(log.at(-1)).toBe('30 s: replaces 1')
  })

  it('may change, or cease to be, at any time', async () => {
    const { clock, processes, log, limit, watch } = watched()
    processes.set(1, { mib: 150, inFlight: 0 })
    limit.bytes = Infinity
    await clock.advance(60_000)
    expect([log, clock.pending()]).toEqual([[], 0])
    limit.bytes = 120 * mib
    watch.follow()
    watch.follow()
    await clock.advance(20_000)
    expect(log.at(-1)).toBe('80 s: replaces 1')
  })

  it('ends with the watch, and leaves nothing behind', async () => {
    const { clock, processes, log, watch } = watched()
    processes.set(1, { mib: 150, inFlight: 1 })
    await clock.advance(21_000)
    watch.stop()
    await clock.advance(60_000)
    expect(log.at(-1)).toBe('20 s: refuses 1')
    expect(clock.pending()).toBe(0)
  })
})
