import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { KnownError } from '../../src/errors.ts'
import {
  Breaker,
  type Circuit,
  afterFailure,
  afterNothing,
  afterSignOfLife,
  afterSuccess,
  closedCircuit,
  pass,
} from '../../src/upstreams/breaker.ts'
import { fakeClock } from '../support/fake-clock.ts'

const quiet = { ok: 0, failed: 0 }
const open = (untilMs: number, hadSign = false): Circuit => ({
  kind: 'open',
  untilMs,
  openForMs: 1000,
  reason: 'why',
  hadSign,
})
const halfOpen = (triedAtMs: number | undefined, openForMs = 1000, hadSign = false): Circuit => ({
  kind: 'half_open',
  triedAtMs,
  openForMs,
  reason: 'why',
  hadSign,
})

describe('the law (control-law.md, "HTTP upstreams")', () => {
  it('opens at the fifth failure in a row, for one second', () => {
    let circuit = closedCircuit
    for (const inRow of [1, 2, 3, 4]) {
      circuit = afterFailure(circuit, quiet, 'refused', 5000)
      expect(circuit).toEqual({ kind: 'closed', failuresInRow: inRow })
    }
    expect(afterFailure(circuit, quiet, 'refused', 5000)).toEqual({
      kind: 'open',
      untilMs: 6000,
      openForMs: 1000,
      reason: '5 requests in a row failed, the last one: refused',
      hadSign: false,
    })
    expect(afterSuccess(circuit)).toEqual(closedCircuit)
  })

  it.each([
    [7, 2, 'closed'],
    [8, 2, 'closed'],
    [7, 3, 'open'],
    [0, 10, 'open'],
  ])('%i successes and %i failures within 30 s: %s', (ok, failed, kind) => {
    expect(afterFailure(closedCircuit, { ok, failed }, 'reset', 0).kind).toBe(kind)
  })

  it.each([
    ['closed, so it goes', closedCircuit, 0, { kind: 'pass', isTrial: false }],
    ['open, so it does not', open(1000), 999, { kind: 'refused', retryInMs: 1, reason: 'why' }],
    ['open until now, so it is the trial', open(1000), 1000, { kind: 'pass', isTrial: true, circuit: halfOpen(1000) }],
    ['half open, so it is the trial', halfOpen(undefined), 7, { kind: 'pass', isTrial: true, circuit: halfOpen(7) }],
    ['half open with a trial under way', halfOpen(100), 900, { kind: 'refused', retryInMs: 200, reason: 'why' }],
    ['half open with a long trial', halfOpen(100), 1100, { kind: 'pass', isTrial: true, circuit: halfOpen(1100) }],
  ])('a request meets it %s', (_what, circuit, nowMs, expected) => {
    expect(pass(circuit, nowMs)).toMatchObject(expected)
  })

  it('a failed trial doubles the wait, up to a minute; a failure that was under way before changes nothing', () => {
    let circuit = halfOpen(0)
    const waits: number[] = []
    for (let trial = 0; trial < 8; trial++) {
      const next = afterFailure(circuit, quiet, 'refused', 0)
      if (next.kind !== 'open') throw new Error(`the circuit is ${next.kind}`)
      waits.push(next.openForMs)
      expect(afterFailure(next, quiet, 'refused', 10)).toBe(next)
      circuit = halfOpen(0, next.openForMs)
    }
    expect(waits).toEqual([2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000])
  })

  it('a success closes it, a sign of life lets the next request try, a trial that tells nothing is tried again', () => {
    expect(afterSuccess(halfOpen(0))).toEqual(closedCircuit)
    expect(afterSuccess(open(1000))).toEqual(closedCircuit)
    expect(afterSignOfLife(open(1000), 10)).toEqual(halfOpen(undefined, 1000, true))
    expect(afterSignOfLife(halfOpen(0), 10)).toEqual(halfOpen(0))
    expect(afterNothing(halfOpen(0), 0)).toEqual(halfOpen(undefined))
    expect(afterNothing(halfOpen(1000), 0)).toEqual(halfOpen(1000)) // An earlier trial.
    expect(afterNothing(closedCircuit, 0)).toEqual(closedCircuit)
  })

  it('a second sign of life ends no wait before its time, until it has been closed', () => {
    const failed = afterFailure(halfOpen(0, 1000, true), quiet, 'HTTP 500', 100)
    expect(failed).toMatchObject({ kind: 'open', untilMs: 2100, hadSign: true })
    expect(afterSignOfLife(failed, 2099)).toBe(failed)
    expect(afterSignOfLife(failed, 2100).kind).toBe('half_open')
    expect(afterSignOfLife(open(1000, true), 999)).toEqual(open(1000, true))
    expect(afterSuccess(failed)).toEqual(closedCircuit)
  })
})

