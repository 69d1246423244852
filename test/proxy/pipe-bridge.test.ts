import type { ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { type Clock, systemClock } from '../../src/clock.ts'
import { defaults } from '../../src/defaults.ts'
import { KnownError } from '../../src/errors.ts'
import { PipeBridge, type PipeBridgeOptions } from '../../src/proxy/pipe-bridge.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { endpoint } from '../../src/upstreams/endpoint.ts'
import { LastingLink } from '../../src/upstreams/lasting-link.ts'
import { type Link, type LinkListener, httpLink, sseLink } from '../../src/upstreams/link.ts'
import { limited } from '../../src/upstreams/queue.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import {
  type McpServer,
  type McpServerOptions,
  mcpServer,
  rpcError,
  sendEvents,
  sendJson,
} from '../support/mcp-server.ts'
import { legacySdkServer } from '../support/sdk-servers.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

const initialize =
  '{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}'
const initialized = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
const limits = { ...defaults.requests, maxInFlight: 3, maxQueue: 2 }

interface Made {
  readonly link: (listener: LinkListener) => Link
  readonly clock: Clock
  readonly highWaterMark?: number
  readonly lookForLife?: PipeBridgeOptions['lookForLife']
}

/** A bridge between a client of strings and whatever the link leads to. */
function bridged({ link, clock, highWaterMark = 1 << 20, lookForLife = () => () => false }: Made) {
  const [input, output] = [new PassThrough(), new PassThrough({ highWaterMark })]
  const failed: string[] = []
  const undelivered: string[] = []
  let inFlight = 0
  const bridge = new PipeBridge({
    client: { input, output },
    clock,
    upstream: 'u',
    link,
    limits: limited(clock, { limits }, undefined),
    admission: {
      clock,
      sweep: new Sweep(clock),
      shedder: { refusal: () => undefined },
      onRequest: (_name, change) => void (inFlight += change),
    },
    lookForLife,
    maxLineBytes: 1000,
    events: {
      onClientMessage: () => {},
      onServerMessage: () => {},
      onFailed: (id, { code }) => failed.push(`${id} ${code}`),
      onUndelivered: ({ code }) => undelivered.push(code),
    },
  })
  const chunks: Buffer[] = []
  const read = () => void output.on('data', (chunk: Buffer) => chunks.push(chunk))
  if (highWaterMark > 1000) read()
  const lines = () => Buffer.concat(chunks).toString().split('\n').slice(0, -1)
  const say = (...texts: readonly string[]) => input.write(texts.map((text) => `${text}\n`).join(''))
  const hears = (what: string) => eventually(() => lines().find((line) => line.includes(what)), { what })
  return { bridge, input, output, lines, say, hears, read, failed, undelivered, inFlight: () => inFlight }
}

/** A link that keeps what it is given, and does with it what the test says. */
function scripted() {
  const sent: string[] = []
  const held: boolean[] = []
  const waiting = new Map<string, { resolve: () => void; reject: (error: Error) => void }>()
  const heard: { listener?: LinkListener } = {}
  let isClosed = false
  return {
    sent,
    held,
    isClosed: () => isClosed,
    /** The server takes what it was sent under this name: an id, or a method. */
    take: (what: string) => waiting.get(what)?.resolve(),
    refuse: (what: string, error: KnownError) => waiting.get(what)?.reject(error),
    tell: (text: string) => {
      const message = Buffer.from(text)
      const envelope = readEnvelope(message)
      if (envelope) heard.listener?.onMessage(message, envelope)
    },
    lose: (error: KnownError) => heard.listener?.onClose(error),
    link: (listener: LinkListener): Link => {
      heard.listener = listener
      return {
        open: () => Promise.resolve(),
        send: (message, { id, method = 'answer' }) => {
          sent.push(message.toString())
          return new Promise((resolve, reject) => waiting.set(id ?? method, { resolve, reject }))
        },
        giveUp: (id, reason) => sent.push(`give up ${id}: ${reason}`),
        hold: (isFull) => held.push(isFull),
        close: () => {
          isClosed = true
          return Promise.resolve()
        },
      }
    },
  }
}

