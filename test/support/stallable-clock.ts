import type { Clock } from '../../src/clock.ts'
import type { FakeClock } from './fake-clock.ts'

/**
 * A clock on top of a fake one whose event loop can be made to stand still: time goes on by itself, and what was due
 * meanwhile fires late, when the test moves on.
 */
export function stallableClock(base: FakeClock): { readonly clock: Clock; readonly stall: (ms: number) => void } {
  let stoodStillMs = 0
  return {
    clock: {
      now: () => base.now() + stoodStillMs,
      wallTime: () => base.wallTime() + stoodStillMs,
      after: (delayMs, run) => base.after(delayMs, run),
    },
    stall: (ms) => {
      stoodStillMs += ms
    },
  }
}
