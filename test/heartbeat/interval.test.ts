import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import type { IntervalInput, IntervalSettings, IntervalState } from '../../src/heartbeat/interval.ts'
import { adapt, firstDecision, firstOffsetMs, newInterval, nextDelayMs, retune } from '../../src/heartbeat/interval.ts'

const { heartbeat } = defaults
const settings: IntervalSettings = {
  adaptive: true,
  initialMs: heartbeat.intervalSeconds * 1000,
  minMs: heartbeat.minIntervalSeconds * 1000,
  maxMs: heartbeat.maxIntervalSeconds * 1000,
  errorBased: true,
  loadBased: true,
  thresholdsEnabled: true,
  errorRateThresholdRatio: heartbeat.errorRateThresholdPercent / 100,
  responseTimeThresholdMs: heartbeat.responseTimeThresholdMs,
}
const noLoad = { loopDelayP99Ms: 0, loopUtilisation: 0, probeBacklog: 0 }
const fullLoad = { loopDelayP99Ms: 250, loopUtilisation: 1, probeBacklog: 1 }
const halfLoad = { ...noLoad, loopDelayP99Ms: 150, loopUtilisation: 0.3 }

interface Reading {
  readonly heartbeats?: number
  readonly failures?: number
  readonly rttMeanMs?: number | undefined
  readonly elapsedMs?: number
}
const inputOf = (diff: Reading = {}, rest: Partial<Omit<IntervalInput, 'diff'>> = {}): IntervalInput => ({
  diff: { heartbeats: 1, failures: 0, rttMeanMs: 2, elapsedMs: 10_000, ...diff },
  misses: 0,
  hardFailure: false,
  load: noLoad,
  ...rest,
})
const stateOf = (intervalMs: number, rest: Partial<IntervalState> = {}): IntervalState => ({
  intervalMs,
  failureRatio: 0,
  rtt: { shortMs: 2, baselineMs: 2 },
  goods: 100,
  ...rest,
})
/** The failure ratio at which the error ramp gives this suspicion; thresholds off, or they lift it. */
const suspicious = (S: number) => 0.02 + S * 0.18
const quiet = { ...settings, thresholdsEnabled: false }
/** One step that leaves the averages alone, so that the suspicion is the state's. */
const still = (rest: Partial<Omit<IntervalInput, 'diff'>> = {}) => inputOf({ elapsedMs: 0 }, rest)

