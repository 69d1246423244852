import type { Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { type AdminOptions, type ReloadOutcome, adminApp, refusalBody } from '../admin/app.ts'
import { type DebugReport, debugReport, issuesOf } from '../admin/debug.ts'
import type { Clock } from '../clock.ts'
import type { Address } from '../config/address.ts'
import type { Config } from '../config/config.ts'
import { secretValues } from '../config/secret-values.ts'
import { defaults } from '../defaults.ts'
import { type KnownError, errorMessage } from '../errors.ts'
import { SilenceWatch, isExcused } from '../heartbeat/correlation.ts'
import { type OwnLoad, ownLoad } from '../heartbeat/load.ts'
import { type Monitored, limitedOf, silencesOf } from '../heartbeat/monitored.ts'
import { Scheduler } from '../heartbeat/scheduler.ts'
import { isUp, states } from '../heartbeat/verdict.ts'
import type { Logger } from '../log.ts'
import { type Guard, guard } from '../proxy/guard.ts'
import { strictServer } from '../proxy/strict-server.ts'
import { type Redact, bareUrl, redaction } from '../redaction.ts'
import type { Session } from '../sessions/session.ts'
import { ExemplarReservoir } from '../telemetry/exemplars.ts'
import { exposition } from '../telemetry/exposition.ts'
import type { GaugeSources, SessionGauges, UpstreamGauges } from '../telemetry/gauges.ts'
import { type Instruments, instruments } from '../telemetry/instruments.ts'
import { MetricsPush, metricsExporter } from '../telemetry/metrics-push.ts'
import { LoopMeter } from '../telemetry/own-load.ts'
import { pushSettings } from '../telemetry/push-settings.ts'
import { metering } from '../telemetry/reader.ts'
import { ReadingsCache, type UpstreamReading } from '../telemetry/readings.ts'
import { telemetryResource } from '../telemetry/resource.ts'
import { runtimeMetrics } from '../telemetry/runtime.ts'
import { type Tracing, tracing as startTracing } from '../telemetry/tracing.ts'
import { ProcessTable } from '../upstreams/process-table.ts'
import { Standstills } from '../upstreams/standstills.ts'
import { UsageMeter, type UpstreamUsage } from '../upstreams/usage-meter.ts'
import { packageVersion } from '../version.ts'
import type { ReloadStatus } from './reload.ts'
import type { StopSteps } from './stop-steps.ts'

/** How the configuration is loaded again, and what came of the last attempt. */
export interface Reloading {
  readonly reload: () => Promise<ReloadOutcome>
  readonly status: () => ReloadStatus
}

export interface VitalsOptions {
  /** The configuration in force. */
  readonly config: () => Config
  /** Undefined where nothing can be reloaded. */
  readonly reload: Reloading | undefined
  readonly clock: Clock
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Logger
  readonly stop: StopSteps
  readonly upstreams: () => readonly Monitored[]
  readonly sessions: () => Iterable<Session>
  readonly streams: GaugeSources['streams']
  readonly notifications?: GaugeSources['notifications']
  /** Whether a span is given up now, because we are overloaded. */
  readonly shedsTraces?: () => boolean
}

/** What every way to run us has: it measures, decides when to probe, and shows it all. */
export interface VitalsParts {
  /** Hides the secrets of the configuration in the words of servers. */
  readonly redact: Redact
  readonly tracing: Tracing
  readonly instruments: Instruments
  readonly scheduler: Scheduler
  /** The figures of all upstreams, as the controllers read them. */
  readonly readings: () => Promise<ReadonlyMap<string, UpstreamReading>>
  readonly readLoad: () => OwnLoad
  readonly processTable: ProcessTable
  /** How often our event loop stood still so far. */
  readonly standstills: () => number
  /** Hears that some upstream's verdict changed. */
  readonly onVerdict: () => void
  /** The upstreams that fell silent together, more than half of all. */
  readonly silentTogether: () => readonly string[]
  /** Whether this one did, and so lately that it is left alone. */
  readonly isExcused: (upstream: string) => boolean
  /** The admin listener's application. */
  readonly admin: (options: Pick<AdminOptions, 'isReady' | 'alerts'>) => Server
}

/** Constructs telemetry, scheduler and admin pages; what has to be stopped is added to `stop`. */
export async function vitalsParts(options: VitalsOptions): Promise<VitalsParts> {
  const { config, reload, clock, env, log, stop, upstreams, sessions, streams, notifications } = options
  const version = packageVersion()
  const redact = followingRedaction(config, env)
  const tracing = await startTracing({
    env,
    serviceVersion: version,
    redact,
    ...(options.shedsTraces && { sheds: options.shedsTraces }),
    onExportError: (error) => log.warn({ reason: redact(error.message) }, 'spans could not be sent'),
    onDropped: (reason, spans) => instrumented.countDroppedSpans(reason, spans),
  })
  stop.add('send the last spans', () => tracing.shutdown())

  const scheduler = new Scheduler({
    clock,
    perSecond: defaults.heartbeat.probesPerSecond,
    inFlight: defaults.heartbeat.probesInFlight,
    slotMs: defaults.heartbeat.probeSlotMs,
    onError: (name, error) => log.error({ upstream: name, err: error }, 'a heartbeat failed in an unforeseen way'),
  })
  const loopMeter = new LoopMeter(clock)
  stop.add('stop the loop meter', () => loopMeter.stop())
  const readLoad = () => {
    const { delayP99Ms, utilisation } = loopMeter.read()
    return { loopDelayP99Ms: delayP99Ms, loopUtilisation: utilisation, probeBacklog: scheduler.backlog() }
  }

  const standstills = new Standstills(clock)
  stop.add('stop looking for standstills', () => standstills.stop())

  const silences = () => silencesOf(upstreams())
  const silence = new SilenceWatch({
    silences,
    onChange: (together) => {
      const what = `${together.length} of ${silences().length} servers that are asked fell silent together`
      if (together.length === 0) log.warn('servers are silent together no more')
      else log.error({ upstreams: together }, `${what}: the fault is ours or the network's`)
    },
  })
  const processTable = new ProcessTable({ clock })
  const usageOf = usages(processTable)
  const loadedAtMs = clock.wallTime()
  const { meters, ...metrics } = metering({
    resource: telemetryResource(env, version),
    version,
    onError: (error) => log.error({ reason: errorMessage(error) }, 'a gauge could not be read'),
  })
  const pushing = pushSettings(env)
  if (pushing) {
    const { url, intervalMs } = pushing
    const push = new MetricsPush({
      clock,
      intervalMs,
      snapshot: metrics.snapshot,
      exporter: await metricsExporter(pushing),
      onError: (error) => log.warn({ reason: redact(error.message) }, 'metrics could not be pushed'),
    })
    stop.add('push the last metrics', () => push.stop())
    log.info({ url: bareUrl(url), every_seconds: intervalMs / 1000 }, 'metrics are pushed')
  }
  const exemplars = new ExemplarReservoir(clock)
  const instrumented = instruments({
    meters,
    exemplars,
    version,
    maxLabelsPerUpstream: defaults.maxLabelsPerUpstream,
    sources: {
      states,
      upstreams: () => {
        const together = new Set(silence.look())
        return upstreams().map((upstream) => ({
          ...upstreamGauges(upstream),
          isSilentTogether: together.has(upstream.name),
          usage: usageOf(upstream),
        }))
      },
      sessions: () => {
        const all = [...sessions()]
        const hasIssues = issuesOf(upstreams())
        return upstreams().flatMap((upstream) => sessionGauges(upstream, all, hasIssues))
      },
      streams,
      ...(notifications && { notifications }),
      configReload: () => {
        const { successful, lastSuccessWallMs } = reload?.status() ?? {
          successful: true,
          lastSuccessWallMs: loadedAtMs,
        }
        return { successful, lastSuccessTimestampSeconds: lastSuccessWallMs / 1000 }
      },
      isFailureCorrelated: () => silence.look().length > 0,
      loadRatio: () => ownLoad(readLoad()),
    },
  })
  const runtime = runtimeMetrics(clock)
  stop.add('stop the runtime metrics', () => runtime.stop())

  const adminGuard = (hasToken: boolean) =>
    followingGuard(config, (now) =>
      guard({
        ...guardNames(now, now.adminListen),
        ...(hasToken && { bearerToken: now.adminAuth.bearerToken }),
      }),
    )
  const alertsGuard = followingGuard(config, (now) => {
    const bearerToken = now.alerts.receive?.bearerToken ?? now.adminAuth.bearerToken
    return guard({ ...guardNames(now, now.adminListen), bearerToken })
  })
  const onRejected = ({ code }: KnownError) => instrumented.countRejected(code)
  const admin: VitalsParts['admin'] = ({ isReady, alerts }) => {
    const app = adminApp({
      clock,
      version,
      guards: { open: adminGuard(false), closed: adminGuard(true), alerts: alertsGuard },
      exposition: exposition({ mode: config().exposition, snapshot: metrics.snapshot, runtime, exemplars }),
      upstreams,
      report: async () =>
        debugReport({
          upstreams: upstreams(),
          sessions: [...sessions()],
          metrics: await metrics.snapshot(),
          nowMs: clock.now(),
          wallMs: clock.wallTime(),
          silentTogether: silence.look(),
          processTable,
          config: debugConfig(config(), reload?.status()),
        }),
      isReady,
      alerts,
      reload: reload?.reload,
      onRejected,
    })
    // Bodies that a handler leaves unread are its own business: draining them would keep a refused upload alive.
    const handle = getRequestListener(app.fetch, { autoCleanupIncoming: false })
    return strictServer((incoming, outgoing) => void handle(incoming, outgoing), {
      bodyOf: refusalBody,
      onRefused: onRejected,
    })
  }
  const readings = new ReadingsCache(clock, metrics.readings)
  const onVerdict = () => void silence.look()
  return {
    redact,
    tracing,
    instruments: instrumented,
    scheduler,
    readings: () => readings.current(),
    readLoad,
    processTable,
    standstills: () => standstills.count(),
    onVerdict,
    silentTogether: () => silence.look(),
    isExcused: (upstream) => isExcused(upstream, silences(), clock.now()),
    admin,
  }
}

/** A guard that follows the configuration: made anew when that is another one. */
export function followingGuard(config: () => Config, make: (config: Config) => Guard): Guard {
  let followed = config()
  let made = make(followed)
  return (headers) => {
    if (config() !== followed) {
      followed = config()
      made = make(followed)
    }
    return made(headers)
  }
}

/** Hides the secrets of the configuration in force, and of the one before: what it started may still be ending. */
function followingRedaction(config: () => Config, env: VitalsOptions['env']): Redact {
  let followed = config()
  let values = secretValues(followed, env)
  let redact = redaction(values)
  return (text) => {
    if (config() !== followed) {
      followed = config()
      const before = values
      values = secretValues(followed, env)
      redact = redaction([...before, ...values])
    }
    return redact(text)
  }
}

function debugConfig({ heartbeat }: Config, reload: ReloadStatus | undefined): DebugReport['config'] {
  return {
    heartbeat_interval: heartbeat.intervalMs / 1000,
    adaptive_enabled: heartbeat.adaptive.enabled,
    performance_monitoring: heartbeat.performanceMonitoring.enabled,
    last_reload: reload
      ? {
          successful: reload.successful,
          last_success: new Date(reload.lastSuccessWallMs).toISOString(),
          problem: reload.problem ?? null,
        }
      : null,
  }
}

/** Who a listener there lets in by name. */
export function guardNames({ allowedHosts, allowedOrigins }: Config, { host }: Address) {
  return { allowedHosts: [...allowedHosts, host], allowedOrigins }
}

/** What the processes of an upstream use, added up for as long as there is that upstream. */
function usages(table: ProcessTable): (upstream: Monitored) => UpstreamUsage | undefined {
  const meters = new WeakMap<Monitored, UsageMeter>()
  return (upstream) => {
    const meter = meters.get(upstream) ?? new UsageMeter(table)
    meters.set(upstream, meter)
    return meter.read(upstream.processes().map(({ pid }) => pid))
  }
}

function upstreamGauges(upstream: Monitored): Omit<UpstreamGauges, 'isSilentTogether'> {
  const status = upstream.heartbeat.status()
  const { verdict, interval, timeoutMs, lastSuccessWallMs, inventory, unavailableSeconds, flapPenalty } = status
  const up = isUp(verdict.state)
  return {
    upstream: upstream.name,
    transport: upstream.transport,
    state: verdict.state,
    up: up === undefined ? undefined : up ? 1 : 0,
    rung: status.rung,
    intervalSeconds: status.unasked === undefined ? interval.intervalMs / 1000 : undefined,
    timeoutSeconds: timeoutMs / 1000,
    lastSuccessTimestampSeconds: lastSuccessWallMs === undefined ? undefined : lastSuccessWallMs / 1000,
    unavailableSeconds,
    flapPenalty,
    processes: upstream.restarts() === undefined ? undefined : upstream.processes().length,
    connections: upstream.connections(),
    requestsInFlight: upstream.requestsInFlight(),
    queueLength: limitedOf(upstream.access)?.queue.length,
    tools: inventory?.size,
    circuit: limitedOf(upstream.access)?.breaker.view().state,
  }
}

/** By the client's transport: a server whose client did not start it is reached by both. */
function sessionGauges(
  { name, access }: Monitored,
  all: readonly Session[],
  hasIssues: (session: Session) => boolean,
): SessionGauges[] {
  const transports = access.kind === 'pipe' ? (['stdio'] as const) : (['http', 'sse'] as const)
  return transports.map((transport) => {
    const sessions = all.filter((session) => session.upstream === name && session.transport === transport)
    const messagesPending = sessions.reduce((sum, { pending }) => sum + pending, 0)
    const withIssues = sessions.filter(hasIssues).length
    return { upstream: name, transport, active: sessions.length, withIssues, messagesPending }
  })
}
