/** One server, with everything that is known about it. */
import { circuitStates } from '../../../src/upstreams/breaker.ts'
import { label, metrics, semconv } from '../../../src/telemetry/names.ts'
import {
  failedOperations,
  heartbeatErrorShare,
  heartbeatQuantile,
  requestErrorShare,
  toolCalls,
} from './heartbeat-queries.ts'
import {
  errorShareLimit,
  mapping,
  responseTimeLimit,
  stateMapping,
  stateNumber,
  stepsFrom,
  thresholds,
} from './look.ts'
import { events, heatmap, stat, stateTimeline, timeSeries } from './panels.ts'
import type { DashboardPlan, PanelPlan } from './plan.ts'
import { is, isNot } from '../promql.ts'
import { rate, increase, recentIncrease, sum, sumBy, maxBy, quantile, topk, legendOf } from './expressions.ts'
import { oneUpstream } from './scope.ts'
import { table } from './table.ts'

const instance = ['instance']
const byInstance = '{{instance}}'
const blue = stepsFrom('blue', [])

const now: readonly PanelPlan[] = [
  stat({
    title: 'State',
    description: 'What mcp-vitals concludes about the server now.',
    queries: [{ expr: maxBy(instance, stateNumber(oneUpstream)) }],
    unit: 'none',
    mappings: [stateMapping],
    width: 4,
  }),
  stat({
    title: 'Last answer',
    description: 'When the server last answered a heartbeat.',
    queries: [{ expr: `1000 * max(${oneUpstream.series(metrics.heartbeatLastSuccess)})` }],
    unit: 'dateTimeFromNow',
    thresholds: blue,
    width: 4,
  }),
  stat({
    title: 'Next heartbeat',
    description: 'The interval between heartbeats and the time that the next one is given, as adapted now.',
    queries: [
      { expr: `max(${oneUpstream.series(metrics.heartbeatInterval)})`, legend: 'interval' },
      { expr: `max(${oneUpstream.series(metrics.heartbeatTimeout)})`, legend: 'time-out' },
    ],
    unit: 's',
    decimals: 1,
    thresholds: blue,
    width: 4,
  }),
  stat({
    title: 'Availability',
    description: 'The part of the time during which the server was available, over the range of the dashboard.',
    queries: [{ expr: `1 - avg(${increase(oneUpstream.series(metrics.upstreamUnavailable))}) / $__range_s` }],
    unit: 'percentunit',
    decimals: 2,
    thresholds: stepsFrom('red', [
      [0.99, 'orange'],
      [0.999, 'green'],
    ]),
    width: 4,
  }),
  stat({
    title: 'Failed heartbeats',
    description:
      'The share of heartbeats that failed, over the range of the dashboard. Red where it makes a server suspect.',
    queries: [{ expr: heartbeatErrorShare(oneUpstream, [], increase) }],
    unit: 'percentunit',
    decimals: 1,
    thresholds: thresholds([errorShareLimit, 'red']),
    width: 4,
  }),
  stat({
    title: 'Asked with',
    description: 'What the next heartbeat asks: the rung of the ladder in use.',
    queries: [
      {
        expr: `max by (${label.method}) (${oneUpstream.series(metrics.heartbeatProbe)})`,
        legend: legendOf(label.method),
      },
    ],
    unit: 'none',
    namesOnly: true,
    thresholds: blue,
    width: 4,
  }),
  stateTimeline({
    title: 'State over time',
    description: 'The states of the server, as each sidecar sees it.',
    queries: [{ expr: maxBy(instance, stateNumber(oneUpstream)), legend: byInstance }],
    width: 24,
    height: 5,
  }),
]

const beatsBy = (by: string) => sumBy([by], recentIncrease(oneUpstream.series(metrics.heartbeats)))

