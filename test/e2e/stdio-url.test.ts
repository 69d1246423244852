import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import { type RunningProcess, startPeer } from '../peers/spawn.ts'
import { debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { comparable, expectSuccess, legacyScript, transcriptOf } from '../support/everything-script.ts'
import { mcpServer } from '../support/mcp-server.ts'
import { programFile } from '../support/program.ts'
import { legacySdkServer, modernSdkServer } from '../support/sdk-servers.ts'
import { type Place, uniformV1, uniformV2 } from '../support/uniform-client.ts'
import { type Kept, run, wrapperFolder } from '../support/wrapper.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** `mcp-vitals stdio` with these options. */
function stdio(options: readonly string[]): string[] {
  return [process.execPath, programFile('src/cli/main.ts'), 'stdio', ...options]
}

function place([command = '', ...args]: readonly string[]): Place {
  return { command, args }
}

function startStdio(options: readonly string[], env: Readonly<Record<string, string>> = {}): Kept {
  const kept = run(stdio(options), { env })
  closers.push(() => kept.child.kill('SIGKILL'))
  return kept
}

/** Sends these messages, and resolves with the answer to the last. */
async function asks(kept: Kept, ...messages: readonly object[]): Promise<unknown> {
  for (const message of messages) kept.child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
  const id = (messages.at(-1) as { readonly id?: unknown }).id
  return eventually(
    () =>
      kept
        .stdout()
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as { readonly id?: unknown })
        .find((message) => message.id === id),
    { what: `an answer to ${String(id)}` },
  )
}

const initialize = {
  id: 'i',
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
}
const initialized = { method: 'notifications/initialized' }
const discover = {
  id: 'd',
  method: 'server/discover',
  params: {
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    },
  },
}

