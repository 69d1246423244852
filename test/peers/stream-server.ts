/**
 * A tiny MCP server with streams that say nothing: GET /mcp in a Streamable HTTP session, and GET /sse (HTTP+SSE), whose
 * requests are answered on the stream. Raw node:http, so that thousands of streams cost it little.
 *
 * `PORT=0 node test/peers/stream-server.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/mcp"}`.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

const streams = new Map<string, ServerResponse>()
const sessions = new Set<string>()

function openStream(res: ServerResponse, first: string): void {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  res.flushHeaders()
  if (first !== '') res.write(first)
}

function openSse(res: ServerResponse): void {
  const id = randomUUID()
  streams.set(id, res)
  res.once('close', () => streams.delete(id))
  openStream(res, `event: endpoint\ndata: /messages?id=${id}\n\n`)
}

interface Asked {
  readonly id?: unknown
  readonly method?: string
}

/** The answer to a request as JSON text; undefined for what asks nothing. */
function answerTo({ id, method }: Asked): string | undefined {
  if (id === undefined || method === undefined) return undefined
  const serverInfo = { name: 'stream-server', version: '1.0.0' }
  const results: Readonly<Record<string, object>> = {
    initialize: { protocolVersion: '2025-11-25', capabilities: {}, serverInfo },
    ping: {},
  }
  const result = results[method]
  const error = { code: -32_601, message: `no such method: ${method}` }
  return JSON.stringify({ jsonrpc: '2.0', id, ...(result ? { result } : { error }) })
}

function handlePost(req: IncomingMessage, res: ServerResponse, body: Buffer): void {
  const asked = JSON.parse(body.toString()) as Asked
  const answer = answerTo(asked)
  const stream = streams.get(new URL(req.url ?? '/', 'http://local').searchParams.get('id') ?? '')
  if (stream && answer !== undefined) stream.write(`event: message\ndata: ${answer}\n\n`)
  if (stream || answer === undefined) return void res.writeHead(202).end()
  const id = randomUUID()
  if (asked.method === 'initialize') sessions.add(id)
  const isKnown = asked.method === 'initialize' || sessions.has(String(req.headers['mcp-session-id']))
  const headers = asked.method === 'initialize' ? { 'mcp-session-id': id } : {}
  res.writeHead(isKnown ? 200 : 400, { 'content-type': 'application/json', ...headers }).end(answer)
}

const http = createServer((req, res) => {
  const session = String(req.headers['mcp-session-id'])
  if (req.method === 'GET') return req.url === '/sse' ? openSse(res) : openStream(res, '')
  if (req.method === 'DELETE') return void res.writeHead(sessions.delete(session) ? 200 : 404).end()
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => chunks.push(chunk))
  req.on('end', () => handlePost(req, res, Buffer.concat(chunks)))
})

http.keepAliveTimeout = 60_000
http.listen({ port: Number(process.env.PORT ?? 0), host: '127.0.0.1', backlog: 4096 }, () => {
  const address = http.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/mcp` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
