import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** The part of `/proc/<pid>/stat` that tells who a process is. */
export interface ProcessStat {
  readonly pid: number
  /** One letter; Z is a zombie and X is dead: both are gone but for their entry. */
  readonly state: string
  readonly parentPid: number
  readonly groupId: number
}

/** Reads one line of `/proc/<pid>/stat` (proc_pid_stat(5)). The name in parentheses may itself hold any character. */
export function parseStat(line: string): ProcessStat | undefined {
  const nameEnd = line.lastIndexOf(')')
  const [state, parentPid, groupId] = line.slice(nameEnd + 2).split(' ')
  const pid = Number.parseInt(line, 10)
  if (nameEnd < 0 || !state || !parentPid || !groupId || Number.isNaN(pid)) return undefined
  return { pid, state, parentPid: Number(parentPid), groupId: Number(groupId) }
}

function readStat(pid: number | string): ProcessStat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return undefined // It went between two looks, or there is no /proc.
  }
}

function runs(stat: ProcessStat | undefined): boolean {
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X'
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
function hasProc(): boolean {
  return existsSync('/proc/self/stat')
}

/** Whether a process still runs; a zombie does not. Without /proc a zombie cannot be told from the living. */
export function isAlive(pid: number): boolean {
  return hasProc() ? runs(readStat(pid)) : answersSignals(pid)
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
    return stat?.groupId === groupId && runs(stat)
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