describe('official clients of servers behind a URL', { timeout: 90_000 }, () => {
  let sse: RunningProcess<string>
  let http: RunningProcess<string>
  let modern: RunningProcess<string>
  beforeAll(async () => {
    ;[sse, http, modern] = await Promise.all([
      startEverything('sse'),
      startEverything('streamableHttp'),
      startPeer('test/peers/everything-v2.ts'),
    ])
  }, 60_000)
  afterAll(() => Promise.all([sse, http, modern].map((peer) => peer?.stop())))

  it.each([
    { client: 'SDK v1', connect: uniformV1, to: 'Streamable HTTP', url: () => http.ready },
    { client: 'SDK v1', connect: uniformV1, to: 'HTTP+SSE', url: () => sse.ready },
    {
      client: 'SDK v2, legacy',
      connect: (at: Place) => uniformV2(at, 'legacy'),
      to: 'Streamable HTTP',
      url: () => http.ready,
    },
    { client: 'SDK v2, auto', connect: (at: Place) => uniformV2(at, 'auto'), to: 'HTTP+SSE', url: () => sse.ready },
  ])('$client over stdio, on $to: each answer is the one it gets directly', async ({ connect, url }) => {
    const [alone, through] = await Promise.all([
      transcriptOf(connect(url()), legacyScript),
      transcriptOf(connect(place(stdio(['--url', url()]))), legacyScript),
    ])
    expect(comparable(through)).toEqual(comparable(alone))
    expectSuccess(through)
  })

  it.each(['auto', 'modern'] as const)('SDK v2, %s, on a server of 2026-07-28', async (era) => {
    const [direct, through] = await Promise.all([
      uniformV2(modern.ready, era),
      uniformV2(place(stdio(['--url', modern.ready])), era),
    ])
    closers.push(() => Promise.all([direct.close(), through.close()]))
    expect(through.server()).toEqual(direct.server())
    expect(through.server()).toContain('modern')
    expect(await through.listTools()).toEqual(await direct.listTools())
    // A plain answer, progress before it, and one that first asks the client for more (2026-07-28, multi-round-trip).
    for (const tool of ['test_simple_text', 'test_tool_with_progress', 'test_input_required_result_multiple_inputs']) {
      expect(await through.callTool(tool), tool).toEqual(await direct.callTool(tool))
    }
    // One of its arguments goes into a header as well, which the server compares (2026-07-28, Custom Headers).
    const args = { region: 'é' }
    expect(await through.callTool('test_custom_header', args)).toEqual(
      await direct.callTool('test_custom_header', args),
    )
    expect(await through.listPrompts()).toEqual(await direct.listPrompts())
  })

  it('a subscription tells what changes until it is cancelled (2026-07-28, Subscriptions)', async () => {
    const kept = startStdio(['--url', modern.ready, '--no-admin'])
    const params = { ...discover.params, notifications: { toolsListChanged: true } }
    const call = { ...discover.params, name: 'test_trigger_tool_change', arguments: {} }
    const changes = () => kept.stdout().match(/notifications\/tools\/list_changed/g)?.length ?? 0
    kept.child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id: 'l', method: 'subscriptions/listen', params })}\n`)
    await eventually(() => kept.stdout().includes('subscriptions/acknowledged'), { what: 'the subscription is open' })
    await asks(kept, { id: 1, method: 'tools/call', params: call })
    await eventually(() => changes() === 1, { what: 'the change is told' })
    await asks(
      kept,
      { method: 'notifications/cancelled', params: { requestId: 'l' } },
      { id: 2, method: 'tools/call', params: call },
    )
    kept.child.stdin.end()
    expect(await kept.ended).toMatchObject({ code: 0 })
    expect(changes()).toBe(1)
  })
})

describe(
  'a client over stdio gets the server’s own answer, whatever the eras',
  { timeout: 60_000, concurrent: true },
  () => {
    const servers: Readonly<Record<string, () => Promise<readonly string[]>>> = {
      'stdio legacy': () => Promise.resolve(['--', everythingStdio.command, ...everythingStdio.args]),
      'stdio modern': () => Promise.resolve(['--', process.execPath, 'test/peers/modern-stdio.ts', 'modern']),
      'sse legacy': async () => ['--url', await serving(legacySdkServer(), 'sseUrl')],
      'http legacy': async () => ['--url', await serving(legacySdkServer(), 'url')],
      'http modern': async () => ['--url', await serving(modernSdkServer('reject'), 'url')],
    }
    const stops: (() => Promise<void>)[] = []
    afterAll(() => Promise.all(stops.map((stop) => stop())))

    async function serving<K extends string>(
      starting: Promise<Readonly<Record<K, string>> & { stop(): Promise<void> }>,
      url: K,
    ): Promise<string> {
      const server = await starting
      stops.push(() => server.stop())
      return server[url]
    }

    /** The table of the README, "Which client reaches which server". */
    const table: readonly (readonly [client: 'legacy' | 'modern', server: string, outcome: 'result' | number])[] = [
      ['legacy', 'stdio legacy', 'result'],
      ['legacy', 'stdio modern', -32_022],
      ['legacy', 'sse legacy', 'result'],
      ['legacy', 'http legacy', 'result'],
      ['legacy', 'http modern', -32_022],
      ['modern', 'stdio legacy', -32_601],
      ['modern', 'stdio modern', 'result'],
      ['modern', 'sse legacy', -32_601],
      ['modern', 'http legacy', -32_000],
      ['modern', 'http modern', 'result'],
    ]
    it.each(table)('%s client, %s server: %s', async (era, server, outcome) => {
      const options = (await servers[server]?.()) ?? []
      const kept = run(stdio(['--no-admin', '--log-file', '/dev/null', ...options]))
      stops.push(async () => void kept.child.kill('SIGKILL'))
      const answer = await asks(kept, era === 'legacy' ? initialize : discover)
      expect(answer).toMatchObject(outcome === 'result' ? { result: {} } : { error: { code: outcome } })
    })
  },
)

describe('mcp-vitals stdio --url', { timeout: 60_000 }, () => {
  it('is announced, measured and heartbeated, and ends with its input, leaving no session behind', async () => {
    const mcp = await mcpServer()
    const folder = wrapperFolder()
    closers.push(mcp.stop, folder.remove)
    const options = ['--url', mcp.url, '--name', 'far', ...folder.options]
    const kept = startStdio([...options, '--header', 'X-Key: ${SECRET}!'], { SECRET: 'k' })
    await asks(kept, initialize)
    await asks(kept, initialized, { id: 1, method: 'tools/list' })
    const { adminUrl, labels } = await folder.announced()
    expect(labels).toEqual({ upstream: 'far' })
    await eventually(
      async () =>
        ((await metricValue({ adminUrl }, 'mcp_heartbeats_total', { leg: 'upstream', outcome: 'ok' })) ?? 0) > 0,
      { what: 'a heartbeat' },
    )
    expect(await debugUpstream({ adminUrl }, 'far')).toMatchObject({ state: 'healthy', transport: 'http' })
    const list = { mcp_method_name: 'tools/list' }
    const [server, client] = [
      await metricValues({ adminUrl }, 'mcp_server_operation_duration_seconds_count', {
        ...list,
        network_transport: 'pipe',
      }),
      await metricValues({ adminUrl }, 'mcp_client_operation_duration_seconds_count', {
        ...list,
        network_transport: 'tcp',
      }),
    ]
    expect([server, client]).toEqual([[1], [1]])
    expect(await metricValue({ adminUrl }, 'mcp_sessions_active', { upstream: 'far', transport: 'stdio' })).toBe(1)
    expect(new Set(mcp.heard.map(({ headers }) => headers['x-key']))).toEqual(new Set(['k!']))
    kept.child.stdin.end()
    const { code, signal, stderr } = await kept.ended
    expect([code, signal, stderr.toString()]).toEqual([0, null, ''])
    expect([...mcp.sessions]).toEqual([])
    expect(folder.files()).toEqual([])
  })

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('ends its session and itself at %s', async (signal) => {
    const mcp = await mcpServer()
    closers.push(mcp.stop)
    const kept = startStdio(['--url', mcp.url, '--no-admin'])
    await asks(kept, initialize)
    kept.child.kill(signal)
    expect(await kept.ended).toMatchObject({ code: 0, signal: null })
    expect([...mcp.sessions]).toEqual([])
  })

  it('answers what was asked before the input ended', async () => {
    const mcp = await mcpServer()
    closers.push(mcp.stop)
    const kept = startStdio(['--url', mcp.url, '--no-admin'])
    const lines = [initialize, initialized, { id: 1, method: 'ping' }, [{ jsonrpc: '2.0', id: 2, method: 'ping' }]]
    kept.child.stdin.end(
      lines.map((one) => `${JSON.stringify(Array.isArray(one) ? one : { jsonrpc: '2.0', ...one })}\n`).join(''),
    )
    const { stdout } = await kept.ended
    const ids = stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { id: unknown }).id)
    expect(new Set(ids)).toEqual(new Set([1, 2, 'i']))
  })

  it('may be a server of a configuration file, be it a URL or a command', async () => {
    const mcp = await mcpServer()
    const folder = wrapperFolder()
    closers.push(mcp.stop, folder.remove)
    const file = join(folder.folder, 'servers.yaml')
    const far = { url: mcp.url, headers: { 'X-Key': '${SECRET}' } }
    const near = {
      command: process.execPath,
      args: ['-e', 'console.log(process.env.GREETING)'],
      env: { GREETING: 'hi' },
    }
    writeFileSync(file, JSON.stringify({ mcpServers: { far, near } }))
    const kept = startStdio(['--config', file, '--upstream', 'far', '--no-admin'], { SECRET: 'k' })
    await asks(kept, initialize)
    expect(mcp.heard[0]?.headers).toMatchObject({ 'x-key': 'k' })
    const greeting = await startStdio(['--config', file, '--upstream', 'near', '--no-admin'], { SECRET: '' }).ended
    expect([greeting.code, greeting.stdout.toString()]).toEqual([0, 'hi\n'])
  })

  it.each([
    [[], 'the server is missing'],
    [['--url', 'http://127.0.0.1:1/mcp', '--', 'cat'], 'give only one of'],
    [['--url', 'http://127.0.0.1:1/mcp', '--header', 'nonsense'], '"Name: value"'],
    [['--url', 'http://127.0.0.1:1/mcp', '--header', 'A: ${NO_SUCH_THING}'], 'the environment has no NO_SUCH_THING'],
    [['--upstream', 'nobody'], 'no --config file names'],
    [['--header', 'A: b', '--', 'cat'], 'belong to --url'],
  ])('%j is a mistake', async (options, why) => {
    const { code, stdout, stderr } = await startStdio(options).ended
    expect([code, stdout.toString()]).toEqual([2, ''])
    expect(stderr.toString()).toContain(why)
  })
})
