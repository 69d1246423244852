/** Alerts on mcp-vitals itself: while one of these fires, the others may say nothing. */
import { defaults } from '../../src/defaults.ts'
import { label, metrics } from '../../src/telemetry/names.ts'
import { grouped, onInstance, oneOf, select, sumKeeping } from './promql.ts'
import { type Alert, theServer, wholeValue } from './rule.ts'

const { alerts, shedding } = defaults

const buildInfo = select(metrics.buildInfo)
const reload = {
  successful: select(metrics.configReloadSuccessful),
  timestamp: select(metrics.configReloadTimestamp),
}

/** The targets of wrappers (`mcp-vitals stdio`) have this label; they end with their clients, and nobody is to be woken. */
const service = `up{${label.upstream}=""}`

/** What clients feel; traces are given up before. */
const refused = select(metrics.shed, { [label.what]: oneOf(['session', 'tool_call']) })

export const vitalsAlerts: readonly Alert[] = [
  {
    alert: 'McpVitalsDown',
    when: 'an mcp-vitals that runs as a service cannot be scraped for 2 minutes, or Prometheus knows of none at all',
    expr: `${grouped(`${service} == 0\nand ${onInstance}\nlast_over_time(${buildInfo}[1d])`)}\nor on ()\nabsent(${buildInfo})`,
    for: '2m',
    severity: 'critical',
    summary: 'An mcp-vitals is down, and nobody watches its MCP servers.',
    description:
      '{{ with $labels.instance }}{{ . }} cannot be scraped{{ else }}Prometheus scrapes no mcp-vitals at all{{ end }}. ' +
      'Clients that reach their servers through it get no answer, and the other alerts cannot see those servers.',
    dashboard: 'sidecar',
  },
  {
    alert: 'McpVitalsOverloaded',
    when: `our own load is above ${shedding.loadFrom * 100} % on average over 5 minutes, for 5 minutes`,
    expr: `avg_over_time(${select(metrics.loadRatio)}[5m]) > ${shedding.loadFrom}`,
    for: '5m',
    severity: 'warning',
    summary: 'An mcp-vitals is overloaded.',
    description:
      'The load of {{ $labels.instance }} was {{ $value | humanizePercentage }} of what it can bear, over 5 minutes ' +
      `(threshold ${shedding.loadFrom * 100} %). What passes through it may be delayed, and will be refused if that grows.`,
    dashboard: 'sidecar',
  },
  {
    alert: 'McpVitalsOverloaded',
    when: 'it refuses new sessions or tool calls because of that, in every 2 minutes for 5 minutes',
    expr: `${sumKeeping(metrics.shed, [], `increase(${refused}[2m])`)} > 0`,
    for: '5m',
    severity: 'critical',
    summary: 'An mcp-vitals refuses requests because it is overloaded.',
    description:
      `{{ $labels.instance }} is overloaded and refused ${wholeValue} new sessions and tool calls in the last ` +
      '2 minutes. Their clients get 503 overloaded.',
    dashboard: 'sidecar',
  },
  {
    alert: 'McpVitalsConfigReloadFailed',
    when: 'the last attempt to load the configuration failed, for 5 minutes',
    expr: `(time() - ${reload.timestamp})\nand ${onInstance}\n${reload.successful} == 0`,
    // Whoever edits the file may be about to mend it.
    for: '5m',
    severity: 'warning',
    summary: 'An mcp-vitals could not load its changed configuration.',
    description:
      '{{ $labels.instance }} runs with the configuration of {{ $value | humanizeDuration }} ago: its files changed since, ' +
      'and were refused. After a stop it may not come up again. What is wrong with them: ' +
      "curl 'http://{{ $labels.instance }}/debug/heartbeat' (config.last_reload)",
    dashboard: 'sidecar',
  },
  {
    alert: 'McpVitalsLabelOverflow',
    when: `more than ${alerts.labelOverflows} requests in an hour were recorded as \`_overflow\``,
    expr: `increase(${select(metrics.labelOverflow)}[1h]) > ${alerts.labelOverflows}`,
    severity: 'info',
    summary: 'Tools or prompts of an MCP server are measured without their names.',
    description:
      `${wholeValue} requests to ${theServer} in the last hour have no name of their own, but count as _overflow: it ` +
      'has too many tools or prompts, or clients ask for some that it does not list.',
  },
]
