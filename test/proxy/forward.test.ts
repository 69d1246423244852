import { createCipheriv } from 'node:crypto'
import { brotliCompressSync, createGzip, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { GivenUp } from '../../src/errors.ts'
import {
  RawClient,
  bodyOf,
  chunk,
  chunked,
  headerOf,
  rawFetch,
  rawRequest,
  statusOf,
  textOf,
} from '../support/raw-http.ts'
import { type Arrived, type Script, type ScriptedUpstream, scriptedUpstream } from '../support/scripted-upstream.ts'
import { type ProxyOptions, type RunningProxy, startProxy } from './fixture.ts'

const call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
const answer = '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
const json = ['Content-Type', 'application/json']

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(
  script?: Script,
  options: Partial<ProxyOptions> & { readonly path?: string; readonly upstream?: object } = {},
): Promise<{ upstream: ScriptedUpstream; proxy: RunningProxy }> {
  const upstream = await scriptedUpstream(script)
  closers.push(() => upstream.close())
  const url = `http://127.0.0.1:${upstream.port}${options.path ?? '/mcp'}`
  const proxy = await startProxy({ ...options, upstreams: { u: { url, ...options.upstream } } })
  closers.push(() => proxy.close())
  return { upstream, proxy }
}

function connectTo(proxy: RunningProxy): RawClient {
  const client = new RawClient(proxy.port)
  closers.push(() => Promise.resolve(client.close()))
  return client
}

/** Name and value of each line, alternating. */
function headerLines(...lines: readonly string[]): string[] {
  return lines.flatMap((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)])
}

/** Without what HTTP/1.1 gives each connection for itself (RFC 9110 §7.6.1). */
function endToEnd(rawHeaders: readonly string[], alsoNot: readonly string[] = []): string[] {
  const hop = ['connection', 'keep-alive', 'transfer-encoding', ...alsoNot]
  const isKept = (_part: string, index: number) => !hop.includes(rawHeaders[index - (index % 2)]?.toLowerCase() ?? '')
  return rawHeaders.filter((part, index) => isKept(part, index))
}

describe('the request reaches the upstream as it was sent', () => {
  it.each([
    ['a plain path', '/mcp', '/u/mcp', '/mcp'],
    ['a query', '/mcp', '/u/mcp?a=1&b=%2F&a=2', '/mcp?a=1&b=%2F&a=2'],
    ['an empty query', '/mcp', '/u/mcp?', '/mcp?'],
    ['the query of both', '/api/mcp?key=k', '/u/mcp?a=1?b', '/api/mcp?key=k&a=1?b'],
    ['escapes that a URL parser would change', '/mcp', '/u/mcp?q=%7e%41+{}|', '/mcp?q=%7e%41+{}|'],
  ])('target: %s', async (_title, path, from, to) => {
    const { upstream, proxy } = await start(undefined, { path })
    await rawFetch(proxy.port, { path: from, headers: json, body: call })
    expect(upstream.arrived[0]?.request.startLine).toBe(`POST ${to} HTTP/1.1`)
  })

  it('headers keep their order, case and duplicates, unknown Mcp-Param-* ones included (MCP 2026-07-28, Streamable HTTP)', async () => {
    const { upstream, proxy } = await start()
    const headers = headerLines(
      'Accept: application/json, text/event-stream',
      'CONTENT-TYPE: application/json',
      'X-Twice: one',
      'Mcp-Param-Region: =?base64?w6k=?=',
      'x-twice: two',
      'MCP-Protocol-Version: 2026-07-28',
      'Origin: http://localhost:3000',
      'Last-Event-ID: abc-1',
      'Authorization: Bearer theirs',
      'Cookie: a=b',
      'X-Latin: caf\u00e9',
      'X-Empty: ',
      'Accept-Encoding: gzip, br',
      'traceparent: 00-1-2-01',
    )
    await rawFetch(proxy.port, { path: '/u/mcp', headers, body: call })
    const got = upstream.arrived[0]?.request.rawHeaders ?? []
    expect(endToEnd(got, ['host', 'content-length'])).toEqual(headers)
    expect(headerOf({ rawHeaders: got } as never, 'content-length')).toBe(String(call.length))
  })

  it('hop-by-hop headers and those that Connection names stay behind (RFC 9110 §7.6.1)', async () => {
    const { upstream, proxy } = await start()
    const hop = ['Connection', 'close, X-Mine', 'X-Mine', '1', 'TE', 'trailers', 'Proxy-Authorization', 'Basic x']
    await rawFetch(proxy.port, { path: '/u/mcp', headers: [...hop, 'X-Theirs', '2'], body: call })
    const got = upstream.arrived[0]?.request.rawHeaders ?? []
    expect(endToEnd(got, ['host', 'content-length'])).toEqual(['X-Theirs', '2'])
  })

  it.each([
    { upstreamHost: 'auto', expected: 'localhost:7', whose: 'the client’s, as the URL is on loopback' },
    { upstreamHost: 'client', expected: 'localhost:7', whose: 'the client’s' },
    { upstreamHost: 'upstream', expected: undefined, whose: 'the URL’s' },
  ])('upstream_host $upstreamHost: Host is $whose', async ({ upstreamHost, expected }) => {
    const { upstream, proxy } = await start(undefined, { upstream: { upstreamHost } })
    await rawFetch(proxy.port, { path: '/u/mcp', headers: ['Host', 'localhost:7'], body: call })
    const hosts = upstream.arrived[0]?.request.rawHeaders.filter((_part, index, all) =>
      /^host$/i.test(all[index - 1] ?? ''),
    )
    expect(hosts).toEqual([expected ?? `127.0.0.1:${upstream.port}`])
  })

  it.each([
    ['passes without credentials of ours', {}, {}, ['Bearer theirs']],
    ['is replaced by a configured one', { headers: { Authorization: 'Bearer ours' } }, {}, ['Bearer ours']],
    ['stays here when it was for us', {}, { bearerToken: 'theirs' }, []],
    [
      'is replaced though it was for us',
      { headers: { authorization: 'Bearer ours' } },
      { bearerToken: 'theirs' },
      ['Bearer ours'],
    ],
  ])('Authorization %s', async (_title, upstreamOptions, options, expected) => {
    const { upstream, proxy } = await start(undefined, { upstream: upstreamOptions, ...options })
    await rawFetch(proxy.port, { path: '/u/mcp', headers: ['Authorization', 'Bearer theirs'], body: call })
    const raw = upstream.arrived[0]?.request.rawHeaders ?? []
    expect(raw.filter((_part, index) => /^authorization$/i.test(raw[index - 1] ?? ''))).toEqual(expected)
  })

  it.each(['GET', 'DELETE', 'OPTIONS', 'PUT', 'PATCH'])('%s without a body gets none', async (method) => {
    const { upstream, proxy } = await start((one) => one.answer(200, '', ['X-Method', one.request.startLine]))
    const response = await rawFetch(proxy.port, { method, path: '/u/mcp' })
    expect(headerOf(response, 'x-method')).toBe(`${method} /mcp HTTP/1.1`)
    expect(upstream.arrived[0]?.request.isChunked).toBe(false)
    expect(headerOf(upstream.arrived[0]?.request as never, 'content-length') ?? '0').toBe('0')
  })

  it('HEAD reaches the upstream as HEAD, and its headers come back without a body', async () => {
    const { upstream, proxy } = await start((one) =>
      one.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n'),
    )
    const response = await rawFetch(proxy.port, { method: 'HEAD', path: '/u/mcp' })
    expect(upstream.arrived[0]?.request.startLine).toBe('HEAD /mcp HTTP/1.1')
    expect([statusOf(response), headerOf(response, 'content-length'), headerOf(response, 'x-a')]).toEqual([
      200,
      '5',
      '1',
    ])
  })

  it('Expect: 100-continue is answered here and goes no further', async () => {
    const { upstream, proxy } = await start()
    const client = connectTo(proxy)
    client.send(
      rawRequest({ path: '/u/mcp', headers: ['Expect', '100-continue', 'Content-Length', String(call.length)] }),
    )
    await client.until(() => client.responses.length === 1)
    client.send(call)
    expect(statusOf(await client.response())).toBe(200)
    expect(headerOf(upstream.arrived[0]?.request as never, 'expect')).toBeUndefined()
  })
})

