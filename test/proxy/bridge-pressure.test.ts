import type { Readable } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import type { ProcessPolicy, ResidentPolicy } from '../../src/upstreams/upstream.ts'
import { eventually } from '../support/eventually.ts'
import { RawClient, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { initializeMessage } from '../support/rpc.ts'
import { openSse } from '../support/sse-client.ts'
import { type RunningProxy, startProxy, stdioOf } from './fixture.ts'

/** What a bridge to a stdio server does when one side is slow, or says a lot at once. */

const MiB = 1024 * 1024
const path = '/p/mcp'
const json = ['Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream']
const initialize = JSON.stringify(initializeMessage)

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(process?: ProcessPolicy, resident?: ResidentPolicy): Promise<RunningProxy> {
  const proxy = await startProxy({
    upstreams: { p: { script: 'scripted-stdio.mjs', ...(process && { process }), ...(resident && { resident }) } },
  })
  closers.push(() => proxy.close())
  return proxy
}

function connectTo(proxy: RunningProxy): RawClient {
  const client = new RawClient(proxy.port)
  closers.push(() => client.close())
  return client
}

async function openSession(proxy: RunningProxy): Promise<string[]> {
  const response = await rawFetch(proxy.port, { path, headers: json, body: initialize })
  expect(statusOf(response)).toBe(200)
  return ['Mcp-Session-Id', headerOf(response, 'mcp-session-id') ?? 'none', ...json]
}

async function openSseClient(proxy: RunningProxy) {
  const client = await openSse(`${proxy.url}/p/sse`)
  closers.push(() => client.close())
  await client.ask(initializeMessage)
  return client
}

/** The process of the only session. */
function processOf(proxy: RunningProxy) {
  const [line] = stdioOf(proxy, 'p').sessionLines()
  if (!line) throw new Error('no session is open')
  return line.process
}

/** The only process, whoever uses it. */
function serverOf(proxy: RunningProxy) {
  const line = stdioOf(proxy, 'p').sessionLines()[0] ?? stdioOf(proxy, 'p').residentLine()
  if (!line) throw new Error('no process runs')
  return line.process
}

/** How much was read of it from now on. */
function bytesOf(stream: Readable): () => number {
  let bytes = 0
  stream.on('data', (chunk: Buffer) => (bytes += chunk.length))
  return () => bytes
}

describe('a message of 10 MiB', () => {
  const long = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"x":"${'é'.repeat(5 * MiB)}","say":["{\\"id\\":$ID,\\"result\\":{\\"line\\":$LINE}}"]}}`
  const lineIn = (answer: string) => (JSON.parse(answer) as { result: { line: string } }).result.line

  it('passes to the server and back, byte for byte, over Streamable HTTP', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const response = await rawFetch(proxy.port, { path, headers: session, body: long })
    expect(statusOf(response)).toBe(200)
    expect(lineIn(textOf(response)) === long).toBe(true)
  })

  it('passes to the server and back, byte for byte, over HTTP+SSE', async () => {
    const proxy = await start()
    const client = await openSseClient(proxy)
    expect((await client.post(long)).status).toBe(202)
    const answer = await client.until(() => client.texts.find((text) => text.length > 5 * MiB))
    expect(lineIn(answer) === long).toBe(true)
  })

  it('is the limit’s business only above 16 MiB: then it is dropped and counted, and the next ones come', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const flood = `{"jsonrpc":"2.0","id":2,"method":"flood","params":{"lines":1,"bytes":${17 * MiB}}}`
    const response = await rawFetch(proxy.port, { path, headers: session, body: flood })
    expect(textOf(response)).toBe('{"jsonrpc":"2.0","id":2,"result":{}}')
    expect(proxy.told.dropped).toEqual(['message_too_long'])
  })
})

describe('an answer above 16 MiB', () => {
  const ask = (id: number) =>
    `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"x":"${'x'.repeat(9 * MiB)}","say":["{\\"result\\":[$LINE,$LINE],\\"id\\":$ID}"]}}`
  const ping = '{"jsonrpc":"2.0","id":9,"method":"ping"}'
  const modern = ['Content-Type', 'application/json', 'MCP-Protocol-Version', '2026-07-28']

  it.each([
    ['a process of its own', 'per_session', false],
    ['process: shared', 'shared', false],
    ['a request of 2026-07-28', 'per_session', true],
  ] as const)('is 502 at once, and the next one comes: %s', async (_what, process, isModern) => {
    const proxy = await start(process, isModern ? 'always' : undefined)
    const headers = isModern ? modern : await openSession(proxy)
    const response = await rawFetch(proxy.port, { path, headers, body: ask(1) })
    expect(statusOf(response)).toBe(502)
    expect(JSON.parse(textOf(response))).toMatchObject({
      id: 1,
      error: {
        message: expect.stringMatching(/^mcp-vitals: an answer of 188\d{5} bytes; the limit is 16777216$/) as string,
        data: { reason: 'upstream_invalid', delivered: true },
      },
    })
    expect(proxy.told.dropped).toEqual(['message_too_long'])
    expect(statusOf(await rawFetch(proxy.port, { path, headers, body: ping }))).toBe(200)
    expect(proxy.inFlight('p')).toBe(0)
  })
})

describe('a client that does not read', () => {
  const lines = 400
  const bytes = 100_000
  const flood = `{"jsonrpc":"2.0","method":"flood","params":{"lines":${lines},"bytes":${bytes}}}`
  const numbersIn = (text: string) => [...text.matchAll(/"params":\{"n":(\d+)/g)].map(([, n]) => Number(n))
  const all = Array.from({ length: lines }, (_, n) => n)

  /** Waits until the server is not read any more; by then the rest of the flood is still the server's. */
  async function held(proxy: RunningProxy, read: () => number): Promise<void> {
    const { stdout } = processOf(proxy)
    await eventually(() => stdout.isPaused(), { what: 'stdout is paused' })
    expect(read()).toBeLessThan((lines * bytes) / 2)
  }

  it('its GET stream holds the server back, and loses nothing', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const read = bytesOf(processOf(proxy).stdout)
    const stream = connectTo(proxy)
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    await stream.head()
    stream.socket.pause()
    expect(statusOf(await rawFetch(proxy.port, { path, headers: session, body: flood }))).toBe(202)
    await held(proxy, read)
    stream.socket.resume()
    await eventually(() => read() > lines * bytes, { what: 'the whole flood was read' })
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    const streamed = await stream.response()
    expect(streamed.isComplete).toBe(true)
    expect(numbersIn(textOf(streamed))).toEqual(all)
  })

  it('its GET stream holds back no answer that it waits for elsewhere, and loses nothing', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const { stdout } = processOf(proxy)
    const read = bytesOf(stdout)
    const stream = connectTo(proxy)
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    await stream.head()
    stream.socket.pause()
    expect(statusOf(await rawFetch(proxy.port, { path, headers: session, body: flood }))).toBe(202)
    await held(proxy, read)
    const answered = await rawFetch(proxy.port, {
      path,
      headers: session,
      body: '{"jsonrpc":"2.0","id":7,"method":"ping"}',
    })
    expect([statusOf(answered), textOf(answered).includes('{"jsonrpc":"2.0","id":7,"result":{}}')]).toEqual([200, true])
    expect(stdout.isPaused()).toBe(true)
    stream.socket.resume()
    await eventually(() => read() > lines * bytes, { what: 'the whole flood was read' })
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    const streamed = numbersIn(textOf(await stream.response()))
    expect([...streamed, ...numbersIn(textOf(answered))].toSorted((a, b) => a - b)).toEqual(all)
    expect(proxy.told.dropped).toEqual([])
  })

  it('its GET stream holds nothing back once it has opened another', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const read = bytesOf(processOf(proxy).stdout)
    const [older, newer] = [connectTo(proxy), connectTo(proxy)]
    older.send(rawRequest({ method: 'GET', path, headers: session }))
    await older.head()
    older.socket.pause()
    expect(statusOf(await rawFetch(proxy.port, { path, headers: session, body: flood }))).toBe(202)
    await held(proxy, read)
    newer.send(rawRequest({ method: 'GET', path, headers: session }))
    await newer.head()
    await eventually(() => read() > lines * bytes, { what: 'the whole flood was read' })
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    const streamed = numbersIn(textOf(await newer.response()))
    older.socket.resume()
    expect([...numbersIn(textOf(await older.response())), ...streamed]).toEqual(all)
  })

  it('its GET stream alone is cut when it is 16 MiB behind while answers are waited for', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const read = bytesOf(processOf(proxy).stdout)
    const stream = connectTo(proxy)
    stream.send(rawRequest({ method: 'GET', path, headers: session }))
    await stream.head()
    stream.socket.pause()
    // What names no request is for the GET stream while several are under way.
    for (const id of [1, 2]) {
      const body = `{"jsonrpc":"2.0","id":${id},"method":"silent"}`
      connectTo(proxy).send(rawRequest({ path, headers: session, body }))
    }
    await eventually(() => proxy.inFlight('p') === 2, { what: 'two are under way' })
    expect(statusOf(await rawFetch(proxy.port, { path, headers: session, body: flood }))).toBe(202)
    await eventually(() => read() > lines * bytes, { what: 'the whole flood was read' })
    expect(proxy.told.dropped).toEqual(['client_gone'])
    expect(proxy.told.streams).toMatchObject([{ transport: 'http', reason: 'client_behind' }])
    const ping = '{"jsonrpc":"2.0","id":7,"method":"ping"}'
    expect(statusOf(await rawFetch(proxy.port, { path, headers: session, body: ping }))).toBe(200)
    expect(proxy.told.endedSessions).toEqual([])
  })

  it('its HTTP+SSE stream holds the server back, and loses nothing', async () => {
    const proxy = await start()
    const client = await openSseClient(proxy)
    const read = bytesOf(processOf(proxy).stdout)
    client.pause()
    expect((await client.post(flood)).status).toBe(202)
    await held(proxy, read)
    client.resume()
    await client.until(() => client.texts.length === lines + 1)
    expect(client.texts.slice(1).flatMap((text) => numbersIn(text))).toEqual(all)
  })

  it('an answer that it leaves unread holds the server back, too', async () => {
    const proxy = await start()
    const session = await openSession(proxy)
    const { stdout } = processOf(proxy)
    const client = connectTo(proxy)
    client.socket.pause()
    const long = `{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":"${'x'.repeat(12 * MiB)}","say":["{\\"id\\":$ID,\\"result\\":$LINE}"]}}`
    client.send(rawRequest({ path, headers: session, body: long }))
    await eventually(() => stdout.isPaused(), { what: 'stdout is paused' })
    client.socket.resume()
    const response = await client.response()
    expect([statusOf(response), response.isComplete]).toEqual([200, true])
    expect((JSON.parse(textOf(response)) as { result: string }).result === long).toBe(true)
    await eventually(() => !stdout.isPaused(), { what: 'stdout is read again' })
  })
})

