/** What somebody has to see to now: the first thing on the first dashboard. */
import { defaults } from '../../../src/defaults.ts'
import { isAnswered, isFailure, isMiss, outcomes } from '../../../src/heartbeat/classify.ts'
import { type State, isUp, states } from '../../../src/heartbeat/verdict.ts'
import { label, labelName, metrics, semconv } from '../../../src/telemetry/names.ts'
import { type AlertName, runbookBase } from '../links.ts'
import { is, onInstance, onServer, oneOf, targetLabels } from '../promql.ts'
import { crashReasons } from '../recording-rules.ts'
import { type Severity, severities } from '../rule.ts'
import { increase, names, share, sumBy } from './expressions.ts'
import {
  type Over,
  failedOperations,
  heartbeatQuantile,
  heartbeatsWith,
  requestErrorShare,
  toolCalls,
} from './heartbeat-queries.ts'
import { errorShareLimit, mapping, responseTimeLimit } from './look.ts'
import type { PanelPlan } from './plan.ts'
import { foreign, ofSidecars, sidecars, upstreams } from './scope.ts'
import { linkFromRow } from './server-link.ts'
import { table } from './table.ts'

/** One thing that may be wrong. Its alert says the same to whoever is on call, and has the runbook. */
interface Problem {
  readonly alert: AlertName
  readonly severity: Severity
  /** Has a series for each server or sidecar that has the problem, and the figure that proves it. */
  readonly expr: string
  /** How the figure reads, `$1` standing for it. */
  readonly evidence: string
  /** What the figure is rounded to, 1 by default. */
  readonly roundedTo?: number
  readonly labels: readonly string[]
}

const { alerts, shedding } = defaults
const server = [...targetLabels, label.upstream]
const sidecar = [...targetLabels]

const over =
  (window: string): Over =>
  (series) =>
    increase(series, window)

function inState(...wanted: readonly State[]): string {
  return `(${upstreams.series(metrics.upstreamState, { [label.state]: oneOf(wanted) })} == 1)`
}

const isNotUp = `(${upstreams.series(metrics.upstreamUp)} == 0)`
const lastAnswer = upstreams.series(metrics.heartbeatLastSuccess)
const clientsRefused = sumBy(
  server,
  increase(
    upstreams.counts(metrics.clientOperationDuration, { [semconv.errorType]: is('upstream_unauthorized') }),
    '10m',
  ),
)
const crashesIn = (window: string) =>
  sumBy(server, increase(upstreams.series(metrics.upstreamRestarts, { [label.reason]: oneOf(crashReasons) }), window))
const isCrashLooping = `(${crashesIn('15m')} >= ${alerts.crashes} and ${crashesIn('5m')} > 0 or ${onServer} (${crashesIn('15m')} and ${onServer} ${inState('crash_loop')}))`
const areSilentTogether = `(${sidecars.series(metrics.correlatedFailure)} == 1)`
const isSilentTogether = `(${upstreams.series(metrics.upstreamSilentTogether)} == 1)`
/** These have alerts of their own. */
const unlessTold = `unless ${onServer} ${inState('needs_auth')} unless ${onServer} ${isCrashLooping} unless ${onServer} ${isSilentTogether}`
/** The windows of others still hold what a crash loop or another outage left there. */
const hadCrashLoop = `(max_over_time((${crashesIn('15m')})[10m:15s]) >= ${alerts.crashes})`
const hadOutage = `(${sumBy(server, increase(upstreams.series(metrics.upstreamUnavailable), '10m'))} > ${alerts.outageShare * 600} or ${hadCrashLoop})`
const telling = outcomes.filter((outcome) => isAnswered(outcome) || isFailure(outcome))
const misses = heartbeatsWith(upstreams, outcomes.filter(isMiss), server, over('10m'))
const missedShare = share(misses, heartbeatsWith(upstreams, telling, server, over('10m')))
const tool = [...server, semconv.toolName]
const toolErrors = sumBy(
  tool,
  increase(upstreams.counts(metrics.serverOperationDuration, { ...toolCalls, ...failedOperations }), '10m'),
)
const toolErrorShare = requestErrorShare(upstreams, tool, over('10m'), toolCalls)
const tools = upstreams.series(metrics.upstreamTools)
const outages = upstreams.series(metrics.upstreamStateChanges, {
  [label.from]: oneOf(states.filter((state) => isUp(state) === true)),
  [label.to]: oneOf(states.filter((state) => isUp(state) === false && state !== 'starting')),
})
/** What clients feel; traces are given up before. */
const refused = sidecars.series(metrics.shed, { [label.what]: oneOf(['session', 'tool_call']) })
const lastLoad = sumBy(sidecar, sidecars.series(metrics.configReloadTimestamp))

