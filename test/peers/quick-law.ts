import { defaults } from '../../src/defaults.ts'
import type { HangLaw } from '../../src/heartbeat/hang.ts'

/** A law of hangs whose times are shorter, since nobody wants to wait for a minute. */
export const quickHangLaw: HangLaw = { ...defaults.hang, silentMs: 4000, spinningMs: 8000 }

/** How often memory is looked at then. */
export const quickMemoryLookMs = 1000

/** After how long the tools of a server that is not ours are read again then. */
export const quickInventoryAgeMs = 4000
