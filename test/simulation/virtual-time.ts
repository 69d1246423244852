import type { Clock, Timer } from '../../src/clock.ts'

class Entry implements Timer {
  readonly dueMs: number
  readonly order: number
  /** Undefined once it was cancelled. */
  run: (() => void) | undefined

  constructor(dueMs: number, order: number, run: () => void) {
    this.dueMs = dueMs
    this.order = order
    this.run = run
  }

  cancel(): void {
    this.run = undefined
  }
}

/**
 * Virtual time for whole worlds: as fast as the work in it, and the same on every run.
 *
 * It holds what our own program waits for (timers) apart from what the world does to it (answers, exits). While our
 * event loop stands still both pile up, and then every overdue timer fires before the first answer is read, as in
 * Node: a time-out that fires late is indistinguishable from a server that was silent, unless somebody watches.
 */
export class VirtualTime implements Clock {
  readonly #timers = new Heap()
  readonly #arrivals = new Heap()
  #nowMs = 0
  #wallOffsetMs = Date.UTC(2026, 0, 1)
  #order = 0
  #streamsMoved = false

  now(): number {
    return this.#nowMs
  }

  wallTime(): number {
    return this.#nowMs + this.#wallOffsetMs
  }

  /** Like Node's: whole milliseconds, cut off, at least one. */
  after(delayMs: number, run: () => void): Timer {
    return this.#enter(this.#timers, this.#nowMs + Math.max(1, Math.trunc(delayMs)), run)
  }

  /** The world does something. */
  at(atMs: number, run: () => void): void {
    this.#enter(this.#arrivals, Math.max(atMs, this.#nowMs), run)
  }

  /** Our event loop stands still: what was due meanwhile comes late. */
  stall(forMs: number): void {
    this.#nowMs += forMs
  }

  /** Somebody sets the clock on the wall. */
  jumpWall(byMs: number): void {
    this.#wallOffsetMs += byMs
  }

  /** Node's streams take turns of the event loop to move what was put in. */
  streamMoved(): void {
    this.#streamsMoved = true
  }

  /**
   * Lets everything happen that is due until then, each with all that follows from it before the next: one tick comes
   * after all microtasks, and streams need whole turns of the event loop.
   */
  run(untilMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const afterAll = () => process.nextTick(step)
      // Not `queueMicrotask`, which makes a resource of async hooks each time.
      const settled = Promise.resolve()
      const step = () => {
        if (this.#streamsMoved) {
          this.#streamsMoved = false
          setImmediate(step)
          return
        }
        try {
          if (this.#runNext(untilMs)) void settled.then(afterAll)
          else resolve()
        } catch (error) {
          reject(error)
        }
      }
      void settled.then(afterAll)
    })
  }

  /** False when nothing is due any more. */
  #runNext(untilMs: number): boolean {
    for (let next = this.#next(untilMs); next; next = this.#next(untilMs)) {
      if (!next.run) continue
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      next.run()
      return true
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs)
    return false
  }

  #enter(heap: Heap, dueMs: number, run: () => void): Entry {
    const entry = new Entry(dueMs, this.#order++, run)
    heap.push(entry)
    return entry
  }

  #next(untilMs: number): Entry | undefined {
    const timer = this.#timers.first()
    const arrival = this.#arrivals.first()
    const isTimersTurn = timer && (!arrival || timer.dueMs <= Math.max(arrival.dueMs, this.#nowMs))
    const due = isTimersTurn ? timer : arrival
    if (!due || due.dueMs > untilMs) return undefined
    return (isTimersTurn ? this.#timers : this.#arrivals).shift()
  }
}

/** A binary heap, the earliest first and of those the oldest. */
class Heap {
  readonly #entries: Entry[] = []

  first(): Entry | undefined {
    return this.#entries[0]
  }

  push(entry: Entry): void {
    const entries = this.#entries
    let at = entries.push(entry) - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = entries[above]
      if (!parent || !isBefore(entry, parent)) break
      entries[at] = parent
      at = above
    }
    entries[at] = entry
  }

  shift(): Entry | undefined {
    const entries = this.#entries
    const first = entries[0]
    const last = entries.pop()
    if (!first || !last || first === last) return first
    let at = 0
    for (;;) {
      const left = entries[2 * at + 1]
      const right = entries[2 * at + 2]
      const isRight = left !== undefined && right !== undefined && isBefore(right, left)
      const child = isRight ? right : left
      if (!child || !isBefore(child, last)) break
      entries[at] = child
      at = 2 * at + (isRight ? 2 : 1)
    }
    entries[at] = last
    return first
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order)
}