const problems: readonly Problem[] = [
  {
    alert: 'McpVitalsDown',
    severity: 'critical',
    expr: ofSidecars(`(${foreign('up')} == 0)`, '1d'),
    evidence: 'Prometheus cannot scrape this mcp-vitals',
    labels: sidecar,
  },
  {
    alert: 'McpUpstreamsSilentTogether',
    severity: 'critical',
    expr: areSilentTogether,
    evidence: 'more than half of the servers fell silent together',
    labels: sidecar,
  },
  {
    alert: 'McpUpstreamDown',
    severity: 'critical',
    expr: `time() - ${lastAnswer} and ${onServer} ${isNotUp} ${unlessTold}`,
    evidence: 'not up: the last answer was $1 s ago',
    labels: server,
  },
  {
    alert: 'McpUpstreamDown',
    severity: 'critical',
    expr: `${isNotUp} unless ${onServer} ${lastAnswer} ${unlessTold}`,
    evidence: 'not up: it never answered',
    labels: server,
  },
  {
    alert: 'McpProcessCrashLooping',
    severity: 'critical',
    expr: `${crashesIn('15m')} and ${onServer} ${isCrashLooping}`,
    evidence: '$1 restarts in 15 minutes',
    labels: server,
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    severity: 'critical',
    expr: `${clientsRefused} > 0 and ${onServer} ${inState('needs_auth')}`,
    evidence: 'refuses our credentials, and $1 requests of clients in 10 minutes',
    labels: server,
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    severity: 'warning',
    expr: `${inState('needs_auth')} unless ${onServer} (${clientsRefused} > 0)`,
    evidence: 'refuses our credentials',
    labels: server,
  },
  {
    alert: 'McpUpstreamFlapping',
    severity: 'warning',
    expr: `${sumBy(server, increase(outages, '30m'))} >= ${alerts.flaps} and ${sumBy(server, increase(outages, '10m'))} > 0 unless ${onServer} ${hadCrashLoop}`,
    evidence: '$1 outages in 30 minutes',
    labels: server,
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    severity: 'warning',
    expr: `100 * (${missedShare} > ${errorShareLimit}) and (${misses} >= ${alerts.heartbeatMisses}) unless ${onServer} ${hadOutage}`,
    evidence: '$1 % of the heartbeats were missed in 10 minutes',
    roundedTo: 0.1,
    labels: server,
  },
  {
    alert: 'McpHeartbeatSlow',
    severity: 'warning',
    expr: `${heartbeatQuantile(upstreams, 0.5, server, over('5m'))} > ${responseTimeLimit} unless ${onServer} ${isNotUp}`,
    evidence: 'half of the heartbeats in 5 minutes took longer than $1 s',
    roundedTo: 0.1,
    labels: server,
  },
  {
    alert: 'McpSessionsWithIssues',
    severity: 'warning',
    expr: `${sumBy(server, upstreams.series(metrics.sessionsWithIssues))} > 0 unless ${onServer} ${isNotUp}`,
    evidence: '$1 client sessions with issues',
    labels: server,
  },
  {
    alert: 'McpInventoryShrank',
    severity: 'warning',
    expr: `max_over_time(${tools}[1d]) - ${tools} > 0 and ${onServer} ${inState('degraded')}`,
    evidence: '$1 tools fewer than in the last day',
    labels: server,
  },
  {
    alert: 'McpToolErrorRateHigh',
    severity: 'warning',
    expr: `100 * (${toolErrorShare} > ${alerts.toolErrorRatio}) and (${toolErrors} >= ${alerts.toolErrors}) unless ${onServer} ${hadOutage}`,
    evidence: '$1 % of the calls failed in 10 minutes',
    roundedTo: 0.1,
    labels: tool,
  },
  {
    alert: 'McpConnectionPoolExhausted',
    severity: 'warning',
    expr: `${upstreams.series(metrics.upstreamQueueLength)} > 0 unless ${onServer} ${isNotUp}`,
    evidence: '$1 requests wait for their turn',
    labels: server,
  },
  {
    alert: 'McpVitalsOverloaded',
    severity: 'warning',
    expr: `100 * (avg_over_time(${sidecars.series(metrics.loadRatio)}[5m]) > ${shedding.loadFrom})`,
    evidence: 'mcp-vitals itself is at $1 % of its load',
    roundedTo: 0.1,
    labels: sidecar,
  },
  {
    alert: 'McpVitalsOverloaded',
    severity: 'critical',
    expr: `${sumBy(sidecar, increase(refused, '2m'))} > 0`,
    evidence: 'mcp-vitals is overloaded: $1 sessions and calls refused in 2 minutes',
    labels: sidecar,
  },
  {
    alert: 'McpVitalsConfigReloadFailed',
    severity: 'warning',
    expr: `time() - ${lastLoad} and ${onInstance} (${sidecars.series(metrics.configReloadSuccessful)} == 0)`,
    evidence: 'the last reload failed: the configuration is $1 s old',
    labels: sidecar,
  },
  {
    alert: 'McpVitalsLabelOverflow',
    severity: 'info',
    expr: `${sumBy(server, increase(upstreams.series(metrics.labelOverflow), '1h'))} > ${alerts.labelOverflows}`,
    evidence: '$1 requests without the name of their tool in the last hour',
    labels: server,
  },
]

