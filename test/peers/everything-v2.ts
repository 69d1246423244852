/**
 * An MCP server on SDK v2 that passes the official conformance suite in both eras at one endpoint: legacy requests get
 * sessions, a GET stream and resumption; modern ones get a fresh server object each.
 *
 * `PORT=0 node test/peers/everything-v2.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/mcp"}`.
 */
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { localhostHostValidation, localhostOriginValidation } from '@modelcontextprotocol/node'
import {
  createMcpHandler,
  isInitializeRequest,
  isLegacyRequest,
  WebStandardStreamableHTTPServerTransport,
  type McpHttpHandler,
} from '@modelcontextprotocol/server'
import { memoryEventStore } from './everything-legacy.ts'
import type { ChangeSwitches } from './everything-modern.ts'
import { legacyEverything, modernEverything, registerExtraPrompt, registerExtraTool } from './everything-server.ts'

const sessionsKept = 500

/** Serves every modern request with a new server object; what the lists hold outlives the request. */
function modernHandler(): McpHttpHandler {
  let extraTool = false
  let extraPrompt = false
  const changes: ChangeSwitches = {
    toggleTool: () => {
      extraTool = !extraTool
      handler.notify.toolsChanged()
    },
    togglePrompt: () => {
      extraPrompt = !extraPrompt
      handler.notify.promptsChanged()
    },
  }
  const handler = createMcpHandler(
    () => {
      const server = modernEverything(changes)
      if (extraTool) registerExtraTool(server)
      if (extraPrompt) registerExtraPrompt(server)
      return server
    },
    { legacy: 'reject' },
  )
  return handler
}

/** Serves legacy requests: one server object per session. */
function legacyHandler(): (request: Request) => Promise<Response> {
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>()
  const open = async () => {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: memoryEventStore(),
      retryInterval: 500,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    })
    await legacyEverything().connect(transport)
    const [oldest] = sessions
    if (oldest && sessions.size >= sessionsKept) {
      sessions.delete(oldest[0])
      await oldest[1].close()
    }
    return transport
  }
  return async (request) => {
    const id = request.headers.get('mcp-session-id')
    const body = request.method === 'POST' ? await jsonBody(request) : undefined
    if (id === null && !isInitializeRequest(body)) return refusal(400, 'Bad Request: Mcp-Session-Id header is required')
    const transport = id === null ? await open() : sessions.get(id)
    if (!transport) return refusal(404, 'Session not found')
    return transport.handleRequest(request, body === undefined ? {} : { parsedBody: body })
  }
}

/** What the body holds, or undefined when it is not JSON; the transport then reads it again and says so. */
async function jsonBody(request: Request): Promise<unknown> {
  try {
    return await request.clone().json()
  } catch {
    return undefined // Not ours to answer: the transport replies -32700.
  }
}

function refusal(status: number, message: string): Response {
  return Response.json({ jsonrpc: '2.0', error: { code: -32_000, message }, id: null }, { status })
}

const modern = modernHandler()
const legacy = legacyHandler()
const hostIsLocal = localhostHostValidation()
const originIsLocal = localhostOriginValidation()
const serve = getRequestListener(
  async (request) => ((await isLegacyRequest(request)) ? legacy(request) : modern.fetch(request)),
  { overrideGlobalObjects: false },
)

const http = createServer((req, res) => {
  if (!hostIsLocal(req, res) || !originIsLocal(req, res)) return
  if (req.url !== '/mcp') {
    res.writeHead(404).end()
    return
  }
  void serve(req, res)
})

http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const address = http.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/mcp` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
