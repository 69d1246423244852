import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import { authorized } from '../../src/upstreams/authorized.ts'
import type { HttpRequest, HttpResponseHandler } from '../../src/upstreams/http.ts'
import { tokenOf } from '../../src/upstreams/oauth.ts'
import { TokenCache } from '../../src/upstreams/token-cache.ts'
import { fakeClock } from '../support/fake-clock.ts'

const request = (body: HttpRequest['body'] = Buffer.from('{}')): HttpRequest => ({
  method: 'POST',
  path: '/mcp',
  headers: ['accept', 'x'],
  body,
})

/** A sender that keeps what it got, and tokens `1`, `2` … that are old enough to be replaced. */
async function start({
  obtain,
  hasToken = true,
}: { readonly obtain?: () => Promise<never>; readonly hasToken?: boolean } = {}) {
  const clock = fakeClock()
  let obtained = 0
  const cache = new TokenCache({
    clock,
    initial: hasToken ? tokenOf('0', 600) : undefined,
    obtain: obtain ?? (() => Promise.resolve(tokenOf(String(++obtained), 600))),
    onFailure: () => undefined,
  })
  await clock.advance(5000)
  const sent: { request: HttpRequest; handler: HttpResponseHandler; did: string[] }[] = []
  const send = authorized((one, handler) => {
    const did: string[] = []
    sent.push({ request: one, handler, did })
    return { pause: () => did.push('pause'), resume: () => did.push('resume'), abort: () => did.push('abort') }
  }, cache)
  const heard: string[] = []
  const handler: HttpResponseHandler = {
    onStart: ({ status }) => heard.push(`start ${status}`),
    onData: (chunk) => heard.push(chunk.toString()),
    onEnd: () => heard.push('end'),
    onError: ({ code }) => heard.push(code),
  }
  const authorizations = () => sent.map((one) => one.request.headers.join(' '))
  const answer = (status: number, at = sent.length - 1) => {
    const one = sent[at]?.handler
    one?.onStart({ status, statusText: '', rawHeaders: [] })
    one?.onData(Buffer.from('body'))
    one?.onEnd()
  }
  const settle = () => clock.advance(0)
  return {
    send: (body?: HttpRequest['body']) => send(request(body), handler),
    sent,
    heard,
    authorizations,
    answer,
    settle,
  }
}

describe('a request with our token', () => {
  it('goes out at once, and its answer passes as it comes', async () => {
    const { send, heard, authorizations, answer } = await start()
    send()
    expect(authorizations()).toEqual(['accept x authorization Bearer 0'])
    answer(200)
    expect(heard).toEqual(['start 200', 'body', 'end'])
  })

  it('waits for the first token', async () => {
    const { send, authorizations, settle } = await start({ hasToken: false })
    send()
    expect(authorizations()).toEqual([])
    await settle()
    expect(authorizations()).toEqual(['accept x authorization Bearer 1'])
  })

  it('is not sent without one', async () => {
    const obtain = () => Promise.reject(new KnownError('upstream_unauthorized', 'no'))
    const { send, sent, heard, settle } = await start({ obtain, hasToken: false })
    send()
    await settle()
    expect([sent.length, heard]).toEqual([0, ['upstream_unauthorized']])
  })

  it('goes out once more after a 401, with another token, and no more than that', async () => {
    const { send, sent, heard, authorizations, answer, settle } = await start()
    send()
    answer(401)
    expect(heard).toEqual([])
    await settle()
    expect([authorizations(), sent[0]?.did]).toEqual([
      ['accept x authorization Bearer 0', 'accept x authorization Bearer 1'],
      ['pause', 'abort'],
    ])
    answer(401)
    await settle()
    expect([sent.length, heard]).toEqual([2, ['start 401', 'body', 'end']])
  })

  it('gives the 401 itself when there is no other token, whole and in order', async () => {
    const { send, sent, heard, answer, settle } = await start({ hasToken: false })
    send()
    await settle()
    answer(401) // The token is new.
    await settle()
    expect([sent.length, heard, sent[0]?.did]).toEqual([1, ['start 401', 'body', 'end'], ['pause', 'resume']])
  })

  it('fails when another token cannot be had', async () => {
    const obtain = () => Promise.reject(new KnownError('upstream_unauthorized', 'no'))
    const { send, sent, heard, answer, settle } = await start({ obtain })
    send()
    answer(401)
    await settle()
    expect([sent.length, heard, sent[0]?.did]).toEqual([1, ['upstream_unauthorized'], ['pause', 'abort']])
  })

  it('gives the 401 when its body is gone, and the next one has another token', async () => {
    const { send, heard, authorizations, answer, settle } = await start()
    send(Readable.from(['{}']))
    answer(401)
    expect(heard).toEqual(['start 401', 'body', 'end'])
    await settle()
    send()
    expect(authorizations().at(-1)).toBe('accept x authorization Bearer 1')
  })

  it('lets 403 and all else pass', async () => {
    const { send, sent, heard, answer, settle } = await start()
    send()
    answer(403)
    await settle()
    expect([sent.length, heard]).toEqual([1, ['start 403', 'body', 'end']])
  })

  it.each([
    ['while it waits for the first token', false],
    ['while it waits for another', true],
  ])('is over when it is aborted %s', async (_, hasToken) => {
    const { send, sent, heard, answer, settle } = await start({ hasToken })
    const exchange = send()
    if (hasToken) answer(401)
    exchange.abort()
    await settle()
    expect([sent.length, heard]).toEqual([hasToken ? 1 : 0, []])
  })

  it('stays paused, whichever answer comes', async () => {
    const { send, sent, answer, settle } = await start()
    const exchange = send()
    exchange.pause()
    answer(401)
    await settle()
    expect(sent[1]?.did).toEqual(['pause'])
    exchange.resume()
    expect(sent[1]?.did).toEqual(['pause', 'resume'])
  })
})
