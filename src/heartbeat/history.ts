import type { Leg, Outcome } from './classify.ts'
import { isAnswered, isFailure } from './classify.ts'

export interface HistoryEntry {
  /** Milliseconds since the Unix epoch. */
  readonly atWallMs: number
  readonly leg: Leg
  readonly method: string
  readonly outcome: Outcome
  readonly responseTimeMs?: number
  readonly reason?: string
  /** The hashed session, never its id. */
  readonly session?: string
}

/** Failures that look alike. */
export interface Pattern {
  readonly cause: string
  readonly count: number
  readonly firstWallMs: number
  readonly lastWallMs: number
}

export interface HistoryCounts {
  readonly heartbeats: number
  /** With the failures all that say something about the server: neither holds what was inconclusive or unauthorized. */
  readonly answered: number
  readonly failures: number
}

/**
 * The share of successes among the heartbeats that say something, in percent with so many decimals; null where none was
 * a success or a failure, such as of refused credentials alone.
 */
export function successPercent(
  { answered, failures }: Pick<HistoryCounts, 'answered' | 'failures'>,
  decimals: number,
): number | null {
  const judged = answered + failures
  return judged === 0 ? null : Number(((answered / judged) * 100).toFixed(decimals))
}

export interface HistoryOptions {
  readonly recentKept: number
  readonly failuresKept: number
  /** Causes told apart; the one unseen for longest makes room and is counted under `other`. */
  readonly patternsKept?: number
}

const longestCause = 160

/** A cause that was not seen for so long is news when it comes again: an hour, since a crash loop tries every 10 minutes. */
const forgottenMs = 3_600_000

/** What happened lately to one upstream: the last heartbeats and, separately, the last failures, which successes never evict. */
export class History {
  readonly #options: HistoryOptions
  readonly #recent: HistoryEntry[] = []
  readonly #failures: HistoryEntry[] = []
  /** By cause, the one seen last at the end. */
  readonly #patterns = new Map<string, Pattern>()
  #others: Pattern | undefined
  #counts: HistoryCounts = { heartbeats: 0, answered: 0, failures: 0 }

  constructor(options: HistoryOptions) {
    this.#options = options
  }

  /** Returns the cause of a failure if that is news: something else goes wrong than lately. */
  record(entry: HistoryEntry): string | undefined {
    const failed = isFailure(entry.outcome)
    const { heartbeats, answered, failures } = this.#counts
    this.#counts = {
      heartbeats: heartbeats + 1,
      answered: answered + (isAnswered(entry.outcome) ? 1 : 0),
      failures: failures + (failed ? 1 : 0),
    }
    keep(this.#recent, entry, this.#options.recentKept)
    return failed || entry.outcome === 'unauthorized' ? this.note(entry) : undefined
  }

  /** The same for what failed and was no heartbeat, or says nothing about how often these fail. */
  note(entry: HistoryEntry): string | undefined {
    keep(this.#failures, entry, this.#options.failuresKept)
    return this.#group(entry)
  }

  /** Newest first. */
  recent(): readonly HistoryEntry[] {
    return this.#recent.toReversed()
  }

  /** Newest first. */
  failures(): readonly HistoryEntry[] {
    return this.#failures.toReversed()
  }

  /** Everything since the start, not only what is kept. */
  counts(): HistoryCounts {
    return this.#counts
  }

  /** Every failure since the start, grouped by cause; the most frequent first, `other` last. */
  patterns(): readonly Pattern[] {
    const known = [...this.#patterns.values()].toSorted((a, b) => b.count - a.count || b.lastWallMs - a.lastWallMs)
    return this.#others ? [...known, this.#others] : known
  }

  #group({ outcome, method, reason, atWallMs }: HistoryEntry): string | undefined {
    const cause = causeOf(outcome, method, reason)
    const once = { cause, count: 1, firstWallMs: atWallMs, lastWallMs: atWallMs }
    const known = this.#patterns.get(cause)
    this.#patterns.delete(cause)
    this.#patterns.set(cause, merge(known, once))
    if (this.#patterns.size > (this.#options.patternsKept ?? 20)) this.#evict()
    return known && atWallMs - known.lastWallMs < forgottenMs ? undefined : cause
  }

  #evict(): void {
    for (const [cause, pattern] of this.#patterns) {
      this.#patterns.delete(cause)
      this.#others = { ...merge(this.#others, pattern), cause: 'other' }
      return
    }
  }
}

/**
 * What groups failures: the outcome, the method and the reason without what differs from case to case (ids, times, ports),
 * so that a thousand time-outs are one line; HTTP statuses, exit codes and codes of JSON-RPC errors are told apart.
 */
export function causeOf(outcome: Outcome, method: string, reason?: string): string {
  const cause = `${outcome} on ${method}`
  return reason ? `${cause}: ${generalised(reason)}`.slice(0, longestCause) : cause
}

/** A reason without what differs from case to case, and without what follows after so many characters. */
export function generalised(reason: string): string {
  return reason
    .slice(0, 2 * longestCause)
    .replaceAll(/\b(?=[0-9a-f-]*\d)[0-9a-f]{8}[0-9a-f-]*\b/gi, '#')
    .replaceAll(/(\b(?:HTTP|code|error|answered with) -?\d{1,5}\b)|\d+(?:[.,]\d+)*/g, (_, code?: string) => code ?? '#')
}

function keep(entries: HistoryEntry[], entry: HistoryEntry, limit: number): void {
  entries.push(entry)
  if (entries.length > limit) entries.shift()
}

function merge(before: Pattern | undefined, later: Pattern): Pattern {
  if (!before) return later
  return {
    cause: before.cause,
    count: before.count + later.count,
    firstWallMs: Math.min(before.firstWallMs, later.firstWallMs),
    lastWallMs: Math.max(before.lastWallMs, later.lastWallMs),
  }
}
