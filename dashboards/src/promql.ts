/** PromQL out of the names in src/telemetry/names.ts: what does not exist there cannot be written. */
import { type Metric, label, labelName } from '../../src/telemetry/names.ts'

/** What Prometheus itself says of each sample: which mcp-vitals it came from. */
export const targetLabels = ['job', 'instance'] as const

/** Matches samples of the same server, whatever other labels they have. */
export const onServer = `on (${[...targetLabels, label.upstream].join(', ')})`

/** Matches samples of the same mcp-vitals. */
export const onInstance = `on (${targetLabels.join(', ')})`

/** The condition on one label: operator and value. */
export type Match = `${'=' | '!=' | '=~' | '!~'}"${string}"`

export function is(value: string): Match {
  return `="${value}"`
}

export function isNot(value: string): Match {
  return `!="${value}"`
}

/** The values are plain words. */
export function oneOf(values: readonly string[]): Match {
  return `=~"${values.join('|')}"`
}

/** The same the other way round; an empty value stands for no such label. */
export function noneOf(values: readonly string[]): Match {
  return `!~"${values.join('|')}"`
}

type Part = '' | '_bucket' | '_count' | '_sum'

/** Conditions by attribute key. */
export type Matches = Readonly<Record<string, Match>>

/** The series of a metric that match, and that meet conditions on labels which Prometheus adds: `job=~"a|b"`. */
export function select(metric: Metric, matches: Matches = {}, part: Part = '', others: readonly string[] = []): string {
  if ((part === '') === (metric.kind === 'histogram')) throw new Error(`${metric.family} has no series ${part}`)
  const conditions = Object.entries(matches).map(([key, match]) => {
    if (!metric.labels.includes(key)) throw new Error(`${metric.family} has no label ${key}`)
    return `${labelName(key)}${match}`
  })
  const all = [...others, ...conditions]
  const braces = all.length === 0 ? '' : `{${all.join(', ')}}`
  return `${metric.family}${part}${braces}`
}

/**
 * Sums a metric over all its labels but those kept. What Prometheus or its operator added (job, namespace, cluster)
 * stays, whatever it is.
 */
export function sumKeeping(metric: Metric, kept: readonly string[], expression: string): string {
  const summed = metric.labels.filter((key) => !kept.includes(key)).map(labelName)
  const sum = `sum without (${summed.join(', ')})`
  const line = `${sum} (${expression})`
  return line.length > longestLine || expression.includes('\n') ? `${sum} ${grouped(expression)}` : line
}

const longestLine = 100

/** In brackets, on lines of their own. */
export function grouped(expression: string): string {
  return `(\n${expression.replaceAll(/^/gm, '  ')}\n)`
}
