import type { Counter, Histogram, Meter } from '@opentelemetry/api'
import { errorCodes, type ErrorCode } from '../errors.ts'
import { outcomes, type Leg, type Outcome } from '../heartbeat/classify.ts'
import type { State } from '../heartbeat/verdict.ts'
import { restartReasons, type RestartReason, type Transport } from '../upstreams/upstream.ts'
import { AttributeSets, OperationSets, isOverflow, withoutUndefined, type Operation } from './attribute-sets.ts'
import { bucketIndex, type ExemplarReservoir, type SpanIds } from './exemplars.ts'
import { observeGauges, type GaugeSources } from './gauges.ts'
import { errorTypeLabel, labelBounds, protocolVersionLabel, type LabelBounds } from './labels.ts'
import { refuseCollisions } from './collisions.ts'
import { label, liveMetrics, metrics, semconv, type Metric } from './names.ts'
import type { Meters } from './reader.ts'
import type { Series } from './series.ts'
import { spanDropReasons, type SpanDropReason } from './span-queue.ts'

export type { Operation } from './attribute-sets.ts'
export type { GaugeSources, SessionGauges, StreamGauge, UpstreamGauges } from './gauges.ts'

/** One heartbeat, as it ended. `method` is our own choice of probe, so it comes from a closed set. */
export interface Heartbeat {
  readonly upstream: string
  readonly transport: Transport
  readonly leg: Leg
  readonly method: string
  readonly outcome: Outcome
  readonly durationSeconds: number
  /** What it may leave as its exemplar. */
  readonly span?: SpanIds | undefined
}

/** What decides which events an upstream can ever have. */
export interface UpstreamTraits {
  readonly transport: Transport
  /** Its process is ours: a stdio server's, or that of one behind a URL which we launch. */
  readonly hasProcess: boolean
  /** Its clients share that process. */
  readonly isShared: boolean
}

/** One client session, as it ended. */
export interface EndedSession {
  readonly upstream: string
  readonly networkTransport: 'tcp' | 'pipe'
  readonly protocolVersion?: string | undefined
  readonly errorType?: string | undefined
  readonly durationSeconds: number
}

/**
 * Why an event stream towards a client ended: `client_behind` was cut since its client left too much of it unread,
 * `stalled` is one of our time-outs.
 */
export const streamEnds = [
  'client_gone',
  'client_behind',
  'upstream_ended',
  'upstream_error',
  'replaced',
  'shutdown',
  'stalled',
] as const
export type StreamEnd = (typeof streamEnds)[number]

/** One event stream towards a client, as it ended. */
export interface EndedStream {
  readonly upstream: string
  /** The client's. */
  readonly transport: Transport
  readonly reason: StreamEnd
  readonly durationSeconds: number
}

/** What is given up while we are overloaded, the most dispensable first. */
export const sheddable = ['trace', 'session', 'tool_call'] as const
export type Sheddable = (typeof sheddable)[number]

/** What is remembered within bounds. */
export const rememberable = ['session', 'question', 'request', 'cancellation', 'tool'] as const
export type Rememberable = (typeof rememberable)[number]

/**
 * Why a message could not be delivered: the server's (`noise`, `message_too_long`: above what is carried), nobody is there to take it, or, with a
 * process that clients share, it cannot be told who should (`no_session`, `no_subscriber`) or there is no room for it.
 */
export const dropReasons = [
  'noise',
  'message_too_long',
  'client_gone',
  'no_request',
  'no_stream',
  'no_session',
  'no_subscriber',
  'too_many_subscriptions',
] as const
export type DropReason = (typeof dropReasons)[number]

/** Who is told of alerts. */
export const receivers = ['alertmanager', 'webhook'] as const
export type Receiver = (typeof receivers)[number]

/** What becomes of an alert that is sent: `rejected` by the receiver for good, `dropped` by us. */
export const notificationOutcomes = ['sent', 'failed', 'rejected', 'dropped'] as const
export type NotificationOutcome = (typeof notificationOutcomes)[number]

