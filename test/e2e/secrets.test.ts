/** What is secret goes to the servers that it is for, and appears nowhere else. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { debugReport } from '../support/admin.ts'
import { runCli } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { type Collector, collector } from '../support/otlp.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { initializeMessage, openSession, post } from '../support/rpc.ts'
import { scriptedServer } from '../support/scripted-server.ts'
import { repoRoot } from '../peers/spawn.ts'
import { type RunningVitals, runVitals } from '../support/vitals.ts'

const canary = (what: string) => `canary-${what}-4711`
const isTold = new RegExp(['canary', encodeURIComponent('canary-'), Buffer.from('canary').toString('base64')].join('|'))

const leaky = (mode: 'serve' | 'crash' | 'refuse') => ({
  command: process.execPath,
  args: [
    join(repoRoot, 'test/peers/leaky-server.ts'),
    `--key=${canary('argument')}`,
    canary('word'),
    `https://me:${canary('password')}@service.invalid/?key=${canary('query')}`,
  ],
  env: { LEAKY_MODE: mode, LEAKY_TOKEN: canary('variable') },
})

describe('a secret', { timeout: 60_000 }, () => {
  const cleanups: (() => Promise<unknown>)[] = []
  const received = { headers: '', url: '' }
  /** Bodies that are ours, as opposed to those of the servers. */
  const replies: string[] = []
  const pages: string[] = []
  let sink: Collector
  let vitals: RunningVitals
  let configFile = ''

  beforeAll(async () => {
    sink = await collector()
    cleanups.push(() => sink.close())
    const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-secrets-'))
    cleanups.push(() => rm(directory, { recursive: true }))
    const file = async (name: string, text: string) => {
      await writeFile(join(directory, name), text)
      return join(directory, name)
    }
    const quoting = (status: number) =>
      scriptedServer((message, response, { headers, url }) => {
        Object.assign(received, { headers: JSON.stringify(headers), url })
        const text = `refused: ${JSON.stringify(headers)} ${url}`
        response.writeHead(status, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ jsonrpc: '2.0', id: message['id'], error: { code: -32_000, message: text } }))
      })
    const [failing, refusing] = [await quoting(500), await quoting(200)]
    cleanups.push(failing.stop, refusing.stop)
    const secretParts = {
      headers: { 'X-Api-Key': canary('header') },
      auth: { bearer_file: await file('token', canary('bearer')) },
    }
    const query = `?key=${canary('upstream-query')}`
    const config = {
      listen: '127.0.0.1:0',
      admin_listen: '127.0.0.1:0',
      config_check_seconds: 0,
      log: { level: 'debug' },
      heartbeat: { heartbeat_interval_seconds: 0.5, adaptive_heartbeat: { enabled: false } },
      mcpServers: {
        serving: leaky('serve'),
        crashing: leaky('crash'),
        refusing: leaky('refuse'),
        failingHttp: { url: failing.url + query, ...secretParts },
        refusingHttp: { url: refusing.url + query, ...secretParts },
        gone: { url: `http://127.0.0.1:${await freePort()}/mcp${query}`, ...secretParts },
        proxied: { url: `http://service.invalid/mcp${query}`, ...secretParts },
        launched: { url: `http://127.0.0.1:${await freePort()}/mcp${query}`, launch: leaky('crash') },
      },
    }
    configFile = await file('config.yaml', stringify(config))
    vitals = await runVitals(['serve', '--config', configFile], {
      OTEL_EXPORTER_OTLP_ENDPOINT: sink.url.replace('//', `//me:${canary('collector')}@`),
      OTEL_EXPORTER_OTLP_HEADERS: `x-key=${canary('collector-header')}`,
      http_proxy: `http://me:${canary('proxy')}@127.0.0.1:${await freePort()}`,
      OWN_API_KEY: canary('own'),
    })
    cleanups.push(() => vitals.stop())
    await someTraffic()
    await eventually(
      async () => {
        const { upstreams } = await debugReport(vitals)
        return Object.entries(upstreams).every(([name, { state }]) =>
          name === 'serving' ? true : state !== 'starting',
        )
      },
      { what: 'every server has shown what it is like' },
    )
    await writeFile(configFile, stringify({ ...config, mcpServers: { x: badServer() } }))
    replies.push(await (await fetch(`${vitals.adminUrl}/-/reload`, { method: 'POST' })).text())
    const upstreams = Object.keys(config.mcpServers)
    const paths = ['/', '/metrics', '/debug/heartbeat', '/nowhere', ...upstreams.map((name) => `/-/ready/${name}`)]
    for (const path of paths) pages.push(await (await fetch(vitals.adminUrl + path)).text())
    const openMetrics = { headers: { accept: 'application/openmetrics-text' } }
    pages.push(await (await fetch(`${vitals.adminUrl}/metrics`, openMetrics)).text())
    await vitals.stop()
  }, 60_000)

  afterAll(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup()
  })

  const badServer = () => ({
    url: `http://me:${canary('password')}@service.invalid/?key=${canary('query')}`,
    headers: { 'bad name': canary('header') },
    env: canary('variable'),
  })

  async function someTraffic(): Promise<void> {
    const mcp = `${vitals.dataUrl}/serving/mcp`
    const headers = await openSession(mcp)
    const call = (id: number, name: string) => {
      const params = { name, arguments: { password: canary('tool-argument') } }
      return post(mcp, { jsonrpc: '2.0', id, method: 'tools/call', params }, headers)
    }
    expect((await call(2, 'quote')).body).toContain(canary('tool-argument'))
    await call(3, 'wrong')
    await call(4, 'fail')
    const uri = `https://me:${canary('resource')}@service.invalid/file?key=${canary('resource')}`
    await post(mcp, { jsonrpc: '2.0', id: 5, method: 'resources/read', params: { uri } }, headers)
    replies.push((await call(6, 'die')).body)
    for (const name of ['crashing', 'gone', 'proxied', 'launched']) {
      replies.push((await post(`${vitals.dataUrl}/${name}/mcp`, initializeMessage)).body)
    }
    await post(`${vitals.dataUrl}/failingHttp/mcp`, initializeMessage)
    await post(`${vitals.dataUrl}/refusingHttp/mcp`, initializeMessage)
  }

  it('reaches the server that it is for', () => {
    for (const what of ['header', 'bearer']) expect(received.headers).toContain(canary(what))
    expect(received.url).toContain(canary('upstream-query'))
  })

  it('is in no line of the log, at any level', () => {
    const told = vitals
      .output()
      .split('\n')
      .filter((line) => isTold.test(line))
    expect(told).toEqual([])
    // What the servers said is there, but for the secrets.
    expect(vitals.output()).toMatch(
      /"stderr":"fatal: cannot log in with --key=<secret> <secret> .*LEAKY_TOKEN=<secret>"/,
    )
    expect(vitals.output()).toMatch(/refused with --key=<secret>/)
  })

  it('is on no page of the admin listener', () => {
    expect(pages.filter((page) => isTold.test(page))).toEqual([])
    expect(pages.join('\n')).toContain('started with --key=<secret> <secret>')
  })

  it('is in no error of ours', () => {
    expect(replies.filter((reply) => isTold.test(reply))).toEqual([])
    expect(replies.every((reply) => reply.includes('error'))).toBe(true)
  })

  it('is in no span', () => {
    expect(sink.spans.filter((span) => isTold.test(JSON.stringify(span)))).toEqual([])
    const names = sink.spans.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(['tools/call quote', 'tools/call fail', 'resources/read']))
    expect(sink.spans.map(({ message }) => message).join('\n')).toContain('failed with --key=<secret>')
    expect(sink.spans.map(({ attributes }) => attributes['mcp.resource.uri'])).toContain(
      'https://<secret>@service.invalid/file?<secret>',
    )
  })

  it('is not in what mcp-vitals check says of a file full of mistakes', async () => {
    const { code, stdout, stderr } = await runCli(['check', '--config', configFile])
    expect(code).not.toBe(0)
    expect(isTold.test(stdout + stderr)).toBe(false)
    expect(stdout + stderr).toContain('<secret>')
  })
})
