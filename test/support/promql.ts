/** What a PromQL expression names, and whether that exists. */
import { parser } from '@prometheus-io/lezer-promql'
import { recordingGroups } from '../../dashboards/src/recording-rules.ts'
import { alertNames } from '../../dashboards/src/links.ts'
import { targetLabels } from '../../dashboards/src/promql.ts'
import { severities } from '../../dashboards/src/rule.ts'
import { availabilityGroups } from '../../dashboards/src/slo.ts'
import { label, labelName, liveMetrics, semconv } from '../../src/telemetry/names.ts'

/** A piece of an expression. */
export interface Piece {
  readonly text: string
  readonly from: number
  readonly to: number
}

export interface Matcher {
  readonly label: string
  readonly value: string
}

/** One choice of series: `name{label="value"}`. */
export interface Selector {
  readonly name: string
  readonly matchers: readonly Matcher[]
}

export interface Query {
  readonly selectors: readonly Selector[]
  /** Labels by which it aggregates or matches: `by`, `without`, `on`, `ignoring`, `group_left`. */
  readonly groupingLabels: readonly string[]
  readonly durations: readonly Piece[]
  readonly numbers: readonly Piece[]
}

/** Reads an expression; fails where it is no PromQL. */
export function readQuery(expression: string): Query {
  const selectors: { name: string; matchers: Matcher[] }[] = []
  const groupingLabels: string[] = []
  const durations: Piece[] = []
  const numbers: Piece[] = []
  parser.parse(expression).iterate({
    enter: ({ name, type, from, to, node }) => {
      const text = expression.slice(from, to)
      if (type.isError) throw new Error(`no PromQL at ${from}, "${expression.slice(from, from + 20)}": ${expression}`)
      const selector = selectors.at(-1)
      switch (name) {
        case 'VectorSelector':
          selectors.push({ name: '', matchers: [] })
          break
        case 'Identifier':
          if (node.parent?.name === 'VectorSelector' && selector) selector.name = text
          break
        case 'UnquotedLabelMatcher': {
          const [, label = '', value = ''] = /^(\w+)\s*(?:=~|!~|!=|=)\s*"(.*)"$/s.exec(text) ?? []
          selector?.matchers.push({ label, value })
          break
        }
        case 'LabelName':
          if (node.parent?.name === 'GroupingLabels') groupingLabels.push(text)
          break
        case 'NumberDurationLiteralInDurationContext':
          durations.push({ text, from, to })
          break
        case 'NumberDurationLiteral':
          numbers.push({ text, from, to })
      }
    },
  })
  return { selectors, groupingLabels, durations, numbers }
}

/** Labels of all series that there are, by name: ours, recorded ones, and Prometheus' own. */
export const seriesLabels: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  [
    ...liveMetrics().flatMap((metric): [string, string[]][] => {
      const labels = metric.labels.map(labelName)
      if (metric.kind !== 'histogram') return [[metric.family, labels]]
      return [
        [`${metric.family}_bucket`, [...labels, 'le']],
        [`${metric.family}_count`, labels],
        [`${metric.family}_sum`, labels],
      ]
    }),
    ...[...recordingGroups, ...availabilityGroups].flatMap(({ rules }) =>
      rules.flatMap((rule): [string, string[]][] =>
        'record' in rule ? [[rule.record, labelsOfLevel(rule.record)]] : [],
      ),
    ),
    ['up', [label.upstream]] satisfies [string, string[]],
    ['ALERTS', ['alertname', 'alertstate', 'severity', label.upstream]] satisfies [string, string[]],
  ].map(([name, labels]) => [name, new Set([...labels, ...targetLabels])]),
)

/** What a rule's name says that its series are told apart by: `level:metric:operation`. */
function labelsOfLevel(record: string): string[] {
  const level = record.slice(0, record.indexOf(':'))
  const levels: Readonly<Record<string, string[]>> = {
    upstream: [label.upstream],
    tool: [label.upstream, labelName(semconv.toolName)],
  }
  const labels = levels[level]
  if (!labels) throw new Error(`${record}: no such level: ${level}`)
  return labels
}

/** Values that labels of closed lists may have in a matcher; any other label may have any. */
const closedValues = new Map<string, readonly string[]>([
  ['alertname', alertNames],
  ['alertstate', ['firing', 'pending']],
  ['severity', severities],
])

/** Every name in the expression that does not exist, as people would say it. */
export function unknownNames(expression: string): string[] {
  const { selectors, groupingLabels } = readQuery(expression)
  const problems = selectors.flatMap(({ name, matchers }) => {
    const labels = seriesLabels.get(name)
    if (!labels) return [`no series ${name}`]
    return matchers.flatMap(({ label, value }) => {
      if (!labels.has(label)) return [`${name} has no label ${label}`]
      const values = closedValues.get(label)
      return values
        ? value
            .split('|')
            .filter((one) => !values.includes(one))
            .map((one) => `no ${label} ${one}`)
        : []
    })
  })
  const known = new Set(selectors.flatMap(({ name }) => [...(seriesLabels.get(name) ?? [])]))
  return [
    ...problems,
    ...groupingLabels.filter((name) => !known.has(name)).map((name) => `nothing has the label ${name}`),
  ]
}
