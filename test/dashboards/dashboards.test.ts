/** The dashboards please dashboard-linter, and name nothing that does not exist. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import * as units from '@grafana/grafana-foundation-sdk/units'
import { describe, expect, it } from 'vitest'
import { assembled } from '../../dashboards/src/dashboards/assemble.ts'
import type { DashboardPlan } from '../../dashboards/src/dashboards/plan.ts'
import { runtimeSeries, sidecars } from '../../dashboards/src/dashboards/scope.ts'
import { stat } from '../../dashboards/src/dashboards/panels.ts'
import { committed, formatted, generatedFiles } from '../../dashboards/src/generate.ts'
import { alertNames, dashboardUids, runbookBase, runbookUrl } from '../../dashboards/src/links.ts'
import { is } from '../../dashboards/src/promql.ts'
import { alertingRule } from '../../dashboards/src/rule.ts'
import { alerts } from '../../dashboards/src/rules.ts'
import { defaults } from '../../src/defaults.ts'
import { liveMetrics, metrics } from '../../src/telemetry/names.ts'
import { runtimeMetrics } from '../../src/telemetry/runtime.ts'
import { repoRoot } from '../peers/spawn.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { needed } from '../support/prometheus.ts'
import { problemsOf, substituted } from './query-rules.ts'
import { type ShippedDashboard, type ShippedPanel, shippedDashboards } from './shipped.ts'

describe('generated files', () => {
  it.each(generatedFiles)('$path is what the generator makes', async (file) => {
    expect(committed(file)).toBe(await formatted(file))
  })

  it('come from the closed lists and defaults of the program, and from nothing else of it', () => {
    const sources = join(repoRoot, 'dashboards/src/dashboards')
    const imported = readdirSync(sources).flatMap((name) =>
      [...readFileSync(join(sources, name), 'utf8').matchAll(/from '((?:\.\.\/)+src\/[^']+)'/g)].map(([, from = '']) =>
        relative(repoRoot, join(sources, from)),
      ),
    )
    expect([...new Set(imported)].toSorted()).toEqual([
      'src/defaults.ts',
      'src/errors.ts',
      'src/heartbeat/classify.ts',
      'src/heartbeat/verdict.ts',
      'src/telemetry/names.ts',
      'src/upstreams/breaker.ts',
    ])
  })
})

/** Every query of a dashboard with where it stands: panels, annotations, and what its variables choose from. */
function queriesOf({ shown, annotations, templating }: ShippedDashboard): { where: string; expr: string }[] {
  return [
    ...shown.flatMap(({ title, targets }) => targets.map(({ refId, expr }) => ({ where: `${title} ${refId}`, expr }))),
    ...annotations.list.map(({ name, expr }) => ({ where: name, expr })),
    ...templating.list.flatMap(({ name, definition }) => {
      const selector = /^label_values\((.*), \w+\)$/s.exec(definition ?? '')?.[1]
      return selector === undefined ? [] : [{ where: `$${name}`, expr: selector }]
    }),
  ]
}

