/**
 * The whole way of an alert: a real mcp-vitals in front of real servers, a real Prometheus with the shipped rules, a real
 * Alertmanager, and whoever it calls. The rules' durations are a fifteenth of what they ship with, so that it takes one
 * minute in place of a quarter of an hour; nothing else about them is changed.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AlertName } from '../../dashboards/src/links.ts'
import type { Severity } from '../../dashboards/src/rule.ts'
import { ruleFiles } from '../../dashboards/src/rules.ts'
import { systemClock } from '../../src/clock.ts'
import { repoRoot } from '../peers/spawn.ts'
import { debugUpstream } from '../support/admin.ts'
import {
  type Notified,
  type RunningAlertmanager,
  type WebhookReceiver,
  startAlertmanager,
  webhookReceiver,
} from '../support/alertmanager.ts'
import { eventually } from '../support/eventually.ts'
import { type McpServer, type Reaction, mcpServer, result, sendJson } from '../support/mcp-server.ts'
import { type RunningPrometheus, needed, startPrometheus } from '../support/prometheus.ts'
import { post } from '../support/rpc.ts'
import { scaledRules } from '../support/scaled-rules.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

/** How much faster the rules are than the shipped ones. */
const factor = 15

/** What goes wrong with one server, and what must come of it. */
interface Case {
  readonly upstream: string
  readonly what: string
  readonly alert: AlertName
  readonly severity: Severity
  readonly describedAs: RegExp
  readonly break: () => Promise<void> | void
  readonly repair: () => Promise<void> | void
}

/** What an alert took, in seconds. */
interface Measured {
  readonly notified: number
  readonly resolved: number
}

let directory = ''
let vitals: RunningVitals
let prometheus: RunningPrometheus | undefined
let alertmanager: RunningAlertmanager | undefined
let receiver: WebhookReceiver
const servers: McpServer[] = []

/** The servers behind a URL, and what is wrong with them now. */
const health = { isFlaky: false, isSlow: false, token: 'first-token' }
let pings = 0

const everyTenthFails: Reaction = (message, response) => {
  pings += 1
  if (health.isFlaky && pings % 10 === 0) response.writeHead(500).end()
  else sendJson(response, 200, result(message))
}

const slowly: Reaction = (message, response) => {
  setTimeout(() => sendJson(response, 200, result(message)), health.isSlow ? 2000 : 0)
}

const file = (name: string) => join(directory, name)

const faulty = (fault: string, fileName: string) => ({
  command: process.execPath,
  args: ['test/peers/children/faulty-stdio.mjs', fault, file(fileName)],
  cwd: repoRoot,
})

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-alerts-'))
  await writeFile(file('token'), health.token)
  const flaky = await mcpServer({ reactions: { ping: everyTenthFails } })
  const slow = await mcpServer({ reactions: { ping: slowly } })
  const locked = await mcpServer({ hasSessions: false, token: () => health.token })
  servers.push(flaky, slow, locked)
  receiver = await webhookReceiver()
  vitals = await startVitals({
    config: {
      heartbeat: { heartbeat_interval_seconds: 0.3, adaptive_heartbeat: { enabled: false } },
      config_check_seconds: 1,
      mcpServers: {
        killed: faulty('waits', 'database-is-away'),
        looping: faulty('dies', 'bug'),
        flaky: { url: flaky.url },
        slow: { url: slow.url },
        locked: { url: locked.url, auth: { bearer_file: file('token') } },
      },
    },
  })
}, 60_000)

afterAll(async () => {
  await prometheus?.stop()
  await alertmanager?.stop()
  await vitals?.stop()
  await receiver?.stop()
  for (const server of servers) await server.stop()
  await rm(directory, { recursive: true, force: true })
}, 60_000)

async function kill(upstream: string): Promise<void> {
  const { process: shown } = await debugUpstream(vitals, upstream)
  process.kill(shown?.pid ?? Number.NaN, 'SIGKILL')
}

