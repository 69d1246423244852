/** mcp-vitals itself: whether it runs, what it costs, and which of its limits bite. */
import { defaults } from '../../../src/defaults.ts'
import { label, metrics } from '../../../src/telemetry/names.ts'
import { legendOf, maxBy, quantile, rate, recentIncrease, sumBy } from './expressions.ts'
import { mapping, stepsFrom, thresholds } from './look.ts'
import { events, stat, timeSeries } from './panels.ts'
import type { DashboardPlan, PanelPlan } from './plan.ts'
import { foreign, ofSidecars, sidecars } from './scope.ts'

const instance = ['instance']
const byInstance = '{{instance}}'
const blue = stepsFrom('blue', [])
const { loadFrom, loadUntil } = defaults.shedding
/** At this delay of the event loop our load is 1. */
const [, fullLoopDelayMs] = defaults.load.loopDelayMs

const now: readonly PanelPlan[] = [
  stat({
    title: 'Scraped',
    description: 'Whether Prometheus reaches mcp-vitals. What it last said is old while it does not.',
    queries: [{ expr: ofSidecars(foreign('up')), legend: byInstance }],
    unit: 'none',
    mappings: [mapping({ 0: { text: 'no', color: 'red' }, 1: { text: 'yes', color: 'green' } })],
    width: 4,
  }),
  stat({
    title: 'Version',
    description: 'What runs.',
    queries: [
      {
        expr: `max by (instance, ${label.version}, ${label.nodeVersion}) (${sidecars.series(metrics.buildInfo)})`,
        legend: `${legendOf(label.version)} on Node ${legendOf(label.nodeVersion)}`,
      },
    ],
    unit: 'none',
    namesOnly: true,
    thresholds: blue,
    width: 4,
  }),
  stat({
    title: 'Running since',
    description: 'When mcp-vitals was started.',
    queries: [{ expr: ofSidecars(`1000 * ${foreign('process_start_time_seconds')}`), legend: byInstance }],
    unit: 'dateTimeFromNow',
    thresholds: blue,
    width: 4,
  }),
  stat({
    title: 'Load',
    description: `Own load, from 0 (none) to 1. Work is given up from ${loadFrom} on.`,
    queries: [{ expr: maxBy(instance, sidecars.series(metrics.loadRatio)), legend: byInstance }],
    unit: 'percentunit',
    thresholds: thresholds([loadUntil, 'orange'], [loadFrom, 'red']),
    width: 4,
  }),
  stat({
    title: 'Last reload',
    description:
      'Whether the configuration was accepted when it was last loaded. The old one stays in force if it was not.',
    queries: [{ expr: maxBy(instance, sidecars.series(metrics.configReloadSuccessful)), legend: byInstance }],
    unit: 'none',
    mappings: [mapping({ 0: { text: 'failed', color: 'red' }, 1: { text: 'succeeded', color: 'green' } })],
    width: 4,
  }),
  stat({
    title: 'Configuration loaded',
    description: 'When the configuration that is in force was loaded.',
    queries: [
      { expr: `1000 * ${maxBy(instance, sidecars.series(metrics.configReloadTimestamp))}`, legend: byInstance },
    ],
    unit: 'dateTimeFromNow',
    thresholds: blue,
    width: 4,
  }),
]

const load: readonly PanelPlan[] = [
  timeSeries({
    title: 'Load',
    description: `Own load, from the delay of the event loop and the probes that wait. From ${loadFrom} on work is given up, until it is below ${loadUntil} again (dashed lines).`,
    queries: [{ expr: maxBy(instance, sidecars.series(metrics.loadRatio)), legend: byInstance }],
    unit: 'percentunit',
    limits: [
      [loadUntil, 'orange'],
      [loadFrom, 'red'],
    ],
    max: 1,
    width: 8,
  }),
  timeSeries({
    title: 'Event loop delay',
    description: 'How late the event loop is, as of at least the last 30 seconds. At the dashed line the load is full.',
    queries: [
      { expr: ofSidecars(foreign('nodejs_eventloop_lag_p50_seconds')), legend: `p50, ${byInstance}` },
      { expr: ofSidecars(foreign('nodejs_eventloop_lag_p99_seconds')), legend: `p99, ${byInstance}` },
    ],
    unit: 's',
    limits: [[fullLoopDelayMs / 1000, 'red']],
    width: 8,
  }),
  timeSeries({
    title: 'Requests',
    description: 'Requests of clients per second.',
    queries: [{ expr: sumBy(instance, rate(sidecars.counts(metrics.serverOperationDuration))), legend: byInstance }],
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 'reqps',
    width: 8,
  }),
  timeSeries({
    title: 'In flight and queued',
    description: 'Requests whose clients wait for a server, and those that wait for their turn.',
    queries: [
      { expr: sumBy(instance, sidecars.series(metrics.upstreamRequestsInFlight)), legend: `in flight, ${byInstance}` },
      { expr: sumBy(instance, sidecars.series(metrics.upstreamQueueLength)), legend: `queued, ${byInstance}` },
    ],
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Sessions and streams',
    description: 'Client sessions and event streams that are open.',
    queries: [
      { expr: sumBy(instance, sidecars.series(metrics.sessionsActive)), legend: `sessions, ${byInstance}` },
      { expr: sumBy(instance, sidecars.series(metrics.streamsOpen)), legend: `streams, ${byInstance}` },
    ],
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Heartbeats',
    description: 'Heartbeats per second, to all servers and in all sessions.',
    queries: [{ expr: sumBy(instance, rate(sidecars.series(metrics.heartbeats))), legend: byInstance }],
    unit: 'ops',
    width: 8,
  }),
]

