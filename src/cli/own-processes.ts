import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { Vitals } from '../heartbeat/hang-watch.ts'
import type { OwnProcesses, WorkSigns } from '../heartbeat/contract.ts'
import type { Heartbeat } from '../heartbeat/loop.ts'
import type { Logger } from '../log.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import type { ProcessTable } from '../upstreams/process-table.ts'
import type { ServerProcess } from '../upstreams/process.ts'
import type { Line, StdioUpstream } from '../upstreams/stdio.ts'
import { MemoryWatch, type WatchedProcess } from '../upstreams/memory-watch.ts'
import type { RequestLimits } from '../upstreams/upstream.ts'

/** What it takes to tell busy processes from hung ones. */
export interface ExamineDeps {
  readonly processTable: Pick<ProcessTable, 'usageOf'>
}

/** What it takes to tell which of our processes hang, and to do something about it. */
export interface OwnProcessDeps extends ExamineDeps {
  readonly log: Logger
  readonly directory: SessionDirectory
  /** Whether it fell silent with so many others, and so lately, that the fault is hardly its own. */
  readonly isExcused: (upstream: string) => boolean
  readonly requestsInFlight: (upstream: string) => number
}

interface ServerOf {
  readonly name: string
  readonly limits: RequestLimits | undefined
}

/** As long as a client's request may take, its server may work on it, or wait for somebody else. */
function lawOf(limits: RequestLimits | undefined): WorkSigns['law'] {
  const { waitingMs, workingMs, ...law } = defaults.hang
  return { ...law, waitingMs: limits?.stallTimeoutMs ?? waitingMs, workingMs: limits?.requestTimeoutMs ?? workingMs }
}

/** How long silence is believed to have its reasons: that nothing is given up is no reason to believe so for ever. */
export function believedMs(limits: RequestLimits | undefined): number {
  const { waitingMs } = lawOf(limits)
  return waitingMs === Infinity ? defaults.requests.stallTimeoutMs : waitingMs
}

/** The processes of a stdio upstream: one for each session, and the resident one, which serves all other requests. */
export function stdioProcesses(
  deps: OwnProcessDeps,
  { name, limits }: ServerOf,
  upstream: StdioUpstream,
): OwnProcesses {
  const lineOf = (session: string | undefined): Line | undefined =>
    session === undefined ? upstream.residentLine() : upstream.sessionLines().find((line) => line.session === session)
  const inFlightOf = requestsOn(deps, name, upstream)
  return {
    law: lawOf(limits),
    examine: (session) => {
      const line = lineOf(session)
      if (!line) return undefined
      return vitalsOf(deps, line.process, Math.max(line.lastHeardMs, line.lastNoiseMs), inFlightOf(line))
    },
    onHung: guarded(deps, name, (session) => {
      const line = lineOf(session)
      if (line?.role === 'session') {
        upstream.endSession(line, 'hung')
        return 'its process is ended, and its session with it'
      }
      upstream.restartResident('hung')
      return 'it is restarted'
    }),
  }
}

/**
 * How many requests wait for the answer of a process: those of its session, or all that belong to no such session. One
 * that is not registered yet is its client's `initialize`.
 */
function requestsOn(
  { directory, requestsInFlight }: OwnProcessDeps,
  name: string,
  upstream: StdioUpstream,
): (line: Line) => number {
  const pendingOf = (lines: readonly Line[]) => {
    const pending = new Map([...directory.of(name)].map((session) => [session.key, session.pending]))
    return lines.reduce((sum, { session = '' }) => sum + (pending.get(session) ?? 1), 0)
  }
  return (line) =>
    line.role === 'session'
      ? pendingOf([line])
      : Math.max(0, requestsInFlight(name) - pendingOf(upstream.sessionLines()))
}

/** The one process that serves a URL. */
export function launchedProcess(
  deps: OwnProcessDeps,
  { name, limits }: ServerOf,
  server: {
    readonly process: () => ServerProcess | undefined
    /** Monotonic time of its last output, or of what it last said to anybody. */
    readonly lastHeardMs: () => number
    /** The same of its last answer. */
    readonly lastServedMs: () => number
    readonly restart: () => void
  },
): OwnProcesses {
  return {
    law: lawOf(limits),
    examine: () => {
      const process = server.process()
      const vitals = process && vitalsOf(deps, process, server.lastHeardMs(), deps.requestsInFlight(name))
      return vitals && { ...vitals, lastServedMs: server.lastServedMs() }
    },
    onHung: guarded(deps, name, () => {
      server.restart()
      return 'it is restarted'
    }),
  }
}

