import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** What `/proc/<pid>/stat` tells of a process. */
export interface ProcessStat {
  readonly pid: number
  /** One letter; Z is a zombie and X is dead: both are gone but for their entry. T was stopped by a signal. */
  readonly state: string
  readonly parentPid: number
  readonly groupId: number
  /** User and system time, of its own and of the children that it waited for. */
  readonly cpuTicks: number
  readonly threads: number
  readonly residentPages: number
}

/** Fields are counted from 1 (proc_pid_stat(5)); those after the name begin with the third. */
const statFields = { parentPid: 4, groupId: 5, cpu: [14, 15, 16, 17], threads: 20, residentPages: 24 } as const

/** Reads one line of `/proc/<pid>/stat` (proc_pid_stat(5)). The name in parentheses may itself hold any character. */
export function parseStat(line: string): ProcessStat | undefined {
  const nameEnd = line.lastIndexOf(')')
  const fields = line.slice(nameEnd + 2).split(' ')
  const number = (field: number) => Number(fields[field - 3] ?? 0)
  const [pid, state] = [Number.parseInt(line, 10), fields[0]]
  if (nameEnd < 0 || !state || fields.length < 3 || Number.isNaN(pid)) return undefined
  return {
    pid,
    state,
    parentPid: number(statFields.parentPid),
    groupId: number(statFields.groupId),
    cpuTicks: statFields.cpu.reduce((sum, field) => sum + number(field), 0),
    threads: number(statFields.threads),
    residentPages: number(statFields.residentPages),
  }
}

function readStat(pid: number | string): ProcessStat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return undefined // It went between two looks, or there is no /proc.
  }
}

/** Whether it is more than an entry that nobody has taken in yet. */
export function isRunning({ state }: ProcessStat): boolean {
  return state !== 'Z' && state !== 'X'
}

/** Whether signal 0 finds a process or (negative) a group. It finds zombies too. */
function answersSignals(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Whether this system shows its processes in /proc. */
export function hasProc(): boolean {
  return existsSync('/proc/self/stat')
}

/**
 * Whether any member of a process group still runs. Signal 0 settles the usual case for the price of one system call;
 * /proc is scanned only to tell zombies from the living (as PID 1 of a container we may have orphans nobody reaps).
 */
export function groupRuns(groupId: number): boolean {
  if (process.platform === 'win32' || !answersSignals(-groupId)) return false
  if (!hasProc()) return true
  return readdirSync('/proc').some((name) => {
    const stat = /^\d/.test(name) ? readStat(name) : undefined
    return stat?.groupId === groupId && isRunning(stat)
  })
}

/** Signals a whole process group; nothing happens when it has gone. Windows has no groups and ends the whole tree. */
export function signalGroup(groupId: number, signal: NodeJS.Signals): void {
  if (process.platform === 'win32') {
    spawn('taskkill', ['/pid', String(groupId), '/t', '/f'], { stdio: 'ignore' }).on('error', () => {})
    return
  }
  try {
    process.kill(-groupId, signal)
  } catch {
    // ESRCH: it has gone, which is what the caller wants. EPERM: it runs as another user by now; nothing we can do.
  }
}