describe('suspicion', () => {
  it('averages failures over 30 s in continuous time', () => {
    const once = adapt(newInterval(settings), inputOf({ failures: 1, elapsedMs: 10_000 }), settings)
    expect(once.inputs.e).toBeCloseTo(1 - Math.exp(-1 / 3), 12)
    const twice = adapt(newInterval(settings), inputOf({ failures: 1, elapsedMs: 5000 }), settings)
    const whole = adapt(twice.state, inputOf({ failures: 1, elapsedMs: 5000 }), settings)
    expect(whole.inputs.e).toBeCloseTo(once.inputs.e, 12)
  })

  it.each([
    ['failures: nothing up to 2 %', { failureRatio: 0.02 }, 0, 0],
    ['failures: half way', { failureRatio: 0.11 }, 0.5, 0],
    ['failures: all from 20 % on', { failureRatio: 0.2 }, 1, 0],
    ['answers at 1.5×', { rtt: { shortMs: 300, baselineMs: 200 } }, 0, 0],
    ['answers at 2.75×', { rtt: { shortMs: 550, baselineMs: 200 } }, 0, 0.5],
    ['answers at 4×', { rtt: { shortMs: 800, baselineMs: 200 } }, 0, 1],
    ['answers at 10×, but only 49 ms more', { rtt: { shortMs: 54, baselineMs: 5 } }, 0, 0],
    ['both', { failureRatio: 0.11, rtt: { shortMs: 800, baselineMs: 200 } }, 0.5, 1],
  ])('%s: the worst sign counts for the interval', (_, rest, suspicion, slowness) => {
    const input = still()
    const decision = adapt(stateOf(30_000, rest), { ...input, diff: { ...input.diff, heartbeats: 0 } }, quiet)
    expect(decision.suspicion).toBeCloseTo(suspicion, 12)
    expect(decision.slowness).toBeCloseTo(slowness, 12)
    expect(decision.inputs.S).toBeCloseTo(Math.max(suspicion, slowness), 12)
  })

  it('is full at the first miss, before any metric was collected, and when the upstream is gone', () => {
    expect(adapt(stateOf(30_000), still({ misses: 1 }), settings).suspicion).toBe(1)
    expect(adapt(stateOf(30_000), still({ hardFailure: true }), settings).suspicion).toBe(1)
  })

  it.each([
    ['error rate', { failureRatio: 0.051 }, 0.3, 0],
    ['response time', { rtt: { shortMs: 1001, baselineMs: 1001 } }, 0, 0.3],
    ['neither', { failureRatio: 0.02, rtt: { shortMs: 1000, baselineMs: 1000 } }, 0, 0],
  ])('is at least .30 once a threshold is crossed: %s', (_, rest, expected, slowness) => {
    const input = inputOf({ heartbeats: 0, rttMeanMs: undefined, elapsedMs: 0 })
    const decision = adapt(stateOf(30_000, rest), input, settings)
    expect(decision.suspicion).toBeCloseTo(expected, 12)
    expect(decision.slowness).toBeCloseTo(slowness, 12)
    expect(adapt(stateOf(30_000, rest), input, quiet).inputs.S).toBeLessThan(0.2)
  })

  it('follows the short average after 10 s and the baseline after 600 s', () => {
    const { rtt } = adapt(stateOf(30_000), inputOf({ rttMeanMs: 2.5, elapsedMs: 10_000 }), settings).state
    expect(rtt?.shortMs).toBeCloseTo(2 + 0.5 * (1 - Math.exp(-1)), 12)
    expect(rtt?.baselineMs).toBeCloseTo(2 + 0.5 * (1 - Math.exp(-1 / 60)), 12)
  })

  it('freezes the baseline while answers are slow, and lets it move again afterwards', () => {
    let state = stateOf(30_000)
    for (let step = 0; step < 100; step++) state = adapt(state, inputOf({ rttMeanMs: 500 }), settings).state
    expect(state.rtt?.baselineMs).toBe(2)
    for (let step = 0; step < 20; step++) state = adapt(state, inputOf({ rttMeanMs: 2.5 }), settings).state
    expect(state.rtt?.baselineMs).toBeGreaterThan(2)
  })

  const pauses = fc.double({ min: 1000, max: 30_000, noNaN: true })
  /** Slow answers, so many milliseconds apart; every so many heartbeats one fails, if any does. */
  const afterSlowness = (times: number, elapsedMs: number, lastsMs: number, failsEach = Infinity) => {
    let state = stateOf(30_000, { rtt: { shortMs: 100, baselineMs: 100 } })
    for (let [beat, passedMs] = [1, 0]; passedMs < lastsMs; beat++, passedMs += elapsedMs) {
      const failures = beat % failsEach === 0 ? 1 : 0
      state = adapt(state, inputOf({ rttMeanMs: 100 * times, elapsedMs, failures }), settings).state
    }
    return adapt(state, inputOf({ rttMeanMs: 100 * times, elapsedMs }), quiet)
  }
  const times = fc.double({ min: 3, max: 10, noNaN: true })

  it('takes no illness for a new normal: not one of less than 20 minutes, nor one with failures', () => {
    fc.assert(
      fc.property(times, pauses, (slower, elapsedMs) => {
        expect(afterSlowness(slower, elapsedMs, 1_100_000).state.rtt?.baselineMs).toBeLessThan(105)
        const eachTenMinutes = Math.max(1, Math.floor(600_000 / elapsedMs))
        expect(afterSlowness(slower, elapsedMs, 7_200_000, eachTenMinutes).state.rtt?.baselineMs).toBeLessThan(105)
      }),
      { numRuns: 30 },
    )
  })

  it('takes a level that lasts without a failure for the new normal, at most 20 minutes after the first 20', () => {
    fc.assert(
      fc.property(times, pauses, (slower, elapsedMs) => {
        expect(afterSlowness(slower, elapsedMs, 1_100_000).slowness).toBeGreaterThan(0.3)
        expect(afterSlowness(slower, elapsedMs, 2_400_000).slowness).toBeLessThanOrEqual(0.1)
      }),
      { numRuns: 30 },
    )
  })

  it.each([NaN, Infinity, -1, undefined])('does not learn from a round trip of %s', (rttMeanMs) => {
    expect(adapt(stateOf(30_000), inputOf({ rttMeanMs }), settings).state.rtt).toEqual({ shortMs: 2, baselineMs: 2 })
  })
})

