/** A launched server that takes its time to listen, as its first client sees it. */
import { expect, it } from 'vitest'
import { metricValue } from '../support/admin.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { initializeMessage, post } from '../support/rpc.ts'
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
