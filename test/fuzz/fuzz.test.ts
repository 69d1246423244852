import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anyInput, chunkSizes, inputsOf } from './inputs.ts'
import { targets } from './targets.ts'

describe.each(Object.entries(targets))('%s', (name, target) => {
  it('keeps its promises for every input in the corpus', () => {
    const inputs = inputsOf(name)
    expect(inputs.length).toBeGreaterThan(0)
    for (const [, bytes] of inputs) for (const sizes of [[1], [2, 3], [7], [1000]]) target.check(bytes, sizes)
  })

  it('keeps them for any input', () => {
    fc.assert(
      fc.property(anyInput(name, target), chunkSizes, (bytes, sizes) => target.check(bytes, sizes)),
      { seed: 20_261_122, numRuns: 500 },
    )
  })

  it('does not hang on long ones', () => {
    for (const [, bytes] of inputsOf(name)) target.check(Buffer.alloc(64 * 1024, bytes), [16_384])
  })
})
