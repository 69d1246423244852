/** A launched server that takes its time to listen, as its first client sees it. */
import { expect, it } from 'vitest'
import { debugUpstream, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { initializeMessage, post } from '../support/rpc.ts'
import { scriptedServer, sendJson } from '../support/scripted-server.ts'
import { startVitals } from '../support/vitals.ts'

const script = `
const { createServer } = require('node:http')
const server = createServer((request, response) => {
  let body = ''
  request.on('data', (chunk) => (body += chunk)).on('end', () => {
    const { id } = JSON.parse(body || '{}')
    const result = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 'late', version: '1' } }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result }))
  })
})
setTimeout(() => server.listen(Number(process.env.PORT), '127.0.0.1'), 700)`

it('waits for its port, in place of an error', { timeout: 60_000 }, async () => {
  const port = String(await freePort())
  const launch = { command: process.execPath, args: ['-e', script], env: { PORT: port } }
  const vitals = await startVitals({
    config: { mcpServers: { late: { url: `http://127.0.0.1:${port}/mcp`, launch } } },
  })
  try {
    const { status, body } = await post(`${vitals.dataUrl}/late/mcp`, initializeMessage)
    expect([status, body]).toEqual([200, expect.stringContaining('"late"')])
    expect(await metricValue(vitals, 'mcp_vitals_rejected_requests_total', { reason: 'upstream_refused' })).toBeFalsy()
  } finally {
    await vitals.stop()
  }
})

it('is not taken for started because another process answers at its URL', { timeout: 60_000 }, async () => {
  const result = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 'stranger', version: '1' } }
  const stranger = await scriptedServer(({ id }, response) => sendJson(response, 200, { jsonrpc: '2.0', id, result }))
  const launch = { command: 'sh', args: ['-c', 'sleep 0.5; exit 1'] }
  const vitals = await startVitals({
    config: { mcpServers: { taken: { url: stranger.url, launch, restart: 'never' } } },
  })
  const reason = 'the server process exited with code 1 (restart: never); another process answers at its URL'
  try {
    const isTold = async () => (await debugUpstream(vitals, 'taken')).reason === reason
    await eventually(isTold, { what: 'the reason names the other process' })
    const { status } = await post(`${vitals.dataUrl}/taken/mcp`, initializeMessage)
    expect(status).toBe(200) // By the other process, which is not the server.
    expect(await debugUpstream(vitals, 'taken')).toMatchObject({ state: 'down', reason })
  } finally {
    await vitals.stop()
    await stranger.stop()
  }
})
