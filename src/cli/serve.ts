import { hostname } from 'node:os'
import type { Server } from 'node:http'
import { type Clock, sleep, systemClock } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { defaults } from '../defaults.ts'
import type { KnownError } from '../errors.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import type { Logger } from '../log.ts'
import { dataApp, pathOf } from '../proxy/app.ts'
import { Bridge } from '../proxy/bridge.ts'
import type { ForwardDeps } from '../proxy/forward.ts'
import { SseForwarder } from '../proxy/forward-sse.ts'
import { guard } from '../proxy/guard.ts'
import type { TrafficEvents } from '../proxy/observe.ts'
import { ProtectedResources } from '../proxy/protected-resources.ts'
import { Streams } from '../proxy/streams.ts'
import { Sweep } from '../proxy/sweep.ts'
import { SessionDirectory } from '../sessions/directory.ts'
import { findSetpriv } from '../upstreams/executable.ts'
import { processStarter } from '../upstreams/process.ts'
import { StartGate } from '../upstreams/supervisor.ts'
import { Watchdog } from '../upstreams/watchdog.ts'
import { packageVersion } from '../version.ts'
import { close, listen, urlOf } from './listener.ts'
import { monitor } from './monitor.ts'
import { type StopReport, StopSteps } from './stop-steps.ts'
import { guardNames, vitalsParts } from './vitals-parts.ts'

export interface ServeOptions {
  readonly config: Config
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Logger
  readonly clock?: Clock
}

/** A running sidecar. */
export interface Running {
  readonly dataUrl: string
  readonly adminUrl: string
  /** Where clients reach each upstream. */
  readonly upstreamUrls: ReadonlyMap<string, string>
  stop(): Promise<StopReport>
}

/**
 * Constructs everything and sets it going: the parts list of the program. What is started is stopped in reverse.
 * Throws a `KnownError` (`listen_failed`, `config_invalid`) when it cannot start; nothing is left running then.
 */
