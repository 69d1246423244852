/** The rule files are what the generator makes, and name nothing that does not exist. */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { format } from 'prettier'
import { describe, expect, it } from 'vitest'
import { committed, formatted } from '../../dashboards/src/generate.ts'
import { type AlertName, alertNames, grafanaBase } from '../../dashboards/src/links.ts'
import { recorded } from '../../dashboards/src/recording-rules.ts'
import { alerts, alertsTable, generatedRules, ruleFiles } from '../../dashboards/src/rules.ts'
import { defaults } from '../../src/defaults.ts'
import { repoRoot } from '../peers/spawn.ts'
import { needed } from '../support/prometheus.ts'
import { readQuery, seriesLabels, unknownNames } from '../support/promql.ts'
import { shippedDashboards } from './shipped.ts'

const rules = ruleFiles.flatMap(({ groups }) => groups.flatMap(({ rules }) => rules))

describe('the rule files', () => {
  it.each(generatedRules)('$path is what the generator makes', async (file) => {
    expect(committed(file)).toBe(await formatted(file))
  })

  it('come from the names, closed lists and defaults of the program, and from nothing else of it', () => {
    const sources = join(repoRoot, 'dashboards/src')
    const imported = readdirSync(sources)
      .filter((name) => name.endsWith('.ts'))
      .flatMap((name) => [...readFileSync(join(sources, name), 'utf8').matchAll(/from '\.\.\/\.\.\/(src\/[^']+)'/g)])
      .map(([, path = '']) => path)
    expect([...new Set(imported)].toSorted()).toEqual([
      'src/alerts/names.ts',
      'src/defaults.ts',
      'src/heartbeat/classify.ts',
      'src/heartbeat/verdict.ts',
      'src/telemetry/names.ts',
      'src/upstreams/upstream.ts',
    ])
  })

  it('please promtool', (context) => {
    const promtool = needed(context, 'promtool')
    const files = generatedRules.map(({ path }) => join(repoRoot, path))
    const { status, stdout, stderr } = spawnSync(promtool, ['check', 'rules', '--lint=all', '--lint-fatal', ...files], {
      encoding: 'utf8',
    })
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toContain(`${rules.length - alerts.length} rules found`)
  })

  it('have an alert for every name, and a name for every alert', () => {
    expect(new Set(alerts.map(({ alert }) => alert))).toEqual(new Set(alertNames))
  })

  it.each(rules.map((rule) => ({ name: 'record' in rule ? rule.record : rule.alert, expr: rule.expr })))(
    '$name names only what exists',
    ({ expr }) => {
      expect(unknownNames(expr)).toEqual([])
    },
  )
})

/**
 * Every number in the expressions of alerts, and of what is recorded for one alert alone. 0 and 1 are flags and bounds
 * that nobody would tune.
 */
const budget = (100 - defaults.alerts.availabilityObjectivePercent) / 100
const { page, ticket } = defaults.alerts.burnRates
const rates = (tiers: readonly { readonly rate: number }[]) => tiers.flatMap(({ rate }) => [rate, budget])
const outage = [defaults.alerts.outageShare, defaults.alerts.crashes]
const limits: Readonly<Record<AlertName, readonly number[]>> = {
  McpUpstreamDown: [],
  McpUpstreamsSilentTogether: [],
  McpHeartbeatErrorRateHigh: [
    defaults.heartbeat.errorRateThresholdPercent / 100,
    defaults.alerts.heartbeatMisses,
    ...outage,
  ],
  McpHeartbeatSlow: [defaults.heartbeat.responseTimeThresholdMs / 1000],
  McpUpstreamFlapping: [defaults.alerts.flaps, defaults.alerts.crashes],
  McpProcessCrashLooping: [],
  McpProcessMemoryGrowing: [
    defaults.alerts.memoryHorizonSeconds,
    defaults.alerts.memoryBytes,
    defaults.alerts.memoryGrowth,
  ],
  McpUpstreamNeedsAuth: [],
  McpInventoryShrank: [],
  McpToolErrorRateHigh: [defaults.alerts.toolErrorRatio, defaults.alerts.toolErrors, ...outage],
  McpSessionsWithIssues: [],
  McpConnectionPoolExhausted: [],
  McpAvailabilityBurnRateHigh: rates(page),
  McpAvailabilityBurnRateSlow: rates(ticket),
  McpVitalsDown: [],
  McpVitalsOverloaded: [defaults.shedding.loadFrom],
  McpVitalsConfigReloadFailed: [],
  McpVitalsLabelOverflow: [defaults.alerts.labelOverflows],
}

describe('the links of alerts', () => {
  const alerting = rules.flatMap((rule) => ('alert' in rule ? [rule] : []))

  it.each(alerting)('$alert leads to a dashboard that there is, and sets variables that it has', ({ annotations }) => {
    const { origin, pathname, searchParams } = new URL(annotations.dashboard_url)
    const dashboard = shippedDashboards.find(({ uid }) => pathname === `/d/${uid}`)
    expect(origin).toBe(grafanaBase)
    const variables = dashboard?.templating.list.map(({ name }) => `var-${name}`)
    expect(variables).toEqual(expect.arrayContaining([...searchParams.keys()]))
    for (const [name, value] of searchParams)
      expect(value).toBe(`{{ $labels.${name.slice('var-'.length)} | urlquery }}`)
  })
})

describe('limits', () => {
  const numbersIn = (expressions: readonly string[]) =>
    new Set(
      expressions
        .flatMap((expr) => readQuery(expr).numbers.map(({ text }) => Number(text)))
        .filter((number) => number !== 0 && number !== 1),
    )

  it.each(alertNames)('of %s are those of defaults.ts, and no others', (name) => {
    const expressions = alerts.filter(({ alert }) => alert === name).map(({ expr }) => expr)
    expect(numbersIn(expressions)).toEqual(new Set(limits[name].filter((limit) => limit !== 1)))
  })

  it('of recording rules are quantiles and those of defaults.ts', () => {
    const recordings = rules.flatMap((rule) => ('record' in rule ? [rule.expr] : []))
    expect(numbersIn(recordings)).toEqual(new Set([0.5, 0.95, defaults.alerts.crashes, budget]))
  })
})

describe('the README', () => {
  const readme = readFileSync(join(repoRoot, 'README.md'), 'utf8')

  it('has the table of alerts that the rules make', async () => {
    expect(readme).toContain(await format(alertsTable(), { parser: 'markdown' }))
  })
})

describe('recording rules', () => {
  const shown = [
    ...shippedDashboards.map(({ name }) => `dashboards/${name}.json`),
    ...alertNames.map((alert) => `dashboards/runbooks/${alert}.md`),
  ]
    .map((path) => readFileSync(join(repoRoot, path), 'utf8'))
    .join('\n')
  const records = rules.flatMap((rule) => ('record' in rule ? [rule] : []))

  it('are called level:metric:operation, each once', () => {
    for (const { record } of records) expect(record).toMatch(/^(upstream|tool):mcp_[a-z_]+:[a-z0-9_]+$/)
    expect(new Set(records.map(({ record }) => record)).size).toBe(records.length)
  })

  it.each(records)('$record is of use: to an alert, another rule, a dashboard or a runbook', ({ record }) => {
    const used = rules.some(({ expr }) => expr.includes(record)) || shown.includes(record)
    expect(used).toBe(true)
  })

  it('are those that alerts and dashboards take their names from', () => {
    const names = records.map(({ record }) => record)
    expect(names).toEqual(expect.arrayContaining(Object.values(recorded)))
  })
})

it('names that do not exist are found', () => {
  expect(seriesLabels.size).toBeGreaterThan(50)
  expect(unknownNames('rate(mcp_heartbeats[5m])')).toEqual(['no series mcp_heartbeats'])
  expect(unknownNames('mcp_upstream_up{legs="upstream"}')).toEqual(['mcp_upstream_up has no label legs'])
  expect(unknownNames('sum by (leg) (mcp_upstream_up)')).toEqual(['nothing has the label leg'])
  expect(unknownNames('ALERTS{alertname="McpDown"}')).toEqual(['no alertname McpDown'])
  expect(() => unknownNames('sum(mcp_upstream_up')).toThrow('no PromQL')
})
