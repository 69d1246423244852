/** All servers at a glance: what needs action, then how each is doing. */
import { label, metrics } from '../../../src/telemetry/names.ts'
import { oneOf } from '../promql.ts'
import { increase, legendOf, maxBy, quantile, rate, recentIncrease, sum, sumBy } from './expressions.ts'
import { heartbeatErrorShare, heartbeatQuantile, requestErrorShare } from './heartbeat-queries.ts'
import {
  availabilitySteps,
  errorShareLimit,
  mapping,
  responseTimeLimit,
  stateMapping,
  stateNumber,
  stepsFrom,
  thresholds,
} from './look.ts'
import { needsAction } from './needs-action.ts'
import { events, stat, stateTimeline, timeSeries } from './panels.ts'
import type { DashboardPlan, PanelPlan } from './plan.ts'
import { sidecars, upstreams } from './scope.ts'
import { linkFromRow, linkFromSeries } from './server-link.ts'
import { table } from './table.ts'

const server = ['instance', label.upstream]
const legend = `${legendOf(label.upstream)} on {{instance}}`

const now: readonly PanelPlan[] = [
  stat({
    title: 'Up',
    description: 'Servers that answer.',
    queries: [{ expr: sum(upstreams.series(metrics.upstreamUp)) }],
    unit: 'none',
    width: 3,
  }),
  stat({
    title: 'Not up',
    description: 'Servers that should answer and do not. Idle, paused and disabled ones are not among them.',
    queries: [{ expr: sum(`1 - ${upstreams.series(metrics.upstreamUp)}`) }],
    unit: 'none',
    thresholds: thresholds([1, 'red']),
    width: 3,
  }),
  stat({
    title: 'Not judged',
    description:
      'Servers that are idle, paused or disabled: nothing is expected of them, so they are neither up nor down.',
    queries: [
      { expr: sum(upstreams.series(metrics.upstreamState, { [label.state]: oneOf(['idle', 'paused', 'disabled']) })) },
    ],
    unit: 'none',
    thresholds: stepsFrom('blue', []),
    width: 3,
  }),
  stat({
    title: 'Availability',
    description:
      'The part of the time during which the servers were available, over the range of the dashboard and all servers, weighted by time and not by heartbeats. Green where the objective is met.',
    queries: [{ expr: `1 - avg(${increase(upstreams.series(metrics.upstreamUnavailable))}) / $__range_s` }],
    unit: 'percentunit',
    decimals: 2,
    thresholds: availabilitySteps(),
    width: 3,
  }),
  stat({
    title: 'Restarts',
    description: 'Processes that were started again within the range of the dashboard.',
    queries: [{ expr: sum(increase(upstreams.series(metrics.upstreamRestarts))) }],
    unit: 'short',
    decimals: 0,
    thresholds: thresholds([1, 'orange']),
    width: 3,
  }),
  stat({
    title: 'Sessions',
    description: 'Client sessions that are open.',
    queries: [{ expr: sum(upstreams.series(metrics.sessionsActive)) }],
    unit: 'none',
    thresholds: stepsFrom('blue', []),
    width: 3,
  }),
  stat({
    title: 'Requests',
    description: 'Requests of clients per second. Heartbeats are not among them.',
    queries: [{ expr: sum(rate(upstreams.counts(metrics.serverOperationDuration))) }],
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 'reqps',
    thresholds: stepsFrom('blue', []),
    width: 3,
  }),
  stat({
    title: 'One fault for many',
    description:
      'Yes while more than half of the servers fell silent together: the fault is that of the machine or the network, and each server is only its victim.',
    queries: [{ expr: `max(${sidecars.series(metrics.correlatedFailure)})` }],
    unit: 'none',
    mappings: [mapping({ 0: { text: 'No', color: 'green' }, 1: { text: 'Yes', color: 'red' } })],
    width: 3,
  }),
]

const timeline = stateTimeline({
  title: 'State',
  description:
    'What mcp-vitals concluded about each server. Suspect ones still count as up, degraded ones too; see the states in the README.',
  queries: [{ expr: maxBy(server, stateNumber(upstreams)), legend }],
  link: linkFromSeries,
  width: 24,
  height: 9,
})

