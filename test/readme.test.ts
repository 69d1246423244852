import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { alertNames, sentAlertTexts, sentAlerts } from '../src/alerts/names.ts'
import type { Config } from '../src/config/config.ts'
import { loadConfig } from '../src/config/load.ts'
import { fileSchema } from '../src/config/schema.ts'
import { defaults } from '../src/defaults.ts'
import { KnownError, errorCodes } from '../src/errors.ts'
import { outcomes } from '../src/heartbeat/classify.ts'
import { firstDecision } from '../src/heartbeat/interval.ts'
import { heartbeatFields } from '../src/heartbeat/log-line.ts'
import { isUp, newVerdict, states } from '../src/heartbeat/verdict.ts'
import { errorMessageFor, statusOf } from '../src/proxy/replies.ts'
import { labelName, liveMetrics, metricsTable } from '../src/telemetry/names.ts'
import { adminRoutes } from './support/admin-routes.ts'
import { intervalSettings } from './support/settings.ts'

const root = join(import.meta.dirname, '..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

/** The text below a heading of the second level, up to the next one. */
function section(title: string): string {
  const text = `\n${readme}`.split('\n## ').find((part) => part.startsWith(`${title}\n`))
  expect(text, `the README has a section "${title}"`).toBeDefined()
  return text ?? ''
}

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].flatMap(([, name, body]) =>
    name === language ? (body ?? '') : [],
  )
}

/** Rows of all tables of a text: the cells without their padding. */
function rows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('| '))
  return lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

describe('the section on configuration', () => {
  const configuration = section('Configuration')
  const files = blocks(configuration, 'yaml')
  const load = (text: string) =>
    loadConfig({ files: ['mine.yaml'], env: {}, readFile: (path) => (path === 'mine.yaml' ? text : secretLike(path)) })

  it('has files that load', () => {
    expect(files).toHaveLength(2)
    for (const file of files) expect(() => load(file)).not.toThrow()
    expect(load(files[0] ?? '').notices).toEqual([])
  })

  it('shows the defaults as they are', () => {
    const { upstreams, ...shown }: Config = load(files[0] ?? '').config
    const { upstreams: _, ...defaults } = loadConfig({ files: [], env: {} }).config
    expect(shown).toEqual(defaults)
    expect(upstreams.map(({ name }) => name)).toEqual(['files', 'search', 'local', 'mail'])
    expect(upstreams[0]?.target).toMatchObject({ transport: 'stdio', resident: 'when_idle' })
    expect(upstreams[1]?.target).toMatchObject({ transport: 'http', upstreamHost: 'auto' })
    expect(upstreams[2]?.target).toMatchObject({ transport: 'sse', launch: { command: 'node' } })
  })

  it.each(keysOf(z.toJSONSchema(fileSchema, { io: 'input' })))('names the key %s', (key) => {
    expect(configuration).toMatch(new RegExp(`(?<![\\w.])${key.replace('$', '\\$')}(?![\\w-])`))
  })
})

/** What may stand in a file of that name. */
function secretLike(path: string): string {
  const isPem = /\.(pem|key)$/.exec(path)
  return isPem ? readFileSync(join(import.meta.dirname, `config/files/secrets/client${isPem[0]}`), 'utf8') : 'token\n'
}

/** Every key of a JSON Schema's objects, each once. */
function keysOf(schema: unknown): string[] {
  const keys = new Set<string>()
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    if ('properties' in value && typeof value.properties === 'object' && value.properties !== null) {
      for (const key of Object.keys(value.properties)) keys.add(key)
    }
    Object.values(value).forEach(visit)
  }
  visit(schema)
  return [...keys]
}

