import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { HttpRequest, HttpResponseHandler } from '../../src/upstreams/http.ts'
import { withFittingHost } from '../../src/upstreams/own-host.ts'
import { startProxy } from '../proxy/fixture.ts'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { chunked, rawFetch, statusOf } from '../support/raw-http.ts'

const url = new URL('http://127.0.0.1:9/mcp')

/** A server that answers by the Host of each request, of which it keeps a list. */
function asking(answer: (host: string) => number) {
  const hosts: string[] = []
  const send = withFittingHost((request, handler) => {
    const host = request.headers[1] ?? ''
    hosts.push(host)
    let isAborted = false
    queueMicrotask(() => {
      handler.onStart({ status: answer(host), statusText: '', rawHeaders: [] })
      if (!isAborted) handler.onEnd()
    })
    return { pause: () => undefined, resume: () => undefined, abort: () => void (isAborted = true) }
  }, url)
  const ask = (request: Partial<HttpRequest> = {}): Promise<number> =>
    new Promise((resolve, reject) => {
      let status = 0
      const handler: HttpResponseHandler = {
        onStart: (head) => void (status = head.status),
        onData: () => undefined,
        onEnd: () => resolve(status),
        onError: reject,
      }
      send({ method: 'POST', path: '/mcp', headers: ['Host', 'client:1'], body: null, ...request }, handler)
    })
  return { hosts, ask }
}

describe("a client's Host at a server on this machine", () => {
  it('passes where the server takes it', async () => {
    const { hosts, ask } = asking(() => 200)
    expect([await ask(), await ask()]).toEqual([200, 200])
    expect(hosts).toEqual(['client:1', 'client:1'])
  })

  it("gives way to the server's own where that alone is taken, for bodies that stream from then on", async () => {
    const { hosts, ask } = asking((host) => (host === url.host ? 200 : 403))
    const body = () => Readable.from(['long'])
    expect(await ask({ body: body() })).toBe(403)
    expect([await ask(), await ask(), await ask({ body: body() })]).toEqual([200, 200, 200])
    expect(hosts).toEqual(['client:1', 'client:1', url.host, url.host, url.host])
  })

  it('settles nothing with a 403 of another kind, be it the first answer', async () => {
    const { hosts, ask } = asking((host) => (host === url.host && hosts.length > 2 ? 200 : 403))
    expect([await ask(), await ask()]).toEqual([403, 200])
    expect(hosts).toEqual(['client:1', url.host, 'client:1', url.host])
    expect(await ask({ headers: ['host', url.host] })).toBe(200)
  })

  it('stays where the server has taken it once, whatever its own would get (virtual hosts)', async () => {
    const statuses = [200, 403]
    const { hosts, ask } = asking((host) => (host === url.host ? 404 : (statuses.shift() ?? 200)))
    expect([await ask(), await ask(), await ask()]).toEqual([200, 403, 200])
    expect(hosts).toEqual(['client:1', 'client:1', 'client:1'])
  })

  it("is not replaced by the server's own where that is refused in another way", async () => {
    const { hosts, ask } = asking((host) => (host === url.host ? 404 : 403))
    expect([await ask(), await ask()]).toEqual([404, 404])
    expect(hosts).toEqual(['client:1', url.host, 'client:1', url.host])
  })

  it('lets an official client through to an official server that checks Host by its own port', async () => {
    const transports = new Map<string, StreamableHTTPServerTransport>()
    let allowedHosts: string[] = []
    const server = createServer((incoming, outgoing) => {
      const known = transports.get(String(incoming.headers['mcp-session-id']))
      if (known) return void known.handleRequest(incoming, outgoing)
      const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => 'one',
        onsessioninitialized: (id) => void transports.set(id, transport),
        enableDnsRebindingProtection: true,
        allowedHosts,
      })
      const connected = new McpServer({ name: 'strict', version: '1' }).connect(transport)
      return void connected.then(() => transport.handleRequest(incoming, outgoing))
    })
    const port = await listenOn(server)
    allowedHosts = [`127.0.0.1:${port}`]
    onTestFinished(() => stopped(server))
    const proxy = await startProxy({ upstreams: { u: { url: `http://127.0.0.1:${port}/mcp` } } })
    onTestFinished(() => proxy.close())
    const client = new Client({ name: 'test', version: '1' })
    await client.connect(new StreamableHTTPClientTransport(new URL(`${proxy.url}/u/mcp`)))
    expect(await client.ping()).toEqual({})
    await client.close()
  })

  it('gives way for clients that send nothing but chunks, too, and the slash is found (RFC 9112 §7.1)', async () => {
    const seen: string[] = []
    let own = ''
    const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
      const { url: path, headers } = incoming
      const status = headers.host !== own ? 403 : path === '/mcp' ? 307 : 200
      seen.push(`${status} ${await text(incoming)}`)
      outgoing.writeHead(status, status === 307 ? { location: '/mcp/' } : {}).end()
    }
    const server = createServer((incoming, outgoing) => void serve(incoming, outgoing))
    const port = await listenOn(server)
    own = `127.0.0.1:${port}`
    onTestFinished(() => stopped(server))
    const proxy = await startProxy({ upstreams: { u: { url: `http://${own}/mcp` } } })
    onTestFinished(() => proxy.close())
    const ask = async (...pieces: string[]) => {
      const headers = ['Transfer-Encoding', 'chunked']
      return statusOf(await rawFetch(proxy.port, { path: '/u/mcp', headers, body: chunked(...pieces) }))
    }
    expect(await ask('first, ', 'in two pieces')).toBe(200)
    expect(seen).toEqual(['403', '307', '200'].map((status) => `${status} first, in two pieces`))
    const long = 'long'.repeat(20_000)
    expect(await ask(long, long)).toBe(200)
    expect(seen.slice(3)).toEqual([`200 ${long}${long}`])
  })
})
