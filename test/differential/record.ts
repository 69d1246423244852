/**
 * Records what real servers say, for the corpus: `node test/differential/record.ts`, then prettier. Exchanges over
 * Streamable HTTP become `corpus/http/recorded-….json`, chunk by chunk as they came; whole sessions over stdio and
 * HTTP+SSE become `corpus/conversations/recorded-….json`, which happen again over every transport.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import { listeningUrl, startPeer, startProcess } from '../peers/spawn.ts'
import { RawClient, type RawMessage, headerOf, rawRequest } from '../support/raw-http.ts'
import { type Client, sseClient, stdioClient } from './clients.ts'
import { type Conversation, type HttpExchange, chunkOf, corpusFolder } from './corpus.ts'
import { idsAsked, itemsOf } from './messages.ts'

interface Params {
  readonly name?: string
  readonly _meta?: object
}

const call = (id: number | string, method: string, params: object = {}) =>
  JSON.stringify({ jsonrpc: '2.0', id, method, params })
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

const initialized = '{"jsonrpc":"2.0","method":"notifications/initialized"}'

/** What each legacy server is asked that is no tool, in this order. */
const legacyLists = [
  call(20, 'ping'),
  call(21, 'tools/list'),
  call(22, 'prompts/list'),
  call(23, 'resources/list'),
  call(24, 'resources/templates/list'),
  call(25, 'logging/setLevel', { level: 'debug' }),
  call(26, 'no/such'),
]

const everythingCalls = [
  call('echo', 'tools/call', { name: 'echo', arguments: { message: '\u00e9\ud83d\ude00\n\u2028' } }),
  call(31, 'tools/call', { name: 'get-structured-content', arguments: { location: 'Chicago' } }),
  call(32, 'tools/call', { name: 'get-annotated-message', arguments: { messageType: 'error', includeImage: false } }),
  call(33, 'tools/call', { name: 'get-resource-links', arguments: { count: 2 } }),
  call(34, 'tools/call', {
    name: 'trigger-long-running-operation',
    arguments: { duration: 0.2, steps: 3 },
    _meta: { progressToken: 'p' },
  }),
  call(35, 'tools/call', { name: 'no-such-tool', arguments: {} }),
]

const sdkCalls = [
  call(40, 'tools/call', { name: 'test_multiple_content_types' }),
  call(41, 'tools/call', { name: 'test_tool_with_logging' }),
  call('progress', 'tools/call', { name: 'test_tool_with_progress', _meta: { progressToken: 7 } }),
  call(43, 'tools/call', { name: 'test_sampling', arguments: { prompt: 'Hi' } }),
  call(44, 'tools/call', { name: 'test_elicitation', arguments: { message: 'Who?' } }),
  call(45, 'tools/call', { name: 'test_error_handling' }),
  call(46, 'prompts/get', { name: 'test_simple_prompt' }),
]

const modernCall = (id: number | string, method: string, { _meta, ...params }: Params = {}) =>
  call(id, method, { ...params, _meta: { ...meta, ..._meta } })

const modernCalls = [
  modernCall('d', 'server/discover'),
  modernCall(2, 'tools/list'),
  modernCall(3, 'tools/call', { name: 'test_multiple_content_types' }),
  modernCall(4, 'tools/call', { name: 'test_tool_with_progress', _meta: { progressToken: 'p' } }),
  modernCall(5, 'tools/call', { name: 'test_error_handling' }),
  modernCall(6, 'tools/call', { name: 'test_input_required_result_request_state' }),
  modernCall(7, 'tools/call', { name: 'no-such-tool' }),
  modernCall(8, 'prompts/list'),
  modernCall(9, 'resources/list'),
  modernCall(10, 'no/such'),
]

/** What this client answers when a server asks. */
const clientResults: Readonly<Record<string, object>> = {
  'roots/list': { roots: [{ uri: 'file:///tmp', name: 'tmp' }] },
  'sampling/createMessage': { role: 'assistant', content: { type: 'text', text: 'Hello' }, model: 'm' },
  'elicitation/create': { action: 'accept', content: { username: 'u', email: 'u@example.com' } },
}

interface Session {
  readonly name: string
  readonly peer: string
  readonly era: 'legacy' | 'modern'
  readonly client: Client
  readonly asks: readonly string[]
}

