import type { Clock } from '../clock.ts'
import { type KnownError, RetryLater } from '../errors.ts'

/**
 * A time in which a server gets nothing new: neither sessions nor requests. What is under way is finished, with all
 * that belongs to it: cancellations, answers to the server's questions, streams of open sessions, their end.
 */
export class Drain {
  readonly #clock: Clock
  #untilMs = Number.NEGATIVE_INFINITY

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** From now on, for so long; one under way ends then, too. */
  begin(forMs: number): void {
    this.#untilMs = this.#clock.now() + forMs
  }

  /** Ends it before its time; does nothing without one. */
  end(): void {
    this.#untilMs = Number.NEGATIVE_INFINITY
  }

  /** When it is over, as wall time; undefined while there is none. */
  untilWallMs(): number | undefined {
    const leftMs = this.leftMs()
    return leftMs > 0 ? this.#clock.wallTime() + leftMs : undefined
  }

  /** What a new request is told; undefined while it may go. */
  refusal(): KnownError | undefined {
    if (this.#untilMs === Number.NEGATIVE_INFINITY) return undefined
    const leftMs = this.leftMs()
    if (leftMs <= 0) {
      this.end()
      return undefined
    }
    const seconds = Math.ceil(leftMs / 1000)
    return new RetryLater('draining', `the server is drained and takes nothing new for ${seconds} s`, seconds)
  }

  /** How long it still lasts; 0 while there is none. */
  leftMs(): number {
    return Math.max(0, this.#untilMs - this.#clock.now())
  }
}
