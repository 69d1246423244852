import { afterEach, describe, expect, it } from 'vitest'
import type { RequestLimits } from '../../src/upstreams/upstream.ts'
import {
  RawClient,
  bodyOf,
  chunk,
  chunked,
  headerOf,
  rawFetch,
  rawRequest,
  statusOf,
  textOf,
} from '../support/raw-http.ts'
import { eventually } from '../support/eventually.ts'
import { requestLimits } from '../support/settings.ts'
import { type Arrived, type ScriptedUpstream, scriptedUpstream } from '../support/scripted-upstream.ts'
import { type RunningProxy, startProxy } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(options: { readonly maxBodyBytes?: number; readonly limits?: RequestLimits } = {}) {
  const upstream = await scriptedUpstream(() => undefined)
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}/api/sse`
  const proxy = await startProxy({
    upstreams: {
      u: { url, transport: 'sse', ...(options.limits && { limits: options.limits }) },
      other: { url, transport: 'sse' },
    },
    ...(options.maxBodyBytes !== undefined && { maxBodyBytes: options.maxBodyBytes }),
  })
  closers.push(() => proxy.close())
  return { upstream, proxy }
}

function connectTo(proxy: RunningProxy): RawClient {
  const client = new RawClient(proxy.port)
  closers.push(() => Promise.resolve(client.close()))
  return client
}

/** Opens a stream whose server says where to POST; gives both ends of it and the address for the client. */
async function open(upstream: ScriptedUpstream, proxy: RunningProxy, endpoint = '/api/messages?sessionId=s1') {
  const client = connectTo(proxy)
  const index = upstream.arrived.length
  client.send(rawRequest({ method: 'GET', path: '/u/sse', headers: ['Accept', 'text/event-stream'] }))
  const server = await upstream.request(index)
  server.openStream()
  server.chunk(`event: endpoint\ndata: ${endpoint}\n\n`)
  const stream = await client.head()
  const address = await client.until(() => /^event: endpoint\ndata: (\S+)\n\n/.exec(textOf(stream))?.[1])
  return { client, server, stream, address, after: () => textOf(stream).replace(/^event: endpoint\ndata: \S+\n\n/, '') }
}

/** Posts a message and gives the server's end of it. */
async function post(upstream: ScriptedUpstream, proxy: RunningProxy, path: string, body: string) {
  const index = upstream.arrived.length
  const response = rawFetch(proxy.port, { path, headers: ['Content-Type', 'application/json'], body })
  const arrived = await upstream.request(index)
  await arrived.whole()
  return { arrived, response }
}

async function accept(arrived: Arrived): Promise<void> {
  await arrived.whole()
  arrived.answer(202, 'Accepted', ['Content-Type', 'text/plain', 'X-Mine', '1'])
}

describe('the stream (MCP 2024-11-05, Transports, HTTP with SSE)', () => {
  it('its request passes as it is, but for compression, in which no endpoint could be rewritten', async () => {
    const { upstream, proxy } = await start()
    const headers = ['Accept-Encoding', 'gzip', 'X-A', '1', 'Accept', 'text/event-stream', 'x-a', '2']
    connectTo(proxy).send(rawRequest({ method: 'GET', path: '/u/sse?key=1', headers }))
    const { request } = await upstream.request(0)
    expect(request.startLine).toBe('GET /api/sse?key=1 HTTP/1.1')
    const own = ['host', 'connection']
    const isOwn = (_part: string, index: number, all: string[]) =>
      !own.includes(all[index - (index % 2)]?.toLowerCase() ?? '')
    expect(request.rawHeaders.filter(isOwn)).toEqual([...headers.slice(2), 'accept-encoding', 'identity'])
  })

  it.each([
    ['a path', '/api/messages?sessionId=s1', '/api/messages?sessionId=s1'],
    ['a relative path', 'messages?sessionId=s1', '/api/messages?sessionId=s1'],
    ['a query alone', '?sessionId=s1', '/api/sse?sessionId=s1'],
    ['a URL of its own origin', 'ORIGIN/m?a=1&b=%2F', '/m?a=1&b=%2F'],
    ['a URL of the Host that it was called with', 'http://localhost/m?a=1', '/m?a=1'],
    ['one of another scheme', 'https://localhost//m', '//m'],
  ])(
    'its endpoint event becomes our address, and what is posted there goes to %s',
    async (_title, endpoint, target) => {
      const { upstream, proxy } = await start()
      const { address } = await open(upstream, proxy, endpoint.replace('ORIGIN', `http://127.0.0.1:${upstream.port}`))
      expect(address).toMatch(/^\/u\/messages\?session_id=[0-9a-f-]{36}$/)
      const message = '{ "jsonrpc":"2.0", "method":"notifications/initialized", "x": 1e400 }'
      const { arrived, response } = await post(upstream, proxy, address, message)
      expect(arrived.request.startLine).toBe(`POST ${target} HTTP/1.1`)
      expect(bodyOf(arrived.request).toString()).toBe(message)
      await accept(arrived)
      const got = await response
      expect([statusOf(got), textOf(got), headerOf(got, 'x-mine')]).toEqual([202, 'Accepted', '1'])
    },
  )

  it.each([
    'http://127.0.0.1:1/m',
    'http://localhost:1/m',
    'http://localhost@evil.example/m',
    'http://evil.example/m',
    '//evil.example/m',
    'https://127.0.0.1/m',
    'file:///etc/passwd',
  ])(
    'an endpoint of another origin (%s) is refused: it would have us POST to the server’s neighbours (SSRF)',
    async (endpoint) => {
      const { upstream, proxy } = await start()
      const client = connectTo(proxy)
      client.send(rawRequest({ method: 'GET', path: '/u/sse' }))
      const server = await upstream.request(0)
      server.openStream()
      await client.head()
      server.chunk(`event: endpoint\ndata: ${endpoint}\n\n`)
      await client.until(() => client.isClosed)
      await upstream.until(() => server.isClosed())
      expect(client.responses.map((response) => [textOf(response), response.isComplete])).toEqual([['', false]])
      expect(proxy.told.failed.map(({ code }) => code)).toEqual(['upstream_invalid'])
      expect([...proxy.directory.all()]).toEqual([])
    },
  )

  it('refused before a byte of the stream went out, it is a 502', async () => {
    const { upstream, proxy } = await start()
    const responding = rawFetch(proxy.port, { method: 'GET', path: '/u/sse' })
    const server = await upstream.request(0)
    server.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: //evil/m\n\n')
    const response = await responding
    expect(statusOf(response)).toBe(502)
    expect(JSON.parse(textOf(response))).toMatchObject({ error: { data: { reason: 'upstream_invalid' } } })
  })

  it('every other byte of it passes', async () => {
    const { upstream, proxy } = await start()
    const { client, server, after } = await open(upstream, proxy)
    const bytes =
      ': ping - 2026\r\n\r\nid: 9\r\nevent: message\r\ndata: {"é":\r\ndata: 1}\r\n\r\nevent: endpoint\ndata: /x\n\n'
    for (const byte of Buffer.from(bytes)) server.chunk(Buffer.of(byte))
    await client.until(() => after() === bytes)
  })

  it('a Content-Length, which the new address would belie, is left out', async () => {
    const { upstream, proxy } = await start()
    const client = connectTo(proxy)
    client.send(rawRequest({ method: 'GET', path: '/u/sse' }))
    const server = await upstream.request(0)
    const events = 'event: endpoint\ndata: /m\n\ndata: {}\n\n'
    server.answer(200, events, ['Content-Type', 'text/event-stream'])
    const response = await client.response()
    expect(response.isComplete).toBe(true)
    expect(textOf(response)).toMatch(/session_id=[0-9a-f-]{36}\n\ndata: \{\}\n\n$/)
  })

  it.each([401, 404, 500])('an answer %i instead of a stream passes unchanged', async (status) => {
    const { upstream, proxy } = await start()
    const response = rawFetch(proxy.port, { method: 'GET', path: '/u/sse' })
    ;(await upstream.request(0)).answer(status, 'event: endpoint\ndata: /m\n\n', ['WWW-Authenticate', 'Bearer'])
    const got = await response
    expect([statusOf(got), textOf(got), headerOf(got, 'www-authenticate')]).toEqual([
      status,
      'event: endpoint\ndata: /m\n\n',
      'Bearer',
    ])
    expect(proxy.told.failed.map(({ code }) => code)).toEqual(status === 500 ? ['upstream_http_error'] : [])
  })

  it('a client that leaves closes the upstream’s stream at once, and ends its session', async () => {
    const { upstream, proxy } = await start()
    const { client, server, address } = await open(upstream, proxy)
    expect([...proxy.directory.all()].map(({ openStreams, transport }) => [openStreams, transport])).toEqual([
      [1, 'sse'],
    ])
    client.close()
    await upstream.until(() => server.isClosed())
    expect(proxy.told.endedSessions).toEqual(['stream_closed'])
    expect(statusOf(await rawFetch(proxy.port, { path: address, body: '{}' }))).toBe(404)
  })

  it.each(['end', 'cut'])('the server’s %s ends the session and every request that still waits', async (how) => {
    const { upstream, proxy } = await start()
    const { client, server, stream, address } = await open(upstream, proxy)
    const { arrived, response } = await post(upstream, proxy, address, '{"id":1,"method":"ping"}')
    await accept(arrived)
    await response
    expect(proxy.inFlight('u')).toBe(1)
    if (how === 'end') server.endChunks()
    else server.cut()
    await client.until(() => stream.isComplete || client.isClosed)
    expect(stream.isComplete).toBe(how === 'end')
    await proxy.until(() => proxy.inFlight('u') === 0)
    expect(proxy.told.endedSessions).toEqual(['stream_closed'])
    expect(proxy.told.operations[0]?.errorType).toBe(how === 'end' ? 'upstream_closed' : 'upstream_reset')
  })

  it('an upstream that refuses connections is a 502', async () => {
    const { upstream, proxy } = await start()
    await upstream.close()
    closers.splice(0, 1)
    const response = await rawFetch(proxy.port, { method: 'GET', path: '/u/sse' })
    expect(JSON.parse(textOf(response))).toMatchObject({ error: { data: { reason: 'upstream_refused' } } })
    expect(statusOf(response)).toBe(502)
  })
})

