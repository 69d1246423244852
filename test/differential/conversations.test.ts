import { afterEach, describe, expect, it } from 'vitest'
import { type TestUpstream, startProxy } from '../proxy/fixture.ts'
import { wrapped, wrappedUrl } from '../support/wrapper.ts'
import { type Client, httpClient, sseClient, stdioClient } from './clients.ts'
import { type Conversation, bytesOf, conversations } from './corpus.ts'
import { type Era, type Marks, filled, marksOf, restored } from './marks.ts'
import { cutCharacters, isSameText } from './messages.ts'
import { type Said, type Server, type Transport, startServer } from './servers.ts'
import {
  type Side,
  beyondAscii,
  framingNames,
  framingsOf,
  kindNames,
  kindsOf,
  odditiesOf,
  oddityNames,
} from './shows.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Way {
  readonly era: Era
  readonly client: Transport
  readonly server: Transport
  /** Nothing of ours is in between. */
  readonly isDirect?: boolean
  /** Clients have a process in common, which we have opened. */
  readonly isShared?: boolean
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
  if (way.era === 'legacy') await beginSession(ends, way)
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

async function throughProxy({ client, server: transport, isShared = false }: Way, { url, args }: Server): Promise<URL> {
  const [script = '', ...rest] = args
  const process = isShared ? 'shared' : 'per_session'
  const upstream: TestUpstream =
    transport === 'stdio'
      ? { script: `../../../${script.slice(script.indexOf('test/'))}`, args: rest, resident: 'when_idle', process }
      : { url, transport }
  const proxy = await startProxy({ upstreams: { u: upstream } })
  closers.push(() => proxy.close())
  return new URL(`${proxy.url}/u/${client === 'sse' ? 'sse' : 'mcp'}`)
}

const initialize = Buffer.from(
  '{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}',
)
const answer = Buffer.from(
  '{"jsonrpc":"2.0","id":"init","result":{"protocolVersion":"2025-03-26","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}',
)
const initialized = Buffer.from('{"jsonrpc":"2.0","method":"notifications/initialized"}')

async function beginSession(ends: Ends, { isShared = false }: Way): Promise<void> {
  const { client, server } = ends
  if (isShared) {
    // We have opened the process, and answer with what it said then. Our notification is none of the conversation's
    // messages, and may reach the server behind our answer to the client.
    await server.until(() => server.heard.length > 0)
    await client.send([initialize])
    await client.until(() => client.heard().length > 0)
    await client.opened()
    return client.send([initialized])
  }
  await clientSays(ends, initialize, {})
  await serverSays(ends, { message: answer }, 1)
  await client.opened()
  await clientSays(ends, initialized, {})
}

/** What was heard of what one side said. */
async function clientSays(
  { client, server }: Ends,
  message: Buffer,
  { count = 1, isCut = false },
): Promise<readonly string[]> {
  const before = server.heard.length
  const pieces = isCut ? cutCharacters(message) : [message]
  await Promise.all([client.send(pieces), server.until(() => server.heard.length >= before + count)])
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
async function converse(ends: Ends, way: Way, [name, { says, isCut }]: readonly [string, Conversation]): Promise<void> {
  const isBridge = way.client !== way.server
  let own: Marks = { id: '', token: '' }
  let theirs = own
  for (const [index, say] of says.entries()) {
    const where = `${name}, message ${index + 1}`
    if ('client' in say) {
      const message = filled(bytesOf(say.client), way.era, own)
      const expected = isBridge && say.items ? say.items : [message.toString()]
      const heard = await clientSays(ends, message, { count: expected.length, isCut })
      own = marksOf(message.toString())
      theirs = marksOf(heard[0] ?? '')
      const asWritten = heard.map((one) => restored(one, own))
      expectSame(expected, asWritten, where)
      continue
    }
    const raw = bytesOf(say.server)
    const message = filled(raw, way.era, theirs)
    const framed = say.framed?.map((chunk) => filled(bytesOf(chunk), way.era, theirs))
    const heard = await serverSays(ends, { message, framed, isCut }, isBridge ? (say.items?.length ?? 1) : 1)
    // The client of a batch gets one answer, or several.
    const items = isBridge && !heard.some(isBatch) ? say.items : undefined
    expectSame(items ?? [filled(raw, way.era, own).toString()], heard, where)
  }
}

const corpus = conversations()
const transports: readonly Transport[] = ['http', 'sse', 'stdio']
const eras: readonly Era[] = ['legacy', 'modern']
const ways: readonly Way[] = [
  ...eras.flatMap((era) => transports.flatMap((client) => transports.map((server) => ({ era, client, server })))),
  { era: 'legacy', client: 'http', server: 'stdio', isShared: true },
  { era: 'legacy', client: 'sse', server: 'stdio', isShared: true },
]

/** What happens on a way. */
function of({ era, client, server, isShared = false }: Way) {
  return corpus.filter(([, conversation]) => {
    // Where ids of several requests are under way, a shared process has others than the file.
    if (isShared) return conversation.era === 'both'
    const isThere = conversation.ways?.includes(`${client} → ${server}`) ?? true
    return isThere && (conversation.era === era || conversation.era === 'both')
  })
}

const titled = (some: readonly Way[]) =>
  some.map((way) => [`${way.era}, ${way.client} → ${way.server}${way.isShared ? ', shared' : ''}`, way] as const)

/** Whether it takes a process, which then serves one conversation after the other. */
const hasProcess = ({ client, server }: Way) => client === 'stdio' || server === 'stdio'

/** What does not happen there, for the most part because the protocol does not have it. */
function missingFrom({ era, client, server, isShared = false }: Way): readonly string[] {
  // Whose the messages are that are left out here: test/proxy/shared-table.test.ts.
  const ofSeveral = ['server request', 'batch', 'cancellation', 'list_changed']
  if (isShared) return ['subscriptions/listen', 'multi-round-trip', ...ofSeveral]
  if (era === 'legacy') return ['subscriptions/listen', 'multi-round-trip']
  // Over Streamable HTTP the end of its connection, which is no message, cancels a request (2026-07-28, Cancellation).
  const isOverHttp = client === 'http' || server === 'http'
  return ['server request', 'batch', ...(isOverHttp ? ['cancellation'] : [])]
}

const cutCharacter = 'a character cut by a chunk'

/** Everything that the corpus shows on a way, and by whom. */
function shownOn(way: Way): ReadonlySet<string> {
  const marks = { id: '1', token: '1' }
  const shown = of(way).flatMap(([, { says, isCut }]) =>
    says.flatMap((say) => {
      const side: Side = 'client' in say ? 'client' : 'server'
      const text = filled(bytesOf('client' in say ? say.client : say.server), way.era, marks).toString()
      const framed = 'framed' in say && say.framed ? framingsOf(say.framed.map(bytesOf)) : []
      const odd = odditiesOf(text, side)
      const cutting = isCut && odd.includes(beyondAscii) ? [...odd, cutCharacter] : odd
      return [...kindsOf(text, side), ...cutting.map((oddity) => `${oddity} of the ${side}`), ...framed]
    }),
  )
  return new Set(shown)
}

describe('the corpus', () => {
  it.each(titled(ways))(
    '%s: shows every kind of message, and all that is odd but legal, of both sides',
    (_title, way) => {
      const odd = [...oddityNames, cutCharacter].flatMap((oddity) => [
        `${oddity} of the client`,
        `${oddity} of the server`,
      ])
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
