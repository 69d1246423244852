/** What grafana/dashboard-linter asks of each query, and that all it names exists. */
import type { SyntaxNode } from '@lezer/common'
import { parser } from '@prometheus-io/lezer-promql'
import { runtimeSeries, scrapeSeries } from '../../dashboards/src/dashboards/scope.ts'
import { seriesLabels } from '../support/promql.ts'

interface Selector {
  readonly name: string
  /** `job=~"$job"`, without blanks. */
  readonly matchers: readonly string[]
  /** `5m`, if it is one over a range. */
  readonly range: string | undefined
  /** The function that gets the range. */
  readonly over: string | undefined
}

/** How long Grafana's own variables are, in seconds. */
export interface Windows {
  readonly range: number
  readonly rateInterval: number
}

/** The query with what stands for Grafana's own variables wherever no Grafana fills them in. */
export function substituted(expr: string, { range, rateInterval }: Windows): string {
  return expr
    .replaceAll('$__rate_interval', `${rateInterval}s`)
    .replaceAll('$__range_s', String(range))
    .replaceAll('$__range', `${range}s`)
}

/** The same with all sidecars and servers chosen, where more than one can be. */
export function allChosen(expr: string, windows: Windows): string {
  return substituted(expr, windows).replaceAll(/=~"\$(job|instance|upstream)"/g, '=~".+"')
}

/** The labels that queries use of series that are not ours. */
const foreignLabels = ['job', 'instance', 'type']

/** Labels that a query makes itself, by `label_replace` and `count_values`. */
const madeLabels = ['evidence', 'alert']

const labelsOfSeries: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ...seriesLabels,
  ...[...runtimeSeries, ...scrapeSeries].map((name): [string, Set<string>] => [name, new Set(foreignLabels)]),
])

/** Everything that is wrong with a query; none for a good one. */
export function problemsOf(expr: string): string[] {
  const { selectors, grouping, errors } = read(substituted(expr, windows))
  const known = new Set([...selectors.flatMap(({ name }) => [...(labelsOfSeries.get(name) ?? [])]), ...madeLabels])
  return [
    ...errors,
    ...selectors.flatMap(selectorProblems),
    ...grouping.filter((name) => !known.has(name)).map((name) => `nothing has the label ${name}`),
    ...(/\$(?!__|job"|instance"|upstream"|1 )/.test(expr) ? [`unknown variable in ${expr}`] : []),
  ]
}

const windows: Windows = { range: 3600, rateInterval: 301 }

function selectorProblems({ name, matchers, range, over }: Selector): string[] {
  const labels = labelsOfSeries.get(name)
  if (labels === undefined) return [`no series is called ${name}`]
  const used = matchers.map((matcher) => matcher.replace(/[=!].*/, ''))
  const isCounter = /_(total|bucket|count|sum)$/.test(name)
  const isRate = over === 'rate' || over === 'irate'
  return [
    ...used.filter((label) => !labels.has(label)).map((label) => `${name} has no ${label}`),
    ...['job', 'instance']
      .filter((label) => !matchers.includes(`${label}=~"$${label}"`))
      .map((label) => `${name} is not filtered by ${label}`),
    ...(isCounter && over !== 'increase' && !isRate ? [`counter ${name} is not aggregated`] : []),
    ...(isRate && range !== `${windows.rateInterval}s` ? [`rate of ${name} over ${range}, not $__rate_interval`] : []),
  ]
}

function read(text: string): { selectors: Selector[]; grouping: string[]; errors: string[] } {
  const selectors: Selector[] = []
  const grouping: string[] = []
  const errors: string[] = []
  const of = ({ from, to }: SyntaxNode) => text.slice(from, to)
  parser.parse(text).iterate({
    enter: ({ node, name, type }) => {
      if (type.isError) errors.push(`no PromQL at "${text.slice(node.from, node.from + 20)}"`)
      if (name === 'GroupingLabels') grouping.push(...node.getChildren('LabelName').map(of))
      if (name !== 'VectorSelector') return
      const identifier = node.getChild('Identifier')
      const matchers = node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? []
      const matrix = node.parent?.name === 'MatrixSelector' ? node.parent : undefined
      const duration = matrix?.getChild('DurationExpr')
      const call = matrix?.parent?.parent?.getChild('FunctionIdentifier')
      selectors.push({
        name: identifier ? of(identifier) : '',
        matchers: matchers.map((matcher) => of(matcher).replaceAll(' ', '')),
        range: duration ? of(duration) : undefined,
        over: call ? of(call) : undefined,
      })
    },
  })
  return { selectors, grouping, errors }
}
