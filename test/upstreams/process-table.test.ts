import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { ProcessTable } from '../../src/upstreams/process-table.ts'
import type { ProcessStat } from '../../src/upstreams/process-tree.ts'
import { UsageMeter } from '../../src/upstreams/usage-meter.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'

const onLinux = process.platform === 'linux'
const spawned: ChildProcess[] = []
const groups: number[] = []

afterEach(() => {
  for (const child of spawned.splice(0)) child.kill('SIGKILL')
  for (const group of groups.splice(0)) {
    try {
      process.kill(-group, 'SIGKILL')
    } catch {
      // It ended by itself.
    }
  }
})

function stat(pid: number, parentPid: number, groupId: number, changes: Partial<ProcessStat> = {}): ProcessStat {
  return { pid, state: 'S', parentPid, groupId, cpuTicks: 10, threads: 1, residentPages: 2, ...changes }
}

/** A table of processes that are none; `processes` may be changed, and is seen a second later. */
function table(processes: ProcessStat[]) {
  const clock = fakeClock()
  let looks = 0
  const read = () => {
    looks += 1
    return [...processes]
  }
  const units = { pageBytes: 4096, ticksPerSecond: 100 }
  const made = new ProcessTable({ clock, read, countFds: (pid) => pid, units })
  return { clock, table: made, looks: () => looks }
}

describe('the usage of a process tree', () => {
  const stranger = stat(90, 1, 90)
  it.each<[string, ProcessStat[], object]>([
    ['a process alone', [stat(10, 5, 10)], { residentBytes: 8192, cpuSeconds: 0.1, threads: 1, children: 0 }],
    ['its child', [stat(10, 5, 10), stat(11, 10, 10)], { residentBytes: 16_384, children: 1, orphans: 0 }],
    ['an orphan, by its group', [stat(10, 5, 10), stat(12, 1, 10)], { children: 1, orphans: 1 }],
    ['a child in a group of its own', [stat(10, 5, 10), stat(11, 10, 11)], { children: 1, orphans: 0 }],
    ['that one’s child, too', [stat(12, 11, 11), stat(10, 5, 10), stat(11, 10, 11)], { children: 2, orphans: 0 }],
    ['a zombie for its CPU time', [stat(10, 5, 10), stat(11, 10, 10, { state: 'Z' })], { cpuSeconds: 0.2, threads: 1 }],
    ['the zombie as no child', [stat(10, 5, 10), stat(11, 10, 10, { state: 'Z' })], { children: 0 }],
    ['that it was stopped', [stat(10, 5, 10, { state: 'T' })], { isStopped: true }],
    ['a child that was stopped', [stat(10, 5, 10), stat(11, 10, 10, { state: 'T' })], { isStopped: false }],
  ])('counts %s', (_what, processes, usage) => {
    expect(table([stranger, ...processes]).table.usageOf(10)).toMatchObject(usage)
  })

  it('is not known of a process that has gone, or where there is no /proc', () => {
    expect(table([stat(11, 10, 10)]).table.usageOf(10)).toBeUndefined()
    expect(table([stat(11, 10, 10)]).table.openFdsOf(10)).toBeUndefined()
    const blind = new ProcessTable({ clock: fakeClock(), read: () => undefined })
    expect([blind.usageOf(process.pid), blind.openFdsOf(process.pid)]).toEqual([undefined, undefined])
  })

  it('costs one look per second, however many ask', async () => {
    const { clock, table: made, looks } = table([stat(10, 5, 10), stat(20, 5, 20)])
    for (const pid of [10, 20, 10]) made.usageOf(pid)
    made.openFdsOf(10)
    await clock.advance(999)
    made.usageOf(20)
    expect(looks()).toBe(1)
    await clock.advance(1)
    made.usageOf(20)
    expect(looks()).toBe(2)
  })

  it.runIf(onLinux)(
    'is that of real processes: a busy leader, its child, an orphan, and a child that left the group',
    async () => {
      const script = `
      sleep 1000 &
      (sleep 1001 &)
      setsid sleep 1002 &
      echo ready
      while :; do :; done`
      const leader = spawn('sh', ['-c', script], { detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
      spawned.push(leader)
      const pid = leader.pid ?? 0
      groups.push(pid)
      for await (const line of createInterface({ input: leader.stdout })) if (line === 'ready') break
      const usage = await eventually(
        () => {
          const found = new ProcessTable({ clock: systemClock }).usageOf(pid)
          return found?.children === 3 && found.orphans === 1 && found.cpuSeconds > 0 ? found : undefined
        },
        { what: 'all of them are counted' },
      )
      const rss = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024
      expect(usage.residentBytes, 'more than the leader alone').toBeGreaterThan(rss)
      expect(usage.threads).toBe(4)
      const fds = new ProcessTable({ clock: systemClock }).openFdsOf(pid) ?? 0
      expect(fds).toBeGreaterThan(readdirSync(`/proc/${pid}/fd`).length)

      leader.kill('SIGSTOP')
      await eventually(() => new ProcessTable({ clock: systemClock }).usageOf(pid)?.isStopped, {
        what: 'it is stopped',
      })
    },
  )
})

describe('the usage of an upstream', () => {
  it('adds up its processes', () => {
    const child = stat(11, 10, 10)
    const orphan = stat(21, 1, 20)
    const leaders = [stat(10, 5, 10), stat(20, 5, 20, { threads: 7 })]
    const { table: made } = table([...leaders, child, orphan, stat(30, 5, 30)])
    const usage = new UsageMeter(made).read([10, 20])
    const sums = { cpuSeconds: 0.4, residentBytes: 32_768, openFds: 62, threads: 10 }
    expect(usage).toEqual({ ...sums, children: 2, orphans: 1 })
  })

  it('is unknown before any process was seen; later only its CPU time outlives them', async () => {
    const processes: ProcessStat[] = []
    const { clock, table: made } = table(processes)
    const meter = new UsageMeter(made)
    expect(meter.read([10])).toBeUndefined()
    processes.push(stat(10, 5, 10))
    await clock.advance(1000)
    expect(meter.read([10])).toMatchObject({ cpuSeconds: 0.1, threads: 1 })
    expect(meter.read([])).toEqual({ cpuSeconds: 0.1 })
  })

  it('counts CPU time that never decreases, whatever ends, is orphaned or is replaced', () => {
    const trees = fc.array(fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.nat(500)), { maxLength: 4 }))
    fc.assert(
      fc.property(trees, (readings) => {
        let now = new Map<number, number>()
        const meter = new UsageMeter({
          usageOf: (pid) => ({
            atMs: 0,
            cpuSeconds: now.get(pid) ?? 0,
            residentBytes: 0,
            threads: 1,
            children: 0,
            orphans: 0,
            isStopped: false,
          }),
          openFdsOf: () => 0,
        })
        let last = 0
        for (const reading of readings) {
          const before = now
          now = new Map(reading)
          const total = meter.read([...now.keys()])?.cpuSeconds ?? 0
          const grown = [...now].reduce((sum, [pid, cpu]) => sum + Math.max(0, cpu - (before.get(pid) ?? 0)), 0)
          expect(total).toBeCloseTo(last + grown, 6)
          last = total
        }
      }),
    )
  })
})
