import { afterEach, describe, expect, it } from 'vitest'
import { fakeClock } from '../support/fake-clock.ts'
import { type Message, initializeMessage, modernPost, openPost, openSession, post } from '../support/rpc.ts'
import { legacySdkServer, modernSdkServer } from '../support/sdk-servers.ts'
import { type Script, scriptedUpstream } from '../support/scripted-upstream.ts'
import { RawClient, headerOf, rawRequest, textOf } from '../support/raw-http.ts'
import { type SseClient, openSse } from '../support/sse-client.ts'
import { type ProxyOptions, type RunningProxy, type TestUpstream, startProxy, stdioOf } from './fixture.ts'
import { requestLimits } from '../support/settings.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(upstream: TestUpstream, options: Partial<ProxyOptions> = {}): Promise<RunningProxy> {
  const proxy = await startProxy({ upstreams: { u: upstream }, ...options })
  closers.push(() => proxy.close())
  return proxy
}

async function sse(proxy: RunningProxy, headers: Readonly<Record<string, string>> = {}): Promise<SseClient> {
  const client = await openSse(`${proxy.url}/u/sse`, headers)
  closers.push(() => client.close())
  return client
}

async function openedSse(proxy: RunningProxy, headers?: Readonly<Record<string, string>>): Promise<SseClient> {
  const client = await sse(proxy, headers)
  await client.ask(initializeMessage)
  await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
  return client
}

async function legacyServer() {
  const server = await legacySdkServer()
  closers.push(() => server.stop())
  return server
}

async function scripted(script: Script) {
  const upstream = await scriptedUpstream(script)
  closers.push(() => upstream.close())
  return upstream
}

/** Each kind of server that there is, as an upstream. */
const servers: Readonly<Record<string, () => Promise<TestUpstream>>> = {
  'stdio legacy': async () => ({
    script: '../../../node_modules/@modelcontextprotocol/server-everything/dist/index.js',
    args: ['stdio'],
  }),
  'stdio modern': async () => ({ script: '../modern-stdio.ts', args: ['modern'] }),
  'sse legacy': async () => ({ url: (await legacyServer()).sseUrl, transport: 'sse' }),
  'http legacy': async () => ({ url: (await legacyServer()).url }),
  'http modern': async () => {
    const server = await modernSdkServer('reject')
    closers.push(() => server.stop())
    return { url: server.url }
  },
}

function outcome(message: Message | undefined): unknown {
  const error = message?.error as { readonly code?: number } | undefined
  return error ? error.code : message && 'result' in message ? 'result' : undefined
}

/** What each kind of client sends first, and what comes back: the HTTP status, and a result or a JSON-RPC code. */
const clients: Readonly<Record<string, (proxy: RunningProxy) => Promise<readonly unknown[]>>> = {
  'http legacy': async (proxy) => {
    const { status, messages } = await post(`${proxy.url}/u/mcp`, initializeMessage)
    return [status, outcome(messages.at(-1))]
  },
  'http modern': async (proxy) => {
    const { status, messages } = await modernPost(`${proxy.url}/u/mcp`, { id: 1, method: 'server/discover' }).done
    return [status, outcome(messages.at(-1))]
  },
  'sse legacy': async (proxy) => {
    const client = await sse(proxy)
    const answer = await client.ask(initializeMessage)
    return [client.status, outcome(answer)]
  },
}

/** The table of the README, "Which client reaches which server". */
const table: readonly (readonly [client: string, server: string, status: number, outcome: 'result' | number])[] = [
  ['http legacy', 'stdio legacy', 200, 'result'],
  ['http legacy', 'sse legacy', 200, 'result'],
  ['http legacy', 'http legacy', 200, 'result'],
  ['http legacy', 'stdio modern', 400, -32_022],
  ['http legacy', 'http modern', 400, -32_022],
  ['sse legacy', 'stdio legacy', 200, 'result'],
  ['sse legacy', 'sse legacy', 200, 'result'],
  ['sse legacy', 'http legacy', 200, 'result'],
  ['sse legacy', 'stdio modern', 200, -32_022],
  ['sse legacy', 'http modern', 200, -32_022],
  ['http modern', 'stdio modern', 200, 'result'],
  ['http modern', 'http modern', 200, 'result'],
  ['http modern', 'stdio legacy', 404, -32_601],
  ['http modern', 'sse legacy', 404, -32_601],
  ['http modern', 'http legacy', 400, -32_000],
]

