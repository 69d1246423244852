/** The example configurations for Prometheus and Alertmanager: valid, and about alerts that exist. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { type AlertName, alertNames } from '../../dashboards/src/links.ts'
import { type Severity, severities } from '../../dashboards/src/rule.ts'
import { alertmanagerConfig, prometheusConfig } from '../../deploy/stack/shipped-config.ts'
import { defaults } from '../../src/defaults.ts'
import { repoRoot } from '../peers/spawn.ts'
import { startAlertmanager } from '../support/alertmanager.ts'
import { eventually } from '../support/eventually.ts'
import { needed } from '../support/prometheus.ts'

const prometheusFile = join(repoRoot, 'deploy/prometheus/prometheus.yml')
const alertmanagerFile = join(repoRoot, 'deploy/alertmanager/alertmanager.yml')

const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-monitoring-'))
afterAll(() => rmSync(folder, { recursive: true }))

function written(name: string, text: string): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

function run(program: string, args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  return { status, stdout, stderr }
}

const places = {
  admin: '127.0.0.1:1464',
  alertmanager: '127.0.0.1:1093',
  rules: join(repoRoot, 'dashboards/rules/*.yaml'),
  wrappers: '/nowhere/*.json',
}

describe("Prometheus' configuration", () => {
  it('is accepted by promtool, as it ships and as the stack runs it', (context) => {
    const promtool = needed(context, 'promtool')
    const adapted = written('prometheus.yml', prometheusConfig(readFileSync(prometheusFile, 'utf8'), places))
    for (const file of [prometheusFile, adapted]) {
      expect(run(promtool, ['check', 'config', file])).toMatchObject({ status: 0 })
    }
  })

  it('finds mcp-vitals where it listens by default', () => {
    expect(readFileSync(prometheusFile, 'utf8')).toContain(`targets: ['${defaults.adminListen}']`)
  })

  it('has nothing but addresses, times and paths changed by the stack', () => {
    const shipped = readFileSync(prometheusFile, 'utf8')
    const alone = prometheusConfig(shipped, { ...places, alertmanager: undefined })
    const config = prometheusConfig(shipped, places)
    expect(addressless(parse(config))).toEqual(addressless(parse(shipped)))
    expect(config).toContain(places.admin)
    expect(config).toContain(places.alertmanager)
    expect(alone).not.toContain(places.alertmanager)
  })
})

/** Keys alone where addresses, times and paths may stand. */
function addressless(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(addressless)
  if (typeof value !== 'object' || value === null) return value
  const isPlace = (key: string) => /^(targets|files|rule_files|.*_interval)$/.test(key)
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [key, isPlace(key) ? 'somewhere' : addressless(one)]),
  )
}

