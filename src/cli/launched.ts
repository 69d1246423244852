import { defaults } from '../defaults.ts'
import type { Heartbeat } from '../heartbeat/loop.ts'
import { touch } from '../heartbeat/touch.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import { describeExit } from '../upstreams/process.ts'
import { type Absence, Supervisor, crashLoopReason, restartRefusal } from '../upstreams/supervisor.ts'
import type { Command, Supervision, UrlTarget } from '../upstreams/upstream.ts'
import { launchedProcess, memoryWatch } from './own-processes.ts'
import type { MonitorDeps } from './monitor-deps.ts'
import { restartedForAlert, lastLine } from './process-views.ts'

export interface LaunchedTarget extends UrlTarget {
  readonly name: string
  readonly endpoint: Endpoint
  readonly launch: Command
  readonly supervision: () => Supervision
}

const serverText = 'the server process'

/** The process that serves a URL, supervised like any other; its stdout says nothing to us. */
export function launch(
  deps: MonitorDeps,
  { name, endpoint, launch: command, limits, supervision }: LaunchedTarget,
  heartbeat: () => Heartbeat,
) {
  const { clock, random, instruments, log } = deps
  let isStopping = false
  let isBeingReplaced = false
  let hasCrashed = false
  let isTaken = false
  let lastOutputMs = clock.now()
  const supervisor = new Supervisor({
    clock,
    random,
    starts: deps.starts.lane(),
    start: () => deps.startProcess(command, { stderrTailBytes: defaults.stderrTailBytes, stdinGraceMs: 0 }),
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    outliveMs: defaults.supervision.launchOutlivesMs,
    policy: () => supervision().restart,
    events: {
      onStarted: (process, restart) => {
        isBeingReplaced = false
        hasCrashed = false
        isTaken = false
        process.stdout.on('data', () => (lastOutputMs = clock.now()))
        if (restart) {
          instruments.countRestart(name, restart)
          log.warn({ upstream: name, reason: restart, restarts: supervisor.restarts() }, 'server process restarted')
        }
        heartbeat().processStarted(`process ${process.pid ?? '?'} was started`)
      },
      onExited: (exit, process, isCrash) => {
        if (isStopping) return
        deps.directory.endAll(name, isBeingReplaced ? 'replaced' : 'exited')
        if (!isCrash) return
        hasCrashed = true
        const who = process.pid === undefined ? serverText : `server process ${process.pid}`
        const reason = `${who} ${describeExit(exit)}`
        log.warn({ upstream: name, stderr: lastLine(process) }, reason)
        if (exit.kind === 'spawn_failed') heartbeat().startFailed(reason)
        else heartbeat().processGone(reason, 0)
      },
      onGivenUp: (_process, why) => heartbeat().givenUp(why),
      onWaiting: (_delayMs, why) => {
        heartbeat().replacing(`its process ${why}`)
        void lookForStranger()
      },
      onCrashLoop: (why, retryInMs) => {
        log.error({ upstream: name, retry_in_seconds: retryInMs / 1000 }, `crash loop: ${why}`)
        heartbeat().crashLoop(crashLoopReason(why, retryInMs))
        void lookForStranger()
      },
      onRest: (why, isFailure) => {
        void lookForStranger()
        const reason = `${serverText} ${why}`
        if (isFailure) log.error({ upstream: name }, reason)
        else log.info({ upstream: name }, reason)
        if (isFailure) heartbeat().lost(reason)
        else heartbeat().idle(reason)
      },
    },
  })
  const absence = (): Absence | undefined => {
    const known = supervisor.absence(serverText)
    return known && isTaken ? { ...known, reason: `${known.reason}; another process answers at its URL` } : known
  }
  /** What answers where nothing of ours runs may be why it cannot. */
  const lookForStranger = async () => {
    const { outcome } = await touch({ endpoint, clock, deadlineMs: defaults.supervision.strangerLookMs })
    if (!hasCrashed || (outcome !== 'ok' && outcome !== 'unauthorized')) return
    isTaken = true
    const { kind, reason } = absence() ?? {}
    if (reason === undefined) return
    log.warn({ upstream: name }, `${serverText} has ended, and another process answers at its URL`)
    if (kind === 'crash_loop') heartbeat().crashLoop(reason)
    else if (kind !== 'idle') heartbeat().lost(reason)
  }
  const own = launchedProcess(
    deps,
    { name, limits },
    {
      process: () => supervisor.current(),
      lastHeardMs: () => Math.max(lastOutputMs, heartbeat().lastHeardMs()),
      lastServedMs: () => heartbeat().lastAnswerMs(),
      restart: () => void supervisor.restart('hung'),
    },
  )
  const limitBytes = () => supervision().maxMemoryBytes
  const memory = memoryWatch(deps, name, limitBytes, () => {
    const pid = supervisor.current()?.pid
    if (pid === undefined) return []
    const replace = (reason: string) => {
      if (supervisor.current()?.pid !== pid) return
      heartbeat().replacing(`it is restarted: ${reason}`)
      void supervisor.restart('memory', reason)
    }
    const refuse = () => void (isBeingReplaced = true)
    return [{ pid, refuse, inFlight: () => deps.requestsInFlight(name), replace }]
  })
  return {
    supervisor,
    own,
    memory,
    absence,
    /** It takes no more requests until another process has taken its place. */
    isBeingReplaced: () => isBeingReplaced,
    restart: (): string | undefined => {
      const refusal = restartRefusal(supervisor.state(), supervision().restart)
      if (refusal !== undefined) return refusal
      heartbeat().replacing(restartedForAlert)
      void supervisor.restart('alert', 'an alert asked for it')
      return undefined
    },
    /** Nobody is there to be asked: it has ended, or is being ended by us. Whoever answers all the same is another. */
    isResting: () => supervisor.state() === 'waiting' || supervisor.absence(serverText) !== undefined,
    stop: () => {
      isStopping = true
      return supervisor.stop()
    },
  }
}
