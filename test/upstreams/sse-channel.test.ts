import { type ServerResponse, createServer } from 'node:http'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { endpoint } from '../../src/upstreams/endpoint.ts'
import { SseChannel, messagesUrl } from '../../src/upstreams/sse-channel.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { listenOn, rpcError, sendJson, stopped } from '../support/mcp-server.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

interface Behaviour {
  readonly stream?: (response: ServerResponse) => void
  readonly post?: (response: ServerResponse, body: string) => void
}

/** What a server by the book does. */
function sayEndpoint(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write('event: endpoint\ndata: /messages?sessionId=1\n\n')
}

async function channelTo({
  stream = sayEndpoint,
  post = (response) => response.writeHead(202).end('Accepted'),
}: Behaviour) {
  const streams: ServerResponse[] = []
  const posts: string[] = []
  const http = createServer((request, response) => {
    if (request.method === 'GET') {
      streams.push(response)
      return stream(response)
    }
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      posts.push(`${request.url ?? ''} ${body}`)
      post(response, body)
    })
  })
  const url = new URL(`http://127.0.0.1:${await listenOn(http)}/sse?tenant=1`)
  const target = { transport: 'sse', url, headers: {}, upstreamHost: 'auto' } as const
  const to = endpoint(target, { connectTimeoutMs: 2000, idleConnectionMs: 4000 })
  const heard: string[] = []
  const closed: string[] = []
  const channel = new SseChannel({
    endpoint: to,
    clock: fakeClock(),
    maxBodyBytes: 10_000,
    events: {
      onMessage: (message) => heard.push(message.toString()),
      onNoise: () => heard.push('noise'),
      onTooLong: () => heard.push('too long'),
      onClose: (why) => closed.push(why),
    },
  })
  closing.push(
    () => stopped(http),
    () => to.close(),
    () => channel.close(),
  )
  const send = (method: string) =>
    channel.send(Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"${method}"}`), { method })
  return { channel, streams, posts, heard, closed, send, endpoint: to }
}

describe('the endpoint event (MCP 2024-11-05, HTTP with SSE)', () => {
  const stream = new URL('https://mcp.example:8443/a/sse?x=1')

  it.each([
    ['/messages?sessionId=1', 'https://mcp.example:8443/messages?sessionId=1'],
    ['messages', 'https://mcp.example:8443/a/messages'],
    ['?sessionId=1', 'https://mcp.example:8443/a/sse?sessionId=1'],
    ['https://mcp.example:8443/elsewhere', 'https://mcp.example:8443/elsewhere'],
    [' /padded \n', 'https://mcp.example:8443/padded'],
  ])('may be a path or a URL of its own origin: %s', (data, url) => {
    expect(messagesUrl(stream, data).href).toBe(url)
  })

  it.each([
    'http://mcp.example:8443/messages',
    'https://mcp.example/messages',
    'https://mcp.example:8443@169.254.169.254/latest/meta-data',
    'https://evil.example:8443/messages',
    '//169.254.169.254/latest/meta-data',
    String.raw`\\169.254.169.254\latest`,
    'file:///etc/passwd',
    'javascript:alert(1)',
    '',
    'https://',
  ])('is refused when it leads anywhere else: %s', (data) => {
    expect(() => messagesUrl(stream, data)).toThrow(expect.objectContaining({ code: 'upstream_invalid' }))
  })

  it.each([
    ['http://127.0.0.1:7080/messages?sessionId=1', '127.0.0.1:7080', 'https://mcp.example:8443/messages?sessionId=1'],
    ['https://Proxy.example:443/a', 'proxy.example', 'https://mcp.example:8443/a'],
    ['http://proxy.example//evil.example/a', 'proxy.example:80', 'https://mcp.example:8443//evil.example/a'],
    ['http://[::1]:7080/a#b', '[::1]:7080', 'https://mcp.example:8443/a'],
  ])('%s names the server itself when it was called as %s', (data, sentHost, url) => {
    expect(messagesUrl(stream, data, sentHost).href).toBe(url)
  })

  it.each([
    ['http://127.0.0.1:7081/messages', '127.0.0.1:7080'],
    ['http://evil.example/', 'proxy.example'],
    ['http://proxy.example@evil.example/', 'proxy.example'],
    ['ftp://proxy.example/', 'proxy.example'],
    ['http://proxy.example/', ''],
  ])('%s is refused when it was called as "%s"', (data, sentHost) => {
    expect(() => messagesUrl(stream, data, sentHost)).toThrow(expect.objectContaining({ code: 'upstream_invalid' }))
  })

  it('leads only to the server, whatever the Host was', () => {
    const word = fc.oneof(fc.webUrl(), fc.string(), fc.constantFrom('//', 'http://h', '@', ':80', '/a', 'h', '\\\\'))
    fc.assert(
      fc.property(
        fc.array(word, { maxLength: 4 }),
        fc.constantFrom('h', 'h:80', 'a.b', '//', '', 'h@x'),
        (words, host) => {
          try {
            expect(messagesUrl(stream, words.join(''), host).origin).toBe(stream.origin)
          } catch (error) {
            expect(error).toMatchObject({ code: 'upstream_invalid' })
          }
        },
      ),
    )
  })

  it('that is refused closes the stream', async () => {
    const { channel, endpoint: to } = await channelTo({
      stream: (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write('event: endpoint\ndata: http://169.254.169.254/\n\n')
      },
    })
    await expect(channel.open()).rejects.toMatchObject({ code: 'upstream_invalid' })
    await eventually(() => to.stats().active === 0, { what: 'the stream is closed' })
  })

  it('that comes again changes nothing', async () => {
    const { channel, posts, send } = await channelTo({
      stream: (response) => {
        sayEndpoint(response)
        response.write('event: endpoint\ndata: /other\n\n')
      },
    })
    await channel.open()
    await send('ping')
    expect(posts[0]).toMatch(/^\/messages\?sessionId=1 /)
  })
})

describe('opening the stream', () => {
  it.each([
    { status: 401, type: 'text/plain', code: 'upstream_unauthorized' },
    { status: 403, type: 'text/plain', code: 'upstream_unauthorized' },
    { status: 404, type: 'text/plain', code: 'upstream_http_error' },
    { status: 307, type: 'text/event-stream', code: 'upstream_http_error' },
    { status: 503, type: 'text/event-stream', code: 'upstream_http_error' },
    { status: 200, type: 'application/json', code: 'upstream_invalid' },
  ])('fails at HTTP $status with $type as $code', async ({ status, type, code }) => {
    const { channel } = await channelTo({
      stream: (response) => response.writeHead(status, { 'content-type': type, location: '/sse' }).end(),
    })
    await expect(channel.open()).rejects.toMatchObject({ code })
  })

  it('fails when the stream ends before the endpoint event', async () => {
    const { channel } = await channelTo({
      stream: (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).end(': hi\n\n'),
    })
    await expect(channel.open()).rejects.toMatchObject({ code: 'upstream_closed' })
  })
})

describe('messages', () => {
  it('go up by POST and come down the stream', async () => {
    const { channel, streams, posts, heard, send } = await channelTo({})
    await channel.open()
    await send('ping')
    expect(posts).toEqual(['/messages?sessionId=1 {"jsonrpc":"2.0","id":1,"method":"ping"}'])
    streams[0]?.write('event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n: comment\n\n')
    await eventually(() => heard.length === 1, { what: 'the answer' })
    expect(heard).toEqual(['{"jsonrpc":"2.0","id":1,"result":{}}'])
    streams[0]?.write('data: <garbage>\n\n')
    await eventually(() => heard[1] === 'noise', { what: 'what is no message' })
  })

  it('that are too long are errors for those who wait for an answer, here and at the server', async () => {
    const { channel, streams, posts, heard } = await channelTo({})
    await channel.open()
    const x = 'x'.repeat(10_000)
    streams[0]?.write(`data: {"result":"${x}","id":1}\n\ndata: {"params":"${x}","method":"m","id":2}\n\n`)
    streams[0]?.write(`data: {"params":"${x}","method":"n"}\n\nevent: x\ndata: {"id":3,"method":"${x}"}\n\n`)
    streams[0]?.write('data: {"jsonrpc":"2.0","method":"n"}\n\n')
    await eventually(() => heard.length === 5 && posts.length === 1, { what: 'all is heard' })
    const error = (id: number, what: string) =>
      `{"jsonrpc":"2.0","id":${id},"error":{"code":-32000,"message":"mcp-vitals: ${what} bytes; the limit is 10000"}}`
    const tooLong = 'too long'
    expect(heard).toEqual([tooLong, error(1, 'an answer of 10020'), tooLong, tooLong, '{"jsonrpc":"2.0","method":"n"}'])
    expect(posts).toEqual([`/messages?sessionId=1 ${error(2, 'a request of 10033')}`])
  })

  it('cannot be sent before the endpoint is known', async () => {
    const { send } = await channelTo({})
    await expect(send('ping')).rejects.toMatchObject({ code: 'upstream_closed' })
  })

  it.each([
    { status: 404, code: 'upstream_session_gone' },
    { status: 401, code: 'upstream_unauthorized' },
    { status: 500, code: 'upstream_http_error' },
    { status: 302, code: 'upstream_http_error' },
  ])('that are refused with HTTP $status fail as $code', async ({ status, code }) => {
    const { channel, send } = await channelTo({
      post: (response) => response.writeHead(status, { location: '/elsewhere' }).end(),
    })
    await channel.open()
    await expect(send('ping')).rejects.toMatchObject({ code })
  })

  it('that are refused with a JSON-RPC error are answered by it', async () => {
    const { channel, send, heard } = await channelTo({
      post: (response) => sendJson(response, 400, rpcError(null, -32_600, 'no')),
    })
    await channel.open()
    await send('ping')
    expect(heard).toEqual(['{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"no"}}'])
  })
})

describe('the end', () => {
  it('of the stream by the server is told, and fails what is sent afterwards', async () => {
    const { channel, streams, closed, send } = await channelTo({})
    await channel.open()
    streams[0]?.end()
    await eventually(() => closed.length === 1, { what: 'the end is told' })
    expect(closed).toEqual(['the server ended the event stream'])
    await expect(send('ping')).rejects.toThrow('the server ended the event stream')
  })

  it('by us is not told, and closes the stream and every POST', async () => {
    const { channel, closed, send, posts, endpoint: to } = await channelTo({ post: () => {} })
    await channel.open()
    const sent = expect(send('ping')).rejects.toMatchObject({ code: 'cancelled' })
    await eventually(() => posts.length === 1, { what: 'the POST' })
    await channel.close()
    await sent
    await eventually(() => to.stats().active === 0, { what: 'everything is closed' })
    expect(closed).toEqual([])
  })
})
