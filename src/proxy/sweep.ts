import { type Clock, type Timer, giveUpAfter } from '../clock.ts'

/** Something that looks at the time now and then. */
export interface Swept {
  sweep(nowMs: number): void
  /** Where the sweep keeps it, undefined while it does not. */
  place?: number | undefined
}

const everyMs = 1000

/**
 * One timer for everything that waits: a request costs an entry in a list, not a timer of its own. Deadlines are
 * therefore met up to a second late, which is little beside the tens of seconds that they last; and where our event loop
 * stood still, what arrived meanwhile is read before anything is given up.
 *
 * The list is no Set: V8's leave their outgrown tables chained to the next ones, so once such a table is old, every
 * request since stays in memory until the next full collection.
 */
export class Sweep {
  readonly #clock: Clock
  readonly #entries: Swept[] = []
  #timer: Timer | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(entry: Swept): void {
    if (entry.place !== undefined) return
    entry.place = this.#entries.push(entry) - 1
    this.#timer ??= giveUpAfter(this.#clock, everyMs, () => this.#run())
  }

  /** The last entry takes its place. */
  delete(entry: Swept): void {
    const { place } = entry
    const last = place === undefined ? undefined : this.#entries.pop()
    entry.place = undefined
    if (place === undefined || !last || last === entry) return
    this.#entries[place] = last
    last.place = place
  }

  stop(): void {
    for (const entry of this.#entries.splice(0)) entry.place = undefined
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #run(): void {
    this.#timer = undefined
    if (this.#entries.length === 0) return
    this.#timer = giveUpAfter(this.#clock, everyMs, () => this.#run())
    const nowMs = this.#clock.now()
    // Backwards, because an entry may delete itself and others: what then takes their places was swept before them.
    for (let at = this.#entries.length - 1; at >= 0; at--) this.#entries[at]?.sweep(nowMs)
  }
}
