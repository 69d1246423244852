import { afterEach, describe, expect, it } from 'vitest'
import { type TestUpstream, startProxy } from '../proxy/fixture.ts'
import { wrapped } from '../support/wrapper.ts'
import { type Client, httpClient, sseClient, stdioClient } from './clients.ts'
import { type Conversation, bytesOf, conversations, messageKinds } from './corpus.ts'
import { isSameText } from './messages.ts'
import { type Said, type Server, type Transport, startServer } from './servers.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Way {
  readonly client: Transport
  readonly server: Transport
  /** Nothing of ours is in between. */
  readonly isDirect?: boolean
}

interface Ends {
  readonly client: Client
  readonly server: Server
}

async function open(way: Way, era: 'legacy' | 'modern'): Promise<Ends> {
  const server = await startServer(way.server)
  closers.push(() => server.close())
  const client = way.client === 'stdio' ? stdioClient(commandOf(way, server)) : await urlClient(way, server, era)
  closers.push(() => client.close())
  const ends = { client, server }
  if (era === 'legacy') await initialize(ends)
  return ends
}

/** What a client starts itself. */
function commandOf({ isDirect }: Way, server: Server): readonly string[] {
  const command = [process.execPath, ...server.args]
  return isDirect ? command : wrapped(command, ['--no-admin'])
}

async function urlClient(way: Way, server: Server, era: 'legacy' | 'modern'): Promise<Client> {
  const target = way.isDirect ? new URL(server.url) : await throughProxy(way, server)
  const port = Number(target.port)
  return way.client === 'sse' ? sseClient(port, target.pathname) : httpClient(port, target.pathname, era)
}

async function throughProxy({ client, server: transport }: Way, { url, args }: Server): Promise<URL> {
  const [script = '', ...rest] = args
  const upstream: TestUpstream =
    transport === 'stdio'
      ? { script: `../../../${script.slice(script.indexOf('test/'))}`, args: rest, resident: 'when_idle' }
      : { url, transport }
  const proxy = await startProxy({ upstreams: { u: upstream } })
  closers.push(() => proxy.close())
  return new URL(`${proxy.url}/u/${client === 'sse' ? 'sse' : 'mcp'}`)
}

