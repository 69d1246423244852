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
