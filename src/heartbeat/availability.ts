/** How long an upstream has been unavailable, in monotonic milliseconds; plain data, so that a reload can carry it over. */
export interface Availability {
  /** Unavailable time of the outages that are over. */
  readonly endedMs: number
  /** When the outage that goes on now began; undefined while there is none. */
  readonly outageSinceMs: number | undefined
  /** Everything before this is accounted for: back-dating never reaches behind it. */
  readonly settledMs: number
}

/** No outage so far. */
export function newAvailability(): Availability {
  return { endedMs: 0, outageSinceMs: undefined, settledMs: 0 }
}

/**
 * Notes whether the upstream is unavailable now. A new outage is back-dated to its first failed probe, because the
 * verdict came only with the third, but never into time that was already counted.
 */
export function observeAvailability(
  availability: Availability,
  unavailable: boolean,
  nowMs: number,
  firstFailureMs?: number,
): Availability {
  const sinceMs = availability.outageSinceMs
  if (unavailable === (sinceMs !== undefined)) return availability
  if (sinceMs === undefined) {
    const begunMs = Math.max(availability.settledMs, Math.min(nowMs, firstFailureMs ?? nowMs))
    return { ...availability, outageSinceMs: begunMs }
  }
  const endedMs = availability.endedMs + Math.max(0, nowMs - sinceMs)
  return { endedMs, outageSinceMs: undefined, settledMs: Math.max(availability.settledMs, nowMs) }
}

/** Unavailable seconds up to now. It grows while an outage goes on, so compute it when metrics are collected. */
export function unavailableSeconds(availability: Availability, nowMs: number): number {
  const runningMs = availability.outageSinceMs === undefined ? 0 : Math.max(0, nowMs - availability.outageSinceMs)
  return (availability.endedMs + runningMs) / 1000
}
