/** What queries are made of, besides the selectors of scope.ts. Labels are as in names.ts, before `labelName`. */
import { labelName } from '../../../src/telemetry/names.ts'

export function rate(series: string): string {
  return `rate(${series}[$__rate_interval])`
}

/** Over the dashboard's whole range, or over another one. */
export function increase(series: string, range = '$__range'): string {
  return `increase(${series}[${range}])`
}

/** Between two points of a graph. */
export function recentIncrease(series: string): string {
  return increase(series, '$__rate_interval')
}

export function sum(expr: string): string {
  return `sum(${expr})`
}

export function sumBy(labels: readonly string[], expr: string): string {
  return labels.length === 0 ? sum(expr) : `sum by (${names(labels)}) (${expr})`
}

export function maxBy(labels: readonly string[], expr: string): string {
  return `max by (${names(labels)}) (${expr})`
}

/** From buckets whose rate or increase was taken already. */
export function quantile(ratio: number, labels: readonly string[], rateOfBuckets: string): string {
  return `histogram_quantile(${ratio}, ${sumBy([...labels, 'le'], rateOfBuckets)})`
}

/**
 * The share that a part is of the whole: 0 where there is no part, absent where there is no whole (0 ÷ 0 would be NaN).
 * Both must have the same labels.
 */
export function share(part: string, whole: string): string {
  return `(${part} or 0 * ${whole}) / (${whole} > 0)`
}

export function topk(count: number, expr: string): string {
  return `topk(${count}, ${expr})`
}

export function names(labels: readonly string[]): string {
  return labels.map(labelName).join(', ')
}

/** As a legend shows a label's value. */
export function legendOf(label: string): string {
  return `{{${labelName(label)}}}`
}
