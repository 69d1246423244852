/** What the user of a dashboard chooses: the Prometheus, and the sidecars and servers to look at. */
import type { Builder } from '@grafana/grafana-foundation-sdk/cog'
import type { DataSourceRef } from '@grafana/grafana-foundation-sdk/common'
import {
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  type VariableModel,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { label, metrics } from '../../../src/telemetry/names.ts'
import type { DashboardPlan } from './plan.ts'
import { sidecars } from './scope.ts'

export const chosenDatasource: DataSourceRef = { type: 'prometheus', uid: '${datasource}' }

export function variablesOf(upstream: DashboardPlan['upstream']): Builder<VariableModel>[] {
  const { family } = metrics.buildInfo
  const choices = [
    new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
    anyOf('job', 'Job', family),
    anyOf('instance', 'Instance', `${family}{job=~"$job"}`),
  ]
  // Every server has a state; `up` is absent for those that are idle.
  const known = sidecars.series(metrics.upstreamState)
  switch (upstream) {
    case 'none':
      return choices
    case 'any':
      return [...choices, anyOf(label.upstream, 'Upstream', known)]
    case 'one':
      return [...choices, labelValues(label.upstream, 'Upstream', known)]
  }
}

function anyOf(name: string, title: string, selector: string): QueryVariableBuilder {
  return labelValues(name, title, selector)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ text: 'All', value: '$__all' })
}

function labelValues(name: string, title: string, selector: string): QueryVariableBuilder {
  const query = `label_values(${selector}, ${name})`
  const variable = new QueryVariableBuilder(name)
    .label(title)
    .datasource(chosenDatasource)
    .query({ query, refId: `Variable-${name}` })
    .definition(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
  // oxlint-disable-next-line unicorn/no-array-sort -- no array, but a builder of the SDK
  return variable.sort(VariableSort.NaturalAsc)
}
