/** The dashboards as they ship, read from their files: what of them the tests look at, and nothing that is not there. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { dashboardPlans } from '../../dashboards/src/dashboards.ts'
import type { DashboardPlan } from '../../dashboards/src/dashboards/plan.ts'
import { repoRoot } from '../peers/spawn.ts'

const datasource = z.strictObject({ type: z.string(), uid: z.string() })

const target = z.strictObject({
  refId: z.string(),
  datasource,
  expr: z.string(),
  legendFormat: z.string().optional(),
  instant: z.boolean(),
  range: z.boolean(),
  format: z.enum(['time_series', 'table', 'heatmap']).optional(),
  exemplar: z.boolean().optional(),
})
export type ShippedTarget = z.infer<typeof target>

const thresholds = z.strictObject({
  mode: z.literal('absolute'),
  steps: z.array(z.strictObject({ value: z.number().nullable(), color: z.string() })),
})

const override = z.strictObject({
  matcher: z.strictObject({ id: z.enum(['byName', 'byType']), options: z.string() }),
  properties: z.array(z.strictObject({ id: z.string(), value: z.unknown() })),
})

const gridPos = z.strictObject({ x: z.number(), y: z.number(), w: z.number(), h: z.number() })

const panel = z.strictObject({
  type: z.enum(['timeseries', 'stat', 'table', 'state-timeline', 'heatmap']),
  id: z.number(),
  title: z.string(),
  description: z.string(),
  transparent: z.boolean(),
  datasource,
  gridPos,
  interval: z.string().optional(),
  repeatDirection: z.literal('h'),
  targets: z.array(target),
  transformations: z.array(z.strictObject({ id: z.string(), options: z.record(z.string(), z.unknown()) })).optional(),
  options: z.looseObject({ legend: z.looseObject({ showLegend: z.boolean().optional() }).optional() }),
  fieldConfig: z.strictObject({
    defaults: z.looseObject({ unit: z.string(), thresholds: thresholds.optional(), noValue: z.string().optional() }),
    overrides: z.array(override),
  }),
})
export type ShippedPanel = z.infer<typeof panel>

const row = z.strictObject({
  type: z.literal('row'),
  id: z.number(),
  title: z.string(),
  collapsed: z.literal(false),
  gridPos,
  panels: z.tuple([]),
})

const variable = z.strictObject({
  type: z.enum(['datasource', 'query']),
  name: z.string(),
  label: z.string(),
  query: z.union([z.string(), z.strictObject({ query: z.string(), refId: z.string() })]),
  datasource: datasource.optional(),
  current: z.strictObject({ text: z.string(), value: z.string() }).optional(),
  definition: z.string().optional(),
  multi: z.boolean(),
  includeAll: z.boolean(),
  allValue: z.string().optional(),
  allowCustomValue: z.boolean(),
  refresh: z.number().optional(),
  sort: z.number().optional(),
  skipUrlSync: z.boolean(),
  auto: z.boolean(),
  auto_min: z.string(),
  auto_count: z.number(),
})

const annotation = z.looseObject({
  name: z.string(),
  datasource,
  enable: z.literal(true),
  iconColor: z.string(),
  expr: z.string(),
  titleFormat: z.string(),
  textFormat: z.string(),
  tagKeys: z.string(),
})

const link = z.looseObject({ title: z.string(), url: z.string(), includeVars: z.boolean(), keepTime: z.boolean() })

const dashboard = z.strictObject({
  uid: z.string(),
  title: z.string(),
  description: z.string(),
  tags: z.array(z.string()),
  timezone: z.string(),
  editable: z.boolean(),
  graphTooltip: z.number(),
  fiscalYearStartMonth: z.number(),
  schemaVersion: z.number(),
  time: z.strictObject({ from: z.string(), to: z.string() }),
  refresh: z.string(),
  panels: z.array(z.discriminatedUnion('type', [panel, row])),
  templating: z.strictObject({ list: z.array(variable) }),
  annotations: z.strictObject({ list: z.array(annotation) }),
  links: z.array(link),
})

export interface ShippedDashboard extends z.infer<typeof dashboard> {
  readonly name: string
  readonly plan: DashboardPlan
  /** Those that show something, without the headlines. */
  readonly shown: readonly ShippedPanel[]
  readonly text: string
}

export const shippedDashboards: readonly ShippedDashboard[] = dashboardPlans.map((plan) => {
  const text = readFileSync(join(repoRoot, 'dashboards', `${plan.name}.json`), 'utf8')
  const read = dashboard.parse(JSON.parse(text))
  const shown = read.panels.flatMap((one) => (one.type === 'row' ? [] : [one]))
  return { ...read, name: plan.name, plan, shown, text }
})