describe.each(shippedDashboards)('dashboard $name', (dashboard) => {
  const { name, plan, shown, templating } = dashboard

  it('is a classic dashboard that nobody edits in Grafana', () => {
    expect(dashboard).toMatchObject({
      uid: dashboardUids[plan.name],
      schemaVersion: 42,
      editable: false,
      tags: ['mcp-vitals'],
      timezone: 'browser',
      time: { to: 'now' },
    })
    expect(dashboard.description).toMatch(/\.$/)
  })

  it('lets the user choose data source, job, instance and upstream, from what is there at the time', () => {
    const any = {
      type: 'query',
      multi: true,
      includeAll: true,
      allValue: '.+',
      current: { text: 'All', value: '$__all' },
    }
    const one = { type: 'query', multi: false, includeAll: false }
    const upstream = {
      none: [],
      any: [{ name: 'upstream', label: 'Upstream', ...any }],
      one: [{ name: 'upstream', ...one }],
    }
    expect(templating.list).toMatchObject([
      { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' },
      { name: 'job', label: 'Job', ...any },
      { name: 'instance', label: 'Instance', ...any },
      ...upstream[plan.upstream],
    ])
    for (const variable of templating.list.slice(1)) {
      expect(variable.datasource).toEqual({ type: 'prometheus', uid: '${datasource}' })
      // 2: whenever the time range changes.
      expect(variable.refresh).toBe(2)
      expect(variable.definition).toMatch(new RegExp(`^label_values\\(.+, ${variable.name}\\)$`))
    }
  })

  it('has panels with data source, title, description, unit, queries and legend', () => {
    const known = new Set<string>(Object.values(units).filter((unit) => typeof unit === 'string'))
    expect(shown.length).toBeGreaterThan(10)
    const bad = shown.filter(
      ({ type, title, description, targets, fieldConfig, options, ...panel }) =>
        panel.datasource.uid !== '${datasource}' ||
        targets.some(({ datasource }) => datasource.uid !== '${datasource}') ||
        title === '' ||
        !/^[A-Z].*\.$/s.test(description) ||
        !known.has(fieldConfig.defaults.unit) ||
        targets.length === 0 ||
        (type === 'timeseries' && options.legend?.showLegend !== true) ||
        (type === 'timeseries' && targets.some(({ legendFormat }) => legendFormat === undefined)),
    )
    expect(bad.map(({ title }) => title)).toEqual([])
  })

  it('has each id once, and in each panel each refId once', () => {
    const ids = dashboard.panels.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const { targets } of shown) {
      expect(targets.map(({ refId }) => refId)).toEqual(
        ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L'].slice(0, targets.length),
      )
    }
  })

  it('fills 24 columns without a gap, and nothing overlaps', () => {
    const cells = new Map<string, string>()
    const bottom = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h))
    for (const { title, gridPos } of dashboard.panels) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
          expect([title, x, y, cells.get(`${x} ${y}`)]).toEqual([title, x, y, undefined])
          cells.set(`${x} ${y}`, title)
        }
      }
    }
    expect(cells.size).toBe(24 * bottom)
    expect(dashboard.panels.every(({ gridPos: { x, w } }) => x >= 0 && x + w <= 24)).toBe(true)
  })

  it('asks only what exists, filtered by job and instance, counters as rates', () => {
    const problems = queriesOf(dashboard).flatMap(({ where, expr }) =>
      problemsOf(expr)
        // The variables job and instance choose among all that there are.
        .filter((problem) => !(where === '$job' || (where === '$instance' && problem.endsWith('by instance'))))
        .map((problem) => `${where}: ${problem}`),
    )
    expect(problems).toEqual([])
  })

  it('says of each panel that may be empty why', () => {
    const panels = [...(plan.first ?? []), ...plan.sections.flatMap((section) => section.panels)]
    expect(shown.map(({ description }) => /\n\nEmpty when healthy: .*\.$/s.test(description))).toEqual(
      panels.map(({ options }) => options.emptyWhenHealthy !== undefined),
    )
  })

  it('has tables whose columns and links are labels and values of their queries', () => {
    for (const panel of shown.filter(({ type }) => type === 'table')) expect(tableProblems(panel)).toEqual([])
  })

  it('links its lines and bars by labels that they have', () => {
    expect(shown.flatMap(seriesLinkProblems)).toEqual([])
  })

  it('marks restarts, changes of state and starts over its graphs, with labels that their queries have', () => {
    const { list } = dashboard.annotations
    expect(list.map((annotation) => annotation.name)).toEqual([
      'Restarts of servers',
      'State changes',
      'Starts of mcp-vitals',
    ])
    for (const { expr, titleFormat, textFormat, tagKeys, datasource } of list) {
      expect(datasource.uid).toBe('${datasource}')
      const used = [...`${titleFormat} ${textFormat}`.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label)
      // Split as Grafana does, which keeps blanks.
      const by = / by \(([^)]*)\)/.exec(expr)?.[1]?.split(', ') ?? ['instance']
      expect([...used, ...tagKeys.split(',')].filter((label) => !by.includes(label))).toEqual([])
    }
  })

  it('leads to the other dashboards with time and choices, and nowhere that does not exist', () => {
    const others = Object.entries(dashboardUids).filter(([other]) => other !== name)
    expect(dashboard.links).toMatchObject(
      others.map(([other, uid]) =>
        other === 'upstream'
          ? // With all servers chosen it would show none.
            {
              url: `/d/${uid}?\${datasource:queryparam}&\${job:queryparam}&\${instance:queryparam}`,
              includeVars: false,
              keepTime: true,
            }
          : { url: `/d/${uid}`, includeVars: true, keepTime: true },
      ),
    )
    const uids = new Set<string>(Object.values(dashboardUids))
    const linked = [...dashboard.text.matchAll(/\/d\/([\w-]+)/g)].map(([, uid = '']) => uid)
    expect(linked.filter((uid) => !uids.has(uid))).toEqual([])
    const alerts = [...dashboard.text.matchAll(/\bMcp[A-Z]\w+/g)].map(([alert]) => alert)
    expect(alerts.filter((alert) => !new Set<string>(alertNames).has(alert))).toEqual([])
  })
})

