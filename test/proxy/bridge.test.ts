import { afterEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { RawClient, type RawMessage, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { type ProxyOptions, type RunningProxy, startProxy, stdioOf } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(options: Partial<ProxyOptions> = {}, args: readonly string[] = []): Promise<RunningProxy> {
  const proxy = await startProxy({ upstreams: { p: { script: 'scripted-stdio.mjs', args } }, ...options })
  closers.push(() => proxy.close())
  return proxy
}

const path = '/p/mcp'
const json = ['Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream']
const initialize = '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'

function connectTo(proxy: RunningProxy): RawClient {
  const client = new RawClient(proxy.port)
  closers.push(() => Promise.resolve(client.close()))
  return client
}

async function openSession(proxy: RunningProxy): Promise<string[]> {
  const response = await rawFetch(proxy.port, { path, headers: json, body: initialize })
  expect([statusOf(response), headerOf(response, 'content-type')]).toEqual([200, 'application/json'])
  return ['Mcp-Session-Id', headerOf(response, 'mcp-session-id') ?? 'none', ...json]
}

function post(proxy: RunningProxy, headers: readonly string[], body: string): Promise<RawMessage> {
  return rawFetch(proxy.port, { path, headers, body })
}

/** A request that has the server write the given raw lines. */
function say(id: string, lines: readonly string[], params = ''): string {
  return `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{${params}"say":${JSON.stringify(lines)}}}`
}

function told(...lines: readonly string[]): string {
  return `{"jsonrpc":"2.0","method":"tell","params":{"say":${JSON.stringify(lines)}}}`
}

async function received(proxy: RunningProxy, session: readonly string[]): Promise<string[]> {
  const response = await post(proxy, session, '{"jsonrpc":"2.0","id":"r","method":"received"}')
  return (JSON.parse(textOf(response)) as { result: { received: string[] } }).result.received
}

/** The data of each event of a stream. */
function eventsOf(response: RawMessage): string[] {
  return [...textOf(response).matchAll(/^event: message\ndata: (.*)\n\n/gm)].map(([, data = '']) => data)
}

function reasonOf(response: RawMessage): unknown {
  return (JSON.parse(textOf(response)) as { error?: { data?: { reason?: unknown } } }).error?.data?.reason
}

const ok = '{"jsonrpc":"2.0","id":$ID,"result":{}}'
const note = '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"hi"}}'

describe('one answer', () => {
  it('is plain JSON when it is the first thing that the server says, byte for byte', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const odd = '{"result":{"n":1e400,"big":12345678901234567890,"é":"\\u00e9"},"x":[1 , 2],"id":$ID}'
    const response = await post(proxy, session, say('"a"', [odd]))
    expect([statusOf(response), headerOf(response, 'content-type')]).toEqual([200, 'application/json'])
    expect(textOf(response)).toBe(odd.replace('$ID', '"a"'))
    expect(headerOf(response, 'mcp-session-id')).toBeUndefined()
  })

  it('comes at the end of an event stream when something else comes first (MCP 2025-11-25, Transports)', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const response = await post(proxy, session, say('1', [note, ok]))
    expect([statusOf(response), headerOf(response, 'content-type')]).toEqual([200, 'text/event-stream'])
    expect(eventsOf(response)).toEqual([note, ok.replace('$ID', '1')])
    expect(response.isComplete).toBe(true)
  })

  it('an error of the server is one too, with status 200', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const error = '{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"no"}}'
    const response = await post(proxy, session, say('1', [error]))
    expect([statusOf(response), textOf(response)]).toEqual([200, error.replace('$ID', '1')])
  })

  it('a pretty-printed message goes over as one line, otherwise unchanged (MCP, Transports, stdio)', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    await post(proxy, session, '{\r\n  "jsonrpc": "2.0",\n\t"method": "note\\n",  "x": 1e400\n}\n')
    expect((await received(proxy, session)).at(-2)).toBe('{    "jsonrpc": "2.0", \t"method": "note\\n",  "x": 1e400 } ')
  })

  it('a byte order mark in front of a body does not come before the line', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    expect(textOf(await post(proxy, session, `\uFEFF${body}`))).toBe(ok.replace('$ID', '1'))
    expect((await received(proxy, session)).at(-2)).toBe(body)
  })

  it('twice the same id at once: the server can tell them apart, so each gets its own', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const clients = [connectTo(proxy), connectTo(proxy)]
    clients[0]?.send(rawRequest({ path, headers: session, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    clients[1]?.send(rawRequest({ path, headers: session, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 2)
    await post(proxy, session, told('{"id":"vitals-again-1","result":{"n":2}}', '{"id":1,"result":{"n":1}}'))
    const answers = await Promise.all(clients.map(async (client) => textOf(await client.response())))
    expect(answers).toEqual(['{"id":1,"result":{"n":1}}', '{"id":1,"result":{"n":2}}'])
    expect(proxy.inFlight('p')).toBe(0)
  })

  it('that nobody asked for is dropped and counted, and so is what is no message', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    await post(proxy, session, told('{"id":99,"result":{}}', 'npm notice: hello'))
    await received(proxy, session)
    expect(proxy.told.dropped).toEqual(['no_request', 'noise'])
  })
})

describe('what the server says unasked', () => {
  const progress = (token: string) =>
    `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":${token},"progress":1}}`

  it('progress goes to the request that asked for it, though others are under way and a GET stream is open', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const [first, second, stream] = [connectTo(proxy), connectTo(proxy), connectTo(proxy)]
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    const streamed = await stream.head()
    first.send(rawRequest({ path, headers: session, body: say('1', [], '"_meta":{"progressToken":"t1"},') }))
    second.send(rawRequest({ path, headers: session, body: say('2', [], '"_meta":{"progressToken":2},') }))
    await proxy.until(() => proxy.inFlight('p') === 2)
    await post(proxy, session, told(progress('2'), progress('"t1"'), ok.replace('$ID', '1'), ok.replace('$ID', '2')))
    expect(eventsOf(await first.response())).toEqual([progress('"t1"'), ok.replace('$ID', '1')])
    expect(eventsOf(await second.response())).toEqual([progress('2'), ok.replace('$ID', '2')])
    expect(eventsOf(streamed)).toEqual([])
  })

  it('a request of the server goes to the open POST, and the client’s answer returns to the process', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const ask = '{"jsonrpc":"2.0","id":"s-1","method":"sampling/createMessage","params":{"x":1e400}}'
    const client = connectTo(proxy)
    client.send(rawRequest({ path, headers: session, body: say('1', [ask]) }))
    const response = await client.head()
    await client.until(() => eventsOf(response).length === 1)
    expect(eventsOf(response)).toEqual([ask])
    const reply = await post(proxy, session, '{"jsonrpc":"2.0","id":"s-1","result":{"model":"m","y":1e400}}')
    expect([statusOf(reply), textOf(reply)]).toEqual([202, ''])
    expect((await received(proxy, session)).at(-2)).toBe(
      '{"jsonrpc":"2.0","id":"s-1","result":{"model":"m","y":1e400}}',
    )
    await post(proxy, session, told(ok.replace('$ID', '1')))
    expect((await client.response()).isComplete).toBe(true)
  })

  it('goes to the GET stream while no request is under way', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const stream = connectTo(proxy)
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    const streamed = await stream.head()
    expect([statusOf(streamed), headerOf(streamed, 'content-type')]).toEqual([200, 'text/event-stream'])
    await post(proxy, session, told(note))
    await stream.until(() => eventsOf(streamed).length === 1)
    expect(eventsOf(streamed)).toEqual([note])
  })

  it('waits for a GET stream, up to a hundred messages', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const lines = Array.from({ length: 103 }, (_, n) => `{"method":"n","params":{"n":${n}}}`)
    await post(proxy, session, told(...lines))
    await proxy.until(() => proxy.told.dropped.length === 3)
    expect(proxy.told.dropped).toEqual(['no_stream', 'no_stream', 'no_stream'])
    const stream = connectTo(proxy)
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    const streamed = await stream.head()
    await stream.until(() => eventsOf(streamed).length === 100)
    expect(eventsOf(streamed)).toEqual(lines.slice(0, 100))
  })

  it('what waits has a limit in bytes, too', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const big = `{"method":"n","params":{"x":"${'x'.repeat(1_500_000)}"}}`
    await post(proxy, session, told(big))
    await post(proxy, session, told(big))
    await post(proxy, session, told(big))
    await proxy.until(() => proxy.told.dropped.length === 1)
    expect(proxy.told.dropped).toEqual(['no_stream'])
  })

  it('a new GET stream takes the place of the older one, which ends', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const [older, newer] = [connectTo(proxy), connectTo(proxy)]
    older.send(rawRequest({ method: 'GET', path, headers: session }))
    await older.head()
    newer.send(rawRequest({ method: 'GET', path, headers: session }))
    const streamed = await newer.head()
    expect((await older.response()).isComplete).toBe(true)
    await post(proxy, session, told(note))
    await newer.until(() => eventsOf(streamed).length === 1)
    expect([...proxy.directory.all()].map(({ openStreams }) => openStreams)).toEqual([1])
  })
})

