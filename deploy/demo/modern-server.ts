/** A small MCP server of revision 2026-07-28: no sessions, no `initialize`, every request stands alone. */
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import { localhostHostValidation, localhostOriginValidation } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer, type CallToolResult } from '@modelcontextprotocol/server'
import { z } from 'zod'

const text = (value: string): CallToolResult => ({ content: [{ type: 'text', text: value }] })

function demoServer(): McpServer {
  const server = new McpServer({ name: 'mcp-vitals-demo-modern', version: '1.0.0' })

  server.registerTool(
    'echo',
    { description: 'Says what you said.', inputSchema: z.object({ message: z.string() }) },
    ({ message }) => text(message),
  )

  server.registerTool(
    'add',
    { description: 'Adds two numbers.', inputSchema: z.object({ a: z.number(), b: z.number() }) },
    ({ a, b }) => text(String(a + b)),
  )

  server.registerTool(
    'slow',
    {
      description: 'Works for a while and reports progress; shows that busy is not down.',
      inputSchema: z.object({
        seconds: z.number().min(0).max(120).default(10),
        steps: z.int().min(1).max(100).default(10),
      }),
    },
    async ({ seconds, steps }, ctx) => {
      const { _meta, notify, signal } = ctx.mcpReq
      for (let step = 1; step <= steps; step++) {
        await sleep((seconds * 1000) / steps, undefined, { signal })
        if (_meta?.progressToken === undefined) continue
        const params = { progressToken: _meta.progressToken, progress: step, total: steps }
        await notify({ method: 'notifications/progress', params })
      }
      return text(`worked for ${seconds} s in ${steps} steps`)
    },
  )

  server.registerTool('fail', { description: 'Always fails, as a tool does: isError, not a protocol error.' }, () => ({
    ...text('this tool always fails'),
    isError: true,
  }))

  return server
}

// A new server object per request is how the modern era works; `reject` keeps this one free of the legacy era.
const mcp = createMcpHandler(demoServer, { legacy: 'reject' })
const handle = getRequestListener((request) => mcp.fetch(request), { overrideGlobalObjects: false })
const hostIsLocal = localhostHostValidation()
const originIsLocal = localhostOriginValidation()

const http = createServer((req, res) => {
  if (!hostIsLocal(req, res) || !originIsLocal(req, res)) return
  if (req.url !== '/mcp') {
    res.writeHead(404).end()
    return
  }
  void handle(req, res)
})

http.listen(Number(process.env.PORT ?? 7103), '127.0.0.1', () => {
  const address = http.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/mcp` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
