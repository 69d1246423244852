/** What a dashboard is before Grafana's JSON is made of it. */
import type { Builder } from '@grafana/grafana-foundation-sdk/cog'
import type { DataSourceRef } from '@grafana/grafana-foundation-sdk/common'
import type { DynamicConfigValue, GridPos, Panel } from '@grafana/grafana-foundation-sdk/dashboard'
import type { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus'
import type { DashboardName } from '../links.ts'
import type { DataLink } from './server-link.ts'

/** One query of a panel. */
export interface Query {
  readonly expr: string
  /** What its series are called, `{{label}}` standing for a label's value. */
  readonly legend?: string
  /** Dots that lead to the trace of one measurement. */
  readonly exemplars?: boolean
}

/** What all kinds of panels are told. */
export interface PanelOptions {
  readonly title: string
  /** What it shows and how to read it. */
  readonly description: string
  readonly queries: readonly Query[]
  /** One of Grafana's ids of units. */
  readonly unit: string
  /** Of 24 columns. */
  readonly width: number
  readonly height?: number
  /** Where each of its series leads to. */
  readonly link?: DataLink
  /** Set where a healthy fleet has nothing to show: why, as the end of "Empty when healthy: …". */
  readonly emptyWhenHealthy?: string
}

/** The letter by which Grafana knows the n-th query of a panel. */
export function refId(index: number): string {
  return String.fromCharCode('A'.charCodeAt(0) + index)
}

/** How a panel asks: over time, as of now, as of now for a table, or over time for a heatmap. */
export type QueryKind = 'range' | 'instant' | 'table' | 'heatmap'

/** A panel without its place. */
export interface PanelPlan {
  readonly kind: QueryKind
  readonly options: PanelOptions
  readonly height: number
  /** A new builder each time, since builders gather what they are told. */
  readonly builder: () => PanelBuilder
}

/** What all panel builders of the SDK have in common. */
export interface PanelBuilder extends Builder<Panel> {
  id(id: number): this
  title(title: string): this
  description(description: string): this
  datasource(datasource: DataSourceRef): this
  gridPos(position: GridPos): this
  withTarget(target: DataqueryBuilder): this
  unit(unit: string): this
  overrideByFieldType(type: string, properties: DynamicConfigValue[]): this
}

/** A row of panels with its headline. */
export interface Section {
  readonly title: string
  readonly panels: readonly PanelPlan[]
}

export interface DashboardPlan {
  readonly name: DashboardName
  readonly description: string
  /** How far back it looks at first: `now-1h`. */
  readonly from: string
  /** Whether `$upstream` is a choice of any, exactly one, or not there. */
  readonly upstream: 'any' | 'one' | 'none'
  /** Stands above all sections. */
  readonly first?: readonly PanelPlan[]
  readonly sections: readonly Section[]
}