function request(id: number | string, method = 'tools/call'): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method })
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
}

describe('a pipe keeps its order', () => {
  it('what follows an initialize waits for its answer, but for an answer of the client', async () => {
    const server = scripted()
    const { say, lines } = bridged({ ...server, clock: fakeClock() })
    const pong = '{"jsonrpc":"2.0","id":1,"result":{}}'
    say(initialize, initialized, request(2), pong)
    await settled()
    expect(server.sent).toEqual([initialize, pong])
    server.tell('{"jsonrpc":"2.0","id":"i","result":{}}')
    await settled()
    expect(server.sent.slice(2)).toEqual([initialized])
    server.take('notifications/initialized')
    await settled()
    expect(server.sent.slice(3)).toEqual([request(2)])
    expect(lines()).toHaveLength(1)
  })

  it('an answer under an id as JavaScript writes it is the only one, and frees its place', async () => {
    const server = scripted()
    const { say, lines, inFlight, failed } = bridged({ ...server, clock: fakeClock() })
    say('{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}')
    await settled()
    const answer = '{"jsonrpc":"2.0","id":12345678901234567000,"result":{}}'
    server.tell(answer)
    await settled()
    expect([lines(), inFlight(), failed]).toEqual([[answer], 0, []])
  })

  it('requests run side by side, up to max_in_flight, and what does not fit into the queue gets queue_full', async () => {
    const server = scripted()
    const { say, lines, inFlight, failed } = bridged({ ...server, clock: fakeClock() })
    say(...[1, 2, 3, 4, 5, 6].map((id) => request(id)))
    await settled()
    expect([server.sent.length, inFlight(), failed]).toEqual([3, 3, ['6 queue_full']])
    expect(JSON.parse(lines()[0] ?? '')).toMatchObject({
      id: 6,
      error: { code: -32_000, data: { reason: 'queue_full' } },
    })
    server.tell('{"jsonrpc":"2.0","id":2,"result":{}}')
    await settled()
    expect([server.sent.length, inFlight()]).toEqual([4, 3])
  })

  it('a notification that the server lets lie holds up the next message for a second, and then none', async () => {
    const clock = fakeClock()
    const server = scripted()
    const { say, undelivered } = bridged({ ...server, clock })
    const [first, second] = ['{"jsonrpc":"2.0","method":"first"}', '{"jsonrpc":"2.0","method":"second"}']
    say(first, request(1), second, request(2))
    await clock.advance(999)
    expect(server.sent).toEqual([first])
    await clock.advance(1)
    expect(server.sent).toEqual([first, request(1), second, request(2)])
    server.take('first')
    server.take('second')
    await settled()
    say(first, request(3))
    await clock.advance(999)
    expect(server.sent.slice(4)).toEqual([first])
    server.take('first')
    await settled()
    expect(server.sent.slice(4)).toEqual([first, request(3)])
    expect(undelivered).toEqual([])
  })

  it('a server may take longer to open its session', async () => {
    const clock = fakeClock()
    const server = scripted()
    const { say } = bridged({ ...server, clock })
    say(initialized, request(1))
    await clock.advance(9999)
    expect(server.sent).toEqual([initialized])
    await clock.advance(1)
    expect(server.sent).toEqual([initialized, request(1)])
  })
})

