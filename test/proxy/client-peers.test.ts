import { afterEach, describe, expect, it } from 'vitest'
import type { Answer } from '../../src/upstreams/peer.ts'
import { RawClient, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { type ScriptedUpstream, scriptedUpstream } from '../support/scripted-upstream.ts'
import { type RunningProxy, startProxy } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Place {
  readonly upstream: ScriptedUpstream
  readonly proxy: RunningProxy
  readonly client: RawClient
}

async function start(transport: 'http' | 'sse'): Promise<Place> {
  const upstream = await scriptedUpstream(() => undefined)
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}/api`
  const proxy = await startProxy({ upstreams: { u: { url, transport } } })
  closers.push(() => proxy.close())
  const client = new RawClient(proxy.port)
  closers.push(() => Promise.resolve(client.close()))
  return { upstream, proxy, client }
}

const inSession = ['Content-Type', 'application/json', 'Mcp-Session-Id', 's1', 'MCP-Protocol-Version', '2025-11-25']

/** Opens the GET stream of a forwarded session. */
async function listen({ upstream, proxy, client }: Place) {
  client.send(rawRequest({ method: 'GET', path: '/u/mcp', headers: [...inSession, 'Accept', 'text/event-stream'] }))
  const server = await upstream.request(0)
  server.openStream()
  server.chunk('id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/a"}\n\n')
  const stream = await client.head()
  await client.until(() => textOf(stream).includes('notifications/a'))
  const session = [...proxy.directory.all()][0]
  if (!session) throw new Error('the session is not known')
  return { server, stream, session }
}

function pingIn(text: string): string | undefined {
  return /event: message\ndata: (\{"jsonrpc":"2\.0","id":"vitals-[0-9a-f-]{36}","method":"ping"[^\n]*\})\n\n/.exec(
    text,
  )?.[1]
}

function answerTo(ping: string, error = false): string {
  const { id } = JSON.parse(ping) as { readonly id: string }
  return JSON.stringify({
    jsonrpc: '2.0',
    id,
    ...(error ? { error: { code: -32_601, message: 'no' } } : { result: {} }),
  })
}

describe('our own ping to the client of a forwarded Streamable HTTP session', () => {
  it('is an event without an id between two of the server, and its answer stays with us', async () => {
    const place = await start('http')
    const { stream, session, server } = await listen(place)
    expect(session.clientPeer?.canAsk()).toBe(true)
    const answered = session.clientPeer?.request({ method: 'ping', timeoutMs: 10_000 })
    const ping = await place.client.until(() => pingIn(textOf(stream)))
    const body = answerTo(ping, true)
    const posted = await rawFetch(place.proxy.port, { path: '/u/mcp', headers: inSession, body })
    expect([statusOf(posted), headerOf(posted, 'content-length')]).toEqual([202, '0'])
    expect(((await answered) as Answer).error?.code).toBe(-32_601)
    server.chunk('id: 2\ndata: {"jsonrpc":"2.0","method":"notifications/b"}\n\n')
    await place.client.until(() => textOf(stream).includes('notifications/b'))
    expect(textOf(stream).replace(`event: message\ndata: ${ping}\n\n`, '')).toBe(
      'id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/a"}\n\nid: 2\ndata: {"jsonrpc":"2.0","method":"notifications/b"}\n\n',
    )
    expect(place.upstream.arrived).toHaveLength(1)
  })

  it('waits while an event of the server is on its way', async () => {
    const place = await start('http')
    const { stream, session, server } = await listen(place)
    server.chunk('id: 2\ndata: {"half')
    await place.client.until(() => textOf(stream).includes('half'))
    expect(session.clientPeer?.canAsk()).toBe(false)
    server.chunk('":1}\n\n')
    await place.client.until(() => textOf(stream).includes(':1}'))
    expect(session.clientPeer?.canAsk()).toBe(true)
  })

  it('leaves every other answer of the client to the server, one of another sidecar too', async () => {
    const place = await start('http')
    const { session } = await listen(place)
    void session.clientPeer?.request({ method: 'ping', timeoutMs: 100 }).catch(() => undefined)
    const body = '{"jsonrpc":"2.0","id":"vitals-of-another","result":{}}'
    const posted = rawFetch(place.proxy.port, { path: '/u/mcp', headers: inSession, body })
    const arrived = await place.upstream.request(1)
    expect(textOf(await arrived.whole())).toBe(body)
    arrived.answer(202)
    expect(statusOf(await posted)).toBe(202)
  })

  it('is not sent where answers could pass unread, nor in the revision that batches, nor without a stream', async () => {
    const place = await start('http')
    const { session, server } = await listen(place)
    session.protocolVersion = '2025-03-26'
    expect(session.clientPeer?.canAsk()).toBe(false)
    session.protocolVersion = '2025-11-25'
    expect(session.clientPeer?.canAsk()).toBe(true)
    const headers = [...inSession, 'Transfer-Encoding', 'chunked']
    const other = new RawClient(place.proxy.port)
    other.send(rawRequest({ method: 'POST', path: '/u/mcp', headers }))
    // A short one would be read before it is sent.
    const long = `{"padding":"${'-'.repeat(70_000)}"}`
    other.send(`${long.length.toString(16)}\r\n${long}\r\n0\r\n\r\n`)
    await place.upstream.request(1)
    expect(session.clientPeer?.canAsk()).toBe(false)
    other.close()
    server.endChunks()
    await place.proxy.until(() => session.clientPeer === undefined)
  })
})

it('the GET stream of a forwarded session ends with it', async () => {
  const place = await start('http')
  const { stream, session } = await listen(place)
  place.proxy.directory.end(session, 'unknown')
  await place.client.until(() => stream.isComplete)
  expect(place.proxy.told.streams.map(({ reason }) => reason)).toEqual(['upstream_ended'])
  await place.upstream.until(() => place.upstream.arrived[0]?.isClosed())
  expect(session).toMatchObject({ openStreams: 0, clientPeer: undefined })
  expect(session.endings.size).toBe(0)
})

describe('our own ping to the client of a forwarded HTTP+SSE session', () => {
  it('comes on its stream, and its answer stays with us', async () => {
    const { upstream, proxy, client } = await start('sse')
    client.send(rawRequest({ method: 'GET', path: '/u/sse', headers: ['Accept', 'text/event-stream'] }))
    const server = await upstream.request(0)
    server.openStream()
    server.chunk('event: endpoint\ndata: /messages?s=1\n\n')
    const stream = await client.head()
    const path = await client.until(() => /data: (\S+)\n\n/.exec(textOf(stream))?.[1])
    const session = [...proxy.directory.all()][0]
    expect(session?.clientPeer?.canAsk()).toBe(false) // Nothing was agreed yet.
    if (session) session.protocolVersion = '2024-11-05'
    expect(session?.clientPeer?.canAsk()).toBe(true)
    const answered = session?.clientPeer?.request({ method: 'ping', timeoutMs: 10_000 })
    const ping = await client.until(() => pingIn(textOf(stream)))
    const headers = ['Content-Type', 'application/json']
    expect(statusOf(await rawFetch(proxy.port, { path, headers, body: answerTo(ping) }))).toBe(202)
    expect(await answered).toMatchObject({ error: undefined })
    expect(upstream.arrived).toHaveLength(1)
    client.close()
    await proxy.until(() => session?.clientPeer === undefined)
  })
})
