import type { Clock, Timer } from '../clock.ts'

/**
 * What is known of how long our own event loop stood still since a moment. Plain data.
 *
 * While it stands still nothing that arrives is read, so that a server seems to be slower than it is. A timer shows it:
 * it is as late as the loop stood still after it was due. So somebody has to look again and again, when `nextLookMs`
 * comes, and the more often the shorter the time that is measured.
 */
export interface StallWatch {
  readonly sinceMs: number
  /** When the time is up, which is the last look. */
  readonly untilMs: number
  /** When to look again; `Infinity` once it is over. */
  readonly nextLookMs: number
  /** As far as it was noticed up to the last look. */
  readonly stalledMs: number
}

/** Shorter than what makes an answer noticeably slower (`defaults.suspicion.noticeableMs`). */
const firstLookMs = 35
/** Afterwards looks come after this share of the time that has passed, and of the whole at most. */
const lookShare = 1 / 2
const longestLookShare = 1 / 8
/** A timer may be this late in any case. */
const unremarkableMs = 10

export function watchStalls(nowMs: number, untilMs: number): StallWatch {
  return { sinceMs: nowMs, untilMs, nextLookMs: Math.min(untilMs, nowMs + firstLookMs), stalledMs: 0 }
}

/**
 * For how long the loop stood still until now, as far as anybody can tell: of each time at most half of what had passed
 * before it (35 ms, if that is more), and 10 ms, goes unnoticed. That alone makes no server suspect.
 */
export function stalledBy({ stalledMs, nextLookMs }: StallWatch, nowMs: number): number {
  const lateMs = nowMs - nextLookMs
  return lateMs > unremarkableMs ? stalledMs + lateMs : stalledMs
}

/** Looks, before the time is up; does nothing where it is too early to. */
export function look(watch: StallWatch, nowMs: number): StallWatch {
  const { sinceMs, untilMs, nextLookMs } = watch
  if (nowMs < nextLookMs) return watch
  const stepMs = Math.min((nowMs - sinceMs) * lookShare, (untilMs - sinceMs) * longestLookShare)
  return {
    sinceMs,
    untilMs,
    nextLookMs: Math.min(untilMs, nowMs + Math.max(firstLookMs, stepMs)),
    stalledMs: stalledBy(watch, nowMs),
  }
}

/** Follows how long the loop stands still from now on; `end` says it, however late anybody asks. */
export function followStalls(clock: Clock, forMs: number): { end(): number } {
  let stalls = watchStalls(clock.now(), clock.now() + forMs)
  let timer: Timer | undefined
  const watch = () => {
    stalls = look(stalls, clock.now())
    const isOver = stalls.nextLookMs >= stalls.untilMs
    // Rounded up: a timer that fires too early would only have to be set again.
    if (!isOver) timer = clock.after(Math.ceil(stalls.nextLookMs - clock.now()), watch)
  }
  watch()
  return {
    end: () => {
      timer?.cancel()
      return endWatch(stalls, clock.now()).stalledMs
    },
  }
}

/**
 * What an answer took that came after so long, while our own event loop stood still for part of it. How much that added
 * nobody knows: all of it where the answer was there before, nothing where it came after. Of what is possible the usual
 * is taken, so that our own stalls neither make a server seem slow nor set a baseline beside which its next answers do.
 */
export function answerMs(tookMs: number, stalledMs: number, usualMs: number | undefined): number {
  return Math.min(tookMs, Math.max(tookMs - stalledMs, usualMs ?? tookMs, 0))
}

/** Looks for the last time: what comes later does not count. */
export function endWatch(watch: StallWatch, nowMs: number): StallWatch {
  return { ...watch, nextLookMs: Infinity, stalledMs: stalledBy(watch, nowMs) }
}
