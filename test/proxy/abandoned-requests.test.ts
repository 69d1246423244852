import { describe, expect, it } from 'vitest'
import { AbandonedRequests } from '../../src/proxy/abandoned-requests.ts'
import { fakeClock } from '../support/fake-clock.ts'

function abandonedOn(clock = fakeClock(), lastingMs = 600_000) {
  return { clock, abandoned: new AbandonedRequests<string>({ clock, lastingMs }) }
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

  it('and no longer than a request may last', async () => {
    const { clock, abandoned } = abandonedOn()
    abandoned.add('1', 'a')
    await clock.advance(1000)
    abandoned.add('2', 'b')
    await clock.advance(598_999)
    expect(abandoned.owners()).toEqual(['a', 'b'])
    await clock.advance(1)
    expect(abandoned.owners()).toEqual(['b'])
  })

  it('a thousand of them, of which the oldest goes first', () => {
    const { abandoned } = abandonedOn(fakeClock(), Infinity)
    for (let n = 0; n < 1001; n++) abandoned.add(String(n), String(n))
    expect([abandoned.owners().length, abandoned.owners()[0]]).toEqual([1000, '1'])
  })
})
