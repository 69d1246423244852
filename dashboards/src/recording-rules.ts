/** What alerts and dashboards have in common is computed once. */
import { defaults } from '../../src/defaults.ts'
import { isAnswered, isFailure, isMiss, outcomes, untimedMethods } from '../../src/heartbeat/classify.ts'
import { isUp, states } from '../../src/heartbeat/verdict.ts'
import { type Metric, label, metrics, semconv } from '../../src/telemetry/names.ts'
import { restartReasons } from '../../src/upstreams/upstream.ts'
import { type Match, is, noneOf, onServer, oneOf, select, sumKeeping } from './promql.ts'
import type { RuleGroup } from './rule.ts'

const { heartbeats, heartbeatDuration, upstreamRestarts, upstreamStateChanges } = metrics
const { crashes } = defaults.alerts

/** The names, for those who use them. */
export const recorded = {
  heartbeats: 'upstream:mcp_heartbeats:increase10m',
  heartbeatsMissed: 'upstream:mcp_heartbeats_missed:increase10m',
  heartbeatsMissedRatio: 'upstream:mcp_heartbeats_missed:ratio_increase10m',
  heartbeatP50: 'upstream:mcp_heartbeat_duration_seconds:p50_rate5m',
  heartbeatP95: 'upstream:mcp_heartbeat_duration_seconds:p95_rate5m',
  operations: 'upstream:mcp_server_operations:rate5m',
  operationsFailed: 'upstream:mcp_server_operations_failed:rate5m',
  operationsFailedRatio: 'upstream:mcp_server_operations_failed:ratio_rate5m',
  clientsRefused: 'upstream:mcp_client_operations_unauthorized:increase10m',
  toolCalls: 'tool:mcp_tool_calls:increase10m',
  toolCallsFailed: 'tool:mcp_tool_calls_failed:increase10m',
  toolCallsFailedRatio: 'tool:mcp_tool_calls_failed:ratio_increase10m',
  toolP95: 'tool:mcp_server_operation_duration_seconds:p95_rate10m',
  crashes: 'upstream:mcp_upstream_crashes:increase15m',
  crashesLately: 'upstream:mcp_upstream_crashes:increase5m',
  crashLooping: 'upstream:mcp_upstream_crash_looping:increase15m',
  outages: 'upstream:mcp_upstream_outages:increase30m',
  outagesLately: 'upstream:mcp_upstream_outages:increase10m',
  memoryOfProcess: 'upstream:mcp_upstream_process_resident_memory_bytes:per_process',
} as const

type Matches = Readonly<Record<string, Match>>
type Part = '' | '_bucket' | '_count'

/** What is made of a counter over a window: per second, or as a number. */
type Gain = 'rate' | 'increase'

const ofUpstream = [label.upstream]
const ofTool = [label.upstream, semconv.toolName]

/**
 * The heartbeats that speak for a server as a whole: our own, and those in the sessions of a stdio server, since those
 * are its processes, and all that there are while clients have theirs. A heartbeat in the session of a server behind a
 * URL speaks for that session, and one towards a client for the client.
 */
function gainOfServer(gain: Gain, metric: Metric, matches: Matches, window: string, part: Part = ''): string {
  const own = { ...matches, [label.leg]: is('upstream') }
  const inSessions = { ...matches, [label.leg]: is('session'), [label.transport]: is('stdio') }
  const [ours, theirs] = [own, inSessions].map((of) => `${gain}(${select(metric, of, part)}[${window}])`)
  return sumKeeping(metric, ofUpstream, `${ours}\nor\n${theirs}`)
}

/** Heartbeats that came to one of these outcomes. */
function heartbeatsWith(wanted: readonly string[], gain: Gain, window: string): string {
  return gainOfServer(gain, heartbeats, { [label.outcome]: oneOf(wanted) }, window)
}

/** What a 401, a forgotten session or a fault of ours came to says neither yes nor no. */
const telling = outcomes.filter((outcome) => isAnswered(outcome) || isFailure(outcome))

/** A refused connection or an ended process means down at once: that is availability, not an error rate. */
const missed = outcomes.filter(isMiss)

/** Only what was asked and answered: a start may take as long as it likes, and `initialize` includes that. */
function heartbeatQuantile(quantile: number): string {
  const matches = { [label.outcome]: oneOf(outcomes.filter(isAnswered)), [label.method]: noneOf(untimedMethods) }
  return `histogram_quantile(${quantile}, ${gainOfServer('rate', heartbeatDuration, matches, '5m', '_bucket')})`
}

/** A client that leaves is no failure; neither is, on this side, what the client did wrong itself. */
const failed: Matches = { [semconv.errorType]: noneOf(['', 'cancelled']) }

