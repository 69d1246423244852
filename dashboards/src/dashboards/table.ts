/** Tables whose rows are joined from several instant queries by the labels that these have in common. */
import { TableCellHeight, TableSortByFieldStateBuilder } from '@grafana/grafana-foundation-sdk/common'
import type { DynamicConfigValue, Threshold, ValueMapping } from '@grafana/grafana-foundation-sdk/dashboard'
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table'
import { labelName } from '../../../src/telemetry/names.ts'
import { type PanelOptions, type PanelPlan, refId } from './plan.ts'
import type { DataLink } from './server-link.ts'

interface Column {
  readonly title: string
  readonly link?: DataLink
  readonly width?: number
}

/** A column that shows a label. */
export interface LabelColumn extends Column {
  /** As in names.ts, or one that a query makes. */
  readonly label: string
}

/** A column that shows the value of a query. */
export interface ValueColumn extends Column {
  readonly expr: string
  readonly unit: string
  readonly decimals?: number
  readonly mappings?: readonly ValueMapping[]
  /** Colours the text. */
  readonly thresholds?: readonly Threshold[]
}

export interface TableOptions extends Omit<PanelOptions, 'queries' | 'unit' | 'link'> {
  readonly labels: readonly LabelColumn[]
  readonly values: readonly ValueColumn[]
  readonly sortBy: { readonly title: string; readonly descending: boolean }
  /** What stands there when there are no rows. */
  readonly empty?: string
}

export function table(options: TableOptions): PanelPlan {
  const queries = options.values.map(({ expr }) => ({ expr }))
  return {
    kind: 'table',
    options: { ...options, unit: 'short', queries },
    height: options.height ?? 8,
    builder: () => tableBuilder(options),
  }
}

function tableBuilder({ labels, values, sortBy, empty }: TableOptions): TableBuilder {
  const builder = new TableBuilder()
    .cellHeight(TableCellHeight.Sm)
    .showHeader(true)
    .filterable(true)
    .sortBy([new TableSortByFieldStateBuilder().displayName(sortBy.title).desc(sortBy.descending)])
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({ id: 'organize', options: organized(labels, values) })
  if (empty !== undefined) builder.noValue(empty)
  for (const column of [...labels, ...values]) {
    const properties = propertiesOf(column)
    if (properties.length > 0) builder.overrideByName(column.title, properties)
  }
  return builder
}

/** Puts the columns in order, under their titles; what has no column is left out. */
function organized(labels: readonly LabelColumn[], values: readonly ValueColumn[]): Readonly<Record<string, unknown>> {
  const fields = [
    ...labels.map(({ label, title }) => ({ name: labelName(label), title })),
    // Grafana calls the value of a query so, with the refId only where there are several.
    ...values.map(({ title }, index) => ({ name: values.length === 1 ? 'Value' : `Value #${refId(index)}`, title })),
  ]
  return {
    excludeByName: { Time: true, job: true },
    indexByName: Object.fromEntries(fields.map(({ name }, index) => [name, index])),
    renameByName: Object.fromEntries(fields.map(({ name, title }) => [name, title])),
  }
}

function propertiesOf(column: LabelColumn | ValueColumn): DynamicConfigValue[] {
  const { link, width } = column
  return [
    ...(link ? [{ id: 'links', value: [{ ...link, targetBlank: false }] }] : []),
    ...(width === undefined ? [] : [{ id: 'custom.width', value: width }]),
    ...('expr' in column ? valueProperties(column) : []),
  ]
}

function valueProperties({ unit, decimals, mappings, thresholds }: ValueColumn): DynamicConfigValue[] {
  const isColored = mappings !== undefined || thresholds !== undefined
  return [
    { id: 'unit', value: unit },
    ...(decimals === undefined ? [] : [{ id: 'decimals', value: decimals }]),
    ...(mappings ? [{ id: 'mappings', value: mappings }] : []),
    ...(thresholds ? [{ id: 'thresholds', value: { mode: 'absolute', steps: thresholds } }] : []),
    ...(isColored ? [{ id: 'custom.cellOptions', value: { type: 'color-text' } }] : []),
  ]
}
