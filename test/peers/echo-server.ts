/**
 * The benchmark's tiny MCP server: raw node:http, keep-alive, one process. It answers `tools/call` with JSON of exactly
 * `x-answer-bytes` bytes and the fixed id 1, without parsing anything, so that it costs as little as a server can.
 * Everything else gets a small proper answer, so that heartbeats find it alive.
 *
 * `PORT=0 node test/peers/echo-server.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/mcp"}`.
 */
import { createServer, type ServerResponse } from 'node:http'

const largestAnswer = 16 * 1024 * 1024
const prepared = new Map<number, Buffer>()

/** One complete JSON-RPC answer of that many bytes; the same buffer every time. */
function answerOf(bytes: number): Buffer {
  const known = prepared.get(bytes)
  if (known) return known
  const shell = (text: string) =>
    `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"${text}"}],"isError":false}}`
  const answer = Buffer.from(shell('x'.repeat(Math.max(0, bytes - shell('').length))))
  if (prepared.size < 16) prepared.set(bytes, answer)
  return answer
}

const serverInfo = { name: 'echo-server', version: '1.0.0' }

function otherAnswer(body: Buffer): { readonly status: number; readonly body: string } {
  const { id, method, params } = JSON.parse(body.toString()) as {
    id?: unknown
    method?: string
    params?: { protocolVersion?: unknown }
  }
  if (id === undefined) return { status: 202, body: '' }
  const results: Readonly<Record<string, object>> = {
    'server/discover': {
      resultType: 'complete',
      supportedVersions: ['2026-07-28'],
      capabilities: { tools: {} },
      ttlMs: 0,
      cacheScope: 'private',
      _meta: { 'io.modelcontextprotocol/serverInfo': serverInfo },
    },
    initialize: { protocolVersion: params?.protocolVersion, capabilities: { tools: {} }, serverInfo },
    ping: {},
    'tools/list': { resultType: 'complete', tools: [{ name: 'echo', inputSchema: { type: 'object' } }] },
  }
  const result = method === undefined ? undefined : results[method]
  if (result) return { status: 200, body: JSON.stringify({ jsonrpc: '2.0', id, result }) }
  const error = { code: -32_601, message: `no such method: ${String(method)}` }
  return { status: 404, body: JSON.stringify({ jsonrpc: '2.0', id, error }) }
}

function send(res: ServerResponse, status: number, body: Buffer | string): void {
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  res.end(body)
}

const http = createServer((req, res) => {
  if (req.method !== 'POST') return send(res, 405, '')
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => chunks.push(chunk))
  req.on('end', () => {
    const [only] = chunks
    const body = chunks.length === 1 && only ? only : Buffer.concat(chunks)
    if (body.includes('"tools/call"')) {
      return send(res, 200, answerOf(Math.min(Number(req.headers['x-answer-bytes'] ?? 100), largestAnswer)))
    }
    try {
      const { status, body: text } = otherAnswer(body)
      send(res, status, text)
    } catch {
      send(res, 400, '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}')
    }
  })
})

http.keepAliveTimeout = 60_000
http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const address = http.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/mcp` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