describe('every client in front of every server gets the server’s own answer', () => {
  it.each(table)('%s client, %s server: %i and %s', async (client, server, status, answer) => {
    const upstream = await servers[server]?.()
    if (!upstream) throw new Error(server)
    const proxy = await start(upstream)
    expect(await clients[client]?.(proxy)).toEqual([status, answer])
  })
})

const note = '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"é\\u00e9", "n":12345678901234567890}}'

function say(id: number | string, lines: readonly string[], params: object = {}): Message {
  return { jsonrpc: '2.0', id, method: 'tools/call', params: { ...params, say: lines } }
}

describe('HTTP+SSE clients of a stdio server', () => {
  it('get every message on the stream byte for byte, and 202 for what they post (MCP 2024-11-05, HTTP with SSE)', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const client = await openedSse(proxy)
    const before = client.texts.length
    expect((await client.post(say('a', [note, '{"id":$ID,"jsonrpc":"2.0","result":{"n":1e400}}']))).status).toBe(202)
    await client.until(() => client.texts.length === before + 2)
    expect(client.texts.slice(before)).toEqual([note, '{"id":"a","jsonrpc":"2.0","result":{"n":1e400}}'])
    expect(client.endpoint).toMatch(/^\/u\/messages\?session_id=/)
    expect(proxy.told.operations.filter(({ side }) => side === 'server').map(({ method }) => method)).toEqual([
      'initialize',
      'tools/call',
    ])
  })

  it('have a process of their own, which ends with their stream', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const [first, second] = [await openedSse(proxy), await openedSse(proxy)]
    expect(
      stdioOf(proxy, 'u')
        .sessionLines()
        .map(({ opened }) => opened),
    ).toEqual([true, true])
    first.close()
    await proxy.until(() => proxy.told.endedSessions.length === 1)
    expect(proxy.told.endedSessions).toEqual(['stream_closed'])
    expect(stdioOf(proxy, 'u').sessionLines()).toHaveLength(1)
    expect(await second.ask({ jsonrpc: '2.0', id: 2, method: 'ping' })).toMatchObject({ result: {} })
  })

  it('see their stream end with the process, and an error for each request under way', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const client = await openedSse(proxy)
    await client.post({ jsonrpc: '2.0', id: 7, method: 'die' })
    await client.until(() => client.isEnded())
    expect(JSON.parse(client.texts.at(-1) ?? '')).toMatchObject({
      id: 7,
      error: { data: { reason: 'upstream_exited' } },
    })
    expect((await client.post({ jsonrpc: '2.0', id: 8, method: 'ping' })).status).toBe(404)
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('are told by 502 when the process cannot be started, and by 503 beyond max_sessions', async () => {
    const gone = await start({ script: 'scripted-stdio.mjs' })
    await stdioOf(gone, 'u').stop()
    expect((await sse(gone)).status).toBe(503)
    const full = await start({ script: 'scripted-stdio.mjs' }, { maxSessions: 1 })
    await openedSse(full)
    expect((await sse(full)).status).toBe(503)
  })

  it('that are too old get 404 for new requests and the last answers on the stream, which then ends', async () => {
    const clock = fakeClock()
    const proxy = await start({ script: 'scripted-stdio.mjs' }, { maxSessionMs: 30_000, clock })
    const client = await openedSse(proxy)
    expect((await client.post({ jsonrpc: '2.0', id: 7, method: 'silent' })).status).toBe(202)
    await clock.advance(30_000)
    const refused = await client.post({ jsonrpc: '2.0', id: 8, method: 'ping' })
    expect([refused.status, refused.messages[0]]).toMatchObject([
      404,
      { error: { data: { reason: 'session_not_found' } } },
    ])
    expect(client.isEnded()).toBe(false)
    const say = ['{"jsonrpc":"2.0","id":7,"result":{}}']
    expect((await client.post({ jsonrpc: '2.0', method: 'tell', params: { say } })).status).toBe(202)
    await client.until(() => client.texts.includes(say[0] ?? ''))
    await clock.advance(1000)
    await client.until(() => client.isEnded())
    expect(proxy.told.endedSessions).toEqual(['too_old'])
  })

  it('cannot post into the session of another transport or upstream', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const session = await openSession(`${proxy.url}/u/mcp`)
    const id = session['mcp-session-id'] ?? ''
    expect((await post(`${proxy.url}/u/messages?session_id=${id}`, initializeMessage)).status).toBe(404)
    expect((await post(`${proxy.url}/u/messages`, initializeMessage)).status).toBe(400)
  })
})

