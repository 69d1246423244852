import type { IncomingMessage, ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { scriptedServer, sendJson } from '../support/scripted-server.ts'
import { type ProxyOptions, startProxy } from './fixture.ts'

const publicUrl = 'https://vitals.example.com/in'
const wellKnown = '/.well-known/oauth-protected-resource'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

type Reply = (response: ServerResponse, request: IncomingMessage) => void

/** A server of which every request but those for `pages` is answered with a challenge. */
async function start({
  pages,
  challenge = (origin: string) => `Bearer resource_metadata="${origin}${wellKnown}/mcp"`,
  status = 401,
  transport = 'http',
  headers = {},
  ...options
}: Partial<ProxyOptions> & {
  readonly pages: (origin: string) => Readonly<Record<string, Reply>>
  readonly challenge?: (origin: string) => string
  readonly status?: number
  readonly transport?: 'http' | 'sse'
  readonly headers?: Readonly<Record<string, string>>
}) {
  const asked: string[] = []
  const server = await scriptedServer((_message, response, request) => {
    asked.push(`${request.method ?? ''} ${request.url ?? ''}`)
    const page = pages(origin)[request.url ?? '']
    if (page) return page(response, request)
    if (request.url?.includes('/.well-known/')) return sendJson(response, 404, { error: 'nothing here' })
    response.writeHead(status, { 'www-authenticate': challenge(origin), 'x-other': 'stays' })
    response.end('who are you?')
  })
  const { origin } = new URL(server.url)
  closers.push(server.stop)
  const proxy = await startProxy({ publicUrl, ...options, upstreams: { u: { url: server.url, transport, headers } } })
  closers.push(() => proxy.close())
  const get = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(proxy.url + path, init)
    return { status: response.status, headers: response.headers, text: await response.text() }
  }
  return { origin, asked, proxy, get }
}

const metadata = (origin: string) =>
  `{ "resource": "${origin}/mcp" , "authorization_servers": ["https://as.example.com"], "n": 1.0 }`
const isMetadata: Reply = (response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'access-control-allow-origin': '*' })
  response.end(metadata(`http://127.0.0.1:${response.req.socket.localPort ?? 0}`))
}
const initialize = {
  method: 'POST',
  headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
  body: '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}',
}

describe('the challenge of a server', () => {
  const atUs = (mount: string) => `Bearer resource_metadata="${publicUrl}${wellKnown}/u/${mount}"`

  it.each([
    ['Streamable HTTP', 'http', '/u/mcp', initialize, 'mcp'],
    ['an event stream', 'sse', '/u/sse', {}, 'sse'],
    ['a bridge to HTTP+SSE', 'sse', '/u/mcp', initialize, 'mcp'],
  ] as const)('leads to the metadata that we serve: %s', async (_, transport, path, init, mount) => {
    const { get } = await start({ pages: () => ({}), transport })
    const { status, headers } = await get(path, init)
    expect([status, headers.get('www-authenticate')]).toEqual([401, atUs(mount)])
  })

  it('does so for a 403, whose scope a client has to ask for, and nothing else of the answer changes', async () => {
    const { get } = await start({
      pages: () => ({}),
      status: 403,
      challenge: (origin) => `Bearer error="insufficient_scope", scope="a b", resource_metadata="${origin}/x"`,
    })
    const { status, headers, text } = await get('/u/mcp', initialize)
    expect([status, headers.get('x-other'), text]).toEqual([403, 'stays', 'who are you?'])
    expect(headers.get('www-authenticate')).toBe(
      `Bearer error="insufficient_scope", scope="a b", resource_metadata="${publicUrl}${wellKnown}/u/mcp"`,
    )
  })

  it.each([
    ['without public_url', { publicUrl: undefined }, undefined],
    ['of another site, whose metadata is not ours to fetch', {}, 'https://elsewhere.example.com/metadata'],
    ['when the credentials are ours', { headers: { Authorization: 'Bearer ours' } }, undefined],
  ])('stays as it is %s', async (_, options, address) => {
    const { get, origin } = await start({
      pages: () => ({}),
      challenge: (own) => `Bearer resource_metadata="${address ?? `${own}/x`}"`,
      ...options,
    })
    const { headers } = await get('/u/mcp', initialize)
    expect(headers.get('www-authenticate')).toBe(`Bearer resource_metadata="${address ?? `${origin}/x`}"`)
  })
})

