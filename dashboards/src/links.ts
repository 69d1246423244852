/** Where the generated files point to: at each other, at the runbooks, at Grafana. */

// A closed list, like those of states and outcomes: what mcp-vitals sends by itself bears the names of the rules.
import { type AlertName, alertNames } from '../../src/alerts/names.ts'

/** Every alert; each has a rule, a runbook and tests. */
export { type AlertName, alertNames }

/** The runbooks, as a browser reaches them. */
export const runbookBase = 'https://github.com/mcp-vitals/mcp-vitals/blob/main/dashboards/runbooks'

/** Grafana, as deploy/docker/compose.yaml publishes it. */
export const grafanaBase = 'http://localhost:3000'

/** Grafana's name for each dashboard, part of its address; `dashboards/<file>.json` holds it. */
export const dashboardUids = {
  fleet: 'mcp-vitals-fleet',
  upstream: 'mcp-vitals-upstream',
  sessions: 'mcp-vitals-sessions',
  slo: 'mcp-vitals-slo',
  sidecar: 'mcp-vitals-sidecar',
} as const

export type DashboardName = keyof typeof dashboardUids

/** A dashboard, its variables set to the labels of the same names of the alert that links there. */
export function dashboardUrl(dashboard: DashboardName, variables: readonly string[]): string {
  const query = variables.map((name) => `var-${name}={{ $labels.${name} | urlquery }}`).join('&')
  return `${grafanaBase}/d/${dashboardUids[dashboard]}${query === '' ? '' : `?${query}`}`
}

export function runbookUrl(alert: AlertName): string {
  return `${runbookBase}/${alert}.md`
}
