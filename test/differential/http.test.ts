import { afterEach, describe, expect, it } from 'vitest'
import { startProxy } from '../proxy/fixture.ts'
import { RawClient, type RawMessage, bodyOf, chunk, rawRequest } from '../support/raw-http.ts'
import { type Arrived, scriptedUpstream } from '../support/scripted-upstream.ts'
import { type HttpExchange, bytesOf, httpExchanges } from './corpus.ts'

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

function seen(message: RawMessage): Seen {
  const { startLine, rawHeaders } = message
  const listed = rawHeaders
    .flatMap((name, index) => (index % 2 === 0 && name.toLowerCase() === 'connection' ? rawHeaders[index + 1] : []))
    .flatMap((value) => value?.toLowerCase().split(/\s*,\s*/) ?? [])
  const headers = rawHeaders.flatMap((name, index) => {
    const key = name.toLowerCase()
    const isHop = hopByHop.includes(key) || listed.includes(key)
    if (index % 2 === 1 || isHop) return []
    return [`${ofUndici.includes(key) ? key : name}: ${rawHeaders[index + 1] ?? ''}`]
  })
  return { startLine, headers, body: bodyOf(message).toString('latin1') }
}

function tick(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
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

/** Lets the exchange happen: what the server saw of the request, and the client of the response. */
async function exchanged(exchange: HttpExchange, way: 'direct' | 'through') {
  const upstream = await scriptedUpstream((arrived) => answer(arrived, exchange))
  closers.push(() => upstream.close())
  const proxy = await startProxy({ upstreams: { u: { url: `http://127.0.0.1:${upstream.port}/mcp` } } })
  closers.push(() => proxy.close())
  const client = new RawClient(way === 'direct' ? upstream.port : proxy.port)
  closers.push(() => client.close())
  for (const bytes of requestBytes(exchange, way === 'direct' ? '/mcp' : '/u/mcp')) {
    client.send(bytes)
    await tick()
  }
  const response = await client.response()
  const { request } = await upstream.request(0)
  expect([request.isComplete, response.isComplete]).toEqual([true, true])
  return { request: seen(request), response: seen(response) }
}

describe('Streamable HTTP: what passes through is what passes without', () => {
  it.each(httpExchanges())('%s', async (_name, exchange) => {
    const direct = await exchanged(exchange, 'direct')
    const through = await exchanged(exchange, 'through')
    expect(through.request).toEqual(direct.request)
    expect(through.response).toEqual(direct.response)
    // The exchange is the one in the file, not two empty ones.
    const whole = ({ chunks }: HttpExchange['request' | 'response']) =>
      Buffer.concat(chunks.map(bytesOf)).toString('latin1')
    expect(through.request.body === whole(exchange.request)).toBe(true)
    expect(through.response.body === whole(exchange.response)).toBe(true)
    expect(through.response.startLine).toBe(`HTTP/1.1 ${exchange.response.status}`)
  })
})