const heartbeats: readonly PanelPlan[] = [
  events({
    title: 'Heartbeats by outcome',
    description: 'How many heartbeats there were, by what they came to.',
    queries: [{ expr: `${beatsBy(label.outcome)} > 0`, legend: legendOf(label.outcome) }],
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Heartbeats by leg',
    description:
      'How many heartbeats there were, by which way they look: upstream is our own probe, session is inside a client’s session towards the server, client is towards a client.',
    queries: [{ expr: `${beatsBy(label.leg)} > 0`, legend: legendOf(label.leg) }],
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Failed heartbeats',
    description: 'The share of heartbeats that failed. The server is suspect above the dashed line.',
    queries: [{ expr: heartbeatErrorShare(oneUpstream, instance, rate), legend: byInstance }],
    unit: 'percentunit',
    limits: [[errorShareLimit, 'red']],
    max: 1,
    width: 8,
  }),
  heatmap({
    title: 'Round trips',
    description: 'How long heartbeats took, by how many of them: the darker a cell, the more. Dots lead to traces.',
    queries: [
      {
        expr: sumBy(
          ['le'],
          recentIncrease(oneUpstream.buckets(metrics.heartbeatDuration, { [label.leg]: isNot('client') })),
        ),
        legend: '{{le}}',
        exemplars: true,
      },
    ],
    unit: 's',
    width: 12,
  }),
  timeSeries({
    title: 'Heartbeat latency',
    description:
      'The times within which half, 95 % and 99 % of the answered heartbeats were answered. Slow above the dashed line. Dots lead to traces.',
    queries: [0.5, 0.95, 0.99].map((ratio) => ({
      expr: heartbeatQuantile(oneUpstream, ratio, [], rate),
      legend: `p${ratio * 100}`,
      exemplars: ratio === 0.99,
    })),
    unit: 's',
    limits: [[responseTimeLimit, 'red']],
    width: 12,
  }),
  timeSeries({
    title: 'Interval and time-out',
    description: 'How often the server is asked and how long it is given to answer, as adapted.',
    queries: [
      { expr: maxBy(instance, oneUpstream.series(metrics.heartbeatInterval)), legend: `interval, ${byInstance}` },
      { expr: maxBy(instance, oneUpstream.series(metrics.heartbeatTimeout)), legend: `time-out, ${byInstance}` },
    ],
    unit: 's',
    width: 12,
  }),
  timeSeries({
    title: 'Unavailable',
    description: 'The part of the time during which the server was unavailable, as each sidecar sees it.',
    queries: [{ expr: sumBy(instance, rate(oneUpstream.series(metrics.upstreamUnavailable))), legend: byInstance }],
    unit: 'percentunit',
    max: 1,
    width: 12,
  }),
]

const tool = [semconv.toolName]
const byTool = legendOf(semconv.toolName)
const calls = metrics.serverOperationDuration

const requests: readonly PanelPlan[] = [
  timeSeries({
    title: 'Requests by method',
    description: 'Requests of clients per second.',
    queries: [
      {
        expr: sumBy([semconv.method], rate(oneUpstream.counts(metrics.serverOperationDuration))),
        legend: legendOf(semconv.method),
      },
    ],
    unit: 'reqps',
    stacked: true,
    width: 6,
  }),
  timeSeries({
    title: 'Errors that clients got',
    description:
      'Requests per second that failed, by error: tool_error is a result with isError, numbers are JSON-RPC codes, words are what failed below JSON-RPC or was refused by a limit of ours. Mistakes of the callers themselves are none.',
    queries: [
      {
        expr: sumBy([semconv.errorType], rate(oneUpstream.counts(metrics.serverOperationDuration, failedOperations))),
        legend: legendOf(semconv.errorType),
      },
    ],
    emptyWhenHealthy: 'no request failed.',
    unit: 'reqps',
    stacked: true,
    width: 6,
  }),
  timeSeries({
    title: 'Errors that the server gave',
    description:
      'The same as we get it from the server: every JSON-RPC error, also those that say that the caller made a mistake.',
    queries: [
      {
        expr: sumBy([semconv.errorType], rate(oneUpstream.counts(metrics.clientOperationDuration, failedOperations))),
        legend: legendOf(semconv.errorType),
      },
    ],
    emptyWhenHealthy: 'no request failed.',
    unit: 'reqps',
    stacked: true,
    width: 6,
  }),
  timeSeries({
    title: 'Request latency',
    description: 'As clients see it: with our own part and, in a queue, the time in it. Dots lead to traces.',
    queries: [0.5, 0.95, 0.99].map((ratio) => ({
      expr: quantile(ratio, [], rate(oneUpstream.buckets(metrics.serverOperationDuration))),
      legend: `p${ratio * 100}`,
      exemplars: ratio === 0.99,
    })),
    unit: 's',
    width: 6,
  }),
]