/** What an alert may have done to a server. */
export const recoveryActions = ['restart', 'probe_now', 'drain'] as const
export type RecoveryAction = (typeof recoveryActions)[number]

export const recoveryOutcomes = ['started', 'refused', 'limited', 'repeated'] as const
export type RecoveryOutcome = (typeof recoveryOutcomes)[number]

/** What alerts that come in ask for. */
export const receivedAlertKinds = ['recovery', 'resolved', 'no_action', 'no_upstream'] as const
export type ReceivedAlertKind = (typeof receivedAlertKinds)[number]

/** What the rest of the program records through. */
export interface Instruments {
  recordOperation(operation: Operation): void
  recordHeartbeat(heartbeat: Heartbeat): void
  recordSession(session: EndedSession): void
  recordStream(stream: EndedStream): void
  countStreamEvent(upstream: string, transport: Transport): void
  countStateChange(upstream: string, from: string, to: string): void
  countRestart(upstream: string, reason: RestartReason): void
  countInventoryChange(upstream: string): void
  countUnparsed(upstream: string): void
  countRejected(reason: string): void
  countDropped(upstream: string, reason: DropReason): void
  countShed(what: Sheddable): void
  countForgotten(what: Rememberable): void
  countCircuitOpened(upstream: string): void
  countDroppedSpans(reason: SpanDropReason, spans: number): void
  countNotifications(receiver: Receiver, outcome: NotificationOutcome, notifications: number): void
  recordNotification(receiver: Receiver, durationSeconds: number): void
  countReceivedAlert(kind: ReceivedAlertKind): void
  countRecovery(upstream: string, action: RecoveryAction, outcome: RecoveryOutcome): void
  /** Which tool and prompt names may become labels. */
  readonly labels: LabelBounds
  /** Starts the closed-label counters of an upstream at 0, so that `increase()` sees the first event. */
  initUpstream(upstream: string, traits: UpstreamTraits): void
  /** The same for heartbeats inside its clients' sessions, of which there is one now. */
  initSession(upstream: string): void
  /** The same for a receiver of alerts. */
  initReceiver(receiver: Receiver): void
  /** The same for what alerts may ask for. */
  initRecovery(upstream: string, action: RecoveryAction): void
}

/** Attribute sets of operations per upstream, as a multiple of its tool names: each has some errors and revisions. */
const operationSetsPerLabel = 10

/**
 * Creates every live instrument. Recording is synchronous; gauges are read from `sources` at collection.
 */
