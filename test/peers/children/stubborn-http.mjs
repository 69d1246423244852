/**
 * A legacy server over Streamable HTTP on PORT of loopback. After SIGUSR2 it keeps every request without an answer.
 * SIGTERM brings it round: it answers them all, goes on for two seconds, and ends. After SIGHUP it listens no more, and
 * lives on.
 */
import { createServer } from 'node:http'

let kept

function resultOf({ method, params = {} }) {
  if (method === 'tools/list') return { tools: [] }
  if (method !== 'initialize') return {}
  const { protocolVersion } = params
  return { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'stubborn', version: '1' } }
}

function answer(message, response) {
  if (message.id === undefined) return response.writeHead(202).end()
  const { id, method } = message
  const outcome =
    method === 'server/discover'
      ? { error: { code: -32601, message: 'no such method' } }
      : { result: resultOf(message) }
  return response
    .writeHead(200, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id, ...outcome }))
}

const server = createServer((request, response) => {
  if (request.method !== 'POST') return response.writeHead(405).end()
  let body = ''
  request.on('data', (chunk) => (body += chunk))
  request.on('end', () => {
    const reply = () => answer(JSON.parse(body), response)
    if (kept) kept.push(reply)
    else reply()
  })
})
server.listen(Number(process.env.PORT), '127.0.0.1')

process.on('SIGUSR2', () => (kept ??= []))
process.on('SIGHUP', () => {
  server.close()
  server.closeAllConnections()
  setInterval(() => process.stderr.write('nobody comes to me\n'), 1000)
})
process.on('SIGTERM', () => {
  for (const reply of kept ?? []) reply()
  kept = undefined
  setTimeout(() => process.exit(0), 2000)
})