const sizes = [0, 1, 100, 65_535, 65_536, 65_537, 1024 * 1024]

/** Bytes of every value, so that no decoding goes unnoticed. */
function noise(bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => (index * 31 + (index >> 8)) & 0xff))
}

/** Bytes that repeat nothing, of which each seed has others. */
function unlike(seed: number, bytes: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(bytes))
}

describe('bodies are byte-identical', () => {
  const echo = async (one: Arrived) =>
    one.answer(200, bodyOf(await one.whole()), ['Content-Type', 'application/octet-stream'])

  it.each(sizes)('%i bytes with a length, there and back', async (bytes) => {
    const { upstream, proxy } = await start(echo)
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: noise(bytes) })
    expect(bodyOf(upstream.arrived[0]?.request as never).equals(noise(bytes))).toBe(true)
    expect(bodyOf(response).equals(noise(bytes))).toBe(true)
    expect([response.isComplete, response.isChunked]).toEqual([true, false])
  })

  it.each(sizes)('%i bytes in chunks, there and back', async (bytes) => {
    const { proxy } = await start(async (one) => {
      const request = await one.whole()
      one.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      one.write(bytes > 0 ? chunked(bodyOf(request)) : chunked())
    })
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: ['Transfer-Encoding', 'chunked'] }))
    const half = bytes >> 1
    if (half > 0) client.send(chunk(noise(bytes).subarray(0, half)))
    client.send(bytes > 0 ? chunked(noise(bytes).subarray(half)) : chunked())
    const response = await client.response()
    expect(bodyOf(response).equals(noise(bytes))).toBe(true)
    expect([response.isComplete, response.isChunked]).toEqual([true, true])
  })

  it.each([
    ['keys in any order, unknown keys', '{"x":{"y":[]},"params":{"name":"echo","_z":1},"method":"tools/call","id":1}'],
    ['big numbers', '{"jsonrpc":"2.0","id":12345678901234567890,"method":"a","params":{"n":1e400,"m":0.1000}}'],
    ['duplicate keys', '{"id":1,"id":2,"method":"a","method":"b"}'],
    ['escapes and raw line breaks', '{\r\n  "id": "\\u0061\\/",\n\t"method": "\\ud83d\\ude00"\n}\n'],
    ['a byte order mark', '\ufeff{"id":1,"method":"ping"}'],
    ['no JSON at all', '<html>\0'],
    ['a batch', '[{"id":1,"method":"a"},{"id":2,"method":"b"}]'],
  ])('odd bodies pass: %s', async (_title, body) => {
    const { proxy } = await start(echo)
    const response = await rawFetch(proxy.port, { path: '/u/mcp', headers: json, body })
    expect(textOf(response)).toBe(body)
  })
})

