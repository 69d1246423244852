import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { type TestContext, afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DebugReport } from '../../src/admin/debug.ts'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import { type RunningProcess, repoRoot } from '../peers/spawn.ts'
import { becomesState, debugReport, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { mcpServer, result, sendJson } from '../support/mcp-server.ts'
import { compileCache, programFile } from '../support/program.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { type Kept, run, wrapperFolder } from '../support/wrapper.ts'

let vitals: RunningVitals
let peers: readonly RunningProcess<string>[] = []
const clients: Client[] = []

beforeAll(async () => {
  const [sse, http] = await Promise.all([startEverything('sse'), startEverything('streamableHttp')])
  peers = [sse, http]
  vitals = await startVitals({
    config: {
      heartbeat: {
        heartbeat_interval_seconds: 1,
        adaptive_heartbeat: { enabled: false },
        session_ping_seconds: 1,
        ping_forwarded_sessions: true,
        client_ping_seconds: 1,
      },
      mcpServers: {
        stdio: everythingStdio,
        sse: { type: 'sse', url: sse.ready },
        http: { type: 'http', url: http.ready },
      },
    },
  })
}, 60_000)
afterAll(async () => {
  await Promise.allSettled(clients.map((client) => client.close()))
  await vitals?.stop()
  await Promise.all(peers.map((peer) => peer.stop()))
}, 30_000)

type DebugSession = DebugReport['sessions'][string]
type Settings = Readonly<Record<string, unknown>>

interface Connected {
  readonly client: Client
  readonly errors: readonly Error[]
  readonly leave: () => Promise<void>
}

/** An official client, with what it complains about: a message that it did not expect, for one. */
async function connect(place: string): Promise<Connected> {
  const client = new Client({ name: 'mcp-vitals-test', version: '1.0.0' })
  const errors: Error[] = []
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a client is no EventTarget
  client.onerror = (error) => errors.push(error)
  const url = new URL(`${vitals.dataUrl}${place}`)
  const transport = place.endsWith('/sse') ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url)
  await client.connect(transport)
  clients.push(client)
  const leave = async () => {
    if (transport instanceof StreamableHTTPClientTransport) await transport.terminateSession()
    await client.close()
  }
  return { client, errors, leave }
}

describe('heartbeats inside the sessions of an official client', { timeout: 60_000, concurrent: true }, () => {
  it.each([
    { path: '/http/sse', upstream: 'http', legs: ['session', 'client'] },
    { path: '/sse/mcp', upstream: 'sse', legs: ['session', 'client'] },
    { path: '/stdio/mcp', upstream: 'stdio', legs: ['session', 'client'] },
    { path: '/stdio/sse', upstream: 'stdio', legs: ['session', 'client'] },
    { path: '/http/mcp', upstream: 'http', legs: ['session', 'client'] },
    { path: '/sse/sse', upstream: 'sse', legs: ['session', 'client'] },
  ] as const)(
    '$path: both ends answer, and the client goes on as if nothing were',
    async ({ path, upstream, legs }) => {
      // A busy machine may be too much for the sidecar at first, which then refuses new sessions.
      const { client, errors, leave } = await eventually(() => connect(path), { what: 'the client is connected' })
      const transport = path.endsWith('sse') ? 'sse' : 'http'
      const asked = await eventually(
        async () => {
          const { sessions } = await debugReport(vitals)
          const ours = Object.values(sessions).find((one) => one.upstream === upstream && one.transport === transport)
          return legs.every((leg) => (ours?.heartbeats[leg].heartbeats ?? 0) >= 2) ? ours : undefined
        },
        { timeoutMs: 40_000, what: 'two heartbeats on each leg' },
      )
      expect(asked.state).toBe('healthy')
      for (const leg of legs) {
        expect(asked.heartbeats[leg]).toMatchObject({ state: 'healthy', misses: 0, round_trip_ms: expect.any(Number) })
      }
      expect(await client.callTool({ name: 'echo', arguments: { message: 'hi' } })).toMatchObject({ content: [{}] })
      expect(errors).toEqual([])
      const leg = legs[0]
      const labels = { upstream, transport: leg === 'session' ? upstream : transport, leg, outcome: 'ok' }
      expect(await metricValue(vitals, 'mcp_heartbeats_total', labels)).toBeGreaterThanOrEqual(2)
      expect(await metricValue(vitals, 'mcp_sessions_with_issues', { upstream, transport })).toBe(0)
      await leave()
      await eventually(async () => (await metricValue(vitals, 'mcp_sessions_active', { upstream, transport })) === 0, {
        what: 'the session has ended',
      })
    },
  )
})

