/**
 * A legacy stdio server that has a fault while a file exists: `faulty-stdio.mjs waits FILE` reads nothing until the file
 * has gone, as a server does whose database is away; `faulty-stdio.mjs dies FILE` exits with code 1 when it has
 * answered `initialize` and lived on for a moment, so that others see it up.
 */
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [fault, file] = process.argv.slice(2)

function answer({ method, params }) {
  if (method === 'ping') return { result: {} }
  if (method === 'tools/list') return { result: { tools: [{ name: 'read', inputSchema: { type: 'object' } }] } }
  if (method !== 'initialize') return { error: { code: -32601, message: 'method not found' } }
  if (fault === 'dies' && existsSync(file)) setTimeout(() => process.exit(1), 1500)
  const { protocolVersion } = params
  return { result: { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'faulty', version: '1' } } }
}

function serve() {
  if (fault === 'waits' && existsSync(file)) return setTimeout(serve, 100)
  return createInterface({ input: process.stdin }).on('line', (line) => {
    const message = JSON.parse(line)
    if (message.id === undefined) return
    process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id: message.id, ...answer(message) })}\n`)
  })
}

serve()
