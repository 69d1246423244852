import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Silence, SilenceWatch, isExcused, silentTogether } from '../../src/heartbeat/correlation.ts'

/** Upstreams a, b, c …, each silent since that second or answering. */
const fleet = (...since: readonly (number | undefined)[]): Silence[] =>
  since.map((seconds, at) => ({
    upstream: String.fromCodePoint(97 + at),
    silentSinceMs: seconds === undefined ? undefined : seconds * 1000,
    intervalMs: 5000,
  }))
const answers = undefined

describe('upstreams that fall silent together (control-law.md, "Verdict")', () => {
  it.each([
    ['none of them', fleet(answers, answers, answers, answers, answers), ''],
    ['half of six is not more than half', fleet(1, 2, 3, answers, answers, answers), ''],
    ['more than half of five', fleet(1, 2, 3, answers, answers), 'abc'],
    ['all of four: too few to be a crowd', fleet(1, 1, 1, 1), ''],
    ['within ten seconds', fleet(1, 6, 11, answers, answers), 'abc'],
    ['not within ten seconds', fleet(1, 6, 12, answers, answers), ''],
    ['an old outage is no part of it', fleet(1, 100, 101, 102, answers), 'bcd'],
  ])('%s', (_what, silences, together) => {
    expect(silentTogether(silences).join('')).toBe(together)
  })

  it('those that are asked every 30 s are noticed up to 30 s apart', () => {
    const calm = fleet(1, 15, 31, answers, answers).map((silence) => ({ ...silence, intervalMs: 30_000 }))
    expect(silentTogether(calm)).toEqual(['a', 'b', 'c'])
  })

  it('is never told of a minority, of one that answers, or of a small fleet', () => {
    const silence = fc.record({
      silentSinceMs: fc.option(fc.integer({ min: 0, max: 100_000 }), { nil: undefined }),
      intervalMs: fc.integer({ min: 5000, max: 30_000 }),
    })
    fc.assert(
      fc.property(fc.array(silence, { maxLength: 20 }), (silences) => {
        const upstreams = silences.map((one, at) => ({ ...one, upstream: String(at) }))
        const together = silentTogether(upstreams)
        if (together.length === 0) return
        expect(upstreams.length).toBeGreaterThanOrEqual(5)
        expect(together.length).toBeGreaterThan(upstreams.length / 2)
        expect(new Set(together).size).toBe(together.length)
        for (const name of together) expect(upstreams[Number(name)]?.silentSinceMs).toBeDefined()
      }),
    )
  })
})

describe('who is left alone, because others fell silent with it', () => {
  it.each([
    ['one of them, at once', fleet(1, 2, 3, answers, answers), 'c', 3, true],
    ['for nearly two minutes', fleet(1, 2, 3, answers, answers), 'c', 122, true],
    [
      'not for longer: they are still silent, and that it hangs explains itself',
      fleet(1, 2, 3, answers, answers),
      'c',
      123,
      false,
    ],
    ['not one that fell silent later', fleet(1, 2, 3, 51, answers), 'd', 60, false],
    ['not one that answers, of which a session hangs', fleet(1, 2, 3, answers, answers), 'd', 3, false],
    ['not one of a minority', fleet(1, 2, answers, answers, answers), 'a', 3, false],
    ['not one that is unknown', fleet(1, 2, 3, answers, answers), 'z', 3, false],
  ])('%s', (_what, silences, upstream, seconds, excused) => {
    expect(isExcused(upstream, silences, seconds * 1000)).toBe(excused)
  })
})

describe('SilenceWatch', () => {
  it('tells the beginning and the end, once each', () => {
    const told: string[] = []
    let silences = fleet(answers, answers, answers, answers, answers)
    const watch = new SilenceWatch({ silences: () => silences, onChange: (together) => told.push(together.join('')) })
    const look = (...now: readonly (number | undefined)[]) => {
      silences = fleet(...now)
      return watch.look().join('')
    }
    expect(look(1, 2, answers, answers, answers)).toBe('')
    expect(look(1, 2, 3, answers, answers)).toBe('abc')
    expect(look(1, 2, 3, 4, answers)).toBe('abcd')
    expect(look(1, answers, 3, answers, answers)).toBe('')
    expect(told).toEqual(['abc', ''])
  })
})
