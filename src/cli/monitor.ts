import type { Clock } from '../clock.ts'
import type { HeartbeatConfig, UpstreamConfig } from '../config/config.ts'
import { defaults } from '../defaults.ts'
import { isAnswered } from '../heartbeat/classify.ts'
import { HttpProber } from '../heartbeat/http-prober.ts'
import type { ReadingDiff } from '../heartbeat/interval.ts'
import type { OwnLoad } from '../heartbeat/load.ts'
import { LogPacer, heartbeatFields, levelOf } from '../heartbeat/log-line.ts'
import type {
  HeartbeatEvents,
  HeartbeatReport,
  HeartbeatSettings,
  OwnProcesses,
  WorkSigns,
} from '../heartbeat/contract.ts'
import { Heartbeat } from '../heartbeat/loop.ts'
import type { EndedView, ProcessView } from '../heartbeat/monitored.ts'
import type { ProbeMethod, Prober } from '../heartbeat/probe.ts'
import type { Scheduler } from '../heartbeat/scheduler.ts'
import type { SessionBeats } from '../heartbeat/session-beats.ts'
import { StdioProber } from '../heartbeat/stdio-prober.ts'
import { touch } from '../heartbeat/touch.ts'
import { type State, isUnavailable } from '../heartbeat/verdict.ts'
import type { Logger } from '../log.ts'
import type { Bridge } from '../proxy/bridge.ts'
import { sharedCapabilities } from '../proxy/shared-capabilities.ts'
import type { Redact } from '../redaction.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import { type Session, waitingIn } from '../sessions/session.ts'
import type { Instruments, UpstreamTraits } from '../telemetry/instruments.ts'
import { type UpstreamReading, diffReading, emptyReading } from '../telemetry/readings.ts'
import type { Tracing } from '../telemetry/tracing.ts'
import type { BreakerOptions } from '../upstreams/breaker.ts'
import { type Endpoint, type OpenPool, endpoint } from '../upstreams/endpoint.ts'
import type { MemoryWatch } from '../upstreams/memory-watch.ts'
import { limited } from '../upstreams/queue.ts'
import { patient } from '../upstreams/patient.ts'
import { proxyFor } from '../upstreams/proxy-env.ts'
import { type EndedProcess, type ServerProcess, type StartProcess, describeExit } from '../upstreams/process.ts'
import { delayOf } from '../upstreams/restart.ts'
import { StdioUpstream } from '../upstreams/stdio.ts'
import type { StartGate } from '../upstreams/start-gate.ts'
import { type Absence, Supervisor, crashLoopReason, restartRefusal } from '../upstreams/supervisor.ts'
import { yielding } from '../upstreams/yielding.ts'
import type { Command, StdioTarget, Supervision, Transport, UrlTarget } from '../upstreams/upstream.ts'
import type { LiveUpstream } from './fleet.ts'
import {
  type MemoryDeps,
  believedMs,
  launchedProcess,
  memoryWatch,
  remoteServer,
  stdioMemory,
  stdioProcesses,
} from './own-processes.ts'
import { observeInSession, sessionHeartbeats } from './session-heartbeats.ts'

/** What heartbeats and processes record. */
export interface HeartbeatInstruments extends Pick<
  Instruments,
  | 'initUpstream'
  | 'countCircuitOpened'
  | 'recordHeartbeat'
  | 'countStateChange'
  | 'countRestart'
  | 'countInventoryChange'
  | 'countDropped'
> {
  readonly labels: Pick<Instruments['labels'], 'admit'>
}

/** What all heartbeats share. */
export interface HeartbeatDeps {
  readonly clock: Clock
  readonly random: () => number
  readonly instance: string
  readonly log: Logger
  /** Hides secrets in the words of servers. */
  readonly redact: Redact
  readonly scheduler: Scheduler
  readonly instruments: HeartbeatInstruments
  readonly tracing: Pick<Tracing, 'heartbeat' | 'exemplarOf'>
  readonly directory: SessionDirectory
  readonly readings: () => Promise<ReadonlyMap<string, UpstreamReading>>
  readonly ownLoad: () => OwnLoad
  /** After how long the tools of a server that is not ours are read again; `defaults.heartbeat` unless given. */
  readonly inventoryAgeMs?: number | undefined
  /** Some verdict changed: what is concluded from several may change with it. */
  readonly onVerdict: () => void
}