describe('the answer reaches the client as it was sent', () => {
  it.each([200, 201, 202, 204, 304, 400, 401, 404, 405, 406, 415, 418, 429, 500, 503, 599])(
    'status %i with its body and headers, none invented',
    async (status) => {
      const hasBody = status !== 204 && status !== 304
      const headers = [
        'WWW-Authenticate',
        'Bearer x="y"',
        'X-B',
        '1',
        'x-a',
        '2',
        'X-B',
        '3',
        'Set-Cookie',
        'a',
        'Set-Cookie',
        'b',
      ]
      const { proxy } = await start((one) => {
        const lines = headers.flatMap((name, index) =>
          index % 2 === 0 ? [`${name}: ${headers[index + 1] ?? ''}\r\n`] : [],
        )
        const length = hasBody ? 'Content-Length: 5\r\n' : ''
        one.write(`HTTP/1.1 ${status} Of Its Own\r\n${lines.join('')}${length}\r\n${hasBody ? 'hello' : ''}`)
      })
      const response = await rawFetch(proxy.port, { path: '/u/mcp', headers: json, body: call })
      expect(response.startLine).toBe(`HTTP/1.1 ${status} Of Its Own`)
      expect(endToEnd(response.rawHeaders)).toEqual([...headers, ...(hasBody ? ['Content-Length', '5'] : [])])
      expect(textOf(response)).toBe(hasBody ? 'hello' : '')
      expect(response.isComplete).toBe(true)
    },
  )

  it('a reason phrase that Node cannot write is left out, and the answer still passes', async () => {
    const { proxy } = await start((one) =>
      one.write(Buffer.from('HTTP/1.1 200 caf\u00e9\r\nContent-Length: 2\r\n\r\nok', 'latin1')),
    )
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect([response.startLine, textOf(response)]).toEqual(['HTTP/1.1 200 ', 'ok'])
  })

  it('60,000 bytes of headers pass', async () => {
    const big = 'a'.repeat(60_000)
    const { proxy } = await start((arrived) => arrived.answer(200, answer, [...json, 'X-Big', big]))
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect([statusOf(response), headerOf(response, 'x-big')]).toEqual([200, big])
  })

  it('a redirect is the client’s to follow', async () => {
    const { upstream, proxy } = await start((one) => one.answer(307, '', ['Location', '/elsewhere']))
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect([statusOf(response), headerOf(response, 'location'), upstream.arrived.length]).toEqual([
      307,
      '/elsewhere',
      1,
    ])
  })

  it('headers are here before the body is, with a length or without', async () => {
    for (const framing of ['Content-Length: 2', 'Transfer-Encoding: chunked']) {
      const { upstream, proxy } = await start((one) => one.write(`HTTP/1.1 200 OK\r\nX-Now: 1\r\n${framing}\r\n\r\n`))
      const client = connectTo(proxy)
      client.send(rawRequest({ path: '/u/mcp', body: call }))
      expect(headerOf(await client.head(), 'x-now')).toBe('1')
      const arrived = await upstream.request(0)
      arrived.write(framing.startsWith('C') ? 'ok' : chunked('ok'))
      expect(textOf(await client.response())).toBe('ok')
    }
  })

  it('an event stream is byte-identical: line breaks, comments, ids, several data lines, characters cut in two', async () => {
    const events = Buffer.from(
      ': hello\r\n\r\nid: 7\r\nevent: message\r\ndata: {"a":\r\ndata: "é😀"}\r\n\r\nretry: 5\n\rdata:x\n\n:\n\ndata',
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: events.length - 1 }), { maxLength: 8 }), async (cuts) => {
        const upstream = await scriptedUpstream((one) => {
          one.openStream()
          const at = [0, ...new Set(cuts), events.length].toSorted((a, b) => a - b)
          for (const [index, from] of at.slice(0, -1).entries()) one.chunk(events.subarray(from, at[index + 1]))
          one.endChunks()
        })
        const proxy = await startProxy({ upstreams: { u: { url: `http://127.0.0.1:${upstream.port}/mcp` } } })
        const response = await rawFetch(proxy.port, { method: 'GET', path: '/u/mcp' })
        await proxy.close()
        await upstream.close()
        expect(bodyOf(response).equals(events)).toBe(true)
      }),
      { numRuns: 25 },
    )
  })

  it('each event arrives when it is sent, not when the stream ends', async () => {
    const { upstream, proxy } = await start((one) => one.openStream(['Cache-Control', 'no-store']))
    const client = connectTo(proxy)
    client.send(rawRequest({ method: 'GET', path: '/u/mcp', headers: ['Last-Event-ID', '41'] }))
    const arrived = await upstream.request(0)
    expect(headerOf(arrived.request, 'last-event-id')).toBe('41')
    const response = await client.head()
    for (const number of [1, 2, 3]) {
      arrived.chunk(`id: ${number}\ndata: ${number}\n\n`)
      await client.until(() => textOf(response).endsWith(`data: ${number}\n\n`))
    }
    expect(response.isComplete).toBe(false)
  })

  it('a second request on the same connection is not held up by the first', async () => {
    const { proxy } = await start()
    const client = connectTo(proxy)
    client.send(Buffer.concat([rawRequest({ path: '/u/mcp', body: call }), rawRequest({ path: '/u/mcp', body: call })]))
    expect([statusOf(await client.response(0)), statusOf(await client.response(1))]).toEqual([200, 200])
  })

  it('an answer before the end of the request passes, and the connection can carry the next one', async () => {
    const { upstream, proxy } = await start((one) => one.answer(418, 'no'))
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: ['Transfer-Encoding', 'chunked'] }))
    client.send(chunk(noise(70_000)))
    expect(statusOf(await client.response(0))).toBe(418)
    client.send(Buffer.concat([chunk(noise(300_000)), chunked(noise(300_000))]))
    client.send(rawRequest({ path: '/u/mcp', body: call }))
    expect(statusOf(await client.response(1))).toBe(418)
    expect(upstream.arrived.length).toBe(2)
    expect(proxy.inFlight('u')).toBe(0)
  })
})

