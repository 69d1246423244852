import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { z } from 'zod'
import { legs, outcomes } from '../heartbeat/classify.ts'
import { type HistoryEntry, successPercent } from '../heartbeat/history.ts'
import { type EndedView, type Monitored, limitedOf } from '../heartbeat/monitored.ts'
import { probeModes } from '../heartbeat/probe.ts'
import { isUnavailable, states } from '../heartbeat/verdict.ts'
import { type LegHealth, sessionStates, stateOf, worstOf } from '../sessions/health.ts'
import type { Session } from '../sessions/session.ts'
import { type UpstreamReading, emptyReading, quantile, readUpstreams } from '../telemetry/readings.ts'
import type { ProcessTable } from '../upstreams/process-table.ts'
import { circuitStates } from '../upstreams/breaker.ts'
import { transports } from '../upstreams/upstream.ts'

const milliseconds = z.number().nonnegative()
const seconds = z.number().nonnegative()
/** Percent; null where no heartbeat was a success or a failure, such as of refused credentials alone. */
const successRate = z.number().min(0).max(100).nullable()

const beatSchema = z.strictObject({
  at: z.iso.datetime(),
  leg: z.enum(legs),
  method: z.string(),
  outcome: z.enum(outcomes),
  response_time_ms: milliseconds.nullable(),
  reason: z.string(),
  session: z.string().nullable(),
})

const usageSchema = z
  .strictObject({
    resident_memory_bytes: z.int(),
    cpu_seconds: seconds,
    open_fds: z.int(),
    threads: z.int(),
    children: z.int(),
    orphans: z.int().describe('children whose own parent has gone'),
  })
  .describe('of the process and all that it started')

const upstreamSchema = z.strictObject({
  transport: z.enum(transports),
  state: z.enum(states),
  since: z.iso.datetime(),
  reason: z.string().min(1),
  era: z.enum(['legacy', 'modern']).nullable().describe('null until the opening exchange was answered'),
  protocol_version: z.string().nullable(),
  probe: z.string().describe('the request that the next heartbeat asks'),
  rung: z
    .string()
    .nullable()
    .describe(
      'what heartbeats are now: traffic while clients are answered, else the probe; null while nobody is asked',
    ),
  probe_mode: z.enum(probeModes),
  paused_until: z.iso.datetime().nullable().describe('when its maintenance ends; null while there is none'),
  draining_until: z.iso.datetime().nullable().describe('until when it gets nothing new; null while it is not drained'),
  flap_penalty: z.number().nonnegative().describe('1 for each outage, halved every five minutes'),
  interval_seconds: seconds,
  next_probe_in_seconds: seconds.nullable().describe('null while nobody is asked, or a probe is under way'),
  why_this_interval: z.string().min(1),
  timeout_ms: milliseconds,
  last_success: z.iso.datetime().nullable(),
  unavailable_seconds: seconds,
  response_time_ms: z
    .strictObject({ p50: milliseconds.nullable(), p95: milliseconds.nullable(), p99: milliseconds.nullable() })
    .describe('of all answered heartbeats since the start, from the exported histogram; null without any'),
  heartbeats: z.strictObject({ total: z.int(), failed: z.int(), success_rate_percent: successRate }),
  tools: z.int().nullable(),
  requests_in_flight: z.int(),
  circuit: z
    .strictObject({
      state: z.enum(circuitStates),
      reason: z.string().nullable(),
      retry_in_seconds: seconds.nullable(),
    })
    .nullable()
    .describe('the circuit breaker of clients’ requests; null where there is none'),
  connections: z.strictObject({ active: z.int(), idle: z.int(), pending: z.int() }).nullable(),
  recent: z.array(beatSchema),
  failures: z.array(beatSchema),
  patterns: z.array(
    z.strictObject({ cause: z.string(), count: z.int(), first: z.iso.datetime(), last: z.iso.datetime() }),
  ),
  process: z
    .strictObject({
      pid: z.int().nullable().describe('null while no process runs'),
      restarts: z.int(),
      next_start_in_seconds: seconds.nullable().describe('null while it runs, or nothing will start it'),
      started: z.iso.datetime().nullable(),
      stderr_tail: z.string(),
      last_ended: z
        .strictObject({
          pid: z.int().nullable().describe('null when it could not be started'),
          at: z.iso.datetime(),
          how: z.string(),
          stderr_tail: z.string().describe('the end of what it wrote to stderr'),
        })
        .nullable()
        .describe('the last process that crashed, hung or could not be started; null while none did'),
      all: z.array(
        z.strictObject({
          pid: z.int(),
          role: z.string(),
          session: z.string().nullable(),
          started: z.iso.datetime(),
          stderr_tail: z.string().describe('the end of what it wrote to stderr'),
          usage: usageSchema.nullable().describe('null where there is no /proc'),
        }),
      ),
    })
    .nullable()
    .describe('null where mcp-vitals starts no process'),
})

