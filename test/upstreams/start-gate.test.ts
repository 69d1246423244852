import { describe, expect, it } from 'vitest'
import { StartGate, type StartLane } from '../../src/upstreams/start-gate.ts'
import { fakeClock } from '../support/fake-clock.ts'

const settle = () => fakeClock().advance(0)

/** Starts by name in the order in which they got their places; each can be ended. */
function starts() {
  const order: string[] = []
  const places = new Map<string, () => void>()
  const enter = async (name: string, lane: StartLane, signal: AbortSignal | undefined) => {
    const release = await lane.acquire(signal)
    if (signal?.aborted) return
    order.push(name)
    places.set(name, release)
  }
  const ask = (name: string, lane: StartLane, signal?: AbortSignal) => void enter(name, lane, signal)
  const end = async (name: string) => {
    places.get(name)?.()
    await settle()
  }
  return { order, ask, end }
}

describe('the places for starts', () => {
  it('are given to one upstream in the order it asked; one given back twice counts once', async () => {
    const { order, ask, end } = starts()
    const lane = new StartGate(1).lane()
    for (const name of ['a1', 'a2', 'a3']) ask(name, lane)
    await settle()
    expect(order).toEqual(['a1'])
    await end('a1')
    await end('a1')
    expect(order).toEqual(['a1', 'a2'])
  })

  it('are never all one upstream’s: another finds one free, however many starts of the first hang', async () => {
    const { order, ask, end } = starts()
    const gate = new StartGate(4, 2)
    const [bad, good] = [gate.lane(), gate.lane()]
    for (let n = 1; n <= 24; n++) ask(`bad${n}`, bad)
    await settle()
    expect(order).toEqual(['bad1', 'bad2'])
    ask('good', good)
    await settle()
    expect(order).toEqual(['bad1', 'bad2', 'good'])
    await end('good')
    expect(order).toHaveLength(3)
    await end('bad1')
    expect(order.at(-1)).toBe('bad3')
  })

  it('go round: who asks once waits for one start of each other, not for all that they want', async () => {
    const { order, ask, end } = starts()
    const gate = new StartGate(1)
    const [a, b, c] = [gate.lane(), gate.lane(), gate.lane()]
    for (const name of ['a1', 'a2', 'a3']) ask(name, a)
    for (const name of ['b1', 'b2']) ask(name, b)
    ask('c1', c)
    await settle()
    for (const name of ['a1', 'a2', 'b1', 'c1', 'a3']) await end(name)
    expect(order).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2'])
  })

  it('are not waited for any more by one that left, nor given to it', async () => {
    const { order, ask, end } = starts()
    const gate = new StartGate(1)
    const [a, b] = [gate.lane(), gate.lane()]
    const leaves = new AbortController()
    ask('a1', a)
    ask('b1', b, leaves.signal)
    ask('a2', a)
    await settle()
    leaves.abort()
    await end('a1')
    expect(order).toEqual(['a1', 'a2'])
    ask('b2', b, AbortSignal.abort())
    await end('a2')
    ask('b3', b)
    await settle()
    expect(order).toEqual(['a1', 'a2', 'b3'])
  })
})
