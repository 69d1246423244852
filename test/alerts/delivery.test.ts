import { describe, expect, it } from 'vitest'
import { deliveryOf, poster } from '../../src/alerts/delivery.ts'
import { systemClock } from '../../src/clock.ts'
import { bodyOf } from '../support/raw-http.ts'
import { scriptedUpstream } from '../support/scripted-upstream.ts'

const redact = (text: string) => text.replaceAll('canary', '<secret>')
const answer = (status: number, text = '', rawHeaders: string[] = []) =>
  deliveryOf({ status, statusText: '', rawHeaders, body: Buffer.from(text) }, 0, redact)

describe('an answer of a receiver', () => {
  it.each([
    [200, 'sent'],
    [202, 'sent'],
    [204, 'sent'],
    [301, 'rejected'],
    [400, 'rejected'],
    [401, 'rejected'],
    [404, 'rejected'],
    [408, 'failed'],
    [425, 'failed'],
    [429, 'failed'],
    [500, 'failed'],
    [503, 'failed'],
  ])('%d means %s', (status, kind) => {
    expect(answer(status).kind).toBe(kind)
  })

  it('says why, in a few words without secrets, and when to come again', () => {
    expect(answer(400, 'bad  canary\n')).toEqual({ kind: 'rejected', reason: 'it answered 400: bad <secret>' })
    expect(answer(503, '', ['Date', 'x', 'Retry-After', '7'])).toEqual({
      kind: 'failed',
      reason: 'it answered 503',
      retryAfterMs: 7000,
    })
    expect(JSON.stringify(answer(500, 'x'.repeat(10_000))).length).toBeLessThan(400)
  })
})

describe('a poster', () => {
  const post = async (url: string, timeoutMs = 15_000) => {
    const address = { url: new URL(url), bearerToken: 'token' }
    const one = poster({ clock: systemClock, address, proxyFor: () => undefined, timeoutMs, redact })
    try {
      return await one.post({ a: 1 }, new AbortController().signal)
    } finally {
      await one.close()
    }
  }

  it('posts JSON with its token', async () => {
    const receiver = await scriptedUpstream(async (arrived) => {
      await arrived.whole()
      arrived.answer(200)
    })
    expect(await post(`http://127.0.0.1:${receiver.port}/hook?a=b`)).toEqual({ kind: 'sent' })
    const [request] = receiver.arrived.map((arrived) => arrived.request)
    expect(request?.startLine).toBe('POST /hook?a=b HTTP/1.1')
    expect(request?.rawHeaders.join('\n')).toMatch(/content-type\napplication\/json/)
    expect(request?.rawHeaders.join('\n')).toMatch(/authorization\nBearer token/)
    expect(request && bodyOf(request).toString()).toBe('{"a":1}')
    await receiver.close()
  })

  it.each([
    ['says nothing', 200, () => undefined, /^http:\/\/127\.0\.0\.1:\d+: no answer within 0\.2 s$/],
    ['closes the connection', 15_000, ({ cut }: { cut: () => void }) => cut(), /closed|other side/],
    [
      'speaks no HTTP',
      15_000,
      ({ write }: { write: (text: string) => void }) => write('what?\r\n\r\n'),
      /no HTTP|Expected HTTP/,
    ],
  ])('fails, without showing the path, when the receiver %s', async (_what, timeoutMs, script, reason) => {
    const receiver = await scriptedUpstream(script)
    const delivery = await post(`http://127.0.0.1:${receiver.port}/hook-path`, timeoutMs)
    expect(delivery).toEqual({ kind: 'failed', reason: expect.stringMatching(reason) })
    expect(JSON.stringify(delivery)).not.toContain('hook-path')
    await receiver.close()
  })

  it('fails when nobody listens', async () => {
    const receiver = await scriptedUpstream()
    await receiver.close()
    expect(await post(`http://127.0.0.1:${receiver.port}/`)).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining('ECONNREFUSED'),
    })
  })
})
