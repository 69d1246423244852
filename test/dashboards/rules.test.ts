/** The rule files are what the generator makes, and name nothing that does not exist. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { committed, formatted } from '../../dashboards/src/generate.ts'
import { alertNames } from '../../dashboards/src/links.ts'
import { recorded } from '../../dashboards/src/recording-rules.ts'
import { alerts, generatedRules, ruleFiles } from '../../dashboards/src/rules.ts'
import { repoRoot } from '../peers/spawn.ts'
import { needed } from '../support/prometheus.ts'
import { seriesLabels, unknownNames } from '../support/promql.ts'

const rules = ruleFiles.flatMap(({ groups }) => groups.flatMap(({ rules }) => rules))

describe('the rule files', () => {
  it.each(generatedRules)('$path is what the generator makes', async (file) => {
    expect(committed(file)).toBe(await formatted(file))
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

describe('recording rules', () => {
  const records = rules.flatMap((rule) => ('record' in rule ? [rule] : []))

  it('are called level:metric:operation, each once', () => {
    for (const { record } of records) expect(record).toMatch(/^(upstream|tool):mcp_[a-z_]+:[a-z0-9_]+$/)
    expect(new Set(records.map(({ record }) => record)).size).toBe(records.length)
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
