/** The sessions of clients: how many, how well, how long, and the event streams in them. */
import { errorCodes } from '../../../src/errors.ts'
import { label, metrics, semconv } from '../../../src/telemetry/names.ts'
import { is, isNot, oneOf } from '../promql.ts'
import { legendOf, quantile, rate, recentIncrease, sum, sumBy } from './expressions.ts'
import { answeredOutcomes } from './heartbeat-queries.ts'
import { stepsFrom, thresholds } from './look.ts'
import { events, heatmap, stat, timeSeries } from './panels.ts'
import type { DashboardPlan, PanelPlan } from './plan.ts'
import { sidecars, upstreams } from './scope.ts'
import { linkFromRow, linkFromSeries } from './server-link.ts'
import { table } from './table.ts'

const server = ['instance', label.upstream]
const legend = `${legendOf(label.upstream)} on {{instance}}`
const blue = stepsFrom('blue', [])

const now: readonly PanelPlan[] = [
  stat({
    title: 'Sessions',
    description: 'Client sessions that are open.',
    queries: [{ expr: sum(upstreams.series(metrics.sessionsActive)) }],
    unit: 'none',
    thresholds: blue,
    width: 6,
  }),
  stat({
    title: 'With issues',
    description: 'Sessions of which one end stopped answering heartbeats, or whose server is unavailable.',
    queries: [{ expr: sum(upstreams.series(metrics.sessionsWithIssues)) }],
    unit: 'none',
    thresholds: thresholds([1, 'red']),
    width: 6,
  }),
  stat({
    title: 'Messages pending',
    description: 'Messages that wait to be delivered or answered.',
    queries: [{ expr: sum(upstreams.series(metrics.sessionMessagesPending)) }],
    unit: 'none',
    thresholds: blue,
    width: 6,
  }),
  stat({
    title: 'Streams',
    description: 'Event streams that are open towards clients.',
    queries: [{ expr: sum(upstreams.series(metrics.streamsOpen)) }],
    emptyWhenHealthy: 'no client opened a stream.',
    unit: 'none',
    thresholds: blue,
    width: 6,
  }),
  table({
    title: 'Sessions by server',
    description: 'What is open now, by server and the client’s transport. The server leads to its dashboard.',
    width: 24,
    height: 8,
    labels: [
      { label: label.upstream, title: 'Upstream', link: linkFromRow },
      { label: 'instance', title: 'Instance' },
      { label: label.transport, title: 'Client’s transport' },
    ],
    values: [
      { title: 'Sessions', metric: metrics.sessionsActive },
      { title: 'With issues', metric: metrics.sessionsWithIssues },
      { title: 'Messages pending', metric: metrics.sessionMessagesPending },
      { title: 'Streams', metric: metrics.streamsOpen },
    ].map(({ title, metric }) => ({
      title,
      expr: sumBy([...server, label.transport], upstreams.series(metric)),
      unit: 'short',
    })),
    sortBy: { title: 'With issues', descending: true },
  }),
]

const open: readonly PanelPlan[] = [
  timeSeries({
    title: 'Sessions',
    description: 'Client sessions that are open.',
    queries: [{ expr: sumBy(server, upstreams.series(metrics.sessionsActive)), legend }],
    unit: 'short',
    stacked: true,
    link: linkFromSeries,
    width: 12,
  }),
  timeSeries({
    title: 'Sessions by transport',
    description: 'Client sessions that are open, by the client’s transport.',
    queries: [
      { expr: sumBy([label.transport], upstreams.series(metrics.sessionsActive)), legend: legendOf(label.transport) },
    ],
    unit: 'short',
    stacked: true,
    width: 12,
  }),
  timeSeries({
    title: 'Sessions with issues',
    description: 'Sessions of which one end stopped answering heartbeats, or whose server is unavailable.',
    queries: [{ expr: sumBy(server, upstreams.series(metrics.sessionsWithIssues)), legend }],
    unit: 'short',
    limits: [[1, 'red']],
    link: linkFromSeries,
    width: 12,
  }),
  timeSeries({
    title: 'Messages pending',
    description:
      'Messages of all sessions that wait to be delivered or answered. What only grows is a server that hangs or a client that does not read.',
    queries: [{ expr: sumBy(server, upstreams.series(metrics.sessionMessagesPending)), legend }],
    unit: 'short',
    link: linkFromSeries,
    width: 12,
  }),
]