describe('sessions', () => {
  it('each has a process of its own', async () => {
    const proxy = await start()
    const sessions = await Promise.all([openSession(proxy), openSession(proxy)])
    expect(stdioOf(proxy, 'p').sessionLines().length).toBe(2)
    for (const session of sessions) expect((await received(proxy, session)).length).toBe(2)
    expect([...proxy.directory.all()].map(({ protocolVersion }) => protocolVersion)).toEqual([
      '2025-06-18',
      '2025-06-18',
    ])
  })

  it('DELETE ends the process; the id is unknown from then on (MCP 2025-11-25, Transports, Session Management)', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const [line] = stdioOf(proxy, 'p').sessionLines()
    const deleted = await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    expect(statusOf(deleted)).toBe(200)
    await line?.process.exited
    expect(proxy.told.endedSessions).toEqual(['deleted'])
    for (const method of ['POST', 'GET', 'DELETE']) {
      const response = await rawFetch(proxy.port, {
        method,
        path,
        headers: session,
        ...(method === 'POST' && { body: say('1', []) }),
      })
      expect([statusOf(response), reasonOf(response)]).toEqual([404, 'session_not_found'])
    }
  })

  it('DELETE ends what is under way with one error each, and does not blame the server', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const [plain, streaming] = [connectTo(proxy), connectTo(proxy)]
    streaming.send(rawRequest({ path, headers: session, body: say('2', [note]) }))
    await streaming.head()
    plain.send(rawRequest({ path, headers: session, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 2)
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    const refused = await plain.response()
    expect([statusOf(refused), JSON.parse(textOf(refused))]).toMatchObject([
      404,
      { id: 1, error: { data: { delivered: true } } },
    ])
    const streamed = await streaming.response()
    expect(JSON.parse(eventsOf(streamed)[1] ?? '')).toMatchObject({
      id: 2,
      error: { data: { reason: 'session_not_found' } },
    })
    expect(streamed.isComplete).toBe(true)
    expect(proxy.inFlight('p')).toBe(0)
    expect(proxy.told.failed.filter(({ code }) => code.startsWith('upstream_'))).toEqual([])
  })

  it('the last words of a process whose session has ended go nowhere', async () => {
    const proxy = await start({}, ['--last-words'])
    const session = await openSession(proxy)
    const stream = connectTo(proxy)
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    const streamed = await stream.head()
    const [line] = stdioOf(proxy, 'p').sessionLines()
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    await line?.process.exited
    expect(eventsOf(await stream.response())).toEqual([])
    expect(streamed.isComplete).toBe(true)
    // Still here: writing to an ended response would have been an uncaught error.
    await openSession(proxy)
  })

  it.each([
    ['POST', '{"jsonrpc":"2.0","id":5,"method":"tools/list"}', 5],
    ['GET', undefined, null],
    ['DELETE', undefined, null],
  ])('%s without Mcp-Session-Id is a 400', async (method, body, id) => {
    const proxy = await start()
    const response = await rawFetch(proxy.port, { method, path, headers: json, body })
    expect([statusOf(response), reasonOf(response)]).toEqual([400, 'session_missing'])
    expect((JSON.parse(textOf(response)) as { id: unknown }).id).toBe(id)
  })

  it('an unknown Mcp-Session-Id is a 404, even with initialize', async () => {
    const proxy = await start()
    for (const body of [initialize, say('1', [])]) {
      const response = await post(proxy, ['Mcp-Session-Id', 'unknown', ...json], body)
      expect([statusOf(response), reasonOf(response)]).toEqual([404, 'session_not_found'])
    }
  })

  it('the session of another upstream is unknown', async () => {
    const script = 'scripted-stdio.mjs'
    const proxy = await start({ upstreams: { p: { script }, q: { script } } })
    const session = await openSession(proxy)
    const response = await rawFetch(proxy.port, { path: '/q/mcp', headers: session, body: say('1', []) })
    expect(statusOf(response)).toBe(404)
  })

  it('an initialize that the server refuses leaves no session and no process', async () => {
    const proxy = await start()
    const refused = initialize.replace('"params":{', '"params":{"refuse":true,')
    const response = await post(proxy, json, refused)
    expect([statusOf(response), JSON.parse(textOf(response))]).toMatchObject([200, { id: 0, error: { code: -32602 } }])
    expect(headerOf(response, 'mcp-session-id')).toBeUndefined()
    expect([...proxy.directory.all()]).toEqual([])
    expect(stdioOf(proxy, 'p').sessionLines()).toEqual([])
  })

  it('a second initialize inside a session is the server’s to judge, and ends nothing', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const refused = await post(proxy, session, initialize.replace('"params":{', '"params":{"refuse":true,'))
    expect(statusOf(refused)).toBe(200)
    const leaving = connectTo(proxy)
    leaving.send(rawRequest({ path, headers: session, body: initialize.replace('"params":{', '"params":{"say":[],') }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    leaving.close()
    await proxy.until(() => proxy.inFlight('p') === 0)
    expect(proxy.told.endedSessions).toEqual([])
    expect(statusOf(await post(proxy, session, say('1', [ok])))).toBe(200)
  })

  it('a client that leaves before its initialize is answered leaves no process', async () => {
    const proxy = await start({}, ['--mute'])
    const client = connectTo(proxy)
    client.send(rawRequest({ path, headers: json, body: initialize }))
    await eventually(() => stdioOf(proxy, 'p').sessionLines().length === 1, { what: 'a process' })
    const [line] = stdioOf(proxy, 'p').sessionLines()
    client.close()
    await line?.process.exited
    expect(stdioOf(proxy, 'p').sessionLines()).toEqual([])
    expect(proxy.inFlight('p')).toBe(0)
    expect(proxy.told.operations.map(({ errorType }) => errorType)).toEqual(['cancelled', 'cancelled'])
  })

  it('beyond max_sessions a 503 with Retry-After and the id; all up to it open at once', async () => {
    const proxy = await start({ maxSessions: 3 })
    await Promise.all([openSession(proxy), openSession(proxy), openSession(proxy)])
    const response = await post(proxy, json, initialize)
    expect([statusOf(response), headerOf(response, 'retry-after'), reasonOf(response)]).toEqual([
      503,
      '1',
      'too_many_sessions',
    ])
    expect((JSON.parse(textOf(response)) as { id: unknown }).id).toBe(0)
    expect(proxy.told.rejected).toEqual(['too_many_sessions'])
  })

  it('beyond the max_sessions of a server a 503, while others are to be had', async () => {
    const script = 'scripted-stdio.mjs'
    const proxy = await start({ upstreams: { p: { script }, q: { script } }, maxSessionsOf: { p: 1 } })
    await openSession(proxy)
    const refused = await post(proxy, json, initialize)
    expect([statusOf(refused), headerOf(refused, 'retry-after'), reasonOf(refused)]).toEqual([
      503,
      '1',
      'too_many_upstream_sessions',
    ])
    const other = await rawFetch(proxy.port, { path: '/q/mcp', headers: json, body: initialize })
    expect(statusOf(other)).toBe(200)
    expect(proxy.told.rejected).toEqual(['too_many_upstream_sessions'])
  })

  it('beyond max_sessions_per_client a 503, until one of them ends', async () => {
    const proxy = await start({ maxSessionsPerClient: 1 })
    const session = await openSession(proxy)
    const refused = await post(proxy, json, initialize)
    expect([statusOf(refused), headerOf(refused, 'retry-after'), reasonOf(refused)]).toEqual([
      503,
      '1',
      'too_many_client_sessions',
    ])
    expect(proxy.told.rejected).toEqual(['too_many_client_sessions'])
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    await openSession(proxy)
  })

  it('one that is idle for too long ends by itself, which makes room', async () => {
    const clock = fakeClock()
    const proxy = await start({ maxSessions: 1, idleLimitMs: 300_000, clock })
    const session = await openSession(proxy)
    await clock.advance(299_999)
    expect(proxy.told.endedSessions).toEqual([])
    await clock.advance(1)
    expect(proxy.told.endedSessions).toEqual(['expired'])
    expect(statusOf(await post(proxy, session, say('1', [ok])))).toBe(404)
    await openSession(proxy)
  })

  it('one that is too old begins nothing, finishes what is under way, and ends: the client initializes again', async () => {
    const clock = fakeClock()
    const proxy = await start({ maxSessionMs: 3_600_000, clock })
    const session = await openSession(proxy)
    const [line] = stdioOf(proxy, 'p').sessionLines()
    const [client, stream] = [connectTo(proxy), connectTo(proxy)]
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    await stream.head()
    await clock.advance(3_590_000)
    client.send(rawRequest({ path, headers: session, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    await clock.advance(10_000)
    await client.head()
    for (const body of [say('2', [ok]), `[${say('3', [ok])},${note}]`]) {
      const refused = await post(proxy, session, body)
      expect([statusOf(refused), reasonOf(refused)]).toEqual([404, 'session_not_found'])
    }
    expect(proxy.told.endedSessions).toEqual([])
    // What the request under way may need still goes in: answers to the server, and news of the client.
    expect(statusOf(await post(proxy, session, told(ok.replace('$ID', '1'))))).toBe(202)
    const response = await client.response()
    expect([statusOf(response), eventsOf(response)]).toEqual([200, [ok.replace('$ID', '1')]])
    await clock.advance(1000)
    expect(proxy.told.endedSessions).toEqual(['too_old'])
    expect((await stream.response()).isComplete).toBe(true)
    await line?.process.exited
    await openSession(proxy)
  })

  it.each(['HEAD', 'OPTIONS', 'PUT', 'PATCH'])('%s is a 405 that says what is allowed', async (method) => {
    const proxy = await start()
    const response = await rawFetch(proxy.port, { method, path })
    expect([statusOf(response), headerOf(response, 'allow')]).toEqual([405, 'GET, POST, DELETE'])
  })

  it.each(['GET', 'DELETE'])('%s of a modern client is a 405 (MCP 2026-07-28, Transports)', async (method) => {
    const proxy = await start()
    const response = await rawFetch(proxy.port, { method, path, headers: ['MCP-Protocol-Version', '2026-07-28'] })
    expect([statusOf(response), headerOf(response, 'allow')]).toEqual([405, 'POST'])
  })
})

describe('a spare process', () => {
  const upstreams = { p: { script: 'scripted-stdio.mjs', spareProcesses: 1 } }

  const spareOf = (proxy: RunningProxy) =>
    eventually(() => stdioOf(proxy, 'p').spareProcesses()[0], { what: 'a spare process runs' })

  it('becomes the process of the next session, as new, and is replaced', async () => {
    const proxy = await start({ upstreams })
    const spare = await spareOf(proxy)
    const session = await openSession(proxy)
    const lines = stdioOf(proxy, 'p').sessionLines()
    expect(lines.map(({ process }) => process.pid)).toEqual([spare.pid])
    expect(await received(proxy, session)).toEqual([initialize, '{"jsonrpc":"2.0","id":"r","method":"received"}'])
    expect((await spareOf(proxy)).pid).not.toBe(spare.pid)
  })

  it('that was killed costs its session nothing: another is started', async () => {
    const proxy = await start({ upstreams })
    const spare = await spareOf(proxy)
    spare.kill('SIGKILL')
    await spare.exited
    const session = await openSession(proxy)
    expect(statusOf(await post(proxy, session, say('1', [ok])))).toBe(200)
  })
})

describe('the revision of a request in a session (MCP 2025-06-18, Transports)', () => {
  it.each(['POST', 'GET', 'DELETE'])(
    'that no session can have is a 400 to %s, and the session goes on',
    async (method) => {
      const proxy = await start()
      const session = await openSession(proxy)
      const headers = [...session, 'MCP-Protocol-Version', '1999-01-01']
      const body = method === 'POST' ? say('1', [ok]) : undefined
      const refused = await rawFetch(proxy.port, { method, path, headers, body })
      expect([statusOf(refused), JSON.parse(textOf(refused))]).toMatchObject([
        400,
        { error: { code: -32000, message: expect.stringContaining('Unsupported protocol version: 1999-01-01 (') } },
      ])
      expect(proxy.told.rejected).toEqual(['malformed_request'])
      const asked = await post(proxy, [...session, 'MCP-Protocol-Version', '2025-11-25'], say('2', [ok]))
      expect(statusOf(asked)).toBe(200)
    },
  )
})

describe('what is no message', () => {
  it.each([
    ['no JSON', 'hello'],
    ['JSON cut short', '{"jsonrpc":"2.0","id":1'],
    ['no JSON-RPC', '{"a":1}'],
    ['nothing', ''],
    ['a request whose id is null (MCP 2025-11-25, Basic, Requests)', '{"jsonrpc":"2.0","id":null,"method":"ping"}'],
  ])('%s is a 400 with −32700', async (_title, body) => {
    const proxy = await start()
    const response = await post(proxy, json, body)
    expect([statusOf(response), JSON.parse(textOf(response))]).toMatchObject([
      400,
      { id: null, error: { code: -32700 } },
    ])
    expect(proxy.told.rejected).toEqual(['invalid_message'])
  })

  it('a body above the limit is a 413', async () => {
    const proxy = await start({ maxBodyBytes: 1000 })
    const length = await post(proxy, json, 'x'.repeat(1001))
    expect([statusOf(length), proxy.told.rejected]).toEqual([413, ['body_too_large']])
    const client = connectTo(proxy)
    client.send(rawRequest({ path, headers: ['Transfer-Encoding', 'chunked'] }))
    client.send(`3e9\r\n${'x'.repeat(1001)}\r\n`)
    expect(statusOf(await client.head())).toBe(413)
    expect(proxy.told.rejected).toEqual(['body_too_large', 'body_too_large'])
  })
})

describe('when one side goes', () => {
  it('a client that leaves cancels nothing: the answer still ends the operation (MCP 2025-11-25, Transports)', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const client = connectTo(proxy)
    client.send(rawRequest({ path, headers: session, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    const [open] = [...proxy.directory.all()]
    expect(open?.pending).toBe(1)
    client.close()
    // It no longer keeps the session, or a shutdown, waiting.
    await proxy.until(() => proxy.inFlight('p') === 0)
    expect(open?.pending).toBe(0)
    await post(proxy, session, told(ok.replace('$ID', '1')))
    await proxy.until(() => proxy.told.operations.length === 4)
    expect(proxy.told.dropped).toEqual(['client_gone'])
    expect(proxy.told.operations.at(-1)?.errorType).toBeUndefined()
    expect((await received(proxy, session)).some((line) => line.includes('notifications/cancelled'))).toBe(false)
    expect([open?.pending, proxy.inFlight('p')]).toEqual([0, 0])
  })

  for (const process of ['per_session', 'shared'] as const) {
    it(`an id that its client uses again gets its own answers, and the late one nobody (process: ${process})`, async () => {
      const proxy = await start({ upstreams: { p: { script: 'scripted-stdio.mjs', process } } })
      const session = await openSession(proxy)
      const left = connectTo(proxy)
      left.send(rawRequest({ path, headers: session, body: say('1', []) }))
      await proxy.until(() => proxy.inFlight('p') === 1)
      left.close()
      await proxy.until(() => proxy.inFlight('p') === 0)
      for (const name of ['B', 'C']) {
        const response = await post(proxy, session, say('1', [`{"id":$ID,"result":{"n":"${name}"}}`]))
        expect(textOf(response)).toBe(`{"id":1,"result":{"n":"${name}"}}`)
      }
      const first = JSON.parse((await received(proxy, session)).find((line) => line.includes('tools/call')) ?? '{}')
      await post(proxy, session, told(`{"id":${JSON.stringify((first as { id: unknown }).id)},"result":{}}`))
      await proxy.until(() => proxy.told.dropped.length > 0)
      expect(proxy.told.dropped).toEqual(['client_gone'])
    })
  }

  it('an id that is used again has progress of its own, and what is cancelled by it is the latest', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const token = '"_meta":{"progressToken":1},'
    const [left, next] = [connectTo(proxy), connectTo(proxy)]
    left.send(rawRequest({ path, headers: session, body: say('1', [], token) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    await post(proxy, session, '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
    await left.response()
    const progress = (of: string) =>
      `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":${of},"progress":1}}`
    next.send(rawRequest({ path, headers: session, body: say('1', [progress('1'), progress('$TOKEN')], token) }))
    await proxy.until(() => proxy.told.dropped.length > 0)
    await next.head() // The second one has come.
    await post(proxy, session, '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
    // The first was of the request that was given up.
    expect(eventsOf(await next.response())).toEqual([progress('1')])
    expect(proxy.told.dropped).toEqual(['no_request'])
    expect((await received(proxy, session)).at(-2)).toBe(
      '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"vitals-again-1"}}',
    )
  })

  it('a request that the client cancels ends without an answer (MCP 2025-11-25, Cancellation)', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const client = connectTo(proxy)
    client.send(rawRequest({ path, headers: session, body: say('1', []) }))
    await proxy.until(() => proxy.inFlight('p') === 1)
    const cancelled = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    expect(statusOf(await post(proxy, session, cancelled))).toBe(202)
    const response = await client.response()
    expect([statusOf(response), textOf(response), response.isComplete]).toEqual([200, '', true])
    expect((await received(proxy, session)).at(-2)).toBe(cancelled)
    expect(proxy.inFlight('p')).toBe(0)
    expect(proxy.told.operations.find(({ method }) => method === 'tools/call')?.errorType).toBe('cancelled')
  })

  it('a process that dies: one error for each request, and the session is over', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const clients = [connectTo(proxy), connectTo(proxy)]
    for (const [n, client] of clients.entries())
      client.send(rawRequest({ path, headers: session, body: say(String(n), n === 1 ? [note] : []) }))
    await proxy.until(() => proxy.inFlight('p') === 2)
    const dying = await post(proxy, session, '{"jsonrpc":"2.0","id":2,"method":"die"}')
    expect([statusOf(dying), JSON.parse(textOf(dying))]).toMatchObject([
      502,
      { id: 2, error: { code: -32000, data: { reason: 'upstream_exited', delivered: true } } },
    ])
    const answers = await Promise.all(clients.map((client) => client.response()))
    for (const [n, one] of answers.entries()) {
      const body = eventsOf(one).at(-1) ?? textOf(one)
      expect(JSON.parse(body)).toMatchObject({ id: n, error: { data: { reason: 'upstream_exited' } } })
    }
    expect(proxy.inFlight('p')).toBe(0)
    expect(proxy.told.endedSessions).toEqual(['exited'])
    expect(statusOf(await post(proxy, session, say('9', [])))).toBe(404)
  })

  it('a command that cannot be started is a 502 with the id, told once', async () => {
    const proxy = await start({ upstreams: { p: { script: 'no-such-file.mjs' } } })
    const response = await post(proxy, json, initialize)
    expect([statusOf(response), reasonOf(response)]).toEqual([502, 'upstream_exited'])
    expect((JSON.parse(textOf(response)) as { id: unknown }).id).toBe(0)
    expect(proxy.told.failed.map(({ code }) => code)).toEqual(['upstream_exited'])
    expect(proxy.inFlight('p')).toBe(0)
  })

  it('a client that does not read stops the server’s stdout, and loses nothing', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const [line] = stdioOf(proxy, 'p').sessionLines()
    const client = connectTo(proxy)
    client.socket.pause()
    const flood = '{"jsonrpc":"2.0","id":1,"method":"flood","params":{"lines":400,"bytes":100000}}'
    client.send(rawRequest({ path, headers: session, body: flood }))
    while (line?.process.stdout.isPaused() !== true) await new Promise((resolve) => setImmediate(resolve))
    client.socket.resume()
    const response = await client.response()
    const numbers = [...textOf(response).matchAll(/"params":\{"n":(\d+)/g)].map(([, n]) => Number(n))
    expect(numbers).toEqual(Array.from({ length: 400 }, (_, n) => n))
    expect(textOf(response)).toContain('{"jsonrpc":"2.0","id":1,"result":{}}')
    expect(response.isComplete).toBe(true)
  })

  it('a client that does not read and leaves lets the server go on', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const [line] = stdioOf(proxy, 'p').sessionLines()
    const client = connectTo(proxy)
    client.socket.pause()
    const flood = '{"jsonrpc":"2.0","id":1,"method":"flood","params":{"lines":400,"bytes":100000}}'
    client.send(rawRequest({ path, headers: session, body: flood }))
    while (line?.process.stdout.isPaused() !== true) await new Promise((resolve) => setImmediate(resolve))
    client.close()
    expect(statusOf(await post(proxy, session, say('2', [ok])))).toBe(200)
  })
})