describe('a server that does not read its stdin', () => {
  it('makes its clients wait, and nobody else', async () => {
    const proxy = await start()
    const slow = await openSession(proxy)
    const server = processOf(proxy)
    closers.push(() => server.kill('SIGCONT'))
    server.kill('SIGSTOP')
    const client = connectTo(proxy)
    const note = `{"jsonrpc":"2.0","method":"note","params":{"x":"${'x'.repeat(4 * MiB)}"}}`
    client.send(rawRequest({ path, headers: slow, body: note }))
    await eventually(() => server.stdin.writableLength > 0, { what: 'the pipe is full' })
    const other = await openSession(proxy)
    const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    expect(statusOf(await rawFetch(proxy.port, { path, headers: other, body: ping }))).toBe(200)
    // A notification is accepted when the server has it: a client that waits for that cannot run ahead of it.
    expect([server.stdin.writableLength > 0, client.responses.length]).toEqual([true, 0])
    server.kill('SIGCONT')
    expect(statusOf(await client.response())).toBe(202)
    const asked = '{"jsonrpc":"2.0","id":2,"method":"received"}'
    const { result } = JSON.parse(textOf(await rawFetch(proxy.port, { path, headers: slow, body: asked }))) as {
      result: { received: string[] }
    }
    expect(result.received.includes(note)).toBe(true)
  })

  for (const process of ['per_session', 'shared'] as const) {
    it(`has its clients refused beyond 64 MiB, and keeps no place for those that left (process: ${process})`, async () => {
      const proxy = await start(process)
      const session = await openSession(proxy)
      const server = serverOf(proxy)
      const before = proxy.inFlight('p')
      closers.push(() => server.kill('SIGCONT'))
      server.kill('SIGSTOP')
      const note = `{"jsonrpc":"2.0","method":"note","params":{"x":"${'x'.repeat(4 * MiB)}"}}`
      const waiting: RawClient[] = []
      while (server.stdin.writableLength < 64 * MiB) {
        const client = connectTo(proxy)
        waiting.push(client)
        client.send(rawRequest({ path, headers: session, body: note }))
        await eventually(() => proxy.inFlight('p') === before + waiting.length, { what: 'it is on its way' })
      }
      expect(waiting.length).toBeLessThan(19)
      const unread = server.stdin.writableLength
      for (const body of [note, '{"jsonrpc":"2.0","id":7,"method":"ping"}', '{"jsonrpc":"2.0","id":8,"result":{}}']) {
        const refused = await rawFetch(proxy.port, { path, headers: session, body })
        expect([statusOf(refused), headerOf(refused, 'retry-after')]).toEqual([503, '1'])
        expect(JSON.parse(textOf(refused))).toMatchObject({ error: { data: { reason: 'queue_full' } } })
      }
      expect(proxy.told.rejected).toEqual(['queue_full', 'queue_full', 'queue_full'])
      expect(server.stdin.writableLength).toBe(unread)
      for (const client of waiting) client.close()
      await eventually(() => proxy.inFlight('p') === before, { what: 'nothing is in flight' })
      server.kill('SIGCONT')
      await eventually(() => server.stdin.writableLength === 0, { what: 'all of it is read' })
      const again = await rawFetch(proxy.port, { path, headers: session, body: note })
      expect(statusOf(again)).toBe(202)
    })
  }

  it('has requests of 2026-07-28 refused likewise', async () => {
    const proxy = await start('per_session', 'always')
    const modern = ['Content-Type', 'application/json', 'MCP-Protocol-Version', '2026-07-28']
    const post = (body: string) => rawFetch(proxy.port, { path, headers: modern, body })
    expect(statusOf(await post('{"jsonrpc":"2.0","id":1,"method":"received"}'))).toBe(200)
    const server = serverOf(proxy)
    closers.push(() => server.kill('SIGCONT'))
    server.kill('SIGSTOP')
    const note = `{"jsonrpc":"2.0","method":"note","params":{"x":"${'x'.repeat(12 * MiB)}"}}`
    for (let sent = 1; server.stdin.writableLength < 64 * MiB; sent++) {
      connectTo(proxy).send(rawRequest({ path, headers: modern, body: note }))
      await eventually(() => proxy.inFlight('p') === sent, { what: 'it is on its way' })
    }
    for (const body of [note, '{"jsonrpc":"2.0","id":7,"method":"ping"}']) {
      expect(statusOf(await post(body))).toBe(503)
    }
    expect(proxy.told.rejected).toEqual(['queue_full', 'queue_full'])
  })
})
