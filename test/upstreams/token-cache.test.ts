import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import { tokenOf } from '../../src/upstreams/oauth.ts'
import { type Token, TokenCache } from '../../src/upstreams/token-cache.ts'
import { fakeClock } from '../support/fake-clock.ts'

/** A cache that gets `1`, `2` and so on, each when the test says. */
function start({
  initial,
  expiresInSeconds = 600,
}: { readonly initial?: Token; readonly expiresInSeconds?: number } = {}) {
  const clock = fakeClock()
  const waiting: PromiseWithResolvers<Token>[] = []
  const failures: string[] = []
  const cache = new TokenCache({
    clock,
    initial,
    obtain: () => {
      const one = Promise.withResolvers<Token>()
      waiting.push(one)
      return one.promise
    },
    onFailure: ({ message }) => void failures.push(message),
  })
  const give = (value: string) => waiting.at(-1)?.resolve(tokenOf(value, expiresInSeconds))
  const fail = () => waiting.at(-1)?.reject(new KnownError('upstream_unauthorized', 'no'))
  return { clock, cache, give, fail, failures, asked: () => waiting.length }
}

describe('a token', () => {
  it('is obtained once, however many wait for it', async () => {
    const { cache, give, asked } = start()
    expect(cache.ready()).toBeUndefined()
    const all = Promise.all([cache.get(), cache.get(), cache.get()])
    give('1')
    expect(await all).toEqual(['1', '1', '1'])
    expect([cache.ready(), asked()]).toEqual(['1', 1])
  })

  it('is renewed a minute before it expires, while the old one still serves', async () => {
    const { cache, clock, give, asked } = start()
    void cache.get()
    give('1')
    await clock.advance(539_999)
    expect([cache.ready(), asked()]).toEqual(['1', 1])
    await clock.advance(1)
    expect([cache.ready(), cache.ready(), asked()]).toEqual(['1', '1', 2])
    give('2')
    await clock.advance(0)
    expect([cache.ready(), asked()]).toEqual(['2', 2])
  })

  it('serves to its end when it cannot be renewed, which is tried again every 5 s', async () => {
    const { cache, clock, give, fail, failures, asked } = start()
    void cache.get()
    give('1')
    await clock.advance(540_000)
    expect(cache.ready()).toBe('1')
    fail()
    await clock.advance(4999)
    expect([cache.ready(), asked(), failures]).toEqual(['1', 2, ['no']])
    await clock.advance(1)
    expect([cache.ready(), asked()]).toEqual(['1', 3])
    await clock.advance(60_000)
    expect(cache.ready()).toBeUndefined()
  })

  it('that cannot be had fails all who wait, and nobody asks again for 5 s', async () => {
    const { cache, clock, fail, asked } = start()
    const all = Promise.allSettled([cache.get(), cache.get()])
    fail()
    expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await expect(cache.get()).rejects.toThrow('no')
    expect(asked()).toBe(1)
    await clock.advance(5000)
    void cache.get().catch(() => undefined)
    expect(asked()).toBe(2)
  })

  it('lives for ever when nothing is known of its end', async () => {
    const { cache, clock, asked } = start({ initial: tokenOf('0', undefined) })
    await clock.advance(1e12)
    expect([cache.ready(), asked()]).toEqual(['0', 0])
  })
})

describe('a token that was refused', () => {
  it('is replaced by one for all whose request had it', async () => {
    const { cache, clock, give, asked } = start({ initial: tokenOf('0', 600) })
    await clock.advance(5000)
    const first = cache.instead('0')
    const second = cache.instead('0')
    give('1')
    expect(await Promise.all([first, second])).toEqual(['1', '1'])
    expect(await cache.instead('0')).toBe('1')
    expect(asked()).toBe(1)
  })

  it('is not replaced while it is new: the next would be refused as well', async () => {
    const { cache, clock, asked } = start({ initial: tokenOf('0', 600) })
    await clock.advance(4999)
    expect([await cache.instead('0'), cache.ready(), asked()]).toEqual([undefined, '0', 0])
  })

  it('is no other than itself when that is all there is', async () => {
    const { cache, clock, give } = start({ initial: tokenOf('0', 600) })
    await clock.advance(5000)
    const other = cache.instead('0')
    give('0')
    expect(await other).toBeUndefined()
  })
})
