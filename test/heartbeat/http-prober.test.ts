import type { ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { isListed } from '../../src/heartbeat/conversation.ts'
import { type HttpProberOptions, HttpProber } from '../../src/heartbeat/http-prober.ts'
import type { CheckOptions, ProbeMethod, ProbeResult } from '../../src/heartbeat/probe.ts'
import { type Endpoint, endpoint } from '../../src/upstreams/endpoint.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import {
  type McpServer,
  type McpServerOptions,
  listenOn,
  mcpServer,
  result,
  rpcError,
  sendEvents,
  sendJson,
  silence,
} from '../support/mcp-server.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { scriptedServer } from '../support/scripted-server.ts'
import { legacySdkServer, modernSdkServer } from '../support/sdk-servers.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

async function server(options?: McpServerOptions): Promise<McpServer> {
  const made = await mcpServer(options)
  closing.push(made.stop)
  return made
}

/** A prober of that URL in virtual time: sockets are real, time-outs happen only when the test says. */
function proberOf(url: string, options: Partial<HttpProberOptions> & { headers?: Record<string, string> } = {}) {
  const clock = fakeClock()
  const target = { transport: 'http', url: new URL(url), headers: options.headers ?? {}, upstreamHost: 'auto' } as const
  const to: Endpoint = endpoint(target, { connectTimeoutMs: 2000, idleConnectionMs: 4000 })
  const prober = new HttpProber({
    endpoint: to,
    transport: 'http',
    clock,
    maxBodyBytes: 64 * 1024,
    openingDeadlineMs: 10_000,
    startDeadlineMs: 60_000,
    isStarting: () => false,
    method: () => 'auto',
    ...options,
  })
  closing.push(() => Promise.all([prober.stop(), to.close()]))
  const start = ({ deadlineMs = 10_000, wantsInventory = false }: Partial<CheckOptions> = {}): Promise<ProbeResult> => {
    const { runs, alive } = prober.start({ deadlineMs, wantsInventory })
    expect(alive).toBe(0)
    const [run] = runs
    if (!run || runs.length > 1) throw new Error(`${runs.length} checks in place of one`)
    return run.done
  }
  return { prober, clock, endpoint: to, start }
}

/** Lets virtual time pass once the server has heard this much. */
async function passAfter(mcp: McpServer, what: string, clock: { advance(ms: number): Promise<void> }, ms: number) {
  const before = mcp.count(what)
  await eventually(() => mcp.count(what) > before || mcp.count(what) > 0, { what: `the server hears ${what}` })
  await clock.advance(ms)
}

async function namesOf(probe: ProbeResult | undefined): Promise<string[] | 'unanswered' | undefined> {
  const tools = await probe?.inventory
  return isListed(tools) ? [...tools.keys()] : tools
}

