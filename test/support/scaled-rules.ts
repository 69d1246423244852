/** The shipped rules at another pace. */
import type { Rule, RuleGroup } from '../../dashboards/src/rule.ts'
import { readQuery } from './promql.ts'

/**
 * Divides every duration of the rules: windows, offsets, `for` and the interval of groups. Names and limits stay, so a
 * limit that is a number of events means that number in the shorter window.
 */
export function scaledRules(groups: readonly RuleGroup[], factor: number): RuleGroup[] {
  const scaled = (duration: string) => `${Math.round(milliseconds(duration) / factor)}ms`
  const scaledRule = (rule: Rule): Rule => {
    const expr = readQuery(rule.expr).durations.reduceRight(
      (text, { text: duration, from, to }) => text.slice(0, from) + scaled(duration) + text.slice(to),
      rule.expr,
    )
    if ('record' in rule) return { ...rule, expr }
    return { ...rule, expr, ...(rule.for !== undefined && { for: scaled(rule.for) }) }
  }
  return groups.map((group) => ({
    ...group,
    ...(group.interval !== undefined && { interval: scaled(group.interval) }),
    rules: group.rules.map(scaledRule),
  }))
}

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function milliseconds(duration: string): number {
  const [, amount, unit = ''] = /^(\d+)([smhd])$/.exec(duration) ?? []
  const ms = Number(amount) * (units[unit] ?? Number.NaN)
  if (Number.isNaN(ms)) throw new Error(`no duration: ${duration}`)
  return ms
}
