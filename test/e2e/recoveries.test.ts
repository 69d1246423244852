import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { type Running, serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/log.ts'
import { repoRoot } from '../peers/spawn.ts'
import { debugUpstream, metricValue } from '../support/admin.ts'
import { type RunningAlertmanager, startAlertmanager } from '../support/alertmanager.ts'
import { eventually } from '../support/eventually.ts'
import { launchedEverything } from '../support/launched.ts'
import { needed } from '../support/prometheus.ts'
import { openPost, openSession, post } from '../support/rpc.ts'
import { type ScriptedUpstream, scriptedUpstream } from '../support/scripted-upstream.ts'

const server = { command: process.execPath, args: ['test/peers/children/blockable-stdio.mjs'], cwd: repoRoot }
const token = 'canary-alerts-token'

let alertmanager: RunningAlertmanager | undefined
let elsewhere: ScriptedUpstream
let vitals: Running
const log: string[] = []

beforeAll(async () => {
  elsewhere = await scriptedUpstream()
  const launched = await launchedEverything()
  const text = () =>
    stringify({
      listen: '127.0.0.1:0',
      admin_listen: '127.0.0.1:0',
      config_check_seconds: 0,
      heartbeat: {
        heartbeat_interval_seconds: 1,
        hang_idle_seconds: 3600, // What hangs is left to alerts.
        adaptive_heartbeat: { min_interval_seconds: 1, max_interval_seconds: 1 },
      },
      alerts: {
        for_seconds: 0,
        keep_firing_for_seconds: 0,
        ...(alertmanager && { alertmanager: { url: alertmanager.url } }),
        receive: {
          bearer_file: 'alerts.token',
          actions: { McpUpstreamDown: 'restart', Slow: 'probe_now', Busy: 'drain' },
          drain_seconds: 6,
        },
      },
      mcpServers: {
        stopped: server,
        sessions: server,
        busy: server,
        never: { ...server, restart: 'never' },
        launched,
        elsewhere: { url: `http://127.0.0.1:${elsewhere.port}/mcp`, heartbeat: { probe: 'off' } },
      },
    })
  const load = () =>
    loadConfig({ files: ['a.yaml'], env: {}, readFile: (path) => (path === 'a.yaml' ? text() : `${token}\n`) })
  vitals = await serve({
    config: load().config,
    load,
    env: {},
    log: createLogger({ level: 'info', format: 'json', isTerminal: false, write: (line) => log.push(line) }),
  })
}, 60_000)

afterAll(async () => {
  await vitals.stop()
  await elsewhere.close()
  await alertmanager?.stop()
}, 60_000)

async function healthyPid(name: string): Promise<number> {
  return eventually(
    async () => {
      const upstream = await debugUpstream(vitals, name)
      return upstream.state === 'healthy' && (upstream.process?.pid ?? undefined)
    },
    { what: `${name} runs`, timeoutMs: 40_000 },
  )
}

const restarts = (upstream: string) => metricValue(vitals, 'mcp_upstream_restarts_total', { upstream, reason: 'alert' })
const recoveries = (upstream: string, action: string, outcome: string) =>
  metricValue(vitals, 'mcp_vitals_recoveries_total', { upstream, action, outcome })

/** What Alertmanager would post about one alert; gives what became of it. */
async function alarm(alertname: string, upstream: string, startsAt = new Date().toISOString()) {
  const alert = { status: 'firing', labels: { alertname, upstream }, startsAt, fingerprint: `${alertname}-${upstream}` }
  const response = await fetch(`${vitals.adminUrl}/alerts`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ version: '4', alerts: [alert] }),
  })
  const { results } = (await response.json()) as { results: readonly { outcome: string; reason?: string }[] }
  return results[0]
}

/** A machine that is too busy refuses new sessions for a while. */
function session(url: string): Promise<Readonly<Record<string, string>>> {
  return eventually(() => openSession(url), { what: 'a session is open', timeoutMs: 40_000 })
}