/**
 * A server that is not ours: whether it works nobody can tell, so its silence is excused by a client's request for as long
 * as the server may give no sign for one. It is never said to hang, since it is not ours to end.
 */
export function remoteServer(
  limits: RequestLimits | undefined,
  server: {
    /** Monotonic time of what it last said to anybody. */
    readonly lastHeardMs: () => number
    readonly inFlight: () => number
  },
): WorkSigns {
  const law = lawOf(limits)
  return {
    law: { ...law, unanswered: Infinity, waitingMs: Math.min(believedMs(limits), law.workingMs) },
    examine: () => ({
      pid: undefined,
      cpu: undefined,
      isStopped: false,
      lastHeardMs: server.lastHeardMs(),
      inFlight: server.inFlight(),
    }),
  }
}

/** The process that a client started through us: whether it is ended, and started again, is for its client to say. */
export function wrappedProcess(
  deps: ExamineDeps,
  limits: RequestLimits | undefined,
  server: {
    readonly process: ServerProcess
    /** Monotonic time of its last message. */
    readonly lastHeardMs: () => number
    readonly inFlight: () => number
  },
): OwnProcesses {
  const { process } = server
  return {
    law: lawOf(limits),
    examine: () => (process.exit() ? undefined : vitalsOf(deps, process, server.lastHeardMs(), server.inFlight())),
    onHung: () => 'it is left to its client',
  }
}

function vitalsOf(
  { processTable }: ExamineDeps,
  process: ServerProcess,
  lastHeardMs: number,
  inFlight: number,
): Vitals | undefined {
  const { pid } = process
  if (pid === undefined) return undefined
  const usage = processTable.usageOf(pid)
  return {
    pid,
    cpu: usage && { seconds: usage.cpuSeconds, atMs: usage.atMs },
    isStopped: usage?.isStopped ?? false,
    lastHeardMs: Math.max(lastHeardMs, process.lastStderrMs()),
    inFlight,
  }
}

/** When the network fails, or we do, a restart helps nobody: whoever is silent because of that gets some time. */
function guarded(
  { log, isExcused }: OwnProcessDeps,
  upstream: string,
  act: (session: string | undefined) => string,
): OwnProcesses['onHung'] {
  return (session, reason) => {
    const action = isExcused(upstream) ? 'it is left alone, since other servers fell silent with it' : act(session)
    log.error({ upstream, session: session ?? null, reason, action }, 'a server process hangs')
    return action
  }
}

/** Replaces the processes of a stdio upstream that outgrow their limit: a session's by its end. */
export function stdioMemory(
  deps: MemoryDeps,
  name: string,
  upstream: StdioUpstream,
  limit: { readonly bytes: () => number; readonly heartbeat: () => Heartbeat },
): MemoryWatch {
  const inFlightOf = requestsOn(deps, name, upstream)
  const watched = (line: Line): WatchedProcess[] => {
    const { pid } = line.process
    if (pid === undefined || line.ended) return []
    const replace = (reason: string) => {
      if (line.role === 'session') return upstream.endSession(line, 'memory', reason)
      if (line !== upstream.residentLine()) return
      if (upstream.sessionLines().length === 0) limit.heartbeat().replacing(`it is restarted: ${reason}`)
      upstream.restartResident('memory', reason)
    }
    return [{ pid, refuse: () => void (line.isLeaving = true), inFlight: () => inFlightOf(line), replace }]
  }
  return memoryWatch(deps, name, limit.bytes, () => {
    const resident = upstream.residentLine()
    return [...(resident ? [resident] : []), ...upstream.sessionLines()].flatMap(watched)
  })
}

export interface MemoryDeps extends OwnProcessDeps {
  readonly clock: Clock
  /** How often memory is looked at where it has a limit. */
  readonly memoryLookMs: number
}

/** Replaces processes that outgrow their limit, and says so. */
export function memoryWatch(
  { clock, processTable: table, log, memoryLookMs: lookMs }: MemoryDeps,
  upstream: string,
  limitBytes: () => number,
  processes: () => readonly WatchedProcess[],
): MemoryWatch {
  const onExceeded = ({ pid }: WatchedProcess, reason: string) =>
    log.warn({ upstream, pid, reason }, 'a server process uses too much memory, and is replaced')
  return new MemoryWatch({ clock, table, lookMs, limitBytes, processes, onExceeded })
}