const bites: readonly PanelPlan[] = [
  events({
    title: 'Given up',
    description:
      'What was given up because mcp-vitals was overloaded: first spans, then new sessions, then calls of tools.',
    queries: [
      { expr: sumBy([label.what], recentIncrease(sidecars.series(metrics.shed))), legend: legendOf(label.what) },
    ],
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Refused requests',
    description: 'Requests that a guard or a limit of mcp-vitals refused, by error code.',
    queries: [
      {
        expr: `${sumBy([label.reason], recentIncrease(sidecars.series(metrics.rejectedRequests)))} > 0`,
        legend: legendOf(label.reason),
      },
    ],
    emptyWhenHealthy: 'nothing was refused.',
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Undelivered messages',
    description: 'Messages that could not be delivered because a limit was reached or nobody was there.',
    queries: [
      {
        expr: `${sumBy([label.upstream, label.reason], recentIncrease(sidecars.series(metrics.droppedMessages)))} > 0`,
        legend: `${legendOf(label.upstream)}: ${legendOf(label.reason)}`,
      },
    ],
    emptyWhenHealthy: 'every message was delivered.',
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Label overflow',
    description: 'Requests recorded as _overflow: their tool or prompt was never announced, or there are too many.',
    queries: [
      {
        expr: sumBy([label.upstream], recentIncrease(sidecars.series(metrics.labelOverflow))),
        legend: legendOf(label.upstream),
      },
    ],
    unit: 'short',
    width: 6,
  }),
  events({
    title: 'Unreadable messages',
    description: 'Messages that passed unmeasured: no JSON-RPC, too long a batch, or an unknown encoding.',
    queries: [
      {
        expr: sumBy([label.upstream], recentIncrease(sidecars.series(metrics.unparsedMessages))),
        legend: legendOf(label.upstream),
      },
    ],
    unit: 'short',
    width: 6,
  }),
  events({
    title: 'Forgotten',
    description:
      'What was not remembered, because so much of its kind was: sessions, questions, requests, cancellations, tools.',
    queries: [
      {
        expr: sumBy([label.what], recentIncrease(sidecars.series(metrics.forgotten))),
        legend: legendOf(label.what),
      },
    ],
    unit: 'short',
    width: 6,
  }),
  events({
    title: 'Lost spans',
    description: 'Spans that never reached the collector: the queue was full, or the export failed.',
    queries: [
      {
        expr: sumBy([label.reason], recentIncrease(sidecars.series(metrics.droppedSpans))),
        legend: legendOf(label.reason),
      },
    ],
    unit: 'short',
    width: 6,
  }),
]

const noReceiver = 'mcp-vitals itself notifies nobody.'

const notifications: readonly PanelPlan[] = [
  events({
    title: 'Notifications',
    description:
      'Alerts that mcp-vitals itself sent, by what came of it: failed ones are tried again, rejected and dropped ones given up.',
    queries: [
      {
        expr: sumBy([label.receiver, label.outcome], recentIncrease(sidecars.series(metrics.notifications))),
        legend: `${legendOf(label.receiver)}: ${legendOf(label.outcome)}`,
      },
    ],
    emptyWhenHealthy: noReceiver,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Notifications that wait',
    description: 'Alerts that wait to be sent, those under way included.',
    queries: [
      {
        expr: sumBy([label.receiver], sidecars.series(metrics.notificationQueueLength)),
        legend: legendOf(label.receiver),
      },
    ],
    emptyWhenHealthy: noReceiver,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Answers of receivers, p95',
    description: 'The time within which 95 % of the notifications were answered.',
    queries: [
      {
        expr: quantile(0.95, [label.receiver], rate(sidecars.buckets(metrics.notificationDuration))),
        legend: legendOf(label.receiver),
      },
    ],
    emptyWhenHealthy: 'there was nothing to notify anybody of.',
    unit: 's',
    width: 8,
  }),
  events({
    title: 'Alerts that came in',
    description:
      'Alerts that Alertmanager sent to mcp-vitals: recovery is one that had something done, the others are those with nothing to do.',
    queries: [
      {
        expr: sumBy([label.outcome], recentIncrease(sidecars.series(metrics.receivedAlerts))),
        legend: legendOf(label.outcome),
      },
    ],
    emptyWhenHealthy: 'mcp-vitals takes no alerts (alerts.receive).',
    unit: 'short',
    width: 12,
  }),
  events({
    title: 'Recoveries',
    description: 'What these alerts asked for, and whether it was done: refused, limited and repeated ones were not.',
    queries: [
      {
        expr: `${sumBy([label.upstream, label.action, label.outcome], recentIncrease(sidecars.series(metrics.recoveries)))} > 0`,
        legend: `${legendOf(label.upstream)}: ${legendOf(label.action)} ${legendOf(label.outcome)}`,
      },
    ],
    emptyWhenHealthy: 'no alert asked for anything.',
    unit: 'short',
    width: 12,
  }),
]

