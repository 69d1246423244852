import { afterEach, describe, expect, it } from 'vitest'
import { RawClient, bodyOf, headerOf, rawFetch, rawRequest, textOf } from '../support/raw-http.ts'
import { post } from '../support/rpc.ts'
import { type ScriptedServer, scriptedServer, sendJson } from '../support/scripted-server.ts'
import { type Arrived, scriptedUpstream } from '../support/scripted-upstream.ts'
import { type RunningProxy, startProxy } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Seen {
  readonly method: unknown
  readonly id: unknown
  readonly headers: Readonly<Record<string, unknown>>
}

/** A server with one session, behind a proxy; gives what arrived at the server. */
async function start(pingForwardedSessions: boolean) {
  const seen: Seen[] = []
  const state = { knowsSession: true, wantsToken: 'one' }
  const server: ScriptedServer = await scriptedServer((message, response, { headers }) => {
    seen.push({ method: message['method'], id: message.id, headers })
    if (message['method'] === 'initialize') {
      response.setHeader('mcp-session-id', 's1')
      return sendJson(response, 200, { jsonrpc: '2.0', id: message.id, result: { protocolVersion: '2025-11-25' } })
    }
    if (headers.authorization !== `Bearer ${state.wantsToken}`) return sendJson(response, 401, {})
    if (!state.knowsSession) return sendJson(response, 404, {})
    sendJson(response, 200, { jsonrpc: '2.0', id: message.id, result: {} })
  })
  closers.push(() => server.stop())
  const proxy: RunningProxy = await startProxy({ upstreams: { u: { url: server.url } }, pingForwardedSessions })
  closers.push(() => proxy.close())
  const say = (message: object, headers: Readonly<Record<string, string>>) =>
    post(`${proxy.url}/u/mcp`, { jsonrpc: '2.0', ...message }, headers)
  const ask = (id: number, token: string) =>
    say(
      { id, method: 'tools/list' },
      {
        'mcp-session-id': 's1',
        'mcp-protocol-version': '2025-11-25',
        authorization: `Bearer ${token}`,
        'x-mine': 'yes',
      },
    )
  const open = async () => {
    await say({ id: 1, method: 'initialize', params: {} }, { authorization: 'Bearer one' })
    const session = proxy.directory.get('u', 's1')
    if (!session) throw new Error('the session is not known')
    return session
  }
  return { seen, state, proxy, ask, open }
}

describe('our own ping inside a forwarded session', () => {
  it('is not sent unless the configuration says so, and nothing is kept for it', async () => {
    const { ask, open } = await start(false)
    const session = await open()
    await ask(2, 'one')
    expect(session.serverPeer).toBeUndefined()
  })

  it('bears the session and the headers of its client, the latest, under an id of ours', async () => {
    const { ask, open, seen, state } = await start(true)
    const session = await open()
    expect(session.serverPeer?.canAsk()).toBe(true)
    state.wantsToken = 'two'
    await ask(2, 'two')
    const before = { messages: session.messages, lastActiveMs: session.lastActiveMs }
    await session.serverPeer?.request({ method: 'ping', timeoutMs: 5000 })
    expect(seen.at(-1)).toMatchObject({
      method: 'ping',
      id: expect.stringMatching(/^vitals-[0-9a-f-]{36}$/),
      headers: {
        'mcp-session-id': 's1',
        'mcp-protocol-version': '2025-11-25',
        authorization: 'Bearer two',
        'x-mine': 'yes',
      },
    })
    expect(session).toMatchObject(before)
  })

  it('401 is an answer about the credentials, and 404 about this session alone', async () => {
    const { open, state } = await start(true)
    const session = await open()
    const ping = () => session.serverPeer?.request({ method: 'ping', timeoutMs: 5000 })
    state.wantsToken = 'another'
    await expect(ping()).rejects.toMatchObject({ code: 'upstream_unauthorized' })
    state.wantsToken = 'one'
    state.knowsSession = false
    await expect(ping()).rejects.toMatchObject({ code: 'upstream_session_gone' })
  })

  it('is possible no longer than the session lasts', async () => {
    const { open, proxy } = await start(true)
    const session = await open()
    proxy.directory.end(session, 'deleted')
    expect(session.serverPeer).toBeUndefined()
  })
})

