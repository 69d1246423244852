import { defaults } from '../defaults.ts'

/** How busy we are ourselves, as measured since the last decision. */
export interface OwnLoad {
  readonly loopDelayP99Ms: number
  /** Share of time that the event loop spent working, 0…1. */
  readonly loopUtilisation: number
  /** Overdue probes that wait for a slot ÷ slots. */
  readonly probeBacklog: number
}

/** 0 up to `from`, 1 from `to` on, straight in between; what is not a number counts as 0. */
export function ramp(value: number, from: number, to: number): number {
  if (Number.isNaN(value) || value <= from) return 0
  return value >= to ? 1 : (value - from) / (to - from)
}

/** Our own load, 0…1: the worst of its signs, so that one saturated resource is enough. */
export function ownLoad(load: OwnLoad): number {
  const { utilisation, backlog } = defaults.load
  return Math.max(overload(load), ramp(load.loopUtilisation, ...utilisation), ramp(load.probeBacklog, ...backlog))
}

/**
 * The part of it that makes others wait, 0…1: a loop that is busy and keeps up does not. A late event loop counts only
 * as far as it was at work: where others take the processor away, an idle one is late too, and no less work would help.
 * Probes that wait for their turn make no client wait.
 */
export function overload({ loopDelayP99Ms, loopUtilisation }: Omit<OwnLoad, 'probeBacklog'>): number {
  const { loopDelayMs, workingUtilisation } = defaults.load
  return Math.min(ramp(loopDelayP99Ms, ...loopDelayMs), ramp(loopUtilisation, ...workingUtilisation))
}