async function initialize(ends: Ends): Promise<void> {
  const params = '{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"c","version":"1"}}'
  const result = '{"protocolVersion":"2025-03-26","capabilities":{},"serverInfo":{"name":"s","version":"1"}}'
  await clientSays(ends, Buffer.from(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":${params}}`))
  await serverSays(ends, { message: Buffer.from(`{"jsonrpc":"2.0","id":"init","result":${result}}`) })
  await ends.client.opened()
  await clientSays(ends, Buffer.from('{"jsonrpc":"2.0","method":"notifications/initialized"}'))
}

/** What was heard of what one side said. */
async function clientSays({ client, server }: Ends, message: Buffer, count = 1): Promise<readonly string[]> {
  const before = server.heard.length
  await Promise.all([client.send(message), server.until(() => server.heard.length >= before + count)])
  return server.heard.slice(before)
}

async function serverSays({ client, server }: Ends, said: Said, count = 1): Promise<readonly string[]> {
  const before = client.heard().length
  await server.say(said)
  await client.until(() => client.heard().length >= before + count)
  return client.heard().slice(before)
}

/** The raw text of a request's id and of its progress token. */
function marksOf(text: string) {
  const rawOf = (key: string) => new RegExp(`"${key}"\\s*:\\s*("(?:[^"\\\\]|\\\\.)*"|[^,}\\s]+)`).exec(text)?.[1] ?? ''
  return { id: rawOf('id'), token: rawOf('progressToken') }
}

type Marks = ReturnType<typeof marksOf>

function filled(text: string, { id, token }: Marks): string {
  return text.replaceAll('$ID', () => id).replaceAll('$TOKEN', () => token)
}

/** A modern request as its client wrote it: in front of a bridge its id and progress token became ours. */
function restored(text: string, { id, token }: Marks): string {
  return text
    .replace(/("id"\s*:\s*)"vitals\+\d+"/, (_all, key: string) => key + id)
    .replace(/("progressToken"\s*:\s*)"vitals\+\d+"/, (_all, key: string) => key + token)
}

/** The messages of a batch come in any order. */
function expectSame(unsorted: readonly string[], heard: readonly string[], what: string): void {
  const sorted = (texts: readonly string[]) => texts.map((text) => text.trim()).toSorted()
  const sent = sorted(unsorted)
  const got = sorted(heard)
  const missing = sent.filter((text, index) => !isSameText(text, got[index] ?? ''))
  expect({ what, missing: missing.map(cut), got: missing.length > 0 ? got.map(cut) : [] }).toEqual({
    what,
    missing: [],
    got: [],
  })
}

function cut(text: string): string {
  return text.length > 500 ? `${text.slice(0, 500)}…` : text
}

/** Lets the conversation happen; every message must come out as it went in, and nothing else may. */
async function converse(ends: Ends, { era, says }: Conversation, isBridge: boolean): Promise<void> {
  let own: Marks = { id: '', token: '' }
  let theirs = own
  for (const say of says) {
    const isClients = 'client' in say
    const message = bytesOf(isClients ? say.client : say.server)
    const text = message.toString()
    const expected = isBridge && say.items ? say.items : [isClients || era === 'legacy' ? text : filled(text, own)]
    if (isClients) {
      const heard = await clientSays(ends, message, expected.length)
      own = marksOf(text)
      theirs = marksOf(heard[0] ?? '')
      expectSame(expected, era === 'modern' ? heard.map((one) => restored(one, own)) : heard, 'client to server')
    } else {
      const sent = era === 'modern' ? Buffer.from(filled(text, theirs)) : message
      const heard = await serverSays(ends, { message: sent, framed: say.framed?.map(bytesOf) }, expected.length)
      expectSame(expected, heard, 'server to client')
    }
  }
}

const corpus = conversations()
const of = (era: Conversation['era']) => corpus.filter(([, conversation]) => conversation.era === era)
const titled = (ways: readonly Way[]) => ways.map((way) => [`${way.client} → ${way.server}`, way] as const)

/** Add `{ client: 'stdio', server: 'http' }` here, and what starts it to `commandOf`, for wrappers of a URL. */
const legacyWays = titled([
  { client: 'http', server: 'http' },
  { client: 'sse', server: 'sse' },
  { client: 'http', server: 'stdio' },
  { client: 'http', server: 'sse' },
  { client: 'sse', server: 'stdio' },
  { client: 'sse', server: 'http' },
])
const modernWays = titled([
  { client: 'http', server: 'http' },
  { client: 'http', server: 'stdio' },
])
const wrapperWays = titled([{ client: 'stdio', server: 'stdio' }])

describe('the corpus', () => {
  it('shows every kind of message in every era that has it', () => {
    const kinds = (era: Conversation['era']) => new Set(of(era).flatMap(([, { kinds }]) => kinds))
    const onlyModern = ['subscriptions/listen', 'multi-round-trip']
    const onlyLegacy = ['server request', 'batch', 'cancellation']
    expect(messageKinds.filter((kind) => !kinds('legacy').has(kind))).toEqual(onlyModern)
    expect(messageKinds.filter((kind) => !kinds('modern').has(kind)).toSorted()).toEqual(onlyLegacy.toSorted())
  })
})

describe.each(legacyWays)('%s, legacy: every message arrives as it was said', (_title, way) => {
  it.each(of('legacy'))('%s', async (_name, conversation) => {
    const ends = await open(way, 'legacy')
    await converse(ends, conversation, way.client !== way.server)
    if (way.client !== way.server) return
    const direct = await open({ ...way, isDirect: true }, 'legacy')
    await converse(direct, conversation, false)
    expect(ends.client.bytes() === direct.client.bytes()).toBe(true)
    expect(ends.server.heard).toEqual(direct.server.heard)
  })
})

describe.each(modernWays)('%s, modern: every message arrives as it was said', (_title, way) => {
  it.each(of('modern'))('%s', async (_name, conversation) => {
    await converse(await open(way, 'modern'), conversation, way.client !== way.server)
  })
})

describe.each(wrapperWays)('%s: every message arrives as it was said, byte for byte', (_title, way) => {
  it.each(['legacy', 'modern'] as const)('%s', async (era) => {
    const through = await open(way, era)
    const direct = await open({ ...way, isDirect: true }, era)
    for (const [, conversation] of of(era)) {
      await converse(through, conversation, false)
      await converse(direct, conversation, false)
    }
    expect(through.client.bytes() === direct.client.bytes()).toBe(true)
    expect(through.server.heard).toEqual(direct.server.heard)
  })
})
