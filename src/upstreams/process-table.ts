import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs'
import { endianness } from 'node:os'
import type { Clock } from '../clock.ts'
import { type ProcessStat, hasProc, isRunning, parseStat } from './process-tree.ts'

/** What a process that we started uses, together with all that it started itself. */
export interface TreeUsage {
  /** When this was so, monotonic. */
  readonly atMs: number
  readonly residentBytes: number
  /** Of those that run and of those that one of them waited for; it shrinks when somebody else takes in an orphan. */
  readonly cpuSeconds: number
  readonly threads: number
  /** Those that run besides the one that we started. */
  readonly children: number
  /** Those among them whose parent has gone. */
  readonly orphans: number
  /** The one that we started was stopped by a signal (SIGSTOP), or is held by a debugger. */
  readonly isStopped: boolean
}

export interface ProcessTableOptions {
  readonly clock: Clock
  /** Every process of this system; undefined where that cannot be told. */
  readonly read?: () => readonly ProcessStat[] | undefined
  readonly countFds?: (pid: number) => number
  readonly units?: ProcUnits
}

/** What `/proc` counts in. */
export interface ProcUnits {
  readonly pageBytes: number
  readonly ticksPerSecond: number
}

/** All upstreams share one look at `/proc` for so long: it costs as much as the system has processes. */
const freshMs = 1000

interface Scan {
  readonly atMs: number
  readonly byPid: ReadonlyMap<number, ProcessStat>
  readonly byGroup: ReadonlyMap<number, readonly ProcessStat[]>
  readonly byParent: ReadonlyMap<number, readonly ProcessStat[]>
}

/** The processes of this system, as `/proc` shows them; without it nothing is known of any. */
export class ProcessTable {
  readonly #clock: Clock
  readonly #read: () => readonly ProcessStat[] | undefined
  readonly #countFds: (pid: number) => number
  readonly #units: ProcUnits
  #scan: Scan | undefined

  constructor({ clock, read = readProcesses, countFds = countOpenFds, units = procUnits() }: ProcessTableOptions) {
    this.#clock = clock
    this.#read = read
    this.#countFds = countFds
    this.#units = units
  }

  /** At most a second old. `leader` is the process that we started; undefined when it has gone, or without `/proc`. */
  usageOf(leader: number): TreeUsage | undefined {
    const scan = this.#look()
    const first = scan.byPid.get(leader)
    if (!first) return undefined
    const members = treeOf(leader, scan)
    const running = members.filter(isRunning)
    const sum = (all: readonly ProcessStat[], pick: (stat: ProcessStat) => number) =>
      all.reduce((total, stat) => total + pick(stat), 0)
    const others = running.filter(({ pid }) => pid !== leader)
    const ids = new Set(members.map(({ pid }) => pid))
    return {
      atMs: scan.atMs,
      residentBytes: sum(running, ({ residentPages }) => residentPages) * this.#units.pageBytes,
      cpuSeconds: sum(members, ({ cpuTicks }) => cpuTicks) / this.#units.ticksPerSecond,
      threads: sum(running, ({ threads }) => threads),
      children: others.length,
      orphans: others.filter(({ parentPid }) => !ids.has(parentPid)).length,
      isStopped: first.state === 'T' || first.state === 't',
    }
  }

  /** Counted at each call: one more look into `/proc` for every process of the tree. */
  openFdsOf(leader: number): number | undefined {
    const scan = this.#look()
    if (!scan.byPid.has(leader)) return undefined
    const running = treeOf(leader, scan).filter(isRunning)
    return running.reduce((total, { pid }) => total + this.#countFds(pid), 0)
  }

  #look(): Scan {
    const nowMs = this.#clock.now()
    if (this.#scan && nowMs - this.#scan.atMs < freshMs) return this.#scan
    const stats = this.#read() ?? []
    const byPid = new Map(stats.map((stat) => [stat.pid, stat]))
    const byGroup = Map.groupBy(stats, ({ groupId }) => groupId)
    const byParent = Map.groupBy(stats, ({ parentPid }) => parentPid)
    this.#scan = { atMs: nowMs, byPid, byGroup, byParent }
    return this.#scan
  }
}

/** The members of its process group, which finds orphans, and the children of each, which finds other groups. */
function treeOf(leader: number, { byPid, byGroup, byParent }: Scan): readonly ProcessStat[] {
  const first = byPid.get(leader)
  const found = new Set(first ? [first] : [])
  for (const member of byGroup.get(leader) ?? []) found.add(member)
  // A set is walked in the order of insertion, so those that are added on the way have their turn.
  for (const { pid } of found) for (const child of byParent.get(pid) ?? []) found.add(child)
  return [...found]
}

/** One line of `/proc/<pid>/stat`: 52 numbers and a name of at most 64 bytes. */
const statBytes = 2048

/** Files of /proc have no length to ask for, so a buffer of our own saves `readFileSync` half of its system calls. */
function readProcesses(): readonly ProcessStat[] | undefined {
  if (!hasProc()) return undefined
  const buffer = Buffer.allocUnsafe(statBytes)
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d/.test(name)) return []
    try {
      const file = openSync(`/proc/${name}/stat`, 'r')
      try {
        return parseStat(buffer.toString('latin1', 0, readSync(file, buffer))) ?? []
      } finally {
        closeSync(file)
      }
    } catch {
      return [] // It went between two looks.
    }
  })
}

function countOpenFds(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return 0 // It has gone, or it runs as another user.
  }
}

// getauxval(3): each entry is a type and a value, both of the machine's word size.
const auxPageBytes = 6
const auxTicksPerSecond = 17

/** The kernel tells every process what it counts in; what is not told is what nearly all of them say. */
function procUnits(): ProcUnits {
  const told = auxiliaryVector()
  return { pageBytes: told.get(auxPageBytes) ?? 4096, ticksPerSecond: told.get(auxTicksPerSecond) ?? 100 }
}

function auxiliaryVector(): ReadonlyMap<number, number> {
  const found = new Map<number, number>()
  try {
    const bytes = readFileSync('/proc/self/auxv')
    const wordAt = (at: number) => Number(endianness() === 'LE' ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at))
    for (let at = 0; at + 16 <= bytes.length; at += 16) found.set(wordAt(at), wordAt(at + 8))
  } catch {
    // There is no /proc.
  }
  return found
}
