import { label } from '../../src/telemetry/names.ts'
import { type AlertName, type DashboardName, dashboardUrl, runbookUrl } from './links.ts'
import { targetLabels } from './promql.ts'

/** A query whose result is kept under a name `level:metric:operation`. */
export interface RecordingRule {
  readonly record: string
  readonly expr: string
}

/**
 * critical: users suffer now, and it does not heal by itself. warning: look at it in office hours. info: good to know.
 */
export const severities = ['critical', 'warning', 'info'] as const
export type Severity = (typeof severities)[number]

/** An alerting rule as Prometheus reads it. */
export interface AlertingRule {
  readonly alert: AlertName
  readonly expr: string
  readonly for?: string
  readonly labels: { readonly severity: Severity } & Readonly<Record<string, string>>
  readonly annotations: {
    /** One sentence, the same for all servers. */
    readonly summary: string
    /** What is known of this one, and where to look. */
    readonly description: string
    readonly runbook_url: string
    readonly dashboard_url: string
  }
}

export type Rule = RecordingRule | AlertingRule

export interface RuleGroup {
  readonly name: string
  /** How often it is evaluated, if not as Prometheus is configured. */
  readonly interval?: string
  readonly rules: readonly Rule[]
}

/** What distinguishes one alert from another. */
export interface Alert {
  readonly alert: AlertName
  /** For the README: the condition in words. */
  readonly when: string
  readonly expr: string
  /** How long the condition must hold; absent where its window is delay enough. */
  readonly for?: string
  readonly severity: Severity
  readonly labels?: Readonly<Record<string, string>>
  readonly summary: string
  readonly description: string
  /** Where to look; of one server unless it says otherwise. */
  readonly dashboard?: DashboardName
}

/** The variables of each dashboard that an alert sets. */
const ofServer = [...targetLabels, label.upstream]

export function alertingRule(alert: Alert): AlertingRule {
  const { expr, severity, labels, summary, description, dashboard = 'upstream' } = alert
  return {
    alert: alert.alert,
    expr,
    ...(alert.for !== undefined && { for: alert.for }),
    labels: { severity, ...labels },
    annotations: {
      summary,
      description,
      runbook_url: runbookUrl(alert.alert),
      dashboard_url: dashboardUrl(dashboard, dashboard === 'sidecar' ? targetLabels : ofServer),
    },
  }
}

/** Which server it is about. */
export const theServer = '{{ $labels.upstream }} behind {{ $labels.instance }}'

/** A count out of `increase`, which is seldom a whole number. */
export const wholeValue = '{{ $value | printf "%.0f" }}'

/** Prints state and reason of the server of an alert. */
export const reasonPage = "curl 'http://{{ $labels.instance }}/-/ready/{{ $labels.upstream }}'"

/** Prints all that is known about it. */
export const debugPage = "curl 'http://{{ $labels.instance }}/debug/heartbeat?upstream={{ $labels.upstream }}'"