describe('what the server says', () => {
  it('is a line each, byte for byte but for line breaks between tokens', async () => {
    const server = scripted()
    const { lines } = bridged({ ...server, clock: fakeClock() })
    server.tell('{"jsonrpc":"2.0",\r\n "method":"n","params":{"n":12345678901234567890,"n":1e400,"t":"\\u2028é\\n"}}')
    expect(lines()).toEqual([
      '{"jsonrpc":"2.0",   "method":"n","params":{"n":12345678901234567890,"n":1e400,"t":"\\u2028é\\n"}}',
    ])
  })

  it('is the same JSON on one line, whatever it is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), fc.integer({ min: 0, max: 4 }), async (params, indent) => {
        const link = scripted()
        const { lines } = bridged({ ...link, clock: fakeClock() })
        const text = JSON.stringify({ jsonrpc: '2.0', method: 'n', params }, undefined, indent)
        link.tell(text)
        await settled()
        expect(lines()).toEqual([text.replaceAll('\n', ' ')])
      }),
    )
  })

  it('bears the id of its request when it names none', async () => {
    const mcp = await server()
    const { say, hears } = mcp.client
    mcp.reactions.set('a', (_message, response) => sendJson(response, 400, rpcError(null, -32_022)))
    mcp.reactions.set('b', (_message, response) =>
      sendJson(response, 400, { jsonrpc: '2.0', error: { code: -32_022, message: 'no' } }),
    )
    say(initialize, initialized, request('x', 'a'), request('y', 'b'))
    expect(JSON.parse(await hears('"x"'))).toEqual(rpcError('x', -32_022))
    expect(JSON.parse(await hears('"y"'))).toEqual(rpcError('y', -32_022))
  })
})

describe('failures', () => {
  it('are one error for their request, which may be the only thing that is said', async () => {
    const link = scripted()
    const { say, lines, failed, inFlight } = bridged({ ...link, clock: fakeClock() })
    say(request(7))
    await settled()
    link.refuse('7', new KnownError('upstream_refused', 'nobody listens'))
    await settled()
    link.refuse('7', new KnownError('upstream_refused', 'nobody listens'))
    expect(lines().map((line) => JSON.parse(line) as unknown)).toEqual([
      {
        jsonrpc: '2.0',
        id: 7,
        error: { code: -32_000, message: 'mcp-vitals: nobody listens', data: { reason: 'upstream_refused' } },
      },
    ])
    expect([failed, inFlight()]).toEqual([['7 upstream_refused'], 0])
  })

  it('of a request that is not answered in time are told to the server, too', async () => {
    const clock = fakeClock()
    const link = scripted()
    const { say, failed } = bridged({ ...link, clock })
    say(request(7))
    await clock.advance(defaults.requests.stallTimeoutMs + 1000)
    expect(failed).toEqual(['7 upstream_timeout'])
    expect(link.sent.at(-1)).toMatch(/^give up 7: .*stall_timeout_seconds/)
  })

  it('of a tool that works without a word come only when its server answers our heartbeats no more', async () => {
    const clock = fakeClock()
    const link = scripted()
    const { stallTimeoutMs } = defaults.requests
    const diesMs = 5 * stallTimeoutMs
    const lookForLife = () => () => clock.now() <= diesMs
    const { say, failed } = bridged({ ...link, clock, lookForLife })
    say(request(7))
    await clock.advance(diesMs)
    expect(failed).toEqual([])
    await clock.advance(stallTimeoutMs + 1000)
    expect(failed).toEqual(['7 upstream_timeout'])
  })

  it('are not the server’s while it waits for the client', async () => {
    const clock = fakeClock()
    const link = scripted()
    const { say, failed } = bridged({ ...link, clock })
    say(request(7))
    await clock.advance(0)
    link.tell(request('s', 'elicitation/create'))
    await clock.advance(5 * defaults.requests.stallTimeoutMs)
    expect(failed).toEqual([])
    say('{"jsonrpc":"2.0","id":"s","result":{}}')
    await clock.advance(defaults.requests.stallTimeoutMs + 1000)
    expect(failed).toEqual(['7 upstream_timeout'])
  })

  it.each([
    ['no JSON-RPC', 'banner', 'invalid_message', -32_700],
    ['an empty batch', '[]', 'invalid_message', -32_700],
    ['a batch with an initialize', `[${initialize}]`, 'invalid_message', -32_700],
    ['too long', `{"x":"${'y'.repeat(1000)}"}`, 'body_too_large', -32_000],
  ])('a line that is %s is refused', async (_what, line, code, rpcCode) => {
    const link = scripted()
    const { say, lines, undelivered } = bridged({ ...link, clock: fakeClock() })
    say(line, '', '\t')
    await settled()
    expect(lines().map((one) => JSON.parse(one) as unknown)).toMatchObject([{ id: null, error: { code: rpcCode } }])
    expect([undelivered, link.sent]).toEqual([[code], []])
  })

  it('of a request that is too long have its id, those of a batch each its own', async () => {
    const link = scripted()
    const { say, lines, undelivered } = bridged({ ...link, clock: fakeClock() })
    const x = 'x'.repeat(1000)
    say(`{"jsonrpc":"2.0","method":"tools/call","params":{"x":"${x}"},"id":3}`, request(4))
    say(`[{"id":"a","method":"${x}"},{"method":"note"},{"id":"b","method":"ping"}]`)
    await settled()
    expect(lines().map((one) => JSON.parse(one) as unknown)).toMatchObject(
      [3, 'a', 'b'].map((id) => ({ id, error: { code: -32_000, data: { reason: 'body_too_large' } } })),
    )
    expect([undelivered, link.sent]).toEqual([Array(3).fill('body_too_large'), [request(4)]])
  })

  it('of the stream fail what would have come on it', async () => {
    const link = scripted()
    const { say, failed } = bridged({ ...link, clock: fakeClock() })
    say(request(1), request(2))
    await settled()
    link.take('1')
    link.lose(new KnownError('upstream_closed', 'the server ended the event stream'))
    expect(failed).toEqual(['1 upstream_closed', '2 upstream_closed'])
  })

  it('of a request that the client cancelled are not told (MCP 2025-11-25, Cancellation)', async () => {
    const link = scripted()
    const { say, lines, inFlight } = bridged({ ...link, clock: fakeClock() })
    const cancel = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    say(request(1), cancel)
    await settled()
    expect(link.sent).toEqual([request(1), cancel])
    link.refuse('1', new KnownError('cancelled', 'closed by us'))
    link.take('notifications/cancelled')
    await settled()
    expect([lines(), inFlight()]).toEqual([[], 0])
  })
})