describe("Alertmanager's configuration", () => {
  const shipped = readFileSync(alertmanagerFile, 'utf8')
  const rule = z.object({
    source_matchers: z.array(z.string()),
    target_matchers: z.array(z.string()),
    equal: z.array(z.string()),
  })
  const config = z.object({ inhibit_rules: z.array(rule) }).parse(parse(shipped))

  it('is accepted by amtool, as it ships and as the stack runs it', (context) => {
    const amtool = needed(context, 'amtool')
    const adapted = written('alertmanager.yml', alertmanagerConfig(shipped, 'http://127.0.0.1:1'))
    for (const file of [alertmanagerFile, adapted]) {
      expect(run(amtool, ['check-config', file])).toMatchObject({ status: 0 })
    }
  })

  const receivers: Readonly<Record<Severity, string>> = { critical: 'pages', warning: 'tickets', info: 'notes' }
  it.for(severities)('tells somebody of %s alerts', (severity, context) => {
    const test = ['config', 'routes', 'test', `--config.file=${alertmanagerFile}`, `severity=${severity}`]
    const told = run(needed(context, 'amtool'), test)
    expect(told).toMatchObject({ status: 0, stdout: `${receivers[severity]}\n` })
  })

  it('tells mcp-vitals too, with the lines for that no longer in comments', (context) => {
    // Prose has one space behind its #, these lines have a dash or more spaces.
    const uncommented = shipped.replaceAll(/^( +)#(?=- | {2,})/gm, '$1')
    const amtool = needed(context, 'amtool')
    const file = written('uncommented.yml', uncommented)
    expect(run(amtool, ['check-config', file])).toMatchObject({ status: 0 })
    const alert = ['alertname=McpUpstreamDown', 'severity=critical']
    const told = run(amtool, ['config', 'routes', 'test', `--config.file=${file}`, ...alert])
    expect(told).toMatchObject({ status: 0, stdout: 'mcp-vitals,pages\n' })
    expect(uncommented).toContain(`\n      - url: http://${defaults.adminListen}/alerts\n`)
  })

  it('silences and is silenced by alerts that exist', () => {
    const matchers = config.inhibit_rules.flatMap((one) => [...one.source_matchers, ...one.target_matchers])
    const named = matchers.flatMap((matcher) => /^alertname=~?"(.*)"$/.exec(matcher)?.[1]?.split('|') ?? [])
    expect(named.length).toBeGreaterThan(10)
    for (const name of named) {
      expect(alertNames.filter((alert) => new RegExp(`^(${name})$`).test(alert))).not.toEqual([])
    }
  })

  it('keeps silent about what follows from something else, and about nothing else', async (context) => {
    const alertmanager = await startAlertmanager(
      needed(context, 'prometheus-alertmanager'),
      parse(alertmanagerConfig(shipped, 'http://127.0.0.1:1')),
    )
    try {
      const firing: [alertname: AlertName, severity: Severity, instance: string, upstream?: string][] = [
        ['McpUpstreamDown', 'critical', 'one', 'files'],
        ['McpHeartbeatErrorRateHigh', 'warning', 'one', 'files'],
        ['McpAvailabilityBurnRateHigh', 'critical', 'one', 'files'],
        ['McpHeartbeatErrorRateHigh', 'warning', 'one', 'search'],
        ['McpHeartbeatSlow', 'warning', 'two', 'files'],
        ['McpVitalsDown', 'critical', 'three'],
        ['McpUpstreamDown', 'critical', 'three', 'files'],
        ['McpVitalsOverloaded', 'critical', 'four'],
        ['McpVitalsOverloaded', 'warning', 'four'],
        ['McpHeartbeatSlow', 'warning', 'four', 'files'],
        ['McpUpstreamDown', 'critical', 'four', 'files'],
      ]
      const alerts = firing.map(([alertname, severity, instance, upstream]) => ({
        labels: { alertname, severity, job: 'mcp-vitals', instance, ...(upstream !== undefined && { upstream }) },
      }))
      await fetch(`${alertmanager.url}/api/v2/alerts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(alerts),
      })
      const silenced = await eventually(
        async () => {
          const shown = shownAlerts.parse(await alertmanager.api('alerts'))
          const muted = shown.filter(({ status }) => status.inhibitedBy.length > 0)
          // What silences is looked at a moment after it is known.
          return shown.length === firing.length && muted.length >= 5 && muted.map(({ labels }) => wordsOf(labels))
        },
        { what: 'Alertmanager knows all of them' },
      )
      expect(silenced.toSorted()).toEqual([
        'McpAvailabilityBurnRateHigh critical one files',
        'McpHeartbeatErrorRateHigh warning one files',
        'McpHeartbeatSlow warning four files',
        'McpUpstreamDown critical three files',
        'McpVitalsOverloaded warning four',
      ])
    } finally {
      await alertmanager.stop()
    }
  })
})

const alertLabels = z.object({
  alertname: z.string(),
  severity: z.string(),
  instance: z.string(),
  upstream: z.string().optional(),
})

/** What Alertmanager's API says of each alert. */
const shownAlerts = z.array(z.object({ labels: alertLabels, status: z.object({ inhibitedBy: z.array(z.string()) }) }))

function wordsOf({ alertname, severity, instance, upstream }: z.infer<typeof alertLabels>): string {
  return [alertname, severity, instance, upstream].filter(Boolean).join(' ')
}
