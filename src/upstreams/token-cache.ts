import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'

/** What goes behind `Bearer`, and how long from now it serves; `Infinity` where nothing is known. */
export interface Token {
  readonly value: string
  readonly renewInMs: number
  readonly expiresInMs: number
}

export interface TokenCacheOptions {
  readonly clock: Clock
  /** Rejects with a `KnownError` whose message holds no secret. */
  readonly obtain: () => Promise<Token>
  readonly initial?: Token | undefined
  readonly onFailure: (error: KnownError) => void
}

interface Held {
  readonly value: string
  readonly sinceMs: number
  readonly renewAtMs: number
  readonly expiresAtMs: number
}

/**
 * One token for everybody who needs it: renewed in the background before it expires, obtained once however many wait
 * for it, and not asked for again for a while after a failure.
 */
export class TokenCache {
  readonly #options: TokenCacheOptions
  #held: Held | undefined
  #pending: Promise<string> | undefined
  #failure: { readonly error: KnownError; readonly untilMs: number } | undefined

  constructor(options: TokenCacheOptions) {
    this.#options = options
    if (options.initial) this.#held = this.#hold(options.initial)
  }

  /** The token to use now; undefined when one has to be waited for. */
  ready(): string | undefined {
    const nowMs = this.#options.clock.now()
    const held = this.#held
    if (!held || nowMs >= held.expiresAtMs) return undefined
    // Whoever comes now still has a good one, so a failure concerns nobody yet.
    if (nowMs >= held.renewAtMs) this.#obtain().catch(() => undefined)
    return held.value
  }

  /** Rejects with the `KnownError` of `obtain`. */
  async get(): Promise<string> {
    return this.ready() ?? this.#obtain()
  }

  /**
   * Another token than the one that was refused; undefined when there is no use in asking for one, since the refused
   * one is so new that the next would be refused as well. Of many that were refused at the same time, one asks.
   */
  async instead(refused: string): Promise<string | undefined> {
    const held = this.#held
    if (held?.value === refused) {
      if (this.#options.clock.now() - held.sinceMs < defaults.tokens.minAgeMs) return undefined
      this.#held = undefined
    }
    const value = await this.get()
    return value === refused ? undefined : value
  }

  #obtain(): Promise<string> {
    const { clock } = this.#options
    if (this.#failure && clock.now() < this.#failure.untilMs) return Promise.reject(this.#failure.error)
    this.#pending ??= this.#obtainNow().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  async #obtainNow(): Promise<string> {
    const { clock, obtain, onFailure } = this.#options
    try {
      const token = await obtain()
      this.#failure = undefined
      this.#held = this.#hold(token)
      return token.value
    } catch (error) {
      const known = error instanceof KnownError ? error : new KnownError('internal', errorMessage(error))
      this.#failure = { error: known, untilMs: clock.now() + defaults.tokens.retryAfterFailureMs }
      onFailure(known)
      throw known
    }
  }

  #hold({ value, renewInMs, expiresInMs }: Token): Held {
    const nowMs = this.#options.clock.now()
    return { value, sinceMs: nowMs, renewAtMs: nowMs + renewInMs, expiresAtMs: nowMs + expiresInMs }
  }
}
