import { hostname } from 'node:os'
import type { Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { adminApp } from '../admin/app.ts'
import { debugReport } from '../admin/debug.ts'
import { type Clock, sleep, systemClock } from '../clock.ts'
import type { Address } from '../config/address.ts'
import { formatAddress } from '../config/address.ts'
import type { Config } from '../config/config.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { ownLoad } from '../heartbeat/load.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import { Scheduler } from '../heartbeat/scheduler.ts'
import { isUp, states } from '../heartbeat/verdict.ts'
import type { Logger } from '../log.ts'
import { dataApp, pathOf } from '../proxy/app.ts'
import { Bridge } from '../proxy/bridge.ts'
import type { ForwardDeps } from '../proxy/forward.ts'
import { SseForwarder } from '../proxy/forward-sse.ts'
import { guard } from '../proxy/guard.ts'
import type { TrafficEvents } from '../proxy/observe.ts'
import { SessionDirectory } from '../sessions/directory.ts'
import { ExemplarReservoir } from '../telemetry/exemplars.ts'
import { exposition } from '../telemetry/exposition.ts'
import { type SessionGauges, type UpstreamGauges, instruments } from '../telemetry/instruments.ts'
import { LoopMeter } from '../telemetry/own-load.ts'
import { SnapshotCache, type UpstreamReading, readUpstreams } from '../telemetry/readings.ts'
import { SnapshotReader, meterProvider } from '../telemetry/reader.ts'
import { telemetryResource } from '../telemetry/resource.ts'
import { runtimeMetrics } from '../telemetry/runtime.ts'
import { tracing as startTracing } from '../telemetry/tracing.ts'
import { findSetpriv } from '../upstreams/executable.ts'
import { processStarter } from '../upstreams/process.ts'
import { StartGate } from '../upstreams/supervisor.ts'
import { Watchdog } from '../upstreams/watchdog.ts'
import { packageVersion } from '../version.ts'
import { monitor } from './monitor.ts'
import { type StopReport, StopSteps } from './stop-steps.ts'

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

  const tracing = await startTracing({
    env,
    serviceVersion: version,
    onExportError: (error) => log.warn({ reason: error.message }, 'spans could not be sent'),
  })
  stop.add('send the last spans', () => tracing.shutdown())
  // The admin listener stays until nearly the end, so that the shutdown itself can be watched.
  let adminServer: Server | undefined
  stop.add('close the admin listener', () => adminServer && close(adminServer))

  const upstreams = new Map<string, Monitored & { start(): void }>()
  const inFlight = new Map<string, number>()
  const loadedAtSeconds = clock.wallTime() / 1000
  const loopMeter = new LoopMeter(clock)
  stop.add('stop the loop meter', () => loopMeter.stop())
  const readLoad = () => {
    const { delayP99Ms, utilisation } = loopMeter.read()
    return { loopDelayP99Ms: delayP99Ms, loopUtilisation: utilisation, probeBacklog: scheduler.backlog() }
  }

  const reader = new SnapshotReader({
    onError: (error) => log.error({ reason: errorMessage(error) }, 'a gauge could not be read'),
  })
  const exemplars = new ExemplarReservoir(clock)
  const provider = meterProvider({ reader, resource: telemetryResource(env, version) })
  const instrumented = instruments({
    meterProvider: provider,
    exemplars,
    version,
    maxLabelsPerUpstream: defaults.maxLabelsPerUpstream,
    sources: {
      states,
      upstreams: () => [...upstreams.values()].map((upstream) => upstreamGauges(upstream)),
      sessions: () => [...upstreams.values()].map((upstream) => sessionGauges(upstream, directory)),
      configReload: () => ({ successful: true, lastSuccessTimestampSeconds: loadedAtSeconds }),
      loadRatio: () => ownLoad(readLoad()),
    },
  })
  const runtime = runtimeMetrics()
  stop.add('stop the runtime metrics', () => runtime.stop())
  const snapshots = new SnapshotCache(clock, reader)
  const readings = sharedReadings(snapshots)

  const directory = new SessionDirectory({
    clock,
    maxTracked: defaults.maxTrackedSessions,
    cleanupIntervalMs: config.heartbeat.cleanupIntervalMs,
    idleLimitMs: (name) => sessionTimeouts.get(name) ?? config.heartbeat.sessionTimeoutMs,
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
  const sessionTimeouts = new Map(config.upstreams.map(({ name, heartbeat }) => [name, heartbeat.sessionTimeoutMs]))

  const traffic: TrafficEvents = {
    onAnswered: (name) => {
      const upstream = upstreams.get(name)
      const isOneProcess = upstream?.access.kind === 'endpoint' || upstream?.access.upstream.sessionLines().length === 0
      upstream?.heartbeat.trafficAnswered(isOneProcess)
    },
    onFailed: (name, error) => {
      const kind = trafficEvidence(error)
      if (kind) upstreams.get(name)?.heartbeat.trafficFailed(kind, error.message)
    },
  }
  const observing = { clock, instruments: instrumented, tracing, traffic }
  const onRequest = (name: string, change: 1 | -1) => void inFlight.set(name, (inFlight.get(name) ?? 0) + change)
  const { maxBodyBytes, maxSessions } = config
  const bridge = new Bridge({ ...observing, directory, maxBodyBytes, maxSessions, onRequest })
  const ownsAuthorization = config.auth.bearerToken !== undefined
  const forwarding: ForwardDeps = { ...observing, directory, maxBodyBytes, ownsAuthorization, onRequest }

  const watchdog = new Watchdog()
  stop.add('dismiss the watchdog', () => watchdog.close())
  const scheduler = new Scheduler({
    clock,
    perSecond: defaults.heartbeat.probesPerSecond,
    inFlight: defaults.heartbeat.probesInFlight,
    onError: (name, error) => log.error({ upstream: name, err: error }, 'a heartbeat failed in an unforeseen way'),
  })
  const monitorDeps = {
    clock,
    random,
    instance: env['HOSTNAME'] ?? hostname(),
    log,
    scheduler,
    startProcess: processStarter({ clock, setprivPath: findSetpriv(), watchdog }),
    starts: new StartGate(defaults.supervision.concurrentStarts),
    instruments: instrumented,
    tracing,
    directory,
    bridge,
    readings,
    ownLoad: readLoad,
    maxBodyBytes,
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
    guard: guard({ ...guardNames(config, config.listen), bearerToken: config.auth.bearerToken }),
    upstreams: () => upstreams,
    forwarding,
    sse: new SseForwarder(forwarding),
    bridge,
    isStopping: () => isStopping,
  })
  const adminNames = guardNames(config, config.adminListen)
  const admin = adminApp({
    version,
    guards: { open: guard(adminNames), closed: guard({ ...adminNames, bearerToken: config.adminAuth.bearerToken }) },
    exposition: exposition({ mode: config.exposition, snapshot: () => reader.snapshot(), runtime, exemplars }),
    upstreams: () => [...upstreams.values()],
    report: async () =>
      debugReport({
        upstreams: [...upstreams.values()],
        sessions: [...directory.all()],
        metrics: await reader.snapshot(),
        nowMs: clock.now(),
        wallMs: clock.wallTime(),
        config: {
          heartbeat_interval: config.heartbeat.intervalMs / 1000,
          adaptive_enabled: config.heartbeat.adaptive.enabled,
          performance_monitoring: config.heartbeat.performanceMonitoring.enabled,
        },
      }),
    isReady: () => isReady && !isStopping,
    onRejected: (error) => instrumented.countRejected(error.code),
  })

  try {
    adminServer = await listen(admin.fetch, config.adminListen, 'admin_listen')
    const dataServer = await listen(data.fetch, config.listen, 'listen')
    stop.add('close the data listener', () => close(dataServer))
    stop.add('let requests finish', () => drained(clock, inFlight, dataServer))
    stop.add('refuse new requests', () => void (isStopping = true))

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

/** The figures of all upstreams, read once out of each snapshot however many controllers ask. */
function sharedReadings(snapshots: SnapshotCache): () => Promise<ReadonlyMap<string, UpstreamReading>> {
  const read = new WeakMap<ResourceMetrics, ReadonlyMap<string, UpstreamReading>>()
  return async () => {
    const snapshot = await snapshots.current()
    const known = read.get(snapshot) ?? readUpstreams(snapshot)
    read.set(snapshot, known)
    return known
  }
}

function upstreamGauges(upstream: Monitored): UpstreamGauges {
  const { verdict, interval, timeoutMs, lastSuccessWallMs, inventory, unavailableSeconds } = upstream.heartbeat.status()
  const up = isUp(verdict.state)
  return {
    upstream: upstream.name,
    transport: upstream.transport,
    state: verdict.state,
    up: up === undefined ? undefined : up ? 1 : 0,
    intervalSeconds: interval.intervalMs / 1000,
    timeoutSeconds: timeoutMs / 1000,
    lastSuccessTimestampSeconds: lastSuccessWallMs === undefined ? undefined : lastSuccessWallMs / 1000,
    unavailableSeconds,
    processes: upstream.restarts() === undefined ? undefined : upstream.processes().length,
    connections: upstream.connections(),
    requestsInFlight: upstream.requestsInFlight(),
    tools: inventory?.size,
  }
}

function sessionGauges({ name, transport }: Monitored, directory: SessionDirectory): SessionGauges {
  const sessions = [...directory.all()].filter(({ upstream }) => upstream === name)
  const messagesPending = sessions.reduce((sum, { pending }) => sum + pending, 0)
  // The client's transport: a stdio server is reached by Streamable HTTP.
  return { upstream: name, transport: transport === 'sse' ? 'sse' : 'http', active: sessions.length, messagesPending }
}

/** What a failed request proves about the upstream; a process's end is heard from the process itself. */
function trafficEvidence({ code }: KnownError): 'missed' | 'gone' | undefined {
  if (code === 'upstream_refused') return 'gone'
  const missed = ['upstream_reset', 'upstream_closed', 'upstream_http_error', 'upstream_invalid', 'upstream_timeout']
  return missed.includes(code) ? 'missed' : undefined
}

function guardNames({ allowedHosts, allowedOrigins }: Config, { host }: Address) {
  return { allowedHosts: [...allowedHosts, host], allowedOrigins }
}

function listen(
  fetch: Parameters<typeof createAdaptorServer>[0]['fetch'],
  address: Address,
  key: 'listen' | 'admin_listen',
): Promise<Server> {
  // Bodies that a handler leaves unread are its own business: draining them would keep a refused upload alive.
  const server = createAdaptorServer({ fetch, autoCleanupIncoming: false }) as Server
  server.requestTimeout = 0
  server.keepAliveTimeout = 65_000
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(new KnownError('listen_failed', `${key} ${formatAddress(address)}: ${error.message}`, { cause: error }))
    })
    server.listen(address.port, address.host === '' ? undefined : address.host, () => resolve(server))
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

const drainPollMs = 50

/** Waits until every request has its answer, at most `drainMs`; streams that only listen do not count. */
async function drained(clock: Clock, inFlight: ReadonlyMap<string, number>, server: Server): Promise<void> {
  server.close()
  const endsMs = clock.now() + defaults.shutdownDrainMs
  const open = () => [...inFlight.values()].reduce((sum, count) => sum + count, 0)
  while (open() > 0 && clock.now() < endsMs) await sleep(clock, drainPollMs)
}

function urlOf(server: Server, { host }: Address): string {
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0
  const name =
    host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return `http://${name}:${port}`
}