const legHealthSchema = z.strictObject({
  state: z.enum(sessionStates),
  heartbeats: z.int(),
  misses: z.int().describe('in a row'),
  round_trip_ms: milliseconds.nullable().describe('of the last answer; null before the first'),
  seconds_ago: seconds.nullable().describe('since the last one was over; null before the first'),
})

const sessionSchema = z.strictObject({
  upstream: z.string(),
  transport: z.enum(transports).describe("the client's"),
  protocol_version: z.string().nullable(),
  client_name: z.string().nullable(),
  client_ip: z.string(),
  user_agent: z.string(),
  age_seconds: seconds,
  idle_seconds: seconds,
  pending_messages: z.int(),
  open_streams: z.int(),
  messages: z.int(),
  state: z.enum(sessionStates).describe('the worse of the two below; unasked while no heartbeat has said anything'),
  heartbeats: z.strictObject({
    session: legHealthSchema.describe('towards the server'),
    client: legHealthSchema.describe('towards the client'),
  }),
})

/** The answer of `/debug/heartbeat`. */
export const debugReportSchema = z.strictObject({
  heartbeat_enabled: z.boolean(),
  timestamp: z.iso.datetime(),
  overall_metrics: z.strictObject({
    total_sessions: z.int(),
    total_heartbeats: z.int(),
    successful_heartbeats: z.int(),
    failed_heartbeats: z.int(),
    overall_success_rate: successRate,
    average_response_time_ms: milliseconds,
    sessions_with_issues: z.int(),
  }),
  silent_together: z
    .array(z.string())
    .describe('upstreams that fell silent at the same time, more than half of all: the fault is ours or the network’s'),
  upstreams: z.record(z.string(), upstreamSchema),
  sessions: z.record(z.string(), sessionSchema),
  config: z.strictObject({
    heartbeat_interval: seconds,
    adaptive_enabled: z.boolean(),
    performance_monitoring: z.boolean(),
    last_reload: z
      .strictObject({ successful: z.boolean(), last_success: z.iso.datetime(), problem: z.string().nullable() })
      .nullable()
      .describe('the last attempt to load the configuration; after a failed one the old one is in force'),
  }),
})

export type DebugReport = z.output<typeof debugReportSchema>
export type DebugUpstream = z.output<typeof upstreamSchema>

export interface DebugInput {
  readonly upstreams: readonly Monitored[]
  readonly sessions: readonly Session[]
  readonly metrics: ResourceMetrics
  readonly nowMs: number
  readonly wallMs: number
  readonly silentTogether: readonly string[]
  readonly processTable: Pick<ProcessTable, 'usageOf' | 'openFdsOf'>
  readonly config: DebugReport['config']
}

