import type { Server } from 'node:http'
import { hostname } from 'node:os'
import { poster } from '../alerts/delivery.ts'
import { Notifier } from '../alerts/notifier.ts'
import { Recoveries } from '../alerts/recoveries.ts'
import type { ReloadOutcome } from '../admin/app.ts'
import { type Clock, sleep, systemClock } from '../clock.ts'
import type { Config } from '../config/config.ts'
import type { Loaded } from '../config/load.ts'
import { defaults } from '../defaults.ts'
import { overload } from '../heartbeat/load.ts'
import { limitedOf } from '../heartbeat/monitored.ts'
import { questionFor } from '../heartbeat/question.ts'
import type { Logger } from '../log.ts'
import { dataApp, pathOf } from '../proxy/app.ts'
import { borrowedSessions } from '../proxy/borrowed-session.ts'
import { Bridge, type BridgeDeps } from '../proxy/bridge.ts'
import { CancellableRequests } from '../proxy/cancellable.ts'
import { ClientPeers } from '../proxy/client-peers.ts'
import { SseForwarder } from '../proxy/forward-sse.ts'
import { guard } from '../proxy/guard.ts'
import { ProtectedResources } from '../proxy/protected-resources.ts'
import { errorMessageFor } from '../proxy/replies.ts'
import { Shedder } from '../proxy/shed.ts'
import { Streams } from '../proxy/streams.ts'
import { strictServer } from '../proxy/strict-server.ts'
import { Sweep } from '../proxy/sweep.ts'
import { bareUrl } from '../redaction.ts'
import { SessionDirectory } from '../sessions/directory.ts'
import { heapRatio } from '../telemetry/own-load.ts'
import { findSetpriv } from '../upstreams/executable.ts'
import { processStarter } from '../upstreams/process.ts'
import { proxyFor } from '../upstreams/proxy-env.ts'
import { StartGate } from '../upstreams/start-gate.ts'
import { Strays } from '../upstreams/strays.ts'
import { Watchdog } from '../upstreams/watchdog.ts'
import { packageVersion } from '../version.ts'
import { trafficEvents } from './evidence.ts'
import { Fleet } from './fleet.ts'
import { close, listen, urlOf } from './listener.ts'
import { monitor } from './monitor.ts'
import { type ReloadCause, Reloader } from './reload.ts'
import { judged, notifierSettings, recover, recoverySettings } from './alerting.ts'
import { type StopReport, StopSteps } from './stop-steps.ts'
import { followingGuard, guardNames, vitalsParts } from './vitals-parts.ts'
import { WatchedFiles } from './watched-files.ts'

export interface ServeOptions {
  readonly config: Config
  /** Reads the configuration again, for a reload. Without it there is nothing to reload. */
  readonly load?: () => Loaded
  /** The files that it was read from: when one of them changes, it is loaded again. */
  readonly files?: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Logger
  readonly clock?: Clock
  /** Those of `defaults.ts` unless given. */
  readonly memoryLookMs?: number
  readonly inventoryAgeMs?: number
  /** How loaded we are, from 0 to 1, for shedding; by the event loop and the probes unless given. */
  readonly overload?: () => number
}

/** A running sidecar. */
export interface Running {
  readonly dataUrl: string
  readonly adminUrl: string
  /** Where clients reach each upstream. */
  readonly upstreamUrls: ReadonlyMap<string, string>
  /** Loads the configuration again; what became of it is in the log, too. */
  reload(cause: ReloadCause): Promise<ReloadOutcome>
  stop(): Promise<StopReport>
}

/**
 * Constructs everything and sets it going: the parts list of the program. What is started is stopped in reverse.
 * Throws a `KnownError` (`listen_failed`, `config_invalid`) when it cannot start; nothing is left running then.
 */
