import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import type { ExitReason } from '../../src/upstreams/process.ts'
import type { RestartPolicy, RestartReason } from '../../src/upstreams/upstream.ts'
import {
  afterFirstWord,
  afterGone,
  afterReady,
  backoffMs,
  delayOf,
  freshRestartState,
  isFailing,
  restartReason,
  type Gone,
  type RestartState,
} from '../../src/upstreams/restart.ts'

const law = defaults.supervision
const crash: Gone = { kind: 'exited', exit: { kind: 'exit', code: 1 } }
const spawnFailed = (code: string): ExitReason => ({ kind: 'spawn_failed', code, message: 'why' })

describe('delays', () => {
  it.each([
    [0, 0],
    [1, 1000],
    [2, 2000],
    [3, 4000],
    [6, 32_000],
    [7, 60_000],
    [5000, 60_000],
  ])('after %i restarts in a row the full delay is %i ms', (restarts, delayMs) => {
    expect(backoffMs(restarts)).toBe(delayMs)
  })

  it('draws the jitter from the upper half of the full delay', () => {
    const third: RestartState = { ...freshRestartState, restarts: 2 }
    const delay = (random: number) => afterGone(third, { gone: crash, nowMs: 0, random }).decision
    expect(delay(0)).toMatchObject({ kind: 'restart', delayMs: 1000 })
    expect(delay(0.5)).toMatchObject({ kind: 'restart', delayMs: 1500 })
    expect(delay(0.999)).toMatchObject({ kind: 'restart', delayMs: 1999 })
  })
})

describe('memory', () => {
  const worn: RestartState = { ...freshRestartState, restarts: 5, failedStarts: 4 }

  it('forgets the past after 120 s ready, and no sooner', () => {
    const ready = afterReady(worn, 1000)
    const late = afterGone(ready, { gone: crash, nowMs: 121_000, random: 0 })
    const soon = afterGone(ready, { gone: crash, nowMs: 120_999, random: 0 })
    expect(late.decision).toMatchObject({ kind: 'restart', delayMs: 0 })
    expect(soon.decision).toMatchObject({ kind: 'restart', delayMs: 8000 })
  })

  it('counts failed starts in a row only: one that became ready ends the row', () => {
    expect(afterReady(worn, 0)).toMatchObject({ failedStarts: 0, restarts: 5 })
  })

  it.each([
    ['a resident process is ready', (state: RestartState) => afterReady(state, 0)],
    ['one for a session says its first word', afterFirstWord],
  ])('forgives failed starts for sessions, and no others, when %s', (_what, succeeds) => {
    const fail = (state: RestartState, isBeside: boolean) =>
      afterGone(state, { gone: crash, nowMs: 0, random: 0, isBeside }).state
    const failing = [true, false, true].reduce(fail, { ...freshRestartState, restarts: 2 })
    expect(failing).toMatchObject({ restarts: 5, failedStarts: 3 })
    expect(isFailing(failing)).toBe(true)
    const forgiven = succeeds(failing)
    expect(forgiven).toMatchObject({ restarts: 3, failedStarts: 0 })
    expect(isFailing(forgiven)).toBe(false)
    expect(afterFirstWord(forgiven).restarts).toBe(3)
  })

  it('refuses sessions from the third failed start in a row on', () => {
    expect([0, 1, 2, 3, 4].map((failedStarts) => isFailing({ ...freshRestartState, failedStarts }))).toEqual([
      false,
      false,
      false,
      true,
      true,
    ])
  })

  it.each(['manual', 'config'] as const)('starts at once and afresh when somebody asked for it (%s)', (reason) => {
    const { state, decision } = afterGone(worn, { gone: { kind: 'replaced', reason }, nowMs: 0, random: 0.5 })
    expect(state).toEqual(freshRestartState)
    expect(decision).toMatchObject({ kind: 'restart', delayMs: 0 })
  })

  it.each(['hung', 'memory'] as const)('backs off when we had to stop it (%s)', (reason) => {
    const ready = afterReady(worn, 0)
    const { decision } = afterGone(ready, { gone: { kind: 'replaced', reason }, nowMs: 50_000, random: 0 })
    expect(decision).toMatchObject({ kind: 'restart', delayMs: 8000 })
  })
})