describe('protected resource metadata', () => {
  const expected = (origin: string, mount = 'mcp') =>
    metadata(origin).replace(`${origin}/mcp`, `${publicUrl}/u/${mount}`)

  it.each([
    ['as RFC 9728 §3.1 has it', `${wellKnown}/u/mcp`, 'mcp'],
    ['for HTTP+SSE', `${wellKnown}/u/sse`, 'sse'],
    ['appended to the path', `/u/mcp${wellKnown}`, 'mcp'],
  ])('is the server’s own but for the resource: %s', async (_, path, mount) => {
    const { get, origin } = await start({ pages: () => ({ [`${wellKnown}/mcp`]: isMetadata }) })
    const { status, headers, text } = await get(path)
    expect([status, text]).toEqual([200, expected(origin, mount)])
    expect(headers.get('access-control-allow-origin')).toBe('*')
  })

  it('is looked for where the server said, then below its path, then at its root', async () => {
    const { get, asked } = await start({
      pages: () => ({ [wellKnown]: isMetadata }),
      challenge: (origin) => `Bearer resource_metadata="${origin}/custom.json?x=1"`,
    })
    await get('/u/mcp', initialize)
    asked.length = 0
    expect((await get(`${wellKnown}/u/mcp`)).status).toBe(200)
    expect(asked).toEqual(['GET /custom.json?x=1', `GET ${wellKnown}/mcp`, `GET ${wellKnown}`])
  })

  it('names the server’s own authorization server where there is no metadata (MCP 2025-03-26)', async () => {
    const { get } = await start({
      pages: () => ({
        '/.well-known/oauth-authorization-server': (response) =>
          sendJson(response, 200, { issuer: 'https://as.example.com' }),
      }),
    })
    const { status, text } = await get(`${wellKnown}/u/mcp`)
    expect([status, JSON.parse(text)]).toEqual([
      200,
      { resource: `${publicUrl}/u/mcp`, authorization_servers: ['https://as.example.com'] },
    ])
  })

  it('is missing here as it is there', async () => {
    const { get } = await start({ pages: () => ({}) })
    const { status, text } = await get(`${wellKnown}/u/mcp`)
    expect([status, text]).toEqual([404, '{"error":"nothing here"}'])
  })

  it.each([
    ['an upstream that nobody knows', `${wellKnown}/x/mcp`, {}, 'unknown_upstream'],
    ['no upstream', wellKnown, {}, 'unknown_path'],
    [
      'one whose credentials are ours',
      `${wellKnown}/u/mcp`,
      { headers: { Authorization: 'Bearer ours' } },
      'unknown_path',
    ],
    ['one, without public_url', `${wellKnown}/u/mcp`, { publicUrl: undefined }, 'unknown_path'],
  ])('is not served for %s', async (_, path, options, reason) => {
    const { get } = await start({ pages: () => ({ [`${wellKnown}/mcp`]: isMetadata }), ...options })
    const { status, text } = await get(path)
    expect([status, JSON.parse(text).error.data.reason]).toEqual([404, reason])
  })

  it('obeys the guard like every path', async () => {
    const { get } = await start({ pages: () => ({}) })
    expect((await get(`${wellKnown}/u/mcp`, { headers: { origin: 'https://evil.example.com' } })).status).toBe(403)
  })

  it('never brings the client’s token to a page that needs none', async () => {
    let seen: string | undefined = 'not asked'
    const { get } = await start({
      pages: () => ({
        [`${wellKnown}/mcp`]: (response, request) => {
          seen = request.headers.authorization
          isMetadata(response, request)
        },
      }),
    })
    await get(`${wellKnown}/u/mcp`, { headers: { authorization: 'Bearer secret' } })
    expect(seen).toBeUndefined()
  })

  it('is fetched for 16 clients at a time, and for nobody who has left', async () => {
    const waiting: ServerResponse[] = []
    let gone = 0
    const { get, proxy } = await start({
      pages: () => ({
        [`${wellKnown}/mcp`]: (response) => {
          waiting.push(response)
          response.once('close', () => (gone += 1))
        },
      }),
    })
    const left = new AbortController()
    const all = Array.from({ length: 16 }, () => get(`${wellKnown}/u/mcp`, { signal: left.signal }))
    const settled = Promise.allSettled(all)
    await eventually(() => waiting.length === 16, { what: 'all are under way' })
    const { status, text } = await get(`${wellKnown}/u/mcp`)
    expect([status, JSON.parse(text).error.data.reason, proxy.told.rejected]).toEqual([
      503,
      'queue_full',
      ['queue_full'],
    ])
    left.abort()
    await settled
    await eventually(() => gone === 16, { what: 'the server is told' })
  })

  it('that is too long is a failure of the server', async () => {
    const { get } = await start({
      pages: () => ({ [`${wellKnown}/mcp`]: (response) => response.end(Buffer.alloc(300 * 1024)) }),
    })
    const { status, text } = await get(`${wellKnown}/u/mcp`)
    expect([status, JSON.parse(text).error.data.reason]).toEqual([502, 'upstream_invalid'])
  })
})
