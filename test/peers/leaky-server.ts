/**
 * A stdio MCP server that tells everybody everything: its arguments and environment on stderr and in its errors.
 * `LEAKY_MODE` is `crash` to end at once, `refuse` to answer `initialize` with an error, else it serves.
 */
import { createInterface } from 'node:readline'

const { LEAKY_MODE: mode, LEAKY_TOKEN: token } = process.env
const known = `${process.argv.slice(2).join(' ')} LEAKY_TOKEN=${token ?? ''}`
process.stderr.write(`started with ${known}\n`)
if (mode === 'crash') {
  process.stderr.write(`fatal: cannot log in with ${known}\n`)
  process.exit(1)
}

const answerTo = (method: string, params: { readonly name?: string; readonly arguments?: unknown } = {}): object => {
  switch (method) {
    case 'initialize':
      if (mode === 'refuse') return { error: { code: -32_000, message: `refused with ${known}` } }
      return {
        result: {
          protocolVersion: '2025-11-25',
          capabilities: { tools: {} },
          serverInfo: { name: 'leaky', version: '1.0.0' },
        },
      }
    case 'tools/list':
      return { result: { tools: [{ name: 'quote', inputSchema: { type: 'object' } }] } }
    case 'tools/call':
      if (params.name === 'die') {
        process.stderr.write(`fatal: error with ${known}\n`)
        process.exit(3)
      }
      if (params.name === 'fail') return { error: { code: -32_603, message: `failed with ${known}` } }
      return {
        result: { content: [{ type: 'text', text: JSON.stringify(params) }], isError: params.name === 'wrong' },
      }
    default:
      return { error: { code: -32_601, message: `no such method: ${method}` } }
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line) as { id?: unknown; method: string; params?: object }
  if (id !== undefined) process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, ...answerTo(method, params) })}\n`)
})
