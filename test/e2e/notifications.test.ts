import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { fingerprint } from '../../src/alerts/fingerprint.ts'
import { type Running, serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/log.ts'
import { repoRoot } from '../peers/spawn.ts'
import { debugUpstream, metricValue } from '../support/admin.ts'
import { type RunningAlertmanager, type ShownAlert, startAlertmanager } from '../support/alertmanager.ts'
import { eventually } from '../support/eventually.ts'
import { needed } from '../support/prometheus.ts'
import { openSession, post } from '../support/rpc.ts'
import { bodyOf } from '../support/raw-http.ts'
import { type Script, type ScriptedUpstream, scriptedUpstream } from '../support/scripted-upstream.ts'

const server = { command: process.execPath, args: ['test/peers/children/blockable-stdio.mjs'], cwd: repoRoot }
const take: Script = async (arrived) => {
  await arrived.whole()
  arrived.answer(200)
}

/** What the webhook gets, as far as a test looks at it. */
interface Payload {
  readonly status: string
  readonly alerts: readonly { readonly status: string; readonly labels: Readonly<Record<string, string>> }[]
}

let alertmanager: RunningAlertmanager | undefined
let webhook: ScriptedUpstream
let vitals: Running
const log: string[] = []
const policies: Record<string, string> = { mended: 'never', told: 'never' }

function configText(): string {
  return stringify({
    listen: '127.0.0.1:0',
    admin_listen: '127.0.0.1:0',
    config_check_seconds: 0,
    heartbeat: {
      heartbeat_interval_seconds: 1,
      adaptive_heartbeat: { min_interval_seconds: 1, max_interval_seconds: 1 },
    },
    alerts: {
      for_seconds: 1,
      keep_firing_for_seconds: 1,
      labels: { cluster: 'test' },
      runbook_url: 'https://example.com/runbooks',
      ...(alertmanager && { alertmanager: { url: alertmanager.url } }),
      webhook: { url: `http://127.0.0.1:${webhook.port}/hook/canary-path-1`, bearer_file: 'hook.token' },
    },
    mcpServers: {
      ...Object.fromEntries(Object.entries(policies).map(([name, restart]) => [name, { ...server, restart }])),
      well: server,
    },
  })
}

beforeAll(async () => {
  webhook = await scriptedUpstream(take)
  const load = () =>
    loadConfig({
      files: ['a.yaml'],
      env: {},
      readFile: (path) => (path === 'a.yaml' ? configText() : 'canary-token\n'),
    })
  vitals = await serve({
    config: load().config,
    load,
    env: {},
    log: createLogger({ level: 'info', format: 'json', isTerminal: false, write: (line) => log.push(line) }),
  })
}, 60_000)

afterAll(async () => {
  await vitals.stop()
  await webhook.close()
  await alertmanager?.stop()
}, 60_000)

/** Kills the server's process, which is not started again. */
async function kill(name: string): Promise<void> {
  const pid = await eventually(
    async () => {
      const upstream = await debugUpstream(vitals, name)
      return upstream.state === 'healthy' && (upstream.process?.pid ?? undefined)
    },
    { what: `${name} runs` },
  )
  process.kill(pid, 'SIGKILL')
}

/** Lets the server run again. */
async function mend(name: string): Promise<void> {
  policies[name] = 'always'
  expect(await vitals.reload('request')).toMatchObject({ kind: 'reloaded' })
}

const outcomes = (receiver: string, outcome: string) =>
  metricValue(vitals, 'mcp_vitals_notifications_total', { receiver, outcome })

/** What the webhook was told about an upstream, in order. */
function hooked(upstream: string): string[] {
  return webhook.arrived
    .filter(({ request }) => request.isComplete)
    .map(({ request }) => JSON.parse(bodyOf(request).toString()) as Payload)
    .flatMap(({ alerts }) => alerts)
    .filter(({ labels }) => labels['upstream'] === upstream)
    .map(({ status, labels }) => `${labels['alertname']} ${status}`)
}

/** A machine that is too busy refuses new sessions for a while. */
function session(url: string): Promise<Readonly<Record<string, string>>> {
  return eventually(() => openSession(url), { what: 'a session is open', timeoutMs: 40_000 })
}

describe('a server that was killed and is not started again', { timeout: 60_000 }, () => {
  it('is an alert in Alertmanager until it runs again', async (context) => {
    alertmanager = await startAlertmanager(needed(context, 'prometheus-alertmanager'))
    const running = alertmanager
    // A receiver that is new.
    expect(await vitals.reload('request')).toMatchObject({ changes: { settings: ['alerts'] } })
    const shown = async () => (await running.api('alerts', { filter: 'upstream="mended"' })) as readonly ShownAlert[]
    await kill('mended')
    const [alert] = await eventually(
      async () => {
        const alerts = await shown()
        return alerts.length > 0 && alerts
      },
      { what: 'Alertmanager has the alert' },
    )
    const labels = {
      alertname: 'McpUpstreamDown',
      upstream: 'mended',
      transport: 'stdio',
      severity: 'critical',
      cluster: 'test',
    }
    expect(alert).toMatchObject({
      labels,
      fingerprint: fingerprint(labels),
      annotations: {
        summary: 'MCP server mended is down',
        description: expect.stringMatching(/^Since .*Z: .*SIGKILL/),
        runbook_url: 'https://example.com/runbooks/McpUpstreamDown.md',
      },
      generatorURL: `${vitals.adminUrl}/debug/heartbeat?upstream=mended`,
    })
    // It ends by itself if we do.
    expect(Date.parse(alert?.endsAt ?? '') - Date.parse(alert?.startsAt ?? '')).toBeGreaterThan(200_000)
    await mend('mended')
    await eventually(async () => (await shown()).length === 0, { what: 'the alert is over', timeoutMs: 30_000 })
    expect(await outcomes('alertmanager', 'sent')).toBeGreaterThanOrEqual(2)
    expect(await outcomes('alertmanager', 'failed')).toBe(0)
    expect(running.output()).not.toMatch(/level=(warn|error)/)
  })

  it('is told to a webhook once when it fails and once when it is well again', async () => {
    await kill('told')
    await eventually(() => hooked('told').length > 0, { what: 'the webhook is told' })
    expect(webhook.arrived.at(-1)?.request.rawHeaders).toContain('Bearer canary-token')
    await mend('told')
    await eventually(() => hooked('told').length > 1, { what: 'the webhook is told the end', timeoutMs: 30_000 })
    expect(hooked('told')).toEqual(['McpUpstreamDown firing', 'McpUpstreamDown resolved'])
  })
})

describe('a webhook that takes nothing', { timeout: 60_000 }, () => {
  it('is tried again and again, hurts nobody, and is told what is true when it takes it', async () => {
    webhook.script = async (arrived) => {
      await arrived.whole()
      arrived.answer(503, 'canary-token is broken', ['Retry-After', '1'])
    }
    const failed = (await outcomes('webhook', 'failed')) ?? 0
    policies['told'] = 'never'
    await vitals.reload('request')
    await kill('told')
    await eventually(async () => ((await outcomes('webhook', 'failed')) ?? 0) >= failed + 2, {
      what: 'it was tried twice',
      timeoutMs: 30_000,
    })
    expect(await metricValue(vitals, 'mcp_vitals_notification_queue_length', { receiver: 'webhook' })).toBe(1)
    // It accepts the next, and says nothing any more.
    webhook.script = () => undefined
    const before = webhook.arrived.length
    await eventually(() => webhook.arrived.length > before, { what: 'it was tried once more', timeoutMs: 30_000 })
    const url = `${vitals.dataUrl}/well/mcp`
    const headers = await session(url)
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, id) => post(url, { jsonrpc: '2.0', id, method: 'tools/list' }, headers)),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200))
    expect((await debugUpstream(vitals, 'well')).state).toBe('healthy')
    webhook.script = take
    for (const { socket } of webhook.arrived) socket.destroy()
    await eventually(() => hooked('told').at(-1) === 'McpUpstreamDown firing' && queueIsEmpty(), {
      what: 'the webhook is told in the end',
      timeoutMs: 30_000,
    })
    const lines = log.filter((line) => line.includes('"receiver":"webhook"'))
    expect(lines.filter((line) => line.includes('could not be sent'))).toHaveLength(1)
    expect(lines.at(-1)).toContain('notifications are sent again')
    expect(log.join('')).not.toContain('canary')
  })
})

async function queueIsEmpty(): Promise<boolean> {
  return (await metricValue(vitals, 'mcp_vitals_notification_queue_length', { receiver: 'webhook' })) === 0
}
