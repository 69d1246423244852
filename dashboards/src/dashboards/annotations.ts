/** What happened, as marks over every graph. */
import { AnnotationQueryBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { type State, states } from '../../../src/heartbeat/verdict.ts'
import { label, labelName, metrics } from '../../../src/telemetry/names.ts'
import { oneOf } from '../promql.ts'
import { legendOf, recentIncrease, sumBy } from './expressions.ts'
import type { DashboardPlan } from './plan.ts'
import { type Scope, foreign, ofSidecars, oneUpstream, sidecars, upstreams } from './scope.ts'
import { chosenDatasource } from './variables.ts'

/** States that come and go in good health; changes between the others are marked. */
const unremarkable: readonly State[] = ['healthy', 'suspect', 'busy', 'idle']

const scopes: Readonly<Record<DashboardPlan['upstream'], Scope>> = {
  none: sidecars,
  any: upstreams,
  one: oneUpstream,
}

export function annotationsOf(upstream: DashboardPlan['upstream']): AnnotationQueryBuilder[] {
  const scope = scopes[upstream]
  const remarkable = states.filter((state) => !unremarkable.includes(state))
  const restartLabels = ['instance', label.upstream, label.reason]
  const changeLabels = ['instance', label.upstream, label.from, label.to]
  const server = legendOf(label.upstream)
  return [
    annotation('Restarts of servers', 'orange')
      .expr(`${sumBy(restartLabels, recentIncrease(scope.series(metrics.upstreamRestarts)))} > 0`)
      .titleFormat(`${server} was restarted`)
      .textFormat(`reason: ${legendOf(label.reason)}, by {{instance}}`)
      .tagKeys(tags(restartLabels)),
    annotation('State changes', 'red')
      .expr(
        `${sumBy(changeLabels, recentIncrease(scope.series(metrics.upstreamStateChanges, { [label.to]: oneOf(remarkable) })))} > 0`,
      )
      .titleFormat(`${server} is ${legendOf(label.to)}`)
      .textFormat(`it was ${legendOf(label.from)}, as {{instance}} sees it`)
      .tagKeys(tags(changeLabels)),
    annotation('Starts of mcp-vitals', 'blue')
      .expr(ofSidecars(`changes(${foreign('process_start_time_seconds')}[$__rate_interval]) > 0`))
      .titleFormat('mcp-vitals was started')
      .textFormat('{{instance}}')
      .tagKeys('instance'),
  ]
}

function annotation(name: string, color: string): AnnotationQueryBuilder {
  return new AnnotationQueryBuilder().name(name).datasource(chosenDatasource).enable(true).iconColor(color)
}

/** Grafana takes a blank after the comma for a part of the label. */
function tags(labels: readonly string[]): string {
  return labels.map(labelName).join(',')
}
