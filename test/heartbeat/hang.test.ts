import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { type HangSigns, diagnose } from '../../src/heartbeat/hang.ts'
import { HangWatch, type Vitals } from '../../src/heartbeat/hang-watch.ts'
import { fakeClock } from '../support/fake-clock.ts'

const law = defaults.hang

/** A process that has been dead silent, idle and unasked for long enough. */
const dead: HangSigns = {
  unanswered: 3,
  unexplained: 0,
  intervalMs: 5000,
  silentMs: 60_000,
  inFlight: 0,
  occupiedMs: 0,
  unoccupiedMs: 60_000,
  cpuRatio: 0,
  isStopped: false,
}
/** Clients have waited for as long as it has been silent, and for longer. */
const asked = { inFlight: 1, occupiedMs: 600_000, unoccupiedMs: 0 }

describe('diagnose (control-law.md, "stdio supervision")', () => {
  it.each<[string, Partial<HangSigns>, 'busy' | 'silent' | 'hung']>([
    ['silent, idle and unasked', {}, 'hung'],
    ['the third probe unanswered, silent for 30 s', { silentMs: 30_000, unoccupiedMs: 30_000 }, 'hung'],
    ['only the second', { unanswered: 2 }, 'silent'],
    ['silent for less than 30 s', { silentMs: 29_999 }, 'silent'],
    ['silent for less than three intervals', { intervalMs: 30_000, silentMs: 89_999 }, 'silent'],
    ['silent for three intervals', { intervalMs: 30_000, silentMs: 90_000 }, 'hung'],
    ['at work for nobody, for a minute', { cpuRatio: 1 }, 'hung'],
    ['at work for nobody, silent for less', { cpuRatio: 1, silentMs: 59_999 }, 'silent'],
    ['at work for nobody, but a client waited lately', { cpuRatio: 1, unoccupiedMs: 59_999 }, 'silent'],
    ['at work for a client', { ...asked, cpuRatio: 0.02 }, 'busy'],
    ['at work for a client from the first probe on', { ...asked, cpuRatio: 1, unanswered: 1, silentMs: 2000 }, 'busy'],
    ['at work for a client, nearly ten minutes', { ...asked, cpuRatio: 1, silentMs: 599_999 }, 'busy'],
    [
      'at work for a client, for longer than any request may take',
      { ...asked, cpuRatio: 1, silentMs: 600_000 },
      'hung',
    ],
    ['idle while a client waits, as a tool that waits for somebody else', { ...asked, silentMs: 59_999 }, 'busy'],
    ['idle while a client waits, until its request is given up', { ...asked, silentMs: 60_000 }, 'hung'],
    [
      'idle while a client waits, but it was not asked before',
      { ...asked, silentMs: 90_000, occupiedMs: 59_999 },
      'busy',
    ],
    ['idle while a client has waited for a minute', { ...asked, silentMs: 90_000, occupiedMs: 60_000 }, 'hung'],
    ['at work for a client, silent before', { ...asked, cpuRatio: 1, silentMs: 700_000, occupiedMs: 599_999 }, 'busy'],
    ['stopped by a signal while a client waits', { ...asked, isStopped: true, silentMs: 30_000 }, 'hung'],
    ['stopped by a signal, just now', { ...asked, isStopped: true, silentMs: 5000 }, 'silent'],
    ['unasked, and nobody knows its CPU', { cpuRatio: undefined }, 'hung'],
    ['unasked for less than a minute, and nobody knows its CPU', { cpuRatio: undefined, silentMs: 50_000 }, 'silent'],
    ['asked, and nobody knows its CPU', { ...asked, cpuRatio: undefined, silentMs: 59_999 }, 'busy'],
    [
      'asked only when it was silent already, and nobody knows its CPU',
      { ...asked, cpuRatio: undefined, silentMs: 10_000, unexplained: 1 },
      'silent',
    ],
    ['at work for a client that came when it was silent already', { ...asked, cpuRatio: 1, unexplained: 1 }, 'busy'],
    ['asked for a minute, and nobody knows its CPU', { ...asked, cpuRatio: undefined }, 'silent'],
  ])('%s', (_what, signs, kind) => {
    expect(diagnose({ ...dead, ...signs }).kind).toBe(kind)
  })

  it('says why', () => {
    const reasonOf = (signs: Partial<HangSigns>) => {
      const diagnosis = diagnose({ ...dead, ...signs })
      return 'reason' in diagnosis ? diagnosis.reason : ''
    }
    expect(reasonOf({})).toBe('hung: no output for 60 s, and it uses 0 % of a core')
    expect(reasonOf({ isStopped: true })).toBe('hung: no output for 60 s, and a signal has stopped it')
    expect(reasonOf({ cpuRatio: 0.987 })).toBe('hung: no output for 60 s, and it uses 99 % of a core')
    expect(reasonOf({ ...asked, cpuRatio: 0.5 })).toBe('busy: a request is under way, and it uses 50 % of a core')
    expect(reasonOf({ inFlight: 2, cpuRatio: 0.5 })).toContain('2 requests are under way')
  })

  const duration = fc.integer({ min: 0, max: 1_200_000 })
  const anySigns: fc.Arbitrary<HangSigns> = fc.record({
    unanswered: fc.integer({ min: 1, max: 6 }),
    unexplained: fc.nat(6),
    intervalMs: fc.integer({ min: 1000, max: 60_000 }),
    silentMs: duration,
    inFlight: fc.nat(3),
    occupiedMs: duration,
    unoccupiedMs: duration,
    cpuRatio: fc.option(fc.double({ min: 0, max: 8, noNaN: true }), { nil: undefined }),
    isStopped: fc.boolean(),
  })

  it('never calls a process hung too early, one that is heard, or one that works for a client', () => {
    fc.assert(
      fc.property(anySigns, (signs) => {
        if (diagnose(signs).kind !== 'hung') return
        expect(signs.unanswered).toBeGreaterThanOrEqual(3)
        expect(signs.silentMs).toBeGreaterThanOrEqual(Math.max(30_000, 3 * signs.intervalMs))
        const works = signs.inFlight > 0 && !signs.isStopped && (signs.cpuRatio ?? 0) >= law.idleCpuRatio
        if (works) expect(Math.min(signs.silentMs, signs.occupiedMs)).toBeGreaterThanOrEqual(law.workingMs)
      }),
    )
  })

  it('calls nobody busy for whom nobody waits, and nobody for ever', () => {
    fc.assert(
      fc.property(anySigns, (signs) => {
        if (diagnose(signs).kind !== 'busy') return
        expect(signs.inFlight).toBeGreaterThan(0)
        expect(Math.min(signs.silentMs, signs.occupiedMs)).toBeLessThan(law.workingMs)
      }),
    )
  })

  it('takes back no hang because it lasts', () => {
    fc.assert(
      fc.property(anySigns, fc.nat(100_000), fc.nat(5), (signs, moreMs, more) => {
        if (diagnose(signs).kind !== 'hung') return
        const later = { ...signs, silentMs: signs.silentMs + moreMs, unanswered: signs.unanswered + more }
        expect(diagnose(later).kind).toBe('hung')
      }),
    )
  })
})