describe('its end', () => {
  it('waits for what is under way, but not for streams, and fails the rest', async () => {
    const clock = fakeClock()
    const link = scripted()
    const { bridge, say, input, lines, failed } = bridged({ ...link, clock })
    say(request(1), request(2, 'subscriptions/listen'))
    input.end()
    expect(await bridge.ended).toBe('input_over')
    let isDrained = false
    const drained = bridge.drain(1000).then(() => (isDrained = true))
    await clock.advance(500)
    expect(isDrained).toBe(false)
    link.tell('{"jsonrpc":"2.0","id":1,"result":{}}')
    await clock.advance(100)
    await drained
    await bridge.close(new KnownError('shutting_down', 'the client has left'))
    expect([link.isClosed(), lines().length, failed]).toEqual([true, 2, ['2 shutting_down']])
  })

  it('does not wait for ever, and comes when the client does not listen any more', async () => {
    const clock = fakeClock()
    const { bridge, say, output } = bridged({ ...scripted(), clock })
    say(request(1))
    const drained = bridge.drain(1000)
    await clock.advance(1100)
    await drained
    output.destroy()
    expect(await bridge.ended).toBe('client_gone')
  })
})

describe('our own ping to the client', () => {
  const pingOf = (lines: readonly string[]) =>
    lines.map((line) => JSON.parse(line) as { id: string; method?: string }).find(({ method }) => method === 'ping')

  it.each([
    ['a result', (id: string) => `{"jsonrpc":"2.0","id":"${id}","result":{}}`, []],
    ['an error', (id: string) => `{"jsonrpc":"2.0","id":"${id}","error":{"code":-32601,"message":"no"}}`, []],
    [
      'part of a batch',
      (id: string) => `[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":"${id}","result":{}}]`,
      ['{"jsonrpc":"2.0","id":1,"result":{}}'],
    ],
  ])('is a line, and its answer, %s, stays with us', async (_what, answer, passes) => {
    const link = scripted()
    const { bridge, say, lines } = bridged({ ...link, clock: fakeClock() })
    const answered = bridge.toClient.request({ method: 'ping', timeoutMs: 5000 })
    await settled()
    const { id = '' } = pingOf(lines()) ?? {}
    expect(id).toMatch(/^vitals-[0-9a-f-]{36}$/)
    say(answer(id))
    await answered
    expect(link.sent).toEqual(passes)
  })

  it('that is answered too late, or twice, tells the server nothing either', async () => {
    const clock = fakeClock()
    const link = scripted()
    const { bridge, say, lines } = bridged({ ...link, clock })
    const asked = expect(bridge.toClient.request({ method: 'ping', timeoutMs: 5000 })).rejects.toMatchObject({
      code: 'upstream_timeout',
    })
    await clock.advance(5001)
    await asked
    const answer = `{"jsonrpc":"2.0","id":"${pingOf(lines())?.id}","result":{}}`
    say(answer, answer)
    await settled()
    expect(link.sent).toEqual([])
  })

  it('is not sent to a client that does not read, nor after its input ended', async () => {
    const link = scripted()
    const { bridge, read, input } = bridged({ ...link, clock: fakeClock(), highWaterMark: 200 })
    const { toClient } = bridge
    expect(toClient.canAsk()).toBe(true)
    for (let n = 0; n < 20; n++) link.tell(`{"jsonrpc":"2.0","method":"n","params":${n}}`)
    expect(toClient.canAsk()).toBe(false)
    read()
    await settled()
    expect(toClient.canAsk()).toBe(true)
    input.end()
    await bridge.ended
    expect(toClient.canAsk()).toBe(false)
  })
})

