import { readFileSync, readdirSync } from 'node:fs'

/** Whether a process runs; a zombie does not. Linux only. */
export function isRunning(pid: number): boolean {
  return statOf(pid) !== undefined
}

/** Every running process whose group this is. Linux only. */
export function groupMembers(groupId: number): number[] {
  return pids().filter((pid) => statOf(pid)?.group === groupId)
}

/** Every running process that this one started, and that those started. Linux only. */
export function descendants(pid: number): number[] {
  const parents = new Map(pids().map((one) => [one, statOf(one)?.parent]))
  const childrenOf = (parent: number): number[] =>
    [...parents].flatMap(([child, its]) => (its === parent ? [child, ...childrenOf(child)] : []))
  return childrenOf(pid)
}

/** Every running process in whose environment this stands, so whoever inherited it. Linux only. */
export function markedProcesses(mark: string): number[] {
  return pids().filter((pid) => statOf(pid) !== undefined && environmentOf(pid).includes(mark))
}

/** What a process runs, without its path; empty where it has gone. Linux only. */
export function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()
  } catch {
    return ''
  }
}

function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1')
  } catch {
    return '' // It has gone, or belongs to somebody else.
  }
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}

// Behind the command, which is in parentheses and may hold anything: state, parent and group (proc_pid_stat(5)).
function statOf(pid: number): { readonly parent: number; readonly group: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' || state === 'X' ? undefined : { parent: Number(parent), group: Number(group) }
  } catch {
    return undefined // It has gone.
  }
}
