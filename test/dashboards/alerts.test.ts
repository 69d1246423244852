/** Every alert, as Prometheus' own rule tester evaluates it. That these are the shipped rules, rules.test.ts shows. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AlertingRule, Rule, RuleGroup } from '../../dashboards/src/rule.ts'
import { ruleFiles } from '../../dashboards/src/rules.ts'
import { needed } from '../support/prometheus.ts'
import { readQuery } from '../support/promql.ts'
import { type AlertCase, type Series, alertCases } from './alert-cases.ts'

const allGroups = ruleFiles.flatMap(({ groups }) => groups)
const allRules = allGroups.flatMap(({ rules }) => rules)
const alertingRules = allRules.flatMap((rule) => ('alert' in rule ? [rule] : []))

/** The one rule that a case is about. */
function ruleOf({ alert, rule = {} }: AlertCase): AlertingRule {
  const found = alertingRules.filter(
    (one) => one.alert === alert && Object.entries(rule).every(([name, value]) => one.labels[name] === value),
  )
  const [only] = found
  if (!only || found.length > 1) throw new Error(`${found.length} rules are ${alert} ${JSON.stringify(rule)}`)
  return only
}

/** The rules that an expression builds on, and those that these build on: what it records, and whose alerts it looks at. */
function basisOf(expression: string): Rule[] {
  const { selectors } = readQuery(expression)
  const named = new Set(
    selectors.flatMap(({ name, matchers }) => [
      name,
      ...matchers.flatMap(({ label, value }) => (label === 'alertname' ? value.split('|') : [])),
    ]),
  )
  const direct = allRules.filter((rule) => named.has('record' in rule ? rule.record : rule.alert))
  return direct.flatMap((rule) => [rule, ...basisOf(rule.expr)])
}

/** All other rules would only take time. */
function groupsFor(rule: Rule): RuleGroup[] {
  const wanted = new Set([rule, ...basisOf(rule.expr)])
  return allGroups
    .map((group) => ({ ...group, rules: group.rules.filter((one) => wanted.has(one)) }))
    .filter(({ rules }) => rules.length > 0)
}

function written({ name, labels, samples }: Series) {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return {
    series: `${name}{${pairs.join(',')}}`,
    values: samples.map((sample) => (sample === 'gone' ? 'stale' : sample)).join(' '),
  }
}

const seconds = (minutes: number) => `${Math.round(minutes * 60)}s`

/** The series that a rule has while it fires. */
function firingOf({ alert, labels }: AlertingRule): string {
  const own = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return `ALERTS{alertname="${alert}", alertstate="firing", ${own.join(', ')}}`
}

/** What promtool is to expect of one case; its alert may have rules for other severities, of which nothing is said. */
function unitTest(one: AlertCase) {
  const rule = ruleOf(one)
  const { step = 0.25, series, silentAt, firesAt = [] } = one
  const firing = firingOf(rule)
  return {
    interval: seconds(step),
    input_series: series.map(written),
    promql_expr_test: [
      ...silentAt.map((at) => ({ expr: `count(${firing})`, eval_time: seconds(at), exp_samples: [] })),
      ...firesAt.map(({ at, labels }) => {
        const all = { alertname: one.alert, alertstate: 'firing', ...rule.labels, ...labels }
        const pairs = Object.entries(all).map(([label, value]) => `${label}="${value}"`)
        return {
          expr: firing,
          eval_time: seconds(at),
          exp_samples: [{ labels: `ALERTS{${pairs.join(',')}}`, value: 1 }],
        }
      }),
    ],
    alert_rule_test: firesAt.map(({ at, labels, description }) => ({
      eval_time: seconds(at),
      alertname: one.alert,
      exp_alerts: [
        {
          exp_labels: { ...rule.labels, ...labels },
          exp_annotations: { ...rule.annotations, description, dashboard_url: expanded(rule, labels) },
        },
      ],
    })),
  }
}

/** The dashboard's address with the labels in it. */
function expanded({ annotations }: AlertingRule, labels: Readonly<Record<string, string>>): string {
  return annotations.dashboard_url.replaceAll(/\{\{ \$labels\.(\w+) \| urlquery \}\}/g, (_, name: string) =>
    encodeURIComponent(labels[name] ?? ''),
  )
}

/** A case under the name of its rule. */
const titled = alertCases.map((one) => ({
  one,
  title: `${[one.alert, ...Object.values(one.rule ?? {})].join(' ')} ${one.kind}: ${one.what}`,
}))

describe('each alert', { timeout: 60_000 }, () => {
  let directory = ''
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'mcp-vitals-rules-'))
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  /** What promtool says of one test of these rules. */
  const promtoolOn = (promtool: string, groups: readonly RuleGroup[], { step = 0.25 }: AlertCase, test: object) => {
    const file = join(directory, 'test.yaml')
    // YAML reads JSON.
    writeFileSync(join(directory, 'rules.yaml'), JSON.stringify({ groups }))
    writeFileSync(
      file,
      JSON.stringify({
        rule_files: ['rules.yaml'],
        evaluation_interval: seconds(step),
        group_eval_order: groups.map(({ name }) => name),
        tests: [test],
      }),
    )
    const { status, stdout, stderr } = spawnSync(promtool, ['test', 'rules', file], { encoding: 'utf8' })
    return [status, `${stdout}${stderr}`.slice(0, 4000)]
  }
  const success = [0, expect.stringContaining('SUCCESS')]

  it.for(titled)('$title', ({ one }, context) => {
    const promtool = needed(context, 'promtool')
    expect(promtoolOn(promtool, groupsFor(ruleOf(one)), one, unitTest(one))).toEqual(success)
  })

  it.for(titled.filter(({ one }) => one.kind === 'another alert tells'))(
    '$title, and it would fire without its exceptions',
    ({ one }, context) => {
      const promtool = needed(context, 'promtool')
      const { step = 0.25, series, silentAt } = one
      const rule = ruleOf(one)
      const [expr = ''] = rule.expr.split(/\nunless /)
      const groups = groupsFor(rule).map((group) => ({
        ...group,
        rules: group.rules.map((other) => (other === rule ? { ...rule, expr } : other)),
      }))
      const ever = {
        expr: `count(max_over_time(${firingOf(rule)}[1h])) > bool 0`,
        exp_samples: [{ labels: '{}', value: 1 }],
      }
      const test = {
        interval: seconds(step),
        input_series: series.map(written),
        promql_expr_test: [{ ...ever, eval_time: seconds(Math.max(...silentAt)) }],
      }
      expect(promtoolOn(promtool, groups, one, test)).toEqual(success)
    },
  )

  it.each(alertingRules.map((rule) => ({ rule, name: `${rule.alert} ${JSON.stringify(rule.labels)}` })))(
    '$name is shown to fire, to resolve, and to be silent just below',
    ({ rule }) => {
      const kinds = alertCases.filter((one) => ruleOf(one) === rule).map(({ kind }) => kind)
      expect(kinds).toEqual(expect.arrayContaining(['fires and resolves', 'just below']))
    },
  )

  it.each(titled)('$title, and says when', ({ one: { kind, firesAt = [], silentAt } }) => {
    if (kind !== 'fires and resolves') return expect([firesAt, silentAt.length > 1]).toEqual([[], true])
    const times = firesAt.map(({ at }) => at)
    expect(times.length).toBeGreaterThan(0)
    expect(Math.max(...silentAt)).toBeGreaterThan(Math.max(...times))
  })
})