it('a client that does not read holds the server, and gets everything when it reads on', async () => {
  const link = scripted()
  const { lines, read } = bridged({ ...link, clock: fakeClock(), highWaterMark: 200 })
  for (let n = 0; n < 20; n++) link.tell(`{"jsonrpc":"2.0","method":"n","params":${n}}`)
  expect(link.held).toEqual([true])
  read()
  await settled()
  expect([link.held, lines().length]).toEqual([[true, false], 20])
})

/** A Streamable HTTP server in this process, with a client of it that speaks stdio. */
async function server(options: McpServerOptions = {}) {
  const mcp = await mcpServer(options)
  closing.push(mcp.stop)
  return { ...mcp, client: clientOf(mcp.url, 'http') }
}

function clientOf(url: string, transport: 'http' | 'sse') {
  const target = { transport, url: new URL(url), headers: { 'x-key': 'k' }, upstreamHost: 'auto' } as const
  const to = endpoint(target, { connectTimeoutMs: 2000, idleConnectionMs: 4000 })
  const connect = (listener: LinkListener) => {
    const link = { endpoint: to, clock: systemClock, maxBodyBytes: 100_000, listener, onTooLong: () => undefined }
    return transport === 'sse' ? sseLink(link) : httpLink(link)
  }
  const client = bridged({
    clock: systemClock,
    link: (listener) => new LastingLink({ clock: systemClock, listener, connect }),
  })
  closing.push(async () => {
    await client.bridge.close(new KnownError('shutting_down', 'the test is over'))
    await to.close()
  })
  return client
}

const modernMeta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' }