const everyServer = table({
  title: 'Servers',
  description: 'Each server over the range of the dashboard; state, interval, tools and sessions as of now.',
  width: 24,
  height: 10,
  labels: [
    { label: label.upstream, title: 'Upstream', link: linkFromRow },
    { label: 'instance', title: 'Instance' },
    { label: label.transport, title: 'Transport' },
  ],
  values: [
    {
      title: 'State',
      expr: maxBy([...server, label.transport], stateNumber(upstreams)),
      unit: 'none',
      mappings: [stateMapping],
    },
    {
      title: 'Availability',
      expr: `1 - ${maxBy(server, increase(upstreams.series(metrics.upstreamUnavailable)))} / $__range_s`,
      unit: 'percentunit',
      decimals: 2,
    },
    {
      title: 'Failed heartbeats',
      expr: heartbeatErrorShare(upstreams, server, increase),
      unit: 'percentunit',
      decimals: 1,
      thresholds: [
        { value: null, color: 'green' },
        { value: errorShareLimit, color: 'red' },
      ],
    },
    ...[0.5, 0.95, 0.99].map((ratio) => ({
      title: `p${ratio * 100}`,
      expr: heartbeatQuantile(upstreams, ratio, server, increase),
      unit: 's',
      thresholds: [
        { value: null, color: 'green' },
        { value: responseTimeLimit, color: 'red' },
      ],
    })),
    { title: 'Interval', expr: maxBy(server, upstreams.series(metrics.heartbeatInterval)), unit: 's', decimals: 0 },
    {
      title: 'Last answer',
      expr: `1000 * ${maxBy(server, upstreams.series(metrics.heartbeatLastSuccess))}`,
      unit: 'dateTimeFromNow',
    },
    {
      title: 'Restarts',
      expr: sumBy(server, increase(upstreams.series(metrics.upstreamRestarts))),
      unit: 'short',
      decimals: 0,
    },
    { title: 'Tools', expr: maxBy(server, upstreams.series(metrics.upstreamTools)), unit: 'short' },
    { title: 'Sessions', expr: sumBy(server, upstreams.series(metrics.sessionsActive)), unit: 'short' },
  ],
  sortBy: { title: 'Availability', descending: false },
})

const heartbeats: readonly PanelPlan[] = [
  timeSeries({
    title: 'Failed heartbeats',
    description:
      'The share of heartbeats that failed. A server is suspect above the dashed line. Absent while clients keep a healthy server so busy that it is not asked.',
    queries: [{ expr: heartbeatErrorShare(upstreams, server, rate), legend }],
    unit: 'percentunit',
    limits: [[errorShareLimit, 'red']],
    max: 1,
    link: linkFromSeries,
    width: 12,
  }),
  timeSeries({
    title: 'Interval',
    description: 'Time between two heartbeats as adapted: short under suspicion, long when all is well.',
    queries: [{ expr: maxBy(server, upstreams.series(metrics.heartbeatInterval)), legend }],
    unit: 's',
    link: linkFromSeries,
    width: 12,
  }),
  ...[0.5, 0.95, 0.99].map((ratio) =>
    timeSeries({
      title: `Heartbeat latency, p${ratio * 100}`,
      description: `The time within which ${ratio * 100} % of the answered heartbeats were answered. Slow above the dashed line.`,
      queries: [{ expr: heartbeatQuantile(upstreams, ratio, server, rate), legend }],
      unit: 's',
      limits: [[responseTimeLimit, 'red']],
      link: linkFromSeries,
      width: 8,
    }),
  ),
]

const requests: readonly PanelPlan[] = [
  timeSeries({
    title: 'Requests',
    description: 'Requests of clients per second, by server.',
    queries: [{ expr: sumBy(server, rate(upstreams.counts(metrics.serverOperationDuration))), legend }],
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 'reqps',
    stacked: true,
    link: linkFromSeries,
    width: 8,
  }),
  timeSeries({
    title: 'Failed requests',
    description:
      'The share of requests that ended with an error, in JSON-RPC, of a tool (isError) or below; mistakes of the callers themselves are none.',
    queries: [{ expr: requestErrorShare(upstreams, server, rate), legend }],
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 'percentunit',
    limits: [[errorShareLimit, 'red']],
    max: 1,
    link: linkFromSeries,
    width: 8,
  }),
  timeSeries({
    title: 'Request latency, p95',
    description: 'The time within which 95 % of the requests were answered, as clients see it.',
    queries: [
      {
        expr: quantile(0.95, server, rate(upstreams.buckets(metrics.serverOperationDuration))),
        legend,
        exemplars: true,
      },
    ],
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 's',
    link: linkFromSeries,
    width: 8,
  }),
]

const outages: readonly PanelPlan[] = [
  events({
    title: 'Restarts',
    description: 'Processes that were started again, by reason.',
    queries: [
      {
        expr: `${sumBy([...server, label.reason], recentIncrease(upstreams.series(metrics.upstreamRestarts)))} > 0`,
        legend: `${legend}: ${legendOf(label.reason)}`,
      },
    ],
    emptyWhenHealthy: 'nothing had to be started again.',
    unit: 'short',
    link: linkFromSeries,
    width: 12,
  }),
  timeSeries({
    title: 'Unavailable',
    description: 'The part of the time during which each server was unavailable.',
    queries: [{ expr: sumBy(server, rate(upstreams.series(metrics.upstreamUnavailable))), legend }],
    unit: 'percentunit',
    max: 1,
    link: linkFromSeries,
    width: 12,
  }),
]

export const fleet: DashboardPlan = {
  name: 'fleet',
  description: 'All MCP servers at a glance: what needs action first, then how each of them is doing.',
  from: 'now-1h',
  upstream: 'any',
  first: [needsAction],
  sections: [
    { title: 'Now', panels: [...now, timeline, everyServer] },
    { title: 'Heartbeats', panels: heartbeats },
    { title: 'Requests of clients', panels: requests },
    { title: 'Outages', panels: outages },
  ],
}