describe('when one side goes', () => {
  it.each(['POST', 'GET'])('a client that leaves a %s stream closes the upstream’s at once', async (method) => {
    const { upstream, proxy } = await start((one) => one.openStream())
    const client = connectTo(proxy)
    client.send(rawRequest({ method, path: '/u/mcp', ...(method === 'POST' && { body: call }) }))
    const arrived = await upstream.request(0)
    await client.head()
    client.close()
    await upstream.until(() => arrived.isClosed())
    await proxy.until(() => proxy.inFlight('u') === 0)
    expect(proxy.told.failed.map((error) => error instanceof GivenUp)).toEqual([true])
    expect(proxy.told.operations.map(({ side, errorType }) => [side, errorType])).toEqual(
      method === 'POST'
        ? [
            ['client', 'cancelled'],
            ['server', 'cancelled'],
          ]
        : [],
    )
  })

  it('a client that leaves before the upstream says anything closes it too', async () => {
    const { upstream, proxy } = await start(() => undefined)
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', body: call }))
    const arrived = await upstream.request(0)
    client.close()
    await upstream.until(() => arrived.isClosed())
  })

  it('a client that leaves within its upload aborts the upload', async () => {
    const { upstream, proxy } = await start(() => undefined)
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: ['Transfer-Encoding', 'chunked'] }))
    client.send(chunk(noise(70_000)))
    const arrived = await upstream.request(0)
    client.close()
    await upstream.until(() => arrived.isClosed())
    await proxy.until(() => proxy.inFlight('u') === 0)
    expect(proxy.told.rejected).toEqual([])
  })

  it('long answers at once, of every kind and to slow readers too, pass and are read each for itself', async () => {
    const kinds = ['json', 'listed', 'gzip', 'events', 'unlabelled'] as const
    const count = 20
    const isSlow = (id: number) => id % 3 === 0
    const answers = Array.from({ length: count }, (_, i) => {
      const kind = kinds[i % kinds.length] ?? 'json'
      // More than the system holds for a client that does not read; where it is decoded, no more than is.
      const text = unlike(i, isSlow(i) && kind !== 'gzip' ? 8_000_000 : 800_000).toString('base64')
      const failed = `{"jsonrpc":"2.0","id":${i},"error":{"data":"${text}","message":"no","code":${-32_100 - i}}}`
      const list = `{"jsonrpc":"2.0","id":${i},"result":{"text":"${text.slice(0, 800_000)}","tools":[{"name":"t${i}"}]}}`
      if (kind === 'listed') return { kind, body: Buffer.from(list), headers: json }
      if (kind === 'gzip') return { kind, body: gzipSync(failed), headers: [...json, 'Content-Encoding', 'gzip'] }
      if (kind === 'json') return { kind, body: Buffer.from(failed), headers: json }
      const events = `data: ${failed}\r\n\r\n`
      const isKnown = kind === 'events'
      return { kind, body: Buffer.from(events), headers: isKnown ? ['Content-Type', 'text/event-stream'] : [] }
    })
    const { proxy } = await start(async (one) => {
      const { id } = JSON.parse(textOf(await one.whole())) as { readonly id: number }
      one.answer(200, answers[id]?.body, answers[id]?.headers)
    })
    const ask = async (id: number, mayRead: Promise<unknown>) => {
      const client = connectTo(proxy)
      const method = answers[id]?.kind === 'listed' ? 'tools/list' : 'tools/call'
      client.send(rawRequest({ path: '/u/mcp', headers: json, body: JSON.stringify({ jsonrpc: '2.0', id, method }) }))
      client.socket.pause()
      await mayRead
      client.socket.resume()
      return answers[id]?.body.equals(bodyOf(await client.response()))
    }
    for (let round = 0; round < 2; round++) {
      const quick = new Map(answers.flatMap((_, id) => (isSlow(id) ? [] : [[id, ask(id, Promise.resolve())] as const])))
      const areThere = Promise.all(quick.values())
      const arrived = await Promise.all(answers.map((_, id) => quick.get(id) ?? ask(id, areThere)))
      expect(arrived).toEqual(answers.map(() => true))
    }
    const ofKind = (wanted: string) => answers.flatMap(({ kind }, id) => (kind === wanted ? [id, id] : []))
    const failedIds = ['json', 'gzip', 'events'].flatMap(ofKind)
    const sides = (ids: readonly number[], of: (id: number) => string) => [...ids, ...ids].map(of).toSorted()
    await proxy.until(() => proxy.told.operations.length === 2 * 2 * count)
    const failures = proxy.told.operations.flatMap(({ errorType = '' }) =>
      errorType.startsWith('-321') ? errorType : [],
    )
    expect(failures.toSorted()).toEqual(sides(failedIds, (id) => String(-32_100 - id)))
    expect(proxy.told.admitted.toSorted()).toEqual(
      ofKind('listed')
        .map((id) => `tool t${id}`)
        .toSorted(),
    )
  })

  it('a slow reader stops the upstream, whose bytes then wait on its own side; nothing is lost', async () => {
    const total = 64 * 1024 * 1024
    const piece = noise(1024 * 1024)
    let written = 0
    const { upstream, proxy } = await start((one) => {
      one.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`)
      const more = () => {
        while (written < total) {
          written += piece.length
          if (!one.socket.write(piece)) return void one.socket.once('drain', more)
        }
      }
      more()
    })
    const client = connectTo(proxy)
    client.socket.pause()
    client.send(rawRequest({ path: '/u/mcp', body: call }))
    const arrived = await upstream.request(0)
    // It is stopped when the event loop has turned many times without a further byte going out.
    for (let still = 0, before = -1; still < 200; still = before === written ? still + 1 : 0) {
      before = written
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(written).toBeLessThan(total / 2)
    expect(arrived.isClosed()).toBe(false)
    client.socket.resume()
    const response = await client.response()
    expect(bodyOf(response).length).toBe(total)
    expect(
      bodyOf(response)
        .subarray(total - piece.length)
        .equals(piece),
    ).toBe(true)
  })

  it.each([
    ['chunked', 'fin'],
    ['chunked', 'reset'],
    ['with a length', 'fin'],
    ['with a length', 'reset'],
  ] as const)(
    'an answer %s that the upstream cuts (%s) is cut for the client, never ended cleanly',
    async (framing, how) => {
      const { upstream, proxy } = await start((one) => {
        const header = framing === 'chunked' ? 'Transfer-Encoding: chunked' : 'Content-Length: 100'
        one.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${header}\r\n\r\n`)
        one.write(framing === 'chunked' ? chunk('{"id"') : '{"id"')
      })
      const client = connectTo(proxy)
      client.send(rawRequest({ path: '/u/mcp', body: call }))
      const response = await client.head()
      await client.until(() => textOf(response) === '{"id"')
      ;(await upstream.request(0)).cut(how)
      await client.until(() => client.isClosed)
      expect(response.isComplete).toBe(false)
      await proxy.until(() => proxy.told.operations.length === 2)
      expect(proxy.told.operations[0]?.errorType).toBe('upstream_reset')
      expect(proxy.told.failed.map(({ code }) => code)).toEqual(['upstream_reset'])
    },
  )

  it('a refused connection is a 502 with the id of the request', async () => {
    const { upstream, proxy } = await start()
    await upstream.close()
    closers.splice(0, 1)
    for (const id of ['1', '"a\\"b"', '12345678901234567890']) {
      const response = await rawFetch(proxy.port, { path: '/u/mcp', body: `{"method":"ping","id":${id}}` })
      expect(statusOf(response)).toBe(502)
      expect(textOf(response)).toContain(`"id":${id},`)
      expect(JSON.parse(textOf(response))).toMatchObject({
        error: { code: -32000, data: { reason: 'upstream_refused' } },
      })
    }
    expect(proxy.inFlight('u')).toBe(0)
  })

  it('a notification that does not get through is a 502 without an id', async () => {
    const { proxy } = await start((one) => one.cut('reset'))
    const body = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body })
    expect([statusOf(response), (JSON.parse(textOf(response)) as { id: unknown }).id]).toEqual([502, null])
    expect(proxy.told.failed.map(({ code }) => code)).toEqual(['upstream_reset'])
  })

  it.each([
    ['a reset', (one: Arrived) => one.cut('reset'), 'upstream_reset'],
    ['an end without a byte', (one: Arrived) => one.cut('fin'), 'upstream_reset'],
    ['what is no HTTP', (one: Arrived) => one.write('SSH-2.0-junk\r\n\r\n'), 'upstream_invalid'],
    [
      'a status that HTTP has not',
      (one: Arrived) => one.write('HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n'),
      'upstream_invalid',
    ],
    [
      'a length that is none',
      (one: Arrived) => one.write('HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n'),
      'upstream_invalid',
    ],
    [
      'two framings at once',
      (one: Arrived) => one.write('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n'),
      'upstream_invalid',
    ],
  ])('%s instead of an answer is a 502', async (_title, script, reason) => {
    const { upstream, proxy } = await start(script)
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect([statusOf(response), JSON.parse(textOf(response))]).toMatchObject([
      502,
      { id: 1, error: { data: { reason } } },
    ])
    // MCP requests are not idempotent: none is sent twice.
    expect(upstream.arrived.length).toBe(1)
  })
})