const scrapes: readonly PanelPlan[] = [
  timeSeries({
    title: 'Scrape duration',
    description: 'How long Prometheus waited for /metrics.',
    queries: [{ expr: ofSidecars(foreign('scrape_duration_seconds')), legend: byInstance }],
    unit: 's',
    width: 8,
  }),
  timeSeries({
    title: 'Samples',
    description: 'Samples in a scrape, and how many of them were kept after relabelling.',
    queries: [
      { expr: ofSidecars(foreign('scrape_samples_scraped')), legend: `scraped, ${byInstance}` },
      { expr: ofSidecars(foreign('scrape_samples_post_metric_relabeling')), legend: `kept, ${byInstance}` },
    ],
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'New series',
    description:
      'Series that a scrape had and the one before it had not. After the start this should be near 0: label sets are bounded.',
    queries: [{ expr: ofSidecars(foreign('scrape_series_added')), legend: byInstance }],
    unit: 'short',
    width: 8,
  }),
]

const runtime: readonly PanelPlan[] = [
  timeSeries({
    title: 'CPU',
    description: 'CPU time per second of mcp-vitals itself, in cores; its servers are on their own dashboard.',
    queries: [{ expr: ofSidecars(rate(foreign('process_cpu_seconds_total'))), legend: byInstance }],
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Memory',
    description: 'Resident memory of mcp-vitals itself, and what of it is JavaScript’s heap and buffers.',
    queries: [
      { expr: ofSidecars(foreign('process_resident_memory_bytes')), legend: `resident, ${byInstance}` },
      { expr: ofSidecars(foreign('nodejs_heap_size_used_bytes')), legend: `heap used, ${byInstance}` },
      { expr: ofSidecars(foreign('nodejs_heap_size_total_bytes')), legend: `heap, ${byInstance}` },
      { expr: ofSidecars(foreign('nodejs_external_memory_bytes')), legend: `buffers, ${byInstance}` },
    ],
    unit: 'bytes',
    width: 8,
  }),
  timeSeries({
    title: 'Garbage collection',
    description: 'The part of the time that the event loop stood still for garbage collection.',
    queries: [
      {
        expr: ofSidecars(`sum by (job, instance) (${rate(foreign('nodejs_gc_duration_seconds_sum'))})`),
        legend: byInstance,
      },
    ],
    unit: 'percentunit',
    width: 8,
  }),
  timeSeries({
    title: 'Open files',
    description:
      'Open file descriptors, of those that the process may have. Above the dashed line it is time to allow more.',
    queries: [
      {
        expr: ofSidecars(`${foreign('process_open_fds')} / ${foreign('process_max_fds')}`),
        legend: byInstance,
      },
    ],
    unit: 'percentunit',
    limits: [[0.8, 'red']],
    width: 12,
  }),
  timeSeries({
    title: 'Handles',
    description: 'What keeps the event loop: sockets, servers, child processes.',
    queries: [
      {
        expr: ofSidecars(`sum by (job, instance, type) (${foreign('nodejs_active_handles')})`),
        legend: `{{type}}, ${byInstance}`,
      },
    ],
    unit: 'short',
    stacked: true,
    width: 12,
  }),
]

export const sidecar: DashboardPlan = {
  name: 'sidecar',
  description: 'mcp-vitals itself: whether it runs, what it costs, and which of its limits bite.',
  from: 'now-1h',
  upstream: 'none',
  first: now,
  sections: [
    { title: 'Load', panels: load },
    { title: 'Limits that bite', panels: bites },
    { title: 'Alerts out and in', panels: notifications },
    { title: 'Scrapes', panels: scrapes },
    { title: 'Process', panels: runtime },
  ],
}