describe('steps', () => {
  it.each([
    ['a miss: the target in one step', 30_000, 0, still({ misses: 1 }), 5000],
    ['gone: the same', 30_000, 0, still({ hardFailure: true }), 5000],
    ['grave suspicion without a failure: half at most', 30_000, 1, still(), 15_000],
    ['… and again', 15_000, 1, still(), 7500],
    ['… down to the target', 7500, 1, still(), 5000],
    ['soft suspicion: the target, if that is more than half', 30_000, 0.31, still(), 30_000 * 6 ** -0.31],
    ['the dead band: less than 10 % is not worth a change', 18_000, 0.31, still(), 18_000],
    ['soft suspicion never lengthens', 8000, 0.31, still(), 8000],
    ['a little suspicion changes nothing', 12_000, 0.2, inputOf({}, {}), 12_000],
    ['calm: 2.5 s more', 10_000, 0, still(), 12_500],
    ['… up to the target', 29_000, 0, still(), 30_000],
    ['own load halves what suspicion asks', 30_000, 0, still({ misses: 1, load: fullLoad }), 30_000 * 6 ** -0.5],
    ['own load lengthens at once', 5000, 1, still({ load: fullLoad }), 30_000 * 6 ** -0.5],
    ['… by its share', 5000, 1, still({ load: halfLoad }), 30_000 * 6 ** -0.75],
    ['own load does not hurry a recovery past what it affords', 13_000, 0, still({ load: fullLoad }), 15_500],
  ])('%s', (_, fromMs, S, input, expectedMs) => {
    const goods = S === 0.2 ? 0 : 100
    const state = stateOf(fromMs, { goods, failureRatio: S === 0 ? 0 : suspicious(S) })
    const frozen = { ...input, diff: { ...input.diff, heartbeats: 0 } }
    expect(adapt(state, frozen, quiet).intervalMs).toBeCloseTo(expectedMs, 6)
  })

  it('lengthens from the third good probe on; a failure starts the count again', () => {
    const lengths: number[] = []
    let state = newInterval(quiet)
    for (const misses of [0, 0, 0, 0, 1, 0, 0, 0]) {
      const decision = adapt(state, still({ misses }), quiet)
      state = decision.state
      lengths.push(decision.intervalMs / 1000)
    }
    expect(lengths).toEqual([10, 10, 12.5, 15, 5, 5, 5, 7.5])
  })
})

describe('an answer is slow', () => {
  const rtt = { shortMs: 1000, baselineMs: 100 }
  it.each([
    [100, quiet, false],
    [170, quiet, false],
    [180, quiet, true],
    [undefined, quiet, false],
    [1001, settings, true],
  ])('of %s ms beside one of 100 ms, whatever is remembered', (rttMeanMs, law, isSlow) => {
    const decision = adapt(stateOf(30_000, { rtt }), inputOf({ rttMeanMs, elapsedMs: 1 }), law)
    expect([decision.isSlow, decision.slowness]).toEqual([isSlow, 1])
  })
})

describe('switches', () => {
  const failing = stateOf(30_000, { failureRatio: 1 })
  const slow = stateOf(30_000, { rtt: { shortMs: 900, baselineMs: 100 } })

  it('adaptive off: the interval is what was configured, to the millisecond, and says so', () => {
    const fixed = { ...settings, adaptive: false, initialMs: 60_000 }
    const decision = adapt(newInterval(fixed), still({ misses: 3, load: fullLoad }), fixed)
    expect(decision.intervalMs).toBe(60_000)
    expect(decision.suspicion).toBe(1)
    expect(decision.why()).toMatch(/^60 s: fixed, adaptive heartbeats are off/)
    const delays = [0, 0.3, 1].map((random) => nextDelayMs({ intervalMs: 60_000, isConfirming: false, random }, fixed))
    expect(delays).toEqual([60_000, 60_000, 60_000])
  })

  it('error-based off: failures raise suspicion, but do not shorten', () => {
    const off = { ...settings, errorBased: false }
    const decision = adapt(failing, still({ misses: 3, hardFailure: true }), off)
    expect([decision.intervalMs, decision.suspicion, decision.inputs.S]).toEqual([30_000, 1, 0])
    expect(adapt(slow, still(), off).intervalMs).toBe(15_000)
  })

  it('load-based off: neither slow answers nor our own load count', () => {
    const off = { ...settings, loadBased: false }
    const decision = adapt(slow, still({ load: fullLoad }), off)
    expect([decision.intervalMs, decision.slowness, decision.inputs.S]).toEqual([30_000, 1, 0])
    expect(adapt(failing, still({ misses: 1, load: fullLoad }), off).intervalMs).toBe(5000)
  })

  it('an interval outside of new bounds is brought back by the next decision', () => {
    expect(adapt(stateOf(30_000), still(), { ...settings, maxMs: 20_000 }).intervalMs).toBe(20_000)
    expect(adapt(stateOf(NaN), still(), { ...settings }).intervalMs).toBe(12_500)
  })
})