/** Everything known about the heartbeats, the rates and times out of the exported metrics themselves. */
export function debugReport(input: DebugInput): DebugReport {
  const { upstreams, sessions, metrics, nowMs, wallMs } = input
  const readings = readUpstreams(metrics)
  const readingOf = (name: string) => readings.get(name) ?? emptyReading([])
  const all = upstreams.map(({ name }) => readingOf(name))
  const sum = (pick: (reading: UpstreamReading) => number) => all.reduce((total, reading) => total + pick(reading), 0)
  const hasIssues = issuesOf(upstreams)
  const measured = sum((reading) => reading.rttCount)
  const total = sum((reading) => reading.heartbeats)
  const answered = sum((reading) => reading.answered)
  const failed = sum((reading) => reading.failures)
  return {
    heartbeat_enabled: true,
    timestamp: new Date(wallMs).toISOString(),
    overall_metrics: {
      total_sessions: sessions.length,
      total_heartbeats: total,
      successful_heartbeats: answered,
      failed_heartbeats: failed,
      overall_success_rate: successPercent({ answered, failures: failed }, 3),
      average_response_time_ms: measured === 0 ? 0 : rounded((sum((r) => r.rttSumSeconds) / measured) * 1000),
      sessions_with_issues: sessions.filter(hasIssues).length,
    },
    silent_together: [...input.silentTogether],
    upstreams: Object.fromEntries(
      upstreams.map((upstream) => [upstream.name, debugUpstream(upstream, readingOf(upstream.name), input)]),
    ),
    sessions: Object.fromEntries(sessions.map((session) => [session.key, debugSession(session, nowMs)])),
    config: input.config,
  }
}

/** Whether a session has issues: one of its ends does not answer in it, or its server does not at all. */
export function issuesOf(upstreams: readonly Monitored[]): (session: Session) => boolean {
  const unavailable = upstreams.filter(({ heartbeat }) => isUnavailable(heartbeat.status().verdict))
  const names = new Set(unavailable.map(({ name }) => name))
  return ({ health, upstream }) => worstOf(health) === 'hung' || names.has(upstream)
}

function debugUpstream(upstream: Monitored, reading: UpstreamReading, input: DebugInput): DebugUpstream {
  const { nowMs, wallMs, processTable } = input
  const { heartbeat, prober, transport } = upstream
  const status = heartbeat.status()
  const { verdict, interval } = status
  const { era, probe, protocolVersion } = prober.describe()
  const { bounds, counts } = reading.buckets
  const quantileMs = (q: number) => {
    const value = quantile(bounds, counts, q)
    return value === undefined ? null : rounded(value * 1000)
  }
  return {
    transport,
    state: verdict.state,
    since: isoTime(wallMs - (nowMs - verdict.sinceMs)),
    reason: verdict.reason,
    era: era ?? null,
    protocol_version: protocolVersion ?? null,
    probe,
    rung: status.rung ?? null,
    probe_mode: status.probe,
    paused_until: status.pausedUntilWallMs === undefined ? null : isoTime(status.pausedUntilWallMs),
    draining_until: drainingUntil(upstream),
    flap_penalty: rounded(status.flapPenalty),
    interval_seconds: rounded(interval.intervalMs / 1000),
    next_probe_in_seconds: status.nextProbeInMs === undefined ? null : rounded(status.nextProbeInMs / 1000),
    why_this_interval: status.unasked ?? interval.why(),
    timeout_ms: Math.round(status.timeoutMs),
    last_success: status.lastSuccessWallMs === undefined ? null : isoTime(status.lastSuccessWallMs),
    unavailable_seconds: rounded(status.unavailableSeconds),
    response_time_ms: { p50: quantileMs(0.5), p95: quantileMs(0.95), p99: quantileMs(0.99) },
    heartbeats: {
      total: reading.heartbeats,
      failed: reading.failures,
      success_rate_percent: successPercent(reading, 3),
    },
    tools: status.inventory?.size ?? null,
    requests_in_flight: upstream.requestsInFlight(),
    circuit: debugCircuit(upstream),
    connections: upstream.connections() ?? null,
    recent: heartbeat.history.recent().map(debugBeat),
    failures: heartbeat.history.failures().map(debugBeat),
    patterns: heartbeat.history.patterns().map(({ cause, count, firstWallMs, lastWallMs }) => ({
      cause,
      count,
      first: isoTime(firstWallMs),
      last: isoTime(lastWallMs),
    })),
    process: debugProcess(upstream, processTable),
  }
}

