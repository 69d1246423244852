/** Alerts on what servers do as a whole: whether they answer, how fast, and with what. */
import { defaults } from '../../src/defaults.ts'
import { label, metrics } from '../../src/telemetry/names.ts'
import { grouped, is, onInstance, onServer, select } from './promql.ts'
import { recorded } from './recording-rules.ts'
import { type Alert, debugPage } from './rule.ts'
import { unavailableRatio } from './slo.ts'

const { alerts, heartbeat } = defaults

/** It has an alert of its own, or its end is so recent that its traces are in the windows of others. */
export const hadOutage = `${unavailableRatio('10m')} > ${alerts.outageShare}`

export const isNotUp = `${select(metrics.upstreamUp)} == 0`

const needsAuth = `${select(metrics.upstreamState, { [label.state]: is('needs_auth') })} == 1`

/** Its value is how many seconds ago the server last answered, or 0 where it never did. */
const isDown = `${grouped(`time() - ${select(metrics.heartbeatLastSuccess)}\nor ${onServer}\n${select(metrics.upstreamUp)}`)}
and ${onServer} ${isNotUp}
unless ${onServer} ${needsAuth}
unless ${onServer} ${recorded.crashLooping}
unless ${onInstance} ${select(metrics.correlatedFailure)} == 1`

const clientsRefused = `${recorded.clientsRefused} > 0`

const percent = heartbeat.errorRateThresholdPercent
const slowSeconds = heartbeat.responseTimeThresholdMs / 1000

export const upstreamAlerts: readonly Alert[] = [
  {
    alert: 'McpUpstreamDown',
    when: 'a server is `down` or `starting` for 2 minutes; not where `McpProcessCrashLooping`, `McpUpstreamNeedsAuth` or `McpUpstreamsSilentTogether` tell more',
    expr: isDown,
    // Restarts come at once and after 1, 2, 4 … s: what that heals has healed by then.
    for: '2m',
    severity: 'critical',
    summary: 'An MCP server is down.',
    description:
      '{{ $labels.upstream }} ({{ $labels.transport }}) behind {{ $labels.instance }} is down: ' +
      '{{ if gt $value 0.0 }}its last answer was {{ $value | humanizeDuration }} ago.' +
      '{{ else }}it never answered since mcp-vitals started.{{ end }} Its clients get errors. ' +
      `Why, since when, and the end of its stderr: ${debugPage}`,
  },
  {
    alert: 'McpUpstreamsSilentTogether',
    when: 'more than half of at least five servers fell silent at the same time, for 1 minute: the fault is ours or the network’s',
    expr: `${select(metrics.correlatedFailure)} == 1`,
    for: '1m',
    severity: 'critical',
    summary: 'Most MCP servers fell silent at the same time.',
    description:
      'More than half of the servers behind {{ $labels.instance }} fell silent within seconds of each other, so the ' +
      'fault is that of mcp-vitals, its machine or the network, not theirs; for them alone there is no alert. Which: ' +
      "curl 'http://{{ $labels.instance }}/debug/heartbeat' (silent_together)",
    dashboard: 'sidecar',
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    when: `more than ${percent} % and at least ${alerts.heartbeatMisses} of a server’s heartbeats in 10 minutes were missed, for 1 minute, though it was up`,
    expr: `${recorded.heartbeatsMissedRatio} > ${percent / 100}
and
${recorded.heartbeatsMissed} >= ${alerts.heartbeatMisses}
unless ${onServer}
${hadOutage}`,
    for: '1m',
    severity: 'warning',
    summary: 'An MCP server leaves heartbeats unanswered now and then.',
    description:
      '{{ $labels.upstream }} behind {{ $labels.instance }} missed {{ $value | humanizePercentage }} of its heartbeats ' +
      `in the last 10 minutes (threshold ${percent} %), and is up in between. What they met is in "failures" and ` +
      `"patterns" of ${debugPage}`,
  },
  {
    alert: 'McpHeartbeatSlow',
    when: `half of a server’s heartbeats in 5 minutes took longer than ${slowSeconds * 1000} ms, for 5 minutes, though it was up`,
    // The median: one late answer among ten quick ones is no slow server, but a mean would call it one.
    expr: `${recorded.heartbeatP50} > ${slowSeconds}\nunless ${onServer} ${isNotUp}`,
    for: '5m',
    severity: 'warning',
    summary: 'An MCP server answers its heartbeats slowly.',
    description:
      'Half of the heartbeats of {{ $labels.upstream }} behind {{ $labels.instance }} take {{ $value | humanizeDuration }} ' +
      `or longer (threshold ${slowSeconds * 1000} ms), and so do its clients’ requests. ${debugPage}`,
  },
  {
    alert: 'McpUpstreamFlapping',
    when: `a server went down at least ${alerts.flaps} times in 30 minutes, the last time within 10`,
    expr: `${recorded.outages} >= ${alerts.flaps}
and
${recorded.outagesLately} > 0
unless ${onServer}
${recorded.crashLooping}`,
    severity: 'warning',
    summary: 'An MCP server goes down and comes back again and again.',
    description:
      '{{ $labels.upstream }} behind {{ $labels.instance }} went down {{ $value | humanize }} times in the last 30 ' +
      `minutes and came back each time. What each began with: ${debugPage}`,
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    when: 'a server is `needs_auth` for 5 minutes: it refuses our credentials, and no client was answered lately',
    expr: `${needsAuth}\nunless ${onServer} ${clientsRefused}`,
    for: '5m',
    severity: 'warning',
    summary: 'An MCP server refuses the credentials of mcp-vitals.',
    description:
      '{{ $labels.upstream }} ({{ $labels.transport }}) answers heartbeats from {{ $labels.instance }} with 401 or 403, ' +
      'or no token can be had for it, and no client was answered lately. Nobody was refused in the last 10 minutes, but ' +
      `whether it works is unknown. The reason: ${debugPage}`,
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    when: 'the same for 2 minutes, and clients were refused as well in the last 10',
    expr: `${needsAuth}\nand ${onServer} ${clientsRefused}`,
    for: '2m',
    severity: 'critical',
    summary: 'An MCP server refuses the credentials of mcp-vitals and of clients.',
    description:
      '{{ $labels.upstream }} ({{ $labels.transport }}) answers heartbeats from {{ $labels.instance }} and requests of ' +
      'clients with 401 or 403, or no token can be had for it. Most likely a credential has expired or was revoked. ' +
      `The reason: ${debugPage}`,
  },
]
