import { randomUUID } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { McpServer as ModernServer, createMcpHandler } from '@modelcontextprotocol/server'
import { McpServer as LegacyServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { z } from 'zod'
import { listenOn, stopped } from './mcp-server.ts'

const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

/** An official SDK v2 server of the modern era, in this process; `reject` turns legacy clients away. */
export async function modernSdkServer(legacy: 'stateless' | 'reject' = 'stateless') {
  const handler = createMcpHandler(
    () => {
      const server = new ModernServer({ name: 'modern', version: '1.0.0' })
      server.registerTool('echo', { description: 'Says it.', inputSchema: z.object({ it: z.string() }) }, ({ it }) =>
        text(it),
      )
      return server
    },
    { legacy },
  )
  const serve = getRequestListener((request) => handler.fetch(request), { overrideGlobalObjects: false })
  const http = createServer((request, response) => void serve(request, response))
  return { url: `http://127.0.0.1:${await listenOn(http)}/mcp`, stop: () => stopped(http) }
}

/** Official SDK v1 servers in this process: Streamable HTTP with sessions at `url`, HTTP+SSE at `sseUrl`. */
export async function legacySdkServer() {
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  const streams = new Map<string, { readonly transport: SSEServerTransport; readonly response: ServerResponse }>()
  const http = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://local')
    if (pathname === '/sse') return void openStream(response)
    const stream = streams.get(searchParams.get('sessionId') ?? '')
    if (stream) return void stream.transport.handlePostMessage(request, response)
    return void serve(request, response)
  })
  const openStream = async (response: ServerResponse) => {
    const transport = new SSEServerTransport('/messages', response)
    streams.set(transport.sessionId, { transport, response })
    response.on('close', () => streams.delete(transport.sessionId))
    await connect(transport)
  }
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const known = sessions.get(String(request.headers['mcp-session-id']))
    if (known) return known.handleRequest(request, response)
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    })
    await connect(transport)
    return transport.handleRequest(request, response)
  }
  const origin = `http://127.0.0.1:${await listenOn(http)}`
  return {
    url: `${origin}/mcp`,
    sseUrl: `${origin}/sse`,
    sessions: () => sessions.size,
    streams: () => streams.size,
    cutStreams: () => {
      for (const { response } of streams.values()) response.destroy()
    },
    stop: () => stopped(http),
  }
}

async function connect(transport: StreamableHTTPServerTransport | SSEServerTransport): Promise<void> {
  const server = new LegacyServer({ name: 'legacy', version: '1.0.0' })
  server.registerTool('echo', { description: 'Says it.', inputSchema: { it: z.string() } }, ({ it }) => text(it))
  await server.connect(transport)
}
