import { afterEach, describe, expect, it } from 'vitest'
import { startProxy } from '../proxy/fixture.ts'
import { sseClient } from './clients.ts'
import { type Chunk, type Conversation, bytesOf, conversations } from './corpus.ts'
import { filled, marksOf } from './marks.ts'
import { startServer } from './servers.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const params = '{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"c","version":"1"}}'
const agreed = '{"protocolVersion":"2025-03-26","capabilities":{},"serverInfo":{"name":"s","version":"1"}}'

/** A session over a forwarded HTTP+SSE stream, in which the server may be asked by us. */
async function open() {
  const server = await startServer('sse', { hearsOurs: true })
  closers.push(() => server.close())
  const proxy = await startProxy({
    upstreams: { u: { url: server.url, transport: 'sse' } },
    pingForwardedSessions: true,
  })
  closers.push(() => proxy.close())
  const client = await sseClient(proxy.port, '/u/sse')
  closers.push(() => client.close())
  const isOurs = (text: string) => /"id":"vitals-[0-9a-f-]{36}","method":"ping"/.test(text)
  const heard = () => server.heard.filter((text) => !isOurs(text))
  const pings = () => server.heard.filter(isOurs)
  const clientSays = async (message: Buffer) => {
    const before = heard().length
    await Promise.all([client.send([message]), server.until(() => heard().length > before)])
  }
  await clientSays(Buffer.from(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":${params}}`))
  await server.say({ message: Buffer.from(`{"jsonrpc":"2.0","id":"init","result":${agreed}}`) })
  const [session] = [...proxy.directory.all()]
  if (!session) throw new Error('the session is not known')
  await proxy.until(() => session.serverPeer?.canAsk())
  /** Our ping has arrived; gives its answer and what becomes of it with us. */
  const ask = async () => {
    const before = pings().length
    const answered = session.serverPeer?.request({ method: 'ping', timeoutMs: 20_000 })
    const ping = await server.until(() => pings()[before])
    const { id } = JSON.parse(ping) as { readonly id: string }
    return { answered, answer: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, result: {} })) }
  }
  return { server, client, clientSays, ask }
}

/** The bytes of the stream, after a conversation in which we ask the server before each of its messages, or never. */
async function streamOf({ says }: Conversation, isAsked: boolean): Promise<string> {
  const { server, client, clientSays, ask } = await open()
  let marks = marksOf('')
  const bytes = (chunk: Chunk) => filled(bytesOf(chunk), 'legacy', marks)
  for (const say of says) {
    if ('client' in say) {
      const message = bytes(say.client)
      await clientSays(message)
      marks = marksOf(message.toString())
      continue
    }
    const asked = isAsked ? await ask() : undefined
    const before = client.heard().length
    await server.say({ message: bytes(say.server), framed: say.framed?.map(bytes) })
    if (asked) await server.say({ message: asked.answer })
    await Promise.all([asked?.answered, client.until(() => client.heard().length > before)])
  }
  // What is about to be said when it ends is said.
  const last = '{"jsonrpc":"2.0","method":"notifications/last"}'
  await server.say({ message: Buffer.from(last) })
  await client.until(() => client.heard().includes(last))
  return client.bytes()
}

const legacy = conversations().filter(([, { era }]) => era !== 'modern')

describe('HTTP+SSE, forwarded: while we ask inside the session, its stream is what it is without', () => {
  it.each(legacy)('%s', async (_name, conversation) => {
    expect((await streamOf(conversation, true)) === (await streamOf(conversation, false))).toBe(true)
  })
})
