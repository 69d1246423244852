import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import type { HttpRequest, HttpResponseHandler } from '../../src/upstreams/http.ts'
import { refusalIn, yielding } from '../../src/upstreams/yielding.ts'
import { fakeClock } from '../support/fake-clock.ts'

const initialize: HttpRequest = {
  method: 'POST',
  path: '/mcp',
  headers: ['Content-Type', 'application/json'],
  body: Buffer.from('{"jsonrpc":"2.0","id":"mine","method":"initialize","params":{}}'),
}
const stream: HttpRequest = { method: 'GET', path: '/sse', headers: [], body: null }
const initialized = '{"error":{"code":-32600,"message":"Invalid Request: Server already initialized"},"id":null}'
const connected = 'Error: Already connected to a transport. Call close() before connecting to a new transport'
const initializeAnswer = Buffer.from('{"result":{"capabilities":{}},"jsonrpc":"2.0","id":"vitals-1"}')

function start({ isHeld = true, hasSession = true }: { isHeld?: boolean; hasSession?: boolean } = {}) {
  const clock = fakeClock()
  const did: string[] = []
  const heard: string[] = []
  const sent: HttpResponseHandler[] = []
  let isOurs = isHeld
  const send = yielding(
    (_request, handler) => {
      sent.push(handler)
      return { pause: () => undefined, resume: () => undefined, abort: () => void did.push('abort') }
    },
    {
      isHeld: () => isOurs,
      handOver: () => {
        isOurs = false
        did.push('handed over')
        return hasSession ? { sessionId: 's1', initializeAnswer } : undefined
      },
      vacate: () => {
        isOurs = false
        did.push('vacated')
      },
    },
    { clock, patienceMs: 1000, retryMs: 100 },
  )
  const handler: HttpResponseHandler = {
    onStart: ({ status, rawHeaders }) => heard.push(`${status} ${rawHeaders.join(' ')}`.trim()),
    onData: (chunk) => heard.push(chunk.toString()),
    onEnd: () => heard.push('end'),
    onError: ({ code }) => heard.push(code),
  }
  const answer = (status: number, ...chunks: readonly string[]) => {
    const last = sent.at(-1)
    last?.onStart({ status, statusText: '', rawHeaders: [] })
    for (const chunk of chunks) last?.onData(Buffer.from(chunk))
    last?.onEnd()
  }
  return { clock, did, heard, sent, answer, send: (request: HttpRequest) => send(request, handler) }
}

describe('yielding', () => {
  it('answers a client whose initialize our session kept out with that session, under its own id', () => {
    const { did, heard, answer, send } = start()
    send(initialize)
    answer(400, initialized.slice(0, 40), initialized.slice(40))
    expect(did).toEqual(['handed over'])
    expect(heard).toEqual([
      '200 content-type application/json mcp-session-id s1',
      '{"result":{"capabilities":{}},"jsonrpc":"2.0","id":"mine"}',
      'end',
    ])
  })

  it('passes the refusal on when there is no session to leave, and to the next client', () => {
    const { heard, answer, send } = start({ hasSession: false })
    send(initialize)
    answer(400, initialized)
    expect(heard).toEqual(['400', initialized, 'end'])
    send(initialize)
    answer(400, initialized)
    expect(heard.slice(3)).toEqual(['400', initialized, 'end'])
  })

  it('leaves, and asks again until the server has noticed', async () => {
    const { clock, did, heard, sent, answer, send } = start()
    send(stream)
    answer(500, connected)
    await clock.advance(100)
    answer(500, connected)
    await clock.advance(99)
    expect(sent).toHaveLength(2)
    await clock.advance(1)
    answer(200, 'event: endpoint\n')
    expect(heard).toEqual(['200', 'event: endpoint\n', 'end'])
    expect(did.filter((what) => what === 'vacated')).toHaveLength(1)
  })

  it('passes the refusal on when it is still refused after its patience', async () => {
    const { clock, heard, sent, answer, send } = start()
    send(stream)
    for (let attempt = 1; heard.length === 0 && attempt < 100; attempt++) {
      answer(500, connected)
      await clock.advance(100)
    }
    expect([sent.length, heard]).toEqual([11, ['500', connected, 'end']])
  })

  it('a client that leaves meanwhile is asked for no more', async () => {
    const { clock, sent, answer, send } = start()
    const exchange = send(stream)
    answer(500, connected)
    exchange.abort()
    await clock.advance(1000)
    expect(sent).toHaveLength(1)
  })

  it.each<[what: string, request: HttpRequest, isHeld: boolean]>([
    ['while we hold no connection', initialize, false],
    ['inside a session', { ...initialize, headers: ['Mcp-Session-Id', 's2'] }, true],
    ['of another request', { ...initialize, body: Buffer.from('{"id":1,"method":"ping"}') }, true],
    ['of a body that streams', { ...initialize, body: Readable.from([]) }, true],
  ])('passes an answer at once %s', (_what, request, isHeld) => {
    const { did, heard, sent, send } = start({ isHeld })
    send(request)
    sent[0]?.onStart({ status: 400, statusText: '', rawHeaders: [] })
    sent[0]?.onData(Buffer.from(initialized))
    expect([heard, did]).toEqual([['400', initialized], []])
  })

  it('passes other errors on as they came, long ones before their end, and failures', () => {
    const { did, heard, sent, answer, send } = start()
    send(initialize)
    answer(400, '{"error":', '{}}')
    expect(heard.splice(0)).toEqual(['400', '{"error":', '{}}', 'end'])
    send(initialize)
    sent.at(-1)?.onStart({ status: 500, statusText: '', rawHeaders: [] })
    sent.at(-1)?.onData(Buffer.alloc(20_000, 'x'))
    expect(heard.splice(0)).toEqual(['500', 'x'.repeat(20_000)])
    send(initialize)
    sent.at(-1)?.onStart({ status: 500, statusText: '', rawHeaders: [] })
    sent.at(-1)?.onError(new KnownError('upstream_closed', 'gone'))
    expect(heard).toEqual(['500', 'upstream_closed'])
    expect(did).not.toContain('vacated')
  })
})

it.each([
  [initialized, 'initialized'],
  [connected, 'connected'],
  ['Bad Request: Server not initialized', undefined],
  ['', undefined],
])('%s: %s', (body, refusal) => {
  expect(refusalIn(body)).toBe(refusal)
})
