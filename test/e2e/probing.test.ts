import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { debugReport, debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { type McpServer, type McpServerOptions, mcpServer, result, sendJson, silence } from '../support/mcp-server.ts'
import { openSession, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

/** Each has a server of its own, which keeps what it hears. */
const names = ['auto', 'modern', 'list', 'touch', 'mute', 'passive', 'failing', 'off'] as const
type Name = (typeof names)[number]

let directory: string
let file: string
let servers: ReadonlyMap<Name, McpServer>
let vitals: RunningVitals

const settings: Readonly<Record<Name, Readonly<Record<string, unknown>>>> = {
  auto: {},
  modern: {},
  list: { probe_method: 'tools/list' },
  touch: { probe_method: 'transport' },
  mute: {},
  passive: { probe: 'passive' },
  failing: { probe: 'passive' },
  off: { probe: 'off' },
}

/** What is special about the servers themselves. */
const kinds: Partial<Record<Name, McpServerOptions>> = {
  modern: { era: 'modern' },
  failing: { reactions: { '*': (_message, response) => void response.writeHead(503).end('gone fishing') } },
  mute: { tools: [], reactions: { ping: silence, 'tools/list': silence } },
}

function server(name: Name): McpServer {
  const known = servers.get(name)
  if (!known) throw new Error(name)
  return known
}

/** The configuration from now on; each server's own settings may be others. */
async function write(changes: Partial<Record<Name, Readonly<Record<string, unknown>>>> = {}): Promise<void> {
  const entries = names.map((name) => [name, { url: server(name).url, heartbeat: changes[name] ?? settings[name] }])
  const heartbeat = { heartbeat_interval_seconds: 1, adaptive_heartbeat: { enabled: false } }
  const rest = { listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', config_check_seconds: 0, heartbeat }
  await writeFile(file, stringify({ ...rest, mcpServers: Object.fromEntries(entries) }))
}

async function ask(path: string): Promise<number> {
  return (await fetch(`${vitals.adminUrl}/debug/heartbeat/${path}`, { method: 'POST' })).status
}

/** Heartbeats so far; the others' tell that time has passed. */
async function beats(name: Name): Promise<number> {
  return (await debugUpstream(vitals, name)).heartbeats.total
}

async function beatsPass(name: Name, count: number): Promise<void> {
  const before = await beats(name)
  await eventually(async () => (await beats(name)) >= before + count, {
    timeoutMs: 30_000,
    what: `${count} heartbeats of ${name}`,
  })
}

const stateOf = async (name: Name) => (await debugUpstream(vitals, name)).state
/** What it is asked, once the metric and `/debug/heartbeat` tell the same rung: a heartbeat may come in between. */
const probeOf = async (name: Name) => {
  await eventually(
    async () => {
      const { rung } = await debugUpstream(vitals, name)
      const told = await metricValues(vitals, 'mcp_heartbeat_probe_info', { upstream: name, method: String(rung) })
      return told.length === 1 && (await metricValue(vitals, 'mcp_heartbeat_probe_info', { upstream: name })) === 1
    },
    { what: 'one rung is told' },
  )
  return (await debugUpstream(vitals, name)).probe
}

beforeAll(async () => {
  const started = await Promise.all(names.map(async (name) => [name, await mcpServer(kinds[name])] as const))
  servers = new Map(started)
  directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-probing-'))
  file = join(directory, 'config.yaml')
  await write()
  vitals = await startVitals({ args: ['--config', file] })
}, 60_000)
afterAll(async () => {
  await vitals?.stop()
  await Promise.all([...servers.values()].map((one) => one.stop()))
  await rm(directory, { recursive: true, force: true })
}, 30_000)

describe('what servers are asked', { timeout: 60_000 }, () => {
  it('is what their configuration allows, and the rung in use is told', async () => {
    await Promise.all((['auto', 'modern', 'list', 'touch', 'mute'] as const).map((name) => beatsPass(name, 3)))
    expect(await probeOf('auto')).toBe('ping')
    expect(await probeOf('modern')).toBe('server/discover')
    expect(await probeOf('list')).toBe('tools/list')
    expect(await probeOf('touch')).toBe('transport')
    expect(await probeOf('mute')).toBe('transport')
    expect((await debugUpstream(vitals, 'mute')).failures).toEqual([])
    expect(await metricValue(vitals, 'mcp_heartbeat_probe_info', { upstream: 'passive', method: 'traffic' })).toBe(1)
    expect(await metricValues(vitals, 'mcp_heartbeat_probe_info', { upstream: 'off' })).toEqual([])
    expect(server('auto').count('POST ping')).toBeGreaterThanOrEqual(2)
    expect(server('modern').count('POST server/discover')).toBeGreaterThanOrEqual(3)
    expect(server('list').count('POST tools/list')).toBeGreaterThanOrEqual(2)
    expect(server('list').count('POST ping')).toBe(0)
    expect(new Set(server('touch').log())).toEqual(new Set(['OPTIONS']))
    expect([server('passive').log(), server('failing').log(), server('off').log()]).toEqual([[], [], []])
    expect(await Promise.all(names.map((name) => stateOf(name)))).toEqual([
      'healthy',
      'healthy',
      'healthy',
      'healthy',
      'healthy',
      'idle',
      'idle',
      'disabled',
    ])
  })

  it('is nothing while clients are answered, and that is told too', async () => {
    const url = `${vitals.dataUrl}/auto/mcp`
    const session = await openSession(url)
    const traffic = () => metricValue(vitals, 'mcp_heartbeat_probe_info', { upstream: 'auto', method: 'traffic' })
    await eventually(
      async () => {
        await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/list' }, session)
        return (await traffic()) === 1
      },
      { what: 'traffic stands in for heartbeats' },
    )
    expect((await debugUpstream(vitals, 'auto')).rung).toBe('traffic')
    await eventually(async () => (await debugUpstream(vitals, 'auto')).rung === 'ping', { what: 'it is asked again' })
  })

  it('probe: passive is judged by what its clients meet, and by nothing else', async () => {
    const url = `${vitals.dataUrl}/passive/mcp`
    const session = await openSession(url)
    await eventually(async () => (await stateOf('passive')) === 'healthy', { what: 'it answered a client' })
    await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/list' }, session)
    await beatsPass('auto', 2)
    expect(server('passive').log()).toEqual(['POST initialize', 'POST notifications/initialized', 'POST tools/list'])
  })

  it('probe: passive is down after three failures of those who are the first to ask', async () => {
    const upped = () => metricValues(vitals, 'mcp_upstream_up', { upstream: 'failing' })
    const states: string[] = []
    for (let id = 1; id <= 3; id++) {
      expect(
        (await post(`${vitals.dataUrl}/failing/mcp`, { jsonrpc: '2.0', id, method: 'server/discover' })).status,
      ).toBe(503)
      states.push(await stateOf('failing'))
      if (id < 3) expect(await upped()).toEqual([])
      // What fails within a second is one failure.
      await sleep(1100)
    }
    expect(states).toEqual(['idle', 'idle', 'down'])
    expect(await upped()).toEqual([0])
    const { reason } = await debugUpstream(vitals, 'failing')
    expect(reason).toMatch(/^3 misses in a row: a client's request failed: HTTP 503/)
  })

  it('is asked at once by request, also where nobody is asked otherwise', async () => {
    expect(await ask('off')).toBe(200)
    expect(server('off').count('POST initialize')).toBe(1)
    expect(await stateOf('off')).toBe('disabled')
    const before = await beats('auto')
    expect(await ask('auto')).toBe(200)
    expect(await beats('auto')).toBeGreaterThan(before)
    expect(await ask('nobody')).toBe(404)
  })
})

describe('maintenance', { timeout: 60_000 }, () => {
  it('asks and concludes nothing, also when the server goes away meanwhile, until it is resumed', async () => {
    expect(await ask('auto/pause?minutes=10')).toBe(200)
    expect(await debugUpstream(vitals, 'auto')).toMatchObject({ state: 'paused', paused_until: expect.any(String) })
    const heard = server('auto').heard.length
    server('auto').reactions.set('*', (_message, response) => void response.destroy())
    await beatsPass('modern', 3)
    expect(server('auto').heard).toHaveLength(heard)
    expect(await metricValue(vitals, 'mcp_upstream_state', { upstream: 'auto', state: 'paused' })).toBe(1)
    expect(await metricValues(vitals, 'mcp_upstream_up', { upstream: 'auto' })).toEqual([])
    expect(await metricValue(vitals, 'mcp_upstream_unavailable_seconds_total', { upstream: 'auto' })).toBe(0)
    expect(await ask('auto')).toBe(409)
    server('auto').reactions.clear()
    expect(await ask('auto/resume')).toBe(200)
    await eventually(async () => (await stateOf('auto')) === 'healthy', { what: 'it is healthy again' })
  })

  it('is over by itself', async () => {
    expect(await ask('list/pause?minutes=0.02')).toBe(200)
    await eventually(async () => (await stateOf('list')) === 'healthy', { what: 'it is healthy again' })
    await beatsPass('list', 1)
  })
})

describe('a reload', { timeout: 60_000 }, () => {
  it('changes probes, intervals and thresholds while a session goes on', async () => {
    const url = `${vitals.dataUrl}/auto/mcp`
    const session = await openSession(url)
    await write({
      auto: { probe_method: 'tools/list' },
      modern: { heartbeat_interval_seconds: 60 },
      list: { performance_monitoring: { response_time_threshold_ms: 20 } },
      passive: { probe: 'active' },
      touch: { probe: 'off' },
      off: { probe: 'active', probe_method: 'transport' },
    })
    server('list').reactions.set('ping', (message, response) => {
      setTimeout(() => sendJson(response, 200, result(message)), 100)
    })
    const answer = await fetch(`${vitals.adminUrl}/-/reload`, { method: 'POST' })
    const retuned = names.filter((name) => name !== 'mute' && name !== 'failing')
    const told = { added: [], removed: [], replaced: [], retuned, settings: [] }
    expect([answer.status, await answer.json()]).toEqual([200, told])
    expect(await probeOf('auto')).toBe('tools/list')
    const pings = server('auto').count('POST ping')
    const touches = server('touch').heard.length
    await Promise.all([beatsPass('auto', 2), beatsPass('passive', 2), beatsPass('off', 2)])
    expect(server('auto').count('POST ping')).toBe(pings)
    expect([await stateOf('touch'), server('touch').heard.length]).toEqual(['disabled', touches])
    expect([await stateOf('off'), await probeOf('off')]).toEqual(['healthy', 'transport'])
    expect(server('passive').count('POST ping')).toBeGreaterThanOrEqual(1)
    expect((await debugUpstream(vitals, 'modern')).interval_seconds).toBe(60)
    await eventually(async () => (await stateOf('list')) === 'suspect', { timeoutMs: 30_000, what: 'list is too slow' })
    expect((await debugUpstream(vitals, 'list')).reason).toContain('20 ms')
    expect((await post(url, { jsonrpc: '2.0', id: 3, method: 'tools/list' }, session)).status).toBe(200)
    expect(Object.values((await debugReport(vitals)).sessions).map(({ upstream }) => upstream)).toContain('auto')
  })
})
