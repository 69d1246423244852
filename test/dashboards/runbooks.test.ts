/** The runbooks: one for each alert, and nothing in them that does not exist. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { debugReportSchema } from '../../src/admin/debug.ts'
import { fileSchema } from '../../src/config/schema.ts'
import { defaults } from '../../src/defaults.ts'
import { errorCodes } from '../../src/errors.ts'
import { outcomes } from '../../src/heartbeat/classify.ts'
import { states } from '../../src/heartbeat/verdict.ts'
import { type AlertName, alertNames, runbookUrl } from '../../dashboards/src/links.ts'
import { alerts } from '../../dashboards/src/rules.ts'
import { repoRoot } from '../peers/spawn.ts'
import { needed } from '../support/prometheus.ts'
import { seriesLabels, unknownNames } from '../support/promql.ts'
import { adminRoutes } from '../support/admin-routes.ts'

const folder = join(repoRoot, 'dashboards/runbooks')
const sections = ['What it means', 'What users feel', 'How to confirm', 'What mcp-vitals did already', 'How to fix']

const runbooks = alertNames.map((alert) => ({ alert, text: readFileSync(join(folder, `${alert}.md`), 'utf8') }))

/** The code blocks in that language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].flatMap(([, name, body = '']) =>
    name === language ? [body] : [],
  )
}

/** Queries stand apart by empty lines. */
function queriesOf(text: string): string[] {
  return blocks(text, 'promql').flatMap((block) => block.split('\n\n').map(withoutComments))
}