describe('a watch over processes', () => {
  function watched(initial: Partial<Vitals> = {}) {
    const clock = fakeClock()
    const process = { pid: 7, cpuSeconds: 1, isStopped: false, lastHeardMs: 0, inFlight: 0, isOurs: true, ...initial }
    const examine = () => {
      const { isOurs, cpuSeconds, ...vitals } = process
      return isOurs ? { ...vitals, cpu: { seconds: cpuSeconds, atMs: clock.now() } } : undefined
    }
    const watch = new HangWatch({ examine, clock, law: () => law })
    /** One probe that is not answered: looked at after half a second, given up after two, 5 s after the one before. */
    const miss = async (cpuSeconds = 0) => {
      await clock.advance(3500)
      watch.begin([undefined])
      await clock.advance(1500)
      process.cpuSeconds += cpuSeconds
      return watch.diagnose(undefined, 5000)?.kind
    }
    return { clock, process, watch, miss }
  }

  it('finds a hang by the CPU time that passes between its looks', async () => {
    const { miss } = watched()
    for (let at = 5; at < 30; at += 5) expect(await miss()).toBe('silent')
    expect(await miss()).toBe('hung')
  })

  it('waits a minute for one that spins', async () => {
    const { miss } = watched()
    for (let at = 5; at < 60; at += 5) expect(await miss(5)).toBe('silent')
    expect(await miss(5)).toBe('hung')
  })

  it('gives one that spins a minute from the end of the last request', async () => {
    const { process, miss } = watched({ inFlight: 1 })
    for (let at = 5; at <= 60; at += 5) expect(await miss(5)).toBe('busy')
    process.inFlight = 0
    for (let at = 65; at < 120; at += 5) expect(await miss(5)).toBe('silent')
    expect(await miss(5)).toBe('hung')
  })

  it('begins anew when anybody has heard of it', async () => {
    const { clock, process, miss } = watched()
    for (let at = 5; at < 30; at += 5) expect(await miss()).toBe('silent')
    await clock.advance(100)
    process.lastHeardMs = clock.now()
    await clock.advance(25_000)
    // Silent for long enough soon, but by then it has left two probes unanswered, not seven.
    expect([await miss(), await miss()]).toEqual(['silent', 'silent'])
    expect(await miss()).toBe('hung')
  })

  it('gives a request its minute from when it was first seen to wait, not from the last word of the process', async () => {
    const { clock, process, miss } = watched()
    await clock.advance(40_000)
    process.inFlight = 1
    for (let at = 5; at <= 60; at += 5) expect(await miss()).toBe('busy')
    expect(await miss()).toBe('hung')
  })

  it('begins anew with an answer, and with another process', async () => {
    const { process, watch, miss } = watched()
    for (let at = 5; at < 30; at += 5) await miss()
    watch.close(undefined)
    expect([await miss(), await miss(), await miss()]).toEqual(['silent', 'silent', 'hung'])
    process.pid = 8
    expect([await miss(), await miss(), await miss()]).toEqual(['silent', 'silent', 'hung'])
  })

  it('has no opinion about what is not ours', async () => {
    const { process, miss } = watched()
    process.isOurs = false
    expect(await miss()).toBeUndefined()
  })
})
