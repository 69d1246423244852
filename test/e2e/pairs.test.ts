import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectV1 } from '../peers/clients.ts'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import type { RunningProcess } from '../peers/spawn.ts'
import { debugReport } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { comparable, expectSuccess, legacyScript, transcriptOf } from '../support/everything-script.ts'
import { type Place, uniformV1, uniformV2 } from '../support/uniform-client.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let vitals: RunningVitals
let peers: readonly RunningProcess<string>[] = []
let direct: Readonly<Record<string, Place>>

beforeAll(async () => {
  const [sse, http] = await Promise.all([startEverything('sse'), startEverything('streamableHttp')])
  peers = [sse, http]
  direct = { stdio: everythingStdio, sse: sse.ready, http: http.ready }
  vitals = await startVitals({
    config: {
      mcpServers: {
        stdio: everythingStdio,
        sse: { type: 'sse', url: sse.ready },
        http: { type: 'http', url: http.ready },
        changing: { command: process.execPath, args: ['test/peers/modern-stdio.ts'], cwd: process.cwd() },
      },
    },
  })
  await eventually(
    async () => {
      const states = Object.values((await debugReport(vitals)).upstreams).map(({ state }) => state)
      return states.length === 4 && states.every((state) => state === 'healthy')
    },
    { timeoutMs: 30_000, what: 'all upstreams are healthy' },
  )
}, 60_000)
afterAll(async () => {
  await vitals?.stop()
  await Promise.all(peers.map((peer) => peer.stop()))
}, 30_000)

const v1 = (place: Place) => uniformV1(place)
const v2 = (place: Place) => uniformV2(place, 'legacy')

describe('official clients on servers of another transport', { timeout: 60_000 }, () => {
  it.each([
    { client: 'SDK v1 over HTTP+SSE', connect: v1, server: 'stdio', path: 'sse' },
    { client: 'SDK v2 over HTTP+SSE', connect: v2, server: 'stdio', path: 'sse' },
    { client: 'SDK v1 over HTTP+SSE', connect: v1, server: 'http', path: 'sse' },
    { client: 'SDK v2 over HTTP+SSE', connect: v2, server: 'http', path: 'sse' },
    { client: 'SDK v1 over Streamable HTTP', connect: v1, server: 'sse', path: 'mcp' },
    { client: 'SDK v2 over Streamable HTTP', connect: v2, server: 'sse', path: 'mcp' },
  ])('$client on a $server server: each answer is the one it gets directly', async ({ connect, server, path }) => {
    const [alone, bridged] = await Promise.all([
      transcriptOf(connect(direct[server] ?? ''), legacyScript),
      transcriptOf(connect(`${vitals.dataUrl}/${server}/${path}`), legacyScript),
    ])
    expect(comparable(bridged)).toEqual(comparable(alone))
    expectSuccess(bridged)
  })

  it('SDK v2, auto, finds out that an HTTP+SSE server is of the legacy era', async () => {
    const client = await uniformV2(`${vitals.dataUrl}/sse/mcp`, 'auto')
    expect(client.server()).toContain('legacy')
    expect(await client.callTool('echo', { message: 'hi' })).toMatchObject({ result: { content: [{ type: 'text' }] } })
    await client.close()
  })

  it('a change of the tool list is told to an HTTP+SSE client of a stdio server (MCP 2025-11-25, Tools)', async () => {
    const client = await connectV1(`${vitals.dataUrl}/changing/sse`)
    let changes = 0
    client.setNotificationHandler(ToolListChangedNotificationSchema, () => void (changes += 1))
    await client.callTool({ name: 'change', arguments: {} })
    await eventually(() => changes > 0, { what: 'the change is told' })
    await client.close()
  })
})
