import type { Attributes, BatchObservableResult, Meter, Observable } from '@opentelemetry/api'
import { type CircuitState, circuitStates } from '../upstreams/breaker.ts'
import type { Transport } from '../upstreams/upstream.ts'
import type { UpstreamUsage } from '../upstreams/usage-meter.ts'
import { AttributeSets } from './attribute-sets.ts'
import { label, metrics, type Metric } from './names.ts'
import type { Series, SeriesKeys } from './series.ts'

/** What one upstream's gauges read now; an absent field is an absent series. */
export interface UpstreamGauges {
  readonly upstream: string
  readonly transport: Transport
  readonly state: string
  readonly up?: 0 | 1 | undefined
  readonly intervalSeconds?: number | undefined
  /** The rung of the ladder in use: what heartbeats ask, or `traffic`. */
  readonly rung?: string | undefined
  readonly timeoutSeconds?: number | undefined
  readonly lastSuccessTimestampSeconds?: number | undefined
  readonly unavailableSeconds: number
  readonly flapPenalty: number
  readonly processes?: number | undefined
  readonly usage?: UpstreamUsage | undefined
  readonly connections?: { readonly active: number; readonly idle: number; readonly pending: number } | undefined
  readonly requestsInFlight: number
  /** Whether it is one of those that fell silent at the same time. */
  readonly isSilentTogether: boolean
  /** Absent where nothing queues. */
  readonly queueLength?: number | undefined
  /** The state of the circuit breaker; absent where there is none. */
  readonly circuit?: CircuitState | undefined
  readonly tools?: number | undefined
}

/** The sessions of one upstream over one client transport. */
export interface SessionGauges {
  readonly upstream: string
  readonly transport: Transport
  readonly active: number
  readonly withIssues: number
  readonly messagesPending: number
}

/** The event streams of one upstream over one client transport. */
export interface StreamGauge {
  readonly upstream: string
  readonly transport: Transport
  readonly open: number
}

/** What waits for a receiver of alerts. */
export interface NotificationGauge {
  readonly receiver: string
  readonly waiting: number
}

/** Where gauges are read from at each collection. */
export interface GaugeSources {
  /** The closed list of states: each has a series, 1 for the current one. */
  readonly states: readonly string[]
  upstreams(): Iterable<UpstreamGauges>
  sessions(): Iterable<SessionGauges>
  streams(): Iterable<StreamGauge>
  /** Absent where nobody is ever told. */
  notifications?(): Iterable<NotificationGauge>
  configReload(): { readonly successful: boolean; readonly lastSuccessTimestampSeconds: number }
  /** Whether more than half of the servers fell silent together. */
  isFailureCorrelated(): boolean
  loadRatio(): number
}

/** Registers one callback that reads every source once for each collection. */
export function observeGauges(options: {
  readonly meter: Meter
  readonly keys: SeriesKeys
  readonly sources: GaugeSources
  readonly version: string
}): void {
  const { meter, sources, version } = options
  const sets = new AttributeSets(options.keys)
  const observers = [
    ourGauges(meter, sources, version),
    upstreamGauges(meter, sources, sets),
    sessionGauges(meter, sources, sets),
    streamGauges(meter, sources, sets),
    notificationGauges(meter, sources, sets),
  ]
  meter.addBatchObservableCallback(
    (result) => {
      for (const observer of observers) observer.observe(result)
    },
    observers.flatMap(({ observables }) => observables),
  )
}

interface Observer {
  readonly observables: Observable[]
  observe(result: BatchObservableResult): void
}

function ourGauges(meter: Meter, sources: GaugeSources, version: string): Observer {
  const build = gauge(meter, metrics.buildInfo)
  const reloadSuccessful = gauge(meter, metrics.configReloadSuccessful)
  const reloadTimestamp = gauge(meter, metrics.configReloadTimestamp)
  const load = gauge(meter, metrics.loadRatio)
  const correlated = gauge(meter, metrics.correlatedFailure)
  const buildAttributes = { [label.version]: version, [label.nodeVersion]: process.versions.node }
  const none: Attributes = {}
  return {
    observables: [build, reloadSuccessful, reloadTimestamp, load, correlated],
    observe: (result) => {
      const reload = sources.configReload()
      result.observe(build, 1, buildAttributes)
      result.observe(reloadSuccessful, reload.successful ? 1 : 0, none)
      result.observe(reloadTimestamp, reload.lastSuccessTimestampSeconds, none)
      result.observe(load, sources.loadRatio(), none)
      result.observe(correlated, sources.isFailureCorrelated() ? 1 : 0, none)
    },
  }
}

