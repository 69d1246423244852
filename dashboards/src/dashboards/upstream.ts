/** One server, with everything that is known about it. */
import { label, metrics } from '../../../src/telemetry/names.ts'
import { isNot } from '../promql.ts'
import { increase, legendOf, maxBy, rate, recentIncrease, sumBy } from './expressions.ts'
import { heartbeatErrorShare, heartbeatQuantile } from './heartbeat-queries.ts'
import {
  availabilitySteps,
  errorShareLimit,
  responseTimeLimit,
  stateMapping,
  stateNumber,
  stepsFrom,
  thresholds,
} from './look.ts'
import { events, heatmap, stat, stateTimeline, timeSeries } from './panels.ts'
import type { DashboardPlan, PanelPlan } from './plan.ts'
import { oneUpstream } from './scope.ts'
import { requests, tools } from './upstream-requests.ts'
import { processes, sessions, traffic } from './upstream-resources.ts'

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
    description:
      'The part of the time during which the server was available, over the range of the dashboard. Green where the objective is met.',
    queries: [{ expr: `1 - avg(${increase(oneUpstream.series(metrics.upstreamUnavailable))}) / $__range_s` }],
    unit: 'percentunit',
    decimals: 2,
    thresholds: availabilitySteps(),
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
    description:
      'The rung of the ladder in use: traffic while the server answers its clients, else what heartbeats ask.',
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
    width: 8,
  }),
  timeSeries({
    title: 'Unavailable',
    description: 'The part of the time during which the server was unavailable, as each sidecar sees it.',
    queries: [{ expr: sumBy(instance, rate(oneUpstream.series(metrics.upstreamUnavailable))), legend: byInstance }],
    unit: 'percentunit',
    max: 1,
    width: 8,
  }),
  timeSeries({
    title: 'Flap penalty',
    description: 'How much the server goes down and comes back: 1 for each outage, halved every five minutes.',
    queries: [{ expr: maxBy(instance, oneUpstream.series(metrics.upstreamFlapPenalty)), legend: byInstance }],
    unit: 'short',
    width: 8,
  }),
]

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
