import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { RawClient, type RawMessage, chunked, headerOf, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'
import { type Arrived, type ScriptedUpstream, scriptedUpstream } from '../support/scripted-upstream.ts'
import { type ProxyOptions, type RunningProxy, startProxy } from './fixture.ts'
import { requestLimits } from '../support/settings.ts'

const json = ['Content-Type', 'application/json']
const call = (id: number) => `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"echo"}}`
const listen = '{"jsonrpc":"2.0","id":9,"method":"subscriptions/listen","params":{}}'
const answer = '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
const progress = 'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
const keepAlive = ': keep-alive\n\n'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Setting {
  readonly clock: FakeClock
  readonly upstream: ScriptedUpstream
  readonly proxy: RunningProxy
  /** Sends a request on a connection of its own. */
  readonly send: (body: string | undefined, method?: string) => RawClient
}

const limits = requestLimits

async function start(changes: Partial<typeof limits> = {}, options: Partial<ProxyOptions> = {}): Promise<Setting> {
  const clock = fakeClock()
  const upstream = await scriptedUpstream(() => undefined)
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}/mcp`
  const proxy = await startProxy({ ...options, clock, upstreams: { u: { url, limits: { ...limits, ...changes } } } })
  closers.push(() => proxy.close())
  const send = (body: string | undefined, method = 'POST') => {
    const client = new RawClient(proxy.port)
    closers.push(() => Promise.resolve(client.close()))
    client.send(rawRequest({ method, path: '/u/mcp', headers: json, body }))
    return client
  }
  return { clock, upstream, proxy, send }
}

function errorOf(text: string) {
  const { id, error } = JSON.parse(text) as { id: unknown; error: { code: number; data: { reason: string } } }
  return { id, code: error.code, reason: error.data.reason }
}

/** Bytes that the upstream has written are with the client only some turns of the event loop later. */
async function bodyIs(client: RawClient, expected: string): Promise<void> {
  await client.until(() => client.responses[0] !== undefined && textOf(client.responses[0]) === expected)
}

describe('a request to a server that says nothing', () => {
  it('gets 504 after stall_timeout_seconds, its connection is closed, and the server is doubted', async () => {
    const { clock, upstream, proxy, send } = await start()
    const client = send(call(7))
    const arrived = await upstream.request(0)
    await clock.advance(59_000)
    expect(client.responses).toEqual([])
    await clock.advance(2000)
    const response = await client.response()
    expect(statusOf(response)).toBe(504)
    expect(errorOf(textOf(response))).toEqual({ id: 7, code: -32000, reason: 'upstream_timeout' })
    await upstream.until(() => arrived.isClosed())
    expect(proxy.told.failed.map(({ code }) => code)).toEqual(['upstream_timeout'])
    expect(proxy.told.operations.map(({ errorType }) => errorType)).toEqual(['upstream_timeout', 'upstream_timeout'])
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('waits for ever where the time-outs are 0', async () => {
    const { clock, upstream, send } = await start({ stallTimeoutMs: Infinity, requestTimeoutMs: Infinity })
    const client = send(call(1))
    const arrived = await upstream.request(0)
    await clock.advance(3_600_000)
    arrived.answer(200, answer)
    expect(textOf(await client.response())).toBe(answer)
  })

  it('is cut when its event stream had begun, and counted as stalled', async () => {
    const { clock, upstream, proxy, send } = await start()
    const client = send(call(1))
    const arrived = await upstream.request(0)
    arrived.openStream()
    arrived.chunk(progress)
    await bodyIs(client, progress)
    await clock.advance(62_000)
    await client.until(() => client.isClosed)
    expect(client.responses[0]?.isComplete).toBe(false)
    await upstream.until(() => arrived.isClosed())
    expect(proxy.told.streams).toEqual([{ upstream: 'u', transport: 'http', reason: 'stalled', durationSeconds: 61 }])
  })

  it('goes on as long as anything comes, comments and progress included, up to request_timeout_seconds', async () => {
    const { clock, upstream, send } = await start()
    const client = send(call(1))
    const arrived = await upstream.request(0)
    arrived.openStream()
    let sent = ''
    for (let minute = 0; minute < 9; minute++) {
      const piece = minute % 2 === 0 ? ': working\n\n' : progress
      arrived.chunk(piece)
      sent += piece
      await bodyIs(client, sent)
      await clock.advance(59_000)
    }
    expect(client.isClosed).toBe(false)
    arrived.chunk(progress)
    await bodyIs(client, sent + progress)
    await clock.advance(58_000)
    arrived.chunk(progress)
    await bodyIs(client, sent + progress + progress)
    await clock.advance(12_000)
    await client.until(() => client.isClosed)
  })

  it.each([
    ['GET', undefined],
    ['POST', listen],
  ])('lasts for ever when it is a stream: %s %s', async (method, body) => {
    const { clock, upstream, send } = await start()
    const client = send(body, method)
    const arrived = await upstream.request(0)
    arrived.openStream()
    await client.head()
    await clock.advance(3_600_000)
    arrived.chunk(progress)
    await bodyIs(client, progress)
  })
})

/** MCP 2025-11-25, Transports, "Sending Messages to the Server": the server should end it, and many do not. */
describe('a stream that the server leaves open', () => {
  const answered = `data: ${answer}\n\n`
  const streaming = async (body: string, limits = {}) => {
    const setting = await start({ maxInFlight: 1, ...limits })
    const client = setting.send(body)
    const arrived = await setting.upstream.request(0)
    arrived.openStream()
    return { ...setting, client, arrived }
  }

  it('behind the answer keeps no place, passes, and is no time-out', async () => {
    const { clock, upstream, proxy, send, client, arrived } = await streaming(call(1))
    arrived.chunk(answered)
    await bodyIs(client, answered)
    expect(proxy.inFlight('u')).toBe(0)
    const second = send(call(2))
    ;(await upstream.request(1)).answer(200, answer.replace('1', '2'))
    expect(statusOf(await second.response())).toBe(200)
    await clock.advance(300_000)
    arrived.chunk(progress)
    await bodyIs(client, answered + progress)
    expect(proxy.told.operations.slice(0, 2).map(({ errorType }) => errorType)).toEqual([undefined, undefined])
    arrived.endChunks()
    expect((await client.response()).isComplete).toBe(true)
    expect([proxy.told.failed, proxy.told.operations.length]).toEqual([[], 4])
  })

  it('behind the answer is ended after request_timeout_seconds', async () => {
    const { clock, upstream, proxy, client, arrived } = await streaming(call(1))
    arrived.chunk(answered)
    await bodyIs(client, answered)
    await clock.advance(602_000)
    expect((await client.response()).isComplete).toBe(true)
    await upstream.until(() => arrived.isClosed())
    expect([proxy.told.failed, proxy.told.streams.map(({ reason }) => reason)]).toEqual([[], ['stalled']])
  })

  it('behind the last answer to a batch keeps no place either', async () => {
    const { proxy, client, arrived } = await streaming(`[${call(1)},${call(2)}]`)
    arrived.chunk(answered)
    await bodyIs(client, answered)
    expect(proxy.inFlight('u')).toBe(1)
    arrived.chunk(answered.replace('"id":1', '"id":2'))
    await proxy.until(() => proxy.inFlight('u') === 0)
    expect(proxy.told.operations.map(({ errorType }) => errorType)).toEqual(Array(4).fill(undefined))
  })

  it('of a cancelled request goes on, and whatever comes still passes', async () => {
    const { clock, upstream, proxy } = await start()
    const post = (body: string, id = 's-1') => {
      const client = new RawClient(proxy.port)
      closers.push(() => Promise.resolve(client.close()))
      client.send(rawRequest({ path: '/u/mcp', headers: [...json, 'Mcp-Session-Id', id], body }))
      return client
    }
    const client = post(call(1))
    const arrived = await upstream.request(0)
    arrived.openStream()
    const cancellation = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    post(cancellation, 's-2')
    ;(await upstream.request(1)).answer(202)
    await proxy.until(() => proxy.inFlight('u') === 1)
    expect(proxy.told.operations).toEqual([])
    post(cancellation)
    await (await upstream.request(2)).whole()
    await proxy.until(() => proxy.told.operations.length === 2)
    expect(proxy.told.operations.map(({ errorType }) => errorType)).toEqual(['cancelled', 'cancelled'])
    await clock.advance(58_000)
    arrived.chunk(progress)
    await bodyIs(client, progress)
    await clock.advance(58_000)
    arrived.chunk(answered)
    arrived.endChunks()
    expect(textOf(await client.response())).toBe(progress + answered)
    expect(proxy.told.operations).toHaveLength(2)
  })
})

describe('more requests than the server takes', () => {
  it('wait for their turn, in order, without counting as in flight', async () => {
    const { upstream, proxy, send } = await start({ maxInFlight: 1 })
    const first = send(call(1))
    const arrived = await upstream.request(0)
    const second = send(call(2))
    await queued(proxy, 1)
    expect(proxy.inFlight('u')).toBe(1)
    expect(upstream.arrived).toHaveLength(1)
    arrived.answer(200, answer)
    await first.response()
    const next = await upstream.request(1)
    expect(textOf(await next.whole())).toBe(call(2))
    next.answer(200, answer)
    expect(statusOf(await second.response())).toBe(200)
    expect([queueOf(proxy).length, proxy.inFlight('u')]).toEqual([0, 0])
  })

  it('get 503 with Retry-After after queue_timeout_seconds, which is not the fault of the server', async () => {
    const { clock, upstream, proxy, send } = await start({ maxInFlight: 1 })
    send(call(1))
    await upstream.request(0)
    const second = send(call(2))
    await queued(proxy, 1)
    await clock.advance(3000)
    const response = await second.response()
    expect([statusOf(response), headerOf(response, 'retry-after')]).toEqual([503, '1'])
    expect(errorOf(textOf(response))).toEqual({ id: 2, code: -32000, reason: 'queue_full' })
    expect(proxy.told.rejected).toEqual(['queue_full'])
    expect(proxy.told.operations.map(({ errorType }) => errorType)).toEqual(['queue_full', 'queue_full'])
    expect(upstream.arrived).toHaveLength(1)
    expect(proxy.inFlight('u')).toBe(1)
  })

  it('get 503 at once when the queue is full too', async () => {
    const { upstream, send } = await start({ maxInFlight: 1, maxQueue: 0 })
    send(call(1))
    await upstream.request(0)
    expect(statusOf(await send(call(2)).response())).toBe(503)
  })

  it('measure the server without the time in the queue, the client with it', async () => {
    const { clock, upstream, proxy, send } = await start({ maxInFlight: 1 })
    send(call(1))
    const arrived = await upstream.request(0)
    const second = send(call(2))
    await queued(proxy, 1)
    await clock.advance(2000)
    arrived.answer(200, answer)
    const next = await upstream.request(1)
    await clock.advance(1000)
    next.answer(200, '{"jsonrpc":"2.0","id":2,"result":{}}')
    await second.response()
    const durations = proxy.told.operations.slice(2).map(({ side, durationSeconds }) => [side, durationSeconds])
    expect(durations).toEqual([
      ['client', 1],
      ['server', 3],
    ])
  })

  it('leave the queue with their client, and never reach the server', async () => {
    const { upstream, proxy, send } = await start({ maxInFlight: 1 })
    const first = send(call(1))
    const arrived = await upstream.request(0)
    const second = send(call(2))
    await queued(proxy, 1)
    second.close()
    await queued(proxy, 0)
    const third = send(call(3))
    await queued(proxy, 1)
    arrived.answer(200, answer)
    await first.response()
    expect(textOf(await (await upstream.request(1)).whole())).toBe(call(3))
    expect(third.isClosed).toBe(false)
  })

  it.each(['with a length', 'in chunks'])('are not sent once they are cancelled, though long, %s', async (framing) => {
    const { upstream, proxy } = await start({ maxInFlight: 1 })
    const post = (body: string, session = 's-1') => {
      const client = new RawClient(proxy.port)
      closers.push(() => Promise.resolve(client.close()))
      const headers = [...json, 'Mcp-Session-Id', session]
      const isChunked = body.length > 1000 && framing === 'in chunks'
      const [coding, sent] = isChunked ? [['Transfer-Encoding', 'chunked'], chunked(body)] : [[], body]
      client.send(rawRequest({ path: '/u/mcp', headers: [...headers, ...coding], body: sent }))
      return client
    }
    const long = (id: number) => `{"params":{"text":"${'x'.repeat(100_000)}"},"method":"tools/call","id":${id}}`
    const cancellation = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}'
    post(call(1))
    const arrived = await upstream.request(0)
    const cancelled = post(long(2))
    await queued(proxy, 1)
    post(long(3))
    post(long(2), 's-2')
    await queued(proxy, 3)
    post(cancellation)
    ;(await upstream.request(1)).answer(202)
    await proxy.until(() => proxy.inFlight('u') === 1)
    arrived.answer(200, answer)
    expect([statusOf(await cancelled.response()), textOf(await cancelled.response())]).toEqual([200, ''])
    const next = await upstream.request(2)
    expect(textOf(await next.whole())).toBe(long(3))
    next.answer(200, answer)
    const last = await upstream.request(3)
    expect(textOf(await last.whole())).toBe(long(2))
    expect(headerOf(last.request, 'mcp-session-id')).toBe('s-2')
    last.answer(200, answer)
    await proxy.until(() => proxy.inFlight('u') === 0)
    const ends = proxy.told.operations.filter(({ side }) => side === 'client').map(({ errorType }) => errorType)
    expect(ends).toEqual([undefined, 'cancelled', 'upstream_closed', 'upstream_closed'])
  })

  it('are sent in their turn as a batch of which one was cancelled meanwhile', async () => {
    const { upstream, proxy } = await start({ maxInFlight: 1 })
    const post = (body: string) => {
      const client = new RawClient(proxy.port)
      closers.push(() => Promise.resolve(client.close()))
      client.send(rawRequest({ path: '/u/mcp', headers: [...json, 'Mcp-Session-Id', 's-1'], body }))
      return client
    }
    post(call(1))
    const arrived = await upstream.request(0)
    const batch = post(`[${call(2)},${call(3)}]`)
    await queued(proxy, 1)
    post('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}')
    ;(await upstream.request(1)).answer(202)
    arrived.answer(200, answer)
    const next = await upstream.request(2)
    expect(textOf(await next.whole())).toBe(`[${call(2)},${call(3)}]`)
    next.answer(200, `[${answer.replace('1', '3')}]`)
    expect(statusOf(await batch.response())).toBe(200)
    await proxy.until(() => proxy.inFlight('u') === 0)
  })

  it.each([
    ['an answer to the server', '{"jsonrpc":"2.0","id":"s1","result":{}}', 'POST'],
    ['a cancellation', '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}', 'POST'],
    ['a subscription', listen, 'POST'],
    ['a stream', undefined, 'GET'],
    ['the end of a session', undefined, 'DELETE'],
  ])('do not hold up what they may be waiting for: %s', async (_title, body, method) => {
    const { upstream, proxy, send } = await start({ maxInFlight: 1, maxQueue: 0 })
    send(call(1))
    await upstream.request(0)
    send(body, method)
    expect((await upstream.request(1)).request.startLine).toBe(`${method} /mcp HTTP/1.1`)
    expect(queueOf(proxy).length).toBe(0)
  })

  it('hold up a long body too, and give the turn back when that was no request', async () => {
    const { upstream, proxy, send } = await start({ maxInFlight: 1 })
    const result = `{"jsonrpc":"2.0","id":"s1","result":{"text":"${'x'.repeat(100_000)}"}}`
    send(result)
    await (await upstream.request(0)).whole()
    send(call(2))
    expect(textOf(await (await upstream.request(1)).whole())).toBe(call(2))
    const third = send(result)
    await queued(proxy, 1)
    third.close()
    await queued(proxy, 0)
  })
})

describe('more connections than max_connections', () => {
  it('are refused to requests and streams, these sooner, until one is over; what they wait for still passes', async () => {
    const { upstream, proxy, send } = await start({ maxConnections: 3, maxInFlight: 2 })
    const streams = [send(undefined, 'GET'), send(listen)]
    for (const [index, stream] of streams.entries()) {
      ;(await upstream.request(index)).openStream()
      await stream.head()
    }
    const inTime = send(call(3))
    const asked = await upstream.request(2)
    for (const [body, method] of [
      [call(1), 'POST'],
      [listen, 'POST'],
      [undefined, 'GET'],
    ] as const) {
      const refused = await send(body, method).response()
      expect([statusOf(refused), headerOf(refused, 'retry-after')]).toEqual([503, '1'])
      expect(errorOf(textOf(refused)).reason).toBe('too_many_connections')
    }
    expect(proxy.told.rejected).toEqual(Array(3).fill('too_many_connections'))
    const told = send('{"jsonrpc":"2.0","method":"notifications/initialized"}')
    ;(await upstream.request(3)).answer(202)
    expect(statusOf(await told.response())).toBe(202)
    asked.answer(200, answer.replace('1', '3'))
    expect(statusOf(await inTime.response())).toBe(200)
    expect(statusOf(await send(undefined, 'GET').response())).toBe(503)
    const next = send(call(2))
    ;(await upstream.request(4)).answer(200, answer.replace('1', '2'))
    expect(statusOf(await next.response())).toBe(200)
    streams[0]?.close()
    await upstream.until(() => upstream.arrived[0]?.isClosed())
    send(undefined, 'GET')
    await upstream.request(5)
  })

  it('of HTTP+SSE: a stream is refused, and a request of one that is open', async () => {
    const upstream = await scriptedUpstream(() => undefined)
    closers.push(() => upstream.close())
    const url = `http://127.0.0.1:${upstream.port}/sse`
    const u = { url, transport: 'sse', limits: { ...limits, maxConnections: 1 } } as const
    const proxy = await startProxy({ upstreams: { u } })
    closers.push(() => proxy.close())
    const open = () => {
      const client = new RawClient(proxy.port)
      closers.push(() => Promise.resolve(client.close()))
      client.send(rawRequest({ method: 'GET', path: '/u/sse' }))
      return client
    }
    const first = open()
    const arrived = await upstream.request(0)
    arrived.openStream()
    arrived.chunk('event: endpoint\ndata: /messages\n\n')
    const stream = await first.head()
    const path = await first.until(() => /data: (\S+)\n\n/.exec(textOf(stream))?.[1])
    expect(errorOf(textOf(await open().response())).reason).toBe('too_many_connections')
    const posted = new RawClient(proxy.port)
    closers.push(() => Promise.resolve(posted.close()))
    posted.send(rawRequest({ path, headers: json, body: call(1) }))
    expect(errorOf(textOf(await posted.response()))).toEqual({ id: 1, code: -32000, reason: 'too_many_connections' })
    expect(proxy.told.rejected).toEqual(['too_many_connections', 'too_many_connections'])
  })
})