describe('the body limit', () => {
  const maxBodyBytes = 200_000

  it('a declared length above it is refused at once, before the body is sent', async () => {
    const { upstream, proxy } = await start(undefined, { maxBodyBytes })
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: ['Content-Length', String(maxBodyBytes + 1)] }))
    const response = await client.head()
    expect([statusOf(response), headerOf(response, 'connection')]).toEqual([413, 'close'])
    await client.until(() => textOf(response) !== '' && JSON.parse(textOf(response)) !== undefined)
    expect(upstream.arrived.length).toBe(0)
    expect(proxy.told.rejected).toEqual(['body_too_large'])
  })

  it('a client that looks for the answer only after its upload still gets it', async () => {
    const { proxy } = await start(undefined, { maxBodyBytes })
    const client = connectTo(proxy)
    client.socket.pause()
    client.send(rawRequest({ path: '/u/mcp', body: noise(4_000_000) }))
    client.socket.end()
    client.socket.resume()
    const response = await client.response()
    expect([statusOf(response), response.isComplete]).toEqual([413, true])
  })

  it('chunks above it are refused though they are few, and the upstream hears nothing of them', async () => {
    const { upstream, proxy } = await start(() => undefined, { maxBodyBytes: 2000 })
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: ['Transfer-Encoding', 'chunked'] }))
    client.send(Buffer.concat([chunk(noise(2000)), chunk('x')]))
    expect(statusOf(await client.head())).toBe(413)
    expect(upstream.arrived.length).toBe(0)
    expect(proxy.told.rejected).toEqual(['body_too_large'])
  })

  it('chunks above it are refused, and the upstream’s request is aborted', async () => {
    const { upstream, proxy } = await start(() => undefined, { maxBodyBytes })
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: ['Transfer-Encoding', 'chunked'] }))
    client.send(chunk(noise(maxBodyBytes)))
    const arrived = await upstream.request(0)
    client.send(chunk('x'))
    expect(statusOf(await client.head())).toBe(413)
    await upstream.until(() => arrived.isClosed())
    expect(arrived.request.isComplete).toBe(false)
    expect(proxy.told.rejected).toEqual(['body_too_large'])
    expect(proxy.inFlight('u')).toBe(0)
  })

  it.each(['with a length', 'in chunks'])('a body of exactly the limit passes %s', async (framing) => {
    const { upstream, proxy } = await start(undefined, { maxBodyBytes })
    const body = noise(maxBodyBytes)
    const response =
      framing === 'in chunks'
        ? await rawFetch(proxy.port, { path: '/u/mcp', headers: ['Transfer-Encoding', 'chunked'], body: chunked(body) })
        : await rawFetch(proxy.port, { path: '/u/mcp', body })
    expect(statusOf(response)).toBe(200)
    expect(bodyOf(upstream.arrived[0]?.request as never).equals(body)).toBe(true)
  })
})

