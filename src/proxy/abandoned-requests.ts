import type { Clock } from '../clock.ts'

export interface AbandonedRequestsOptions {
  readonly clock: Clock
  /** For how long a server may be at work on a request at most. */
  readonly lastingMs: number
  /** A server may still be at work on the oldest of so many. */
  readonly onForgotten?: (() => void) | undefined
}

/**
 * A server that heeds a cancellation says nothing of it, as it should: nobody else's questions and log messages can be
 * held back for longer than one that does not heed it is likely to need.
 */
const longestMs = 60_000

/** So many are remembered; then the oldest is forgotten. */
const maxAbandoned = 1000

/**
 * Requests, by our ids, whose clients expect no answer any more, though their server may still be at work on them: it
 * may let `notifications/cancelled` lie, and is not to answer where it heeds it (MCP 2025-11-25, Cancellation). What it
 * says without naming a request may be about one of these, and is then not for another client.
 */
export class AbandonedRequests<Owner> {
  readonly #clock: Clock
  readonly #lastingMs: number
  readonly #onForgotten: () => void
  /** The oldest first. */
  readonly #requests = new Map<string, { readonly owner: Owner; readonly untilMs: number }>()

  constructor({ clock, lastingMs, onForgotten }: AbandonedRequestsOptions) {
    this.#clock = clock
    this.#lastingMs = Math.min(lastingMs, longestMs)
    this.#onForgotten = onForgotten ?? (() => undefined)
  }

  add(id: string, owner: Owner): void {
    this.#forgetOld(maxAbandoned - 1)
    this.#requests.set(id, { owner, untilMs: this.#clock.now() + this.#lastingMs })
  }

  /** The server has answered it all the same, so it is at work on it no more. */
  answered(id: string): void {
    this.#requests.delete(id)
  }

  /** The server that had them is gone. */
  lost(owner: Owner): void {
    for (const [id, request] of this.#requests) if (request.owner === owner) this.#requests.delete(id)
  }

  /** Whose they are. */
  owners(): readonly Owner[] {
    this.#forgetOld(maxAbandoned)
    return [...this.#requests.values()].map(({ owner }) => owner)
  }

  #forgetOld(most: number): void {
    const nowMs = this.#clock.now()
    for (const [id, { untilMs }] of this.#requests) {
      if (untilMs > nowMs && this.#requests.size <= most) return
      this.#requests.delete(id)
      if (untilMs > nowMs) this.#onForgotten()
    }
  }
}
