/** The stdio server that `mcp-vitals selftest` starts, made with the official SDK: one tool, which says what it is told. */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { z } from 'zod'

const server = new McpServer({ name: 'mcp-vitals-selftest', version: '1.0.0' })

server.registerTool(
  'echo',
  { description: 'Says what it is told.', inputSchema: { message: z.string() } },
  ({ message }) => ({ content: [{ type: 'text', text: message }] }),
)

await server.connect(new StdioServerTransport())
