import { describe, expect, it, vi } from 'vitest'
import { AbandonedRequests } from '../../src/proxy/abandoned-requests.ts'
import { fakeClock } from '../support/fake-clock.ts'

function abandonedOn(clock = fakeClock(), lastingMs = 30_000, onForgotten?: () => void) {
  return { clock, abandoned: new AbandonedRequests<string>({ clock, lastingMs, onForgotten }) }
}

describe('requests that their clients gave up', () => {
  it('are remembered until the server answers them, or is gone', () => {
    const { abandoned } = abandonedOn()
    abandoned.add('1', 'a')
    abandoned.add('2', 'b')
    abandoned.add('3', 'b')
    abandoned.answered('2')
    abandoned.answered('4')
    expect(abandoned.owners()).toEqual(['a', 'b'])
    abandoned.lost('b')
    expect(abandoned.owners()).toEqual(['a'])
  })

  it.each([
    ['a request may last', 30_000, 30_000],
    ['a minute', Infinity, 60_000],
  ])('and no longer than %s', async (_what, lastingMs, untilMs) => {
    const { clock, abandoned } = abandonedOn(fakeClock(), lastingMs)
    abandoned.add('1', 'a')
    await clock.advance(1000)
    abandoned.add('2', 'b')
    await clock.advance(untilMs - 1001)
    expect(abandoned.owners()).toEqual(['a', 'b'])
    await clock.advance(1)
    expect(abandoned.owners()).toEqual(['b'])
  })

  it('a thousand of them, of which the oldest goes first', () => {
    const onForgotten = vi.fn<() => void>()
    const { abandoned } = abandonedOn(fakeClock(), Infinity, onForgotten)
    for (let n = 0; n < 1001; n++) abandoned.add(String(n), String(n))
    expect(onForgotten).toHaveBeenCalledOnce()
    expect([abandoned.owners().length, abandoned.owners()[0]]).toEqual([1000, '1'])
  })
})
