import type { HangTimes } from '../../src/heartbeat/hang.ts'

/** Shorter times for hangs, since nobody wants to wait for a minute. */
export const quickHang: HangTimes = { silentMs: 4000, spinningMs: 8000 }

/** How often memory is looked at then. */
export const quickMemoryLookMs = 1000

/** After how long the tools of a server that is not ours are read again then. */
export const quickInventoryAgeMs = 4000
