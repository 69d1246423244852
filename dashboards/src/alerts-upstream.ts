/** Alerts on what servers do as a whole: whether they answer, how fast, and with what. */
import { defaults } from '../../src/defaults.ts'
import { label, metrics } from '../../src/telemetry/names.ts'
import { grouped, is, onServer, select } from './promql.ts'
import { recorded } from './recording-rules.ts'
import { type Alert, debugPage, reasonPage, theServer, wholeValue } from './rule.ts'
import { unavailableRatio } from './slo.ts'

const { alerts, heartbeat } = defaults

/** A crash loop is told of, or its end is so recent that its traces are in the windows of others. */
const hadCrashLoop = `max_over_time(${recorded.crashes}[10m]) >= ${alerts.crashes}`

/** The same of any outage. */
export const hadOutage = grouped(`${unavailableRatio('10m')} > ${alerts.outageShare}\nor\n${hadCrashLoop}`)

export const isNotUp = `${select(metrics.upstreamUp)} == 0`

const needsAuth = `${select(metrics.upstreamState, { [label.state]: is('needs_auth') })} == 1`

/** Its value is how many seconds ago the server last answered, or 0 where it never did. */
const isDown = `${grouped(`time() - ${select(metrics.heartbeatLastSuccess)}\nor ${onServer}\n${select(metrics.upstreamUp)}`)}
and ${onServer} ${isNotUp}
unless ${onServer} ${needsAuth}
unless ${onServer} ${recorded.crashLooping}
unless ${onServer} ${select(metrics.upstreamSilentTogether)} == 1`

const clientsRefused = `${recorded.clientsRefused} > 0`

const percent = heartbeat.errorRateThresholdPercent
const slowSeconds = heartbeat.responseTimeThresholdMs / 1000

export const upstreamAlerts: readonly Alert[] = [
  {
    alert: 'McpUpstreamDown',
    when: 'a server is `down`, or `starting`, for 2 minutes, and no more telling alert fires (silent together, needs auth, crash looping)',
    expr: isDown,
    // Restarts come at once and after 1, 2, 4 … s: what those heal has healed by then.
    for: '2m',
    severity: 'critical',
    summary: 'An MCP server is down.',
    description:
      `${theServer} ({{ $labels.transport }}) is down: ` +
      '{{ if gt $value 0.0 }}its last answer was {{ $value | humanizeDuration }} ago' +
      '{{ else }}it never answered since mcp-vitals started{{ end }}. Its clients get errors. ' +
      `Why: ${reasonPage}`,
  },
  {
    alert: 'McpUpstreamsSilentTogether',
    when: 'more than half of at least five servers fell silent at the same time and stay so for 1 minute: the fault is ours or the network’s',
    expr: `${select(metrics.correlatedFailure)} == 1`,
    for: '1m',
    severity: 'critical',
    summary: 'Most MCP servers fell silent at the same time.',
    description:
      'More than half of the servers behind {{ $labels.instance }} fell silent within seconds of each other: suspect ' +
      'the network, the machine or mcp-vitals, and not the servers. McpUpstreamDown is held back for them. Which ones: ' +
      "curl 'http://{{ $labels.instance }}/debug/heartbeat' (silent_together)",
    dashboard: 'sidecar',
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    when: `more than ${percent} % and at least ${alerts.heartbeatMisses} of a server’s heartbeats in 10 minutes were missed, for 1 minute, and no outage explains it`,
    expr: `${recorded.heartbeatsMissedRatio} > ${percent / 100}
and
${recorded.heartbeatsMissed} >= ${alerts.heartbeatMisses}
unless ${onServer}
${hadOutage}`,
    for: '1m',
    severity: 'warning',
    summary: 'An MCP server leaves heartbeats unanswered now and then.',
    description:
      `${theServer} left {{ $value | humanizePercentage }} of its heartbeats in the last 10 minutes without an answer ` +
      `(threshold ${percent} %), and answers in between. With what: "failures" and "patterns" of ${debugPage}`,
  },
  {
    alert: 'McpHeartbeatSlow',
    when: `half of a server’s heartbeats in 5 minutes took longer than ${slowSeconds * 1000} ms, for 5 minutes, while it was up`,
    // The median: one late answer among ten quick ones is no slow server, but their mean would say so.
    expr: `${recorded.heartbeatP50} > ${slowSeconds}
unless ${onServer}
${isNotUp}`,
    for: '5m',
    severity: 'warning',
    summary: 'An MCP server answers its heartbeats slowly.',
    description:
      `Half of the heartbeats of ${theServer} take longer than {{ $value | humanizeDuration }} ` +
      `(threshold ${slowSeconds * 1000} ms); its clients wait at least as long. Times and reasons: ${debugPage}`,
  },
  {
    alert: 'McpUpstreamFlapping',
    when: `a server went down at least ${alerts.flaps} times in 30 minutes, the last time within 10, for 2 minutes`,
    expr: `${recorded.outages} >= ${alerts.flaps}
and
${recorded.outagesLately} > 0
unless ${onServer}
${hadCrashLoop}`,
    // The last of them may be part of a crash loop, which shows with the next restart.
    for: '2m',
    severity: 'warning',
    summary: 'An MCP server goes down and comes back again and again.',
    description:
      `${theServer} went down ${wholeValue} times in the last 30 minutes. What each began with: "failures" and ` +
      `"patterns" of ${debugPage}`,
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    when: 'a server is `needs_auth` for 5 minutes: it refuses our heartbeats, and no client was answered lately',
    expr: `${needsAuth}
unless ${onServer}
${clientsRefused}`,
    for: '5m',
    severity: 'warning',
    summary: 'An MCP server refuses the credentials of mcp-vitals.',
    description:
      `${theServer} ({{ $labels.transport }}) refuses our heartbeats with 401 or 403, or no token can be had for it. ` +
      'No client was refused in the last 10 minutes, and none was answered lately, so nobody knows whether it works. ' +
      `Why: ${reasonPage}`,
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    when: 'the same for 2 minutes, and clients were refused as well in the last 10',
    expr: `${needsAuth}
and ${onServer}
${clientsRefused}`,
    for: '2m',
    severity: 'critical',
    summary: 'An MCP server refuses the credentials of mcp-vitals and of clients.',
    description:
      `${theServer} ({{ $labels.transport }}) refuses heartbeats and clients with 401 or 403, or no token can be had for ` +
      `it: most likely a credential has expired or was revoked. Why: ${reasonPage}`,
  },
]
