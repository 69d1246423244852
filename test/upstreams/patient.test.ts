import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import type { HttpRequest, HttpResponseHandler } from '../../src/upstreams/http.ts'
import { patient } from '../../src/upstreams/patient.ts'
import { fakeClock } from '../support/fake-clock.ts'

const request = (body: HttpRequest['body'] = Buffer.from('{}')): HttpRequest => ({
  method: 'POST',
  path: '/mcp',
  headers: [],
  body,
})
const refused = new KnownError('upstream_refused', 'nobody listens')

function start({ isStarting = () => true }: { readonly isStarting?: () => boolean } = {}) {
  const clock = fakeClock()
  const sent: { readonly handler: HttpResponseHandler; readonly did: string[] }[] = []
  const send = patient(
    (_request, handler) => {
      const did: string[] = []
      sent.push({ handler, did })
      return { pause: () => did.push('pause'), resume: () => did.push('resume'), abort: () => did.push('abort') }
    },
    { clock, isStarting, patienceMs: 1000, retryMs: 100 },
  )
  const heard: string[] = []
  const handler: HttpResponseHandler = {
    onStart: ({ status }) => heard.push(`start ${status}`),
    onData: (chunk) => heard.push(chunk.toString()),
    onEnd: () => heard.push('end'),
    onError: ({ code }) => heard.push(code),
  }
  const fail = (error: KnownError) => sent.at(-1)?.handler.onError(error)
  return { clock, sent, heard, fail, send: (one: HttpRequest = request()) => send(one, handler) }
}

describe('patient', () => {
  it('sends a request again that was refused while the server starts, and passes the answer on', async () => {
    const { clock, sent, heard, fail, send } = start()
    send()
    fail(refused)
    await clock.advance(99)
    expect(sent).toHaveLength(1)
    await clock.advance(1)
    fail(refused)
    await clock.advance(100)
    expect([sent.length, heard]).toEqual([3, []])
    const [, , last] = sent
    last?.handler.onStart({ status: 200, statusText: '', rawHeaders: [] })
    last?.handler.onData(Buffer.from('body'))
    last?.handler.onEnd()
    expect(heard).toEqual(['start 200', 'body', 'end'])
  })

  it('gives up when its patience is over', async () => {
    const { clock, sent, heard, fail, send } = start()
    send()
    for (let attempt = 1; heard.length === 0 && attempt < 100; attempt++) {
      fail(refused)
      await clock.advance(100)
    }
    expect(heard).toEqual(['upstream_refused'])
    expect(sent).toHaveLength(11)
    await clock.advance(60_000)
    expect(sent).toHaveLength(11)
  })

  it.each([
    ['the server is not starting', { isStarting: () => false }, request(), refused],
    ['the request may have been delivered', {}, request(), new KnownError('upstream_reset', 'gone')],
    ['the body is no longer at hand', {}, request(Readable.from([])), refused],
  ])('does not send again where %s', async (_, options, one, error) => {
    const { clock, sent, heard, fail, send } = start(options)
    send(one)
    fail(error)
    await clock.advance(60_000)
    expect([sent.length, heard]).toEqual([1, [error.code]])
  })

  it('sends nothing any more once it is aborted', async () => {
    const { clock, sent, heard, fail, send } = start()
    const exchange = send()
    fail(refused)
    exchange.abort()
    await clock.advance(60_000)
    expect([sent.length, heard]).toEqual([1, []])
  })

  it('is still paused when it goes out again', async () => {
    const { clock, sent, fail, send } = start()
    const exchange = send()
    exchange.pause()
    fail(refused)
    await clock.advance(100)
    exchange.resume()
    expect(sent.map(({ did }) => did)).toEqual([
      ['pause', 'abort'],
      ['pause', 'resume'],
    ])
  })
})