describe('other settings', () => {
  it.each([
    ['bounds that hold it leave the interval alone', { minMs: 6000 }, {}, 12_000],
    ['bounds that do not move it as far as they must', { maxMs: 8000 }, {}, 8000],
    ['adaptation off: the configured interval at once', { adaptive: false }, {}, 10_000],
    ['another fixed interval at once', { adaptive: false, initialMs: 20_000 }, { adaptive: false }, 20_000],
    ['adaptation on begins where it is told to', { initialMs: 20_000 }, { adaptive: false }, 20_000],
  ])('%s', (_rule, after, before, intervalMs) => {
    const state = stateOf(12_000)
    const from = { ...settings, initialMs: 10_000 }
    const decision = retune(state, { ...from, ...before }, { ...from, ...after })
    expect(decision.intervalMs).toBe(intervalMs)
    expect(decision.state).toEqual({ ...state, intervalMs, goods: 0 })
    expect(decision.why()).toMatch(/^\d+ s: the configuration changed$/)
  })
})

describe('doubt', () => {
  const recent = { elapsedMs: 10_000, rttMeanMs: undefined }
  it.each<[string, Partial<IntervalState>, Partial<IntervalInput>, string | undefined]>([
    ['calm', {}, {}, undefined],
    ['too little to act on', { failureRatio: 0.04 }, {}, undefined],
    ['slow', { rtt: { shortMs: 60, baselineMs: 1.4 } }, {}, 'answers take 60 ms, 43× their baseline of 1.4 ms'],
    [
      'slower than is allowed',
      { rtt: { shortMs: 1001, baselineMs: 1000 } },
      {},
      'answers take 1001 ms, 1.0× their baseline of 1000 ms, above the 1000 ms of response_time_threshold_ms',
    ],
    [
      'failures of old',
      { failureRatio: 0.2 },
      {},
      '20 % of recent heartbeats and requests failed, above the 5 % of error_rate_threshold_percent',
    ],
    [
      'failures of now',
      { failureRatio: 0.5 },
      { diff: { ...recent, heartbeats: 8, failures: 7 } },
      '7 of the last 8 heartbeats and requests failed, 61 % of the recent ones, above the 5 % of error_rate_threshold_percent',
    ],
    [
      'both',
      { failureRatio: 0.2, rtt: { shortMs: 900, baselineMs: 100 } },
      { diff: { ...recent, heartbeats: 1, failures: 1 } },
      'the last heartbeat or request failed, 43 % of the recent ones, above the 5 % of error_rate_threshold_percent; ' +
        'answers take 900 ms, 9.0× their baseline of 100 ms',
    ],
    ['nothing read yet', {}, { misses: 1 }, 'a heartbeat or request has just failed'],
  ])('%s', (_, rest, input, expected) => {
    expect(adapt(stateOf(30_000, rest), still(input), settings).doubt).toBe(expected)
  })
})

