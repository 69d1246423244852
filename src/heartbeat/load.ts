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

/** Our own load, 0…1: the worst of its three signs, so that one saturated resource is enough. */
export function ownLoad(load: OwnLoad): number {
  return Math.max(
    ramp(load.loopDelayP99Ms, 50, 250),
    ramp(load.loopUtilisation, 0.7, 0.95),
    ramp(load.probeBacklog, 0.5, 1),
  )
}
