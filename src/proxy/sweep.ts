import type { Clock, Timer } from '../clock.ts'

/** Something that looks at the time now and then. */
export interface Swept {
  sweep(nowMs: number): void
}

const everyMs = 1000

/**
 * One timer for everything that waits: a request costs an entry in a set, not a timer of its own. Deadlines are
 * therefore met up to a second late, which is little beside the tens of seconds that they last.
 */
export class Sweep {
  readonly #clock: Clock
  readonly #entries = new Set<Swept>()
  #timer: Timer | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(entry: Swept): void {
    this.#entries.add(entry)
    this.#timer ??= this.#clock.after(everyMs, () => this.#run())
  }

  delete(entry: Swept): void {
    this.#entries.delete(entry)
  }

  stop(): void {
    this.#entries.clear()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #run(): void {
    this.#timer = undefined
    if (this.#entries.size === 0) return
    this.#timer = this.#clock.after(everyMs, () => this.#run())
    const nowMs = this.#clock.now()
    // An entry may delete itself; a Set allows that while it is walked.
    for (const entry of this.#entries) entry.sweep(nowMs)
  }
}
