import { afterEach, describe, expect, it } from 'vitest'
import { type TestUpstream, startProxy } from '../proxy/fixture.ts'
import { wrapped, wrappedUrl } from '../support/wrapper.ts'
import { type Client, httpClient, sseClient, stdioClient } from './clients.ts'
import { type Conversation, bytesOf, conversations } from './corpus.ts'
import { isSameText } from './messages.ts'
import { type Said, type Server, type Transport, startServer } from './servers.ts'
import { type Side, framingNames, framingsOf, kindNames, kindsOf, odditiesOf, oddityNames } from './shows.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

type Era = 'legacy' | 'modern'

interface Way {
  readonly era: Era
  readonly client: Transport
  readonly server: Transport
  /** Nothing of ours is in between. */
  readonly isDirect?: boolean
}

interface Ends {
  readonly client: Client
  readonly server: Server
}

async function open(way: Way): Promise<Ends> {
  const server = await startServer(way.server)
  closers.push(() => server.close())
  const client = way.client === 'stdio' ? stdioClient(commandOf(way, server)) : await urlClient(way, server)
  closers.push(() => client.close())
  const ends = { client, server }
  if (way.era === 'legacy') await initialize(ends)
  return ends
}

/** What a client starts itself. */
function commandOf({ isDirect, server: transport }: Way, { args, url }: Server): readonly string[] {
  const options = ['--no-admin']
  if (transport !== 'stdio') return wrappedUrl(url, options)
  const command = [process.execPath, ...args]
  return isDirect ? command : wrapped(command, options)
}

