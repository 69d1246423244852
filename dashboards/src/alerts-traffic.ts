/** Alerts on what clients meet at a server that answers. */
import { defaults } from '../../src/defaults.ts'
import { label, labelName, metrics, semconv } from '../../src/telemetry/names.ts'
import { hadOutage, isNotUp } from './alerts-upstream.ts'
import { is, onServer, select, sumKeeping } from './promql.ts'
import { recorded } from './recording-rules.ts'
import { type Alert, debugPage, reasonPage, theServer, wholeValue } from './rule.ts'

const { toolErrorRatio, toolErrors } = defaults.alerts

const tool = labelName(semconv.toolName)
const tools = select(metrics.upstreamTools)

export const trafficAlerts: readonly Alert[] = [
  {
    alert: 'McpToolErrorRateHigh',
    when: `more than ${toolErrorRatio * 100} % and at least ${toolErrors} of the calls of a tool failed in 10 minutes, for 5 minutes, and no outage explains it`,
    expr: `${recorded.toolCallsFailedRatio} > ${toolErrorRatio}
and
${recorded.toolCallsFailed} >= ${toolErrors}
unless ${onServer}
${hadOutage}`,
    for: '5m',
    severity: 'warning',
    summary: 'A tool of an MCP server fails often.',
    description:
      `The tool "{{ $labels.${tool} }}" of ${theServer} failed in {{ $value | humanizePercentage }} of its calls in the ` +
      'last 10 minutes (threshold ' +
      `${toolErrorRatio * 100} %), mistakes of callers aside, while the server itself answers.`,
  },
  {
    alert: 'McpSessionsWithIssues',
    when: 'at least one client session has an end that answers no heartbeats, for 5 minutes, while the server is up',
    expr: `${sumKeeping(metrics.sessionsWithIssues, [label.upstream], select(metrics.sessionsWithIssues))} > 0
unless ${onServer}
${isNotUp}`,
    for: '5m',
    severity: 'warning',
    summary: 'Client sessions with an MCP server hang.',
    description:
      `Sessions with ${theServer} in which one end answers no heartbeats, though the server as a whole does: ` +
      `${wholeValue}. Which ones: "hung" in "sessions" of ${debugPage}`,
  },
  {
    alert: 'McpConnectionPoolExhausted',
    when: 'requests to a server wait for their turn at any time for 2 minutes, while it is up: all of `max_in_flight` is taken',
    expr: `${select(metrics.upstreamQueueLength)} > 0
unless ${onServer}
${isNotUp}`,
    for: '2m',
    severity: 'warning',
    summary: 'Requests to an MCP server wait for their turn.',
    description:
      `For 2 minutes as many requests to ${theServer} have been under way as may be (max_in_flight), and ${wholeValue} ` +
      'more wait. Those that wait for too long get 503 queue_full. What it does: ' +
      debugPage,
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
      `${theServer} lists fewer tools than before, without having announced that. Missing: ${wholeValue}. ` +
      `Their names: ${reasonPage}`,
  },
]