export function instruments(options: {
  readonly meters: Meters
  readonly exemplars: ExemplarReservoir
  readonly sources: GaugeSources
  readonly version: string
  readonly maxLabelsPerUpstream: number
}): Instruments {
  const { meters, exemplars, sources, maxLabelsPerUpstream } = options
  refuseCollisions(liveMetrics())
  const { readings, rest: meter, keys } = meters
  observeGauges({ meter, keys, sources, version: options.version })

  const labelOverflow = countedBy(meters, metrics.labelOverflow, label.upstream)
  const labels = labelBounds({ maxLabelsPerUpstream })
  const operationSets = () =>
    new OperationSets({ keys, labels, maxPerUpstream: maxLabelsPerUpstream * operationSetsPerLabel })
  const operations = {
    server: { ...timed(meter, exemplars, metrics.serverOperationDuration), sets: operationSets() },
    client: { ...timed(readings, exemplars, metrics.clientOperationDuration), sets: operationSets() },
  }
  // Both sides lose the same names, and the client's has all the attributes of the server's and more: it alone is asked.
  const recordOperation = (o: Operation) => {
    const series = operations[o.side].sets.of(o)
    operations[o.side].record(series, o)
    if (o.side === 'client' && isOverflow(series.attributes)) labelOverflow.count(o.upstream)
  }
  const sessions = timed(meter, exemplars, metrics.serverSessionDuration)
  const sessionSets = new AttributeSets(keys)
  const streams = timed(meter, exemplars, metrics.streamDuration)
  const streamSets = new AttributeSets(keys)
  const streamEvents = countedBy(meters, metrics.streamEvents, label.upstream, label.transport)
  const heartbeats = heartbeatRecorder(meters, exemplars)
  const stateChanges = countedBy(meters, metrics.upstreamStateChanges, label.upstream, label.from, label.to)
  const restarts = countedBy(meters, metrics.upstreamRestarts, label.upstream, label.reason)
  const inventoryChanges = countedBy(meters, metrics.upstreamInventoryChanges, label.upstream)
  const unparsed = countedBy(meters, metrics.unparsedMessages, label.upstream)
  const rejected = countedBy(meters, metrics.rejectedRequests, label.reason)
  const dropped = countedBy(meters, metrics.droppedMessages, label.upstream, label.reason)
  const shed = countedBy(meters, metrics.shed, label.what)
  const forgotten = countedBy(meters, metrics.forgotten, label.what)
  const circuitsOpened = countedBy(meters, metrics.upstreamCircuitOpened, label.upstream)
  const droppedSpans = countedBy(meters, metrics.droppedSpans, label.reason)
  const notifications = countedBy(meters, metrics.notifications, label.receiver, label.outcome)
  const notificationDurations = timed(meter, exemplars, metrics.notificationDuration)
  const receivedAlerts = countedBy(meters, metrics.receivedAlerts, label.outcome)
  const recoveries = countedBy(meters, metrics.recoveries, label.upstream, label.action, label.outcome)
  const receiverSets = new AttributeSets(keys)
  for (const reason of spanDropReasons) droppedSpans.init(reason)
  for (const reason of errorCodes.filter(isRefusal)) rejected.init(reason)
  for (const what of sheddable) shed.init(what)
  for (const what of rememberable) forgotten.init(what)
  /** Of which heartbeats in sessions do not start at 0 yet. */
  const withoutSessions = new Map<string, UpstreamTraits>()

  return {
    labels,
    recordOperation,
    recordHeartbeat: heartbeats.record,
    recordSession: (session) => sessions.record(sessionAttributes(session, sessionSets), session),
    recordStream: (stream) => streams.record(streamAttributes(stream, streamSets), stream),
    countStreamEvent: streamEvents.count,
    countStateChange: stateChanges.count,
    countRestart: restarts.count,
    countInventoryChange: inventoryChanges.count,
    countUnparsed: unparsed.count,
    countRejected: (reason) => rejected.count(errorTypeLabel(reason)),
    countDropped: dropped.count,
    countShed: shed.count,
    countForgotten: forgotten.count,
    countCircuitOpened: circuitsOpened.count,
    countDroppedSpans: (reason, spans) => droppedSpans.add(spans, reason),
    countNotifications: (receiver, outcome, count) => notifications.add(count, receiver, outcome),
    recordNotification: (receiver, durationSeconds) =>
      notificationDurations.record(
        receiverSets.of(receiver, () => ({ [label.receiver]: receiver })),
        { durationSeconds },
      ),
    countReceivedAlert: receivedAlerts.count,
    countRecovery: recoveries.count,
    initRecovery: (upstream, action) => {
      for (const kind of receivedAlertKinds) receivedAlerts.init(kind)
      for (const outcome of recoveryOutcomes) recoveries.init(upstream, action, outcome)
    },
    initReceiver: (receiver) => {
      for (const outcome of notificationOutcomes) notifications.init(receiver, outcome)
    },
    initUpstream: (upstream, traits) => {
      withoutSessions.set(upstream, traits)
      heartbeats.init(upstream, 'upstream', traits)
      // The client's transport: a stdio server is reached by Streamable HTTP.
      streamEvents.init(upstream, traits.transport === 'sse' ? 'sse' : 'http')
      for (const [from, to] of changesOf(traits)) stateChanges.init(upstream, from, to)
      for (const reason of traits.hasProcess ? restartReasons : []) restarts.init(upstream, reason)
      for (const reason of dropsOf(traits)) dropped.init(upstream, reason)
      for (const counter of [inventoryChanges, unparsed, labelOverflow, circuitsOpened]) counter.init(upstream)
    },
    initSession: (upstream) => {
      const traits = withoutSessions.get(upstream)
      if (traits && withoutSessions.delete(upstream)) heartbeats.init(upstream, 'session', traits)
    },
  }
}

