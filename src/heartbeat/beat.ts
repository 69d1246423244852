import { type Clock, type Timer, giveUpAfter } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { errorMessage } from '../errors.ts'
import { isAnswered, isFailure, outcomeOf, wasAsked } from './classify.ts'
import type { ProbeResult, ProbeRun } from './probe.ts'
import { type StallWatch, answerMs, endWatch, look, stalledBy } from './stall.ts'
import type { Evidence } from './verdict.ts'

/** One heartbeat under way. */
export interface Beat {
  readonly startedMs: number
  readonly startedAtWallMs: number
  readonly timeoutMs: number
  /** What the server takes to answer while it is well, as far as that is known. */
  readonly usualMs: number | undefined
  /** An answer after its time-out is waited for until then. */
  readonly deadlineMs: number
  /** The checks that were started, and the processes that needed none. */
  readonly runs: readonly ProbeRun[]
  readonly alive: number
  readonly settled: ProbeResult[]
  /** Checks that were not answered in time because their processes are at work: why, by session. */
  readonly busy: Map<string | undefined, string>
  isTimeUp: boolean
  /** How long our own event loop stood still meanwhile. */
  stalls: StallWatch
}

/** A prober that has not even noticed its own deadline by then never will. */
const proberGraceMs = 1000

/** Whether the one result of this heartbeat speaks for the whole upstream. */
export function isAlone({ runs, alive }: Beat): boolean {
  return runs.length + alive === 1
}

/** The checks that are not over. */
export function unanswered({ runs, settled }: Beat): readonly ProbeRun[] {
  const over = new Set(settled.map(({ session }) => session))
  return runs.filter(({ session }) => !over.has(session))
}

/** How many messages came in place of answers that are no JSON-RPC. */
export function noiseOf(runs: readonly ProbeRun[]): number {
  return runs.reduce((sum, { noise }) => sum + (noise?.() ?? 0), 0)
}

/**
 * Waits until all checks are over, at most until the time is up, and notes which of the two it was, and how long our own
 * event loop stood still meanwhile. `signal` ends the wait. Timers and no abort
 * controller of its own: those cost more than all the rest of a heartbeat.
 */
export function waitFor(all: Promise<unknown>, beat: Beat, clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let isOver = false
    let timer: Timer | undefined
    const end = (isDone: boolean) => {
      isOver = true
      timer?.cancel()
      signal.removeEventListener('abort', leave)
      beat.isTimeUp = !isDone
      beat.stalls = endWatch(beat.stalls, clock.now())
      resolve()
    }
    const leave = () => end(false)
    const watch = () => {
      if (signal.aborted || clock.now() >= beat.stalls.untilMs) return leave()
      beat.stalls = look(beat.stalls, clock.now())
      // Rounded up: a timer that fires too early would only have to be set again.
      timer = clock.after(Math.ceil(beat.stalls.nextLookMs - clock.now()), watch)
    }
    signal.addEventListener('abort', leave)
    watch()
    // What comes, or goes wrong, after the time-out changes nothing any more.
    all.then(
      () => isOver || end(true),
      (error: unknown) => {
        reject(error)
        if (!isOver) end(true)
      },
    )
  })
}

/** The result of one check, whatever the prober does: one that fails or never ends must not stop the heartbeat. */
export function settle(run: ProbeRun, beat: Beat, clock: Clock, signal: AbortSignal): Promise<ProbeResult> {
  const { leg, method, session, done } = run
  const ended = (outcome: ProbeResult['outcome'], reason: string): ProbeResult => ({
    leg,
    method,
    session,
    outcome,
    reason,
    durationMs: clock.now() - beat.startedMs,
  })
  return new Promise((resolve) => {
    const guard = giveUpAfter(clock, beat.deadlineMs + proberGraceMs, () =>
      resolve(ended('timeout', 'the probe never ended')),
    )
    const dismiss = () => guard.cancel()
    signal.addEventListener('abort', dismiss)
    void done
      .catch((error: unknown) => ended(outcomeOf(error), errorMessage(error)))
      .then(resolve)
      .finally(() => {
        dismiss()
        signal.removeEventListener('abort', dismiss)
      })
  })
}