const json = ['Content-Type', 'application/json']
const opened = '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}'

/** A Streamable HTTP server that opens a session, offers a GET stream and otherwise does what `more` says. */
function sessionServer(more: Script): Script {
  return async (arrived) => {
    const { request } = arrived
    const text = request.startLine.startsWith('POST') ? textOf(await arrived.whole()) : ''
    if (text.includes('"initialize"')) return arrived.answer(200, opened, [...json, 'Mcp-Session-Id', 's1'])
    if (text.includes('notifications/')) return arrived.answer(202, '')
    return more(arrived)
  }
}

describe('HTTP+SSE clients of a Streamable HTTP server', () => {
  it('hear what the server says on its GET stream, across a cut, from the last event on', async () => {
    const streams: (string | undefined)[] = []
    const upstream = await scripted(
      sessionServer((arrived) => {
        if (!arrived.request.startLine.startsWith('GET')) return arrived.answer(200, '')
        streams.push(headerOf(arrived.request, 'last-event-id'))
        arrived.openStream()
        arrived.chunk(`id: e${streams.length}\ndata: {"jsonrpc":"2.0","method":"n${streams.length}"}\n\n`)
        if (streams.length === 1) arrived.endChunks()
      }),
    )
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp` })
    const client = await openedSse(proxy, { authorization: 'Bearer mine', 'x-key': 'k' })
    await client.until(() => client.texts.length === 3)
    expect(client.texts.slice(1)).toEqual(['{"jsonrpc":"2.0","method":"n1"}', '{"jsonrpc":"2.0","method":"n2"}'])
    expect(streams).toEqual([undefined, 'e1'])
    const gets = upstream.arrived.filter(({ request }) => request.startLine.startsWith('GET'))
    for (const { request } of gets) {
      expect(
        ['mcp-session-id', 'mcp-protocol-version', 'authorization', 'x-key'].map((n) => headerOf(request, n)),
      ).toEqual(['s1', '2025-06-18', 'Bearer mine', 'k'])
    }
  })

  it('get an answer whose stream was cut, fetched behind its last event (MCP 2025-11-25, Resumability)', async () => {
    const upstream = await scripted(
      sessionServer((arrived) => {
        const { startLine } = arrived.request
        const resumed = headerOf(arrived.request, 'last-event-id')
        if (startLine.startsWith('GET') && resumed === undefined) return arrived.answer(405, '')
        if (startLine.startsWith('DELETE')) return arrived.answer(200, '')
        arrived.openStream()
        if (resumed === undefined) arrived.chunk('id: p1\ndata: \n\n')
        else arrived.chunk('data: {"jsonrpc":"2.0","id":5,"result":{"rest":true}}\n\n')
        arrived.endChunks()
      }),
    )
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp` })
    const client = await openedSse(proxy)
    expect(await client.ask({ jsonrpc: '2.0', id: 5, method: 'tools/list' })).toMatchObject({ result: { rest: true } })
    const resumed = upstream.arrived.filter(({ request }) => headerOf(request, 'last-event-id') !== undefined)
    expect(resumed.map(({ request }) => headerOf(request, 'last-event-id'))).toEqual(['p1'])
  })

  it('are asked for credentials by the answer to their initialize POST', async () => {
    const challenge = 'Bearer resource_metadata="http://auth.example/x"'
    const upstream = await scripted((arrived) => arrived.answer(401, '', ['WWW-Authenticate', challenge]))
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp` })
    const client = await sse(proxy)
    const { status, headers } = await client.post(initializeMessage, { authorization: 'Bearer old' })
    expect([status, headers['www-authenticate'], client.texts]).toEqual([401, challenge, []])
    expect(headerOf((await upstream.request(0)).request, 'authorization')).toBe('Bearer old')
  })

  it('end their session at the server by DELETE when their stream ends (MCP 2025-11-25, Session Management)', async () => {
    const server = await legacyServer()
    const proxy = await start({ url: server.url })
    const client = await openedSse(proxy)
    expect(server.sessions()).toBe(1)
    client.close()
    await proxy.until(() => proxy.told.endedSessions.length === 1)
    await expect.poll(() => server.sessions(), { timeout: 4000 }).toBe(0)
  })

  it('close the request at the server that they cancel: no answer will come (MCP 2025-11-25, Cancellation)', async () => {
    const upstream = await scripted(
      sessionServer((arrived) => {
        if (arrived.request.startLine.startsWith('POST')) arrived.openStream()
        else arrived.answer(405, '')
      }),
    )
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp` })
    const client = await openedSse(proxy)
    await client.post({ jsonrpc: '2.0', id: 'x', method: 'tools/call', params: { name: 'slow' } })
    const posted = await upstream.until(() =>
      upstream.arrived.find(({ request }) => textOf(request).includes('"slow"')),
    )
    await client.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'x' } })
    await upstream.until(() => posted.isClosed())
    expect(upstream.arrived.some(({ request }) => textOf(request).includes('notifications/cancelled'))).toBe(true)
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('see their stream end when the server no longer knows the session', async () => {
    const upstream = await scripted(
      sessionServer((arrived) => arrived.answer(arrived.request.startLine.startsWith('GET') ? 405 : 404, '{}', json)),
    )
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp` })
    const client = await openedSse(proxy)
    await client.post({ jsonrpc: '2.0', id: 2, method: 'ping' })
    await client.until(() => client.isEnded())
    expect(JSON.parse(client.texts.at(-1) ?? '')).toMatchObject({
      id: 2,
      error: { data: { reason: 'upstream_session_gone' } },
    })
  })
})

describe('a message of the client that nothing answers, at a server that', () => {
  const answer = '{"jsonrpc":"2.0","id":"s-1","result":{"n":1}}'

  /** An HTTP+SSE client that has posted an answer, and where the server got it. */
  async function told(clock = fakeClock()) {
    const upstream = await scripted(
      sessionServer((arrived) => {
        if (arrived.request.startLine.startsWith('GET')) arrived.answer(405, '')
      }),
    )
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp`, limits: requestLimits }, { clock })
    const client = await openedSse(proxy)
    const post = client.post(answer)
    const arrived = await upstream.until(() =>
      upstream.arrived.find(({ request }) => textOf(request).includes('"s-1"')),
    )
    await arrived.whole()
    return { clock, proxy, client, post, arrived }
  }
  const reasonOf = ({ status, body }: Awaited<ReturnType<SseClient['post']>>) => [
    status,
    (JSON.parse(body) as { error: { data: { reason: string } } }).error.data.reason,
  ]

  it('dies before it has taken it: 502, and the session goes on', async () => {
    const { client, post, arrived } = await told()
    arrived.cut('reset')
    expect(reasonOf(await post)).toEqual([502, 'upstream_reset'])
    expect(client.isEnded()).toBe(false)
  })

  it('stalls: 504 when its time is up', async () => {
    const { clock, post, arrived } = await told()
    await clock.advance(61_000)
    expect(reasonOf(await post)).toEqual([504, 'upstream_timeout'])
    expect(arrived.request.isComplete).toBe(true)
  })

  it('breaks off within the head of its answer: 502', async () => {
    const { post, arrived } = await told()
    arrived.write('HTTP/1.1 202 Accepted\r\nContent-Le')
    arrived.cut()
    expect(reasonOf(await post)).toEqual([502, 'upstream_reset'])
  })

  it('breaks off behind it: 202, since it had taken the message', async () => {
    const { post, arrived } = await told()
    arrived.write('HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nab')
    arrived.cut()
    expect((await post).status).toBe(202)
  })

  it.each([
    ['exited', 502, 'upstream_exited'],
    ['removed', 404, 'session_not_found'],
    ['shutdown', 503, 'shutting_down'],
  ] as const)('is let go meanwhile (%s): %i, like its session’s requests', async (end, status, reason) => {
    const { proxy, post, client } = await told()
    proxy.directory.endAll('u', end)
    expect(reasonOf(await post)).toEqual([status, reason])
    await client.until(() => client.isEnded())
  })
})