describe('probe_method', () => {
  it('tools/list begins at that rung, in both eras', async () => {
    for (const era of ['legacy', 'modern'] as const) {
      const mcp = await server({ era })
      const { prober, start } = proberOf(mcp.url, { method: () => 'tools/list' })
      await namesOf(await start())
      expect(prober.describe().probe).toBe('tools/list')
      expect(await start()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
      expect(mcp.log().filter((what) => what === 'POST ping')).toEqual([])
    }
  })

  it('may change while a session of our own is open', async () => {
    const mcp = await server()
    let method: ProbeMethod = 'auto'
    const { prober, start } = proberOf(mcp.url, { method: () => method })
    await namesOf(await start())
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok' })
    method = 'tools/list'
    expect(prober.describe().probe).toBe('tools/list')
    expect(await start()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    method = 'transport'
    expect(await start()).toMatchObject({ method: 'transport' })
    await eventually(() => mcp.count('DELETE') === 1, { what: 'the session is ended' })
    method = 'auto'
    await namesOf(await start())
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok' })
    expect(mcp.count('POST initialize')).toBe(2)
  })

  it('transport closes the stream that a server opens whatever the method', async () => {
    let isClosed = false
    const { url, stop } = await scriptedServer((_message, response) => {
      response.on('close', () => (isClosed = true))
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': welcome\n\n')
    })
    closing.push(stop)
    const { start } = proberOf(url, { method: () => 'transport' })
    expect(await start()).toMatchObject({ method: 'transport', outcome: 'ok' })
    await eventually(() => isClosed, { what: 'the stream is closed' })
  })

  it('transport opens no session and sends no message: any HTTP answer will do', async () => {
    const mcp = await server()
    const { prober, start } = proberOf(mcp.url, { method: () => 'transport' })
    expect(prober.openingDeadlineMs()).toBeUndefined()
    expect(await start()).toMatchObject({ method: 'transport', outcome: 'ok', reason: 'OPTIONS answered with 400' })
    expect(prober.describe()).toEqual({ probe: 'transport', era: undefined, protocolVersion: undefined })
    expect(mcp.heard.map(({ message }) => message.method)).not.toContain('initialize')
    await mcp.stop()
    expect((await start()).outcome).toMatch(/^(refused|reset|closed)$/)
  })

  it.each([
    [401, 'unauthorized'],
    [403, 'unauthorized'],
    [404, 'ok'],
    [500, 'http_error'],
  ])('transport makes of status %i: %s', async (status, outcome) => {
    const scripted = await scriptedServer((_message, response) => void response.writeHead(status).end())
    closing.push(() => scripted.stop())
    const { start } = proberOf(scripted.url, { method: () => 'transport' })
    expect(await start()).toMatchObject({ outcome, reason: `OPTIONS answered with ${status}` })
  })
})

describe('the opening exchange', () => {
  it('finds a modern server by server/discover, with all headers and _meta, and asks that from then on', async () => {
    const mcp = await server({ era: 'modern', tools: ['read', 'write'] })
    const { prober, start } = proberOf(mcp.url)
    const opened = await start()
    expect(opened).toMatchObject({ leg: 'upstream', method: 'server/discover', outcome: 'ok', opening: true })
    expect(await namesOf(opened)).toEqual(['read', 'write'])
    expect(prober.describe()).toEqual({ probe: 'server/discover', era: 'modern', protocolVersion: '2026-07-28' })
    const beat = await start()
    expect(beat).toMatchObject({ method: 'server/discover', outcome: 'ok', reason: 'server/discover answered' })
    expect(beat.opening).toBeUndefined()
    expect(mcp.log()).toEqual(['POST server/discover', 'POST tools/list', 'POST server/discover'])
    for (const { headers, message } of mcp.heard) {
      expect(headers).toMatchObject({ 'mcp-protocol-version': '2026-07-28', 'mcp-method': message.method })
      expect(message.params?.['_meta']).toMatchObject({ 'io.modelcontextprotocol/protocolVersion': '2026-07-28' })
      expect(headers['mcp-session-id']).toBeUndefined()
    }
  })

  it('opens a session of its own with a legacy server, pings in it, and ends it with DELETE (MCP 2025-11-25)', async () => {
    const mcp = await server()
    const { prober, start } = proberOf(mcp.url)
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    expect(prober.describe()).toEqual({ probe: 'ping', era: 'legacy', protocolVersion: '2025-11-25' })
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok' })
    await prober.stop()
    expect(mcp.log()).toEqual([
      'POST server/discover',
      'POST initialize',
      'POST notifications/initialized',
      'POST tools/list',
      'POST ping',
      'DELETE',
    ])
    const [, initialize, ...rest] = mcp.heard
    expect(initialize?.headers['mcp-protocol-version']).toBeUndefined()
    for (const { headers } of rest) {
      expect(headers['mcp-protocol-version']).toBe('2025-11-25')
      expect(headers['mcp-session-id']).toMatch(/^[0-9a-f-]{36}$/)
    }
    expect(mcp.sessions.size).toBe(0)
  })

  it('asks under ids that nobody else uses, each a new one', async () => {
    const mcp = await server()
    const { start } = proberOf(mcp.url)
    for (let n = 0; n < 4; n++) await (await start()).inventory
    const ids = mcp.heard.filter(({ message }) => message.id !== undefined).map(({ message }) => String(message.id))
    expect(ids).toHaveLength(6)
    expect(new Set(ids).size).toBe(6)
    for (const id of ids) expect(id).toMatch(/^vitals-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/)
  })

  it('asks a server that it knows as legacy no sessionless server/discover again, as that leaks in the popular one', async () => {
    const mcp = await server()
    const { prober, start } = proberOf(mcp.url)
    for (let outage = 0; outage < 5; outage++) {
      await start()
      prober.forget()
    }
    expect(mcp.count('POST server/discover')).toBe(1)
    expect(mcp.count('POST initialize')).toBe(5)
    await eventually(() => mcp.sessions.size === 0, { what: 'every session is ended' })
  })

  it('finds out again when a legacy server has turned modern, and the other way round', async () => {
    const mcp = await server()
    const { prober, start } = proberOf(mcp.url)
    await start()
    mcp.era = 'modern'
    prober.forget()
    expect(await start()).toMatchObject({ method: 'server/discover', outcome: 'ok' })
    expect(prober.describe().era).toBe('modern')
    mcp.era = 'legacy'
    prober.forget()
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok' })
    expect(prober.describe()).toMatchObject({ era: 'legacy', probe: 'ping' })
  })

  it('finds out again within the same probe when a legacy server takes a modern one’s place unseen', async () => {
    const mcp = await server({ era: 'modern' })
    const { prober, start } = proberOf(mcp.url)
    await start()
    mcp.era = 'legacy'
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    expect(prober.describe().era).toBe('legacy')
  })

  it.each([
    { what: 'HTTP 400 in plain text', status: 400, type: 'text/plain', body: 'Missing session ID' },
    { what: 'HTTP 404 in HTML', status: 404, type: 'text/html', body: '<h1>Not found</h1>' },
    { what: 'HTTP 200 without anything', status: 200, type: 'text/plain', body: '' },
    { what: 'an event stream without an answer', status: 200, type: 'text/event-stream', body: ': nothing\n\n' },
  ])('takes a server that answers server/discover with $what for a legacy one', async ({ status, type, body }) => {
    const mcp = await server()
    mcp.reactions.set('server/discover', (_message, response) => {
      response.writeHead(status, { 'content-type': type }).end(body)
    })
    const { start } = proberOf(mcp.url)
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok' })
  })

  it('does not wait for ever for a legacy server that ignores server/discover', async () => {
    const mcp = await server({ reactions: { 'server/discover': silence } })
    const { start, clock } = proberOf(mcp.url)
    const opened = start()
    await passAfter(mcp, 'POST server/discover', clock, 5000)
    expect(await opened).toMatchObject({ method: 'initialize', outcome: 'ok' })
  })

  it('does not wait for ever for the server to take notifications/initialized', async () => {
    const mcp = await server({ reactions: { 'notifications/initialized': silence } })
    const { start, clock } = proberOf(mcp.url)
    const opened = start()
    await passAfter(mcp, 'POST notifications/initialized', clock, 10_000)
    expect(await opened).toMatchObject({ outcome: 'timeout', opening: true })
  })

  it('counts a refusal of initialize as a sign of life, says so, and opens anew the next time', async () => {
    const mcp = await server()
    mcp.reactions.set('initialize', (message, response) => {
      sendJson(response, 200, rpcError(message.id, -32_603, 'database is down'))
    })
    const { start, prober } = proberOf(mcp.url)
    const reason = 'initialize answered with JSON-RPC error -32603: database is down'
    expect(await start()).toMatchObject({ outcome: 'ok', reason, turnedAway: true })
    expect(prober.describe()).toMatchObject({ era: undefined, protocolVersion: undefined })
    mcp.reactions.delete('initialize')
    const opened = await start()
    expect(opened).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    expect(opened.turnedAway).toBeUndefined()
  })

  it('never runs twice at once', async () => {
    const mcp = await server({ reactions: { initialize: silence } })
    const { start, prober, clock } = proberOf(mcp.url)
    const opened = start()
    await eventually(() => mcp.count('POST initialize') === 1, { what: 'initialize' })
    expect(prober.start({ deadlineMs: 10_000, wantsInventory: false })).toEqual({ runs: [], alive: 0 })
    await clock.advance(10_000)
    expect((await opened).outcome).toBe('timeout')
    mcp.reactions.clear()
    expect((await start()).outcome).toBe('ok')
  })

  it('is given up at stop(), with everything that it held open', async () => {
    const mcp = await server({ reactions: { initialize: silence } })
    const { start, prober, clock, endpoint: to } = proberOf(mcp.url)
    const opened = start()
    await eventually(() => mcp.count('POST initialize') === 1, { what: 'initialize' })
    await prober.stop()
    expect((await opened).outcome).toBe('inconclusive')
    await eventually(() => to.stats().active === 0, { what: 'no connection is in use' })
    expect(clock.pending()).toBe(0)
    expect(prober.start({ deadlineMs: 1000, wantsInventory: false }).runs).toEqual([])
  })
})

describe('while a process of ours starts', () => {
  it('waits for a port that is still closed, and pings as soon as somebody listens', async () => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}/mcp`
    const { clock, start } = proberOf(url, { isStarting: () => true })
    const opened = start({ deadlineMs: 60_000 })
    const isOver = settled(opened)
    // Refused every time for two seconds, then the server listens.
    let mcp: McpServer | undefined
    while (!isOver()) {
      await clock.advance(100)
      if (clock.now() > 2000) mcp ??= await server({ port })
    }
    expect(await opened).toMatchObject({ method: 'initialize', outcome: 'ok' })
    expect(mcp?.count('POST server/discover')).toBe(1)
  })

  it('asks nobody while the process is being ended, or rests', async () => {
    const { prober } = proberOf(`http://127.0.0.1:${await freePort()}/mcp`, { isResting: () => true })
    expect(prober.start({ deadlineMs: 1000, wantsInventory: false })).toEqual({ runs: [], alive: 0 })
  })

  it('says refused at once when nothing is starting', async () => {
    const { start } = proberOf(`http://127.0.0.1:${await freePort()}/mcp`)
    expect(await start()).toMatchObject({ outcome: 'refused', opening: true })
  })
})