const cases: readonly Case[] = [
  {
    upstream: 'killed',
    what: 'stdio server killed, cannot restart',
    alert: 'McpUpstreamDown',
    severity: 'critical',
    describedAs: /^killed behind \S+ \(stdio\) is down: its last answer was \S+s ago\./,
    break: async () => {
      await writeFile(file('database-is-away'), '')
      await kill('killed')
    },
    repair: () => rm(file('database-is-away')),
  },
  {
    upstream: 'flaky',
    what: '10 % of heartbeats fail',
    alert: 'McpHeartbeatErrorRateHigh',
    severity: 'warning',
    describedAs: /^flaky behind \S+ left [5-9]\.?\d*%|1\d\.?\d*% of its heartbeats/,
    break: () => void (health.isFlaky = true),
    repair: () => void (health.isFlaky = false),
  },
  {
    upstream: 'slow',
    what: 'answers take 2 s',
    alert: 'McpHeartbeatSlow',
    severity: 'warning',
    describedAs: /^Half of the heartbeats of slow behind \S+ take longer than [1-4]\.?\d*s/,
    break: () => void (health.isSlow = true),
    repair: () => void (health.isSlow = false),
  },
  {
    upstream: 'locked',
    what: 'credential expired',
    alert: 'McpUpstreamNeedsAuth',
    severity: 'critical',
    describedAs: /^locked behind \S+ \(http\) refuses heartbeats and clients with 401 or 403/,
    break: () => void (health.token = 'second-token'),
    repair: () => writeFile(file('token'), 'second-token'),
  },
  {
    upstream: 'looping',
    what: 'process dies after each start',
    alert: 'McpProcessCrashLooping',
    severity: 'critical',
    describedAs: /^The process of looping behind \S+ was started again [4-9] times/,
    break: async () => {
      await writeFile(file('bug'), '')
      await kill('looping')
    },
    repair: () => rm(file('bug')),
  },
]

/** The first notification of that kind that came after this moment. */
function notification({ upstream, alert }: Case, status: Notified['status'], sinceMs: number): Notified | undefined {
  return receiver.notified.find(
    ({ labels, ...one }) =>
      one.status === status && one.atMs >= sinceMs && labels['upstream'] === upstream && labels['alertname'] === alert,
  )
}

async function run(one: Case): Promise<Measured> {
  const brokenMs = systemClock.now()
  await one.break()
  const fired = await eventually(() => notification(one, 'firing', brokenMs), {
    timeoutMs: 60_000,
    what: `${one.alert} for ${one.upstream}; notified: ${JSON.stringify(receiver.notified)}`,
  })
  expect(fired.labels).toMatchObject({ severity: one.severity, job: 'mcp-vitals' })
  expect(fired.annotations['description']).toMatch(one.describedAs)
  expect(Object.values(fired.annotations).join()).not.toMatch(/\{\{|no value|error expanding/)
  const repairedMs = systemClock.now()
  await one.repair()
  const resolved = await eventually(() => notification(one, 'resolved', repairedMs), {
    timeoutMs: 60_000,
    what: `${one.alert} for ${one.upstream} resolves`,
  })
  return { notified: (fired.atMs - brokenMs) / 1000, resolved: (resolved.atMs - repairedMs) / 1000 }
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** A client of the server with the credential, who asks whether it is answered or not. */
async function keepAsking(isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    await post(`${vitals.dataUrl}/locked/mcp`, { jsonrpc: '2.0', id: 1, method: 'tools/list' })
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

describe('alerts', () => {
  it('reach whoever is to be told of a fault, and so does its end', { timeout: 180_000 }, async (context) => {
    const programs = {
      prometheus: needed(context, 'prometheus'),
      alertmanager: needed(context, 'prometheus-alertmanager'),
    }
    for (const { upstream } of cases) {
      await eventually(async () => (await debugUpstream(vitals, upstream)).state === 'healthy', {
        what: `${upstream} is healthy`,
      })
    }
    const groups = scaledRules(
      ruleFiles.flatMap(({ groups }) => groups),
      factor,
    )
    alertmanager = await startAlertmanager(programs.alertmanager, receiver.config)
    const running = await startPrometheus(programs.prometheus, vitals.adminUrl, {
      groups,
      alertmanager: alertmanager.url,
    })
    prometheus = running
    await eventually(
      async () => {
        const { result } = (await running.api('query', { query: 'mcp_upstream_up == 1' })) as { result: unknown[] }
        return result.length === cases.length
      },
      { what: 'prometheus knows that all servers are up' },
    )

    let isOver = false
    const asking = keepAsking(() => isOver)
    const measured = await Promise.all(cases.map(run)).finally(() => (isOver = true))
    await asking

    process.stdout.write(
      `${table([
        ['fault', 'alert', 'notified after', 'resolved after'],
        ...cases.map(({ what, alert }, index) => {
          const { notified = Number.NaN, resolved = Number.NaN } = measured[index] ?? {}
          return [what, alert, `${notified.toFixed(1)} s`, `${resolved.toFixed(1)} s`]
        }),
      ])}\n(rules ${factor} times as fast as shipped)\n`,
    )
    // One fault, one alert.
    const told = receiver.notified.map(({ labels }) => `${labels['upstream']} ${labels['alertname']}`)
    expect([...new Set(told)].toSorted()).toEqual(cases.map(({ upstream, alert }) => `${upstream} ${alert}`).toSorted())
  })
})