/** A forwarded HTTP+SSE session after its opening exchange, in which everything is said by hand. */
async function startStream(pingForwardedSessions = true) {
  const upstream = await scriptedUpstream(() => undefined)
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}/api/sse`
  const proxy = await startProxy({ upstreams: { u: { url, transport: 'sse' } }, pingForwardedSessions })
  closers.push(() => proxy.close())
  const client = new RawClient(proxy.port)
  closers.push(() => Promise.resolve(client.close()))
  client.send(rawRequest({ method: 'GET', path: '/u/sse', headers: ['Accept', 'text/event-stream'] }))
  const server = await upstream.request(0)
  server.openStream()
  server.chunk('event: endpoint\ndata: /api/messages?sessionId=s1\n\n')
  const stream = await client.head()
  const path = await client.until(() => /data: (\S+)\n\n/.exec(textOf(stream))?.[1])
  const arrives = async (count: number): Promise<Arrived> => {
    const arrived = await upstream.request(count)
    await arrived.whole()
    return arrived
  }
  const say = async (body: string, token: string) => {
    const headers = ['Content-Type', 'application/json', 'Authorization', `Bearer ${token}`, 'X-Mine', 'yes']
    const count = upstream.arrived.length
    const posted = rawFetch(proxy.port, { path, headers, body })
    const arrived = await arrives(count)
    arrived.answer(202, 'Accepted')
    await posted
  }
  const open = async () => {
    await say('{"jsonrpc":"2.0","id":0,"method":"initialize"}', 'one')
    server.chunk('data: {"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}\n\n')
    const [session] = [...proxy.directory.all()]
    if (!session) throw new Error('the session is not known')
    await proxy.until(() => session.protocolVersion !== undefined)
    await say('{"jsonrpc":"2.0","method":"notifications/initialized"}', 'one')
    return session
  }
  /** Sends our ping; gives the POST of it and its id. */
  const ping = async (session: Awaited<ReturnType<typeof open>>, timeoutMs = 10_000) => {
    const count = upstream.arrived.length
    const answered = session.serverPeer?.request({ method: 'ping', timeoutMs })
    answered?.catch(() => undefined)
    const arrived = await arrives(count)
    const { id } = JSON.parse(bodyOf(arrived.request).toString()) as { readonly id: string }
    return { answered, arrived, id }
  }
  const after = () => textOf(stream).replace(/^[^]*?"protocolVersion":"2025-11-25"\}\}\n\n/, '')
  return { upstream, proxy, client, server, stream, say, open, ping, after }
}

const answerTo = (id: string) => `event: message\ndata: {"jsonrpc":"2.0","id":"${id}","result":{}}\n\n`
const news = 'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/a"}\n\n'

describe('our own ping inside a forwarded HTTP+SSE session', () => {
  it('is not sent unless the configuration says so', async () => {
    const { open } = await startStream(false)
    const session = await open()
    expect(session.serverPeer).toBeUndefined()
  })

  it('goes where the client posts, with its latest headers, and its answer alone is missing on the stream', async () => {
    const { open, say, ping, server, client, after, proxy } = await startStream()
    const session = await open()
    expect(session.serverPeer?.canAsk()).toBe(true)
    await say('{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}', 'two')
    const before = { messages: session.messages, lastActiveMs: session.lastActiveMs, events: proxy.told.events.length }
    const { answered, arrived, id } = await ping(session)
    expect(id).toMatch(/^vitals-[0-9a-f-]{36}$/)
    expect(arrived.request.startLine).toBe('POST /api/messages?sessionId=s1 HTTP/1.1')
    expect([headerOf(arrived.request, 'authorization'), headerOf(arrived.request, 'x-mine')]).toEqual([
      'Bearer two',
      'yes',
    ])
    arrived.answer(202, 'Accepted')
    const answer = answerTo(id)
    server.chunk(`${news}${answer.slice(0, 40)}`)
    await client.until(() => after().length === news.length)
    expect(session.serverPeer?.canAsk()).toBe(true)
    server.chunk(`${answer.slice(40)}${news}`)
    await answered
    await client.until(() => after().length >= 2 * news.length)
    expect(after()).toBe(news + news)
    expect(session).toMatchObject({ messages: before.messages, lastActiveMs: before.lastActiveMs })
    expect(proxy.told.events).toHaveLength(before.events + 2)
  })

  it('that is answered too late, or twice, shows the client nothing either', async () => {
    const { open, ping, server, client, after } = await startStream()
    const session = await open()
    const { answered, arrived, id } = await ping(session, 20)
    arrived.answer(202)
    await expect(answered).rejects.toMatchObject({ code: 'upstream_timeout' })
    server.chunk(answerTo(id) + answerTo(id) + news)
    await client.until(() => after().includes('notifications/a'))
    expect(after()).toBe(news)
  })

  it('404 ends the session, and its stream with it', async () => {
    const { open, ping, client, stream, proxy } = await startStream()
    const session = await open()
    const { answered, arrived } = await ping(session)
    arrived.answer(404, 'no such session')
    await expect(answered).rejects.toMatchObject({ code: 'upstream_session_gone' })
    expect(stream.isComplete).toBe(false)
    proxy.directory.end(session, 'unknown')
    await client.until(() => stream.isComplete)
    expect([...proxy.directory.all()]).toEqual([])
    expect(proxy.told.endedSessions).toEqual(['unknown'])
    expect(proxy.told.streams.map(({ reason }) => reason)).toEqual(['upstream_ended'])
  })

  it('401 is an answer about the credentials', async () => {
    const { open, ping } = await startStream()
    const { answered, arrived } = await ping(await open())
    arrived.answer(401)
    await expect(answered).rejects.toMatchObject({ code: 'upstream_unauthorized' })
  })

  it('is not sent while the server waits for the client', async () => {
    const { open, server, client, after, say } = await startStream()
    const session = await open()
    server.chunk('data: {"jsonrpc":"2.0","id":"q","method":"elicitation/create"}\n\n')
    await client.until(() => after().includes('elicitation'))
    expect(session.serverPeer?.canAsk()).toBe(false)
    await say('{"jsonrpc":"2.0","id":"q","result":{}}', 'one')
    expect(session.serverPeer?.canAsk()).toBe(true)
  })

  it('is possible no longer than the stream lasts, and what was half said then goes to the client', async () => {
    const { open, ping, server, client, stream, after } = await startStream()
    const session = await open()
    const { arrived, id } = await ping(session)
    arrived.answer(202)
    server.chunk(answerTo(id).slice(0, 40))
    server.endChunks()
    await client.until(() => stream.isComplete)
    expect([after(), session.serverPeer]).toEqual([answerTo(id).slice(0, 40), undefined])
  })
})
