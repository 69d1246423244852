import { defaults } from '../../src/defaults.ts'
import type { HangLaw } from '../../src/heartbeat/hang.ts'

/** A law of hangs whose times are shorter, since nobody wants to wait for a minute. */
export const quickHangLaw: HangLaw = { ...defaults.hang, silentMs: 4000, spinningMs: 8000 }

/** How often memory is looked at then. */
export const quickMemoryLookMs = 1000