describe('Breaker', () => {
  function breaker(isEnabled = true) {
    const clock = fakeClock()
    const changes: string[] = []
    const made = new Breaker({ clock, isEnabled, onChange: (from, to) => changes.push(`${from} → ${to}`) })
    const fail = (times: number) => {
      for (let n = 0; n < times; n++) made.failed('refused')
    }
    const enter = () => made.enter()
    return { clock, made, changes, fail, enter, isRefused: () => enter() instanceof KnownError }
  }

  it('refuses with the time to wait, tries once, and closes at the first success', async () => {
    const { clock, made, changes, fail, isRefused } = breaker()
    fail(5)
    expect(made.refusal()).toMatchObject({
      code: 'circuit_open',
      retryAfterSeconds: 1,
      message: 'the server is given 1 s to recover: 5 requests in a row failed, the last one: refused',
    })
    await clock.advance(1000)
    expect(made.refusal()).toBeUndefined()
    expect([isRefused(), isRefused(), made.view().state]).toEqual([false, true, 'half_open'])
    made.succeeded()
    expect([isRefused(), made.view().state]).toEqual([false, 'closed'])
    expect(changes).toEqual(['closed → open', 'open → half_open', 'half_open → closed'])
  })

  it('a trial whose client left without an answer lets the next one try', async () => {
    const { clock, fail, enter, isRefused } = breaker()
    fail(5)
    await clock.advance(1000)
    const permit = enter()
    if (permit instanceof KnownError) throw permit
    expect(isRefused()).toBe(true)
    permit.release()
    expect(isRefused()).toBe(false)
  })

  it('a trial that takes its time keeps nobody waiting for more than a second', async () => {
    const { clock, made, fail, isRefused } = breaker()
    fail(5)
    await clock.advance(1000)
    expect([isRefused(), isRefused()]).toEqual([false, true])
    await clock.advance(999)
    expect(isRefused()).toBe(true)
    await clock.advance(1)
    expect([isRefused(), isRefused()]).toEqual([false, true])
    made.succeeded()
    expect(made.view().state).toBe('closed')
  })

  it('forgets after 30 s, and what was before an outage', async () => {
    const { clock, made, fail } = breaker()
    for (let n = 0; n < 9; n++) made.succeeded()
    fail(2)
    await clock.advance(30_000)
    made.succeeded()
    fail(3)
    expect(made.view().state).toBe('closed')
    fail(2)
    expect(made.view().state).toBe('open')
    made.succeeded()
    made.failed('refused')
    expect(made.view().state).toBe('closed')
  })

  it('that is switched off lets everything pass', () => {
    const { made, fail, isRefused } = breaker(false)
    fail(100)
    expect([isRefused(), made.view().state]).toEqual([false, 'closed'])
  })

  it('while every trial fails, waits double up to a minute, however many heartbeats are answered', async () => {
    const gapsMs = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 20, maxLength: 100 })
    await fc.assert(
      fc.asyncProperty(gapsMs, async (gaps) => {
        const { clock, made, fail, isRefused } = breaker()
        fail(5)
        const triedMs = [clock.now()]
        for (const gapMs of gaps) {
          await clock.advance(gapMs)
          made.signOfLife()
          if (isRefused()) continue
          triedMs.push(clock.now())
          made.failed('HTTP 500')
        }
        const waits = triedMs.slice(1).map((atMs, trial) => atMs - (triedMs[trial] ?? Infinity))
        // The first one is the sign of life's.
        for (const [trial, waitedMs] of waits.entries()) {
          if (trial > 0) expect(waitedMs).toBeGreaterThanOrEqual(Math.min(1000 * 2 ** trial, 60_000))
        }
      }),
    )
  })

  it('never lets more than one try within a second while half open, never refuses for longer than a minute, and closes again', async () => {
    const step = fc.oneof(
      fc.constant('enter' as const),
      fc.constant('fail' as const),
      fc.constant('succeed' as const),
      fc.constant('life' as const),
      fc.nat({ max: 120_000 }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { clock, made, enter } = breaker()
        let triedAtMs: number | undefined
        for (const one of steps) {
          if (typeof one === 'number') await clock.advance(one)
          else if (one === 'fail') made.failed('refused')
          else if (one === 'succeed') made.succeeded()
          else if (one === 'life') made.signOfLife()
          else if (enter() instanceof KnownError) expect(made.view().state).not.toBe('closed')
          else if (made.view().state === 'half_open') {
            expect(clock.now() - (triedAtMs ?? -Infinity)).toBeGreaterThanOrEqual(defaults.breaker.trialMs)
            triedAtMs = clock.now()
          }
          if (made.view().state !== 'half_open') triedAtMs = undefined
          expect(made.view().retryInMs ?? 0).toBeLessThanOrEqual(defaults.breaker.maxOpenMs)
        }
        made.succeeded()
        expect([enter() instanceof KnownError, made.view().state]).toEqual([false, 'closed'])
      }),
      { numRuns: 200 },
    )
  })
})
