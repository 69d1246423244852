import { afterAll, beforeAll, expect, it } from 'vitest'
import { type RunningProcess, startPeer } from '../peers/spawn.ts'
import { metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { closeStreams, openStreams, streamKinds } from './stream-clients.ts'

const perKind = 100
let server: RunningProcess<string>
let vitals: RunningVitals

beforeAll(async () => {
  server = await startPeer('test/peers/stream-server.ts')
  const mcpServers = { http: { url: server.ready }, sse: { url: new URL('/sse', server.ready).href } }
  vitals = await startVitals({ config: { stream_keep_alive_seconds: 1, mcpServers } })
}, 60_000)
afterAll(async () => {
  await vitals?.stop()
  await server?.stop()
}, 30_000)

async function expectGauges(count: number): Promise<void> {
  for (const transport of streamKinds) {
    for (const name of ['mcp_streams_open', 'mcp_sessions_active']) {
      const labels = { upstream: transport, transport }
      await eventually(async () => (await metricValue(vitals, name, labels)) === count, { what: `${name} is ${count}` })
    }
  }
}

it('keeps silent streams of both kinds open, and forgets them when they are closed', { timeout: 60_000 }, async () => {
  const urls = { http: `${vitals.dataUrl}/http/mcp`, sse: `${vitals.dataUrl}/sse/sse` }
  const opened = await Promise.all(streamKinds.map((kind) => openStreams(urls, kind, perKind)))
  const clients = opened.flat()
  await expectGauges(perKind)
  await eventually(() => clients.every((client) => client.comments() >= 2), {
    what: 'every stream is kept alive twice',
    timeoutMs: 30_000,
  })
  expect(clients.filter((client) => client.isDropped())).toEqual([])
  await closeStreams(clients)
  await expectGauges(0)
})
