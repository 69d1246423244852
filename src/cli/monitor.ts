import type { UpstreamConfig } from '../config/config.ts'
import { defaults } from '../defaults.ts'
import { HttpProber } from '../heartbeat/http-prober.ts'
import { StdioProber } from '../heartbeat/stdio-prober.ts'
import { sharedCapabilities } from '../proxy/shared-capabilities.ts'
import { waitingIn } from '../sessions/session.ts'
import type { UpstreamTraits } from '../telemetry/instruments.ts'
import type { BreakerOptions } from '../upstreams/breaker.ts'
import { endpoint } from '../upstreams/endpoint.ts'
import type { MemoryWatch } from '../upstreams/memory-watch.ts'
import { limited } from '../upstreams/queue.ts'
import { patient } from '../upstreams/patient.ts'
import { proxyFor } from '../upstreams/proxy-env.ts'
import { describeExit } from '../upstreams/process.ts'
import { delayOf } from '../upstreams/restart.ts'
import { StdioUpstream } from '../upstreams/stdio.ts'
import { crashLoopReason } from '../upstreams/supervisor.ts'
import { yielding } from '../upstreams/yielding.ts'
import type { StdioTarget, Supervision, UrlTarget } from '../upstreams/upstream.ts'
import type { LiveUpstream } from './fleet.ts'
import { believedMs, remoteServer, stdioMemory, stdioProcesses } from './own-processes.ts'
import type { MonitorDeps } from './monitor-deps.ts'
import { type TunableHeartbeat, tunableHeartbeat } from './tunable-heartbeat.ts'
import { launch } from './launched.ts'
import { processView, endedView, restartedForAlert, lastLine } from './process-views.ts'

/** Which events an upstream can ever have. */
export function traitsOf(target: StdioTarget | UrlTarget): UpstreamTraits {
  const isStdio = target.transport === 'stdio'
  const hasProcess = isStdio || target.launch !== undefined
  return { transport: target.transport, hasProcess, isShared: isStdio && target.process === 'shared' }
}

/** Constructs one upstream with its heartbeat; `start` sets it going. */
export function monitor(deps: MonitorDeps, config: UpstreamConfig): LiveUpstream {
  deps.instruments.initUpstream(config.name, traitsOf(config.target))
  return config.target.transport === 'stdio'
    ? monitorStdio(deps, config, config.target)
    : monitorUrl(deps, config, config.target)
}