describe('sessions of a Streamable HTTP upstream', () => {
  const initialize = '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
  const initialized = '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}'
  const session = ['Mcp-Session-Id', 's-1']

  async function openSession(proxy: RunningProxy) {
    await rawFetch(proxy.port, { path: '/u/mcp', headers: json, body: initialize })
    const opened = proxy.directory.get('u', 's-1')
    if (!opened) throw new Error('no session')
    return opened
  }

  /** Answers initialize with a session; everything else waits for the test. */
  const server = async (one: Arrived) => {
    const request = await one.whole()
    if (textOf(request).includes('initialize')) one.answer(200, initialized, [...json, ...session])
  }

  it('begin with an answered initialize, in the revision that the server chose', async () => {
    const { proxy } = await start(server)
    expect(await openSession(proxy)).toMatchObject({ protocolVersion: '2025-06-18', pending: 0, openStreams: 0 })
  })

  it('count requests and streams while they are open, and end with DELETE though others are pending', async () => {
    const { upstream, proxy } = await start(server)
    const opened = await openSession(proxy)
    const [post, get] = [connectTo(proxy), connectTo(proxy)]
    post.send(rawRequest({ path: '/u/mcp', headers: session, body: call }))
    const posted = await upstream.request(1)
    get.send(rawRequest({ method: 'GET', path: '/u/mcp', headers: session }))
    const got = await upstream.request(2)
    got.openStream()
    await get.head()
    expect(opened).toMatchObject({ pending: 1, openStreams: 1 })

    const deleting = rawFetch(proxy.port, { method: 'DELETE', path: '/u/mcp', headers: session })
    ;(await upstream.request(3)).answer(200)
    expect(statusOf(await deleting)).toBe(200)
    expect(proxy.told.endedSessions).toEqual(['deleted'])
    expect(proxy.directory.get('u', 's-1')).toBeUndefined()

    posted.answer(200, answer)
    got.endChunks()
    expect([statusOf(await post.response()), (await get.response()).isComplete]).toEqual([200, true])
    expect(opened).toMatchObject({ pending: 0, openStreams: 0 })
    expect(proxy.directory.get('u', 's-1')).toBeUndefined()
    expect(proxy.told.failed).toEqual([])
  })

  it('stay when the server refuses the DELETE', async () => {
    const { upstream, proxy } = await start(server)
    await openSession(proxy)
    const deleting = rawFetch(proxy.port, { method: 'DELETE', path: '/u/mcp', headers: session })
    ;(await upstream.request(1)).answer(405)
    expect(statusOf(await deleting)).toBe(405)
    expect(proxy.told.endedSessions).toEqual([])
  })

  it('end with the server’s 404, which passes unchanged (MCP 2025-11-25, Transports, Session Management)', async () => {
    const { upstream, proxy } = await start(server)
    const opened = await openSession(proxy)
    const posting = rawFetch(proxy.port, { path: '/u/mcp', headers: session, body: call })
    ;(await upstream.request(1)).answer(404, 'gone')
    expect([statusOf(await posting), textOf(await posting)]).toEqual([404, 'gone'])
    expect(proxy.told.endedSessions).toEqual(['unknown'])
    expect(opened.pending).toBe(0)
  })

  it('that are older than we are get adopted, open stream and all', async () => {
    const { upstream, proxy } = await start(() => undefined)
    const client = connectTo(proxy)
    client.send(
      rawRequest({ method: 'GET', path: '/u/mcp', headers: [...session, 'MCP-Protocol-Version', '2025-03-26'] }),
    )
    const arrived = await upstream.request(0)
    arrived.openStream()
    await client.head()
    const adopted = proxy.directory.get('u', 's-1')
    expect(adopted).toMatchObject({ openStreams: 1, pending: 0, protocolVersion: '2025-03-26' })
    arrived.endChunks()
    await client.response()
    expect(adopted?.openStreams).toBe(0)
  })
})