const withoutComments = (query: string) => query.replaceAll(/^#.*$/gm, '').trim()

/** Commands that ask the admin listener, in code blocks and in sentences. */
function commandsOf(text: string): string[] {
  const inSentences = [...text.matchAll(/`(curl [^`]*)`/g)].map(([, command = '']) => command)
  const inBlocks = blocks(text, 'sh').flatMap((block) => block.split('\n').filter((line) => line.startsWith('curl ')))
  return [...inSentences, ...inBlocks].filter((command) => command.includes('127.0.0.1:9464'))
}

/** Every key of a JSON Schema's objects. */
function keysOf(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const own = 'properties' in schema ? Object.keys(schema.properties ?? {}) : []
  return [...own, ...Object.values(schema).flatMap(keysOf)]
}

const debugKeys = new Set(keysOf(z.toJSONSchema(debugReportSchema)))
const configKeys = new Set(keysOf(z.toJSONSchema(fileSchema, { io: 'input' })))

/** Whether the admin listener has a route of its own for this request. */
function hasRoute(method: string, path: string): boolean {
  const patterns = adminRoutes()
    .filter((route) => route.method === method)
    .map((route) => route.path)
  return patterns.some((pattern) => new RegExp(`^${pattern.replaceAll(/:\w+/g, '[^/]+')}$`).test(path))
}

/** OAuth's errors, and values of labels and variables that no list of ours holds. */
const wordsOfOthers = ['tool_error', '_overflow', 'invalid_client', 'invalid_scope', 'https_proxy']

const { alerts: limits, breaker, requests, shedding, supervision } = defaults
const budgetPercent = 100 - limits.availabilityObjectivePercent
const budget = `${budgetPercent} % of 30 days (${((budgetPercent / 100) * 30 * 24).toFixed(1)} hours)`

const outage = `more than ${limits.outageShare * 600} s`

const numerals = ['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']

/** A number as prose has it. */
function inWords(number: number): string {
  return numerals[number] ?? String(number)
}

/** What runbooks say of defaults and limits besides when they fire. */
const figures: Partial<Record<AlertName, readonly string[]>> = {
  McpHeartbeatErrorRateHigh: [outage],
  McpToolErrorRateHigh: [
    outage,
    `at least ${inWords(limits.toolErrors)},`,
    `circuit breaker after ${inWords(breaker.failuresToOpen)} in a row`,
  ],
  McpUpstreamFlapping: [`at least ${inWords(limits.flaps)} times in half an hour`],
  McpProcessCrashLooping: [
    `at least ${inWords(limits.crashes)} times in a quarter of an hour`,
    `after ${inWords(supervision.startsBeforeCrashLoop)} starts that never became ready`,
    `… ${supervision.maxBackoffMs / 1000} s with jitter`,
    `ready for ${inWords(supervision.resetAfterReadyMs / 60_000)} minutes`,
    `only every ${inWords(supervision.crashLoopRetryMs / 60_000)} minutes`,
    `within ${supervision.startDeadlineMs / 1000} s`,
  ],
  McpAvailabilityBurnRateHigh: [budget, ...limits.burnRates.page.map(({ rate }) => `${rate} times`)],
  McpAvailabilityBurnRateSlow: [budget, `${limits.burnRates.ticket[0].rate} times`],
  McpConnectionPoolExhausted: [`${requests.maxInFlight} unless configured`, `(${requests.queueTimeoutMs / 1000} s)`],
  McpVitalsOverloaded: [`above ${shedding.loadFrom * 100} %`, `(${shedding.heapFrom * 100} %)`],
  McpVitalsLabelOverflow: [
    `up to ${defaults.maxLabelsPerUpstream} each`,
    `more than ${inWords(limits.labelOverflows)} requests`,
  ],
  McpUpstreamDown: [
    `every ${defaults.heartbeat.minIntervalSeconds} s`,
    `after ${inWords(breaker.failuresToOpen)} failures in a row`,
    `… ${supervision.maxBackoffMs / 1000} s`,
    `not ready within ${supervision.startDeadlineMs / 1000} s`,
  ],
  McpProcessMemoryGrowing: [
    `more than ${Math.round((limits.memoryGrowth - 1) * 100)} %`,
    `in ${inWords(limits.memoryHorizonSeconds / 3600)} hours`,
  ],
}

/** Words of jq itself in these commands. */
const jqWords = new Set(['map_values', 'map', 'select', 'join', 'group_by', 'length', 'hung'])

it('there is one for each alert, and no other', () => {
  expect(readdirSync(folder).toSorted()).toEqual(alertNames.map((alert) => `${alert}.md`).toSorted())
  for (const alert of alertNames) expect(runbookUrl(alert)).toMatch(new RegExp(`/dashboards/runbooks/${alert}\\.md$`))
})

describe.each(runbooks)('the runbook of $alert', ({ alert, text }) => {
  it('has its name and the sections that every runbook has', () => {
    expect(text.startsWith(`# ${alert}\n`)).toBe(true)
    expect([...text.matchAll(/^## (.*)$/gm)].map(([, title]) => title)).toEqual(sections)
  })

  it('says when it fires, as the rules do', () => {
    const rules = alerts.filter((one) => one.alert === alert)
    for (const { severity, when } of rules) expect(text).toContain(`- **${severity}** when ${when}.\n`)
    expect(text.match(/^- \*\*(critical|warning|info)\*\* when/gm)).toHaveLength(rules.length)
  })

  it('has the figures of the program', () => {
    for (const figure of figures[alert] ?? []) expect(text).toContain(figure)
  })

  it('has queries that name only what exists', () => {
    const queries = queriesOf(text)
    expect(queries.length).toBeGreaterThan(0)
    for (const query of queries) expect(unknownNames(query), query).toEqual([])
  })

  it('has queries that Prometheus can evaluate', (context) => {
    const promtool = needed(context, 'promtool')
    const rules = queriesOf(text).map((expr, index) => ({ record: `query:${index}`, expr }))
    const directory = mkdtempSync(join(tmpdir(), 'mcp-vitals-runbook-'))
    try {
      const file = join(directory, 'queries.yaml')
      // YAML reads JSON.
      writeFileSync(file, JSON.stringify({ groups: [{ name: alert, rules }] }))
      const { status, stderr } = spawnSync(promtool, ['check', 'rules', file], { encoding: 'utf8' })
      expect([status, stderr]).toEqual([0, ''])
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('has commands whose addresses exist, and that read what is there', () => {
    for (const command of commandsOf(text)) {
      const { pathname } = new URL(/http:[^\s']+/.exec(command)?.[0] ?? '')
      const method = command.includes('-X POST') ? 'POST' : 'GET'
      expect(hasRoute(method, pathname), command).toBe(true)
      const filter = /jq (?:-r )?'([^']*)'/.exec(command)?.[1] ?? ''
      const fields = (filter.match(/[a-z_]+/g) ?? []).filter((word) => !jqWords.has(word))
      expect(
        fields.filter((field) => !debugKeys.has(field)),
        command,
      ).toEqual([])
    }
  })

  it('names only settings, states, outcomes, errors and series that exist', () => {
    const known = new Set<string>([
      ...configKeys,
      ...debugKeys,
      ...states,
      ...outcomes,
      ...errorCodes,
      ...seriesLabels.keys(),
      ...[...seriesLabels.values()].flatMap((labels) => [...labels]),
      ...wordsOfOthers,
    ])
    const named = [...text.matchAll(/`([a-z_]+_[a-z_]+)`/g)].map(([, name = '']) => name)
    expect(named.filter((name) => !known.has(name))).toEqual([])
  })

  it('quotes only lines that are in the log', () => {
    const sources = readdirSync(join(repoRoot, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.ts'),
    )
    const program = sources.map((name) => readFileSync(join(repoRoot, 'src', name), 'utf8')).join('\n')
    const quoted = [...text.matchAll(/[Tt]he (?:line|log has|log says|log around) `([^`]+)`/g)].map(
      ([, line = '']) => line,
    )
    for (const line of quoted) expect(program).toContain(line)
  })

  it('leads to runbooks that exist', () => {
    for (const [, target = ''] of text.matchAll(/\]\(([^)]+)\)/g)) {
      expect(alertNames.map((name) => `${name}.md`)).toContain(target)
    }
  })
})
