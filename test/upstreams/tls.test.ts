import { once } from 'node:events'
import { type IncomingMessage, type Server, createServer as createHttpServer } from 'node:http'
import { type AddressInfo, type Socket, connect } from 'node:net'
import { createServer as createHttpsServer } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import { type UpstreamEndpoint, endpoint } from '../../src/upstreams/endpoint.ts'
import type { ResponseHead } from '../../src/upstreams/http.ts'
import type { TlsSettings, UrlTarget } from '../../src/upstreams/upstream.ts'
import { eventually } from '../support/eventually.ts'
import { certificateAuthority, hasOpenssl } from '../support/certificates.ts'

// In CI its absence is a failure, elsewhere these tests are skipped.
const canMake = hasOpenssl() || process.env['CI'] !== undefined
if (!canMake) process.stderr.write('test/upstreams/tls.test.ts is skipped: apt-get install openssl\n')

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

type Authority = ReturnType<typeof certificateAuthority>
let authority: Authority
beforeAll(() => {
  if (canMake) authority = certificateAuthority()
})
afterAll(() => authority?.close())

interface Seen {
  readonly servername: string | false | undefined
  readonly client: string | undefined
  readonly rawHeaders: readonly string[]
  readonly url: string | undefined
}

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** A TLS server that answers every request in two pieces, and tells what it saw. */
async function tlsServer(
  names: string,
  { isExpired = false, needsClient = false }: { readonly isExpired?: boolean; readonly needsClient?: boolean } = {},
) {
  const seen: Seen[] = []
  const server = createHttpsServer({
    ...authority.issue(names, { isExpired }),
    ca: authority.ca,
    requestCert: needsClient,
    rejectUnauthorized: needsClient,
  })
  server.on('request', (request, response) => {
    const { servername } = request.socket as TLSSocket & { readonly servername?: string | false }
    const subject = (request.socket as TLSSocket).getPeerCertificate().subject as { readonly CN?: string } | undefined
    seen.push({ servername, client: subject?.CN, rawHeaders: request.rawHeaders, url: request.url })
    response.writeHead(200, ['X-One', '1', 'x-one', '2'])
    response.write('first ')
    setImmediate(() => response.end('second'))
  })
  return { seen, port: await listen(server) }
}

/** A proxy that opens tunnels, all to one port of this machine, and passes whole URLs on. */
async function proxy({ to, credentials }: { readonly to: number; readonly credentials?: string }) {
  const asked: { readonly line: string; readonly authorization: string | undefined }[] = []
  const note = ({ method, url, headers }: IncomingMessage) => {
    asked.push({ line: `${method} ${url}`, authorization: headers['proxy-authorization'] })
    return credentials === undefined || headers['proxy-authorization'] === credentials
  }
  const server = createHttpServer((request, response) => {
    response.writeHead(note(request) ? 200 : 407)
    response.end('from the proxy')
  })
  server.on('connect', (request: IncomingMessage, socket: Socket) => {
    if (!note(request)) return void socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
    const tunnel = connect(to, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(tunnel).pipe(socket)
    })
    for (const one of [socket, tunnel]) one.on('error', () => {})
    socket.on('close', () => tunnel.destroy())
  })
  return { asked, port: await listen(server) }
}

interface Way {
  readonly host?: string
  readonly scheme?: 'http' | 'https'
  readonly port: number
  readonly tls?: TlsSettings
  readonly proxy?: string
}

function open({ host = 'localhost', scheme = 'https', port, tls, proxy: by }: Way): UpstreamEndpoint {
  const target: UrlTarget = {
    transport: 'http',
    url: new URL(`${scheme}://${host}:${port}/mcp`),
    headers: {},
    upstreamHost: 'client',
    tls,
  }
  const via = by === undefined ? undefined : new URL(by)
  const opened = endpoint(target, { connectTimeoutMs: 2000, idleConnectionMs: 4000, proxyFor: () => via })
  closers.push(() => opened.close())
  return opened
}

interface Answer extends ResponseHead {
  readonly chunks: readonly string[]
}

/** One request, with headers that a client sent. */
function ask(to: UpstreamEndpoint, headers: string[] = ['Host', 'client.example']): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let head: ResponseHead | undefined
    const chunks: string[] = []
    to.send(
      { method: 'POST', path: '/mcp?a=1', headers, body: Buffer.from('{}') },
      {
        onStart: (started) => void (head = started),
        onData: (chunk) => void chunks.push(chunk.toString()),
        onEnd: () => (head ? resolve({ ...head, chunks }) : reject(new Error('no head'))),
        onError: reject,
      },
    )
  })
}

/** A connection is free again somewhat later than its answer is complete. */
async function isFree(to: UpstreamEndpoint): Promise<void> {
  const free = JSON.stringify({ active: 0, idle: 1, pending: 0 })
  await eventually(() => JSON.stringify(to.stats()) === free, { what: 'one idle connection and nothing else' })
}

async function refusal(to: UpstreamEndpoint): Promise<string> {
  const error: unknown = await ask(to).catch((reason: unknown) => reason)
  if (!(error instanceof KnownError)) throw new Error('nothing was refused', { cause: error })
  return `${error.code}: ${error.message}`
}