function upstreamGauges(meter: Meter, sources: GaugeSources, sets: AttributeSets): Observer {
  const on = {
    up: gauge(meter, metrics.upstreamUp),
    state: gauge(meter, metrics.upstreamState),
    interval: gauge(meter, metrics.heartbeatInterval),
    timeout: gauge(meter, metrics.heartbeatTimeout),
    probe: gauge(meter, metrics.heartbeatProbe),
    lastSuccess: gauge(meter, metrics.heartbeatLastSuccess),
    processes: gauge(meter, metrics.upstreamProcesses),
    connections: gauge(meter, metrics.upstreamConnections),
    requestsInFlight: gauge(meter, metrics.upstreamRequestsInFlight),
    queueLength: gauge(meter, metrics.upstreamQueueLength),
    silentTogether: gauge(meter, metrics.upstreamSilentTogether),
    tools: gauge(meter, metrics.upstreamTools),
    circuit: gauge(meter, metrics.upstreamCircuit),
    residentMemory: gauge(meter, metrics.processResidentMemory),
    openFds: gauge(meter, metrics.processOpenFds),
    threads: gauge(meter, metrics.processThreads),
    children: gauge(meter, metrics.processChildren),
    orphans: gauge(meter, metrics.processOrphans),
    cpu: counter(meter, metrics.processCpu),
    unavailable: counter(meter, metrics.upstreamUnavailable),
    flapPenalty: gauge(meter, metrics.upstreamFlapPenalty),
  }
  const observeOne = (result: BatchObservableResult, reading: UpstreamGauges) => {
    const { upstream, transport } = reading
    const { key: named, attributes: name } = sets.of(upstream, () => ({ [label.upstream]: upstream }))
    const { key: withTransport, attributes: nameAndTransport } = ofUpstream(sets, upstream, transport)
    observeKnown(result, on.up, reading.up, withTransport)
    result.observe(on.silentTogether, reading.isSilentTogether ? 1 : 0, withTransport)
    observeKnown(result, on.interval, reading.intervalSeconds, withTransport)
    observeKnown(result, on.timeout, reading.timeoutSeconds, withTransport)
    observeKnown(result, on.lastSuccess, reading.lastSuccessTimestampSeconds, withTransport)
    observeKnown(result, on.processes, reading.processes, named)
    observeKnown(result, on.residentMemory, reading.usage?.residentBytes, named)
    observeKnown(result, on.cpu, reading.usage?.cpuSeconds, named)
    observeKnown(result, on.openFds, reading.usage?.openFds, named)
    observeKnown(result, on.threads, reading.usage?.threads, named)
    observeKnown(result, on.children, reading.usage?.children, named)
    observeKnown(result, on.orphans, reading.usage?.orphans, named)
    observeKnown(result, on.tools, reading.tools, named)
    observeKnown(result, on.queueLength, reading.queueLength, named)
    result.observe(on.requestsInFlight, reading.requestsInFlight, named)
    result.observe(on.unavailable, reading.unavailableSeconds, named)
    result.observe(on.flapPenalty, reading.flapPenalty, named)
    const { rung } = reading
    if (rung !== undefined) {
      const { key } = sets.of(`${upstream}\0${transport}\0rung\0${rung}`, () => ({
        ...nameAndTransport,
        [label.method]: rung,
      }))
      result.observe(on.probe, 1, key)
    }
    for (const state of reading.circuit ? circuitStates : []) {
      const { key } = sets.of(`${upstream}\0circuit\0${state}`, () => ({ ...name, [label.state]: state }))
      result.observe(on.circuit, state === reading.circuit ? 1 : 0, key)
    }
    for (const state of sources.states) {
      const { key } = sets.of(`${upstream}\0${transport}\0${state}`, () => ({
        ...nameAndTransport,
        [label.state]: state,
      }))
      result.observe(on.state, state === reading.state ? 1 : 0, key)
    }
    for (const [state, count] of Object.entries(reading.connections ?? {})) {
      const { key } = sets.of(`${upstream}\0\0${state}`, () => ({ ...name, [label.state]: state }))
      result.observe(on.connections, count, key)
    }
  }
  return {
    observables: Object.values(on),
    observe: (result) => {
      for (const reading of sources.upstreams()) observeOne(result, reading)
    },
  }
}

function sessionGauges(meter: Meter, sources: GaugeSources, sets: AttributeSets): Observer {
  const active = gauge(meter, metrics.sessionsActive)
  const withIssues = gauge(meter, metrics.sessionsWithIssues)
  const pending = gauge(meter, metrics.sessionMessagesPending)
  return {
    observables: [active, withIssues, pending],
    observe: (result) => {
      for (const reading of sources.sessions()) {
        const { key } = ofUpstream(sets, reading.upstream, reading.transport)
        result.observe(active, reading.active, key)
        result.observe(withIssues, reading.withIssues, key)
        result.observe(pending, reading.messagesPending, key)
      }
    },
  }
}

function streamGauges(meter: Meter, sources: GaugeSources, sets: AttributeSets): Observer {
  const open = gauge(meter, metrics.streamsOpen)
  return {
    observables: [open],
    observe: (result) => {
      for (const reading of sources.streams()) {
        result.observe(open, reading.open, ofUpstream(sets, reading.upstream, reading.transport).key)
      }
    },
  }
}

function notificationGauges(meter: Meter, sources: GaugeSources, sets: AttributeSets): Observer {
  const queueLength = gauge(meter, metrics.notificationQueueLength)
  return {
    observables: [queueLength],
    observe: (result) => {
      for (const { receiver, waiting } of sources.notifications?.() ?? []) {
        const { key } = sets.of(`receiver\0${receiver}`, () => ({ [label.receiver]: receiver }))
        result.observe(queueLength, waiting, key)
      }
    },
  }
}

function gauge(meter: Meter, metric: Metric): Observable {
  return meter.createObservableGauge(metric.instrument, { description: metric.help, unit: metric.unit })
}

function counter(meter: Meter, metric: Metric): Observable {
  return meter.createObservableCounter(metric.instrument, { description: metric.help, unit: metric.unit })
}

function ofUpstream(sets: AttributeSets, upstream: string, transport: Transport): Series {
  return sets.of(`${upstream}\0${transport}`, () => ({ [label.upstream]: upstream, [label.transport]: transport }))
}

function observeKnown(
  result: BatchObservableResult,
  gauge: Observable,
  value: number | undefined,
  key: Attributes,
): void {
  if (value !== undefined) result.observe(gauge, value, key)
}
