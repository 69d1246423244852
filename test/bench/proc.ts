import { readFileSync } from 'node:fs'

/** What a process has used since it started. */
export interface ProcessUsage {
  readonly cpuSeconds: number
  readonly residentBytes: number
}

/** /proc counts CPU time in USER_HZ, which the kernel fixes at 100 for user space on every architecture we run on. */
const ticksPerSecond = 100

/** Reads /proc; undefined where there is none. */
export function processUsage(pid: number): ProcessUsage | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const status = readFileSync(`/proc/${pid}/status`, 'latin1')
    return { cpuSeconds: cpuTicks(stat) / ticksPerSecond, residentBytes: residentKib(status) * 1024 }
  } catch {
    return undefined // No /proc on this system.
  }
}

/** utime + stime, fields 14 and 15 (proc(5)); the name before them may hold blanks and brackets. */
function cpuTicks(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

function residentKib(status: string): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1])
}
