import { afterEach, describe, expect, it } from 'vitest'
import { startProxy } from '../proxy/fixture.ts'
import { RawClient, type RawMessage, bodyOf, chunk, rawRequest } from '../support/raw-http.ts'
import { type Arrived, scriptedUpstream } from '../support/scripted-upstream.ts'
import { run, wrapped } from '../support/wrapper.ts'
import { type HttpExchange, bytesOf, httpExchanges } from './corpus.ts'
import { tick } from './messages.ts'
import { pipedServer } from './servers.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/**
 * All that may differ between the two sides: what HTTP gives each connection for itself (RFC 9110 §7.6.1), the chunks
 * and trailers of chunked coding (§6.5.1 lets an intermediary drop trailers), and the length of the body that chunks had.
 */
const hopByHop = ['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'proxy-authorization']

interface Seen {
  readonly startLine: string
  readonly headers: readonly string[]
  /** A character per byte. */
  readonly body: string
}

/** undici writes these two itself, in lower case; names have no case (RFC 9110 §5.1). */
const ofUndici = ['host', 'content-length']

/** `framing` is that of the sender. */
function seen(message: RawMessage, framing: HttpExchange['request' | 'response']['framing']): Seen {
  const { startLine, rawHeaders } = message
  const listed = rawHeaders
    .flatMap((name, index) => (index % 2 === 0 && name.toLowerCase() === 'connection' ? rawHeaders[index + 1] : []))
    .flatMap((value) => value?.toLowerCase().split(/\s*,\s*/) ?? [])
  const headers = rawHeaders.flatMap((name, index) => {
    const key = name.toLowerCase()
    const isHop = hopByHop.includes(key) || listed.includes(key)
    const isReframed = framing === 'chunked' && key === 'content-length'
    if (index % 2 === 1 || isHop || isReframed) return []
    return [`${ofUndici.includes(key) ? key : name}: ${rawHeaders[index + 1] ?? ''}`]
  })
  return { startLine, headers, body: bodyOf(message).toString('latin1') }
}

async function answer(arrived: Arrived, { response }: HttpExchange): Promise<void> {
  await arrived.whole()
  const { status, headers, framing, trailers = [] } = response
  const chunks = response.chunks.map(bytesOf)
  const length = chunks.reduce((sum, { length }) => sum + length, 0)
  const own = {
    chunked: ['Transfer-Encoding: chunked', ...(trailers.length > 0 ? ['Trailer: x-checksum'] : [])],
    length: [`Content-Length: ${length}`],
    close: ['Connection: close'],
    none: [],
  }[framing]
  arrived.write(Buffer.from(`HTTP/1.1 ${status}\r\n${[...headers, ...own].join('\r\n')}\r\n\r\n`, 'latin1'))
  for (const bytes of chunks) {
    await tick()
    arrived.write(framing === 'chunked' ? chunk(bytes) : bytes)
  }
  if (framing === 'chunked') arrived.write(`0\r\n${trailers.map((line) => `${line}\r\n`).join('')}\r\n`)
  if (framing === 'close') arrived.cut('fin')
}

function requestBytes({ request }: HttpExchange, path: string): Buffer[] {
  const { method, headers, framing } = request
  const lines = headers.flatMap((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()])
  const chunks = request.chunks.map(bytesOf)
  if (framing === 'length') {
    const length = ['Content-Length', String(Buffer.concat(chunks).length)]
    const isEmpty = chunks.length === 0
    return [rawRequest({ method, path, headers: isEmpty ? lines : [...lines, ...length] }), ...chunks]
  }
  const head = rawRequest({ method, path, headers: [...lines, 'Transfer-Encoding', 'chunked'] })
  return [head, ...chunks.map((bytes) => chunk(bytes)), Buffer.from('0\r\n\r\n')]
}

type Direction = 'direct' | 'through'

/** Lets the exchange happen: what the server saw of the request, and the client of the response. */
async function exchanged(exchange: HttpExchange, direction: Direction) {
  const upstream = await scriptedUpstream((arrived) => answer(arrived, exchange))
  closers.push(() => upstream.close())
  const port = direction === 'direct' ? upstream.port : await proxyTo(`http://127.0.0.1:${upstream.port}/mcp`, 'http')
  const response = await asked(exchange, port, direction === 'direct' ? '/mcp' : '/u/mcp')
  const { request } = await upstream.request(0)
  expect([request.isComplete, response.isComplete]).toEqual([true, true])
  return { request: seen(request, exchange.request.framing), response: seen(response, exchange.response.framing) }
}

async function proxyTo(url: string, transport: 'http' | 'sse'): Promise<number> {
  const proxy = await startProxy({ upstreams: { u: { url, transport } } })
  closers.push(() => proxy.close())
  return proxy.port
}

function connectTo(port: number): RawClient {
  const client = new RawClient(port)
  closers.push(() => client.close())
  return client
}

async function asked(exchange: HttpExchange, port: number, path: string): Promise<RawMessage> {
  const client = connectTo(port)
  for (const bytes of requestBytes(exchange, path)) {
    client.send(bytes)
    await tick()
  }
  return client.response()
}

/** The same as a POST of an HTTP+SSE client, whose stream then carries the bytes of the response, too. */
async function exchangedOverSse(exchange: HttpExchange, direction: Direction) {
  const upstream = await scriptedUpstream(async (arrived) => {
    if (!arrived.request.startLine.startsWith('GET')) return answer(arrived, exchange)
    arrived.openStream(['X-Of', 'the stream'])
    arrived.chunk(': hello\n\nevent: endpoint\r\ndata: /messages?s=1\r\n\r\n')
  })
  closers.push(() => upstream.close())
  const port = direction === 'direct' ? upstream.port : await proxyTo(`http://127.0.0.1:${upstream.port}/sse`, 'sse')
  const stream = connectTo(port)
  const path = direction === 'direct' ? '/sse' : '/u/sse'
  stream.send(rawRequest({ method: 'GET', path, headers: ['Accept', 'text/event-stream'] }))
  const events = await stream.head()
  const opening = /^[^]*data: (\S+)\r\n\r\n/
  const [prelude, address = ''] = await stream.until(() => opening.exec(bodyOf(events).toString()) ?? undefined)
  const response = await asked(exchange, port, address)
  const { request } = await upstream.request(1)
  const chunks = exchange.response.chunks.map(bytesOf)
  for (const bytes of chunks) (await upstream.request(0)).chunk(bytes)
  const length = prelude.length + Buffer.concat(chunks).length
  await stream.until(() => bodyOf(events).length >= length)
  const { body, ...head } = seen(events, 'chunked')
  return {
    request: seen(request, exchange.request.framing),
    response: seen(response, exchange.response.framing),
    stream: { ...head, body: body.replace(address, '<where to post>') },
  }
}

/** A body as it stands in the file. */
function whole({ chunks }: HttpExchange['request' | 'response']): string {
  return Buffer.concat(chunks.map(bytesOf)).toString('latin1')
}

const corpus = httpExchanges()

/** The same exchange under the headers of the other era. */
function asModern([name, exchange]: readonly [string, HttpExchange]): (readonly [string, HttpExchange])[] {
  const { request } = exchange
  const legacy = /^MCP-Protocol-Version: 2025-11-25$/i
  if (!request.headers.some((line) => legacy.test(line))) return []
  const headers = request.headers
    .filter((line) => !/^mcp-session-id:/i.test(line))
    .map((line) => line.replace(legacy, 'MCP-Protocol-Version: 2026-07-28'))
  return [[`${name}, as 2026-07-28`, { ...exchange, request: { ...request, headers } }]]
}

const everything = [...corpus, ...corpus.flatMap(asModern)]

describe('Streamable HTTP: what passes through is what passes without', () => {
  it.each(everything)('%s', async (_name, exchange) => {
    const direct = await exchanged(exchange, 'direct')
    const through = await exchanged(exchange, 'through')
    expect(through).toEqual(direct)
    // The exchange is the one in the file, not two empty ones.
    expect(through.request.body === whole(exchange.request)).toBe(true)
    expect(through.response.body === whole(exchange.response)).toBe(true)
    expect(through.response.startLine).toBe(`HTTP/1.1 ${exchange.response.status}`)
  })
})

describe('HTTP+SSE: what passes through is what passes without', () => {
  const posted = everything.filter(([, { request }]) => request.method === 'POST')
  it.each(posted)('%s', async (_name, exchange) => {
    const direct = await exchangedOverSse(exchange, 'direct')
    const through = await exchangedOverSse(exchange, 'through')
    expect(through).toEqual(direct)
    expect(through.request.body === whole(exchange.request)).toBe(true)
    expect(through.response.body === whole(exchange.response)).toBe(true)
    expect(through.stream.body.endsWith(whole(exchange.response))).toBe(true)
  })
})

describe('stdio: what passes through the wrapper is what was written', () => {
  it('every body of the corpus, in its chunks, whatever it is', async () => {
    const heard: Buffer[] = []
    const server = await pipedServer((chunk) => void heard.push(chunk))
    closers.push(() => server.close())
    const client = run(wrapped(server.command, ['--no-admin']))
    closers.push(() => void client.child.kill('SIGKILL'))
    const bodies = corpus.map(([, { request, response }]) =>
      [request, response].map(({ chunks }) => chunks.map(bytesOf)),
    )
    for (const [sent = [], said = []] of bodies) {
      for (const bytes of sent) {
        client.child.stdin.write(bytes)
        await tick()
      }
      for (const bytes of said) {
        await server.say(bytes)
        await tick()
      }
    }
    client.child.stdin.end()
    const { stdout } = await client.ended
    const [sent, said] = [0, 1].map((side) => Buffer.concat(bodies.flatMap((both) => both[side] ?? [])))
    expect(withoutHeartbeats(Buffer.concat(heard)) === sent?.toString('latin1'), 'what the server got').toBe(true)
    expect(said?.equals(stdout), 'what the client got').toBe(true)
  })
})

/** Some bodies open a conversation, in which heartbeats go between two whole lines of the client. */
function withoutHeartbeats(bytes: Buffer): string {
  return bytes.toString('latin1').replaceAll(/^\{"jsonrpc":"2\.0","id":"vitals-[^\n]*\n/gm, '')
}