const tools: readonly PanelPlan[] = [
  table({
    title: 'Tools',
    description:
      'Each tool that was called within the range of the dashboard. _overflow are tools that the server never listed, or beyond the first 200.',
    width: 24,
    height: 9,
    labels: [{ label: semconv.toolName, title: 'Tool' }],
    values: [
      { title: 'Calls', expr: sumBy(tool, increase(oneUpstream.counts(calls, toolCalls))), unit: 'short', decimals: 0 },
      {
        title: 'Failed',
        expr: requestErrorShare(oneUpstream, tool, increase, toolCalls),
        unit: 'percentunit',
        decimals: 1,
        thresholds: [
          { value: null, color: 'green' },
          { value: errorShareLimit, color: 'red' },
        ],
      },
      ...[0.5, 0.95, 0.99].map((ratio) => ({
        title: `p${ratio * 100}`,
        expr: quantile(ratio, tool, increase(oneUpstream.buckets(calls, toolCalls))),
        unit: 's',
      })),
    ],
    sortBy: { title: 'Calls', descending: true },
    emptyWhenHealthy: 'no tool was called.',
    empty: 'No tool was called',
  }),
  timeSeries({
    title: 'Calls by tool',
    description: 'Calls per second, the ten most used.',
    queries: [{ expr: topk(10, sumBy(tool, rate(oneUpstream.counts(calls, toolCalls)))), legend: byTool }],
    emptyWhenHealthy: 'no tool was called.',
    unit: 'reqps',
    stacked: true,
    width: 8,
  }),
  timeSeries({
    title: 'Failed calls by tool',
    description: 'The share of each tool’s calls that failed.',
    queries: [{ expr: requestErrorShare(oneUpstream, tool, rate, toolCalls), legend: byTool }],
    emptyWhenHealthy: 'no tool was called.',
    unit: 'percentunit',
    limits: [[errorShareLimit, 'red']],
    max: 1,
    width: 8,
  }),
  timeSeries({
    title: 'Slowest tools, p95',
    description: 'The time within which 95 % of the calls were answered, the ten slowest. Dots lead to traces.',
    queries: [
      {
        expr: topk(10, quantile(0.95, tool, rate(oneUpstream.buckets(calls, toolCalls)))),
        legend: byTool,
        exemplars: true,
      },
    ],
    emptyWhenHealthy: 'no tool was called.',
    unit: 's',
    width: 8,
  }),
]

const noProcess = 'mcp-vitals runs no process of this server.'

const processes: readonly PanelPlan[] = [
  timeSeries({
    title: 'Memory',
    description: 'Resident memory of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.processResidentMemory)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'bytes',
    width: 8,
  }),
  timeSeries({
    title: 'CPU',
    description: 'CPU time per second, in cores, of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, rate(oneUpstream.series(metrics.processCpu))), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Processes',
    description: 'Processes that mcp-vitals runs for this server: the resident one, those of sessions, spare ones.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.upstreamProcesses)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Open files',
    description: 'Open file descriptors of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.processOpenFds)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Threads',
    description: 'Threads of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.processThreads)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Restarts',
    description: 'Processes that were started again, by reason.',
    queries: [
      {
        expr: `${sumBy([label.reason], recentIncrease(oneUpstream.series(metrics.upstreamRestarts)))} > 0`,
        legend: legendOf(label.reason),
      },
    ],
    emptyWhenHealthy: 'nothing had to be started again.',
    unit: 'short',
    width: 8,
  }),
]

