/**
 * What any proxy costs at the least: a node:http server that pipes every request into `http.request` over a keep-alive
 * agent, and the answer back. It looks at nothing. mcp-vitals is measured against this.
 *
 * `UPSTREAM=http://127.0.0.1:7101 PORT=0 node test/bench/bare-pipe.ts` prints `{"msg":"listening","url":…}`.
 */
import { Agent, createServer, request } from 'node:http'

const upstream = new URL(process.env.UPSTREAM ?? 'http://127.0.0.1:7101')
const agent = new Agent({ keepAlive: true })
/** Hop-by-hop headers (RFC 9110 §7.6.1) belong to one connection; node writes its own. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

function endToEnd(rawHeaders: readonly string[]): string[] {
  const kept: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (!hopByHop.has(name.toLowerCase())) kept.push(name, rawHeaders[i + 1] ?? '')
  }
  return kept
}

const server = createServer((req, res) => {
  const options = {
    host: upstream.hostname,
    port: upstream.port,
    method: req.method,
    path: req.url,
    headers: endToEnd(req.rawHeaders),
    agent,
  }
  const outgoing = request(options, (answer) => {
    res.writeHead(answer.statusCode ?? 502, endToEnd(answer.rawHeaders))
    // Without a length it may be a stream that says nothing for long: its head must not wait for the first byte.
    if (answer.headers['content-length'] === undefined) res.flushHeaders()
    answer.pipe(res)
  })
  outgoing.on('error', () => (res.headersSent ? res.destroy() : res.writeHead(502).end()))
  res.on('close', () => {
    if (!res.writableFinished) outgoing.destroy()
  })
  req.pipe(outgoing)
})

server.keepAliveTimeout = 60_000
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