/** Panels with a link that uses a label which not every series of theirs is told apart by. */
function seriesLinkProblems({ title, targets, fieldConfig }: ShippedPanel): string[] {
  const used = [...JSON.stringify(fieldConfig.overrides).matchAll(/__field\.labels\.(\w+)/g)].map(
    ([, label = '']) => label,
  )
  return targets.flatMap(({ expr }) => {
    const labels = new Set([...expr.matchAll(/ by \(([^)]*)\)/g)].flatMap(([, by = '']) => by.split(', ')))
    return used.filter((label) => !labels.has(label)).map((label) => `${title}: a link uses ${label}`)
  })
}

/** What of a table's columns, links and overrides its queries do not give. */
function tableProblems({ title, targets, transformations = [], fieldConfig }: ShippedPanel): string[] {
  expect(transformations.map(({ id }) => id)).toEqual(['merge', 'organize'])
  const renamed = Object.entries(transformations[1]?.options['renameByName'] ?? {})
  const values = targets.length === 1 ? ['Value'] : targets.map(({ refId }) => `Value #${refId}`)
  const labels = targets.flatMap(({ expr }) =>
    [...expr.matchAll(/ by \(([^)]*)\)/g)].flatMap(([, by = '']) => by.split(', ')),
  )
  const made = targets.flatMap(({ expr }) =>
    [...expr.matchAll(/, "(\w+)", "[^"]*", "[^"]*", "[^"]*"\)/g)].map(([, label = '']) => label),
  )
  const fields = new Set([...values, ...labels, ...made])
  const titles = new Set(renamed.map(([, shownAs]) => String(shownAs)))
  const linked = [...JSON.stringify(fieldConfig.overrides).matchAll(/__data\.fields\.(\w+)/g)].map(
    ([, field = '']) => field,
  )
  return [
    ...renamed.filter(([field]) => !fields.has(field)).map(([field]) => `${title}: no field ${field}`),
    ...values
      .filter((value) => !renamed.some(([field]) => field === value))
      .map((value) => `${title}: ${value} unnamed`),
    ...linked.filter((field) => !fields.has(field)).map((field) => `${title}: a link uses ${field}`),
    ...fieldConfig.overrides
      .filter(({ matcher }) => !titles.has(matcher.options))
      .map(({ matcher }) => `${title}: no column ${matcher.options}`),
  ]
}

