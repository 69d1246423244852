import type { KnownError } from '../errors.ts'
import { type Send, isRepeatable } from './attempts.ts'
import type { HttpExchange, HttpRequest, HttpResponseHandler, ResponseHead } from './http.ts'
import type { TokenCache } from './token-cache.ts'

/**
 * Puts our token on every request. A 401 proves that the server did not act on a request, so it goes out once more when
 * there is another token and its body is still at hand; otherwise the 401 is the answer. Without any token there is an
 * error, and nothing is sent.
 */
export function authorized(send: Send, tokens: TokenCache): Send {
  return (request, handler) => {
    const passage = new AuthorizedPassage(send, tokens, request, handler)
    passage.start()
    return passage
  }
}

/** One request, which is one exchange to whoever sent it, however often it goes out. */
class AuthorizedPassage implements HttpExchange {
  readonly #send: Send
  readonly #tokens: TokenCache
  readonly #request: HttpRequest
  readonly #handler: HttpResponseHandler
  #exchange: HttpExchange | undefined
  /** What was heard of a 401 while it is not clear whether it is the answer. */
  #held: (() => void)[] | undefined
  #isPaused = false
  #isAborted = false

  constructor(send: Send, tokens: TokenCache, request: HttpRequest, handler: HttpResponseHandler) {
    this.#send = send
    this.#tokens = tokens
    this.#request = request
    this.#handler = handler
  }

  start(): void {
    const token = this.#tokens.ready()
    if (token !== undefined) return this.#attempt(token)
    this.#when(this.#tokens.get(), (value) => this.#attempt(value))
  }

  pause(): void {
    this.#isPaused = true
    this.#exchange?.pause()
  }

  resume(): void {
    this.#isPaused = false
    if (!this.#held) this.#exchange?.resume()
  }

  abort(): void {
    this.#isAborted = true
    this.#exchange?.abort()
  }

  /** Goes on once there is a token or the certainty that there is none, unless nobody waits any more. */
  #when<T>(token: Promise<T>, go: (token: T) => void): void {
    const unlessAborted = (run: () => void) => void (this.#isAborted || run())
    token.then(
      (value) => unlessAborted(() => go(value)),
      (error: KnownError) =>
        unlessAborted(() => {
          this.#exchange?.abort()
          this.#handler.onError(error)
        }),
    )
  }

  #attempt(token: string): void {
    const isAtHand = isRepeatable(this.#request)
    this.#dispatch(token, {
      onStart: (head) => {
        if (head.status === 401) this.#refused(token, head, isAtHand)
        else this.#handler.onStart(head)
      },
      onData: (chunk) => this.#pass(() => this.#handler.onData(chunk)),
      onEnd: () => this.#pass(() => this.#handler.onEnd()),
      onError: (error) => this.#pass(() => this.#handler.onError(error)),
    })
  }

  #refused(token: string, head: ResponseHead, isAtHand: boolean): void {
    const other = this.#tokens.instead(token)
    if (!isAtHand) {
      // The next request will have it; the cache itself tells of a failure.
      other.catch(() => undefined)
      return this.#handler.onStart(head)
    }
    this.#held = [() => this.#handler.onStart(head)]
    this.#exchange?.pause()
    this.#when(other, (value) => {
      const held = this.#held ?? []
      this.#held = undefined
      if (value === undefined) {
        for (const tell of held) tell()
        if (!this.#isPaused) this.#exchange?.resume()
        return
      }
      this.#exchange?.abort()
      this.#dispatch(value, this.#handler)
    })
  }

  #pass(tell: () => void): void {
    if (this.#held) this.#held.push(tell)
    else tell()
  }

  #dispatch(token: string, handler: HttpResponseHandler): void {
    const headers = [...this.#request.headers, 'authorization', `Bearer ${token}`]
    this.#exchange = this.#send({ ...this.#request, headers }, handler)
    if (this.#isPaused) this.#exchange.pause()
  }
}
