import type { Clock, Timer } from '../clock.ts'

/** The time during which an operator wants a server to be left alone; it ends by itself. */
export class Maintenance {
  readonly #clock: Clock
  #pause: { readonly untilWallMs: number; readonly timer: Timer } | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  isOn(): boolean {
    return this.#pause !== undefined
  }

  /** As wall time; undefined while there is none. */
  untilWallMs(): number | undefined {
    return this.#pause?.untilWallMs
  }

  /** 0 while there is none. */
  leftMs(): number {
    return this.#pause ? Math.max(0, this.#pause.untilWallMs - this.#clock.wallTime()) : 0
  }

  /** From now on, in place of what was left of another; gives its end as wall time. */
  begin(forMs: number, onOver: () => void): number {
    this.end()
    const untilWallMs = this.#clock.wallTime() + forMs
    this.#pause = { untilWallMs, timer: this.#clock.after(forMs, onOver) }
    return untilWallMs
  }

  /** Its end is not told any more; what is left of it stays known, for whatever takes the server's place. */
  stop(): void {
    this.#pause?.timer.cancel()
  }

  end(): void {
    this.#pause?.timer.cancel()
    this.#pause = undefined
  }
}