describe('queries', () => {
  it('please promtool, all of them', (context) => {
    const promtool = needed(context, 'promtool')
    const rules = shippedDashboards.flatMap((dashboard) =>
      queriesOf(dashboard).map(({ expr }, index) => ({
        record: `${dashboard.name}:query_${index}`,
        expr: substituted(expr, { range: 3600, rateInterval: 300 }),
      })),
    )
    expect(rules.length).toBeGreaterThan(150)
    const directory = mkdtempSync(join(tmpdir(), 'mcp-vitals-dashboards-'))
    const file = join(directory, 'rules.yaml')
    try {
      // YAML reads JSON.
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboards', rules }] }))
      const { status, stdout, stderr } = spawnSync(promtool, ['check', 'rules', file], { encoding: 'utf8' })
      expect([status, stderr]).toEqual([0, ''])
      expect(stdout).toContain(`${rules.length} rules found`)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  const filtered = 'job=~"$job", instance=~"$instance"'
  it.each([
    ['sum(', 'no PromQL'],
    [`mcp_upstream_ups{${filtered}}`, 'no series is called mcp_upstream_ups'],
    [`mcp_upstream_up{${filtered}, leg="upstream"}`, 'mcp_upstream_up has no leg'],
    ['mcp_upstream_up{instance=~"$instance"}', 'not filtered by job'],
    ['mcp_upstream_up{job=~"$job", instance="$instance"}', 'not filtered by instance'],
    [`mcp_heartbeats_total{${filtered}}`, 'not aggregated'],
    [`delta(mcp_heartbeats_total{${filtered}}[$__rate_interval])`, 'not aggregated'],
    [`rate(mcp_heartbeats_total{${filtered}}[2m])`, 'not $__rate_interval'],
    [`sum by (leg) (mcp_upstream_up{${filtered}})`, 'nothing has the label leg'],
    [`mcp_upstream_up{${filtered}, upstream="$server"}`, 'unknown variable'],
  ])('%s is found wrong', (expr, problem) => {
    expect(problemsOf(expr).join('\n')).toContain(problem)
  })

  it('leave no metric of ours out', () => {
    const asked = shippedDashboards.flatMap(queriesOf).map(({ expr }) => expr)
    const isAsked = (family: string) => asked.some((expr) => new RegExp(`\\b${family}(_bucket|_count)?\\{`).test(expr))
    expect(liveMetrics().filter(({ family }) => !isAsked(family))).toEqual([])
  })

  it('ask prom-client for series that it has', async () => {
    const observed = runtimeMetrics(fakeClock())
    const names = new Set((await observed.collect()).map(({ name }) => name))
    await observed.stop()
    expect(runtimeSeries.filter((name) => !names.has(name.replace(/_(sum|count)$/, '')))).toEqual([])
  })
})

describe('thresholds', () => {
  const { errorRateThresholdPercent, responseTimeThresholdMs } = defaults.heartbeat
  const errorShare = errorRateThresholdPercent / 100
  const seconds = responseTimeThresholdMs / 1000

  it('are 5 % and 1000 ms by default', () => {
    expect([errorShare, seconds]).toEqual([0.05, 1])
  })

  const panel = (name: string, title: string) => {
    const found = shippedDashboards.find((one) => one.name === name)?.shown.filter((one) => one.title === title) ?? []
    expect(found.length).toBeGreaterThan(0)
    return found
  }
  it.each([
    ['fleet', 'Availability', defaults.alerts.availabilityObjectivePercent / 100],
    ['upstream', 'Availability', defaults.alerts.availabilityObjectivePercent / 100],
    ['slo', 'Availability', defaults.alerts.availabilityObjectivePercent / 100],
    ['fleet', 'Failed heartbeats', errorShare],
    ['fleet', 'Failed requests', errorShare],
    ['fleet', 'Heartbeat latency, p50', seconds],
    ['fleet', 'Heartbeat latency, p95', seconds],
    ['fleet', 'Heartbeat latency, p99', seconds],
    ['upstream', 'Failed heartbeats', errorShare],
    ['upstream', 'Heartbeat latency', seconds],
    ['upstream', 'Failed calls by tool', errorShare],
  ])('of %s, %s begin at the default', (name, title, limit) => {
    for (const { fieldConfig } of panel(name, title)) {
      expect(fieldConfig.defaults.thresholds?.steps.map(({ value }) => value)).toEqual([null, limit])
    }
  })

  it.each([
    ['fleet', 'Servers', 'Failed heartbeats', errorShare],
    ['fleet', 'Servers', 'p95', seconds],
    ['upstream', 'Tools', 'Failed', errorShare],
  ])('of %s, %s, column %s begin at the default', (name, title, column, limit) => {
    const [found] = panel(name, title)
    const override = found?.fieldConfig.overrides.find(({ matcher }) => matcher.options === column)
    const value = override?.properties.find(({ id }) => id === 'thresholds')?.value
    expect(value).toMatchObject({ steps: [{ value: null }, { value: limit }] })
  })
})

describe('the table of what needs action', () => {
  const table = shippedDashboards.find(({ name }) => name === 'fleet')?.shown[0]

  it('is the first thing on the first dashboard, and says that nothing needs action when it is empty', () => {
    expect(table).toMatchObject({ title: 'Needs action', type: 'table', gridPos: { x: 0, y: 0, w: 24 } })
    expect(table?.fieldConfig.defaults.noValue).toBe('Nothing needs action')
  })

  it('leads from each row to the server and to the runbook of an alert that exists', () => {
    const urls = table?.fieldConfig.overrides.flatMap(({ properties }) =>
      properties.flatMap(({ id, value }) =>
        id === 'links' ? (JSON.stringify(value).match(/"url":"[^"]*"/g) ?? []) : [],
      ),
    )
    expect(urls).toEqual([
      expect.stringContaining(`/d/${dashboardUids.upstream}?`),
      expect.stringContaining(`${runbookBase}/\${__value.raw}.md`),
    ])
    const named = table?.targets.flatMap(({ expr }) =>
      [...expr.matchAll(/"alert", "(\w+)"/g)].map(([, alert]) => alert),
    )
    expect(named?.length).toBeGreaterThan(10)
    const known = new Map(alertNames.map((alert): [string, string] => [alert, runbookUrl(alert)]))
    for (const alert of named ?? []) {
      expect(known.get(alert ?? '')).toBe(`${runbookBase}/${alert}.md`)
      expect(existsSync(join(repoRoot, `dashboards/runbooks/${alert}.md`))).toBe(true)
    }
  })
})

describe('the links of alerts', () => {
  it.each(alerts.map((alert) => ({ alert, url: alertingRule(alert).annotations.dashboard_url })))(
    '$alert.alert ($alert.severity) leads to a dashboard, and chooses what can be chosen there',
    ({ url }) => {
      const [, uid, query = ''] = /\/d\/([\w-]+)\?(.*)$/.exec(url) ?? []
      const dashboard = shippedDashboards.find((one) => one.uid === uid)
      const names = dashboard?.templating.list.map((variable) => variable.name)
      const chosen = [...query.matchAll(/var-(\w+)=/g)].map(([, name]) => name)
      expect(chosen.length).toBeGreaterThan(1)
      expect(names).toEqual(expect.arrayContaining(chosen))
    },
  )
})

describe('the generator', () => {
  const small = (widths: readonly number[]): DashboardPlan => ({
    name: 'fleet',
    description: 'Small.',
    from: 'now-1h',
    upstream: 'none',
    sections: [
      {
        title: 'Section',
        panels: widths.map((width) =>
          stat({ title: `Of ${width}`, description: 'One.', queries: [{ expr: 'up' }], unit: 'none', width }),
        ),
      },
    ],
  })

  it.each([
    [[12], 'the line of Of 12 ends at column 12 of 24'],
    [[12, 13], 'Of 13 ends at column 25 of 24'],
  ])('refuses lines of %j columns', (widths, message) => {
    expect(() => assembled(small(widths))).toThrow(message)
  })

  it('makes the same of a plan each time', () => {
    const plan = small([12, 12])
    expect(JSON.stringify(assembled(plan))).toBe(JSON.stringify(assembled(plan)))
  })

  it('refuses matchers on labels that a metric does not have', () => {
    expect(() => sidecars.series(metrics.upstreamUp, { leg: is('client') })).toThrow('mcp_upstream_up has no label leg')
  })
})