/** Bigger is worse. */
const weights: Readonly<Record<Severity, number>> = { critical: 3, warning: 2, info: 1 }

const colors: Readonly<Record<Severity, string>> = { critical: 'red', warning: 'orange', info: 'blue' }

/** The problem's series with its name and its figure as labels, and its severity as value: rows of the table. */
function rowsOf({ alert, severity, expr, evidence, roundedTo = 1, labels }: Problem): string {
  const figures = `count_values by (${names(labels)}) ("evidence", round(${expr}, ${roundedTo}))`
  const readable = `label_replace(${figures}, "evidence", "${evidence}", "evidence", "(.+)")`
  return `${weights[severity]} * label_replace(${readable}, "alert", "${alert}", "", "")`
}

export const needsAction: PanelPlan = table({
  title: 'Needs action',
  description:
    'What somebody has to see to now, the worst first. The server leads to its dashboard, the alert to its runbook. The conditions are those of the alerts without their patience, so a row comes before its alert fires, and whether or not the rules are loaded. Growing memory and the error budget are left to the alerts.',
  emptyWhenHealthy: 'nothing needs action.',
  empty: 'Nothing needs action',
  width: 24,
  labels: [
    { label: label.upstream, title: 'Upstream', link: linkFromRow },
    { label: 'instance', title: 'Instance' },
    {
      label: 'alert',
      title: 'Alert',
      link: { title: 'Runbook of ${__value.text}', url: `${runbookBase}/\${__value.raw}.md` },
    },
    { label: 'evidence', title: 'Evidence' },
    { label: labelName(semconv.toolName), title: 'Tool' },
  ],
  values: [
    {
      title: 'Severity',
      expr: problems.map(rowsOf).join('\nor '),
      unit: 'none',
      mappings: [
        mapping(
          Object.fromEntries(
            severities.map((severity) => [weights[severity], { text: severity, color: colors[severity] }]),
          ),
        ),
      ],
      width: 110,
    },
  ],
  sortBy: { title: 'Severity', descending: true },
})
