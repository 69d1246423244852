import type { Clock, Timer } from '../clock.ts'

/** How often it is noticed that we run, and how late that has to be noticed to count. */
const lookMs = 500
const lateMs = 500

/**
 * Counts how often our event loop stood still: for a second or more always, for less than half of one never. A machine
 * that slept, a process that was stopped, a long computation: whatever counts time in ticks has missed it.
 */
export class Standstills {
  readonly #clock: Clock
  #count = 0
  #dueMs: number
  #timer: Timer

  constructor(clock: Clock) {
    this.#clock = clock
    this.#dueMs = clock.now() + lookMs
    this.#timer = this.#lookLater()
  }

  /** Up to date even where nothing but the caller has run since. */
  count(): number {
    if (this.#clock.now() - this.#dueMs >= lateMs) {
      this.#count += 1
      this.#dueMs = this.#clock.now() + lookMs
    }
    return this.#count
  }

  stop(): void {
    this.#timer.cancel()
  }

  #lookLater(): Timer {
    return this.#clock.after(lookMs, () => {
      this.count()
      this.#dueMs = this.#clock.now() + lookMs
      this.#timer = this.#lookLater()
    })
  }
}