const ended: readonly PanelPlan[] = [
  heatmap({
    title: 'Length of sessions',
    description: 'How long ended sessions lasted, by how many of them.',
    queries: [
      { expr: sumBy(['le'], recentIncrease(upstreams.buckets(metrics.serverSessionDuration))), legend: '{{le}}' },
    ],
    emptyWhenHealthy: 'no session ended.',
    unit: 's',
    width: 8,
  }),
  timeSeries({
    title: 'Length of sessions',
    description: 'The times within which half and 95 % of the sessions ended, of those that ended.',
    queries: [0.5, 0.95].map((ratio) => ({
      expr: quantile(ratio, [], rate(upstreams.buckets(metrics.serverSessionDuration))),
      legend: `p${ratio * 100}`,
    })),
    emptyWhenHealthy: 'no session ended.',
    unit: 's',
    width: 8,
  }),
  events({
    title: 'Ended sessions',
    description:
      'Sessions that ended, as they should or by an error: upstream_exited is a process that ended under one.',
    queries: [
      {
        expr: sum(recentIncrease(upstreams.counts(metrics.serverSessionDuration, { [semconv.errorType]: is('') }))),
        legend: 'without error',
      },
      {
        expr: sumBy(
          [semconv.errorType],
          recentIncrease(upstreams.counts(metrics.serverSessionDuration, { [semconv.errorType]: isNot('') })),
        ),
        legend: legendOf(semconv.errorType),
      },
    ],
    emptyWhenHealthy: 'no session ended.',
    unit: 'short',
    width: 8,
  }),
]

const inSessions = { [label.leg]: oneOf(['session', 'client']) }
const refusals = errorCodes.filter((code) => code.includes('session'))

const troubles: readonly PanelPlan[] = [
  events({
    title: 'Heartbeats inside sessions',
    description:
      'Heartbeats inside clients’ sessions: towards the server (session) and towards the client, by outcome.',
    queries: [
      {
        expr: `${sumBy([label.leg, label.outcome], recentIncrease(upstreams.series(metrics.heartbeats, inSessions)))} > 0`,
        legend: `${legendOf(label.leg)}: ${legendOf(label.outcome)}`,
      },
    ],
    emptyWhenHealthy: 'no session was idle for long enough to be asked.',
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Latency inside sessions, p95',
    description: 'The time within which 95 % of the heartbeats inside sessions were answered.',
    queries: [
      {
        expr: quantile(
          0.95,
          [label.leg],
          rate(
            upstreams.buckets(metrics.heartbeatDuration, { ...inSessions, [label.outcome]: oneOf(answeredOutcomes) }),
          ),
        ),
        legend: legendOf(label.leg),
      },
    ],
    emptyWhenHealthy: 'no session was idle for long enough to be asked.',
    unit: 's',
    width: 8,
  }),
  events({
    title: 'Refused for their session',
    description:
      'Requests that were refused because they name no session, one that is not there, or because there are too many.',
    queries: [
      {
        expr: sumBy(
          [label.reason],
          recentIncrease(sidecars.series(metrics.rejectedRequests, { [label.reason]: oneOf(refusals) })),
        ),
        legend: legendOf(label.reason),
      },
    ],
    unit: 'short',
    width: 8,
  }),
]

const streams: readonly PanelPlan[] = [
  timeSeries({
    title: 'Streams',
    description: 'Event streams that are open towards clients.',
    queries: [{ expr: sumBy(server, upstreams.series(metrics.streamsOpen)), legend }],
    emptyWhenHealthy: 'no client opened a stream.',
    unit: 'short',
    stacked: true,
    link: linkFromSeries,
    width: 8,
  }),
  timeSeries({
    title: 'Events',
    description: 'Events per second that passed on these streams.',
    queries: [{ expr: sumBy(server, rate(upstreams.series(metrics.streamEvents))), legend }],
    unit: 'eps',
    link: linkFromSeries,
    width: 8,
  }),
  events({
    title: 'Ended streams',
    description:
      'Event streams that ended, by why: client_gone, client_behind (it left 16 MiB unread) and replaced are the client’s doing, upstream_ended the server’s.',
    queries: [
      {
        expr: sumBy([label.reason], recentIncrease(upstreams.counts(metrics.streamDuration))),
        legend: legendOf(label.reason),
      },
    ],
    emptyWhenHealthy: 'no stream ended.',
    unit: 'short',
    width: 8,
  }),
]

export const sessions: DashboardPlan = {
  name: 'sessions',
  description: 'The sessions of clients: how many there are, which have issues, how long they last, and their streams.',
  from: 'now-1h',
  upstream: 'any',
  first: now,
  sections: [
    { title: 'Open sessions', panels: open },
    { title: 'Ended sessions', panels: ended },
    { title: 'Health of sessions', panels: troubles },
    { title: 'Event streams', panels: streams },
  ],
}