function monitorStdio(deps: MonitorDeps, config: UpstreamConfig, target: StdioTarget): LiveUpstream {
  const { name } = config
  const { clock, random, bridge, instruments, log } = deps
  const settings: Supervised = { supervision: config.supervision }
  const isStopped = (pid: number) => deps.processTable.usageOf(pid)?.isStopped ?? false
  const upstream: StdioUpstream = new StdioUpstream({
    target,
    clock,
    random,
    starts: deps.starts.lane(),
    startProcess: (role) => {
      // A client waits while the resident process makes way, and it holds nobody's state: it gets less time to leave.
      const graces = role === 'resident' ? { stdinGraceMs: defaults.supervision.residentStdinGraceMs } : {}
      return deps.startProcess(target.launch, { stderrTailBytes: defaults.stderrTailBytes, ...graces })
    },
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    maxLineBytes: defaults.maxLineBytes,
    policy: () => settings.supervision.restart,
    isStopped,
    events: {
      onResidentStarted: (line) => heartbeat.processStarted(`process ${line.process.pid ?? '?'} was started`),
      onSessionStarted: ({ process: { pid } }) =>
        heartbeat.sessionStarted(`process ${pid ?? '?'} was started for a client`),
      onCrash: (line, exit, others) => {
        const reason = `${line.role} process ${line.process.pid ?? '?'} ${describeExit(exit)}`
        log.warn({ upstream: name, session: line.session ?? null, stderr: lastLine(line.process) }, reason)
        heartbeat.processGone(reason, others)
      },
      onStartFailed: (why) => heartbeat.startFailed(why),
      onGivenUp: (why) => heartbeat.givenUp(why),
      onSpareExited: (process, exit, decision) => {
        const nextSeconds = delayOf(decision) / 1000
        const fields = { upstream: name, stderr: lastLine(process), next_start_in_seconds: nextSeconds }
        log.warn(fields, `spare process ${process.pid ?? '?'} ${describeExit(exit)}`)
      },
      onRestart: (reason) => {
        restarts += 1
        instruments.countRestart(name, reason)
        log.warn({ upstream: name, reason, restarts }, 'server process restarted')
      },
      onResidentGone: (why) => heartbeat.replacing(`its process ${why}`),
      onCrashLoop: (why, retryInMs) => {
        log.error({ upstream: name, retry_in_seconds: retryInMs / 1000 }, `crash loop: ${why}`)
        heartbeat.crashLoop(crashLoopReason(why, retryInMs))
      },
      onIdle: (why) => heartbeat.idle(why),
      onLeftDown: (why) => {
        log.error({ upstream: name }, why)
        heartbeat.lost(why)
      },
      onDropped: (reason) => instruments.countDropped(name, reason),
      onResidentMessage: (line, message, envelope) => {
        if (!bridge.hear(name, { line, message, envelope })) prober.hear(line, envelope)
      },
      onResidentClosed: (line, error) => bridge.residentClosed(name, line, error),
    },
  })
  const access = { kind: 'stdio', upstream, ...limited(clock, target, circuitEvents(deps, name)) } as const
  const prober: StdioProber = new StdioProber({
    upstream,
    clock,
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    discoverPatienceMs: defaults.supervision.discoverPatienceMs,
    idleSinceMs: () => clock.now() - heartbeat.glance().interval.intervalMs * defaults.heartbeat.idleIntervals,
    waitingIn: (key) => {
      const session = deps.directory.withKey(name, key)
      return session ? waitingIn(session) : 'client'
    },
    excusedMs: believedMs(target.limits),
    isStopped,
    method: () => probeMethod(),
    sharedCapabilities: target.process === 'shared' ? sharedCapabilities : undefined,
  })
  const own = stdioProcesses(deps, { name, limits: target.limits }, upstream)
  const onAnswered = () => access.breaker.signOfLife()
  const tunable = tunableHeartbeat(deps, config, prober, { own, absence: () => upstream.absence(), onAnswered })
  const { heartbeat, probeMethod } = tunable
  const memory = stdioMemory(deps, name, upstream, {
    bytes: () => settings.supervision.maxMemoryBytes,
    heartbeat: () => heartbeat,
  })
  let restarts = 0
  return {
    name,
    transport: 'stdio',
    access,
    heartbeat,
    prober,
    processes: () => {
      const lines = [upstream.residentLine(), ...upstream.sessionLines()]
      return [
        ...lines.flatMap((line) => (line ? processView(line.process, line.role, line.session) : [])),
        ...upstream.spareProcesses().flatMap((process) => processView(process, 'spare', undefined)),
      ]
    },
    lastEnded: () => endedView(upstream.lastEnded()),
    restarts: () => restarts,
    nextStartInMs: () => upstream.nextStartInMs(),
    tryAgain: () => upstream.tryAgain('manual'),
    connections: () => undefined,
    requestsInFlight: () => deps.requestsInFlight(name),
    ...steering(settings, {
      ...tunable,
      memory,
      begin: () => upstream.start(),
      wake: () => upstream.wakeResident(),
      retry: () => void upstream.tryAgain('config'),
      end: () => upstream.stop(),
    }),
    isBeingReplaced: () => upstream.isShared() && (upstream.residentLine()?.isLeaving ?? false),
    startNoMore: () => upstream.startNoMore(),
    restart: () => {
      const isAlone = upstream.sessionLines().length === 0
      const refusal = upstream.restart('alert', 'an alert asked for it')
      if (refusal === undefined && isAlone) heartbeat.replacing(restartedForAlert)
      return refusal
    },
  }
}

