/**
 * The benchmark's tiny MCP server: raw node:http, keep-alive, one process. A `tools/call` with the header
 * `x-answer-bytes` is answered with JSON of exactly that many bytes and the fixed id 1, without parsing anything, so that
 * it costs as little as a server can; a request with `x-hold-open` gets an event stream on which nothing ever comes.
 * Everything else gets a proper answer.
 *
 * `PORT=0 node test/peers/echo-server.ts` prints `{"msg":"listening","url":"http://127.0.0.1:PORT/mcp"}`.
 */
import { createServer, type ServerResponse } from 'node:http'
import { answerTo, echoAnswer } from './echo-answers.ts'

const prepared = new Map<number, Buffer>()

/** The same buffer every time. */
function preparedAnswer(bytes: number): Buffer {
  const known = prepared.get(bytes)
  if (known) return known
  const answer = Buffer.from(echoAnswer('1', bytes))
  if (prepared.size < 16) prepared.set(bytes, answer)
  return answer
}

function send(res: ServerResponse, status: number, body: Buffer | string): void {
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  res.end(body)
}

const http = createServer((req, res) => {
  if (req.headers['x-hold-open'] !== undefined) {
    res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    return
  }
  if (req.method !== 'POST') return send(res, 405, '')
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => chunks.push(chunk))
  req.on('end', () => {
    const [only] = chunks
    const body = chunks.length === 1 && only ? only : Buffer.concat(chunks)
    const wanted = req.headers['x-answer-bytes']
    if (wanted !== undefined && body.includes('"tools/call"')) return send(res, 200, preparedAnswer(Number(wanted)))
    try {
      const { status, body: text } = answerTo(body.toString())
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
