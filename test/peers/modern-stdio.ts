/**
 * A stdio server on SDK v2 for both eras, or with the argument `modern` for 2026-07-28 alone. It remembers every line
 * that it was sent, so that a test can see what really arrived.
 */
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { McpServer, type CallToolResult } from '@modelcontextprotocol/server'
import { StdioServerTransport, serveStdio } from '@modelcontextprotocol/server/stdio'
import { z } from 'zod'

const text = (value: string): CallToolResult => ({ content: [{ type: 'text', text: value }] })

const linesKept = 500
const received: string[] = []
let rest = ''

function remember(chunk: Buffer): void {
  const lines = (rest + chunk.toString()).split('\n')
  rest = lines.pop() ?? ''
  received.push(...lines)
  received.splice(0, received.length - linesKept)
}

function fixtureServer(): McpServer {
  const server = new McpServer(
    { name: 'modern-stdio', version: '1.0.0' },
    { capabilities: { tools: { listChanged: true } } },
  )

  server.registerTool(
    'echo',
    {
      description: 'Says what you said, after a while.',
      inputSchema: z.object({ message: z.string(), ms: z.number().default(0) }),
    },
    async ({ message, ms }, { mcpReq }) => {
      await sleep(ms, undefined, { signal: mcpReq.signal })
      return text(message)
    },
  )

  server.registerTool(
    'slow',
    { description: 'Reports progress.', inputSchema: z.object({ seconds: z.number(), steps: z.int() }) },
    async ({ seconds, steps }, { mcpReq: { _meta, notify, signal } }) => {
      for (let step = 1; step <= steps; step++) {
        await sleep((seconds * 1000) / steps, undefined, { signal })
        if (_meta?.progressToken === undefined) continue
        const params = { progressToken: _meta.progressToken, progress: step, total: steps }
        await notify({ method: 'notifications/progress', params })
      }
      return text(`worked for ${seconds} s`)
    },
  )

  let extra: { remove(): void } | undefined
  server.registerTool('change', { description: 'Adds or removes a tool.' }, () => {
    if (extra) extra.remove()
    extra = extra ? undefined : server.registerTool('extra', { description: 'Comes and goes.' }, () => text('here'))
    return text('the tool list has changed')
  })

  server.registerTool('received', { description: 'Every line that this process was sent.' }, () =>
    text(JSON.stringify(received)),
  )

  return server
}

const input = new PassThrough()
process.stdin.on('data', remember).pipe(input)
serveStdio(fixtureServer, {
  legacy: process.argv[2] === 'modern' ? 'reject' : 'serve',
  transport: new StdioServerTransport(input),
})