describe('what an exchange says about the upstream', () => {
  it.each([
    ['an answer', 200, answer, json, ['u'], [], undefined],
    ['an error is an answer too', 400, '{"jsonrpc":"2.0","id":1,"error":{"code":-32601}}', json, ['u'], [], '-32601'],
    ['an error without an id', 400, '{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}', json, ['u'], [], '-32700'],
    ['a tool that fails', 200, '{"id":1,"result":{"isError":true}}', json, ['u'], [], 'tool_error'],
    ['401 without a message', 401, 'no', [], [], [], 'upstream_unauthorized'],
    ['500 without a message', 500, 'no', [], [], ['upstream_http_error'], 'upstream_http_error'],
    ['a success without a message', 200, '', [], [], ['upstream_closed'], 'upstream_closed'],
    ['somebody else’s answer', 200, '{"id":2,"result":{}}', json, [], ['upstream_closed'], 'upstream_closed'],
  ])('%s', async (_title, status, body, headers, answered, failed, errorType) => {
    const { proxy } = await start((one) => one.answer(status, body, headers))
    const response = await rawFetch(proxy.port, { path: '/u/mcp', headers: json, body: call })
    expect([statusOf(response), textOf(response)]).toEqual([status, body])
    expect(proxy.told.answered).toEqual(answered)
    expect(proxy.told.failed.map(({ code }) => code)).toEqual(failed)
    expect(proxy.told.operations.find(({ side }) => side === 'client')?.errorType).toBe(errorType)
  })

  it('the answer is found among other messages of an event stream', async () => {
    const { proxy } = await start((one) => {
      one.openStream()
      one.chunk('data: {"method":"notifications/progress","params":{"progressToken":1}}\n\n')
      one.chunk(
        'data: {"id":1,"method":"sampling/createMessage"}\n\ndata: {"id":1,\ndata: "result":{"isError":true}}\n\n',
      )
      one.endChunks()
    })
    await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect(proxy.told.operations.map(({ errorType }) => errorType)).toEqual(['tool_error', 'tool_error'])
  })

  it('a stream that ends before the answer is no failure when the client can resume it', async () => {
    const { proxy } = await start((one) => {
      one.openStream()
      one.chunk('id: 1\ndata:\n\n')
      one.endChunks()
    })
    await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect(proxy.told.failed).toEqual([])
    expect(proxy.told.unparsed).toEqual([])
  })

  it('a stream without event ids that ends before the answer is one', async () => {
    const { proxy } = await start((one) => {
      one.openStream()
      one.endChunks()
    })
    await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect(proxy.told.failed.map(({ code }) => code)).toEqual(['upstream_closed'])
  })

  it('a message that we cannot read passes and is counted', async () => {
    const { upstream, proxy } = await start((one) => one.answer(202, '', []))
    expect(statusOf(await rawFetch(proxy.port, { path: '/u/mcp', headers: json, body: '{"id":' }))).toBe(202)
    expect(textOf(upstream.arrived[0]?.request as never)).toBe('{"id":')
    expect(proxy.told.unparsed).toEqual(['u'])
  })

  it('names that a list announces may become labels', async () => {
    const tools = '{"id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}'
    const { proxy } = await start((one) => one.answer(200, tools))
    await rawFetch(proxy.port, { path: '/u/mcp', body: '{"id":1,"method":"tools/list"}' })
    expect(proxy.told.admitted).toEqual(['tool a', 'tool b'])
  })
})

