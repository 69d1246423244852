import type { EndedView, ProcessView } from '../heartbeat/monitored.ts'
import { type EndedProcess, type ServerProcess, describeExit } from '../upstreams/process.ts'

/** One process as it is shown, if it ever ran. */
export function processView(
  process: ServerProcess,
  role: ProcessView['role'],
  session: string | undefined,
): ProcessView[] {
  const { pid, startedAtWallMs } = process
  return pid === undefined ? [] : [{ pid, role, session, startedAtWallMs, stderrTail: process.stderrTail() }]
}

/** The same of one that has ended. */
export function endedView(ended: EndedProcess | undefined): EndedView | undefined {
  if (!ended) return undefined
  const { process, exit, why, atWallMs } = ended
  const how = why === undefined ? describeExit(exit) : `${describeExit(exit)}, after mcp-vitals ended it: ${why}`
  return { pid: process.pid, endedAtWallMs: atWallMs, how, stderrTail: process.stderrTail() }
}

export const restartedForAlert = 'it is restarted: an alert asks for it'

/** The line of stderr that most likely says why a process ended: its last error, else its last line. */
export function lastLine(process: ServerProcess): string {
  const lines = process.stderrTail().trimEnd().split('\n')
  const error = lines.findLast((line) => /error|exception|fatal|panic|cannot|refused/i.test(line))
  return (error ?? lines.at(-1) ?? '').slice(0, 500)
}
