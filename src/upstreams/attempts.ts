import type { Timer } from '../clock.ts'
import type { HttpExchange, HttpRequest, HttpResponseHandler, ResponseHead } from './http.ts'

export type Send = (request: HttpRequest, handler: HttpResponseHandler) => HttpExchange

/** One exchange to whoever asked for it, however often its request goes out. */
export class Attempts implements HttpExchange {
  #exchange: HttpExchange | undefined
  #timer: Timer | undefined
  #isPaused = false
  #isAborted = false

  /** Takes the place of the attempt before, which ends; what its sender asked of that one holds for this one, too. */
  next(send: () => HttpExchange): void {
    if (this.#isAborted) return
    this.#exchange?.abort()
    this.#exchange = send()
    if (this.#isPaused) this.#exchange.pause()
  }

  /** The next attempt waits for this. */
  later(timer: Timer): void {
    this.#timer = timer
  }

  pause(): void {
    this.#isPaused = true
    this.#exchange?.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.#exchange?.resume()
  }

  abort(): void {
    this.#isAborted = true
    this.#timer?.cancel()
    this.#exchange?.abort()
  }
}

/** Whether the request can go out once more: a body that streams is gone. */
export function isRepeatable({ body }: HttpRequest): boolean {
  return body === null || Buffer.isBuffer(body)
}

/** What `handler` would hear, but for the head, which somebody else looks at first. */
export function headed(handler: HttpResponseHandler, onStart: (head: ResponseHead) => void): HttpResponseHandler {
  return {
    onStart,
    onData: (chunk) => handler.onData(chunk),
    onEnd: () => handler.onEnd(),
    onError: (error) => handler.onError(error),
  }
}