describe('a Streamable HTTP server', () => {
  it('has a session of this client, which ends by DELETE, with the configured headers', async () => {
    const { client, heard, log } = await server()
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    await client.bridge.close(new KnownError('shutting_down', 'bye'))
    expect(log()).toEqual(['POST initialize', 'POST notifications/initialized', 'GET', 'POST ping', 'DELETE'])
    const [, ...later] = heard.map(({ headers }) => [headers['mcp-protocol-version'], headers['x-key']])
    for (const headers of later) expect(headers).toEqual(['2025-11-25', 'k'])
  })

  it('gets a modern request by itself, with the headers that mirror it (MCP 2026-07-28, Streamable HTTP)', async () => {
    const { client, heard } = await server({ era: 'modern' })
    const params = { name: 'read', _meta: modernMeta }
    client.say(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }))
    await client.hears('"id":1')
    expect(heard[0]?.headers).toMatchObject({
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': 'read',
    })
  })

  it.each([
    ['an event stream that stays open', (response: ServerResponse) => sendEvents(response, [], true)],
    ['nothing at all', () => undefined],
  ])('that answers notifications with %s still hears what follows at once', async (_what, react) => {
    const { client, reactions, log } = await server()
    const closed = new Promise((resolve) => {
      reactions.set('notifications/roots/list_changed', (_message, response) => {
        response.on('close', resolve)
        react(response)
      })
    })
    client.say(initialize, initialized, '{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}')
    client.say(request(1, 'ping'), request(2, 'ping'))
    await client.hears('"id":1')
    await client.hears('"id":2')
    expect(log().filter((what) => what !== 'GET')).toEqual([
      'POST initialize',
      'POST notifications/initialized',
      'POST notifications/roots/list_changed',
      'POST ping',
      'POST ping',
    ])
    expect(client.failed).toEqual([])
    await client.bridge.close(new KnownError('shutting_down', 'bye'))
    await closed
  })

  it('learns of the cancellation of a modern request by the end of its connection, and of no other', async () => {
    const { client, reactions, log } = await server({ era: 'modern' })
    const closed = new Promise((resolve) => {
      reactions.set('subscriptions/listen', (_message, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
        response.on('close', resolve)
        response.write('data: {"jsonrpc":"2.0","method":"notifications/x"}\n\n')
      })
    })
    const params = { _meta: modernMeta }
    client.say(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'subscriptions/listen', params }))
    await client.hears('notifications/x')
    client.say('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
    await closed
    expect(log()).toEqual(['POST subscriptions/listen'])
    expect(client.lines()).toHaveLength(1)
  })

  it('gives the rest of an answer behind an id that came without data, once it has time for it', async () => {
    const { client, reactions, heard } = await server()
    reactions.set('tools/list', (_message, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.end('id: e1\nretry: 200\n\n')
    })
    reactions.set('GET', (_message, response, { headers }) => {
      const isResumed = headers['last-event-id'] === 'e1'
      if (!isResumed) return void response.writeHead(405).end()
      reactions.set('GET', (_again, resumed) => sendEvents(resumed, [{ jsonrpc: '2.0', id: 1, result: {} }]))
      response.writeHead(429).end()
    })
    client.say(initialize, initialized, request(1, 'tools/list'))
    await client.hears('"id":1,"result":{}')
    expect(client.failed).toEqual([])
    const asked = heard.filter(({ what, headers }) => what === 'GET' && headers['last-event-id'] === 'e1')
    expect(asked).toHaveLength(2)
  })

  it('that forgot the session gets the opening exchange anew, unseen, and the request that it refused', async () => {
    const { client, sessions, heard } = await server()
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    sessions.clear()
    client.say(request(2, 'ping'), request(3, 'tools/list'))
    await Promise.all([client.hears('"id":2'), client.hears('"id":3')])
    expect(client.lines()).toHaveLength(4)
    expect(client.failed).toEqual([])
    const openings = heard.filter(({ message }) => message.method === 'initialize').map(({ message }) => message)
    expect(openings).toHaveLength(2)
    expect(openings[1]).toEqual({ ...openings[0], id: expect.stringMatching(/^vitals-/) })
  })

  it('is asked by us inside the session of this client, which hears nothing of it', async () => {
    const { client, heard } = await server()
    const { toServer } = client.bridge
    expect(toServer.canAsk()).toBe(false)
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    expect(toServer.canAsk()).toBe(true)
    const before = client.lines()
    await toServer.request({ method: 'ping', timeoutMs: 5000 })
    const [ours, theirs] = [heard.at(-1), heard.at(-2)]
    expect(ours?.message).toMatchObject({ method: 'ping', id: expect.stringMatching(/^vitals-/) })
    expect(ours?.headers['mcp-session-id']).toBe(theirs?.headers['mcp-session-id'])
    expect(client.lines()).toEqual(before)
  })

  it('that tells us that it forgot the session is not asked any more until the next message opens another', async () => {
    const { client, sessions, count } = await server()
    const { toServer } = client.bridge
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    sessions.clear()
    const asked = toServer.request({ method: 'ping', timeoutMs: 5000 })
    await expect(asked).rejects.toMatchObject({ code: 'upstream_session_gone' })
    expect(toServer.canAsk()).toBe(false)
    await expect(toServer.request({ method: 'ping', timeoutMs: 5000 })).rejects.toMatchObject({ code: 'cancelled' })
    client.say(request(2, 'ping'))
    await client.hears('"id":2')
    expect([count('POST initialize'), toServer.canAsk(), client.failed]).toEqual([2, true, []])
  })

  it('may answer what was asked in the session that it forgot meanwhile', async () => {
    const { client, sessions, reactions } = await server()
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    let answer: (() => void) | undefined
    reactions.set('slow', (message, response) => {
      answer = () => sendJson(response, 200, { jsonrpc: '2.0', id: message.id, result: { slow: true } })
    })
    client.say(request(2, 'slow'))
    await eventually(() => answer !== undefined, { what: 'the slow request has arrived' })
    sessions.clear()
    client.say(request(3, 'ping'))
    await client.hears('"id":3')
    answer?.()
    expect(JSON.parse(await client.hears('"id":2'))).toMatchObject({ result: { slow: true } })
    expect(client.failed).toEqual([])
  })

  it('that ends the stream of a session which it forgot long ago takes nothing away from the next one', async () => {
    const { client, sessions, reactions, count } = await server()
    const streams: ServerResponse[] = []
    reactions.set('GET', (_message, response, { headers }) => {
      if (!sessions.has(String(headers['mcp-session-id']))) return void response.writeHead(404).end()
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      streams.push(response)
    })
    client.say(initialize, initialized, request(1, 'ping'))
    await Promise.all([client.hears('"id":1'), eventually(() => streams.length === 1, { what: 'the stream is open' })])
    sessions.clear()
    client.say(request(2, 'ping'))
    await client.hears('"id":2')
    await eventually(() => streams[0]?.closed, { what: 'we closed the old stream' })
    client.say(request(3, 'ping'))
    await client.hears('"id":3')
    expect(count('POST initialize')).toBe(2)
  })

  it('may go away and come back', async () => {
    const first = await server()
    const { client } = first
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    await first.stop()
    client.say(request(2, 'ping'))
    expect(JSON.parse(await client.hears('"id":2'))).toMatchObject({ error: { code: -32_000 } })
    const again: McpServer = await mcpServer({ port: Number(new URL(first.url).port) })
    closing.push(again.stop)
    client.say(request(3, 'ping'))
    expect(JSON.parse(await client.hears('"id":3'))).toEqual({ jsonrpc: '2.0', id: 3, result: {} })
  })

  it('that comes back with another revision is not spoken to', async () => {
    const { client, sessions, reactions } = await server()
    client.say(initialize, initialized, request(1, 'ping'))
    await client.hears('"id":1')
    sessions.clear()
    reactions.set('initialize', ({ id }, response) => {
      response.setHeader('mcp-session-id', 'new')
      sendJson(response, 200, { jsonrpc: '2.0', id, result: { protocolVersion: '2025-06-18', capabilities: {} } })
    })
    client.say(request(2, 'ping'))
    const answer = await client.hears('"id":2')
    expect(JSON.parse(answer)).toMatchObject({ error: { data: { reason: 'upstream_session_gone' } } })
    expect(answer).toContain('2025-06-18')
  })
})

describe('an HTTP+SSE server', () => {
  it('has a stream of this client, and another one after that was lost', async () => {
    const sdk = await legacySdkServer()
    closing.push(sdk.stop)
    const client = clientOf(sdk.sseUrl, 'sse')
    const echo = (id: number) =>
      `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"echo","arguments":{"it":"é"}}}`
    client.say(initialize, initialized, echo(1))
    expect(await client.hears('"id":1')).toContain('é')
    sdk.cutStreams()
    await eventually(() => sdk.streams() === 0, { what: 'the stream is lost' })
    await eventually(
      async () => {
        client.say(echo(2))
        return (await client.hears('"id":2')).includes('é')
      },
      { what: 'the server answers again' },
    )
    expect(sdk.streams()).toBe(1)
    await client.bridge.close(new KnownError('shutting_down', 'bye'))
    await eventually(() => sdk.streams() === 0, { what: 'the stream is closed' })
  })
})