/**
 * Changes of state that start at 0. All pairs would be 132 series for each upstream; these are the ones that the verdict
 * makes by itself, and any other pair (an operator's pause) appears with its first event.
 */
const expectedChanges: Readonly<Record<State, readonly State[]>> = {
  starting: ['healthy', 'recovering', 'down', 'crash_loop', 'needs_auth'],
  idle: ['starting', 'healthy', 'down'],
  healthy: ['suspect', 'busy', 'degraded', 'down', 'needs_auth', 'idle'],
  suspect: ['healthy', 'busy', 'degraded', 'down', 'needs_auth'],
  busy: ['healthy', 'suspect', 'down'],
  degraded: ['healthy', 'suspect', 'down'],
  recovering: ['healthy', 'suspect', 'degraded', 'down'],
  down: ['starting', 'recovering', 'crash_loop', 'needs_auth', 'idle'],
  crash_loop: ['starting', 'recovering'],
  needs_auth: ['recovering', 'down'],
  paused: [],
  disabled: [],
}

/** States that only the supervision of a process leads to. */
const statesOfProcesses: ReadonlySet<string> = new Set<State>(['idle', 'crash_loop'])

/** Without a process of ours nothing rests, loops, or is started again. */
function changesOf({ hasProcess }: UpstreamTraits): (readonly [from: string, to: string])[] {
  const all = Object.entries(expectedChanges).flatMap(([from, nexts]) => nexts.map((to) => [from, to] as const))
  return hasProcess ? all : all.filter((change) => change[1] !== 'starting' && !change.some(isOfProcess))
}

function isOfProcess(state: string): boolean {
  return statesOfProcesses.has(state)
}

const dropsOfStdio: ReadonlySet<DropReason> = new Set(['noise'])
const dropsOfShared: ReadonlySet<DropReason> = new Set(['no_session', 'no_subscriber', 'too_many_subscriptions'])

function dropsOf({ transport, isShared }: UpstreamTraits): DropReason[] {
  return dropReasons.filter(
    (reason) => (transport === 'stdio' || !dropsOfStdio.has(reason)) && (isShared || !dropsOfShared.has(reason)),
  )
}

/** What only HTTP can end with, and only a process. */
const outcomesOfHttp: ReadonlySet<Outcome> = new Set(['refused', 'reset', 'http_error', 'unauthorized', 'session_gone'])

function outcomesOf({ transport, hasProcess }: UpstreamTraits): Outcome[] {
  return outcomes.filter(
    (outcome) => (transport !== 'stdio' || !outcomesOfHttp.has(outcome)) && (hasProcess || outcome !== 'exited'),
  )
}

/** Codes that name the refusal of a client's request, as opposed to a failure of an upstream or of the program. */
function isRefusal(code: ErrorCode): boolean {
  return (
    !code.startsWith('upstream_') &&
    !['usage', 'config_invalid', 'listen_failed', 'cancelled', 'internal'].includes(code)
  )
}

interface Timing {
  readonly durationSeconds: number
  /** What it may leave as its exemplar. */
  readonly span?: SpanIds | undefined
}

