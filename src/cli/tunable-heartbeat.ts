import type { HeartbeatConfig, UpstreamConfig } from '../config/config.ts'
import { defaults } from '../defaults.ts'
import { isAnswered } from '../heartbeat/classify.ts'
import type { ReadingDiff } from '../heartbeat/interval.ts'
import type {
  HeartbeatEvents,
  HeartbeatReport,
  HeartbeatSettings,
  OwnProcesses,
  WorkSigns,
} from '../heartbeat/contract.ts'
import { Heartbeat } from '../heartbeat/loop.ts'
import type { ProbeMethod, Prober } from '../heartbeat/probe.ts'
import type { SessionBeats } from '../heartbeat/session-beats.ts'
import { isUnavailable } from '../heartbeat/verdict.ts'
import type { Session } from '../sessions/session.ts'
import { type UpstreamReading, diffReading, emptyReading } from '../telemetry/readings.ts'
import type { Absence } from '../upstreams/supervisor.ts'
import type { Transport } from '../upstreams/upstream.ts'
import { observeInSession, sessionHeartbeats } from './session-heartbeats.ts'
import type { HeartbeatDeps } from './monitor-deps.ts'
import { heartbeatLog } from './heartbeat-log.ts'

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
  const report = heartbeatLog(deps, { name, transport, config: () => config }, prober, () => heartbeat)
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
      stateChanged: heartbeat.glance().verdict.state !== 'healthy',
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
    onPauseRenewed: (reason) => log.info({ upstream: name, transport, reason }, 'the maintenance has another end'),
    onNewFailure: (cause, traceId) =>
      log.warn({ upstream: name, transport, cause, trace_id: traceId ?? null }, 'a new kind of failure'),
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
