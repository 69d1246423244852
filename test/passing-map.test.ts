import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PassingMap } from '../src/passing-map.ts'

describe('PassingMap', () => {
  it('does what a Map does', () => {
    const key = fc.integer({ min: 0, max: 5 })
    const step = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), key, value: fc.string() }),
      fc.record({ kind: fc.constant('delete' as const), key }),
      fc.record({ kind: fc.constant('clear' as const) }),
    )
    const property = fc.property(fc.array(step), (steps) => {
      const [ours, model] = [new PassingMap<number, string>(), new Map<number, string>()]
      for (const one of steps) {
        for (const map of [ours, model]) {
          if (one.kind === 'set') map.set(one.key, one.value)
          else if (one.kind === 'delete') map.delete(one.key)
          else map.clear()
        }
        expect([...ours.values()]).toEqual([...model.values()])
        expect(ours.size).toBe(model.size)
        for (const known of [0, 1, 2, 3, 4, 5]) expect(ours.get(known)).toBe(model.get(known))
      }
    })
    fc.assert(property)
  })

  it('leaves out what is deleted while its values are walked', () => {
    const map = new PassingMap<number, string>()
    for (const key of [1, 2, 3]) map.set(key, `value ${key}`)
    const seen: string[] = []
    for (const value of map.values()) {
      seen.push(value)
      map.delete(2)
    }
    expect(seen).toEqual(['value 1', 'value 3'])
  })
})
