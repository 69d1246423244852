import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type UpstreamEndpoint, endpoint } from '../../src/upstreams/endpoint.ts'
import type { HttpRequest } from '../../src/upstreams/http.ts'
import { listenOn } from '../support/mcp-server.ts'

interface Heard {
  readonly status: number
  readonly body: string
}

type Answer = (
  path: string,
  host: string,
  session: string | undefined,
) => { readonly status: number; readonly location?: string }

/** A server that says what it was asked; `answer` decides how it takes which path. */
async function serverThat(answer: Answer): Promise<{ readonly port: number; readonly asked: string[] }> {
  const asked: string[] = []
  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { method, url = '' } = incoming
    const { host = '', 'mcp-session-id': session } = incoming.headers
    const { status, location } = answer(url.split('?', 1)[0] ?? '', host, session?.toString())
    asked.push(`${method} ${url}`)
    const body = await text(incoming)
    outgoing.writeHead(status, location === undefined ? {} : { location }).end(`${status} ${body}`)
  }
  const server = createServer((incoming, outgoing) => void serve(incoming, outgoing))
  const port = await listenOn(server)
  onTestFinished(() => void server.close())
  return { port, asked }
}

function endpointAt(port: number, path = '/mcp'): UpstreamEndpoint {
  const url = new URL(`http://127.0.0.1:${port}${path}`)
  const opened = endpoint(
    { transport: 'http', url, headers: {}, upstreamHost: 'auto' },
    { connectTimeoutMs: 5000, idleConnectionMs: 1000 },
  )
  onTestFinished(() => opened.close())
  return opened
}

function ask(to: UpstreamEndpoint, request: Partial<HttpRequest> = {}): Promise<Heard> {
  return new Promise((resolve, reject) => {
    let status = 0
    let body = ''
    const whole = { method: 'POST', path: '/mcp', headers: ['host', 'vitals.test:1'], body: Buffer.from('ping') }
    to.send(
      { ...whole, ...request },
      {
        onStart: (head) => void (status = head.status),
        onData: (chunk) => void (body += chunk.toString()),
        onEnd: () => resolve({ status, body }),
        onError: reject,
      },
    )
  })
}

/** As Starlette does it: to the same path with a slash, on the host that it was asked by. */
const mounted: Answer = (path, host) =>
  path === '/mcp/' ? { status: 200 } : { status: 307, location: `http://${host}/mcp/` }

describe('a redirect that adds or takes away a slash', () => {
  it('is followed once, with the body, and then known', async () => {
    const { port, asked } = await serverThat(mounted)
    const to = endpointAt(port)
    expect(await ask(to, { path: '/mcp?a=1' })).toEqual({ status: 200, body: '200 ping' })
    expect(await ask(to)).toEqual({ status: 200, body: '200 ping' })
    expect(await ask(to, { body: Readable.from(['long']) })).toEqual({ status: 200, body: '200 long' })
    expect(asked).toEqual(['POST /mcp?a=1', 'POST /mcp/?a=1', 'POST /mcp/', 'POST /mcp/'])
  })

  it.each(['/mcp', 'http://127.0.0.1:PORT/mcp'])('may be %s', async (location) => {
    const { port } = await serverThat((path) =>
      path === '/mcp' ? { status: 200 } : { status: 308, location: location.replace('PORT', String(port)) },
    )
    expect(await ask(endpointAt(port, '/mcp/'), { path: '/mcp/' })).toEqual({ status: 200, body: '200 ping' })
  })

  it('is an answer where the body is gone', async () => {
    const { port } = await serverThat(mounted)
    expect(await ask(endpointAt(port), { body: Readable.from(['long']) })).toMatchObject({ status: 307 })
  })

  it.each([
    ['another path', '/mcp/v2/'],
    ['another server', 'http://192.0.2.1/mcp/'],
    ['no URL', 'http://[/mcp/'],
  ])('is no redirect to %s, which is an answer', async (_what, location) => {
    const { port, asked } = await serverThat(() => ({ status: 307, location }))
    expect(await ask(endpointAt(port))).toEqual({ status: 307, body: '307 ping' })
    expect(asked).toEqual(['POST /mcp'])
  })

  it.each([301, 302, 303])('with %i is one of a GET alone, since it makes one of any method', async (status) => {
    const { port, asked } = await serverThat((path) =>
      path === '/mcp/' ? { status: 200 } : { status, location: '/mcp/' },
    )
    expect(await ask(endpointAt(port))).toMatchObject({ status })
    expect(await ask(endpointAt(port), { method: 'GET', body: null })).toMatchObject({ status: 200 })
    expect(asked).toEqual(['POST /mcp', 'GET /mcp', 'GET /mcp/'])
  })

  it('is not forgotten for a 404 in a session, which is gone', async () => {
    const sessions = new Set(['alive'])
    const { port } = await serverThat((path, _host, session) => {
      if (path === '/mcp') return { status: 307, location: '/mcp/' }
      return { status: session === undefined || sessions.has(session) ? 200 : 404 }
    })
    const to = endpointAt(port)
    const statuses = []
    for (const [session, body] of [
      ['alive', Buffer.from('ping')],
      ['gone', Buffer.from('ping')],
      ['alive', Readable.from(['long'])],
    ] as const) {
      statuses.push((await ask(to, { headers: ['host', 'a:1', 'mcp-session-id', session], body })).status)
    }
    expect(statuses).toEqual([200, 404, 200])
  })

  it('is forgotten when the server is not there any more, and never a circle', async () => {
    let home = '/mcp/'
    const { port, asked } = await serverThat((path) => {
      if (path === home) return { status: 200 }
      return home === '/mcp/' ? { status: 307, location: home } : { status: 404 }
    })
    const to = endpointAt(port)
    await ask(to)
    home = '/mcp'
    expect([await ask(to), await ask(to)]).toMatchObject([{ status: 404 }, { status: 200 }])
    home = ''
    const circle = await serverThat((path) => ({ status: 307, location: path === '/mcp' ? '/mcp/' : '/mcp' }))
    expect(await ask(endpointAt(circle.port))).toMatchObject({ status: 307 })
    expect(circle.asked).toEqual(['POST /mcp', 'POST /mcp/'])
    expect(asked).toEqual(['POST /mcp', 'POST /mcp/', 'POST /mcp/', 'POST /mcp'])
  })

  it('concerns no other path', async () => {
    const { port } = await serverThat((path) => ({ status: 307, location: `${path}/` }))
    expect(await ask(endpointAt(port), { path: '/.well-known/x' })).toMatchObject({ status: 307 })
  })
})
