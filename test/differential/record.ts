/**
 * Records exchanges with real servers for the corpus, chunk by chunk as they came: `node test/differential/record.ts`.
 * Each becomes a file `corpus/http/recorded-….json`; run prettier afterwards.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startEverything } from '../peers/everything.ts'
import { listeningUrl, startProcess } from '../peers/spawn.ts'
import { RawClient, type RawMessage, headerOf, rawRequest } from '../support/raw-http.ts'
import { type HttpExchange, chunkOf, corpusFolder } from './corpus.ts'

const call = (id: number, method: string, params: object = {}) => JSON.stringify({ jsonrpc: '2.0', id, method, params })
const clientInfo = { name: 'recorder', version: '1' }
const initialize = call(1, 'initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo })

/** What a legacy client says, by the name of the file. */
const legacy: Readonly<Record<string, string>> = {
  initialized: '{"jsonrpc":"2.0","method":"notifications/initialized"}',
  'tools-list': call(2, 'tools/list'),
  'tools-call': call(3, 'tools/call', { name: 'echo', arguments: { message: 'é😀' } }),
  'tool-error': call(4, 'tools/call', { name: 'no-such-tool', arguments: {} }),
  'unknown-method': call(5, 'no/such'),
  progress: call(6, 'tools/call', {
    name: 'trigger-long-running-operation',
    arguments: { duration: 0.2, steps: 2 },
    _meta: { progressToken: 'p' },
  }),
  ping: call(7, 'ping'),
  batch: `[${call(8, 'ping')},${call(9, 'prompts/list')}]`,
  'no-json': '{"jsonrpc"',
}

const meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': clientInfo,
  'io.modelcontextprotocol/clientCapabilities': {},
}

/** What a modern client says: the method and its parameters. */
const modern: Readonly<Record<string, readonly [method: string, params: { readonly name?: string }]>> = {
  discover: ['server/discover', {}],
  'tools-list': ['tools/list', {}],
  'tools-call': ['tools/call', { name: 'test_simple_text' }],
  'unknown-tool': ['tools/call', { name: 'no-such-tool' }],
  'unknown-method': ['no/such', {}],
}

const json = ['Content-Type: application/json', 'Accept: application/json, text/event-stream']

async function record(
  name: string,
  peer: string,
  url: string,
  headers: readonly string[],
  body: string,
): Promise<RawMessage> {
  const { port, pathname } = new URL(url)
  const lines = headers.flatMap((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)])
  const client = new RawClient(Number(port))
  client.send(rawRequest({ path: pathname, headers: lines, body }))
  const response = await client.response()
  client.close()
  const length = headerOf(response, 'content-length')
  const isOwn = (part: string) => /^(?:content-length|transfer-encoding|connection|keep-alive)$/i.test(part)
  const exchange: HttpExchange = {
    about: `${name} of ${peer}.`,
    recorded: peer,
    request: { method: 'POST', headers: [...headers], framing: 'length', chunks: [body] },
    response: {
      status: response.startLine.replace('HTTP/1.1 ', ''),
      headers: response.rawHeaders.flatMap((part, index, all) =>
        index % 2 === 0 && !isOwn(part) ? [`${part}: ${all[index + 1] ?? ''}`] : [],
      ),
      framing: length === undefined ? 'chunked' : 'length',
      chunks: response.body.map(chunkOf),
    },
  }
  writeFileSync(join(corpusFolder, 'http', `recorded-${name}.json`), JSON.stringify(exchange))
  return response
}

async function recordLegacy(): Promise<void> {
  const peer = 'server-everything 2026.8.31'
  const server = await startEverything('streamableHttp')
  const opened = await record('legacy-initialize', peer, server.ready, json, initialize)
  const session = [`Mcp-Session-Id: ${headerOf(opened, 'mcp-session-id') ?? ''}`, 'MCP-Protocol-Version: 2025-11-25']
  for (const [name, body] of Object.entries(legacy)) {
    await record(`legacy-${name}`, peer, server.ready, [...json, ...session], body)
  }
  await server.stop()
}

async function recordModern(): Promise<void> {
  const peer = 'SDK v2 2.4.0'
  const server = await startProcess({ args: ['test/peers/everything-v2.ts'], env: { PORT: '0' }, ready: listeningUrl })
  for (const [id, [name, [method, params]]] of Object.entries(modern).entries()) {
    const mirrored = ['MCP-Protocol-Version: 2026-07-28', `Mcp-Method: ${method}`]
    if (params.name !== undefined) mirrored.push(`Mcp-Name: ${params.name}`)
    const body = call(id, method, { ...params, _meta: meta })
    await record(`modern-${name}`, peer, server.ready, [...json, ...mirrored], body)
  }
  await record('modern-initialize', peer, server.ready, json, initialize)
  await server.stop()
}

await recordLegacy()
await recordModern()
