import { randomUUID } from 'node:crypto'
import { type RequestListener, type ServerResponse, createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { z } from 'zod'
import { listenOn, stopped } from './mcp-server.ts'

/** Servers that serve one connection at a time, made of SDK v1 the way tutorials do. */

function echoServer(): McpServer {
  const server = new McpServer({ name: 'one', version: '1.0.0' })
  server.registerTool('echo', { description: 'Says it.', inputSchema: { it: z.string() } }, ({ it }) => ({
    content: [{ type: 'text', text: it }],
  }))
  return server
}

/** Looks at paths and, like many a server, at no method. */
async function serve(routes: Readonly<Record<string, RequestListener>>) {
  const http = createServer((request, response) => {
    const route = routes[new URL(request.url ?? '/', 'http://local').pathname]
    if (route) route(request, response)
    else response.writeHead(404).end()
  })
  const [path = '/'] = Object.keys(routes)
  return { url: `http://127.0.0.1:${await listenOn(http)}${path}`, stop: () => stopped(http) }
}

/** Streamable HTTP with one transport: whoever initializes first has it, once for as long as the server runs. */
export async function oneTransport() {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID })
  await echoServer().connect(transport)
  return serve({ '/mcp': (request, response) => void transport.handleRequest(request, response) })
}

/** HTTP+SSE that reads the messages of all its clients as if they were those of the last one. */
export async function lastStream() {
  let last: SSEServerTransport | undefined
  return serve({
    '/sse': (_request, response) => {
      last = new SSEServerTransport('/messages', response)
      void echoServer().connect(last)
    },
    '/messages': (request, response) => void last?.handlePostMessage(request, response),
  })
}

/** HTTP+SSE that turns everybody away while one stream is open. */
export async function oneStream() {
  const server = echoServer()
  let transport: SSEServerTransport | undefined
  const refuse = (response: ServerResponse) => (error: unknown) => void response.writeHead(500).end(String(error))
  return serve({
    '/sse': (_request, response) => {
      const opened = new SSEServerTransport('/messages', response)
      server.connect(opened).then(() => (transport = opened), refuse(response))
    },
    '/messages': (request, response) => void transport?.handlePostMessage(request, response),
  })
}