/** What all upstreams share. */
export interface MonitorDeps extends HeartbeatDeps, MemoryDeps {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly startProcess: StartProcess
  /** How servers behind URLs are reached: with sockets unless given. */
  readonly openPool?: OpenPool
  readonly starts: StartGate
  /** How often our event loop stood still so far. */
  readonly standstills: () => number
  /** Hears what resident processes say to clients. */
  readonly bridge: Pick<Bridge, 'hear' | 'residentClosed'>
}

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
      onResidentClosed: (line, why) => bridge.residentClosed(name, line, why),
    },
  })
  const access = { kind: 'stdio', upstream, ...limited(clock, target, circuitEvents(deps, name)) } as const
  const prober: StdioProber = new StdioProber({
    upstream,
    clock,
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    discoverPatienceMs: defaults.supervision.discoverPatienceMs,
    idleSinceMs: () => clock.now() - heartbeat.status().interval.intervalMs * defaults.heartbeat.idleIntervals,
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
      const refusal = upstream.restart('alert')
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

interface LaunchedTarget extends UrlTarget {
  readonly name: string
  readonly endpoint: Endpoint
  readonly launch: Command
  readonly supervision: () => Supervision
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

const serverText = 'the server process'

/** The process that serves a URL, supervised like any other; its stdout says nothing to us. */
function launch(
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
        deps.directory.endAll(name, 'exited')
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
      void supervisor.restart('memory')
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
      void supervisor.restart('alert')
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

/** A heartbeat that can be told to follow another configuration while it runs. */
export interface TunableHeartbeat {
  readonly heartbeat: Heartbeat
  readonly configure: (config: HeartbeatConfig) => void
  /** What is to be asked, as configured now. */
  readonly probeMethod: () => ProbeMethod
  /** Heartbeats inside clients' sessions. */
  readonly sessionBeats: SessionBeats
}

export interface HeartbeatParts {
  /** Without it no process is ours. */
  readonly own?: OwnProcesses | undefined
  /** Of a server that is not ours. */
  readonly remote?: WorkSigns | undefined
  /** Why no process of ours runs and none is being started, where that is so. */
  readonly absence?: () => Absence | undefined
  /** Hears of its openings. */
  readonly onOpened?: () => void
  /** Hears of every answer to a probe of ours. */
  readonly onAnswered?: () => void
  /** What follows when the server has forgotten a session: it ends, unless this says otherwise. */
  readonly onSessionGone?: (session: Session) => void
}

/** The heartbeat of one upstream, with all that it tells metrics, traces and log. */
export function tunableHeartbeat(
  deps: HeartbeatDeps,
  { name, target, heartbeat: initial }: UpstreamConfig,
  prober: Prober,
  { own, remote, absence, onOpened, onAnswered, onSessionGone }: HeartbeatParts = {},
): TunableHeartbeat {
  const { clock, scheduler, random, instance, ownLoad, instruments, tracing, log, directory, redact } = deps
  const { transport } = target
  let config = initial
  const settingsOf = (of: HeartbeatConfig) => heartbeatSettings(of, deps.inventoryAgeMs)
  const report = reporter(deps, { name, transport, config: () => config }, prober, () => heartbeat)
  /** Measures one heartbeat; its transport is that of the end that was asked. */
  const measure = ({ result, startedAtWallMs }: HeartbeatReport, transport: Transport) => {
    const { leg, method, outcome, durationMs, reason } = result
    const place = tracing.heartbeat({
      upstream: name,
      transport,
      leg,
      method,
      outcome,
      startedAtWallMs,
      durationMs,
      slow: durationMs > config.performanceMonitoring.responseTimeThresholdMs,
      stateChanged: heartbeat.status().verdict.state !== 'healthy',
      reason,
    })
    const durationSeconds = durationMs / 1000
    const span = tracing.exemplarOf(place)
    instruments.recordHeartbeat({ upstream: name, transport, leg, method, outcome, durationSeconds, span })
    return place.traceId
  }
  const events: HeartbeatEvents = {
    onHeartbeat: (beat) => {
      const { leg, opening, outcome, session: key } = beat.result
      // Whoever asks for credentials is there: a launched server that does so has started.
      if (opening && (isAnswered(outcome) || outcome === 'unauthorized')) onOpened?.()
      if (leg === 'upstream' && isAnswered(outcome)) onAnswered?.()
      const session = beat.pace || key === undefined ? undefined : directory.withKey(name, key)
      if (session) observeInSession(session, beat.result, clock.now())
      return measure(beat, transport)
    },
    onReport: report,
    onVerdict: (from, to, traceId) => {
      instruments.countStateChange(name, from.state, to.state)
      deps.onVerdict()
      const fields = {
        upstream: name,
        transport,
        from: from.state,
        state: to.state,
        reason: to.reason,
        trace_id: traceId ?? null,
      }
      if (isUnavailable(to)) log.error(fields, 'upstream state changed')
      else if (to.state === 'suspect' || to.state === 'degraded') log.warn(fields, 'upstream state changed')
      else log.info(fields, 'upstream state changed')
    },
    onNewFailure: (cause, traceId) =>
      log.warn({ upstream: name, transport, cause, trace_id: traceId }, 'a new kind of failure'),
    onInventory: (inventory, changed) => {
      instruments.labels.admit(name, 'tool', [...inventory.keys()])
      if (!changed) return
      instruments.countInventoryChange(name)
      log.warn({ upstream: name, tools: inventory.size }, 'the tools of the server changed')
    },
  }
  const heartbeat: Heartbeat = new Heartbeat({
    upstream: name,
    transport,
    instance,
    prober,
    scheduler,
    clock,
    random,
    settings: settingsOf(config),
    readings: differences(deps, name),
    ownLoad,
    own,
    remote,
    absence,
    events,
    redact,
  })
  const sessionBeats = sessionHeartbeats({
    upstream: name,
    clock,
    scheduler,
    directory,
    config: () => config,
    heartbeat,
    prober,
    onGone: onSessionGone ?? ((session) => directory.end(session, 'unknown')),
    onClientBeat: (beat, session) => report(beat, measure(beat, session.transport)),
  })
  const configure = (next: HeartbeatConfig) => {
    config = next
    heartbeat.configure(settingsOf(next))
    sessionBeats.start()
  }
  return { heartbeat, configure, probeMethod: () => config.probeMethod, sessionBeats }
}

function heartbeatSettings(
  config: HeartbeatConfig,
  inventoryAgeMs: number = defaults.heartbeat.inventoryAgeMs,
): HeartbeatSettings {
  const { probe, intervalMs, missesToDown, minTimeoutMs, maxTimeoutMs, hang, adaptive, performanceMonitoring } = config
  const { lateAnswerMs, goodsToHealthy } = defaults.heartbeat
  return {
    probe,
    adaptive: adaptive.enabled,
    initialMs: intervalMs,
    minMs: adaptive.minIntervalMs,
    maxMs: adaptive.maxIntervalMs,
    errorBased: adaptive.errorBased,
    loadBased: adaptive.loadBased,
    thresholdsEnabled: performanceMonitoring.enabled,
    errorRateThresholdRatio: performanceMonitoring.errorRateThresholdRatio,
    responseTimeThresholdMs: performanceMonitoring.responseTimeThresholdMs,
    minTimeoutMs,
    maxTimeoutMs,
    lateAnswerMs,
    hang,
    missesToDown,
    goodsToHealthy,
    inventoryAgeMs,
    recentKept: defaults.heartbeat.recentKept,
    failuresKept: defaults.heartbeat.failuresKept,
  }
}

/** What the exported metrics gained since the last call: the controllers keep no statistics of their own. */
function differences({ clock, readings }: HeartbeatDeps, upstream: string): () => Promise<ReadingDiff> {
  let earlier: UpstreamReading | undefined
  let earlierMs = clock.now()
  return async () => {
    const later = (await readings()).get(upstream) ?? emptyReading([])
    const diff = diffReading(earlier, later)
    const elapsedMs = clock.now() - earlierMs
    earlier = later
    // What comes after a silence stands for all of it: else an old failure would weigh as much as if it were of just now.
    if (diff.heartbeats + diff.operations > 0) earlierMs = clock.now()
    return {
      heartbeats: diff.heartbeats + diff.operations,
      failures: diff.failures + diff.operationFailures,
      rttMeanMs: diff.rttCount === 0 ? undefined : (diff.rttSumSeconds / diff.rttCount) * 1000,
      elapsedMs,
    }
  }
}

/** Where an answered heartbeat is nothing to write home about. */
const calmStates: ReadonlySet<State> = new Set(['healthy', 'busy', 'idle', 'paused', 'disabled'])

/** Writes the heartbeat log line: every failure, slow answer and restless state, and routine successes now and then. */
function reporter(
  { clock, directory, log }: HeartbeatDeps,
  upstream: { readonly name: string; readonly transport: Transport; readonly config: () => HeartbeatConfig },
  prober: Prober,
  heartbeat: () => Heartbeat,
): (report: HeartbeatReport, traceId: string) => void {
  const { name, transport } = upstream
  const pacer = new LogPacer()
  return (report, traceId) => {
    const { result } = report
    const config = upstream.config()
    const status = heartbeat().status()
    const isSlow = result.durationMs > config.performanceMonitoring.responseTimeThresholdMs && !result.opening
    // A session that answers is no news because another one, or the server as a whole, is in trouble.
    const isCalm = report.pace !== undefined || calmStates.has(status.verdict.state)
    const isRoutine = result.outcome === 'ok' && !isSlow && isCalm
    const level = levelOf(result.outcome, isRoutine)
    if ((isRoutine && !config.logging.enhanced) || !log.isLevelEnabled(level)) return
    // Of a thousand idle sessions one line is enough.
    const target = report.pace ? `${result.leg}s` : (result.session ?? '')
    if (!pacer.isDue({ target, isRoutine, nowMs: clock.now(), intervalMs: config.logIntervalMs })) return
    const sessions = [...directory.of(name)]
    const session = sessions.find(({ key }) => key === result.session)
    const fields = heartbeatFields({
      upstream: name,
      transport: result.leg === 'client' ? (session?.transport ?? transport) : transport,
      protocolVersion: session?.protocolVersion ?? prober.describe().protocolVersion,
      report,
      status,
      totals: heartbeat().history.counts(),
      session,
      pendingMessages: sessions.reduce((sum, { pending }) => sum + pending, 0),
      nowMs: clock.now(),
      traceId,
      includeClient: config.logging.clientInfo,
      includePerformance: config.performanceMonitoring.enabled,
    })
    log[level](fields, 'heartbeat')
  }
}

function processView(process: ServerProcess, role: ProcessView['role'], session: string | undefined): ProcessView[] {
  const { pid, startedAtWallMs } = process
  return pid === undefined ? [] : [{ pid, role, session, startedAtWallMs, stderrTail: process.stderrTail() }]
}

function endedView(ended: EndedProcess | undefined): EndedView | undefined {
  if (!ended) return undefined
  const { process, exit, atWallMs } = ended
  return { pid: process.pid, endedAtWallMs: atWallMs, how: describeExit(exit), stderrTail: process.stderrTail() }
}

export const oneConnection =
  'it serves one connection at a time, and ours was in the way of a client: from now on it is only looked at whether its transport lives'

const restartedForAlert = 'it is restarted: an alert asks for it'

/** The line of stderr that most likely says why a process ended: its last error, else its last line. */
function lastLine(process: ServerProcess): string {
  const lines = process.stderrTail().trimEnd().split('\n')
  const error = lines.findLast((line) => /error|exception|fatal|panic|cannot|refused/i.test(line))
  return (error ?? lines.at(-1) ?? '').slice(0, 500)
}
