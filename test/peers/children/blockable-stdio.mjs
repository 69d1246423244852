/**
 * A legacy stdio server on one thread, whose tools keep it from answering anything else: `spin` and `wait` block it for
 * `seconds`, the one with its processor, the other without; `grow` keeps `megabytes`. SIGUSR2 makes it spin for ever,
 * SIGHUP exit with code 0, SIGWINCH close its stdin and live on.
 */
import { closeSync } from 'node:fs'
import { createInterface } from 'node:readline'

const kept = []

function spin(ms) {
  const end = performance.now() + ms
  while (performance.now() < end);
}

const tools = {
  spin: ({ seconds }) => spin(seconds * 1000),
  wait: ({ seconds }) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000),
  grow: ({ megabytes }) => kept.push(Buffer.alloc(megabytes * 1024 * 1024, 1)),
}

function answer({ method, params = {} }) {
  if (method === 'tools/call') {
    tools[params.name](params.arguments)
    return { content: [{ type: 'text', text: `${params.name} is done` }] }
  }
  if (method === 'tools/list') return { tools: Object.keys(tools).map((name) => ({ name, inputSchema: {} })) }
  if (method !== 'initialize') return {}
  const { protocolVersion } = params
  return { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'blockable', version: '1' } }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line)
  if (message.id === undefined) return
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id: message.id, result: answer(message) })}\n`)
})

process.on('SIGUSR2', () => spin(Infinity))
process.on('SIGHUP', () => process.exit(0))
process.on('SIGWINCH', () => {
  process.stdin.destroy() // It leaves the descriptor open.
  closeSync(0)
  setInterval(() => process.stderr.write('nobody speaks to me\n'), 1000)
})
