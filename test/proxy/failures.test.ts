import { createServer } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { RawClient, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { openSse } from '../support/sse-client.ts'
import { type RunningProxy, type TestUpstream, startProxy } from './fixture.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** An address where nobody listens. */
async function nobody(path: string): Promise<string> {
  const server = createServer()
  const port = await listenOn(server)
  await stopped(server)
  return `http://127.0.0.1:${port}${path}`
}

const servers: Readonly<Record<string, () => Promise<TestUpstream>>> = {
  stdio: () => Promise.resolve({ script: 'no-such-server.mjs' }),
  http: async () => ({ url: await nobody('/mcp') }),
  sse: async () => ({ url: await nobody('/sse'), transport: 'sse' }),
}

async function start(server: string, maxBodyBytes = 4096): Promise<RunningProxy> {
  const upstream = await servers[server]?.()
  if (!upstream) throw new Error(server)
  const proxy = await startProxy({ upstreams: { u: upstream }, maxBodyBytes })
  closers.push(() => proxy.close())
  return proxy
}

const json = ['Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream']
const modern = [...json, 'MCP-Protocol-Version', '2026-07-28', 'Mcp-Method', 'server/discover']
const meta = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'
const initialize = '{"jsonrpc":"2.0","id":5,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'
const discover = `{"jsonrpc":"2.0","id":5,"method":"server/discover","params":{${meta}}}`
const ping = '{"jsonrpc":"2.0","id":5,"method":"ping"}'

interface Request {
  readonly path: string
  readonly headers: readonly string[]
  readonly body: string
}

const opening: Request = { path: '/u/mcp', headers: json, body: initialize }
const stateless: Request = { path: '/u/mcp', headers: modern, body: discover }
const posted: Request = { path: '/u/messages?session_id=nobody', headers: json, body: ping }

async function answerTo(proxy: RunningProxy, { path, headers, body }: Request) {
  const response = await rawFetch(proxy.port, { path, headers, body })
  const { id, error } = JSON.parse(textOf(response)) as {
    id: unknown
    error: { code: number; message: string; data: { reason: string } }
  }
  expect(error.message).toMatch(/^mcp-vitals: /)
  expect(headerOf(response, 'content-type')).toBe('application/json')
  return [statusOf(response), error.code, error.data.reason, id, headerOf(response, 'retry-after')]
}

describe.each(['stdio', 'http', 'sse'])('in front of a %s server', (server) => {
  it.each([
    ['opening', opening],
    ['modern', stateless],
    ['posted on a stream', posted],
  ])('what somebody else sends us, or too much of it, is refused: %s', async (_title, request) => {
    const proxy = await start(server)
    const withHeader = (name: string, value: string) => ({ ...request, headers: [...request.headers, name, value] })
    expect(await answerTo(proxy, withHeader('Host', 'evil.example'))).toEqual([
      403,
      -32000,
      'host_not_allowed',
      null,
      undefined,
    ])
    expect(await answerTo(proxy, withHeader('Origin', 'http://evil.example'))).toEqual([
      403,
      -32000,
      'origin_not_allowed',
      null,
      undefined,
    ])
    const isKnown = request !== posted
    const long = { ...request, body: request.body.replace('{', `{"x":"${'x'.repeat(5000)}",`) }
    expect((await answerTo(proxy, long)).slice(0, 3)).toEqual(
      isKnown ? [413, -32000, 'body_too_large'] : [404, -32001, 'session_not_found'],
    )
  })

  it('a stream that nobody opened, or that is not named', async () => {
    const proxy = await start(server)
    expect((await answerTo(proxy, posted)).slice(0, 3)).toEqual([404, -32001, 'session_not_found'])
    const unnamed = { ...posted, path: '/u/messages' }
    expect((await answerTo(proxy, unnamed)).slice(0, 3)).toEqual([400, -32000, 'session_missing'])
  })

  it('a server that is not there', async () => {
    const proxy = await start(server)
    const reason = server === 'stdio' ? 'upstream_exited' : 'upstream_refused'
    expect(await answerTo(proxy, opening)).toEqual([502, -32000, reason, 5, undefined])
    // Under `resident: never` a stdio server waits for its restart after that.
    expect(await answerTo(proxy, stateless)).toEqual([502, -32000, reason, 5, undefined])
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('and one that is stopping takes nothing more', async () => {
    const proxy = await start(server)
    proxy.shutDown()
    for (const request of [opening, stateless, posted]) {
      expect((await answerTo(proxy, request)).slice(0, 3)).toEqual([503, -32000, 'shutting_down'])
      expect((await answerTo(proxy, request))[4]).toBe('1')
    }
  })
})

describe.each(['stdio', 'sse'])('on the bridge to a %s server', (server) => {
  it('a session that is unknown or not named', async () => {
    const proxy = await start(server)
    const unknown = { ...opening, body: ping, headers: [...json, 'Mcp-Session-Id', 'nobody'] }
    expect(await answerTo(proxy, unknown)).toEqual([404, -32001, 'session_not_found', 5, undefined])
    const unnamed = { ...opening, body: ping }
    expect(await answerTo(proxy, unnamed)).toEqual([400, -32000, 'session_missing', 5, undefined])
  })
})

it('an HTTP+SSE client hears on its stream that the server is not there', async () => {
  const proxy = await start('http')
  const client = await openSse(`${proxy.url}/u/sse`)
  closers.push(() => client.close())
  expect(await client.ask(JSON.parse(initialize) as Record<string, unknown>)).toMatchObject({
    id: 5,
    error: { code: -32000, data: { reason: 'upstream_refused' } },
  })
})

it('and gets a 502 for the stream itself where that is forwarded', async () => {
  const proxy = await start('sse')
  const client = new RawClient(proxy.port)
  closers.push(() => client.close())
  client.send(rawRequest({ method: 'GET', path: '/u/sse' }))
  const response = await client.response()
  expect([statusOf(response), JSON.parse(textOf(response))]).toMatchObject([
    502,
    { error: { code: -32000, data: { reason: 'upstream_refused' } } },
  ])
})