describe.skipIf(!canMake)('an https server', () => {
  it('whose authority is trusted answers as it is: raw headers, pieces, and what the pool counts', async () => {
    const { seen, port } = await tlsServer('DNS:localhost')
    const to = open({ port, tls: { ca: authority.ca } })
    const answer = await ask(to, ['Host', 'client.example', 'X-Twice', 'a', 'x-twice', 'b'])
    expect(answer.rawHeaders.slice(0, 4)).toEqual(['X-One', '1', 'x-one', '2'])
    expect(answer.chunks.join('')).toBe('first second')
    expect(seen[0]?.rawHeaders.join()).toContain('X-Twice,a,x-twice,b')
    expect(seen[0]?.rawHeaders.join()).toContain('host,client.example')
    await isFree(to)
  })

  it('is asked for and checked by the name in the URL, whatever Host a client sends, on one connection', async () => {
    const { seen, port } = await tlsServer('DNS:localhost')
    const to = open({ port, tls: { ca: authority.ca } })
    for (const host of ['one.example', 'two.example']) {
      await ask(to, ['Host', host])
      await isFree(to)
    }
    expect(seen.map(({ servername }) => servername)).toEqual(['localhost', 'localhost'])
    await isFree(to)
  })

  it('is asked for and checked by tls.servername instead', async () => {
    const { seen, port } = await tlsServer('DNS:mcp.internal')
    expect(await refusal(open({ port, tls: { ca: authority.ca } }))).toContain('does not match certificate')
    await ask(open({ port, tls: { ca: authority.ca, servername: 'mcp.internal' } }))
    expect(seen.map(({ servername }) => servername)).toEqual(['mcp.internal'])
  })

  it('is checked by its address where the URL has one', async () => {
    const { port } = await tlsServer('IP:127.0.0.1')
    expect((await ask(open({ host: '127.0.0.1', port, tls: { ca: authority.ca } }))).status).toBe(200)
    const other = await tlsServer('DNS:localhost')
    const refused = refusal(open({ host: '127.0.0.1', port: other.port, tls: { ca: authority.ca } }))
    expect(await refused).toContain('does not match certificate')
  })

  it('is refused, with the reason, when nobody we trust signed its certificate', async () => {
    const { seen, port } = await tlsServer('DNS:localhost')
    expect(await refusal(open({ port }))).toMatch(
      /^upstream_refused: https:\/\/localhost:\d+: self-signed certificate in/,
    )
    expect(seen).toEqual([])
  })

  it('is refused, with the reason, when its certificate has expired', async () => {
    const { seen, port } = await tlsServer('DNS:localhost', { isExpired: true })
    const refused = await refusal(open({ port, tls: { ca: authority.ca } }))
    expect(refused).toMatch(/^upstream_refused: https:\/\/localhost:\d+: certificate has expired/)
    expect(seen).toEqual([])
  })

  it('that wants a client certificate gets ours, and refuses us without one', async () => {
    const { seen, port } = await tlsServer('DNS:localhost', { needsClient: true })
    await ask(open({ port, tls: { ca: authority.ca, ...authority.issue('DNS:client') } }))
    expect(seen.map(({ client }) => client)).toEqual([expect.stringMatching(/^leaf\d+$/)])
    expect(await refusal(open({ port, tls: { ca: authority.ca } }))).toMatch(/^upstream_(refused|reset): /)
    expect(seen).toHaveLength(1)
  })

  it('behind a proxy is reached by a tunnel, in which TLS is its own', async () => {
    const { seen, port } = await tlsServer('DNS:mcp.example')
    const between = await proxy({ to: port, credentials: `Basic ${Buffer.from('me:p w').toString('base64')}` })
    const by = `http://me:p%20w@127.0.0.1:${between.port}`
    const to = open({ host: 'mcp.example', port: 8443, tls: { ca: authority.ca }, proxy: by })
    expect((await ask(to)).chunks.join('')).toBe('first second')
    await isFree(to)
    expect((await ask(to)).rawHeaders.slice(0, 4)).toEqual(['X-One', '1', 'x-one', '2'])
    expect(between.asked.map(({ line }) => line)).toEqual(['CONNECT mcp.example:8443'])
    expect(seen.map(({ servername, url }) => `${String(servername)} ${url}`)).toEqual([
      'mcp.example /mcp?a=1',
      'mcp.example /mcp?a=1',
    ])
    expect(seen[0]?.rawHeaders.join().toLowerCase()).not.toContain('proxy-authorization')
    await isFree(to)
  })

  it('is refused, without a word of the password, when the proxy opens no tunnel', async () => {
    const between = await proxy({ to: 1, credentials: 'Basic other' })
    const to = open({ host: 'mcp.example', port: 8443, proxy: `http://me:canary@127.0.0.1:${between.port}` })
    expect(await refusal(to)).toBe(
      `upstream_refused: proxy 127.0.0.1:${between.port}: it answered 407 to CONNECT mcp.example:8443`,
    )
  })
})

describe('an http server behind a proxy', () => {
  it('is asked for by its whole URL (RFC 9112 §3.2.2)', async () => {
    const between = await proxy({ to: 1 })
    const by = `http://me:pw@127.0.0.1:${between.port}`
    const answer = await ask(open({ scheme: 'http', host: 'mcp.example', port: 8080, proxy: by }))
    expect(answer.chunks.join('')).toBe('from the proxy')
    const authorization = `Basic ${Buffer.from('me:pw').toString('base64')}`
    expect(between.asked).toEqual([{ line: 'POST http://mcp.example:8080/mcp?a=1', authorization }])
  })

  it('is refused when the proxy is not there', async () => {
    const to = open({ scheme: 'http', host: 'mcp.example', port: 8080, proxy: 'http://127.0.0.1:1' })
    expect(await refusal(to)).toMatch(/^upstream_refused: http:\/\/mcp\.example:8080: .*ECONNREFUSED/)
  })
})
