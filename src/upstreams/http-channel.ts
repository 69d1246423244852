import type { Clock, Timer } from '../clock.ts'
import { eraOfVersion } from '../wire/era.ts'
import { headerNames, headerValue, modernHeaders } from '../wire/headers.ts'
import type { Channel, ChannelEvents, Outgoing } from './channel.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import { post } from './post.ts'

export interface HttpChannelOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly maxBodyBytes: number
  readonly events: Pick<ChannelEvents, 'onMessage'>
}

/** How long a server may take to let our session go. */
const deleteTimeoutMs = 2000

/**
 * Streamable HTTP towards a server, for the sidecar's own messages: one POST per message, the answer as JSON or as an
 * event stream (MCP 2025-11-25 and 2026-07-28, Transports).
 */
export class HttpChannel implements Channel {
  readonly #options: HttpChannelOptions
  readonly #path: string
  readonly #life = new AbortController()
  #sessionId: string | undefined
  #protocolVersion: string | undefined

  constructor(options: HttpChannelOptions) {
    this.#options = options
    this.#path = options.endpoint.url.pathname + options.endpoint.url.search
  }

  /** The revision agreed in the handshake; from then on every request names it. */
  useProtocolVersion(version: string | undefined): void {
    this.#protocolVersion = version
  }

  send(message: Buffer, outgoing: Outgoing, signal?: AbortSignal): Promise<void> {
    const { endpoint, clock, maxBodyBytes, events } = this.#options
    return post({
      endpoint,
      clock,
      path: this.#path,
      message,
      headers: ['accept', 'application/json, text/event-stream', ...this.#contextHeaders(outgoing)],
      maxBodyBytes,
      isAnsweredElsewhere: false,
      signal: signal ? AbortSignal.any([signal, this.#life.signal]) : this.#life.signal,
      onStart: (status, rawHeaders) => {
        // The answer to `initialize` alone assigns a session (MCP 2025-11-25, Session Management, 1).
        const isAssigned = outgoing.method === 'initialize' && status === 200
        if (isAssigned) this.#sessionId = headerValue(rawHeaders, headerNames.sessionId)
        const hadSession = this.#sessionId !== undefined
        if (status === 404) this.#sessionId = undefined // Nothing is left to end.
        return hadSession
      },
      onMessage: (heard, envelope) => events.onMessage(heard, envelope),
    })
  }

  #contextHeaders(outgoing: Outgoing): string[] {
    const version = this.#protocolVersion
    const { method } = outgoing
    if (version !== undefined && method !== undefined && eraOfVersion(version) === 'modern') {
      return modernHeaders({ ...outgoing, method, protocolVersion: version })
    }
    const headers: string[] = []
    if (this.#sessionId !== undefined) headers.push(headerNames.sessionId, this.#sessionId)
    if (version !== undefined) headers.push(headerNames.protocolVersion, version)
    return headers
  }

  /** Ends our session with DELETE, so that the server does not keep it (MCP 2025-11-25, Session Management, 5). */
  async close(): Promise<void> {
    this.#life.abort()
    if (this.#sessionId === undefined) return
    const headers = this.#contextHeaders({})
    this.#sessionId = undefined
    await this.#delete(headers)
  }

  #delete(headers: readonly string[]): Promise<void> {
    const { endpoint, clock } = this.#options
    return new Promise((resolve) => {
      let timer: Timer | undefined
      const finish = () => {
        timer?.cancel()
        resolve()
      }
      const exchange = endpoint.send(
        { method: 'DELETE', path: this.#path, headers: ownHeaders(endpoint, headers), body: null },
        { onStart: () => undefined, onData: () => undefined, onEnd: finish, onError: finish },
      )
      timer = clock.after(deleteTimeoutMs, () => {
        exchange.abort()
        resolve()
      })
    })
  }
}
