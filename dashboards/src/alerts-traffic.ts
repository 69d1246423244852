/** Alerts on what clients meet at a server that answers. */
import { defaults } from '../../src/defaults.ts'
import { label, labelName, metrics, semconv } from '../../src/telemetry/names.ts'
import { hadOutage, isNotUp } from './alerts-upstream.ts'
import { is, onServer, select, sumKeeping } from './promql.ts'
import { recorded } from './recording-rules.ts'
import { type Alert, debugPage } from './rule.ts'

const { toolErrorRatio, toolErrors } = defaults.alerts

const tool = labelName(semconv.toolName)
const tools = select(metrics.upstreamTools)

export const trafficAlerts: readonly Alert[] = [
  {
    alert: 'McpToolErrorRateHigh',
    when: `more than ${toolErrorRatio * 100} % and at least ${toolErrors} of the calls of a tool failed in 10 minutes, for 5 minutes, though its server was up`,
    expr: `${recorded.toolCallsFailedRatio} > ${toolErrorRatio}
and
${recorded.toolCallsFailed} >= ${toolErrors}
unless ${onServer}
${hadOutage}`,
    for: '5m',
    severity: 'warning',
    summary: 'A tool of an MCP server fails often.',
    description:
      `{{ $value | humanizePercentage }} of the calls of the tool {{ $labels.${tool} }} of {{ $labels.upstream }} behind ` +
      '{{ $labels.instance }} failed in the last 10 minutes, mistakes of callers aside, while the server answered its ' +
      'heartbeats. With what, says error_type on the dashboard.',
  },
  {
    alert: 'McpSessionsWithIssues',
    when: 'at least one client session has an end that does not answer heartbeats, for 5 minutes, though its server is up',
    expr: `${sumKeeping(metrics.sessionsWithIssues, [label.upstream], select(metrics.sessionsWithIssues))} > 0\nunless ${onServer} ${isNotUp}`,
    for: '5m',
    severity: 'warning',
    summary: 'Sessions with an MCP server hang.',
    description:
      '{{ $value | humanize }} client sessions with {{ $labels.upstream }} behind {{ $labels.instance }} have an end ' +
      'that answers no heartbeats, while the server as a whole does. Which, and for how long: "sessions" with the ' +
      `state "hung" in ${debugPage}`,
  },
  {
    alert: 'McpConnectionPoolExhausted',
    when: 'requests to a server wait for their turn without a pause for 2 minutes, though it is up: all of `max_in_flight` is taken',
    expr: `${select(metrics.upstreamQueueLength)} > 0\nunless ${onServer} ${isNotUp}`,
    for: '2m',
    severity: 'warning',
    summary: 'Requests to an MCP server wait for their turn.',
    description:
      '{{ $value | humanize }} requests to {{ $labels.upstream }} behind {{ $labels.instance }} wait, because ' +
      'max_in_flight others are under way, and have done so for 2 minutes. Those that wait longer than ' +
      `queue_timeout_seconds get 503 queue_full. ${debugPage}`,
  },
  {
    alert: 'McpInventoryShrank',
    when: 'a server that is `degraded` lists fewer tools than at some time in the last day, for 2 minutes',
    // A server that announces a change is not degraded by it: what it said it would do needs no alert.
    expr: `max_over_time(${tools}[1d]) - ${tools} > 0
and ${onServer}
${select(metrics.upstreamState, { [label.state]: is('degraded') })} == 1`,
    for: '2m',
    severity: 'warning',
    summary: 'An MCP server lost tools.',
    description:
      '{{ $labels.upstream }} behind {{ $labels.instance }} lists {{ $value | humanize }} tools less than before, ' +
      `without having announced it. Their names are in "reason" of ${debugPage}`,
  },
]
