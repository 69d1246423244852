/** A tiny MCP server over HTTP in the test's own process, whose answers the caller scripts. */
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface TinyRequest {
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly method: string | undefined
  readonly params: Readonly<Record<string, unknown>>
}

export interface TinyServer {
  readonly url: string
  /** How many requests of this method came in. */
  count(method: string): number
  /** The last request of this method. */
  last(method: string): TinyRequest | undefined
  close(): Promise<void>
}

/**
 * Speaks revision 2026-07-28 and lists the given tools. A `tools/call` whose arguments hold `code` gets that JSON-RPC
 * error, one whose arguments hold `fail` a tool error; an unknown method gets −32601.
 */
export async function tinyServer(tools: readonly string[]): Promise<TinyServer> {
  const counts = new Map<string, number>()
  const latest = new Map<string, TinyRequest>()
  const results: Readonly<Record<string, object>> = {
    'server/discover': {
      resultType: 'complete',
      supportedVersions: ['2026-07-28'],
      capabilities: { tools: {} },
      ttlMs: 0,
      cacheScope: 'private',
    },
    ping: {},
    'tools/list': { resultType: 'complete', tools: tools.map((name) => ({ name, inputSchema: { type: 'object' } })) },
  }
  const answer = (method: string | undefined, params: TinyRequest['params']) => {
    const { code, fail } = (params['arguments'] ?? {}) as { code?: number; fail?: boolean }
    if (code !== undefined) return { error: { code, message: `error ${code}` } }
    if (method === 'tools/call') return { result: { content: [], ...(fail && { isError: true }) } }
    const result = results[method ?? '']
    return result ? { result } : { error: { code: -32_601, message: 'no such method' } }
  }
  const http = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      if (body === '') return response.writeHead(405).end()
      const { id, method, params = {} } = JSON.parse(body) as { id?: unknown; method?: string; params?: object }
      const read: TinyRequest = { headers: request.headers, body, method, params: { ...params } }
      counts.set(method ?? '', (counts.get(method ?? '') ?? 0) + 1)
      latest.set(method ?? '', read)
      if (id === undefined) return response.writeHead(202).end()
      response.writeHead(200, { 'content-type': 'application/json' })
      return response.end(JSON.stringify({ jsonrpc: '2.0', id, ...answer(method, read.params) }))
    })
  })
  http.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`,
    count: (method) => counts.get(method) ?? 0,
    last: (method) => latest.get(method),
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve())
        http.closeAllConnections()
      }),
  }
}
