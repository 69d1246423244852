import { describe, expect, it } from 'vitest'
import type { Endpoint } from '../../src/upstreams/endpoint.ts'
import { follow } from '../../src/upstreams/follow.ts'
import type { HttpRequest, HttpResponseHandler } from '../../src/upstreams/http.ts'
import type { ResumePoint } from '../../src/upstreams/reply.ts'
import { fakeClock } from '../support/fake-clock.ts'

/** An endpoint that keeps what was asked of it, for the test to answer. */
function recorder(clock: { now(): number }) {
  const asked: { request: HttpRequest; handler: HttpResponseHandler; atMs: number; isAborted: boolean }[] = []
  const endpoint: Endpoint = {
    url: new URL('http://server/mcp'),
    headers: new Map(),
    clientHost: false,
    replaced: new Set(),
    send: (request, handler) => {
      const one = { request, handler, atMs: clock.now(), isAborted: false }
      asked.push(one)
      return { pause: () => undefined, resume: () => undefined, abort: () => void (one.isAborted = true) }
    },
    stats: () => ({ active: 0, idle: 0, pending: 0 }),
    close: () => Promise.resolve(),
  }
  const start = (at: number, status: number, type = 'text/event-stream', retryAfter: readonly string[] = []) =>
    asked[at]?.handler.onStart({ status, statusText: '', rawHeaders: ['Content-Type', type, ...retryAfter] })
  return { endpoint, asked, start }
}

function followed(from?: ResumePoint) {
  const clock = fakeClock()
  const { endpoint, asked, start } = recorder(clock)
  const life = new AbortController()
  const heard: string[] = []
  const refused: number[] = []
  follow({
    endpoint,
    clock,
    path: '/mcp',
    headers: ['mcp-session-id', 's'],
    maxBodyBytes: 1000,
    from,
    signal: life.signal,
    onMessage: (message) => heard.push(message.toString()),
    onTooLong: (bytes, envelope) => heard.push(`${bytes} bytes, ${envelope?.kind}`),
    onRefused: (status) => refused.push(status),
  })
  return { clock, asked, start, life, heard, refused }
}

const message = '{"jsonrpc":"2.0","method":"n"}'

describe('a followed event stream (MCP 2025-11-25, "Resumability and Redelivery")', () => {
  it('is opened again a second after its end, behind the last event with an id', async () => {
    const { clock, asked, start, heard } = followed()
    start(0, 200)
    asked[0]?.handler.onData(Buffer.from(`id: 7\ndata: ${message}\n\ndata: ${message}\n\n`))
    asked[0]?.handler.onEnd()
    await clock.advance(999)
    expect(asked).toHaveLength(1)
    await clock.advance(1)
    expect(asked[0]?.request.headers).not.toContain('last-event-id')
    expect(asked[1]?.request.headers.slice(-2)).toEqual(['last-event-id', '7'])
    expect(heard).toEqual([message, message])
  })

  it('waits longer each time that the server cannot be reached or fails, up to 30 s', async () => {
    const { clock, asked, start } = followed({ lastEventId: 'e', retryMs: undefined })
    for (let failures = 0; failures < 8; failures++) {
      await clock.advance(30_000)
      start(failures, 503, 'text/html')
      asked[failures]?.handler.onEnd()
    }
    // Each fails at the next full half minute; the pauses are 1, 2, 4, 8, 16, 30 and 30 s.
    expect(asked.map(({ atMs }) => atMs)).toEqual([1000, 32_000, 64_000, 98_000, 136_000, 180_000, 210_000, 240_000])
  })

  it('goes on behind an id that came without data (WHATWG HTML §9.2.6)', async () => {
    const { clock, asked, start } = followed()
    start(0, 200)
    asked[0]?.handler.onData(Buffer.from('id: 7\n\nid\n\n'))
    asked[0]?.handler.onEnd()
    await clock.advance(1000)
    expect(asked[1]?.request.headers.slice(-2)).toEqual(['last-event-id', '7'])
  })

  it('is opened again when the server’s retry time is over, and not before', async () => {
    const { clock, asked, start } = followed({ lastEventId: 'e', retryMs: 4000 })
    await clock.advance(3999)
    expect(asked).toHaveLength(0)
    await clock.advance(1)
    start(0, 200)
    asked[0]?.handler.onData(Buffer.from('retry: 6000\n\nretry: soon\n\n'))
    asked[0]?.handler.onEnd()
    await clock.advance(5999)
    expect(asked).toHaveLength(1)
    await clock.advance(1)
    start(1, 200)
    asked[1]?.handler.onData(Buffer.from('retry: 60000\n'))
    asked[1]?.handler.onEnd()
    await clock.advance(59_999)
    expect(asked).toHaveLength(2)
    await clock.advance(1)
    start(2, 200)
    asked[2]?.handler.onData(Buffer.from('retry: 0\n'))
    asked[2]?.handler.onEnd()
    await clock.advance(99)
    expect(asked).toHaveLength(3)
    await clock.advance(1)
    expect(asked).toHaveLength(4)
  })

  it.each([401, 403, 408, 409, 425, 429])('is tried again after %i, more and more slowly', async (status) => {
    const { clock, asked, start, refused } = followed()
    for (let failures = 0; failures < 3; failures++) {
      start(failures, status, 'text/plain')
      asked[failures]?.handler.onEnd()
      await clock.advance(4000)
    }
    start(3, 200)
    asked[3]?.handler.onEnd()
    await clock.advance(1000)
    expect(refused).toEqual([])
    expect(asked.map(({ atMs }) => atMs)).toEqual([0, 1000, 6000, 12_000, 13_000])
  })

  it('is tried again when the time is over that Retry-After names', async () => {
    const { clock, asked, start } = followed()
    start(0, 429, 'text/plain', ['Retry-After', '7'])
    asked[0]?.handler.onEnd()
    await clock.advance(6999)
    expect(asked).toHaveLength(1)
    await clock.advance(1)
    start(1, 429, 'text/plain')
    asked[1]?.handler.onEnd()
    await clock.advance(2000)
    expect(asked).toHaveLength(3)
  })

  it.each([405, 404, 400, 204])('is not tried again after %i', async (status) => {
    const { clock, asked, start, refused } = followed()
    start(0, status)
    await clock.advance(60_000)
    expect([asked.length, asked[0]?.isAborted, refused]).toEqual([1, true, [status]])
  })

  it('is closed by its signal, also between two tries', async () => {
    const open = followed()
    open.life.abort()
    expect(open.asked[0]?.isAborted).toBe(true)
    const waiting = followed({ lastEventId: 'e', retryMs: undefined })
    waiting.life.abort()
    await waiting.clock.advance(60_000)
    expect(waiting.asked).toHaveLength(0)
  })
})