describe('heartbeats inside the session of a client that started us', { timeout: 60_000, concurrent: true }, () => {
  const beating = { session_ping_seconds: 1, client_ping_seconds: 1 }
  const everything = ['--', everythingStdio.command, ...everythingStdio.args]

  /** The command line of `mcp-vitals stdio`, and where it then tells what it sees. */
  function started({ onTestFinished }: TestContext, server: readonly string[], settings: Settings = beating) {
    const folder = wrapperFolder(settings)
    onTestFinished(folder.remove)
    const command = [process.execPath, programFile('src/cli/main.ts'), 'stdio', '--name', 'u', ...folder.options]
    return { command: [...command, ...server], folder }
  }

  /** What is known of the one session, once that is what is looked for. */
  function sessionThat(adminUrl: string, isIt: (session: DebugSession) => boolean, what: string) {
    return eventually(
      async () => {
        const [session] = Object.values((await debugReport({ adminUrl })).sessions)
        if (session && isIt(session)) return session
        throw new Error(JSON.stringify(session))
      },
      { timeoutMs: 40_000, what },
    )
  }

  it.for([
    { what: 'a command', server: () => everything, transport: 'stdio' },
    { what: 'Streamable HTTP', server: () => ['--url', peers[1]?.ready ?? ''], transport: 'http' },
    { what: 'HTTP+SSE', server: () => ['--url', peers[0]?.ready ?? ''], transport: 'sse' },
  ])(
    '$what: both ends answer, and an official client goes on as if nothing were',
    async ({ server, transport }, context) => {
      const { command, folder } = started(context, server())
      const [node = '', ...args] = command
      const client = new Client({ name: 'mcp-vitals-test', version: '1.0.0' })
      const errors: Error[] = []
      // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a client is no EventTarget
      client.onerror = (error) => errors.push(error)
      await client.connect(new StdioClientTransport({ command: node, args, env: compileCache }))
      context.onTestFinished(() => client.close())
      const { adminUrl } = await folder.announced()
      const hasBeaten = ({ heartbeats }: DebugSession) =>
        heartbeats.session.heartbeats >= 2 && heartbeats.client.heartbeats >= 2
      const session = await sessionThat(adminUrl, hasBeaten, 'two heartbeats on each leg')
      expect(session).toMatchObject({ state: 'healthy', transport: 'stdio' })
      const counted = (leg: string, side: string) =>
        metricValue({ adminUrl }, 'mcp_heartbeats_total', { upstream: 'u', transport: side, leg, outcome: 'ok' })
      expect(await counted('session', transport)).toBeGreaterThanOrEqual(2)
      expect(await counted('client', 'stdio')).toBeGreaterThanOrEqual(2)
      expect(await client.callTool({ name: 'echo', arguments: { message: 'hi' } })).toMatchObject({ content: [{}] })
      expect(errors).toEqual([])
      expect(await metricValue({ adminUrl }, 'mcp_sessions_with_issues', { transport: 'stdio' })).toBe(0)
    },
  )

  it('nobody asks the client unless the configuration says so', async (context) => {
    const { command, folder } = started(context, everything, { session_ping_seconds: 1 })
    const kept = open(context, command)
    const { adminUrl } = await folder.announced()
    await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.session.heartbeats >= 3, 'three heartbeats')
    expect(kept.stdout()).not.toContain('"ping"')
    expect(await metricValues({ adminUrl }, 'mcp_heartbeats_total', { leg: 'client' })).toEqual([])
  })

  /** A client by hand, which opens a session. */
  function open({ onTestFinished }: TestContext, command: readonly string[]): Kept {
    const kept = run(command)
    onTestFinished(() => void kept.child.kill('SIGKILL'))
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } }
    const say = (message: object) => kept.child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
    say({ id: 1, method: 'initialize', params })
    say({ method: 'notifications/initialized' })
    return kept
  }

  it('a client that knows no ping is alive', async (context) => {
    const { command, folder } = started(context, everything)
    const { child } = open(context, command)
    child.stdout.on('data', (chunk: Buffer) => {
      for (const [, id] of chunk.toString().matchAll(/"id":"(vitals-[0-9a-f-]+)","method":"ping"/g)) {
        child.stdin.write(`{"jsonrpc":"2.0","id":"${id}","error":{"code":-32601,"message":"Method not found"}}\n`)
      }
    })
    const { adminUrl } = await folder.announced()
    const { heartbeats } = await sessionThat(adminUrl, (one) => one.heartbeats.client.heartbeats >= 2, 'two heartbeats')
    expect(heartbeats.client).toMatchObject({ state: 'healthy', misses: 0 })
    const labels = { leg: 'client', transport: 'stdio', outcome: 'unsupported' }
    expect(await metricValue({ adminUrl }, 'mcp_heartbeats_total', labels)).toBeGreaterThanOrEqual(2)
  })

  it('a client that stands still is told: its session has issues, until it goes on', async (context) => {
    const { command, folder } = started(context, everything)
    const client = run([process.execPath, join(repoRoot, 'test/peers/stdio-client.ts'), ...command])
    context.onTestFinished(() => void client.child.kill('SIGKILL'))
    const { adminUrl } = await folder.announced()
    const withIssues = () =>
      metricValue({ adminUrl }, 'mcp_sessions_with_issues', { upstream: 'u', transport: 'stdio' })
    await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.client.state === 'healthy', 'the client has answered')
    expect(await withIssues()).toBe(0)
    client.child.kill('SIGSTOP')
    const hung = await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.client.state === 'hung', 'the client hangs')
    expect(hung).toMatchObject({ state: 'hung', heartbeats: { session: { state: 'healthy' } } })
    expect(await withIssues()).toBe(1)
    expect((await debugReport({ adminUrl })).upstreams['u']).toMatchObject({ state: 'healthy' })
    client.child.kill('SIGCONT')
    await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.client.state === 'healthy', 'the client goes on')
    expect(await withIssues()).toBe(0)
    client.child.stdin.end()
    expect(await client.ended).toMatchObject({ code: 0 })
  })

  it('a session that the server has forgotten is opened anew with the next message of the client', async (context) => {
    const mcp = await mcpServer()
    context.onTestFinished(mcp.stop)
    const { command, folder } = started(context, ['--url', mcp.url], { session_ping_seconds: 1 })
    const kept = open(context, command)
    const { adminUrl } = await folder.announced()
    await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.session.state === 'healthy', 'the server has answered')
    mcp.sessions.clear()
    const gone = { leg: 'session', transport: 'http', outcome: 'session_gone' }
    await eventually(async () => ((await metricValue({ adminUrl }, 'mcp_heartbeats_total', gone)) ?? 0) > 0, {
      what: 'our ping finds out',
    })
    expect(await metricValue({ adminUrl }, 'mcp_sessions_active', { upstream: 'u', transport: 'stdio' })).toBe(1)
    const { session } = (await sessionThat(adminUrl, () => true, 'the session')).heartbeats
    expect(session).toMatchObject({ state: 'unasked', round_trip_ms: null })
    kept.child.stdin.write('{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n')
    await eventually(() => kept.stdout().includes('"id":2'), { what: 'the server answers again' })
    await sessionThat(
      adminUrl,
      ({ heartbeats }) => heartbeats.session.heartbeats > session.heartbeats,
      'it is asked again',
    )
    expect(await metricValue({ adminUrl }, 'mcp_heartbeats_total', gone)).toBe(1)
  })

  it('a session in which the server does not answer is hung, and the server degraded, until it does', async (context) => {
    const mcp = await mcpServer()
    context.onTestFinished(mcp.stop)
    const { command, folder } = started(context, ['--url', mcp.url], { session_ping_seconds: 1 })
    open(context, command).child.stdin.write('{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n')
    const { adminUrl } = await folder.announced()
    await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.session.state === 'healthy', 'the server has answered')
    const session = mcp.heard.find(({ message }) => message.id === 2)?.headers['mcp-session-id']
    mcp.reactions.set('ping', (message, response, { headers }) => {
      if (headers['mcp-session-id'] !== session) sendJson(response, 200, result(message))
    })
    await sessionThat(adminUrl, ({ heartbeats }) => heartbeats.session.state === 'hung', 'the session hangs')
    await becomesState({ adminUrl }, 'u', 'degraded', 20_000)
    mcp.reactions.clear()
    await becomesState({ adminUrl }, 'u', 'healthy', 30_000)
  })
})