describe('why', () => {
  const slow = { rtt: { shortMs: 900, baselineMs: 100 } }
  it.each([
    [
      'calm',
      30_000,
      {},
      still(),
      '30 s: calm (no recent failures, answers at 1.0× their baseline of 2 ms, own load 0 %)',
    ],
    ['recovering', 10_000, {}, still(), '12.5 s: calm, lengthening towards 30 s (no recent failures,'],
    ['waiting', 10_000, { goods: 0 }, still(), '10 s: calm, lengthening after 2 more good probes ('],
    ['a miss', 30_000, {}, still({ misses: 1 }), '5 s: 1 miss in a row ('],
    ['gone', 30_000, {}, still({ hardFailure: true }), '5 s: the upstream is gone ('],
    [
      'slow',
      30_000,
      slow,
      still(),
      '15 s: suspicion 1.00, shortening towards 5 s (no recent failures, answers at 9.0×',
    ],
    ['slow at the shortest', 5000, slow, still(), '5 s: suspicion 1.00 ('],
    ['loaded', 5000, slow, still({ load: fullLoad }), '12.2 s: suspicion 1.00 (no recent failures, answers at 9.0×'],
    [
      'in between',
      30_000,
      { failureRatio: 0.04 },
      still(),
      '30 s: suspicion 0.11, too little to act on (4 % of recent heartbeats and requests failed, answers',
    ],
    [
      'more failures than are allowed',
      30_000,
      { failureRatio: 0.06 },
      still(),
      '(6 % of recent heartbeats and requests failed, above the 5 % of error_rate_threshold_percent, answers',
    ],
    [
      'slower than is allowed',
      30_000,
      { rtt: { shortMs: 1001, baselineMs: 1000 } },
      still(),
      'answers at 1.0× their baseline of 1000 ms, above the 1000 ms of response_time_threshold_ms, own load',
    ],
    [
      'unmeasured',
      10_000,
      { rtt: undefined },
      still(),
      '12.5 s: calm, lengthening towards 30 s (no recent failures, no answer',
    ],
  ])('%s', (_, fromMs, rest, input, expected) => {
    const frozen = { ...input, diff: { ...input.diff, heartbeats: 0, rttMeanMs: undefined } }
    expect(adapt(stateOf(fromMs, rest), frozen, settings).why()).toContain(expected)
  })

  it.each([
    ['one that wants credentials', {}, { trouble: 'needs_auth' }, {}, '30 s: needs_auth (no recent failures,'],
    [
      'one that is down, and nothing follows from that',
      { failureRatio: 0.34, goods: 0 },
      { trouble: 'down', misses: 13 },
      { errorBased: false },
      '30 s: down, 13 misses in a row with error_based_adjustment off (34 % of recent heartbeats and requests failed,',
    ],
    [
      'failures from which nothing follows',
      { failureRatio: 0.34 },
      {},
      { errorBased: false },
      '30 s: failures with error_based_adjustment off (34 % of',
    ],
    [
      'slow answers from which nothing follows',
      slow,
      {},
      { loadBased: false },
      '30 s: slow answers with load_based_adjustment off (no recent failures, answers at 9.0×',
    ],
  ])('never calls calm: %s', (_, rest, input, switches, expected) => {
    const diff = { heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 }
    const decision = adapt(stateOf(30_000, rest), { ...still(input), diff }, { ...settings, ...switches })
    expect(decision.why()).toContain(expected)
  })

  it('stands before the first heartbeat, too', () => {
    const first = firstDecision(settings)
    expect(first).toMatchObject({ intervalMs: 10_000, suspicion: 0 })
    expect(first.why()).toBe('10 s: no heartbeat yet')
  })
})

const weird = fc.oneof(fc.double(), fc.constantFrom(NaN, Infinity, -Infinity, -1, 0, 1e308))
const load = fc.record({ loopDelayP99Ms: weird, loopUtilisation: weird, probeBacklog: weird })
const diff = fc.record({
  heartbeats: weird,
  failures: weird,
  rttMeanMs: fc.option(weird, { nil: undefined }),
  elapsedMs: weird,
})
const anything = fc.record({ diff, misses: fc.oneof(weird, fc.nat(5)), hardFailure: fc.boolean(), load })
const plausibleState = fc.record({
  intervalMs: fc.double({ min: 5000, max: 30_000, noNaN: true }),
  failureRatio: fc.double({ min: 0, max: 1, noNaN: true }),
  rtt: fc.record({
    shortMs: fc.double({ min: 0, max: 5000, noNaN: true }),
    baselineMs: fc.double({ min: 0, max: 5000, noNaN: true }),
  }),
  goods: fc.nat(6),
})
const L = fc.double({ min: 0, max: 1, noNaN: true })
const loaded = (share: number) => ({ ...noLoad, loopDelayP99Ms: 50 + 200 * share })
const frozen = (share: number, misses = 0): IntervalInput => ({
  diff: { heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 },
  misses,
  hardFailure: false,
  load: loaded(share),
})