export async function serve(options: ServeOptions): Promise<Running> {
  const { config, env, log, clock = systemClock, files = [] } = options
  const version = packageVersion()
  const random = Math.random
  const stop = new StopSteps()

  const reloader = new Reloader({
    clock,
    log,
    config,
    load: options.load ?? (() => ({ config, notices: [], files, emptyFiles: [], saysNoServers: false })),
    apply: async (next, changes) => {
      log.level = next.log.level
      notifier.follow()
      directory.follow()
      await fleet.follow(next, changes)
      recoveries.follow()
    },
    onFiles: (found) => watched.watch(found),
  })
  const watched = new WatchedFiles({
    clock,
    everyMs: config.configCheckMs,
    onChange: () => void reloader.reload('file'),
  })
  const inFlight = new Map<string, number>()
  const parts = await vitalsParts({
    config: () => reloader.config(),
    reload: { reload: () => reloader.reload('request'), status: () => reloader.status() },
    clock,
    env,
    log,
    stop,
    upstreams: () => [...fleet.all().values()],
    sessions: () => directory.all(),
    streams: () => streams.gauges(),
    notifications: () => notifier.waiting(),
    shedsTraces: () => shedder.sheds('trace'),
  })
  const { tracing, instruments: instrumented, scheduler } = parts
  // The admin listener stays until nearly the end, so that the shutdown itself can be watched.
  let adminServer: Server | undefined
  stop.add('close the admin listener', () => adminServer && close(adminServer))
  // Connections outlive the upstreams: whoever still waits gets an error, and whoever comes a 503.
  let dataServer: Server | undefined
  stop.add('close the data listener', () => dataServer && close(dataServer))

  const shedder: Shedder = new Shedder({
    clock,
    fullness: () => ({ load: options.overload?.() ?? overload(parts.readLoad()), heap: heapRatio() }),
    onShed: (what) => instrumented.countShed(what),
    onLevel: (given, { load, heap }) => {
      const fields = { given_up: given, load_ratio: rounded(load), heap_ratio: rounded(heap) }
      if (given.length > 0) log.warn(fields, 'mcp-vitals is overloaded')
      else log.info(fields, 'mcp-vitals is overloaded no more')
    },
  })
  // A start keeps the event loop busy, and nothing is to be given up for that.
  const shedding = clock.after(defaults.shedding.startGraceMs, () => shedder.start())
  stop.add('stop looking at our own load', () => {
    shedding.cancel()
    shedder.stop()
  })
  const sweep = new Sweep(clock)
  stop.add('stop the sweep', () => sweep.stop())
  const streams = new Streams({
    clock,
    sweep,
    instruments: instrumented,
    keepAliveMs: () => reloader.config().streamKeepAliveMs,
  })

  const directory = new SessionDirectory({
    clock,
    maxTracked: defaults.maxTrackedSessions,
    cleanupIntervalMs: () => reloader.config().heartbeat.cleanupIntervalMs,
    idleLimitMs: (name) => reloader.upstream(name)?.heartbeat.sessionTimeoutMs ?? config.heartbeat.sessionTimeoutMs,
    maxAgeMs: (name) => reloader.upstream(name)?.maxSessionMs ?? Infinity,
    onForgotten: (what) => instrumented.countForgotten(what),
    onStart: (name) => instrumented.initSession(name),
    onEnd: (session, end, durationMs) => {
      instrumented.recordSession({
        upstream: session.upstream,
        networkTransport: 'tcp',
        protocolVersion: session.protocolVersion,
        ...(end === 'exited' && { errorType: 'upstream_exited' }),
        durationSeconds: durationMs / 1000,
      })
      bridge.sessionEnded(session, end)
      fleet.get(session.upstream)?.sessionEnded()
      log.info({ upstream: session.upstream, session: session.key, reason: end }, 'session ended')
    },
  })

  const traffic = trafficEvents((name) => {
    const upstream = fleet.get(name)
    if (!upstream) return undefined
    const { access, heartbeat } = upstream
    const isOneProcess = access.kind !== 'stdio' || !access.upstream.hasSessions()
    return { heartbeat, breaker: limitedOf(access)?.breaker, isOneProcess }
  })
  const observing = { clock, instruments: instrumented, tracing, traffic }
  const onRequest = (name: string, change: 1 | -1) => void inFlight.set(name, (inFlight.get(name) ?? 0) + change)
  const publicUrl = config.publicUrl
  const resources = publicUrl && new ProtectedResources({ publicUrl, clock })
  const ownsAuthorization = () => reloader.config().auth.bearerToken !== undefined
  const carrying: BridgeDeps = {
    ...observing,
    shedder,
    directory,
    sweep,
    streams,
    clientPeers: new ClientPeers(clock),
    cancellable: new CancellableRequests(() => instrumented.countForgotten('cancellation')),
    borrowedSessions: borrowedSessions({
      clock,
      isWanted: (name) => reloader.upstream(name)?.heartbeat.pingForwardedSessions ?? false,
    }),
    onRequest,
    injectsTraceparent: (name) => reloader.upstream(name)?.injectsTraceparent ?? false,
    publicPath: publicUrl?.pathname.replace(/\/$/, '') ?? '',
    // Looked up at each request: a reload may change them.
    get maxBodyBytes() {
      return reloader.config().maxBodyBytes
    },
    get ownsAuthorization() {
      return ownsAuthorization()
    },
    // With a token of our own, Authorization is ours, and clients cannot show a server another one.
    get protectedResources() {
      return ownsAuthorization() ? undefined : resources
    },
    lookForLife: (name, leftMs) => fleet.get(name)?.heartbeat.lookForLife(leftMs) ?? (() => false),
    questionTo: (name, leg) => {
      const upstream = fleet.get(name)
      if (!upstream) return undefined
      const { probe: mode, pausedUntilWallMs } = upstream.heartbeat.status()
      const isPaused = pausedUntilWallMs !== undefined
      return questionFor(leg, { mode, isPaused, ...upstream.prober.describe() })
    },
    cpuOf: (pid) => {
      const usage = parts.processTable.usageOf(pid)
      return usage && { seconds: usage.cpuSeconds, atMs: usage.atMs }
    },
    get sessionLimits() {
      const { maxSessions: total, maxSessionsPerClient: perClient } = reloader.config()
      const perUpstream = (name: string) => reloader.upstream(name)?.maxSessions ?? total
      return { total, perClient, perUpstream, upstreams: [...fleet.all().keys()] }
    },
  }
  const bridge = new Bridge(carrying)

  const strays = new Strays({
    clock,
    onFound: (pids) => log.info({ pids }, 'ending what a server left running outside of its process group'),
  })
  const watchdog = new Watchdog(strays.mark)
  stop.add('dismiss the watchdog', () => watchdog.close())
  const monitorDeps = {
    clock,
    random,
    instance: env['HOSTNAME'] ?? hostname(),
    env,
    log,
    redact: parts.redact,
    scheduler,
    startProcess: processStarter({ clock, setprivPath: findSetpriv(), watchdog, strays, redact: parts.redact }),
    starts: new StartGate(defaults.supervision.concurrentStarts, defaults.supervision.concurrentStartsOfOne),
    instruments: instrumented,
    tracing,
    directory,
    bridge,
    readings: parts.readings,
    ownLoad: parts.readLoad,
    onVerdict: parts.onVerdict,
    processTable: parts.processTable,
    standstills: parts.standstills,
    memoryLookMs: options.memoryLookMs ?? defaults.supervision.memoryLookMs,
    isExcused: parts.isExcused,
    inventoryAgeMs: options.inventoryAgeMs,
    requestsInFlight: (name: string) => inFlight.get(name) ?? 0,
  }
  const fleet = new Fleet(
    {
      create: (upstream) => monitor(monitorDeps, upstream),
      drained: (name) => drained(clock, () => inFlight.get(name) ?? 0),
      onLeaving: ({ name, access }) => {
        bridge.forget(name, access)
        directory.endAll(name, 'removed')
      },
      onReplaced: (upstream) => {
        if (upstream.restarts() !== undefined) instrumented.countRestart(upstream.name, 'config')
      },
    },
    config,
  )
  stop.add('stop the upstreams', () => fleet.stop())
  stop.add('stop the scheduler', () => scheduler.stop())
  stop.add('end the sessions', () => directory.stop())

  let adminUrl = ''
  const notifier = new Notifier({
    clock,
    random,
    settings: () => notifierSettings(reloader.config().alerts, adminUrl),
    situation: () => ({
      upstreams: [...fleet.all().values()].map(judged),
      silentTogether: parts.silentTogether(),
    }),
    open: (address) =>
      poster({
        clock,
        address,
        proxyFor: (url) => proxyFor(url, env),
        timeoutMs: defaults.notifications.timeoutMs,
        redact: parts.redact,
      }),
    redact: parts.redact,
    log,
    instruments: instrumented,
  })
  // While the upstreams still run: what their stop looks like is nobody's business.
  stop.add('send the last notifications', () => notifier.stop())

  let isReady = false
  let isStopping = false
  const app = dataApp({
    clock,
    guard: followingGuard(
      () => reloader.config(),
      (now) => guard({ ...dataNames(now), bearerToken: now.auth.bearerToken }),
    ),
    upstreams: () => fleet.all(),
    forwarding: carrying,
    sse: new SseForwarder(carrying),
    bridge,
    isStopping: () => isStopping,
    isLeaving: (name) => fleet.isLeaving(name),
  })
  const data = strictServer(app, {
    bodyOf: (error) => errorMessageFor(error, undefined),
    onRefused: ({ code }) => instrumented.countRejected(code),
  })
  const recoveries = new Recoveries({
    clock,
    log,
    settings: () => recoverySettings(reloader.config().alerts),
    upstreams: () => [...fleet.all().keys()],
    recover: (name, action) => {
      const upstream = fleet.get(name)
      const drainMs = reloader.config().alerts.receive?.drainMs ?? 0
      return upstream ? recover(upstream, action, drainMs) : 'it is there no more'
    },
    instruments: instrumented,
  })
  const admin = parts.admin({
    isReady: () => isReady && !isStopping,
    alerts: () => {
      const isWanted = reloader.config().alerts.receive !== undefined
      return isWanted ? (alerts, from) => recoveries.receive(alerts, from) : undefined
    },
  })

  try {
    adminServer = await listen(admin, config.adminListen, 'admin_listen')
    dataServer = await listen(data, config.listen, 'listen')
    const open = () => [...inFlight.values()].reduce((sum, count) => sum + count, 0)
    stop.add('let requests finish', () => drained(clock, open))
    stop.add('finish the reload', () => reloader.stop())
    stop.add('watch the configuration no longer', () => watched.stop())
    stop.add('refuse new requests', () => {
      isStopping = true
      fleet.startNoMore()
      streams.stop()
    })

    const { exportsTo } = tracing
    const dataUrl = urlOf(dataServer, config.listen)
    adminUrl = urlOf(adminServer, config.adminListen)
    directory.start()
    fleet.start()
    notifier.start()
    recoveries.follow()
    watched.watch(files)
    isReady = true
    const upstreamUrls = new Map(
      [...fleet.all().values()].map((upstream) => [upstream.name, dataUrl + pathOf(upstream)]),
    )
    log.info(
      { data_url: dataUrl, admin_url: adminUrl, version, traces: exportsTo === undefined ? null : bareUrl(exportsTo) },
      'listening',
    )
    for (const [upstream, url] of upstreamUrls) log.info({ upstream, url }, 'upstream')
    return {
      dataUrl,
      adminUrl,
      upstreamUrls,
      reload: (cause) => reloader.reload(cause),
      stop: () => stop.run(clock, defaults.shutdownDeadlineMs),
    }
  } catch (error) {
    await stop.run(clock, defaults.shutdownDeadlineMs)
    throw error
  }
}

function dataNames(config: Config) {
  const names = guardNames(config, config.listen)
  const { publicUrl } = config
  return publicUrl ? { ...names, allowedHosts: [...names.allowedHosts, publicUrl.hostname] } : names
}

function rounded(ratio: number): number {
  return Math.round(ratio * 100) / 100
}

const drainPollMs = 50

/** Waits until every request has its answer, at most `drainMs`; streams that only listen do not count. */
async function drained(clock: Clock, open: () => number): Promise<void> {
  const endsMs = clock.now() + defaults.shutdownDrainMs
  while (open() > 0 && clock.now() < endsMs) await sleep(clock, drainPollMs)
}