describe('a silent event stream towards the client', () => {
  const streaming = async (
    headers: readonly string[] = [],
    options: Partial<ProxyOptions> = { keepAliveMs: 15_000 },
  ) => {
    const setting = await start({ stallTimeoutMs: Infinity }, options)
    const client = setting.send(undefined, 'GET')
    const arrived = await setting.upstream.request(0)
    arrived.openStream(headers)
    await client.head()
    return { ...setting, client, arrived }
  }
  /** All that the client has got once nothing is on its way any more. */
  const gotAfter = async ({ client, arrived }: Awaited<ReturnType<typeof streaming>>) => {
    arrived.chunk('data: end\n\n')
    await client.until(() => client.responses[0] && textOf(client.responses[0]).endsWith('data: end\n\n'))
    return textOf(await client.head()).slice(0, -'data: end\n\n'.length)
  }

  it('gets a comment after 15 s, and again', async () => {
    const setting = await streaming()
    await setting.clock.advance(14_000)
    await setting.clock.advance(3000)
    await bodyIs(setting.client, keepAlive)
    await setting.clock.advance(15_000)
    await bodyIs(setting.client, keepAlive + keepAlive)
    expect(await gotAfter(setting)).toBe(keepAlive + keepAlive)
  })

  it('gets none while events come often enough', async () => {
    const setting = await streaming()
    let sent = ''
    for (let i = 0; i < 5; i++) {
      setting.arrived.chunk(progress)
      sent += progress
      await bodyIs(setting.client, sent)
      await setting.clock.advance(13_000)
    }
    expect(await gotAfter(setting)).toBe(sent)
  })

  it.each([
    ['within a line', 'data: {"a":'],
    ['after a line', 'data: {}\n'],
    ['after the id', 'id: 7\r\n'],
    ['within a comment', ': wor'],
  ])('gets none %s of an unfinished event', async (_title, piece) => {
    const setting = await streaming()
    setting.arrived.chunk(piece)
    await bodyIs(setting.client, piece)
    await setting.clock.advance(60_000)
    expect(await gotAfter(setting)).toBe(piece)
  })

  it.each([
    ['an event', progress],
    ['an event with CRLF', 'data: 1\r\n\r\n'],
    ['a line of comment', ': hello\n'],
  ])('gets one after %s', async (_title, piece) => {
    const setting = await streaming()
    setting.arrived.chunk(piece)
    await bodyIs(setting.client, piece)
    await setting.clock.advance(17_000)
    await bodyIs(setting.client, piece + keepAlive)
  })

  it('gets none when its length is declared', async () => {
    const setting = await start({ stallTimeoutMs: Infinity }, { keepAliveMs: 15_000 })
    const client = setting.send(call(1))
    const arrived = await setting.upstream.request(0)
    arrived.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n')
    await client.head()
    await setting.clock.advance(60_000)
    arrived.write('data: 1\n\n')
    expect(textOf(await client.response())).toBe('data: 1\n\n')
  })

  it('gets none when it is compressed', async () => {
    const setting = await streaming(['Content-Encoding', 'gzip'])
    await setting.clock.advance(60_000)
    const bytes = gzipSync('data: 1\n\n')
    setting.arrived.chunk(bytes)
    setting.arrived.endChunks()
    expect(Buffer.concat((await setting.client.response()).body)).toEqual(bytes)
  })

  it('gets none when stream_keep_alive_seconds is 0', async () => {
    const setting = await streaming([], {})
    await setting.clock.advance(600_000)
    expect(await gotAfter(setting)).toBe('')
  })

  it('is counted while it is open, with its events, and measured at its end by what ended it', async () => {
    const { clock, client, arrived, proxy } = await streaming()
    expect([...proxy.streams.gauges()]).toEqual([{ upstream: 'u', transport: 'http', open: 1 }])
    arrived.chunk(`: comment\n\nid: 1\ndata:\n\n${progress}event: x\ndata: 1\n\n`)
    await proxy.until(() => proxy.told.events.length === 3)
    await clock.advance(2000)
    arrived.endChunks()
    await client.response()
    await proxy.until(() => proxy.told.streams.length > 0)
    const ended = { upstream: 'u', transport: 'http', reason: 'upstream_ended', durationSeconds: 2 }
    expect(proxy.told.streams).toEqual([ended])
    expect([...proxy.streams.gauges()]).toEqual([{ upstream: 'u', transport: 'http', open: 0 }])
  })

  it.each([
    ['client_gone', ({ client }: Awaited<ReturnType<typeof streaming>>) => client.close()],
    ['upstream_error', ({ arrived }: Awaited<ReturnType<typeof streaming>>) => arrived.cut('reset')],
    [
      'shutdown',
      ({ proxy }: Awaited<ReturnType<typeof streaming>>) => {
        proxy.shutDown()
        void proxy.close()
      },
    ],
  ])('ends as %s, and the upstream is closed at once', async (reason, end) => {
    const setting = await streaming()
    end(setting)
    await setting.proxy.until(() => setting.proxy.told.streams.length > 0)
    expect(setting.proxy.told.streams.map((stream) => stream.reason)).toEqual([reason])
    await setting.upstream.until(() => setting.arrived.isClosed())
  })

  it('of HTTP+SSE gets its first comment only after the endpoint event', async () => {
    const clock = fakeClock()
    const upstream = await scriptedUpstream(() => undefined)
    closers.push(() => upstream.close())
    const url = `http://127.0.0.1:${upstream.port}/sse`
    const proxy = await startProxy({ clock, keepAliveMs: 15_000, upstreams: { u: { url, transport: 'sse', limits } } })
    closers.push(() => proxy.close())
    const client = new RawClient(proxy.port)
    client.send(rawRequest({ method: 'GET', path: '/u/sse' }))
    const arrived = await upstream.request(0)
    arrived.openStream()
    await client.head()
    await clock.advance(60_000)
    arrived.chunk('event: endpoint\ndata: /messages?s=1\n\n')
    const endpointEvent = /^event: endpoint\ndata: \/u\/messages\?session_id=\S+\n\n$/
    await client.until(() => client.responses[0] && endpointEvent.test(textOf(client.responses[0])))
    await clock.advance(17_000)
    await client.until(() => client.responses[0] && textOf(client.responses[0]).endsWith(`\n\n${keepAlive}`))
    client.close()
    await proxy.until(() => proxy.told.streams.length > 0)
    expect(proxy.told.streams).toMatchObject([{ transport: 'sse', reason: 'client_gone' }])
  })
})

