/** A legacy server over HTTP+SSE (2024-11-05), one server object per stream; SDK v1 lends the transport that v2 lacks. */
import type { ServerResponse } from 'node:http'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import type { McpServer } from '@modelcontextprotocol/server'
import { listen } from './serve-http.ts'

/** Serves `/sse` and says where: `{"msg":"listening","url":"http://127.0.0.1:PORT/sse"}`. */
export function serveSse(serverOf: () => McpServer): void {
  const streams = new Map<string, SSEServerTransport>()
  const openStream = async (res: ServerResponse) => {
    const transport = new SSEServerTransport('/messages', res)
    streams.set(transport.sessionId, transport)
    res.once('close', () => streams.delete(transport.sessionId))
    await serverOf().connect(transport)
  }
  listen('/sse', (req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://local')
    if (req.method === 'GET' && pathname === '/sse') return void openStream(res)
    const transport = streams.get(searchParams.get('sessionId') ?? '')
    if (req.method !== 'POST' || pathname !== '/messages' || !transport) return void res.writeHead(404).end()
    void transport.handlePostMessage(req, res)
  })
}