describe('an answer with a content coding passes as it is, and a copy of it is read', () => {
  const failure = '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no such tool"}}'
  const told = (proxy: RunningProxy) =>
    proxy.until(() => proxy.told.operations.length === 2 && proxy.told.operations.map(({ errorType }) => errorType))

  it.each([
    ['gzip', gzipSync],
    ['X-Gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
    ['zstd', zstdCompressSync],
  ])('%s', async (coding, compress) => {
    const bytes = compress(failure)
    const { proxy } = await start((one) => one.answer(200, bytes, [...json, 'Content-Encoding', coding]))
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect(bodyOf(response).equals(bytes)).toBe(true)
    expect(headerOf(response, 'content-encoding')).toBe(coding)
    expect(await told(proxy)).toEqual(['-32602', undefined])
    expect([proxy.told.unparsed, proxy.inFlight('u')]).toEqual([[], 0])
  })

  it('also as an event stream, event by event', async () => {
    const { proxy, upstream } = await start((one) => one.openStream(['Content-Encoding', 'gzip']))
    const client = connectTo(proxy)
    client.send(rawRequest({ path: '/u/mcp', headers: json, body: call }))
    await client.head()
    const server = await upstream.request(0)
    const zip = createGzip()
    zip.on('data', (bytes: Buffer) => server.chunk(bytes))
    zip.once('end', () => server.endChunks())
    zip.write('data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n')
    await new Promise<void>((resolve) => zip.flush(resolve))
    await proxy.until(() => proxy.told.events.length === 1)
    zip.end(`data: ${failure}\n\n`)
    await client.response()
    expect(await told(proxy)).toEqual(['-32602', undefined])
    expect(proxy.told.events).toHaveLength(2)
  })

  it.each([
    ['a coding that nobody knows', 'pack200', Buffer.from(answer)],
    ['two codings', 'gzip, br', Buffer.from(answer)],
    ['what is not what it says', 'gzip', Buffer.from(answer)],
    ['one that is cut', 'br', brotliCompressSync(answer).subarray(0, -3)],
    ['one that is far too long', 'gzip', gzipSync(Buffer.alloc(70 * 1024 * 1024, ' '))],
  ])('%s cannot be read, which is counted and no failure', async (_title, coding, bytes) => {
    const { proxy } = await start((one) => one.answer(200, bytes, [...json, 'Content-Encoding', coding]))
    const response = await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect(bodyOf(response).equals(bytes)).toBe(true)
    expect(await told(proxy)).toEqual([undefined, undefined])
    expect([proxy.told.unparsed, proxy.told.failed]).toEqual([['u'], []])
  })

  it('an HTTP error that cannot be read is one all the same', async () => {
    const { proxy } = await start((one) => one.answer(500, 'x', [...json, 'Content-Encoding', 'gzip']))
    await rawFetch(proxy.port, { path: '/u/mcp', body: call })
    expect(await told(proxy)).toEqual(['upstream_http_error', 'upstream_http_error'])
  })
})

describe('each request of a batch is measured (MCP 2025-03-26, Basic, "Batching")', () => {
  const batch = `[{"id":1,"method":"a"},{"method":"notifications/b"}, {"id":"2","method":"tools/call","params":{"name":"t"}}]`
  const told = (proxy: RunningProxy) =>
    proxy.told.operations
      .filter(({ side }) => side === 'client')
      .map(({ method, toolName, errorType }) => [method, toolName, errorType].filter(Boolean).join(' '))
  const send = (proxy: RunningProxy, body = batch) => rawFetch(proxy.port, { path: '/u/mcp', headers: json, body })

  it.each([
    ['as an array', 'application/json', '[{"id":"2","result":{"isError":true}},{"id":1,"result":{}}]'],
    ['as events', 'text/event-stream', 'data: {"id":"2","result":{"isError":true}}\n\ndata: {"id":1,"result":{}}\n\n'],
    [
      'as arrays in events',
      'text/event-stream',
      'data: [{"id":"2","result":{"isError":true}},{"id":1,"result":{}}]\n\n',
    ],
  ])('answered %s', async (_title, type, body) => {
    const { proxy } = await start((one) => one.answer(200, body, ['Content-Type', type]))
    expect(textOf(await send(proxy))).toBe(body)
    await proxy.until(() => proxy.told.operations.length === 4)
    expect(told(proxy)).toEqual(['tools/call t tool_error', 'a'])
    expect(proxy.told.failed).toEqual([])
  })

  it('one without an answer ends with what came of the whole', async () => {
    const { proxy } = await start((one) => one.answer(200, '[{"id":1,"result":{}}]'))
    await send(proxy)
    await proxy.until(() => proxy.told.operations.length === 4)
    expect(told(proxy)).toEqual(['a', 'tools/call t upstream_closed'])
  })

  it('a refusal of the whole ends each', async () => {
    const { proxy } = await start((one) => one.answer(400, '{"id":null,"error":{"code":-32600,"message":"no"}}'))
    await send(proxy)
    await proxy.until(() => proxy.told.operations.length === 4)
    expect(told(proxy)).toEqual(['a -32600', 'tools/call t -32600'])
  })

  it('one of notifications alone is none, and what is no message is counted', async () => {
    const { proxy } = await start((one) => one.answer(202))
    await send(proxy, '[{"method":"notifications/a"},7]')
    await proxy.until(() => proxy.told.answered.length === 1)
    expect([told(proxy), proxy.told.unparsed]).toEqual([[], ['u']])
  })

  it('a long one is measured as it passes, one of too many messages not at all', async () => {
    const { proxy } = await start(async (one) => {
      await one.whole()
      one.answer(200, '[{"id":1,"result":{}}]')
    })
    await send(proxy, `[{"id":1,"method":"a","params":{"x":"${'x'.repeat(100_000)}"}}]`)
    await proxy.until(() => proxy.told.operations.length === 2)
    expect(told(proxy)).toEqual(['a'])
    await send(proxy, `[${Array.from({ length: 1001 }, () => '{"id":1,"method":"a"}').join()}]`)
    await proxy.until(() => proxy.told.unparsed.length === 1)
    expect(told(proxy)).toEqual(['a'])
  })
})
