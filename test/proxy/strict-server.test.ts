import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { errorMessageFor } from '../../src/proxy/replies.ts'
import { strictServer } from '../../src/proxy/strict-server.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** A listener that answers every request; `say` gives all that comes back until the connection closes. */
async function listener() {
  const refused: string[] = []
  const server = strictServer(
    (request, response) => {
      if (request.url === '/begun') return void response.writeHead(200, { 'content-length': 100 }).write('begun')
      if (request.url === '/waiting') return
      response.end('fine')
    },
    { bodyOf: (error) => errorMessageFor(error, undefined), onRefused: ({ code }) => refused.push(code) },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  closers.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const say = async (...pieces: readonly string[]) => {
    const socket = connect(port, '127.0.0.1')
    let heard = ''
    socket.setEncoding('latin1').on('data', (text: string) => (heard += text))
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) await once(socket, 'data')
      socket.write(piece)
    }
    await once(socket, 'close')
    const [head = '', body = ''] = heard.split('\r\n\r\n').slice(-2)
    return { heard, head: head.split('\r\n'), body }
  }
  return { say, refused }
}

function get(path: string, headers = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`
}

describe('what is no HTTP request', () => {
  it.each([
    ['a length that is no number', get('/', 'Content-Length: abc\r\n'), 400, 'malformed_request'],
    ['no HTTP at all', 'hello\r\n\r\n', 400, 'malformed_request'],
    ['a header that goes on in the next line (RFC 9112 §5.2)', get('/', 'X: a\r\n b\r\n'), 400, 'malformed_request'],
    ['a header without a colon', get('/', 'X\r\n'), 400, 'malformed_request'],
    ['two lengths', get('/', 'Content-Length: 1\r\nContent-Length: 2\r\n'), 400, 'malformed_request'],
    ['a tunnel', 'CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n', 400, 'malformed_request'],
    [
      'a coding that we do not undo (RFC 9112 §6.1)',
      `${get('/', 'Transfer-Encoding: gzip, chunked\r\n')}0\r\n\r\n`,
      400,
      'malformed_request',
    ],
    [
      'a body that is no chunk, of a request that waits',
      `${get('/waiting', 'Transfer-Encoding: chunked\r\n')}zz\r\n`,
      400,
      'malformed_request',
    ],
    ['headers beyond the limit', get('/', `X: ${'a'.repeat(70_000)}\r\n`), 431, 'headers_too_large'],
  ])('gets the error of ours and is counted: %s', async (_what, bytes, status, reason) => {
    const { say, refused } = await listener()
    const { head, body } = await say(bytes)
    expect(head[0]).toContain(`HTTP/1.1 ${status} `)
    const headers = head.map((line) => line.toLowerCase())
    expect(headers).toContain('connection: close')
    expect(headers).toContain(`content-length: ${body.length}`)
    expect(JSON.parse(body)).toMatchObject({ jsonrpc: '2.0', id: null, error: { code: -32000, data: { reason } } })
    expect(refused).toEqual([reason])
  })

  // RFC 9112 §3.2: none, more than one, or an invalid one gets 400, and a whole URL as target has the same.
  it.each([
    ['', '/'],
    ['Host: localhost\r\nHost: localhost\r\n', '/'],
    ['Host: localhost\r\nhost: evil.example\r\n', '/'],
    ['Host:\r\n', '/'],
    ['Host: a b\r\n', '/'],
    ['Host: user@localhost\r\n', '/'],
    ['Host: localhost/path\r\n', '/'],
    ['Host: localhost, localhost\r\n', '/'],
    ['Host: localhost:99999\r\n', '/'],
    ['Host: [::g]\r\n', '/'],
    ['Host: local<host\r\n', '/'],
    ['Host: localhost\r\n', 'http://evil.example/'],
    ['Host: localhost\r\n', 'ftp://localhost/'],
    ['Host: localhost\r\n', '**'],
    ['Host: a b\r\n', '*'],
  ])('a Host that is none, or not the one: %j at %j', async (host, target) => {
    const { say, refused } = await listener()
    // Of HTTP/1.0 none is needed.
    const versions = host === '' ? ['1.1'] : ['1.0', '1.1']
    for (const version of versions) {
      const { head, body } = await say(`OPTIONS ${target} HTTP/${version}\r\n${host}\r\n`)
      expect(head[0]).toBe('HTTP/1.1 400 Bad Request')
      expect(JSON.parse(body)).toMatchObject({ error: { code: -32000, data: { reason: 'malformed_request' } } })
    }
    expect(refused).toEqual(versions.map(() => 'malformed_request'))
  })

  it.each([
    ['HTTP/1.0, which needs no Host', 'GET / HTTP/1.0\r\n\r\n'],
    [
      'the Host of a whole URL, its default port left out',
      'GET http://localhost:80/ HTTP/1.1\r\nHost: localhost\r\n\r\n',
    ],
    ['the Host of a whole URL', 'GET http://LocalHost:80/ HTTP/1.1\r\nHost: localhost:80\r\n\r\n'],
    ['an address', 'GET / HTTP/1.1\r\nHost: [::1]:7080\r\n\r\n'],
    ['an expectation that nobody knows', get('/', 'Expect: wonders\r\n')],
    ['the one coding that we undo', `${get('/', 'Transfer-Encoding: Chunked\r\n')}0\r\n\r\n`],
  ])('and what is one is served: %s', async (_what, bytes) => {
    const { say, refused } = await listener()
    const { head, body } = await say(bytes.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
    expect(head[0]).toBe('HTTP/1.1 200 OK')
    expect(body).toContain('fine')
    expect(refused).toEqual([])
  })

  it('and `OPTIONS *` asks whether anybody listens (RFC 9110 §9.3.7), with no other method', async () => {
    const { say, refused } = await listener()
    const ask = (method: string) => say(`${method} * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
    expect((await ask('OPTIONS')).head[0]).toBe('HTTP/1.1 204 No Content')
    expect(refused).toEqual([])
    expect((await ask('GET')).head[0]).toBe('HTTP/1.1 400 Bad Request')
  })

  it('an answer that is complete gets through, though what follows on the connection is no HTTP', async () => {
    const { say, refused } = await listener()
    const { heard } = await say(`${get('/', 'Transfer-Encoding: chunked\r\n')}zz\r\n`)
    expect(heard).toMatch(/^HTTP\/1\.1 200 [^]*fine/)
    expect(refused).toEqual([])
  })

  it('gets it behind answers on the same connection, and a long header below the limit is none of it', async () => {
    const { say, refused } = await listener()
    const { heard } = await say(get('/', `X: ${'a'.repeat(60_000)}\r\n`), 'hello\r\n\r\n')
    expect(heard).toMatch(/^HTTP\/1\.1 200 [^]*fineHTTP\/1\.1 400 /)
    expect(refused).toEqual(['malformed_request'])
  })

  it('cuts the connection where an answer is under way, which another one would spoil', async () => {
    const { say, refused } = await listener()
    const { heard } = await say(get('/begun', 'Transfer-Encoding: chunked\r\n'), 'zz\r\n')
    expect(heard).toMatch(/^HTTP\/1\.1 200 [^]*begun$/)
    expect(refused).toEqual([])
  })
})