const toolCall: Matches = { [semconv.method]: is('tools/call') }

interface Operations {
  readonly metric?: Metric
  readonly matches?: Matches
  readonly kept?: readonly string[]
  readonly window?: string
}

function operations(gain: Gain, of: Operations, part: Part = '_count'): string {
  const { metric = metrics.serverOperationDuration, matches = {}, kept = ofUpstream, window = '5m' } = of
  return sumKeeping(metric, kept, `${gain}(${select(metric, matches, part)}[${window}])`)
}

function operationQuantile(quantile: number, of: Operations = {}): string {
  return `histogram_quantile(${quantile}, ${operations('rate', of, '_bucket')})`
}

const calls = { kept: ofTool, window: '10m', matches: toolCall }
const failedCalls = { ...calls, matches: { ...toolCall, ...failed } }

/** Errors have no series before the first: until then they are 0, and not absent. */
function orNone(part: string, whole: string): string {
  return `${part}\nor\n0 * ${whole}`
}

/** Ended, or had to be ended; the others are somebody's wish. */
export const crashReasons = restartReasons.filter((reason) => !['manual', 'config', 'alert'].includes(reason))

function crashesIn(window: string): string {
  const restarts = select(upstreamRestarts, { [label.reason]: oneOf(crashReasons) })
  return sumKeeping(upstreamRestarts, ofUpstream, `increase(${restarts}[${window}])`)
}

/** Restarts in a quarter of an hour; over five minutes after the last one, unless mcp-vitals has given up. */
const crashLooping = `${recorded.crashes}
and ${onServer} (
  (${recorded.crashes} >= ${crashes} and ${recorded.crashesLately} > 0)
  or ${onServer}
  ${select(metrics.upstreamState, { [label.state]: is('crash_loop') })} == 1
)`

/** From any state in which it answers to one in which it does not; a start is somebody's wish, or part of an outage. */
function outagesIn(window: string): string {
  const up = states.filter((state) => isUp(state) === true)
  const out = states.filter((state) => isUp(state) === false && state !== 'starting')
  const changes = select(upstreamStateChanges, { [label.from]: oneOf(up), [label.to]: oneOf(out) })
  return sumKeeping(upstreamStateChanges, ofUpstream, `increase(${changes}[${window}])`)
}

/** Each session of a stdio server has a process: what they use together says little. */
const memoryOfProcess = `${select(metrics.processResidentMemory)} / (${select(metrics.upstreamProcesses)} > 0)`

/** What builds on another rule of its group stands behind it: they are evaluated in this order. */
export const recordingGroups: readonly RuleGroup[] = [
  {
    name: 'mcp-vitals.heartbeats.rules',
    rules: [
      { record: recorded.heartbeats, expr: heartbeatsWith(telling, 'increase', '10m') },
      { record: recorded.heartbeatsMissed, expr: heartbeatsWith(missed, 'increase', '10m') },
      { record: recorded.heartbeatsMissedRatio, expr: `${recorded.heartbeatsMissed} / ${recorded.heartbeats}` },
      { record: recorded.heartbeatP50, expr: heartbeatQuantile(0.5) },
      { record: recorded.heartbeatP95, expr: heartbeatQuantile(0.95) },
    ],
  },
  {
    name: 'mcp-vitals.operations.rules',
    rules: [
      { record: recorded.operations, expr: operations('rate', {}) },
      {
        record: recorded.operationsFailed,
        expr: orNone(operations('rate', { matches: failed }), recorded.operations),
      },
      { record: recorded.operationsFailedRatio, expr: `${recorded.operationsFailed} / ${recorded.operations}` },
      {
        record: recorded.clientsRefused,
        expr: operations('increase', {
          metric: metrics.clientOperationDuration,
          matches: { [semconv.errorType]: is('upstream_unauthorized') },
          window: '10m',
        }),
      },
      { record: recorded.toolCalls, expr: operations('increase', calls) },
      { record: recorded.toolCallsFailed, expr: orNone(operations('increase', failedCalls), recorded.toolCalls) },
      { record: recorded.toolCallsFailedRatio, expr: `${recorded.toolCallsFailed} / ${recorded.toolCalls}` },
      { record: recorded.toolP95, expr: operationQuantile(0.95, calls) },
    ],
  },
  {
    name: 'mcp-vitals.processes.rules',
    rules: [
      { record: recorded.crashes, expr: crashesIn('15m') },
      { record: recorded.crashesLately, expr: crashesIn('5m') },
      { record: recorded.crashLooping, expr: crashLooping },
      { record: recorded.outages, expr: outagesIn('30m') },
      { record: recorded.outagesLately, expr: outagesIn('10m') },
      { record: recorded.memoryOfProcess, expr: memoryOfProcess },
    ],
  },
]
