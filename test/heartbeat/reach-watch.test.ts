import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import type { Vitals } from '../../src/heartbeat/hang-watch.ts'
import { type ReachSigns, ReachWatch, isLost } from '../../src/heartbeat/reach-watch.ts'
import { fakeClock } from '../support/fake-clock.ts'

const law = defaults.hang
const lost: ReachSigns = { failures: 3, unreachedMs: 30_000, intervalMs: 5000, inFlight: 0 }

describe('a process that runs, and that nobody reaches', () => {
  it.each<[string, Partial<ReachSigns>, boolean]>([
    ['the third probe failed, for 30 s', {}, true],
    ['only the second', { failures: 2, unreachedMs: 600_000 }, false],
    ['for less than 30 s', { unreachedMs: 29_999 }, false],
    ['for less than three intervals', { intervalMs: 30_000, unreachedMs: 89_999 }, false],
    ['for three intervals', { intervalMs: 30_000, unreachedMs: 90_000 }, true],
    ['while it may answer what it was asked before', { inFlight: 1, unreachedMs: 59_999 }, false],
    ['for longer than any request may wait', { inFlight: 1, unreachedMs: 60_000 }, true],
  ])('%s', (_what, signs, expected) => {
    expect(isLost({ ...lost, ...signs }, law)).toBe(expected)
  })

  function watched() {
    const clock = fakeClock()
    let vitals: Vitals | undefined = { pid: 7, cpu: undefined, isStopped: false, lastHeardMs: 0, inFlight: 0 }
    const watch = new ReachWatch({ examine: () => vitals, clock, law: () => law })
    /** One probe that fails at once, 5 s after the one before. */
    const fail = async () => {
      await clock.advance(5000)
      return watch.failed(undefined, clock.now(), 5000)
    }
    const failing = async (times: number) => {
      for (let time = 0; time < times; time++) expect(await fail()).toBeUndefined()
    }
    return { clock, watch, fail, failing, become: (next: Vitals | undefined) => void (vitals = next) }
  }
  const process: Vitals = { pid: 7, cpu: undefined, isStopped: false, lastHeardMs: 0, inFlight: 0 }

  it('is lost after 30 s from the first probe that failed, whatever it writes meanwhile', async () => {
    const { clock, fail, failing, become } = watched()
    await failing(6)
    become({ ...process, lastHeardMs: clock.now() })
    expect(await fail()).toBe(30_000)
  })

  it.each<[string, (test: ReturnType<typeof watched>) => void]>([
    ['an answer to a probe', ({ watch }) => watch.close(undefined)],
    ['another process', ({ become }) => become({ ...process, pid: 8 })],
    ['an answer to a client', ({ become, clock }) => become({ ...process, lastServedMs: clock.now() })],
  ])('begins anew with %s', async (_what, happens) => {
    const test = watched()
    await test.failing(6)
    happens(test)
    await test.failing(6)
    expect(await test.fail()).toBe(30_000)
  })

  it('is nothing to be ended once it has gone', async () => {
    const { failing, become } = watched()
    await failing(6)
    become(undefined)
    await failing(6)
    become(process)
    await failing(6)
  })
})
