/** The Grafana dashboards, as generated files. */
import { assembled } from './dashboards/assemble.ts'
import { fleet } from './dashboards/fleet.ts'
import type { DashboardPlan } from './dashboards/plan.ts'
import { sessions } from './dashboards/sessions.ts'
import { sidecar } from './dashboards/sidecar.ts'
import { slo } from './dashboards/slo.ts'
import { upstream } from './dashboards/upstream.ts'
import type { GeneratedFile } from './generated-file.ts'

export const dashboardPlans: readonly DashboardPlan[] = [fleet, upstream, sessions, slo, sidecar]

export const dashboardFiles: readonly GeneratedFile[] = dashboardPlans.map((plan) => ({
  path: `dashboards/${plan.name}.json`,
  text: JSON.stringify(assembled(plan)),
}))