describe('a heartbeat', () => {
  /** An open connection to a scripted server; only what comes after is of interest. */
  async function opened(options: McpServerOptions = {}, prober: Parameters<typeof proberOf>[1] = {}) {
    const mcp = await server(options)
    const test = proberOf(mcp.url, prober)
    await (
      await test.start()
    ).inventory
    return { mcp, ...test }
  }

  it.each([-32_601, -32_600])(
    'takes an unsupported ping (%i) for an answer, and the next rung from then on',
    async (code) => {
      const { mcp, start, prober } = await opened()
      mcp.reactions.set('ping', (message, response) => sendJson(response, 200, rpcError(message.id, code)))
      const reason = `ping answered with JSON-RPC error ${code}`
      expect(await start()).toMatchObject({ method: 'ping', outcome: 'unsupported', reason })
      expect(await start()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
      prober.forget()
      await start()
      expect(prober.describe().probe).toBe('tools/list')
      expect(mcp.count('POST ping')).toBe(1)
    },
  )

  it('asks a server that stays silent at its first ping for its tools, within the same probe and its time-out', async () => {
    const { mcp, start, prober, clock } = await opened({ reactions: { ping: silence } })
    const beat = start()
    await passAfter(mcp, 'POST ping', clock, 1000)
    expect(await beat).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    expect(clock.now()).toBeLessThan(2000) // The shortest time-out of a probe.
    expect(prober.describe().probe).toBe('tools/list')
    expect(await start()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    expect(mcp.count('POST ping')).toBe(1)
  })

  it('says timeout when such a server does not tell its tools either, in all not later than the deadline', async () => {
    const { mcp, start, clock, prober } = await opened()
    mcp.reactions.set('*', silence)
    const beat = start()
    await passAfter(mcp, 'POST ping', clock, 1000)
    await eventually(() => mcp.count('POST tools/list') === 2, { what: 'tools/list' })
    await clock.advance(9000)
    expect(await beat).toMatchObject({ method: 'ping', outcome: 'timeout', durationMs: 10_000 })
    expect(prober.describe().probe).toBe('ping')
  })

  it('looks whether HTTP is answered where a server without tools answers nothing else, until it does', async () => {
    const mute = { ping: silence, 'tools/list': silence }
    const { mcp, start, prober, clock } = await opened({ tools: [], reactions: mute })
    const first = start()
    await passAfter(mcp, 'POST ping', clock, 1000)
    await passAfter(mcp, 'POST tools/list', clock, 500)
    expect(await first).toMatchObject({ method: 'transport', outcome: 'ok' })
    expect(clock.now()).toBeLessThan(2000) // The shortest time-out of a probe.
    expect(prober.describe().probe).toBe('transport')
    expect(await start()).toMatchObject({ method: 'transport', outcome: 'ok' })
    mcp.reactions.set('OPTIONS', silence)
    const unanswered = start()
    await eventually(() => mcp.count('OPTIONS') === 3, { what: 'the third OPTIONS' })
    await clock.advance(10_000)
    expect(await unanswered).toMatchObject({ method: 'transport', outcome: 'timeout' })
    // It is asked all the same, and back with the first answer.
    mcp.reactions.clear()
    expect(await start()).toMatchObject({ method: 'transport', outcome: 'ok' })
    await eventually(() => prober.describe().probe === 'ping', { what: 'a ping is answered' })
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok' })
    mcp.reactions.set('ping', silence).set('tools/list', silence)
    prober.forget()
    await start()
    const silent = start()
    const before = mcp.count('POST tools/list')
    await passAfter(mcp, 'POST ping', clock, 1000)
    await eventually(() => mcp.count('POST tools/list') > before, { what: 'tools/list' })
    await clock.advance(9000)
    expect(await silent).toMatchObject({ method: 'ping', outcome: 'timeout' })
  })

  it('opens a new session when such a server does not know ours any more', async () => {
    const mute = { ping: silence, 'tools/list': silence }
    const { mcp, start, prober, clock } = await opened({ tools: [], reactions: mute })
    const first = start()
    await passAfter(mcp, 'POST ping', clock, 1000)
    await passAfter(mcp, 'POST tools/list', clock, 500)
    await first
    mcp.reactions.clear()
    mcp.sessions.clear()
    expect(await start()).toMatchObject({ method: 'transport', outcome: 'ok' })
    await eventually(() => prober.openingDeadlineMs() !== undefined, { what: 'the session is gone' })
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok' })
  })

  it.each<[string, (response: ServerResponse) => void]>([
    ['500', (response) => response.writeHead(500).end('KeyError')],
    ['405', (response) => response.writeHead(405).end()],
    ['202', (response) => response.writeHead(202).end()],
    ['an empty object', (response) => sendJson(response, 200, {})],
    ['a closed connection', (response) => response.socket?.resetAndDestroy()],
  ])('asks a server whose ping gets %s for its tools, in the same session, for good', async (_what, react) => {
    const { mcp, start, prober } = await opened()
    mcp.reactions.set('ping', (_message, response) => react(response))
    expect(await start()).toMatchObject({
      method: 'ping',
      outcome: 'unsupported',
      reason: expect.stringMatching(/^ping failed \(.+\), and tools\/list answered$/),
    })
    prober.forget()
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok' })
    expect(await start()).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    expect([mcp.count('POST initialize'), mcp.count('POST ping')]).toEqual([2, 1])
  })

  it('does not excuse the silence of a server that has answered a ping before', async () => {
    const { mcp, start, clock } = await opened()
    await start()
    mcp.reactions.set('ping', silence)
    const beat = start()
    await eventually(() => mcp.count('POST ping') === 2, { what: 'the second ping' })
    await clock.advance(10_000)
    expect(await beat).toMatchObject({ method: 'ping', outcome: 'timeout' })
    expect(mcp.count('POST tools/list')).toBe(1)
  })

  it('closes the connection of a request that was never answered: a half-open server costs no sockets', async () => {
    const { mcp, start, clock, endpoint: to } = await opened()
    await start()
    mcp.reactions.set('ping', silence)
    for (let n = 2; n < 8; n++) {
      const beat = start()
      await eventually(() => mcp.count('POST ping') === n, { what: `ping ${n}` })
      await clock.advance(10_000)
      await beat
    }
    await eventually(() => to.stats().active === 0, { what: 'no connection is in use' })
  })

  it('opens a new session within the same probe when the server does not know ours any more (404)', async () => {
    const { mcp, start } = await opened()
    await start()
    mcp.sessions.clear()
    const before = mcp.log().length
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    // A session that is gone needs no DELETE, and a known era no question.
    expect(mcp.log().slice(before)).toEqual(['POST ping', 'POST initialize', 'POST notifications/initialized'])
  })

  it('does so too when a restarted server says it as the reference servers do: 400, id null', async () => {
    const { mcp, start } = await opened()
    await start()
    const refusal = rpcError(null, -32_000, 'Bad Request: No valid session ID provided')
    mcp.reactions.set('ping', (_message, response) => sendJson(response, 400, refusal))
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    mcp.reactions.clear()
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok' })
  })

  it.each<{ what: string; status: number; type?: string; body: string; outcome: string }>([
    {
      what: '401',
      status: 401,
      body: '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"token"}}',
      outcome: 'unauthorized',
    },
    { what: '403', status: 403, body: '', outcome: 'unauthorized' },
    { what: '503 in HTML', status: 503, body: '<h1>Service unavailable</h1>', outcome: 'http_error' },
    { what: '500 without a body', status: 500, body: '', outcome: 'http_error' },
    { what: '429 in JSON that is no JSON-RPC', status: 429, body: '{"error":"slow down"}', outcome: 'inconclusive' },
    { what: '400 without a body', status: 400, body: '', outcome: 'http_error' },
    { what: 'a redirect, which is not followed', status: 307, body: '', outcome: 'http_error' },
    { what: '200 with garbage', status: 200, body: 'hello', outcome: 'invalid' },
    { what: '200 with half a message', status: 200, body: '{"jsonrpc":"2.0","id":', outcome: 'invalid' },
    { what: '200 with nothing', status: 200, body: '', outcome: 'invalid' },
    {
      what: '200 with an answer to somebody else',
      status: 200,
      body: '{"jsonrpc":"2.0","id":7,"result":{}}',
      outcome: 'invalid',
    },
    {
      what: 'an event stream that ends without an answer',
      status: 200,
      type: 'text/event-stream',
      body: ': bye\n\n',
      outcome: 'closed',
    },
  ])('reads $what as $outcome', async ({ status, type = 'application/json', body, outcome }) => {
    const { mcp, start } = await opened()
    await start()
    mcp.reactions.set('ping', (_message, response) => {
      response.writeHead(status, { 'content-type': type, location: `${mcp.url}/elsewhere` }).end(body)
    })
    const before = mcp.log().length
    expect(await start()).toMatchObject({ method: 'ping', outcome })
    expect(mcp.log().slice(before, before + 2)).not.toContain('GET')
  })

  it.each([
    { what: '500 with a JSON-RPC error', status: 500, code: -32_603, id: 'own' },
    { what: '400 with a JSON-RPC error', status: 400, code: -32_602, id: 'own' },
    { what: '400 with a JSON-RPC error and id null', status: 400, code: -32_700, id: 'null' },
  ])('reads $what as an answer', async ({ status, code, id }) => {
    const { mcp, start } = await opened()
    mcp.reactions.set('ping', (message, response) => {
      sendJson(response, status, rpcError(id === 'null' ? null : message.id, code))
    })
    expect(await start()).toMatchObject({ outcome: 'ok', reason: `ping answered with JSON-RPC error ${code}` })
  })

  it('reads an answer on an event stream, and lets go of one that the server leaves open', async () => {
    const { mcp, start, clock, endpoint: to } = await opened()
    mcp.reactions.set('ping', (message, response) => sendEvents(response, [result(message)], true))
    expect(await start()).toMatchObject({ outcome: 'ok' })
    expect(to.stats().active).toBe(1)
    await clock.advance(1000)
    await eventually(() => to.stats().active === 0, { what: 'the stream is closed' })
  })

  it('reads a connection that is cut as reset, and opens a new session the next time', async () => {
    const { mcp, start } = await opened()
    await start()
    mcp.reactions.set('ping', (_message, response) => void response.socket?.resetAndDestroy())
    expect(await start()).toMatchObject({ outcome: 'reset' })
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok' })
  })

  it('reads at most the limit of an answer, and closes the connection there', async () => {
    const { mcp, start, endpoint: to } = await opened()
    await start()
    let isClosed = false
    mcp.reactions.set('ping', (_message, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.on('close', () => (isClosed = true))
      const flood = () => {
        if (!isClosed && response.write(Buffer.alloc(16_384, 0x20))) setImmediate(flood)
      }
      response.on('drain', flood)
      flood()
    })
    const beat = await start()
    expect(beat).toMatchObject({ outcome: 'invalid' })
    expect(beat.reason).toMatch(/^an answer of \d+ bytes or more; the limit is 65536$/)
    await eventually(() => isClosed && to.stats().active === 0, { what: 'the connection is closed' })
  })

  it('answers what the server asks of it: ping, and nothing else', async () => {
    const { mcp, start } = await opened()
    mcp.reactions.set('ping', (message, response) => {
      if (message.id === undefined || message.method === undefined) return
      const ping = { jsonrpc: '2.0', id: 's1', method: 'ping' }
      const roots = { jsonrpc: '2.0', id: 's2', method: 'roots/list' }
      sendEvents(response, [ping, roots, result(message)])
    })
    await start()
    const answers = () => mcp.heard.filter(({ message }) => message.method === undefined && message.id !== undefined)
    await eventually(() => answers().length === 2, { what: 'both answers' })
    expect(answers().map(({ message }) => message)).toEqual([
      { jsonrpc: '2.0', id: 's1', result: {} },
      { jsonrpc: '2.0', id: 's2', error: { code: -32_601, message: 'the heartbeat client offers no such method' } },
    ])
    for (const { headers } of answers()) expect(headers['mcp-session-id']).toBeDefined()
  })

  it('sends the configured headers', async () => {
    const { mcp } = await opened({}, { headers: { Authorization: 'Bearer secret' } })
    for (const { headers } of mcp.heard) expect(headers).toMatchObject({ authorization: 'Bearer secret' })
  })
})

describe('the inventory', () => {
  it('is read page by page (MCP 2025-11-25, Pagination)', async () => {
    const mcp = await server()
    const pages = [['a', 'b'], ['c'], ['d']]
    mcp.reactions.set('tools/list', (message, response) => {
      const page = Number(message.params?.['cursor'] ?? 0)
      const tools = pages[page]?.map((name) => ({ name, inputSchema: {} }))
      const nextCursor = page + 1 < pages.length ? { nextCursor: String(page + 1) } : {}
      sendJson(response, 200, result(message, { tools, ...nextCursor }))
    })
    expect(await namesOf(await proberOf(mcp.url).start())).toEqual(['a', 'b', 'c', 'd'])
  })

  it.each([
    { what: 'never ends', next: (at: number) => String(at), requests: 50 },
    { what: 'goes in a circle', next: () => 'again', requests: 2 },
  ])('ends even where the list $what', async ({ next, requests }) => {
    const mcp = await server()
    mcp.reactions.set('tools/list', (message, response) => {
      const tools = [{ name: `tool-${mcp.count('POST tools/list')}`, inputSchema: {} }]
      sendJson(response, 200, result(message, { tools, nextCursor: next(mcp.count('POST tools/list')) }))
    })
    expect(await namesOf(await proberOf(mcp.url).start())).toHaveLength(requests)
    expect(mcp.count('POST tools/list')).toBe(requests)
  })

  it('comes later where the list takes long, and is asked for again where it did not come', async () => {
    const mcp = await server({ reactions: { 'tools/list': silence } })
    const { start, clock } = proberOf(mcp.url)
    const opened = await start() // The answer to initialize is enough.
    await passAfter(mcp, 'POST tools/list', clock, 10_000)
    expect(await opened.inventory).toBe('unanswered')
    mcp.reactions.clear()
    expect((await start()).inventory).toBeUndefined()
    expect(await namesOf(await start({ wantsInventory: true }))).toEqual(['read'])
  })

  it('is empty for a server that offers no tools (any more), or that answers with an error', async () => {
    const mcp = await server({ tools: [] })
    const { start, prober } = proberOf(mcp.url)
    expect(await namesOf(await start())).toEqual([])
    expect(mcp.count('POST tools/list')).toBe(0)
    mcp.tools = ['read']
    mcp.reactions.set('tools/list', (message, response) => sendJson(response, 200, rpcError(message.id, -32_603)))
    prober.forget()
    expect(await namesOf(await start())).toEqual([])
  })

  it('is read again when the server says that it changed, and that is no loss', async () => {
    const mcp = await server()
    const { start } = proberOf(mcp.url)
    await (
      await start()
    ).inventory
    mcp.tools = ['write']
    mcp.reactions.set('ping', (message, response) => {
      const changed = { jsonrpc: '2.0', method: 'notifications/tools/list_changed' }
      sendEvents(response, [changed, result(message)])
    })
    const beat = await start()
    expect(beat.announced).toBe(true)
    expect(await namesOf(beat)).toEqual(['write'])
    mcp.reactions.clear()
    expect((await start()).inventory).toBeUndefined()
  })
})

describe('real servers', () => {
  it('SDK v2 (createMcpHandler): modern', async () => {
    const sdk = await modernSdkServer()
    closing.push(sdk.stop)
    const { start, prober } = proberOf(sdk.url)
    expect(await namesOf(await start())).toEqual(['echo'])
    expect(prober.describe()).toMatchObject({ era: 'modern', probe: 'server/discover' })
    expect(await start()).toMatchObject({ outcome: 'ok', reason: 'server/discover answered' })
  })

  it('SDK v1 (StreamableHTTPServerTransport): legacy, and no session is left behind', async () => {
    const sdk = await legacySdkServer()
    closing.push(sdk.stop)
    const { start, prober } = proberOf(sdk.url)
    expect(await namesOf(await start())).toEqual(['echo'])
    expect(prober.describe()).toMatchObject({ era: 'legacy', probe: 'ping', protocolVersion: '2025-11-25' })
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok', reason: 'ping answered' })
    expect(sdk.sessions()).toBe(1)
    await prober.stop()
    await eventually(() => sdk.sessions() === 0, { what: 'the session is ended' })
  })

  it('SDK v1 (SSEServerTransport): HTTP+SSE, on a stream of our own', async () => {
    const sdk = await legacySdkServer()
    closing.push(sdk.stop)
    const { start, prober } = proberOf(sdk.sseUrl, { transport: 'sse' })
    const opened = await start()
    expect(opened).toMatchObject({ method: 'initialize', outcome: 'ok' })
    expect(await namesOf(opened)).toEqual(['echo'])
    expect(await start()).toMatchObject({ method: 'ping', outcome: 'ok' })
    sdk.cutStreams()
    await eventually(() => prober.openingDeadlineMs() !== undefined, { what: 'the end of the stream is noticed' })
    expect(await start()).toMatchObject({ method: 'initialize', outcome: 'ok', opening: true })
    await prober.stop()
    await eventually(() => sdk.streams() === 0, { what: 'the stream is closed' })
  })
})

it('reads a server that accepts and never answers, as a stopped process does, as timeout', async () => {
  const raw = createServer((socket) => socket.resume())
  closing.push(() => new Promise((resolve) => raw.close(resolve)))
  const { start, clock } = proberOf(`http://127.0.0.1:${await listenOn(raw)}/mcp`)
  const opened = start()
  const isOver = settled(opened)
  while (!isOver()) await clock.advance(1000)
  expect(await opened).toMatchObject({ outcome: 'timeout', opening: true })
  expect(clock.now()).toBeLessThanOrEqual(11_000)
})

function settled(promise: Promise<unknown>): () => boolean {
  let isOver = false
  void promise.finally(() => (isOver = true))
  return () => isOver
}