describe('the policy', () => {
  const good: Gone = { kind: 'exited', exit: { kind: 'exit', code: 0 } }
  const killed: Gone = { kind: 'exited', exit: { kind: 'signal', signal: 'SIGKILL' } }
  const late: Gone = { kind: 'not_ready', afterMs: 60_000 }
  const replaced = (reason: RestartReason): Gone => ({ kind: 'replaced', reason })
  const rest = { kind: 'rest', isFailure: false }
  const down = { kind: 'rest', isFailure: true }
  const again = { kind: 'restart' }

  it.each<[string, Gone, object, object, object]>([
    // What happened                    always  on_failure  never
    ['exit 0', good, again, rest, down],
    ['exit 1', crash, again, again, down],
    ['SIGKILL', killed, again, again, down],
    ['not ready in time', late, again, again, down],
    ['hung', replaced('hung'), again, again, down],
    ['too much memory', replaced('memory'), again, again, down],
    ['somebody asked', replaced('manual'), again, again, again],
    ['another configuration', replaced('config'), again, again, again],
  ])('after %s', (_what, gone, always, onFailure, never) => {
    const decide = (policy: RestartPolicy) =>
      afterGone(freshRestartState, { gone, nowMs: 0, random: 0, policy }).decision
    expect(decide('always')).toMatchObject(always)
    expect(decide('on_failure')).toMatchObject(onFailure)
    expect(decide('never')).toMatchObject(never)
  })

  it('says that it is the reason', () => {
    const { decision } = afterGone(freshRestartState, { gone: crash, nowMs: 0, random: 0, policy: 'never' })
    expect(decision.why).toBe('exited with code 1 (restart: never)')
    const hung: Gone = { kind: 'replaced', reason: 'hung' }
    const ended = afterGone(freshRestartState, { gone: hung, nowMs: 0, random: 0, policy: 'never' })
    expect(ended.decision.why).toBe('was stopped (hung) (restart: never)')
    expect(delayOf(decision)).toBe(Infinity)
  })

  it('never rests a process that always has to run', () => {
    fc.assert(
      fc.property(fc.constantFrom(good, crash, killed, late, replaced('hung')), (gone) => {
        expect(afterGone(freshRestartState, { gone, nowMs: 0, random: 0 }).decision.kind).not.toBe('rest')
      }),
    )
  })
})

describe('giving up', () => {
  it.each<[string, ExitReason, string]>([
    ['no such command', spawnFailed('ENOENT'), 'could not be started: ENOENT (why)'],
    ['not allowed', spawnFailed('EACCES'), 'could not be started: EACCES (why)'],
    ['126', { kind: 'exit', code: 126 }, 'exited with code 126 (its command cannot be executed)'],
    ['127', { kind: 'exit', code: 127 }, 'exited with code 127 (its command or interpreter was not found)'],
  ])('at once, when trying again changes nothing: %s', (_name, exit, why) => {
    const { decision } = afterGone(freshRestartState, { gone: { kind: 'exited', exit }, nowMs: 0, random: 0 })
    expect(decision).toEqual({ kind: 'give_up', retryInMs: 600_000, why })
  })

  it.each<[string, ExitReason]>([
    ['no memory or processes left', spawnFailed('EAGAIN')],
    ['too many open files', spawnFailed('EMFILE')],
    ['any other code', { kind: 'exit', code: 1 }],
    ['a clean exit', { kind: 'exit', code: 0 }],
    ['a signal', { kind: 'signal', signal: 'SIGSEGV' }],
  ])('not at once: %s', (_name, exit) => {
    const { decision } = afterGone(freshRestartState, { gone: { kind: 'exited', exit }, nowMs: 0, random: 0 })
    expect(decision.kind).toBe('restart')
  })

  it('not for starts that failed for lack of our own resources, which become rare all the same', () => {
    let state = freshRestartState
    for (let start = 1; start <= 12; start++) {
      const gone: Gone = { kind: 'exited', exit: spawnFailed('EMFILE') }
      const next = afterGone(state, { gone, nowMs: start, random: 1 })
      expect(next.decision).toMatchObject({ kind: 'restart', delayMs: backoffMs(start - 1) })
      state = next.state
    }
    expect(state.failedStarts).toBe(0)
  })

  it('not at the 127 of a server that was ready: it found its command', () => {
    const gone: Gone = { kind: 'exited', exit: { kind: 'exit', code: 127 } }
    const { decision } = afterGone(afterReady(freshRestartState, 0), { gone, nowMs: 5, random: 0 })
    expect(decision.kind).toBe('restart')
  })

  it('after the tenth start in a row that never became ready, and again at each later one', () => {
    let state = freshRestartState
    const decisions: string[] = []
    for (let start = 1; start <= 12; start++) {
      const gone: Gone = start % 2 ? crash : { kind: 'not_ready', afterMs: 60_000 }
      const next = afterGone(state, { gone, nowMs: 0, random: 0 })
      decisions.push(next.decision.kind)
      state = next.state
      if (start === 10) {
        expect(next.decision.why).toBe('was not ready within 60 s; 10 starts never became ready')
      }
    }
    expect(decisions).toEqual([...Array<string>(9).fill('restart'), 'give_up', 'give_up', 'give_up'])
  })

  describe('where another process may answer in its place', () => {
    /** Ten starts, each of which ends like that so long after it was ready. */
    function afterTen(gone: Gone, livedMs: number) {
      let last = afterGone(freshRestartState, { gone, nowMs: 0, random: 0, outliveMs: 5000 })
      for (let start = 2; start <= 10; start++) {
        const state = afterReady(last.state, 0, 5000)
        last = afterGone(state, { gone, nowMs: livedMs, random: 0, outliveMs: 5000 })
      }
      return last.decision
    }

    it('after ten that ended within 5 s of the answer, and no later', () => {
      const why = 'exited with code 1; 10 starts were never ready for 5 s'
      expect(afterTen(crash, 4999)).toMatchObject({ kind: 'give_up', why })
      expect(afterTen(crash, 5000)).toMatchObject({ kind: 'restart' })
    })

    it('not after ten that we ended ourselves', () => {
      expect(afterTen({ kind: 'replaced', reason: 'memory' }, 100)).toMatchObject({ kind: 'restart' })
    })

    it('at once if the command was not found, whoever answered', () => {
      const gone: Gone = { kind: 'exited', exit: { kind: 'exit', code: 127 } }
      const state = afterReady(freshRestartState, 0, 5000)
      expect(afterGone(state, { gone, nowMs: 10, random: 0, outliveMs: 5000 }).decision.kind).toBe('give_up')
    })
  })
})