describe('the section on endpoints', () => {
  const endpoints = section('Endpoints')
  const shown = (path: string) => `\`${path.replace(/:(\w+)/, '<$1>')}\``

  it('names every path of the admin listener', () => {
    const paths = adminRoutes()
      .filter(({ method }) => method !== 'ALL')
      .map(({ path }) => path)
    expect(paths.length).toBeGreaterThan(4)
    for (const path of paths) expect(endpoints).toContain(`| ${shown(path)} `)
  })

  it('names every path of the data listener', () => {
    const source = readFileSync(join(root, 'src/proxy/app.ts'), 'utf8')
    const paths = [...source.matchAll(/app\.(?:all|get|post)\(\s*'([^']+)'/g)].map(([, path]) => path ?? '')
    expect(paths.length).toBeGreaterThan(2)
    for (const path of paths) expect(endpoints).toContain(`| ${shown(path)} `)
  })
})

describe('the section on heartbeats', () => {
  const table = rows(section('Heartbeats'))

  it.each(outcomes)('explains the outcome %s', (outcome) => {
    expect(table.some(([cell]) => cell?.split(', ').includes(`\`${outcome}\``))).toBe(true)
  })

  it.each(states)('explains the state %s, and whether it is up', (state) => {
    const row = table.find(([cell]) => cell === `\`${state}\``)
    if (!row) return expect(section('Heartbeats')).toMatch(new RegExp(`^.*\`${state}\`.* reserved`, 'm'))
    const up = isUp(state)
    expect(row[1]).toBe(up === undefined ? 'absent' : up ? '1' : '0')
  })
})

describe('the section on errors', () => {
  const errors = section('Errors')
  const table = rows(errors).filter(([code]) => code?.startsWith('`'))
  // These end the program before it could answer anybody.
  const inReplies = errorCodes.filter((code) => !['usage', 'config_invalid', 'listen_failed'].includes(code))

  it.each(inReplies)('tells about %s what the reply has', (code) => {
    const row = table.find(([cell]) => cell === `\`${code}\``)
    expect(row, `the table has a row for ${code}`).toBeDefined()
    if (!row) return
    const reply: unknown = JSON.parse(errorMessageFor(new KnownError(code, ''), undefined))
    expect(reply).toMatchObject({ error: { code: Number(row[2]), data: { reason: code } } })
    expect(row[1]).toBe(String(statusOf(code)))
  })

  it('has no code that does not exist', () => {
    expect(table.length).toBeGreaterThan(10)
    for (const [code] of table) expect(errorCodes).toContain(code?.replaceAll('`', ''))
  })
})

describe('metrics', () => {
  it('are the table that the program prints', () => {
    expect(section('Metrics')).toContain(metricsTable())
  })

  it('exist wherever the README names one', () => {
    const families = new Set(liveMetrics().map(({ family }) => family))
    const labels = new Set(liveMetrics().flatMap((metric) => metric.labels.map(labelName)))
    const named = [...readme.matchAll(/\bmcp_[a-z_]+[a-z]\b/g)].map(([name]) => name)
    const unknown = named.filter((name) => !families.has(name.replace(/_(bucket|sum|count)$/, '')) && !labels.has(name))
    expect(named.length).toBeGreaterThan(liveMetrics().length)
    expect(unknown.filter((name) => name !== 'mcp_server' && name !== 'mcp_client')).toEqual([])
  })
})

describe('alerts', () => {
  it('exist wherever the README names one', () => {
    const named = [...readme.matchAll(/\bMcp[A-Z]\w+/g)].map(([name]) => name)
    expect(new Set(named)).toEqual(new Set(alertNames))
  })

  it('that mcp-vitals sends by itself are in a table, and no others', () => {
    const told = rows(section('Notifications')).flatMap(([alert = '', severity]) =>
      alert.startsWith('`') ? [`${alert} ${severity}`] : [],
    )
    expect(told.toSorted()).toEqual(sentAlerts.map((name) => `\`${name}\` ${sentAlertTexts[name].severity}`).toSorted())
  })

  it('are sent as the README says', () => {
    const { maxWaiting, timeoutMs, backoff } = defaults.notifications
    const figures = [
      `no answer within ${timeoutMs / 1000} s`,
      `after ${backoff.firstMs / 1000} s, 2 s, 4 s … ${backoff.maxMs / 1000} s with jitter`,
      `(${backoff.maxRetryAfterMs / 60_000} minutes at most)`,
      `At most ${maxWaiting.toLocaleString('en')} alerts`,
    ]
    for (const figure of figures) expect(section('Notifications')).toContain(figure)
  })

  it('have the thresholds of the dashboards', () => {
    const { errorRateThresholdPercent, responseTimeThresholdMs } = defaults.heartbeat
    expect(section('Dashboards')).toContain(`${errorRateThresholdPercent} % and ${responseTimeThresholdMs} ms`)
  })
})

it('the tests that keep troubles of other proxies away are there', () => {
  const named = rows(section('Development')).flatMap(([, tests = '']) =>
    [...tests.matchAll(/`(test\/[^`]+)`: (.*?)(?= · `test|$| · )/g)].map(([, file = '', title = '']) => ({
      file,
      title,
    })),
  )
  expect(named.length).toBeGreaterThanOrEqual(14)
  for (const { file, title } of named) {
    expect(readFileSync(join(root, file), 'utf8'), `${file} has "${title}"`).toContain(title)
  }
})

describe('the section on the log', () => {
  const fields = heartbeatFields({
    upstream: 'files',
    transport: 'stdio',
    protocolVersion: undefined,
    report: {
      result: { leg: 'upstream', method: 'ping', outcome: 'ok', durationMs: 1, reason: 'ping answered' },
      startedAtWallMs: 0,
      timeoutMs: 2000,
    },
    status: {
      verdict: newVerdict('healthy', 'ping answered', 0),
      interval: firstDecision(intervalSettings),
      timeoutMs: 2000,
      nextProbeInMs: undefined,
      unasked: undefined,
      lastSuccessWallMs: undefined,
      inventory: undefined,
      unavailableSeconds: 0,
      flapPenalty: 0,
      probe: 'active',
      rung: 'ping',
      pausedUntilWallMs: undefined,
    },
    totals: { heartbeats: 1, answered: 1, failures: 0 },
    session: undefined,
    pendingMessages: 0,
    nowMs: 0,
    traceId: '',
    includeClient: true,
    includePerformance: true,
  })

  it('explains every field of a heartbeat line, and no other', () => {
    const explained = rows(section('Log')).flatMap(([cell]) => cell?.match(/(?<=`)\w+(?=`)/g) ?? [])
    expect(explained.toSorted()).toEqual(Object.keys(fields).toSorted())
  })

  it('shows a heartbeat line with these fields', () => {
    const lines = blocks(readme, 'json').flatMap((block) => block.split('\n'))
    const line = lines.find((text) => text.includes('"msg":"heartbeat"')) ?? ''
    expect(Object.keys(z.record(z.string(), z.unknown()).parse(JSON.parse(line))).toSorted()).toEqual(
      ['ts', 'level', 'msg', ...Object.keys(fields)].toSorted(),
    )
  })
})

it('every environment variable of OpenTelemetry that the program reads is in the README', () => {
  const sources = ['trace-settings.ts', 'push-settings.ts', 'otlp-settings.ts', 'resource.ts'].map((name) =>
    readFileSync(join(root, 'src/telemetry', name), 'utf8'),
  )
  const variables = sources.flatMap((text) => [...text.matchAll(/['`](OTEL_\w+)[$'`]/g)].map(([, name]) => name))
  expect(variables.length).toBeGreaterThan(6)
  for (const name of variables) expect(section('Traces and pushed metrics')).toContain(name)
})
