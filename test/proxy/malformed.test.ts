import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { answerMalformed } from '../../src/proxy/malformed.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** A listener that answers every request; `say` gives all that comes back until the connection closes. */
async function listener() {
  const refused: string[] = []
  const server = createServer({ maxHeaderSize: defaults.http.maxHeaderBytes }, (request, response) => {
    if (request.url === '/begun') return void response.writeHead(200, { 'content-length': 100 }).write('begun')
    if (request.url === '/waiting') return
    response.end('fine')
  })
  answerMalformed(server, ({ code }) => refused.push(code))
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
    expect(head).toContain('Connection: close')
    expect(head).toContain(`Content-Length: ${body.length}`)
    expect(JSON.parse(body)).toMatchObject({ jsonrpc: '2.0', id: null, error: { code: -32000, data: { reason } } })
    expect(refused).toEqual([reason])
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
