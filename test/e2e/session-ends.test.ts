import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { type TestContext, describe, expect, it } from 'vitest'
import type { DebugReport } from '../../src/admin/debug.ts'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import type { RunningProcess } from '../peers/spawn.ts'
import { debugReport, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { initializeMessage, openSession, post } from '../support/rpc.ts'
import { openSse } from '../support/sse-client.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

type Server = 'http' | 'sse' | 'stdio'

interface World {
  readonly vitals: RunningVitals
  readonly peer: RunningProcess<string> | undefined
}

/** One server behind mcp-vitals, whose sessions last a second when nothing is open. */
async function start({ onTestFinished }: TestContext, server: Server): Promise<World> {
  const peer = server === 'stdio' ? undefined : await startEverything(server === 'sse' ? 'sse' : 'streamableHttp')
  if (peer) onTestFinished(() => peer.stop(), 30_000)
  const vitals = await startVitals({
    config: {
      heartbeat: {
        heartbeat_interval_seconds: 1,
        adaptive_heartbeat: { enabled: false },
        session_timeout_seconds: 1,
        cleanup_interval_seconds: 0.5,
        session_ping_seconds: 1,
        ping_forwarded_sessions: true,
        client_ping_seconds: 1,
      },
      mcpServers: { u: peer ? { type: server, url: peer.ready } : everythingStdio },
    },
  })
  onTestFinished(() => vitals.stop(), 30_000)
  return { vitals, peer }
}

/** A client with an open session and, in it, an open stream. */
interface OpenClient {
  readonly headers: Readonly<Record<string, string>>
  readonly isStreamEnded: () => boolean
  readonly leave: () => void
}

async function overHttp({ vitals }: World): Promise<OpenClient> {
  const url = `${vitals.dataUrl}/u/mcp`
  const headers = await openSession(url)
  let isEnded = false
  const outgoing: ClientRequest = await new Promise((resolve, reject) => {
    const opening = request(url, { agent: false, headers: { ...headers, accept: 'text/event-stream' } })
    opening.once('response', (incoming: IncomingMessage) => {
      incoming.resume()
      incoming.on('error', () => undefined)
      incoming.once('close', () => (isEnded = true))
      resolve(opening)
    })
    opening.on('error', reject)
    opening.end()
  })
  return { headers, isStreamEnded: () => isEnded, leave: () => void outgoing.destroy() }
}

async function overSse({ vitals }: World): Promise<OpenClient> {
  const client = await openSse(`${vitals.dataUrl}/u/sse`)
  await client.ask(initializeMessage)
  await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
  return { headers: {}, isStreamEnded: () => client.isEnded(), leave: () => client.close() }
}

function sessionsOf({ sessions }: DebugReport) {
  return Object.values(sessions)
}

async function opened(world: World, front: 'http' | 'sse'): Promise<OpenClient> {
  // A busy machine may be too much for the sidecar at first, which then refuses new sessions.
  const open = () => (front === 'http' ? overHttp(world) : overSse(world))
  const client = await eventually(open, { what: 'the session is open' })
  await eventually(
    async () => sessionsOf(await debugReport(world.vitals)).some(({ open_streams: open }) => open === 1),
    {
      what: 'the session has its stream',
    },
  )
  return client
}

/** Nothing of a session is left: no record, no stream, no request, no process of its own. */
async function expectNothingLeft({ vitals }: World, front: 'http' | 'sse'): Promise<void> {
  const labels = { upstream: 'u', transport: front }
  await eventually(
    async () => {
      const report = await debugReport(vitals)
      const left = {
        sessions: sessionsOf(report).length,
        active: await metricValue(vitals, 'mcp_sessions_active', labels),
        withIssues: await metricValue(vitals, 'mcp_sessions_with_issues', labels),
        pending: await metricValue(vitals, 'mcp_session_messages_pending', labels),
        streams: await metricValue(vitals, 'mcp_streams_open', labels),
        inFlight: report.upstreams['u']?.requests_in_flight,
        processes: report.upstreams['u']?.process?.all.filter(({ role }) => role === 'session').length ?? 0,
      }
      if (Object.values(left).some((count) => count !== 0)) throw new Error(JSON.stringify(left))
      return true
    },
    { timeoutMs: 20_000, what: 'nothing is left' },
  )
}

const fronts = ['http', 'sse'] as const
const servers = ['http', 'sse', 'stdio'] as const
const pairs = fronts.flatMap((front) => servers.map((server) => ({ front, server })))

describe('no session outlives what it belongs to', { timeout: 60_000 }, () => {
  it.concurrent.for(pairs)(
    '$front client, $server server: it lasts while its stream is open, and not when the client has gone',
    async ({ front, server }, context) => {
      const world = await start(context, server)
      const client = await opened(world, front)
      // Idle for far longer than session_timeout_seconds: each of these heartbeats needs a second without traffic.
      await eventually(
        async () => {
          const [session] = sessionsOf(await debugReport(world.vitals))
          if (!session) throw new Error('the session has ended')
          return session.heartbeats.client.misses >= 1 || session.heartbeats.session.heartbeats >= 3
        },
        { timeoutMs: 30_000, what: 'the session was idle for several seconds' },
      )
      expect(client.isStreamEnded()).toBe(false)
      client.leave()
      await expectNothingLeft(world, front)
    },
  )

  it.for(servers)(
    'http client, %s server: DELETE ends the session and, with it, its stream',
    async (server, context) => {
      const world = await start(context, server)
      const client = await opened(world, 'http')
      const answer = await fetch(`${world.vitals.dataUrl}/u/mcp`, { method: 'DELETE', headers: client.headers })
      expect(answer.status).toBe(200)
      await eventually(() => client.isStreamEnded(), { what: 'the stream has ended' })
      await expectNothingLeft(world, 'http')
    },
  )

  it.for(fronts)(
    '%s client, stdio server: its process ends, and so do the session and its stream',
    async (front, context) => {
      const world = await start(context, 'stdio')
      const client = await opened(world, front)
      const { upstreams } = await debugReport(world.vitals)
      const own = upstreams['u']?.process?.all.find(({ role }) => role === 'session')
      if (!own) throw new Error('the session has no process')
      process.kill(own.pid, 'SIGKILL')
      await eventually(() => client.isStreamEnded(), { what: 'the stream has ended' })
      await expectNothingLeft(world, front)
    },
  )

  it.for(fronts)(
    '%s client, HTTP+SSE server: the server goes, and so do the session and its stream',
    async (front, context) => {
      const world = await start(context, 'sse')
      const client = await opened(world, front)
      await world.peer?.stop()
      await eventually(() => client.isStreamEnded(), { what: 'the stream has ended' })
      await expectNothingLeft(world, front)
    },
  )

  it('http client, http server: what the server forgot is found by our ping, before the client asks', async (context) => {
    const world = await start(context, 'http')
    const client = await opened(world, 'http')
    // Behind our back.
    await fetch(world.peer?.ready ?? '', { method: 'DELETE', headers: client.headers })
    await eventually(() => client.isStreamEnded(), { what: 'the stream has ended' })
    await expectNothingLeft(world, 'http')
    const { status } = await post(
      `${world.vitals.dataUrl}/u/mcp`,
      { jsonrpc: '2.0', id: 9, method: 'ping' },
      client.headers,
    )
    expect(status).toBeGreaterThanOrEqual(400)
  })
})