/** Our own event loop stood still for so long that a time-out proves nothing (Lifeguard, §III-A). */
export function wasStalled({ isTimeUp, stalls, timeoutMs }: Beat): boolean {
  return isTimeUp && stalls.stalledMs > timeoutMs * defaults.heartbeat.stallRatio
}

/**
 * What comes after the time-out is late when it is a sign of life, and else no more than the time-out; unless our own
 * event loop stood still, which is then what was late. An answer to a heartbeat that came to nothing because of that may
 * have been there at any time: other stalls may have followed unseen.
 */
export function judgeTime(result: ProbeResult, beat: Beat, nowMs: number): ProbeResult {
  const { timeoutMs, isTimeUp, busy, stalls, runs } = beat
  const { outcome, reason } = result
  if (isAnswered(outcome)) {
    // What was not asked cannot be late.
    if (!wasAsked(result.method)) return result
    const ownMs = wasStalled(beat) ? result.durationMs : stalledBy(stalls, nowMs)
    const leastMs = Math.max(0, result.durationMs - ownMs)
    const timely = { ...result, durationMs: answerMs(result.durationMs, ownMs, beat.usualMs) }
    const isLate = leastMs > timeoutMs || (isTimeUp && ownMs === 0)
    if (outcome !== 'ok' || !isLate || wasStalled(beat)) return timely
    return { ...timely, outcome: 'late', reason: `${reason}, after its time-out of ${Math.round(timeoutMs)} ms` }
  }
  if (!isTimeUp || outcome === 'unauthorized') return result
  const work = busy.get(result.session)
  if (work !== undefined) return { ...result, outcome: 'inconclusive', reason: work }
  if (wasStalled(beat)) return { ...result, outcome: 'inconclusive', reason: 'our own event loop stood still' }
  const noise = noiseOf(runs.filter(({ session }) => session === result.session))
  return { ...result, outcome: noise > 0 ? 'invalid' : 'timeout', reason: silence(timeoutMs, noise) }
}

/** What the checks say together once the time is up, or all are over: some hang, all do, or none; or nothing at all. */
export function evidenceOfChecks(beat: Beat): Evidence {
  const { runs, alive, settled, busy, timeoutMs, startedMs, isTimeUp } = beat
  const failing = runs.length - busy.size - settled.filter(({ outcome }) => !isFailure(outcome)).length
  const answering = alive + settled.filter(({ outcome }) => isAnswered(outcome)).length
  const living = answering + busy.size
  if (failing > 0 && living > 0) {
    const reason = `${failing} of ${failing + living} processes do not answer`
    return { kind: 'sessions', hung: failing, alive: living, reason }
  }
  if (failing > 0) {
    const noise = noiseOf(unanswered(beat))
    const said = silence(timeoutMs, noise)
    const reason = runs.length === 1 ? said : `all ${runs.length} processes: ${said}`
    return { kind: isTimeUp && noise === 0 ? 'silent' : 'missed', atMs: startedMs, reason }
  }
  const [work] = busy.values()
  if (answering === 0 && work !== undefined) return { kind: 'busy', reason: work }
  if (answering > 0) return { kind: 'answered', by: 'probe', reason: `${answering} processes answered` }
  return { kind: 'inconclusive', reason: settled[0]?.reason ?? 'no check told anything' }
}

/** Whoever says something is not silent, but no answer is no answer. */
function silence(timeoutMs: number, noise: number): string {
  const none = `no answer within ${Math.round(timeoutMs)} ms`
  if (noise === 0) return none
  return `${none}, but ${noise === 1 ? 'a message that is' : `${noise} messages that are`} no JSON-RPC`
}
