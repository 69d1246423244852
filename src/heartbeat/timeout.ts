/** The smoothed round trip of our probes to one upstream and how much it varies. */
export interface RttEstimate {
  readonly smoothedMs: number
  readonly variationMs: number
}

/** Lifeguard's local health score runs from 0 (we are well) to this. */
export const worstLocalHealth = 7

/**
 * Folds one measured round trip into the estimate. All times in milliseconds.
 *
 * Jacobson's filter with the gains of RFC 6298 §2.3 (1/8 and 1/4). Never feed it the answer to a retried probe: which
 * attempt it answers is unknown (Karn, RFC 6298 §3). A late answer is welcome, because every probe has an id of its own.
 * Answers to real traffic are not: how long a tool works says nothing about a ping.
 */
export function observeRtt(estimate: RttEstimate | undefined, rttMs: number): RttEstimate {
  if (!estimate) return { smoothedMs: rttMs, variationMs: rttMs / 2 }
  const errorMs = rttMs - estimate.smoothedMs
  return {
    smoothedMs: estimate.smoothedMs + errorMs / 8,
    variationMs: estimate.variationMs + (Math.abs(errorMs) - estimate.variationMs) / 4,
  }
}

export interface TimeoutInput {
  /** Whether so many heartbeats in a row were missed that the upstream is down. */
  readonly isDown: boolean
  /** Our local health score, 0 (well) … 7. */
  readonly localHealth: number
  readonly minMs: number
  readonly maxMs: number
}

/**
 * How long to wait for the next answer: SRTT + 4·RTTVAR (RFC 6298 §2.3) within the bounds; the upper bound as long as
 * nothing was measured.
 *
 * It doubles, once, after the miss that leads down: patience no longer delays the verdict then
 * (≤ 42 s from calm at 2 s, ≤ 45 s at 5 s). The local health score stretches it because a slow answer may be our own
 * fault (Lifeguard, §III-B). `maxMs` bounds the estimate, not these two, or they could do nothing for a slow upstream;
 * together they end at 2·`maxMs`: with the defaults the 10 s after which an answer is not even `late`.
 */
export function probeTimeoutMs(estimate: RttEstimate | undefined, input: TimeoutInput): number {
  const { isDown, localHealth, minMs, maxMs } = input
  const rttMs = estimate ? estimate.smoothedMs + 4 * estimate.variationMs : maxMs
  const boundedMs = Number.isNaN(rttMs) ? maxMs : Math.min(maxMs, Math.max(minMs, rttMs))
  const doubled = isDown ? 2 : 1
  return Math.min(2 * maxMs, boundedMs * doubled * (1 + boundedHealth(localHealth)))
}

/**
 * The local health score after one more probe: a probe that our own stall spoiled raises it, an answer lowers it
 * (Lifeguard, §III-B). What the upstream failed to answer says nothing about us and changes nothing.
 */
export function observeHealth(score: number, event: 'success' | 'inconclusive'): number {
  return boundedHealth(score + (event === 'success' ? -1 : 1))
}

function boundedHealth(score: number): number {
  return Number.isNaN(score) ? 0 : Math.min(worstLocalHealth, Math.max(0, score))
}
