import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import type { RunningProcess } from '../peers/spawn.ts'
import { debugReport, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

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

describe('heartbeats inside the sessions of an official client', { timeout: 60_000 }, () => {
  it.each([
    { path: '/http/sse', upstream: 'http', legs: ['session', 'client'] },
    { path: '/sse/mcp', upstream: 'sse', legs: ['session', 'client'] },
    { path: '/stdio/mcp', upstream: 'stdio', legs: ['session', 'client'] },
    { path: '/stdio/sse', upstream: 'stdio', legs: ['session', 'client'] },
    { path: '/http/mcp', upstream: 'http', legs: ['session', 'client'] },
    { path: '/sse/sse', upstream: 'sse', legs: ['client'] },
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