function monitorUrl(deps: MonitorDeps, config: UpstreamConfig, target: UrlTarget): LiveUpstream {
  const { name } = config
  const { connectTimeoutMs, idleConnectionMs } = defaults.http
  const pool = endpoint(target, {
    connectTimeoutMs,
    idleConnectionMs,
    standstills: deps.standstills,
    clock: deps.clock,
    proxyFor: (url) => proxyFor(url, deps.env),
    openPool: deps.openPool,
    onCircuit: circuitEvents(deps, name),
    onTokenFailure: ({ message }) =>
      deps.log.warn({ upstream: name, reason: deps.redact(message) }, 'no token for the upstream'),
  })
  const settings: Supervised = { supervision: config.supervision }
  const launched =
    target.launch &&
    launch(
      deps,
      { ...target, name, endpoint: pool, launch: target.launch, supervision: () => settings.supervision },
      () => heartbeat,
    )
  const isStarting = () => launched?.supervisor.state() === 'starting'
  const patientSend = patient((request, handler) => pool.send(request, handler), {
    clock: deps.clock,
    isStarting,
    patienceMs: defaults.supervision.clientPatienceMs,
    retryMs: defaults.supervision.clientRetryMs,
  })
  const prober = new HttpProber({
    endpoint: pool,
    transport: target.transport,
    clock: deps.clock,
    maxBodyBytes: defaults.maxLineBytes,
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    openingDeadlineMs: defaults.heartbeat.lateAnswerMs,
    isStarting,
    isResting: () => launched?.isResting() ?? false,
    method: () => probeMethod(),
    onInTheWay: (how) => deps.log.warn({ upstream: name, how }, oneConnection),
  })
  const toClients = yielding(launched ? patientSend : (request, handler) => pool.send(request, handler), prober, {
    clock: deps.clock,
    ...defaults.supervision.makeWay,
  })
  const own = launched?.own
  const inFlight = () => deps.requestsInFlight(name)
  const lastHeardMs = () => heartbeat.lastHeardMs()
  const remote = launched ? undefined : remoteServer(target.limits, { lastHeardMs, inFlight })
  const onOpened = () => launched?.supervisor.ready()
  const onAnswered = () => pool.breaker.signOfLife()
  const absence = () => launched?.absence()
  const tunable = tunableHeartbeat(deps, config, prober, { own, remote, absence, onOpened, onAnswered })
  const { heartbeat, probeMethod } = tunable
  return {
    name,
    transport: target.transport,
    access: {
      kind: 'endpoint',
      endpoint: { ...pool, send: toClients, ownRequests: prober },
      transport: target.transport,
    },
    heartbeat,
    prober,
    processes: () => {
      const process = launched?.supervisor.current()
      return process ? processView(process, 'server', undefined) : []
    },
    lastEnded: () => endedView(launched?.supervisor.lastEnded()),
    restarts: () => launched?.supervisor.restarts(),
    nextStartInMs: () => launched?.supervisor.nextStartInMs(),
    tryAgain: async () => launched?.supervisor.tryAgain('manual'),
    connections: () => pool.stats(),
    requestsInFlight: inFlight,
    ...steering(settings, {
      ...tunable,
      memory: launched?.memory,
      begin: () => (launched ? launched.supervisor.start() : heartbeat.start()),
      wake: () => launched?.supervisor.wake(),
      retry: () => void launched?.supervisor.tryAgain('config'),
      end: () => Promise.all([launched?.stop(), pool.close()]),
    }),
    isBeingReplaced: () => launched?.isBeingReplaced() ?? false,
    startNoMore: () => launched?.supervisor.startNoMore(),
    restart: () => (launched ? launched.restart() : 'mcp-vitals does not start it: it is a server behind a URL'),
  }
}

/** How the processes of an upstream are supervised now; a reload may change it. */
interface Supervised {
  supervision: Supervision
}

interface Steered extends TunableHeartbeat {
  /** Undefined where no process is ours. */
  readonly memory: MemoryWatch | undefined
  readonly begin: () => void
  /** What was left to rest may be wanted again. */
  readonly wake: () => void
  /** What waits for its next start waits no more. */
  readonly retry: () => void
  readonly end: () => Promise<unknown>
}

/** How an upstream of any kind is started, follows a reload and is stopped: who watches it stops before it does. */
function steering(
  settings: Supervised,
  { heartbeat, configure, sessionBeats, memory, begin, wake, retry, end }: Steered,
): Pick<LiveUpstream, 'start' | 'configure' | 'sessionEnded' | 'stop'> {
  return {
    start: () => {
      begin()
      memory?.follow()
      sessionBeats.start()
    },
    configure: (next) => {
      configure(next.heartbeat)
      const before = settings.supervision
      settings.supervision = next.supervision
      if (next.supervision.restart !== before.restart) wake()
      retry()
      memory?.follow()
    },
    sessionEnded: () => sessionBeats.sessionEnded(),
    stop: async () => {
      memory?.stop()
      sessionBeats.stop()
      await heartbeat.stop()
      await end()
    },
  }
}

/** What is told when the circuit breaker of an upstream changes its mind. */
function circuitEvents({ instruments, log, redact }: MonitorDeps, upstream: string): BreakerOptions['onChange'] {
  return (from, to, reason) => {
    if (to === 'open') instruments.countCircuitOpened(upstream)
    const fields = { upstream, from, circuit: to, reason: redact(reason) }
    if (to === 'open') log.warn(fields, 'requests to the upstream are refused for a while')
    else log.info(fields, 'circuit breaker')
  }
}

export const oneConnection =
  'it serves one connection at a time, and ours was in the way of a client: from now on it is only looked at whether its transport lives'