/** One request after the other, each when the one before is answered. */
async function recordSession({ name, peer, era, client, asks }: Session): Promise<void> {
  const says: Conversation['says'] = []
  let seen = 0
  const say = async (message: string) => {
    says.push({ client: era === 'modern' ? message.replace(claim, '$CLAIM') : message })
    await client.send([Buffer.from(message)])
  }
  const hear = async (ids: readonly string[]): Promise<void> => {
    const message = await client.until(() => client.heard()[seen])
    const framed = framesOf(client.bytes())[seen]
    const marked = (text: string) => (era === 'modern' ? withMarks(text, ids[0]) : text)
    says.push({ server: marked(message), ...(framed !== undefined && { framed: [marked(framed)] }) })
    seen += 1
    const [{ id, method } = {}] = itemsOf(message)
    const result = typeof method === 'string' && id !== undefined ? clientResults[method] : undefined
    if (result) await say(JSON.stringify({ jsonrpc: '2.0', id, result }))
    if (method !== undefined || !ids.includes(JSON.stringify(id))) await hear(ids)
  }
  for (const ask of asks) {
    // What follows the opening belongs to it already when the conversation happens again.
    if (ask === initialized) await client.send([Buffer.from(ask)])
    else {
      await say(ask)
      await hear(idsAsked(ask))
    }
  }
  await client.close()
  const conversation: Conversation = { about: `A session of ${peer}.`, recorded: peer, era, says }
  writeFileSync(join(corpusFolder, 'conversations', `recorded-${name}.json`), JSON.stringify(conversation))
}

const claim = JSON.stringify(meta).slice(1, -1)

/** Over HTTP+SSE, each event as it stood in the stream, but for the first, which says where to post. */
function framesOf(stream: string): string[] {
  const isStream = stream.startsWith('event: endpoint')
  const events = isStream ? stream.split(/(?<=\n\n)/).slice(1) : []
  return events.map((event) => Buffer.from(event, 'latin1').toString())
}

/** The id and the token of the request that is under way are those that the server got, when this happens again. */
function withMarks(text: string, id = ''): string {
  return text.replace(`"id":${id}`, '"id":$ID').replace(/"progressToken":("[^"]*"|\d+)/, '"progressToken":$TOKEN')
}

async function recordSessions(): Promise<void> {
  const [everything, sdk] = ['server-everything 2026.8.31', 'SDK v2 2.4.0']
  const capabilities = { roots: { listChanged: true }, sampling: {}, elicitation: {} }
  const params = { protocolVersion: '2025-11-25', capabilities, clientInfo }
  const opening = [call('open', 'initialize', params), initialized]
  const command = (file: string) => [process.execPath, file]
  const sse = await startEverything('sse')
  const sdkSse = await startPeer('test/peers/everything-v2-sse.ts')
  const over = (url: string) => sseClient(Number(new URL(url).port), '/sse')
  const sdkStdio = 'test/peers/everything-v2-stdio.ts'
  const legacy = { era: 'legacy' } as const
  const sessions: Session[] = [
    {
      ...legacy,
      name: 'stdio-everything',
      peer: `${everything} over stdio`,
      client: stdioClient([everythingStdio.command, ...everythingStdio.args]),
      asks: [...opening, ...legacyLists, ...everythingCalls],
    },
    {
      ...legacy,
      name: 'sse-everything',
      peer: `${everything} over HTTP+SSE`,
      client: await over(sse.ready),
      asks: [...opening, ...legacyLists, ...everythingCalls],
    },
    {
      ...legacy,
      name: 'stdio-sdk',
      peer: `${sdk} over stdio`,
      client: stdioClient(command(sdkStdio)),
      asks: [...opening, ...legacyLists, ...sdkCalls],
    },
    {
      ...legacy,
      name: 'sse-sdk',
      peer: `${sdk} over HTTP+SSE`,
      client: await over(sdkSse.ready),
      asks: [...opening, ...legacyLists, ...sdkCalls],
    },
    {
      name: 'stdio-modern',
      peer: `${sdk} over stdio`,
      era: 'modern',
      client: stdioClient(command(sdkStdio)),
      asks: modernCalls,
    },
  ]
  for (const session of sessions) await recordSession(session)
  await Promise.all([sse.stop(), sdkSse.stop()])
}

await recordLegacy()
await recordModern()
await recordSessions()