/** A histogram whose measurements leave exemplars. */
function timed(meter: Meter, exemplars: ExemplarReservoir, metric: Metric & { readonly bounds: readonly number[] }) {
  const bounds = metric.bounds
  const histogram: Histogram = meter.createHistogram(metric.instrument, {
    description: metric.help,
    unit: metric.unit,
    advice: { explicitBucketBoundaries: [...bounds] },
  })
  return {
    record: ({ key, attributes }: Series, { durationSeconds: value, span }: Timing) => {
      histogram.record(value, key)
      if (span) exemplars.offer(attributes, { bucket: bucketIndex(bounds, value), value, span })
    },
  }
}

/** A counter with the given labels, counted by their values in the same order. */
function countedBy<Labels extends readonly string[]>({ rest, keys }: Meters, metric: Metric, ...labels: Labels) {
  const counter = createCounter(rest, metric)
  const sets = new AttributeSets(keys)
  type Values = { [Index in keyof Labels]: string }
  const keyOf = (values: Values) =>
    sets.of(values.join('\0'), () => Object.fromEntries(labels.map((key, index) => [key, values[index]]))).key
  return {
    count: (...values: Values) => counter.add(1, keyOf(values)),
    add: (amount: number, ...values: Values) => counter.add(amount, keyOf(values)),
    init: (...values: Values) => counter.add(0, keyOf(values)),
  }
}

function createCounter(meter: Meter, metric: Metric): Counter {
  return meter.createCounter(metric.instrument, { description: metric.help, unit: metric.unit })
}

function heartbeatRecorder({ readings, rest, keys }: Meters, exemplars: ExemplarReservoir) {
  const durations = timed(readings, exemplars, metrics.heartbeatDuration)
  const counter = createCounter(rest, metrics.heartbeats)
  const durationSets = new AttributeSets(keys)
  const counterSets = new AttributeSets(keys)
  const counted = (upstream: string, transport: Transport, leg: Leg, outcome: Outcome) =>
    counterSets.of(`${upstream}\0${transport}\0${leg}\0${outcome}`, () => ({
      [label.upstream]: upstream,
      [label.transport]: transport,
      [label.leg]: leg,
      [label.outcome]: outcome,
    }))
  return {
    record: (heartbeat: Heartbeat) => {
      const { upstream, transport, leg, method, outcome, span } = heartbeat
      const { key, attributes } = counted(upstream, transport, leg, outcome)
      const timedSeries = durationSets.of(`${upstream}\0${transport}\0${leg}\0${method}\0${outcome}`, () => ({
        [label.upstream]: upstream,
        [label.transport]: transport,
        [label.leg]: leg,
        [label.method]: method,
        [label.outcome]: outcome,
      }))
      durations.record(timedSeries, heartbeat)
      counter.add(1, key)
      if (span) exemplars.offer(attributes, { bucket: 0, value: 1, span })
    },
    /** Heartbeats towards the client carry its own transport, unknown beforehand: those do not start at 0. */
    init: (upstream: string, leg: 'upstream' | 'session', traits: UpstreamTraits) => {
      for (const outcome of outcomesOf(traits)) counter.add(0, counted(upstream, traits.transport, leg, outcome).key)
    },
  }
}

function streamAttributes({ upstream, transport, reason }: EndedStream, sets: AttributeSets): Series {
  return sets.of(`${upstream}\0${transport}\0${reason}`, () => ({
    [label.upstream]: upstream,
    [label.transport]: transport,
    [label.reason]: reason,
  }))
}

function sessionAttributes(session: EndedSession, sets: AttributeSets): Series {
  const { upstream, networkTransport, protocolVersion, errorType } = session
  const version = protocolVersion === undefined ? undefined : protocolVersionLabel(protocolVersion)
  const error = errorType === undefined ? undefined : errorTypeLabel(errorType)
  return sets.of(`${upstream}\0${networkTransport}\0${version}\0${error}`, () =>
    withoutUndefined({
      [label.upstream]: upstream,
      [semconv.networkTransport]: networkTransport,
      [semconv.protocolVersion]: version,
      [semconv.errorType]: error,
    }),
  )
}
