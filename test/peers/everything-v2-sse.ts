/**
 * The conformance fixture over HTTP+SSE (2024-11-05): legacy era, one server object per stream. SDK v2 has no such
 * transport, so SDK v1 lends its own.
 *
 * `PORT=0 node test/peers/everything-v2-sse.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/sse"}`.
 */
import { createServer, type ServerResponse } from 'node:http'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { legacyEverything } from './everything-server.ts'

const streams = new Map<string, SSEServerTransport>()

async function openStream(res: ServerResponse): Promise<void> {
  const transport = new SSEServerTransport('/messages', res)
  streams.set(transport.sessionId, transport)
  res.once('close', () => streams.delete(transport.sessionId))
  await legacyEverything().connect(transport)
}

const http = createServer((req, res) => {
  const { pathname, searchParams } = new URL(req.url ?? '/', 'http://local')
  if (req.method === 'GET' && pathname === '/sse') return void openStream(res)
  const transport = streams.get(searchParams.get('sessionId') ?? '')
  if (req.method === 'POST' && pathname === '/messages' && transport) return void transport.handlePostMessage(req, res)
  res.writeHead(404).end()
})

http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const address = http.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/sse` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