describe('Streamable HTTP clients of an HTTP+SSE server', () => {
  it('have a stream each, which ends with DELETE', async () => {
    const server = await legacyServer()
    const proxy = await start({ url: server.sseUrl, transport: 'sse' })
    const url = `${proxy.url}/u/mcp`
    const [first, second] = [await openSession(url), await openSession(url)]
    expect(server.streams()).toBe(2)
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'echo', arguments: { it: 'é' } } }
    expect((await post(url, call, second)).messages).toMatchObject([{ id: 1, result: { content: [{ text: 'é' }] } }])
    expect((await fetch(url, { method: 'DELETE', headers: first })).status).toBe(200)
    await expect.poll(() => server.streams(), { timeout: 4000 }).toBe(1)
    expect((await post(url, call, first)).status).toBe(404)
  })

  it('get an error for each request under way when the stream breaks, and 404 afterwards', async () => {
    const server = await legacyServer()
    const proxy = await start({ url: server.sseUrl, transport: 'sse' })
    const url = `${proxy.url}/u/mcp`
    const headers = await openSession(url)
    server.cutStreams()
    await proxy.until(() => proxy.told.endedSessions.length === 1)
    expect((await post(url, { jsonrpc: '2.0', id: 1, method: 'ping' }, headers)).status).toBe(404)
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('are asked for credentials as the server asks for them: its 401 with WWW-Authenticate', async () => {
    const challenge = 'Bearer resource_metadata="http://auth.example/x"'
    const upstream = await scripted((arrived) => arrived.answer(401, '', ['WWW-Authenticate', challenge]))
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/sse`, transport: 'sse' })
    const legacy = await post(`${proxy.url}/u/mcp`, initializeMessage, { authorization: 'Bearer old' })
    const modern = await modernPost(`${proxy.url}/u/mcp`, { id: 1, method: 'tools/list' }).done
    for (const answer of [legacy, modern]) {
      expect([answer.status, answer.headers['www-authenticate']]).toEqual([401, challenge])
    }
    expect(headerOf((await upstream.request(0)).request, 'authorization')).toBe('Bearer old')
  })

  it('of the modern era leave no stream behind', async () => {
    const server = await legacyServer()
    const proxy = await start({ url: server.sseUrl, transport: 'sse' })
    const ids = [1, 2, 3]
    const answers = await Promise.all(
      ids.map((id) => modernPost(`${proxy.url}/u/mcp`, { id, method: 'tools/list' }).done),
    )
    expect(answers.map(({ messages }) => [messages[0]?.id, outcome(messages[0])])).toEqual(
      ids.map((id) => [id, 'result']),
    )
    await expect.poll(() => server.streams(), { timeout: 4000 }).toBe(0)
    expect(proxy.inFlight('u')).toBe(0)
  })
})

describe('a batch (MCP 2025-03-26, Basic, "Batching")', () => {
  const batch = [
    { jsonrpc: '2.0', method: 'notifications/x', params: { text: '[{"]' } },
    say(1, ['{"jsonrpc":"2.0","id":$ID,"result":{"n":1}}']),
    say('b', [note, '{"jsonrpc":"2.0","id":$ID,"result":{"n":2}}']),
  ]

  it('of a Streamable HTTP client is answered on one stream, and each request is measured', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const headers = await openSession(`${proxy.url}/u/mcp`)
    const { status, messages } = await post(`${proxy.url}/u/mcp`, batch, headers)
    expect([status, messages.map(({ id }) => id)]).toEqual([200, [1, undefined, 'b']])
    expect(proxy.told.operations.filter(({ method }) => method === 'tools/call')).toHaveLength(4)
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('without a request is a 202', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const headers = await openSession(`${proxy.url}/u/mcp`)
    const answer = await post(`${proxy.url}/u/mcp`, batch.slice(0, 1), headers)
    expect([answer.status, answer.body]).toEqual([202, ''])
  })

  it('may be how the server answers', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const headers = await openSession(`${proxy.url}/u/mcp`)
    const both = `[{"jsonrpc":"2.0","id":1,"result":{}},${note},{"jsonrpc":"2.0","id":2,"result":{}}]`
    const messages = [say(1, []), say(2, [both])]
    expect((await post(`${proxy.url}/u/mcp`, messages, headers)).messages.map(({ id }) => id)).toEqual([
      1,
      undefined,
      2,
    ])
  })

  it('of an HTTP+SSE client is a 202, and the answers come on its stream', async () => {
    const proxy = await start({ url: (await legacyServer()).url })
    const client = await openedSse(proxy)
    const before = client.texts.length
    const pings = [1, 2, 3].map((id) => ({ jsonrpc: '2.0', id, method: 'ping' }))
    expect((await client.post(pings)).status).toBe(202)
    await client.until(() => client.texts.length === before + 3)
  })

  it.each([
    ['empty', '[]'],
    ['of no messages', '[1]'],
    ['with an initialize in it', JSON.stringify([initializeMessage])],
  ])('%s is a 400 with −32700', async (_title, body) => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const headers = await openSession(`${proxy.url}/u/mcp`)
    const { status, messages } = await post(`${proxy.url}/u/mcp`, body, headers)
    expect([status, outcome(messages[0])]).toEqual([400, -32_700])
  })

  it('is given up with its connection only in part: the answers are waited for (MCP 2025-03-26, Transports)', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const headers = await openSession(`${proxy.url}/u/mcp`)
    const open = openPost(`${proxy.url}/u/mcp`, [say(1, [note]), { jsonrpc: '2.0', id: 2, method: 'silent' }], headers)
    await proxy.until(() => proxy.inFlight('u') === 2)
    open.disconnect()
    await proxy.until(() => proxy.inFlight('u') === 0)
    expect((await post(`${proxy.url}/u/mcp`, { jsonrpc: '2.0', id: 3, method: 'ping' }, headers)).status).toBe(200)
  })
})

describe('a client that does not read', () => {
  const lines = 400
  const filler = 'x'.repeat(100_000)
  const event = (n: number) => `data: {"jsonrpc":"2.0","method":"n","params":{"n":${n},"x":"${filler}"}}\n\n`

  it('over HTTP+SSE holds the stdout of its process', async () => {
    const proxy = await start({ script: 'scripted-stdio.mjs' })
    const client = await openedSse(proxy)
    const [line] = stdioOf(proxy, 'u').sessionLines()
    client.pause()
    await client.post({ jsonrpc: '2.0', id: 2, method: 'flood', params: { lines, bytes: filler.length } })
    await expect.poll(() => line?.process.stdout.isPaused(), { interval: 5 }).toBe(true)
    client.resume()
    await client.until(() => client.texts.length === 1 + lines + 1)
    expect(client.texts.at(-1)).toBe('{"jsonrpc":"2.0","id":2,"result":{}}')
  })

  it('over HTTP+SSE holds the streams of its HTTP server, and gets all of them when it reads on', async () => {
    let drained = 0
    const upstream = await scripted(
      sessionServer(async (arrived) => {
        if (!arrived.request.startLine.startsWith('GET')) return arrived.answer(200, '')
        arrived.openStream()
        for (let n = 0; n < lines; n++) {
          arrived.chunk(event(n))
          if (arrived.socket.writableNeedDrain) await new Promise((resolve) => arrived.socket.once('drain', resolve))
          drained = n
        }
      }),
    )
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/mcp` })
    const client = await openedSse(proxy)
    client.pause()
    let before = -1
    // It no longer moves: both sides and what lies between them are full.
    await expect
      .poll(() => [before, (before = drained)].every((n) => n === drained && n > 0), { interval: 300, timeout: 20_000 })
      .toBe(true)
    expect(drained).toBeLessThan(lines - 1)
    client.resume()
    await client.until(() => client.texts.length === 1 + lines)
  })

  it('over Streamable HTTP holds the stream of its HTTP+SSE server', async () => {
    let drained = 0
    const upstream = await scripted(async (arrived) => {
      if (!arrived.request.startLine.startsWith('GET')) {
        const text = textOf(await arrived.whole())
        arrived.answer(202, '')
        if (text.includes('"initialize"')) upstream.arrived[0]?.chunk(`data: ${opened}\n\n`)
        if (!text.includes('"flood"')) return
        for (let n = 0; n < lines; n++) {
          upstream.arrived[0]?.chunk(event(n))
          const socket = upstream.arrived[0]?.socket
          if (socket?.writableNeedDrain) await new Promise((resolve) => socket.once('drain', resolve))
          drained = n
        }
        upstream.arrived[0]?.chunk('data: {"jsonrpc":"2.0","id":9,"result":{}}\n\n')
        return
      }
      arrived.openStream()
      arrived.chunk('event: endpoint\ndata: /post\n\n')
    })
    const proxy = await start({ url: `http://127.0.0.1:${upstream.port}/sse`, transport: 'sse' })
    const headers = await openSession(`${proxy.url}/u/mcp`)
    const client = new RawClient(proxy.port)
    closers.push(() => client.close())
    client.socket.pause()
    const fields = ['Content-Type', 'application/json', 'Mcp-Session-Id', headers['mcp-session-id'] ?? '']
    client.send(rawRequest({ path: '/u/mcp', headers: fields, body: '{"jsonrpc":"2.0","id":9,"method":"flood"}' }))
    let before = -1
    await expect
      .poll(() => [before, (before = drained)].every((n) => n === drained && n > 0), { interval: 300, timeout: 20_000 })
      .toBe(true)
    expect(drained).toBeLessThan(lines - 1)
    client.socket.resume()
    const response = await client.response()
    expect(textOf(response).match(/"method":"n"/g)).toHaveLength(lines)
    expect(textOf(response)).toContain('"id":9')
  })
})