function drainingUntil({ access }: Monitored): string | null {
  const untilWallMs = limitedOf(access)?.drain.untilWallMs()
  return untilWallMs === undefined ? null : isoTime(untilWallMs)
}

function debugCircuit({ access }: Monitored): DebugUpstream['circuit'] {
  const view = limitedOf(access)?.breaker.view()
  if (!view) return null
  const { state, reason = null, retryInMs } = view
  return { state, reason, retry_in_seconds: retryInMs === undefined ? null : rounded(retryInMs / 1000) }
}

function debugProcess(upstream: Monitored, table: DebugInput['processTable']): DebugUpstream['process'] {
  const restarts = upstream.restarts()
  if (restarts === undefined) return null
  const processes = upstream.processes()
  const [first] = processes
  const nextStartInMs = upstream.nextStartInMs()
  return {
    pid: first?.pid ?? null,
    restarts,
    next_start_in_seconds: nextStartInMs === undefined ? null : rounded(nextStartInMs / 1000),
    started: first ? isoTime(first.startedAtWallMs) : null,
    stderr_tail: first?.stderrTail ?? '',
    last_ended: debugEnded(upstream.lastEnded()),
    all: processes.map(({ pid, role, session, startedAtWallMs, stderrTail }) => ({
      pid,
      role,
      session: session ?? null,
      started: isoTime(startedAtWallMs),
      stderr_tail: stderrTail,
      usage: debugUsage(pid, table),
    })),
  }
}

function debugEnded(ended: EndedView | undefined): NonNullable<DebugUpstream['process']>['last_ended'] {
  if (!ended) return null
  const { pid, endedAtWallMs, how, stderrTail } = ended
  return { pid: pid ?? null, at: isoTime(endedAtWallMs), how, stderr_tail: stderrTail }
}

function debugUsage(pid: number, table: DebugInput['processTable']): z.output<typeof usageSchema> | null {
  const usage = table.usageOf(pid)
  if (!usage) return null
  return {
    resident_memory_bytes: usage.residentBytes,
    cpu_seconds: rounded(usage.cpuSeconds),
    open_fds: table.openFdsOf(pid) ?? 0,
    threads: usage.threads,
    children: usage.children,
    orphans: usage.orphans,
  }
}

function debugBeat(entry: HistoryEntry): z.output<typeof beatSchema> {
  return {
    at: isoTime(entry.atWallMs),
    leg: entry.leg,
    method: entry.method,
    outcome: entry.outcome,
    response_time_ms: entry.responseTimeMs === undefined ? null : rounded(entry.responseTimeMs),
    reason: entry.reason ?? '',
    session: entry.session ?? null,
  }
}

function debugSession(session: Session, nowMs: number): z.output<typeof sessionSchema> {
  return {
    upstream: session.upstream,
    transport: session.transport,
    protocol_version: session.protocolVersion ?? null,
    client_name: session.client.name ?? null,
    client_ip: session.client.ip,
    user_agent: session.client.userAgent,
    age_seconds: rounded((nowMs - session.startedAtMs) / 1000),
    idle_seconds: rounded((nowMs - session.lastActiveMs) / 1000),
    pending_messages: session.pending,
    open_streams: session.openStreams,
    messages: session.messages,
    state: worstOf(session.health),
    heartbeats: {
      session: debugLegHealth(session.health.session, nowMs),
      client: debugLegHealth(session.health.client, nowMs),
    },
  }
}

function debugLegHealth(health: LegHealth, nowMs: number): z.output<typeof legHealthSchema> {
  const { heartbeats, misses, roundTripMs, lastMs } = health
  return {
    state: stateOf(health),
    heartbeats,
    misses,
    round_trip_ms: roundTripMs === undefined ? null : rounded(roundTripMs),
    seconds_ago: heartbeats === 0 ? null : rounded((nowMs - lastMs) / 1000),
  }
}

function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString()
}

function rounded(value: number): number {
  return Number(value.toFixed(3))
}