describe('what is posted', () => {
  it.each([
    ['without session_id', '/u/messages', 400, 'session_missing'],
    ['for a stream that nobody opened', '/u/messages?session_id=nobody', 404, 'session_not_found'],
  ])('%s is refused', async (_title, path, status, reason) => {
    const { upstream, proxy } = await start()
    const response = await rawFetch(proxy.port, { path, body: '{"id":1,"method":"ping"}' })
    expect([statusOf(response), JSON.parse(textOf(response))]).toMatchObject([status, { error: { data: { reason } } }])
    expect(upstream.arrived.length).toBe(0)
  })

  it('with the session of another upstream is refused', async () => {
    const { upstream, proxy } = await start()
    const { address } = await open(upstream, proxy)
    const response = await rawFetch(proxy.port, { path: address.replace('/u/', '/other/'), body: '{}' })
    expect(statusOf(response)).toBe(404)
  })

  it('above the body limit is refused', async () => {
    const { upstream, proxy } = await start({ maxBodyBytes: 1000 })
    const { address } = await open(upstream, proxy)
    expect(statusOf(await rawFetch(proxy.port, { path: address, body: 'x'.repeat(1001) }))).toBe(413)
    expect(upstream.arrived.length).toBe(1)
  })

  it('whose stream ends while its body comes is refused, and nothing stays pending', async () => {
    const { upstream, proxy } = await start()
    const { client, server, address } = await open(upstream, proxy)
    const posting = connectTo(proxy)
    const body = '{"id":1,"method":"ping"}'
    posting.send(rawRequest({ path: address, headers: ['Content-Length', String(body.length)] }))
    posting.send(body.slice(0, 5))
    client.close()
    await upstream.until(() => server.isClosed())
    posting.send(body.slice(5))
    expect(statusOf(await posting.response())).toBe(404)
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('is answered on the stream, which ends the operation', async () => {
    const { upstream, proxy } = await start()
    const { server, address, client, after } = await open(upstream, proxy)
    const message = '{"id":"a\\/1","method":"tools/call","params":{"name":"echo"}}'
    const { arrived, response } = await post(upstream, proxy, address, message)
    await accept(arrived)
    await response
    const [session] = [...proxy.directory.all()]
    expect(session).toMatchObject({ pending: 1, messages: 1 })
    server.chunk('data: {"method":"notifications/progress","params":{"progressToken":1}}\n\n')
    server.chunk('data: {"id":"zzz","result":{}}\n\ndata: {"id":"a/1","result":{"isError":true}}\n\n')
    await proxy.until(() => proxy.told.operations.length === 2)
    await client.until(() => after().endsWith('{"isError":true}}\n\n'))
    expect(proxy.told.operations.map(({ errorType, toolName }) => [errorType, toolName])).toEqual([
      ['tool_error', 'echo'],
      ['tool_error', 'echo'],
    ])
    expect([session?.pending, proxy.inFlight('u')]).toEqual([0, 0])
  })

  it.each([
    ['refused by the server', 400, 'upstream_http_error'],
    ['for a session that the server forgot', 404, 'upstream_http_error'],
  ])('%s: its answer passes, and the operation is over once', async (_title, status, errorType) => {
    const { upstream, proxy } = await start()
    const { server, address } = await open(upstream, proxy)
    const { arrived, response } = await post(upstream, proxy, address, '{"id":1,"method":"ping"}')
    arrived.answer(status, 'no')
    expect([statusOf(await response), textOf(await response)]).toEqual([status, 'no'])
    await proxy.until(() => proxy.inFlight('u') === 0)
    server.chunk('data: {"id":1,"result":{}}\n\n')
    const [session] = [...proxy.directory.all()]
    expect(session?.pending).toBe(0)
    expect(proxy.told.operations.map((operation) => operation.errorType)).toEqual([errorType, errorType])
  })

  it('that the server resets is a 502 with its id', async () => {
    const { upstream, proxy } = await start()
    const { address } = await open(upstream, proxy)
    const { arrived, response } = await post(upstream, proxy, address, '{"id":77,"method":"ping"}')
    arrived.cut('reset')
    const got = await response
    expect([statusOf(got), JSON.parse(textOf(got))]).toMatchObject([
      502,
      { id: 77, error: { data: { reason: 'upstream_reset' } } },
    ])
    const [session] = [...proxy.directory.all()]
    expect([session?.pending, proxy.inFlight('u')]).toEqual([0, 0])
  })

  it('twice with one id reaches the server twice, is measured once, and leaves nothing pending', async () => {
    const { upstream, proxy } = await start()
    const { server, address, client, after } = await open(upstream, proxy)
    for (let n = 0; n < 2; n++) {
      const { arrived, response } = await post(upstream, proxy, address, '{"id":1,"method":"ping"}')
      await accept(arrived)
      expect(statusOf(await response)).toBe(202)
    }
    server.chunk('data: {"id":1,"result":{}}\n\ndata: {"id":1,"result":{}}\n\n')
    await client.until(() => after().length > 50)
    await proxy.until(() => proxy.inFlight('u') === 0)
    expect([...proxy.directory.all()].map(({ pending }) => pending)).toEqual([0])
    expect(proxy.told.operations.map(({ side }) => side)).toEqual(['client', 'server'])
    expect(proxy.told.unparsed).toEqual(['u'])
  })

  it('teaches the names of the list it asked for', async () => {
    const { upstream, proxy } = await start()
    const { server, address } = await open(upstream, proxy)
    const tools = '{"id":1,"result":{"tools":[{"name":"a"}]}}'
    server.chunk(`data: ${tools}\n\n`)
    const { arrived, response } = await post(upstream, proxy, address, '{"id":1,"method":"tools/list"}')
    await accept(arrived)
    await response
    server.chunk(`data: ${tools.replace('"a"', '"b"')}\n\n`)
    await proxy.until(() => proxy.told.operations.length === 2)
    expect(proxy.told.admitted).toEqual(['tool b'])
  })
})

async function queued(proxy: RunningProxy, length: number): Promise<void> {
  const access = proxy.access.get('u')
  if (access?.kind !== 'endpoint') throw new Error('u is no URL')
  await eventually(() => access.endpoint.queue.length === length, { what: `${length} in the queue` })
}

describe('a long message', () => {
  const message = (id: number) => `{"id":${id},"params":{"text":"${'x'.repeat(300_000)}"},"method":"tools/call"}`
  const half = 150_000

  /** Begins to post one; what is given ends it. */
  function begin(proxy: RunningProxy, path: string, body: string, framing: 'with a length' | 'in chunks') {
    const client = connectTo(proxy)
    const isChunked = framing === 'in chunks'
    const headers = isChunked ? ['Transfer-Encoding', 'chunked'] : ['Content-Length', String(body.length)]
    const first = Buffer.from(body.slice(0, half))
    const rest = Buffer.from(body.slice(half))
    client.send(rawRequest({ path, headers }))
    client.send(isChunked ? chunk(first) : first)
    return { client, finish: () => client.send(isChunked ? chunked(rest) : rest) }
  }

  const framings = ['with a length', 'in chunks'] as const

  it.each(framings)('passes as it comes, and is measured once it has been read: %s', async (framing) => {
    const { upstream, proxy } = await start()
    const { server, address, client, after } = await open(upstream, proxy)
    const posting = begin(proxy, address, message(1), framing)
    const arrived = await upstream.request(1)
    await upstream.until(() => bodyOf(arrived.request).length === half)
    expect(arrived.request.isComplete).toBe(false)
    expect([...proxy.directory.all()]).toMatchObject([{ messages: 1, pending: 0 }])
    posting.finish()
    expect(textOf(await arrived.whole())).toBe(message(1))
    await accept(arrived)
    expect(statusOf(await posting.client.response())).toBe(202)
    expect([...proxy.directory.all()]).toMatchObject([{ messages: 1, pending: 1 }])
    server.chunk('data: {"id":1,"result":{}}\n\n')
    await client.until(() => after().endsWith('{"id":1,"result":{}}\n\n'))
    await proxy.until(() => proxy.inFlight('u') === 0)
    const ended = proxy.told.operations.map(({ side, method, errorType }) => [side, method, errorType])
    expect(ended).toEqual([
      ['client', 'tools/call', undefined],
      ['server', 'tools/call', undefined],
    ])
    expect([...proxy.directory.all()]).toMatchObject([{ pending: 0 }])
  })

  it('that turns out too long is refused, and the server does not get its end', async () => {
    const { upstream, proxy } = await start({ maxBodyBytes: 200_000 })
    const { address } = await open(upstream, proxy)
    const posting = begin(proxy, address, message(1), 'in chunks')
    const arrived = await upstream.request(1)
    posting.finish()
    expect(statusOf(await posting.client.response())).toBe(413)
    await upstream.until(() => arrived.isClosed())
    expect(arrived.request.isComplete).toBe(false)
    expect([proxy.told.rejected, proxy.inFlight('u')]).toEqual([['body_too_large'], 0])
  })

  it('whose stream ends while it comes is refused, and the server does not get its end', async () => {
    const { upstream, proxy } = await start()
    const { client, address } = await open(upstream, proxy)
    const posting = begin(proxy, address, message(1), 'with a length')
    const arrived = await upstream.request(1)
    client.close()
    expect(statusOf(await posting.client.response())).toBe(404)
    await upstream.until(() => arrived.isClosed())
    expect([arrived.request.isComplete, proxy.inFlight('u')]).toEqual([false, 0])
  })

  it('whose client leaves while it comes is taken back from the server', async () => {
    const { upstream, proxy } = await start()
    const { address } = await open(upstream, proxy)
    const posting = begin(proxy, address, message(1), 'with a length')
    const arrived = await upstream.request(1)
    posting.client.close()
    await upstream.until(() => arrived.isClosed())
    await proxy.until(() => proxy.inFlight('u') === 0)
  })

  it('that the server refuses at its head: its answer passes, and the operation is over', async () => {
    const { upstream, proxy } = await start()
    const { address } = await open(upstream, proxy)
    const posting = begin(proxy, address, message(1), 'with a length')
    const arrived = await upstream.request(1)
    arrived.answer(400, 'no')
    const response = await posting.client.response()
    expect([statusOf(response), textOf(response)]).toEqual([400, 'no'])
    await proxy.until(() => proxy.inFlight('u') === 0)
  })

  it.each(framings)('that is cancelled before its turn is not sent: %s', async (framing) => {
    const { upstream, proxy } = await start({ limits: { ...requestLimits, maxInFlight: 1 } })
    const { server, address } = await open(upstream, proxy)
    const first = await post(upstream, proxy, address, '{"id":1,"method":"ping"}')
    await accept(first.arrived)
    const cancelled = begin(proxy, address, message(2), framing)
    cancelled.finish()
    await queued(proxy, 1)
    const next = begin(proxy, address, message(3), framing)
    next.finish()
    await queued(proxy, 2)
    const cancellation = '{"method":"notifications/cancelled","params":{"requestId":2}}'
    await accept((await post(upstream, proxy, address, cancellation)).arrived)
    server.chunk('data: {"id":1,"result":{}}\n\n')
    expect(statusOf(await cancelled.client.response())).toBe(202)
    expect(textOf(await (await upstream.request(3)).whole())).toBe(message(3))
  })
})

it('measures each request of a batch (MCP 2025-03-26, Basic, "Batching")', async () => {
  const { upstream, proxy } = await start()
  const { server, address } = await open(upstream, proxy)
  const batch = '[{"id":1,"method":"a"},{"method":"notifications/b"},{"id":2,"method":"c"}]'
  const { arrived, response } = await post(upstream, proxy, address, batch)
  arrived.answer(202)
  await response
  server.chunk('data: [{"id":2,"result":{}}]\n\ndata: {"id":1,"error":{"code":5,"message":""}}\n\n')
  await proxy.until(() => proxy.told.operations.length === 4)
  const told = proxy.told.operations.filter(({ side }) => side === 'client')
  expect(told.map(({ method, errorType }) => [method, errorType])).toEqual([
    ['c', undefined],
    ['a', '5'],
  ])
  expect(proxy.inFlight('u')).toBe(0)
})
