import { describe, expect, it } from 'vitest'
import { Sweep, type Swept } from '../../src/proxy/sweep.ts'
import { fakeClock } from '../support/fake-clock.ts'

function setUp() {
  const clock = fakeClock()
  const sweep = new Sweep(clock)
  const seen: string[] = []
  const entry = (name: string, meanwhile: () => void = () => undefined): Swept => ({
    place: undefined,
    sweep: () => {
      seen.push(name)
      meanwhile()
    },
  })
  const second = async () => {
    await clock.advance(1000)
    return new Set(seen.splice(0))
  }
  return { sweep, entry, second }
}

describe('Sweep', () => {
  it('looks at what was added, every second, until it is deleted', async () => {
    const { sweep, entry, second } = setUp()
    const [a, b, c] = [entry('a'), entry('b'), entry('c')]
    for (const one of [a, b, c, b]) sweep.add(one)
    expect(await second()).toEqual(new Set(['a', 'b', 'c']))
    sweep.delete(a)
    sweep.delete(a)
    expect(await second()).toEqual(new Set(['b', 'c']))
    sweep.delete(c)
    sweep.add(a)
    expect(await second()).toEqual(new Set(['a', 'b']))
    for (const one of [a, b]) sweep.delete(one)
    expect(await second()).toEqual(new Set())
  })

  it.each(['a', 'b', 'c', 'd'])('misses none when %s deletes any two while it is looked at', async (deletes) => {
    const names = ['a', 'b', 'c', 'd']
    for (const gone of names.flatMap((one) => names.map((other) => [one, other]))) {
      const { sweep, entry, second } = setUp()
      const entries = new Map<string, Swept>()
      const remove = () => {
        for (const name of gone) sweep.delete(entries.get(name) ?? entry(''))
      }
      for (const name of names) entries.set(name, entry(name, name === deletes ? remove : undefined))
      for (const one of entries.values()) sweep.add(one)
      const seen = await second()
      const kept = names.filter((name) => !gone.includes(name))
      expect([...seen]).toEqual(expect.arrayContaining([...kept, deletes]))
      expect(await second()).toEqual(new Set(kept))
    }
  })

  it('looks at nothing after its stop', async () => {
    const { sweep, entry, second } = setUp()
    sweep.add(entry('a'))
    sweep.stop()
    expect(await second()).toEqual(new Set())
  })
})