async function urlClient(way: Way, server: Server): Promise<Client> {
  const target = way.isDirect ? new URL(server.url) : await throughProxy(way, server)
  const port = Number(target.port)
  return way.client === 'sse' ? sseClient(port, target.pathname) : httpClient(port, target.pathname, way.era)
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
  await clientSays(ends, Buffer.from(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":${params}}`), 1)
  await serverSays(ends, { message: Buffer.from(`{"jsonrpc":"2.0","id":"init","result":${result}}`) }, 1)
  await ends.client.opened()
  await clientSays(ends, Buffer.from('{"jsonrpc":"2.0","method":"notifications/initialized"}'), 1)
}

/** What was heard of what one side said. */
async function clientSays({ client, server }: Ends, message: Buffer, count: number): Promise<readonly string[]> {
  const before = server.heard.length
  await Promise.all([client.send(message), server.until(() => server.heard.length >= before + count)])
  return server.heard.slice(before)
}

async function serverSays({ client, server }: Ends, said: Said, count: number): Promise<readonly string[]> {
  const before = client.heard().length
  await server.say(said)
  await client.until(() => {
    const heard = client.heard().slice(before)
    return heard.length >= count || heard.some(isBatch)
  })
  return client.heard().slice(before)
}

const isBatch = (text: string) => text.trimStart().startsWith('[')

/** The raw text of a request's id, the last if it has several, and of its progress token. */
function marksOf(text: string) {
  const rawOf = (key: string) => {
    const value = new RegExp(`"${key}"\\s*:\\s*("(?:[^"\\\\]|\\\\.)*"|[^,}\\s]+)`, 'g')
    return [...text.matchAll(value)].at(-1)?.[1] ?? ''
  }
  return { id: rawOf('id'), token: rawOf('progressToken') }
}

type Marks = ReturnType<typeof marksOf>

/** What the `_meta` of each request holds (MCP 2026-07-28, Lifecycle); anything in the legacy era. */
const claims: Readonly<Record<Era, string>> = {
  legacy: '"a/b":[]',
  modern: `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`,
}

function filled(said: Buffer, era: Era, { id, token }: Marks): Buffer {
  const bytes = (text: string) => Buffer.from(text).toString('latin1')
  const text = said.toString('latin1')
  const all = [
    ['$CLAIM', claims[era]],
    ['$ID', id],
    ['$TOKEN', token],
  ] as const
  return Buffer.from(
    all.reduce((sum, [mark, value]) => sum.replaceAll(mark, () => bytes(value)), text),
    'latin1',
  )
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
  const isSame = sent.length === got.length && sent.every((text, index) => isSameText(text, got[index] ?? ''))
  expect({ what, sent: isSame ? [] : sent.map(cut), got: isSame ? [] : got.map(cut) }).toEqual({
    what,
    sent: [],
    got: [],
  })
}

function cut(text: string): string {
  return text.length > 500 ? `${text.slice(0, 500)}…` : text
}

/** Lets the conversation happen; every message must come out as it went in, and nothing else may. */
async function converse(ends: Ends, way: Way, [name, { says }]: readonly [string, Conversation]): Promise<void> {
  const isBridge = way.client !== way.server
  let own: Marks = { id: '', token: '' }
  let theirs = own
  for (const [index, say] of says.entries()) {
    const where = `${name}, message ${index + 1}`
    if ('client' in say) {
      const message = filled(bytesOf(say.client), way.era, own)
      const expected = isBridge && say.items ? say.items : [message.toString()]
      const heard = await clientSays(ends, message, expected.length)
      own = marksOf(message.toString())
      theirs = marksOf(heard[0] ?? '')
      expectSame(expected, way.era === 'modern' ? heard.map((one) => restored(one, own)) : heard, where)
      continue
    }
    const raw = bytesOf(say.server)
    const message = filled(raw, way.era, theirs)
    const framed = say.framed?.map((chunk) => filled(bytesOf(chunk), way.era, theirs))
    const heard = await serverSays(ends, { message, framed }, isBridge ? (say.items?.length ?? 1) : 1)
    // The client of a batch gets one answer, or several.
    const items = isBridge && !heard.some(isBatch) ? say.items : undefined
    expectSame(items ?? [filled(raw, way.era, own).toString()], heard, where)
  }
}

const corpus = conversations()
const transports: readonly Transport[] = ['http', 'sse', 'stdio']
const eras: readonly Era[] = ['legacy', 'modern']
const ways: readonly Way[] = eras.flatMap((era) =>
  transports.flatMap((client) => transports.map((server) => ({ era, client, server }))),
)

/** What happens on a way. */
function of({ era, client, server }: Way) {
  return corpus.filter(([, conversation]) => {
    const isThere = conversation.ways?.includes(`${client} → ${server}`) ?? true
    return isThere && (conversation.era === era || conversation.era === 'both')
  })
}

const titled = (some: readonly Way[]) => some.map((way) => [`${way.era}, ${way.client} → ${way.server}`, way] as const)

/** Whether it takes a process, which then serves one conversation after the other. */
const hasProcess = ({ client, server }: Way) => client === 'stdio' || server === 'stdio'

/** What the protocol does not have there. */
function missingFrom({ era, client, server }: Way): readonly string[] {
  if (era === 'legacy') return ['subscriptions/listen', 'multi-round-trip']
  // Over Streamable HTTP the end of its connection, which is no message, cancels a request (2026-07-28, Cancellation).
  const isOverHttp = client === 'http' || server === 'http'
  return ['server request', 'batch', ...(isOverHttp ? ['cancellation'] : [])]
}

/** Everything that the corpus shows on a way, and by whom. */
function shownOn(way: Way): ReadonlySet<string> {
  const marks = { id: '1', token: '1' }
  const shown = of(way).flatMap(([, { says }]) =>
    says.flatMap((say) => {
      const side: Side = 'client' in say ? 'client' : 'server'
      const text = filled(bytesOf('client' in say ? say.client : say.server), way.era, marks).toString()
      const framed = 'framed' in say && say.framed ? framingsOf(say.framed.map(bytesOf)) : []
      return [...kindsOf(text, side), ...odditiesOf(text, side).map((oddity) => `${oddity} of the ${side}`), ...framed]
    }),
  )
  return new Set(shown)
}

describe('the corpus', () => {
  it.each(titled(ways))(
    '%s: shows every kind of message, and all that is odd but legal, of both sides',
    (_title, way) => {
      const odd = oddityNames.flatMap((oddity) => [`${oddity} of the client`, `${oddity} of the server`])
      const all = [...kindNames, ...odd, ...(way.server === 'stdio' ? [] : framingNames)]
      const shown = shownOn(way)
      expect(all.filter((what) => !shown.has(what)).toSorted()).toEqual(missingFrom(way).toSorted())
    },
  )
})

describe.each(titled(ways.filter((way) => !hasProcess(way))))('%s', (_title, way) => {
  it.each(of(way))('%s: every message arrives as it was said', async (...named) => {
    const through = await open(way)
    await converse(through, way, named)
    if (way.client !== way.server) return
    const direct = await open({ ...way, isDirect: true })
    await converse(direct, way, named)
    expectSameBytes(through, direct)
  })
})

describe.each(titled(ways.filter(hasProcess)))('%s', { timeout: 120_000 }, (_title, way) => {
  it('every message arrives as it was said', async () => {
    const through = await open(way)
    for (const named of of(way)) await converse(through, way, named)
    if (way.client !== way.server) return
    const direct = await open({ ...way, isDirect: true })
    for (const named of of(way)) await converse(direct, way, named)
    expectSameBytes(through, direct)
  })
})

/** Not compared as a whole: a difference in a megabyte is best looked for elsewhere. */
function expectSameBytes(through: Ends, direct: Ends): void {
  expect(through.client.bytes() === direct.client.bytes(), 'what the client got').toBe(true)
  expect(through.server.bytes() === direct.server.bytes(), 'what the server got').toBe(true)
}
