/** A timer that has not fired yet. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void
}

/** The only source of time. Everything that waits or measures takes one, so that tests run in virtual time. */
export interface Clock {
  /** Monotonic milliseconds with a fractional part; only differences mean anything. */
  now(): number
  /** Milliseconds since the Unix epoch; for what people and Prometheus read, never for differences. */
  wallTime(): number
  /** Runs `run` once after `delayMs`. The timer keeps the process alive. */
  after(delayMs: number, run: () => void): Timer
}

/** The longest delay that Node's timers take; longer ones would fire at once. */
const longestDelayMs = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => performance.now(),
  wallTime: () => Date.now(),
  after: (delayMs, run) => {
    const handle = setTimeout(run, Math.min(Math.max(0, delayMs), longestDelayMs))
    return { cancel: () => clearTimeout(handle) }
  },
}

/** A timer that is so late tells of an event loop that stood still. */
const stoodStillMs = 100
/** How long what arrived meanwhile may take to be read. */
const readingMs = 500

/**
 * For giving up on an answer: runs `run` after `delayMs`. Where our event loop stood still, an overdue timer fires
 * before anything is read that arrived meanwhile, so then it leaves a moment for that.
 */
export function giveUpAfter(clock: Clock, delayMs: number, run: () => void): Timer {
  const dueMs = clock.now() + delayMs
  let timer = clock.after(delayMs, () => {
    if (clock.now() - dueMs < stoodStillMs) run()
    else timer = clock.after(readingMs, run)
  })
  return { cancel: () => timer.cancel() }
}

/** Resolves after `delayMs`, or at once when `signal` aborts; it never rejects. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const finish = () => {
      timer.cancel()
      signal?.removeEventListener('abort', finish)
      resolve()
    }
    const timer = clock.after(delayMs, finish)
    signal?.addEventListener('abort', finish)
  })
}
