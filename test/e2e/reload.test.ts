import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { everythingStdio } from '../peers/everything.ts'
import { becomesState, debugReport, debugUpstream, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { isRunning } from '../support/processes.ts'
import { openSession, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let directory: string
let file: string
let vitals: RunningVitals

interface Answer {
  readonly status: number
  readonly body: string
}

function reload(headers: Readonly<Record<string, string>> = {}, method = 'POST'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${vitals.adminUrl}/-/reload`, { method, agent: false, headers }, (incoming) => {
      let body = ''
      incoming.setEncoding('utf8')
      incoming.on('data', (text: string) => (body += text))
      incoming.once('end', () => resolve({ status: incoming.statusCode ?? 0, body }))
    })
    outgoing.once('error', reject)
    outgoing.end()
  })
}

/** What the file holds from now on. */
async function write(servers: Readonly<Record<string, unknown>>, rest: Readonly<Record<string, unknown>> = {}) {
  const base = { listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', config_check_seconds: 0, ...rest }
  await writeFile(file, stringify({ ...base, mcpServers: servers }))
}

const pidOf = async (name: string) => (await debugUpstream(vitals, name)).process?.pid ?? 0
const healthy = (name: string) =>
  eventually(async () => (await debugUpstream(vitals, name)).state === 'healthy', { what: `${name} is healthy` })
const list = (name: string, headers: Readonly<Record<string, string>>) =>
  post(`${vitals.dataUrl}/${name}/mcp`, { jsonrpc: '2.0', id: 1, method: 'tools/list' }, headers)

const stays = everythingStdio
const gone = { ...everythingStdio, env: { NAME: 'gone' } }

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-reload-'))
  file = join(directory, 'config.yaml')
  await write({ stays, gone })
  vitals = await startVitals({ args: ['--config', file] })
  await Promise.all([healthy('stays'), healthy('gone')])
})

afterAll(async () => {
  await vitals.stop()
  await rm(directory, { recursive: true, force: true })
})

describe('a reload', () => {
  it('touches only what changed: a session of another server goes on in the same process', async () => {
    const session = await openSession(`${vitals.dataUrl}/stays/mcp`)
    const pid = await pidOf('stays')
    const goner = await pidOf('gone')
    await write({ new: everythingStdio, stays: { ...stays, heartbeat: { heartbeat_interval_seconds: 7 } } })

    const answer = await reload()
    expect([answer.status, JSON.parse(answer.body)]).toEqual([
      200,
      { added: ['new'], removed: ['gone'], replaced: [], retuned: ['stays'], settings: [] },
    ])
    expect(Object.keys((await debugReport(vitals)).upstreams)).toEqual(['new', 'stays'])
    await healthy('new')
    expect((await list('stays', session)).status).toBe(200)
    expect(await pidOf('stays')).toBe(pid)
    expect((await list('gone', session)).status).toBe(404)
    expect(isRunning(goner)).toBe(false)
  })

  it('of a faulty file changes nothing and says why, in the answer, in the metrics and to people', async () => {
    const session = await openSession(`${vitals.dataUrl}/stays/mcp`)
    const loadedAt = await metricValue(vitals, 'mcp_vitals_config_last_reload_success_timestamp_seconds')
    await writeFile(file, 'mcpServers: {stays: {comand: node}}')
    const answer = await reload()
    expect(answer.status).toBe(500)
    expect(answer.body).toContain('comand')
    expect(await metricValue(vitals, 'mcp_vitals_config_last_reload_successful')).toBe(0)
    expect(await metricValue(vitals, 'mcp_vitals_config_last_reload_success_timestamp_seconds')).toBe(loadedAt)
    expect((await debugReport(vitals)).config.last_reload).toMatchObject({
      successful: false,
      problem: expect.stringContaining('comand'),
    })
    expect((await list('stays', session)).status).toBe(200)
    expect(Object.keys((await debugReport(vitals)).upstreams)).toEqual(['new', 'stays'])
  })

  it('follows SIGHUP; a server that is started in another way is replaced, and its clients begin anew', async () => {
    const session = await openSession(`${vitals.dataUrl}/stays/mcp`)
    const pid = await pidOf('stays')
    await write({ new: everythingStdio, stays: { ...stays, env: { NAME: 'changed' } } })
    process.kill(vitals.pid, 'SIGHUP')
    await eventually(async () => (await metricValue(vitals, 'mcp_vitals_config_last_reload_successful')) === 1, {
      what: 'the configuration was loaded again',
    })
    await healthy('stays')
    expect(await pidOf('stays')).not.toBe(pid)
    expect(isRunning(pid)).toBe(false)
    expect(await metricValue(vitals, 'mcp_upstream_restarts_total', { upstream: 'stays', reason: 'config' })).toBe(1)
    expect(await metricValue(vitals, 'mcp_upstream_restarts_total', { upstream: 'new', reason: 'config' })).toBe(0)
    expect((await list('stays', session)).status).toBe(404)
    expect((await list('stays', await openSession(`${vitals.dataUrl}/stays/mcp`))).status).toBe(200)
  })

  it('that replaces a server goes on with its maintenance and its drain', async () => {
    const nobody = { url: 'http://127.0.0.1:1/mcp' }
    const stdio = { ...stays, env: { NAME: 'changed' } }
    const ask = (path: string) => fetch(`${vitals.adminUrl}/debug/heartbeat/${path}`, { method: 'POST' })
    /** Until when, in hours: maintenance, then drain. */
    const held = async (name: string) => {
      const { paused_until: paused, draining_until: draining } = await debugUpstream(vitals, name)
      return [paused, draining].map((until) => Date.parse(until ?? '') / 3_600_000)
    }
    await write({ stays: stdio, nobody })
    expect((await reload()).status).toBe(200)
    await healthy('stays')
    const names = ['stays', 'nobody']
    for (const name of names) {
      await ask(`${name}/pause?minutes=600`)
      await ask(`${name}/drain?minutes=300`)
    }
    const before = (await Promise.all(names.map(held))).flat()

    await write({ stays, nobody: { ...nobody, headers: { 'x-changed': 'yes' } } })
    expect(JSON.parse((await reload()).body)).toMatchObject({ replaced: names })
    for (const name of names) expect((await debugUpstream(vitals, name)).state).toBe('paused')
    const after = (await Promise.all(names.map(held))).flat()
    after.forEach((hours, index) => expect(hours).toBeCloseTo(before[index] ?? 0, 1))
    const initialize = { jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }
    expect((await post(`${vitals.dataUrl}/stays/mcp`, initialize)).status).toBe(503)
    await ask('stays/resume')
    await healthy('stays')
    expect((await list('stays', await openSession(`${vitals.dataUrl}/stays/mcp`))).status).toBe(200)
  })

  it(
    'that changes anything of a server in a crash loop, or left down, has it tried again, and no other',
    { timeout: 60_000 },
    async () => {
      const [found, down] = [join(directory, 'found'), join(directory, 'down')]
      const started = (marker: string) => `test -f ${marker} && exec ${everythingStdio.command} ${args}`
      const args = everythingStdio.args.join(' ')
      const servers = (seconds: number) => {
        const heartbeat = { heartbeat_interval_seconds: seconds }
        return {
          absent: { command: 'sh', args: ['-c', `${started(found)}; exit 127`], heartbeat },
          ended: { command: 'sh', args: ['-c', `${started(down)}; exit 1`], restart: 'never', heartbeat },
          other: { command: 'sh', args: ['-c', 'exit 127'] },
        }
      }
      await write(servers(10))
      await reload()
      await becomesState(vitals, 'absent', 'crash_loop', 20_000)
      await becomesState(vitals, 'other', 'crash_loop', 20_000)
      await becomesState(vitals, 'ended', 'down', 20_000)

      await Promise.all([writeFile(found, ''), writeFile(down, '')])
      await write(servers(11))
      expect(JSON.parse((await reload()).body)).toMatchObject({ replaced: [], retuned: ['absent', 'ended'] })
      const answers = async (name: string) =>
        ['recovering', 'healthy'].includes((await debugUpstream(vitals, name)).state) || undefined
      for (const name of ['absent', 'ended']) await eventually(() => answers(name), { what: `${name} answers again` })
      const restarts = (upstream: string) =>
        metricValue(vitals, 'mcp_upstream_restarts_total', { upstream, reason: 'config' })
      expect(await Promise.all(['absent', 'ended', 'other'].map(restarts))).toEqual([1, 1, 0])
      expect((await debugUpstream(vitals, 'other')).state).toBe('crash_loop')
    },
  )

  it('is nothing that a web page or a GET can ask for', async () => {
    expect((await reload({ origin: 'https://evil.example' })).status).toBe(403)
    expect((await reload({}, 'GET')).status).toBe(405)
  })
})

describe('a configuration that is watched', () => {
  it('is loaded again when its file changes, and a token that it names is asked for from then on', async () => {
    const watchedFile = join(directory, 'watched.yaml')
    const base = { listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', config_check_seconds: 1 }
    await writeFile(watchedFile, stringify(base))
    await writeFile(join(directory, 'token'), 'a-token')
    const running = await startVitals({ args: ['--config', watchedFile] })
    try {
      const status = async () => (await post(`${running.dataUrl}/nobody/mcp`, {})).status
      expect(await status()).toBe(404)
      await writeFile(watchedFile, stringify({ ...base, auth: { bearer_file: 'token' } }))
      await eventually(async () => (await status()) === 401, { what: 'the token is asked for' })
    } finally {
      await running.stop()
    }
  })

  it('that is emptied keeps every server, and works again once it is filled', async () => {
    const watchedFile = join(directory, 'emptied.yaml')
    const text = (servers: object) => stringify({ config_check_seconds: 1, mcpServers: servers })
    await writeFile(watchedFile, text({ stays }))
    const listeners = ['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0']
    const running = await startVitals({ args: ['--config', watchedFile, ...listeners] })
    try {
      const session = await openSession(`${running.dataUrl}/stays/mcp`)
      const successful = () => metricValue(running, 'mcp_vitals_config_last_reload_successful')
      await writeFile(watchedFile, '')
      await eventually(async () => (await successful()) === 0, { what: 'the empty file is refused' })
      const { config, upstreams } = await debugReport(running)
      expect(config.last_reload?.problem).toBe(`${watchedFile}: the file is empty; if nothing is meant, write {}`)
      expect(Object.keys(upstreams)).toEqual(['stays'])
      const tools = { jsonrpc: '2.0', id: 1, method: 'tools/list' }
      expect((await post(`${running.dataUrl}/stays/mcp`, tools, session)).status).toBe(200)

      await writeFile(watchedFile, text({ stays, new: everythingStdio }))
      await eventually(async () => (await successful()) === 1, { what: 'the file is followed again' })
      expect(Object.keys((await debugReport(running)).upstreams)).toEqual(['stays', 'new'])
      expect((await post(`${running.dataUrl}/stays/mcp`, tools, session)).status).toBe(200)
    } finally {
      await running.stop()
    }
  })
})
