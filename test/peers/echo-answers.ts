/**
 * What the benchmark's tiny servers say: enough for any client or proxy to take them for an MCP server, and a tool
 * `echo` whose answers are as long as asked for.
 */

const shell = (id: string, text: string) =>
  `{"jsonrpc":"2.0","id":${id},"result":{"content":[{"type":"text","text":"${text}"}],"isError":false}}`
const shellBytes = shell('', '').length
const largestAnswer = 16 * 1024 * 1024
const fillings = new Map<number, string>()

/** One complete answer of `tools/call` of exactly that many bytes; `id` is JSON text. */
export function echoAnswer(id: string, bytes: number): string {
  const length = Math.max(0, Math.min(bytes, largestAnswer) - shellBytes - id.length)
  const known = fillings.get(length)
  if (known !== undefined) return shell(id, known)
  const filling = 'x'.repeat(length)
  if (fillings.size < 16) fillings.set(length, filling)
  return shell(id, filling)
}

const serverInfo = { name: 'echo-server', version: '1.0.0' }
const tools = [{ name: 'echo', inputSchema: { type: 'object', properties: { bytes: { type: 'number' } } } }]

/** What a server answers to one message, with the HTTP status that goes with it. */
export function answerTo(message: string): { readonly status: number; readonly body: string } {
  const { id, method, params } = JSON.parse(message) as {
    id?: unknown
    method?: string
    params?: { protocolVersion?: unknown; arguments?: { bytes?: unknown } }
  }
  if (id === undefined) return { status: 202, body: '' }
  if (method === 'tools/call') {
    return { status: 200, body: echoAnswer(JSON.stringify(id), Number(params?.arguments?.bytes ?? 100)) }
  }
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
    'tools/list': { resultType: 'complete', tools },
  }
  const result = method === undefined ? undefined : results[method]
  if (result) return { status: 200, body: JSON.stringify({ jsonrpc: '2.0', id, result }) }
  const error = { code: -32_601, message: `no such method: ${String(method)}` }
  return { status: 404, body: JSON.stringify({ jsonrpc: '2.0', id, error }) }
}
