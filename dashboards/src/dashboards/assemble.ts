/** Makes Grafana's JSON of a plan: places, ids, variables, links and annotations. */
import {
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  type GridPos,
  RowBuilder,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import { type DashboardName, dashboardUids } from '../links.ts'
import { annotationsOf } from './annotations.ts'
import {
  type DashboardPlan,
  type PanelBuilder,
  type PanelPlan,
  type Query,
  type QueryKind,
  type Section,
  refId,
} from './plan.ts'
import { chosenDatasource, variablesOf } from './variables.ts'

export const gridColumns = 24

/** What stands above the links. */
export const dashboardTitles: Readonly<Record<DashboardName, string>> = {
  fleet: 'Fleet',
  upstream: 'Upstream',
  sessions: 'Sessions',
  slo: 'SLO',
  sidecar: 'Sidecar',
}

export function assembled(plan: DashboardPlan): Dashboard {
  const builder = new DashboardBuilder(`MCP / ${dashboardTitles[plan.name]}`)
    .uid(dashboardUids[plan.name])
    .description(plan.description)
    .tags(['mcp-vitals'])
    .readonly()
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: plan.from, to: 'now' })
    .refresh('30s')
    .variables(variablesOf(plan.upstream))
    .annotations(annotationsOf(plan.upstream))
    .links(linksFrom(plan.name))
  const next = { id: 1, y: 0 }
  if (plan.first) addPanels(builder, plan.first, next)
  for (const section of plan.sections) addSection(builder, section, next)
  return builder.build()
}

/** To the other dashboards, with the time and the choices made here. */
function linksFrom(name: DashboardName): DashboardLinkBuilder[] {
  return Object.entries(dashboardUids)
    .filter(([other]) => other !== name)
    .map(([other, uid]) => {
      const link = new DashboardLinkBuilder(titleOf(other))
        .type(DashboardLinkType.Link)
        .icon('dashboard')
        .keepTime(true)
      return uid === dashboardUids.upstream
        ? link.url(`/d/${uid}?${choicesButUpstream}`).includeVars(false)
        : link.url(`/d/${uid}`).includeVars(true)
    })
}

/** Not all servers: where only one can be shown, `All` would match none. */
const choicesButUpstream = ['datasource', 'job', 'instance'].map((name) => `\${${name}:queryparam}`).join('&')

function titleOf(name: string): string {
  const title = new Map<string, string>(Object.entries(dashboardTitles)).get(name)
  if (title === undefined) throw new Error(`no dashboard is called ${name}`)
  return title
}

/** Where the next panel goes, and its id. */
interface Next {
  id: number
  y: number
}

function addSection(builder: DashboardBuilder, { title, panels }: Section, next: Next): void {
  const row = new RowBuilder(title).id(next.id++).gridPos({ x: 0, y: next.y++, w: gridColumns, h: 1 })
  builder.withRow(row)
  addPanels(builder, panels, next)
}

/** Fills line after line; each must be full, and its panels equally high, so that nothing shows a gap. */
function addPanels(builder: DashboardBuilder, panels: readonly PanelPlan[], next: Next): void {
  let x = 0
  let lineHeight = 0
  for (const panel of panels) {
    const { title, width } = panel.options
    if (x > 0 && panel.height !== lineHeight) throw new Error(`${title} is ${panel.height} high beside ${lineHeight}`)
    if (x + width > gridColumns) throw new Error(`${title} ends at column ${x + width} of ${gridColumns}`)
    lineHeight = panel.height
    builder.withPanel(placed(panel, next.id++, { x, y: next.y, w: width, h: lineHeight }))
    x += width
    if (x < gridColumns) continue
    x = 0
    next.y += lineHeight
  }
  if (x > 0) throw new Error(`the line of ${panels.at(-1)?.options.title} ends at column ${x} of ${gridColumns}`)
}

function placed({ kind, options, builder }: PanelPlan, id: number, position: GridPos): PanelBuilder {
  const panel = builder()
    .id(id)
    .gridPos(position)
    .title(options.title)
    .description(describe(options))
    .datasource(chosenDatasource)
    .unit(options.unit)
  if (options.link) {
    panel.overrideByFieldType('number', [{ id: 'links', value: [{ ...options.link, targetBlank: false }] }])
  }
  for (const [index, query] of options.queries.entries()) panel.withTarget(targetOf(query, kind, refId(index)))
  return panel
}

function describe({ description, emptyWhenHealthy }: PanelPlan['options']): string {
  return emptyWhenHealthy === undefined ? description : `${description}\n\nEmpty when healthy: ${emptyWhenHealthy}`
}

function targetOf({ expr, legend, exemplars }: Query, kind: QueryKind, ref: string): DataqueryBuilder {
  const target = new DataqueryBuilder().refId(ref).datasource(chosenDatasource).expr(expr)
  if (legend !== undefined) target.legendFormat(legend)
  switch (kind) {
    case 'range':
      return target.range().exemplar(exemplars ?? false)
    case 'heatmap':
      return target
        .range()
        .format(PromQueryFormat.Heatmap)
        .exemplar(exemplars ?? false)
    case 'instant':
      return target.instant()
    case 'table':
      return target.instant().format(PromQueryFormat.Table)
  }
}