interface SseSetting extends Omit<Setting, 'send'> {
  readonly client: RawClient
  /** The server's end of the stream. */
  readonly stream: Arrived
  /** POSTs a message; the second is what the server got. */
  readonly post: (body: string) => Promise<readonly [client: RawClient, server: Arrived]>
  /** The data of each event after the first. */
  readonly events: () => readonly string[]
}

async function startSse(options: Partial<ProxyOptions> = {}): Promise<SseSetting> {
  const clock = fakeClock()
  const upstream = await scriptedUpstream(() => undefined)
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}/sse`
  const proxy = await startProxy({ ...options, clock, upstreams: { u: { url, transport: 'sse', limits } } })
  closers.push(() => proxy.close())
  const connect = () => {
    const client = new RawClient(proxy.port)
    closers.push(() => Promise.resolve(client.close()))
    return client
  }
  const client = connect()
  client.send(rawRequest({ method: 'GET', path: '/u/sse' }))
  const stream = await upstream.request(0)
  stream.openStream()
  stream.chunk('event: endpoint\ndata: /messages?s=1\n\n')
  const text = () => (client.responses[0] ? textOf(client.responses[0]) : '')
  const path = await client.until(() => /data: (\S+)\n\n/.exec(text())?.[1])
  return {
    clock,
    upstream,
    proxy,
    client,
    stream,
    events: () => [...text().matchAll(/^data: (\{.*)\n\n/gm)].map(([, data = '']) => data),
    post: async (body) => {
      const posting = connect()
      const index = upstream.arrived.length
      posting.send(rawRequest({ path, headers: json, body }))
      return [posting, await upstream.request(index)]
    },
  }
}

describe('forwarded HTTP+SSE', () => {
  it('a POST without an answer gets 504 after stall_timeout_seconds', async () => {
    const { clock, upstream, proxy, client, post, events } = await startSse()
    const [posting, posted] = await post(call(4))
    await clock.advance(61_000)
    const response = await posting.response()
    expect(statusOf(response)).toBe(504)
    expect(errorOf(textOf(response))).toEqual({ id: 4, code: -32000, reason: 'upstream_timeout' })
    await upstream.until(() => posted.isClosed())
    expect([client.isClosed, events()]).toEqual([false, []])
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('an accepted request gets its error on the stream, between two events, and the server a cancellation', async () => {
    const { clock, upstream, client, stream, post, events } = await startSse()
    const [posting, posted] = await post(call(4))
    posted.answer(202)
    await posting.response()
    stream.chunk('data: {"jsonrpc":"2.0",\n')
    await client.until(() => textOf(client.responses[0] as RawMessage).endsWith(',\n'))
    await clock.advance(61_000)
    const cancelled = await upstream.request(2)
    expect(JSON.parse(textOf(await cancelled.whole()))).toMatchObject({
      method: 'notifications/cancelled',
      params: { requestId: 4 },
    })
    expect(events()).toEqual([])
    stream.chunk('data: "method":"x"}\n\n')
    await client.until(() => events().length === 1)
    expect(textOf(await client.head())).toContain(
      'data: {"jsonrpc":"2.0",\ndata: "method":"x"}\n\nevent: message\ndata: ',
    )
    expect(errorOf(events()[0] ?? '')).toEqual({ id: 4, code: -32000, reason: 'upstream_timeout' })
    // The bytes of the stream are the server's: an answer that comes late passes.
    stream.chunk('data: {"jsonrpc":"2.0","id":4,"result":{}}\n\n')
    await client.until(() => events().length === 2)
  })

  it('gives the place back with the answer, though the POST itself lasts', async () => {
    const { proxy, stream, post, client, events } = await startSse()
    const [, posted] = await post(call(1))
    stream.chunk(`data: ${answer}\n\n`)
    await client.until(() => events().length === 1)
    const access = proxy.access.get('u')
    await eventually(() => proxy.told.operations.length === 2, { what: 'the answer is heard' })
    expect([access?.kind === 'endpoint' && access.endpoint.queue.length, proxy.inFlight('u')]).toEqual([0, 1])
    posted.answer(202)
    await eventually(() => proxy.inFlight('u') === 0, { what: 'the POST is over' })
  })

  it.each([
    ['a message that names no request', '{"jsonrpc":"2.0","method":"notifications/message"}', 60_000],
    ['a question to the client', '{"jsonrpc":"2.0","id":1,"method":"roots/list"}', 600_000],
  ])('%s is a sign of the server', async (_title, message, moreMs) => {
    const { clock, client, stream, post, events } = await startSse()
    const [posting, posted] = await post(call(4))
    posted.answer(202)
    await posting.response()
    await clock.advance(50_000)
    stream.chunk(`data: ${message}\n\n`)
    await client.until(() => events().length === 1)
    await clock.advance(moreMs - 52_000)
    expect(events()).toHaveLength(1)
    await clock.advance(55_000)
    await client.until(() => events().length === 2)
    expect(errorOf(events()[1] ?? '').reason).toBe('upstream_timeout')
  })

  it('a comment is none: it is for the connection', async () => {
    const { clock, client, stream, post, events } = await startSse()
    const [posting, posted] = await post(call(4))
    posted.answer(202)
    await posting.response()
    await clock.advance(50_000)
    stream.chunk(': ping\n\n')
    await client.until(() => textOf(client.responses[0] as RawMessage).endsWith(': ping\n\n'))
    await clock.advance(12_000)
    await client.until(() => events().length === 1)
  })
})

describe('a tool that works without a word', () => {
  /** The server answers our own questions until `diesMs`. */
  function living(diesMs: number) {
    const looks: (readonly [upstream: string, leftMs: number])[] = []
    const lookForLife: ProxyOptions['lookForLife'] = (upstream, leftMs) => {
      looks.push([upstream, leftMs])
      const isAlive = looks.length * limits.stallTimeoutMs < diesMs
      return () => isAlive
    }
    return { looks, lookForLife }
  }

  it('is waited for while its server answers our heartbeats', async () => {
    const { looks, lookForLife } = living(Infinity)
    const { clock, upstream, send } = await start({}, { lookForLife })
    const client = send(call(1))
    const arrived = await upstream.request(0)
    await clock.advance(590_000)
    expect(looks).toEqual(Array.from({ length: 9 + 1 }, () => ['u', 30_000]))
    expect(client.responses).toEqual([])
    arrived.answer(200, answer)
    expect(textOf(await client.response())).toBe(answer)
  })

  it('is given up a stall time-out later when that answers no more', async () => {
    const { clock, upstream, send } = await start({}, living(150_000))
    const client = send(call(1))
    await upstream.request(0)
    await clock.advance(179_000)
    expect(client.responses).toEqual([])
    await clock.advance(2000)
    const response = await client.response()
    expect([statusOf(response), errorOf(textOf(response)).reason]).toEqual([504, 'upstream_timeout'])
    expect(textOf(response)).toContain('stall_timeout_seconds')
  })

  it('is given up after request_timeout_seconds all the same', async () => {
    const { clock, upstream, send } = await start({}, living(Infinity))
    const client = send(call(1))
    await upstream.request(0)
    await clock.advance(601_000)
    expect(textOf(await client.response())).toContain('request_timeout_seconds')
  })

  it('is only waited for where an answer is owed', async () => {
    const { looks, lookForLife } = living(Infinity)
    const { clock, upstream, send } = await start({}, { lookForLife })
    const client = send('{"jsonrpc":"2.0","method":"notifications/initialized"}')
    await upstream.request(0)
    await clock.advance(61_000)
    expect([statusOf(await client.response()), looks]).toEqual([504, []])
  })

  it('lives on a forwarded HTTP+SSE stream, too, until request_timeout_seconds', async () => {
    const { clock, stream, post, client, events } = await startSse(living(Infinity))
    for (const id of [1, 2]) {
      const [posting, posted] = await post(call(id))
      posted.answer(202)
      await posting.response()
    }
    await clock.advance(590_000)
    expect(events()).toEqual([])
    stream.chunk(`data: ${answer}\n\n`)
    await client.until(() => events().length === 1)
    expect(events()).toEqual([answer])
    await clock.advance(12_000)
    await client.until(() => events().length === 2)
    expect(events()[1]).toContain('request_timeout_seconds')
  })

  it('is given up there, too, when its server answers no more', async () => {
    const { clock, post, client, events } = await startSse(living(100_000))
    const [posting, posted] = await post(call(4))
    posted.answer(202)
    await posting.response()
    await clock.advance(119_000)
    expect(events()).toEqual([])
    await clock.advance(2000)
    await client.until(() => events().length === 1)
    expect(events()[0]).toContain('stall_timeout_seconds')
  })
})

describe('a question of the server to its client', () => {
  it('excuses its silence until the client has answered, though the request is forwarded', async () => {
    const { clock, upstream, proxy } = await start()
    const session = ['Mcp-Session-Id', 's1', ...json]
    const send = (body: string) => {
      const client = new RawClient(proxy.port)
      closers.push(() => Promise.resolve(client.close()))
      client.send(rawRequest({ path: '/u/mcp', headers: session, body }))
      return client
    }
    const opening = send('{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}')
    ;(await upstream.request(0)).answer(200, '{"jsonrpc":"2.0","id":0,"result":{}}', ['Mcp-Session-Id', 's1', ...json])
    await opening.response()
    const client = send(call(1))
    const arrived = await upstream.request(1)
    arrived.openStream()
    const question = 'data: {"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}\n\n'
    arrived.chunk(question)
    await bodyIs(client, question)
    await clock.advance(300_000)
    expect(client.isClosed).toBe(false)
    const reply = send('{"jsonrpc":"2.0","id":"q","result":{}}')
    ;(await upstream.request(2)).answer(202)
    await reply.response()
    await clock.advance(62_000)
    await client.until(() => client.isClosed)
  })
})

function queueOf(proxy: RunningProxy) {
  const access = proxy.access.get('u')
  if (access?.kind !== 'endpoint') throw new Error('u is no URL')
  return access.endpoint.queue
}

async function queued(proxy: RunningProxy, length: number): Promise<void> {
  await eventually(() => queueOf(proxy).length === length, { what: `${length} in the queue` })
}