it.each<[Gone, string]>([
  [crash, 'exit'],
  [{ kind: 'exited', exit: { kind: 'signal', signal: 'SIGKILL' } }, 'signal'],
  [{ kind: 'exited', exit: spawnFailed('EAGAIN') }, 'exit'],
  [{ kind: 'not_ready', afterMs: 60_000 }, 'hung'],
  [{ kind: 'replaced', reason: 'memory' }, 'memory'],
])('%j counts as %s', (gone, reason) => {
  expect(restartReason(gone)).toBe(reason)
})

describe('properties', () => {
  /** Each start runs for `livedMs` and became ready after `readyMs` of them, if it did. */
  const life = fc.record({
    livedMs: fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 400_000 })),
    readyMs: fc.option(fc.integer({ min: 0, max: 60_000 }), { nil: undefined }),
    random: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    gone: fc.constantFrom<Gone>(
      crash,
      { kind: 'exited', exit: { kind: 'signal', signal: 'SIGKILL' } },
      { kind: 'exited', exit: { kind: 'exit', code: 127 } },
      { kind: 'replaced', reason: 'hung' },
      { kind: 'not_ready', afterMs: 60_000 },
    ),
  })

  /** Plays the lives one after the other; gives the time of each start and the decision after it. */
  function play(lives: (typeof life extends fc.Arbitrary<infer Life> ? Life : never)[]) {
    let nowMs = 0
    let state = freshRestartState
    return lives.map(({ livedMs, readyMs, random, gone }) => {
      const startMs = nowMs
      if (readyMs !== undefined && readyMs <= livedMs) state = afterReady(state, startMs + readyMs)
      nowMs += livedMs
      const before = state
      const next = afterGone(state, { gone, nowMs, random })
      state = next.state
      nowMs += delayOf(next.decision)
      return { startMs, before, next }
    })
  }

  it('a delay is 0 or between half of the first and the whole of the longest back-off', () => {
    fc.assert(
      fc.property(fc.array(life, { maxLength: 60 }), (lives) => {
        for (const { next } of play(lives)) {
          if (next.decision.kind !== 'restart') continue
          const { delayMs } = next.decision
          expect(delayMs === 0 || (delayMs >= law.firstBackoffMs / 2 && delayMs <= law.maxBackoffMs)).toBe(true)
        }
      }),
    )
  })

  it('no window of 120 s sees more than 10 starts, whatever the process does', () => {
    // First start and restart at once, then 0.5 1 2 4 8 16 30 30 s at least; forgetting takes 120 s of being ready.
    fc.assert(
      fc.property(fc.array(life, { minLength: 11, maxLength: 80 }), (lives) => {
        const starts = play(lives).map(({ startMs }) => startMs)
        const inWindowFrom = (fromMs: number) => starts.filter((ms) => ms >= fromMs && ms < fromMs + 120_000).length
        expect(Math.max(...starts.map(inWindowFrom))).toBeLessThanOrEqual(10)
      }),
    )
  })

  it('restarts at once only the first time, or after it was ready for 120 s', () => {
    fc.assert(
      fc.property(fc.array(life, { maxLength: 60 }), (lives) => {
        for (const { startMs, before, next } of play(lives)) {
          if (next.decision.kind !== 'restart' || next.decision.delayMs > 0) continue
          expect(before.restarts === 0 || (before.readyAtMs ?? Infinity) >= startMs).toBe(true)
          expect(next.state.restarts).toBe(1)
        }
      }),
    )
  })
})
