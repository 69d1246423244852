import type { Clock, Timer } from '../clock.ts'
import type { KnownError } from '../errors.ts'
import type { Send } from './authorized.ts'
import type { HttpExchange, HttpRequest, HttpResponseHandler } from './http.ts'

export interface PatienceOptions {
  readonly clock: Clock
  /** Whether the server is on its way: its process runs, and nobody has reached it yet. */
  readonly isStarting: () => boolean
  readonly patienceMs: number
  readonly retryMs: number
}

/**
 * Waits for a server that is only starting: a request that it refused to connect for was not delivered, so it goes out
 * again, unless its body is no longer at hand. One that is late with its port costs its clients a moment, no error.
 */
export function patient(send: Send, options: PatienceOptions): Send {
  return (request, handler) => {
    const { body } = request
    if (body !== null && !Buffer.isBuffer(body)) return send(request, handler)
    const passage = new PatientPassage(send, options, request, handler)
    passage.attempt()
    return passage
  }
}

/** One request, which is one exchange to whoever sent it, however often it goes out. */
class PatientPassage implements HttpExchange {
  readonly #send: Send
  readonly #options: PatienceOptions
  readonly #request: HttpRequest
  readonly #handler: HttpResponseHandler
  readonly #untilMs: number
  #exchange: HttpExchange | undefined
  #timer: Timer | undefined
  #isPaused = false

  constructor(send: Send, options: PatienceOptions, request: HttpRequest, handler: HttpResponseHandler) {
    this.#send = send
    this.#options = options
    this.#request = request
    this.#handler = handler
    this.#untilMs = options.clock.now() + options.patienceMs
  }

  attempt(): void {
    const handler = this.#handler
    this.#exchange = this.#send(this.#request, {
      onStart: (head) => handler.onStart(head),
      onData: (chunk) => handler.onData(chunk),
      onEnd: () => handler.onEnd(),
      onError: (error) => this.#failed(error),
    })
    if (this.#isPaused) this.#exchange.pause()
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
    this.#timer?.cancel()
    this.#exchange?.abort()
  }

  #failed(error: KnownError): void {
    const { clock, isStarting, retryMs } = this.#options
    const isUndelivered = error.code === 'upstream_refused'
    if (!isUndelivered || !isStarting() || clock.now() + retryMs > this.#untilMs) return this.#handler.onError(error)
    this.#timer = clock.after(retryMs, () => this.attempt())
  }
}
