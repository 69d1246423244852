/** How long a receiver that failed is left alone. */
export interface BackoffLaw {
  readonly firstMs: number
  readonly maxMs: number
  /** The longest wait that a receiver may ask for. */
  readonly maxRetryAfterMs: number
}

/**
 * The wait after the n-th failure in a row: doubling up to a maximum, half of it by chance (`random` in [0, 1)), and
 * never less than what the receiver asked for.
 */
export function retryDelayMs(
  failures: number,
  { random, retryAfterMs = 0 }: { readonly random: number; readonly retryAfterMs?: number | undefined },
  law: BackoffLaw,
): number {
  const fullMs = Math.min(law.maxMs, law.firstMs * 2 ** Math.min(failures - 1, 30))
  return Math.max(fullMs * (0.5 + random / 2), Math.min(retryAfterMs, law.maxRetryAfterMs))
}

/** `Retry-After` in milliseconds: seconds, or a date (RFC 9110 §10.2.3); undefined when it is neither. */
export function retryAfterMs(value: string | undefined, wallMs: number): number | undefined {
  const text = value?.trim() ?? ''
  if (/^\d+$/.test(text)) return Number(text) * 1000
  const dateMs = /[a-z]/i.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - wallMs)
}