describe('a server that hangs', { timeout: 60_000 }, () => {
  it('is an alert in Alertmanager, whose webhook has it restarted, and then none any more', async (context) => {
    const program = needed(context, 'prometheus-alertmanager')
    const webhook = {
      url: `${vitals.adminUrl}/alerts`,
      http_config: { authorization: { credentials: token } },
    }
    alertmanager = await startAlertmanager(program, {
      route: { receiver: 'vitals', group_wait: '0s', group_interval: '1s', repeat_interval: '1h' },
      receivers: [{ name: 'vitals', webhook_configs: [webhook] }],
    })
    await vitals.reload('request')
    const pid = await healthyPid('stopped')
    process.kill(pid, 'SIGSTOP')
    await eventually(async () => (await restarts('stopped')) === 1, { what: 'it was restarted', timeoutMs: 40_000 })
    expect(await healthyPid('stopped')).not.toBe(pid)
    expect(await recoveries('stopped', 'restart', 'started')).toBe(1)
    await eventually(
      async () => ((await metricValue(vitals, 'mcp_vitals_received_alerts_total', { outcome: 'resolved' })) ?? 0) > 0,
      { what: 'Alertmanager says that it is over', timeoutMs: 30_000 },
    )
    expect(await restarts('stopped')).toBe(1)
    const audit = log.find((line) => line.includes('"msg":"an alert asks for a recovery"')) ?? ''
    expect(JSON.parse(audit)).toMatchObject({
      from: '127.0.0.1',
      alert: 'McpUpstreamDown',
      upstream: 'stopped',
      action: 'restart',
      outcome: 'started',
    })
    expect(log.join('')).not.toContain(token)
  })
})

describe('an alert', { timeout: 60_000 }, () => {
  it('restarts a launched server, once for each occurrence', async () => {
    const pid = await healthyPid('launched')
    const at = new Date().toISOString()
    expect(await alarm('McpUpstreamDown', 'launched', at)).toMatchObject({ outcome: 'started' })
    expect(await alarm('McpUpstreamDown', 'launched', at)).toMatchObject({ outcome: 'repeated' })
    expect(await alarm('McpUpstreamDown', 'launched')).toMatchObject({ outcome: 'limited' })
    await eventually(async () => (await restarts('launched')) === 1, { what: 'it was restarted', timeoutMs: 30_000 })
    expect(await healthyPid('launched')).not.toBe(pid)
  })

  it('ends the processes of sessions too, whose clients initialize anew', async () => {
    const url = `${vitals.dataUrl}/sessions/mcp`
    const headers = await session(url)
    expect((await post(url, { jsonrpc: '2.0', id: 1, method: 'tools/list' }, headers)).status).toBe(200)
    expect(await alarm('McpUpstreamDown', 'sessions')).toMatchObject({ outcome: 'started' })
    await eventually(
      async () => (await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/list' }, headers)).status === 404,
      { what: 'the session is over', timeoutMs: 30_000 },
    )
    const again = await session(url)
    expect((await post(url, { jsonrpc: '2.0', id: 3, method: 'tools/list' }, again)).status).toBe(200)
  })

  it('is refused where a restart would help nobody', async () => {
    const pid = await healthyPid('never')
    expect(await alarm('McpUpstreamDown', 'never')).toEqual({
      alert: 'McpUpstreamDown',
      upstream: 'never',
      action: 'restart',
      outcome: 'refused',
      reason: 'nothing would start it again (restart: never)',
    })
    expect(await healthyPid('never')).toBe(pid)
    expect(await alarm('McpUpstreamDown', 'elsewhere')).toMatchObject({
      outcome: 'refused',
      reason: expect.stringContaining('behind a URL'),
    })
    expect(await recoveries('elsewhere', 'restart', 'refused')).toBe(1)
    expect(await alarm('McpUpstreamDown', 'nobody')).toMatchObject({ outcome: 'no_upstream' })
    expect(await alarm('Unheard', 'never')).toMatchObject({ outcome: 'no_action' })
  })

  it('probes at once', async () => {
    const before = elsewhere.arrived.length
    expect(await alarm('Slow', 'elsewhere')).toMatchObject({ outcome: 'started' })
    await eventually(() => elsewhere.arrived.length > before, { what: 'it was probed' })
  })

  it('drains: what is under way is finished, new requests get 503, and it ends by itself', async () => {
    const url = `${vitals.dataUrl}/busy/mcp`
    const headers = await session(url)
    const slow = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'wait', arguments: { seconds: 3 } } }
    const underWay = openPost(url, slow, headers).done
    await eventually(async () => (await debugUpstream(vitals, 'busy')).requests_in_flight === 1, { what: 'it is busy' })
    expect(await alarm('Busy', 'busy')).toMatchObject({ outcome: 'started' })
    const refused = await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/list' }, headers)
    expect([refused.status, refused.messages[0]]).toMatchObject([
      503,
      { id: 2, error: { data: { reason: 'draining' } } },
    ])
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(6)
    expect((await debugUpstream(vitals, 'busy')).draining_until).not.toBeNull()
    expect(await (await fetch(vitals.adminUrl)).text()).toContain('drained: nothing new until')
    expect((await underWay).status).toBe(200)
    await eventually(
      async () => (await post(url, { jsonrpc: '2.0', id: 3, method: 'tools/list' }, headers)).status === 200,
      { what: 'it takes requests again', timeoutMs: 30_000 },
    )
    expect((await debugUpstream(vitals, 'busy')).draining_until).toBeNull()
  })
})