export async function serve({ config, env, log, clock = systemClock }: ServeOptions): Promise<Running> {
  const version = packageVersion()
  const random = Math.random
  const stop = new StopSteps()

  const upstreams = new Map<string, Monitored & { start(): void }>()
  const inFlight = new Map<string, number>()
  const parts = await vitalsParts({
    config,
    clock,
    env,
    log,
    stop,
    upstreams: () => [...upstreams.values()],
    sessions: () => directory.all(),
    streams: () => streams.gauges(),
  })
  const { tracing, instruments: instrumented, scheduler } = parts
  // The admin listener stays until nearly the end, so that the shutdown itself can be watched.
  let adminServer: Server | undefined
  stop.add('close the admin listener', () => adminServer && close(adminServer))
  // Connections outlive the upstreams: whoever still waits gets an error, and whoever comes a 503.
  let dataServer: Server | undefined
  stop.add('close the data listener', () => dataServer && close(dataServer))

  const sweep = new Sweep(clock)
  stop.add('stop the sweep', () => sweep.stop())
  const streams = new Streams({ clock, sweep, instruments: instrumented, keepAliveMs: config.streamKeepAliveMs })

  const directory = new SessionDirectory({
    clock,
    maxTracked: defaults.maxTrackedSessions,
    cleanupIntervalMs: config.heartbeat.cleanupIntervalMs,
    idleLimitMs: (name) => byName.get(name)?.heartbeat.sessionTimeoutMs ?? config.heartbeat.sessionTimeoutMs,
    maxAgeMs: (name) => byName.get(name)?.maxSessionMs ?? Infinity,
    onEnd: (session, end, durationMs) => {
      instrumented.recordSession({
        upstream: session.upstream,
        networkTransport: 'tcp',
        protocolVersion: session.protocolVersion,
        ...(end === 'exited' && { errorType: 'upstream_exited' }),
        durationSeconds: durationMs / 1000,
      })
      bridge.sessionEnded(session, end)
      log.info({ upstream: session.upstream, session: session.key, reason: end }, 'session ended')
    },
  })
  const byName = new Map(config.upstreams.map((upstream) => [upstream.name, upstream]))

  const traffic: TrafficEvents = {
    onAnswered: (name) => {
      const upstream = upstreams.get(name)
      const isOneProcess = upstream?.access.kind !== 'stdio' || upstream.access.upstream.sessionLines().length === 0
      upstream?.heartbeat.trafficAnswered(isOneProcess)
    },
    onFailed: (name, error) => {
      const kind = trafficEvidence(error)
      if (kind) upstreams.get(name)?.heartbeat.trafficFailed(kind, error.message)
    },
  }
  const observing = { clock, instruments: instrumented, tracing, traffic }
  const onRequest = (name: string, change: 1 | -1) => void inFlight.set(name, (inFlight.get(name) ?? 0) + change)
  const { maxBodyBytes, maxSessions, maxSessionsPerClient } = config
  const ownsAuthorization = config.auth.bearerToken !== undefined
  // With a token of our own, Authorization is ours, and clients cannot show a server another one.
  const publicUrl = ownsAuthorization ? undefined : config.publicUrl
  const forwarding: ForwardDeps = {
    ...observing,
    protectedResources: publicUrl && new ProtectedResources({ publicUrl, clock }),
    directory,
    sweep,
    streams,
    maxBodyBytes,
    ownsAuthorization,
    onRequest,
  }
  const sessionLimits = {
    total: maxSessions,
    perClient: maxSessionsPerClient,
    perUpstream: (name: string) => byName.get(name)?.maxSessions ?? maxSessions,
  }
  const bridge = new Bridge({ ...forwarding, sessionLimits })

  const watchdog = new Watchdog()
  stop.add('dismiss the watchdog', () => watchdog.close())
  const monitorDeps = {
    clock,
    random,
    instance: env['HOSTNAME'] ?? hostname(),
    env,
    log,
    scheduler,
    startProcess: processStarter({ clock, setprivPath: findSetpriv(), watchdog }),
    starts: new StartGate(defaults.supervision.concurrentStarts),
    instruments: instrumented,
    tracing,
    directory,
    bridge,
    readings: parts.readings,
    ownLoad: parts.readLoad,
    requestsInFlight: (name: string) => inFlight.get(name) ?? 0,
  }
  for (const upstream of config.upstreams.filter(({ disabled }) => !disabled)) {
    upstreams.set(upstream.name, monitor(monitorDeps, upstream))
  }
  stop.add('stop the upstreams', async () => {
    await Promise.all([...upstreams.values()].map((upstream) => upstream.stop()))
  })
  stop.add('stop the scheduler', () => scheduler.stop())
  stop.add('end the sessions', () => directory.stop())

  let isReady = false
  let isStopping = false
  const data = dataApp({
    clock,
    guard: guard({ ...dataNames(config), bearerToken: config.auth.bearerToken }),
    upstreams: () => upstreams,
    forwarding,
    sse: new SseForwarder(forwarding),
    bridge,
    isStopping: () => isStopping,
  })
  const admin = parts.admin({ isReady: () => isReady && !isStopping })

  try {
    adminServer = await listen(admin, config.adminListen, 'admin_listen')
    dataServer = await listen(data, config.listen, 'listen')
    stop.add('let requests finish', () => drained(clock, inFlight))
    stop.add('refuse new requests', () => {
      isStopping = true
      streams.stop()
    })

    const dataUrl = urlOf(dataServer, config.listen)
    const adminUrl = urlOf(adminServer, config.adminListen)
    directory.start()
    for (const upstream of upstreams.values()) upstream.start()
    isReady = true
    const upstreamUrls = new Map([...upstreams.values()].map((upstream) => [upstream.name, dataUrl + pathOf(upstream)]))
    log.info({ data_url: dataUrl, admin_url: adminUrl, version, traces: tracing.exportsTo ?? null }, 'listening')
    for (const [upstream, url] of upstreamUrls) log.info({ upstream, url }, 'upstream')
    return { dataUrl, adminUrl, upstreamUrls, stop: () => stop.run(clock, defaults.shutdownDeadlineMs) }
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

/** What a failed request proves about the upstream; a process's end is heard from the process itself. */
function trafficEvidence({ code }: KnownError): 'missed' | 'gone' | undefined {
  if (code === 'upstream_refused') return 'gone'
  const missed = ['upstream_reset', 'upstream_closed', 'upstream_http_error', 'upstream_invalid', 'upstream_timeout']
  return missed.includes(code) ? 'missed' : undefined
}

const drainPollMs = 50

/** Waits until every request has its answer, at most `drainMs`; streams that only listen do not count. */
async function drained(clock: Clock, inFlight: ReadonlyMap<string, number>): Promise<void> {
  const endsMs = clock.now() + defaults.shutdownDrainMs
  const open = () => [...inFlight.values()].reduce((sum, count) => sum + count, 0)
  while (open() > 0 && clock.now() < endsMs) await sleep(clock, drainPollMs)
}
