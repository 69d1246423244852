/** A server of both eras at one Streamable HTTP endpoint: legacy requests get sessions, modern ones a server each. */
import { randomUUID } from 'node:crypto'
import { createServer, type RequestListener } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { localhostHostValidation, localhostOriginValidation } from '@modelcontextprotocol/node'
import {
  isInitializeRequest,
  isLegacyRequest,
  WebStandardStreamableHTTPServerTransport,
  type McpHttpHandler,
  type McpServer,
} from '@modelcontextprotocol/server'
import { memoryEventStore } from './event-store.ts'

const sessionsKept = 500

export interface HttpServing {
  /** Makes the server object of one legacy session. */
  readonly legacy: () => McpServer
  readonly modern: McpHttpHandler
}

/** Serves `/mcp` and says where: `{"msg":"listening","url":"http://127.0.0.1:PORT/mcp"}`. */
export function serveHttp({ legacy, modern }: HttpServing): void {
  const serveLegacy = legacyHandler(legacy)
  const hostIsLocal = localhostHostValidation()
  const originIsLocal = localhostOriginValidation()
  const serve = getRequestListener(
    async (request) => ((await isLegacyRequest(request)) ? serveLegacy(request) : modern.fetch(request)),
    { overrideGlobalObjects: false },
  )
  listen('/mcp', (req, res) => {
    if (!hostIsLocal(req, res) || !originIsLocal(req, res)) return
    if (req.url === '/mcp') void serve(req, res)
    else res.writeHead(404).end()
  })
}

/**
 * Listens on `PORT` of loopback, announces the URL with this path, and ends on SIGTERM and SIGINT. An idle connection is
 * closed after `KEEP_ALIVE_MS`, if that is set; 0 leaves it open.
 */
export function listen(path: string, onRequest: RequestListener): void {
  const http = createServer(onRequest)
  const { KEEP_ALIVE_MS } = process.env
  if (KEEP_ALIVE_MS !== undefined) http.keepAliveTimeout = Number(KEEP_ALIVE_MS)
  http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
    const address = http.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}${path}` }))
  })
  process.once('SIGTERM', () => process.exit(0))
  process.once('SIGINT', () => process.exit(0))
}

function legacyHandler(serverOf: () => McpServer): (request: Request) => Promise<Response> {
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>()
  const open = async () => {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: memoryEventStore(),
      retryInterval: 500,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    })
    await serverOf().connect(transport)
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
