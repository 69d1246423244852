import type { Endpoint } from './endpoint.ts'
import type { HttpExchange, HttpRequest, HttpResponseHandler, PoolStats } from './http.ts'

/** The headers that one request of a client contributes to what we send to this endpoint, by lower-case name. */
export type HeadersFor = (endpoint: Endpoint) => ReadonlyMap<string, string>

/** An endpoint as the session of one client uses it: with that client's headers, and able to stop reading. */
export class ClientEndpoint implements Endpoint {
  readonly url: URL
  readonly clientHost: boolean
  readonly replaced: ReadonlySet<string>
  readonly #endpoint: Endpoint
  readonly #open = new Set<HttpExchange>()
  #headers: ReadonlyMap<string, string>
  #isHeld = false

  constructor(endpoint: Endpoint) {
    this.url = endpoint.url
    this.clientHost = endpoint.clientHost
    this.replaced = endpoint.replaced
    this.#endpoint = endpoint
    this.#headers = endpoint.headers
  }

  get headers(): ReadonlyMap<string, string> {
    return this.#headers
  }

  /** The client's latest headers go with everything from now on: its token may be a new one. */
  speakFor(headers: HeadersFor): void {
    this.#headers = new Map([...headers(this.#endpoint), ...this.#endpoint.headers])
  }

  /** Stops or goes on reading every answer that is under way or yet to come. */
  hold(isFull: boolean): void {
    this.#isHeld = isFull
    for (const exchange of this.#open) {
      if (isFull) exchange.pause()
      else exchange.resume()
    }
  }

  send(request: HttpRequest, handler: HttpResponseHandler): HttpExchange {
    const exchange = this.#endpoint.send(request, {
      onStart: (head) => {
        if (this.#isHeld) exchange.pause()
        handler.onStart(head)
      },
      onData: (chunk) => handler.onData(chunk),
      onEnd: () => {
        this.#open.delete(exchange)
        handler.onEnd()
      },
      onError: (error) => {
        this.#open.delete(exchange)
        handler.onError(error)
      },
    })
    this.#open.add(exchange)
    return {
      pause: () => exchange.pause(),
      resume: () => exchange.resume(),
      abort: () => {
        this.#open.delete(exchange)
        exchange.abort()
      },
    }
  }

  stats(): PoolStats {
    return this.#endpoint.stats()
  }

  /** The connections are everybody's. */
  close(): Promise<void> {
    return Promise.resolve()
  }
}
