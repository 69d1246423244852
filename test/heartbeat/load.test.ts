import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { overload, ownLoad, ramp } from '../../src/heartbeat/load.ts'

const calm = { loopDelayP99Ms: 0, loopUtilisation: 0, probeBacklog: 0 }

describe('ramp', () => {
  it.each([
    [-Infinity, 0],
    [0.02, 0],
    [0.11, 0.5],
    [0.2, 1],
    [Infinity, 1],
    [NaN, 0],
  ])('of %d between .02 and .20 is %d', (value, expected) => {
    expect(ramp(value, 0.02, 0.2)).toBeCloseTo(expected, 12)
  })
})

describe('ownLoad', () => {
  it.each([
    [calm, 0],
    [{ ...calm, loopDelayP99Ms: 50, loopUtilisation: 0.3 }, 0],
    [{ ...calm, loopDelayP99Ms: 150, loopUtilisation: 0.3 }, 0.5],
    [{ ...calm, loopDelayP99Ms: 250, loopUtilisation: 0.3 }, 1],
    [{ ...calm, loopDelayP99Ms: 250, loopUtilisation: 0.2 }, 0.5],
    [{ ...calm, loopDelayP99Ms: 2000, loopUtilisation: 0.1 }, 0],
    [{ ...calm, loopUtilisation: 0.825 }, 0.5],
    [{ ...calm, loopUtilisation: 1 }, 1],
    [{ ...calm, probeBacklog: 0.75 }, 0.5],
    [{ ...calm, probeBacklog: 3 }, 1],
    [{ loopDelayP99Ms: 100, loopUtilisation: 0.9, probeBacklog: 0.6 }, 0.8],
    [{ loopDelayP99Ms: NaN, loopUtilisation: NaN, probeBacklog: NaN }, 0],
  ])('of %j is %d: the worst sign counts', (load, expected) => {
    expect(ownLoad(load)).toBeCloseTo(expected, 12)
  })

  it('is between 0 and 1 for anything', () => {
    const load = fc.record({ loopDelayP99Ms: fc.double(), loopUtilisation: fc.double(), probeBacklog: fc.double() })
    fc.assert(
      fc.property(load, (input) => {
        const L = ownLoad(input)
        expect(L >= 0 && L <= 1).toBe(true)
      }),
    )
  })
})

describe('overload', () => {
  it.each([
    ['a loop at work all the time that delays nothing is none', { ...calm, loopUtilisation: 1 }, 0],
    ['one that lets others wait is', { ...calm, loopUtilisation: 1, loopDelayP99Ms: 250 }, 1],
    [
      'our own probes that pile up are none: they wait for servers, and no client for them',
      { ...calm, probeBacklog: 9 },
      0,
    ],
  ])('%s', (_what, load, expected) => expect(overload(load)).toBe(expected))
})