const traffic: readonly PanelPlan[] = [
  timeSeries({
    title: 'Connections',
    description:
      'Connections to the server. Pending are requests that wait for one: the pool is too small, or the server too slow.',
    queries: [
      { expr: sumBy([label.state], oneUpstream.series(metrics.upstreamConnections)), legend: legendOf(label.state) },
    ],
    emptyWhenHealthy: 'the server is a process and has no connections.',
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'In flight and queued',
    description: 'Requests whose clients wait for the server, and those that wait for their turn.',
    queries: [
      { expr: sum(oneUpstream.series(metrics.upstreamRequestsInFlight)), legend: 'in flight' },
      { expr: sum(oneUpstream.series(metrics.upstreamQueueLength)), legend: 'queued' },
    ],
    unit: 'short',
    width: 8,
  }),
  stateTimeline({
    title: 'Circuit breaker',
    description:
      'Closed lets requests pass; open refuses them for a while after several failed; half open lets one try.',
    queries: [{ expr: maxBy(instance, circuitNumber()), legend: byInstance }],
    mappings: [
      mapping({
        0: { text: 'closed', color: 'green' },
        1: { text: 'open', color: 'red' },
        2: { text: 'half open', color: 'yellow' },
      }),
    ],
    emptyWhenHealthy: 'the circuit breaker is off.',
    width: 8,
  }),
  events({
    title: 'Circuit openings',
    description: 'How often the circuit breaker began to refuse requests.',
    queries: [
      { expr: sumBy(instance, recentIncrease(oneUpstream.series(metrics.upstreamCircuitOpened))), legend: byInstance },
    ],
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Undelivered messages',
    description: 'Messages that could not be delivered because a limit was reached or nobody was there, by reason.',
    queries: [
      {
        expr: `${sumBy([label.reason], recentIncrease(oneUpstream.series(metrics.droppedMessages)))} > 0`,
        legend: legendOf(label.reason),
      },
    ],
    emptyWhenHealthy: 'every message was delivered.',
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Unmeasured messages',
    description:
      'Messages that passed but could not be read, and measurements of tools and prompts that the server never listed (counted on both sides).',
    queries: [
      { expr: sum(recentIncrease(oneUpstream.series(metrics.unparsedMessages))), legend: 'unreadable' },
      { expr: sum(recentIncrease(oneUpstream.series(metrics.labelOverflow))), legend: '_overflow' },
    ],
    unit: 'short',
    width: 8,
  }),
]

const sessions: readonly PanelPlan[] = [
  timeSeries({
    title: 'Sessions',
    description: 'Client sessions that are open, by the client’s transport.',
    queries: [
      { expr: sumBy([label.transport], oneUpstream.series(metrics.sessionsActive)), legend: legendOf(label.transport) },
    ],
    unit: 'short',
    stacked: true,
    width: 8,
  }),
  timeSeries({
    title: 'Sessions with issues',
    description: 'Client sessions of which one end stopped answering heartbeats, or whose server is unavailable.',
    queries: [
      {
        expr: sumBy([label.transport], oneUpstream.series(metrics.sessionsWithIssues)),
        legend: legendOf(label.transport),
      },
    ],
    unit: 'short',
    limits: [[1, 'red']],
    width: 8,
  }),
  timeSeries({
    title: 'Inventory',
    description: 'Tools that the server lists, and how often their names or schemas changed.',
    queries: [
      { expr: `max(${oneUpstream.series(metrics.upstreamTools)})`, legend: 'tools' },
      { expr: sum(recentIncrease(oneUpstream.series(metrics.upstreamInventoryChanges))), legend: 'changes' },
    ],
    unit: 'short',
    width: 8,
  }),
]

/** The state of the circuit breaker as a number, its place in the list of its states. */
function circuitNumber(): string {
  const terms = circuitStates.map(
    (state, index) => `${index} * (${oneUpstream.series(metrics.upstreamCircuit, { [label.state]: is(state) })} == 1)`,
  )
  return terms.join('\n  or ')
}

export const upstream: DashboardPlan = {
  name: 'upstream',
  description: 'One MCP server: its heartbeats, requests, tools, processes, connections and sessions.',
  from: 'now-1h',
  upstream: 'one',
  first: now,
  sections: [
    { title: 'Heartbeats', panels: heartbeats },
    { title: 'Requests of clients', panels: requests },
    { title: 'Tools', panels: tools },
    { title: 'Processes', panels: processes },
    { title: 'Connections, queue and circuit breaker', panels: traffic },
    { title: 'Sessions and inventory', panels: sessions },
  ],
}