describe('the law', () => {
  it('is bounded for any input, and never forgets how to count', () => {
    fc.assert(
      fc.property(fc.array(anything, { maxLength: 12 }), weird, (inputs, random) => {
        let state = newInterval(settings)
        for (const input of inputs) {
          const decision = adapt(state, input, settings)
          state = decision.state
          for (const ms of [
            decision.intervalMs,
            nextDelayMs({ intervalMs: decision.intervalMs, isConfirming: false, random }, settings),
          ]) {
            expect(ms >= settings.minMs && ms <= settings.maxMs).toBe(true)
          }
          expect(decision.suspicion >= 0 && decision.suspicion <= 1).toBe(true)
          expect(decision.slowness >= 0 && decision.slowness <= 1).toBe(true)
          expect(state.failureRatio >= 0 && state.failureRatio <= 1).toBe(true)
          expect(decision.why()).not.toMatch(/NaN|undefined/)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('is monotone: from any state, more suspicion never lengthens', () => {
    fc.assert(
      fc.property(plausibleState, L, L, L, fc.boolean(), (state, share, one, other, missed) => {
        const [less, more] = [Math.min(one, other), Math.max(one, other)]
        const calmer = adapt({ ...state, failureRatio: less }, frozen(share), settings)
        const worse = adapt({ ...state, failureRatio: more }, frozen(share, missed ? 1 : 0), settings)
        expect(worse.suspicion).toBeGreaterThanOrEqual(calmer.suspicion)
        expect(worse.intervalMs).toBeLessThanOrEqual(calmer.intervalMs + 1e-9)
      }),
      { numRuns: 500 },
    )
  })

  it('is monotone: from any state, more own load never shortens', () => {
    fc.assert(
      fc.property(plausibleState, L, L, fc.nat(1), (state, one, other, misses) => {
        const light = adapt(state, frozen(Math.min(one, other), misses), settings)
        const heavy = adapt(state, frozen(Math.max(one, other), misses), settings)
        expect(heavy.intervalMs).toBeGreaterThanOrEqual(light.intervalMs - 1e-9)
      }),
      { numRuns: 500 },
    )
  })

  it('never overshoots: a step ends between where it began and the target', () => {
    fc.assert(
      fc.property(plausibleState, L, fc.nat(1), (state, share, misses) => {
        const { intervalMs, inputs } = adapt(state, frozen(share, misses), settings)
        const low = Math.min(state.intervalMs, inputs.targetMs)
        const high = Math.max(state.intervalMs, inputs.targetMs)
        expect(intervalMs >= low - 1e-9 && intervalMs <= high + 1e-9).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  it('settles within three steps down, and in one on a hard failure', () => {
    fc.assert(
      fc.property(plausibleState, L, fc.boolean(), (start, share, hard) => {
        const state = { ...start, failureRatio: hard ? start.failureRatio : Math.max(start.failureRatio, 0.08) }
        let [settled, steps] = [state.intervalMs, 0]
        for (let current: IntervalState = state; steps < 9; steps++) {
          const decision = adapt(current, frozen(share, hard ? 1 : 0), settings)
          if (decision.intervalMs === settled) break
          settled = decision.intervalMs
          current = decision.state
        }
        expect(steps).toBeLessThanOrEqual(hard ? 1 : 3)
      }),
      { numRuns: 500 },
    )
  })

  it('climbs from the shortest interval to the longest in twelve good probes, whatever the bounds', () => {
    const bounds = fc.record({
      minMs: fc.integer({ min: 500, max: 10_000 }),
      maxMs: fc.integer({ min: 10_000, max: 900_000 }),
    })
    fc.assert(
      fc.property(bounds, ({ minMs, maxMs }) => {
        const own = { ...settings, minMs, maxMs }
        let state = stateOf(minMs, { goods: 0 })
        for (let probe = 0; probe < 12; probe++) state = adapt(state, inputOf(), own).state
        expect(state.intervalMs).toBeCloseTo(maxMs, 6)
      }),
    )
    let state = stateOf(5000, { goods: 0 })
    for (let probe = 0; probe < 11; probe++) state = adapt(state, inputOf(), settings).state
    expect(state.intervalMs).toBe(27_500)
  })

  it.each([
    [2000, 42_000],
    [5000, 45_000],
  ])('detects an outage from calm within its bound, at a time-out of %d ms within %d ms', (timeoutMs, boundMs) => {
    const jitters = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3, maxLength: 3 })
    const detectionMs = (randoms: readonly number[]) => {
      // The worst moment: just after a probe began that was still answered.
      const first = { intervalMs: 30_000, isConfirming: false, random: randoms[0] ?? 0 }
      let [startMs, state, verdictMs] = [nextDelayMs(first, settings), stateOf(30_000), 0]
      for (let misses = 1; misses <= heartbeat.missesToDown; misses++) {
        verdictMs = startMs + timeoutMs
        const { intervalMs, state: next } = adapt(state, inputOf({ heartbeats: 0 }, { misses }), settings)
        state = next
        startMs = Math.max(
          verdictMs,
          startMs + nextDelayMs({ intervalMs, isConfirming: true, random: randoms[misses] ?? 0 }, settings),
        )
      }
      return verdictMs
    }
    fc.assert(
      fc.property(jitters, (randoms) => {
        expect(detectionMs(randoms)).toBeLessThanOrEqual(boundMs)
      }),
    )
    expect(detectionMs([0.5, 1, 1])).toBe(boundMs)
  })
})

describe('nextDelayMs', () => {
  it.each([
    [10_000, 0, 9000],
    [10_000, 0.5, 10_000],
    [10_000, 1, 11_000],
    [5000, 0, 5500],
    [30_000, 0.5, 30_000],
    [30_000, 1, 27_000],
    [29_000, 1, 28_100],
    [10_000, NaN, 10_000],
    [10_000, 7, 11_000],
    [NaN, 0.5, 10_000],
  ])('of %d ms with random %d is %d ms', (intervalMs, random, expected) => {
    expect(nextDelayMs({ intervalMs, isConfirming: false, random }, settings)).toBeCloseTo(expected, 9)
  })
})

it('asks again to the millisecond what missed, whatever is drawn', () => {
  for (const random of [0, 0.5, 1, NaN]) {
    expect(nextDelayMs({ intervalMs: 5000, isConfirming: true, random }, settings)).toBe(5000)
  }
})

it('spreads calm probes evenly over the last tenth of the longest interval', () => {
  const randoms = Array.from({ length: 1000 }, (_, at) => at / 1000)
  const delays = randoms.map((random) => nextDelayMs({ intervalMs: 30_000, isConfirming: false, random }, settings))
  const tenths = Array.from({ length: 10 }, (_, at) => {
    const fromMs = 27_000 + at * 300
    return delays.filter((delayMs) => delayMs >= fromMs && delayMs < fromMs + 300).length
  })
  expect(Math.min(...tenths)).toBeGreaterThanOrEqual(98)
})

describe('firstOffsetMs', () => {
  it('is stable: the same on every start, and another for each upstream and instance', () => {
    expect(firstOffsetMs('files', 'a', 10_000)).toBe(firstOffsetMs('files', 'a', 10_000))
    expect(firstOffsetMs('files', 'a', 10_000)).not.toBe(firstOffsetMs('files', 'b', 10_000))
    expect(firstOffsetMs('ab', 'c', 10_000)).not.toBe(firstOffsetMs('a', 'bc', 10_000))
  })

  it('lies within the interval', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), weird, (upstream, instance, intervalMs) => {
        const offsetMs = firstOffsetMs(upstream, instance, intervalMs)
        expect(offsetMs === 0 || (offsetMs > 0 && offsetMs < intervalMs)).toBe(true)
      }),
    )
  })

  it('spreads a fleet: no tenth of the interval holds twice its share of 1,000 upstreams', () => {
    const tenths = Array.from({ length: 10 }, () => 0)
    for (let at = 0; at < 1000; at++) {
      const tenth = Math.floor(firstOffsetMs(`server-${at}`, 'replica-1', 10_000) / 1000)
      tenths[tenth] = (tenths[tenth] ?? 0) + 1
    }
    expect(Math.min(...tenths)).toBeGreaterThan(50)
    expect(Math.max(...tenths)).toBeLessThan(200)
  })
})
