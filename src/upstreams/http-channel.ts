import { KnownError } from '../errors.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { eraOfVersion } from '../wire/era.ts'
import { headerNames, headerValue, isEventStream, modernHeaders } from '../wire/headers.ts'
import { SseMessageReader } from '../wire/sse.ts'
import type { Channel, ChannelEvents, Outgoing } from './channel.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import type { HttpExchange } from './http.ts'

export interface HttpChannelOptions {
  readonly endpoint: Endpoint
  readonly maxBodyBytes: number
  readonly events: ChannelEvents
}

/**
 * Streamable HTTP towards a server, for the sidecar's own messages: one POST per message, the answer as JSON or as an
 * event stream (MCP 2025-11-25 and 2026-07-28, Transports).
 */
export class HttpChannel implements Channel {
  readonly #endpoint: Endpoint
  readonly #maxBodyBytes: number
  readonly #events: ChannelEvents
  readonly #exchanges = new Set<HttpExchange>()
  #sessionId: string | undefined
  #protocolVersion: string | undefined

  constructor({ endpoint, maxBodyBytes, events }: HttpChannelOptions) {
    this.#endpoint = endpoint
    this.#maxBodyBytes = maxBodyBytes
    this.#events = events
  }

  /** The revision agreed in the handshake; from then on every request names it. */
  useProtocolVersion(version: string | undefined): void {
    this.#protocolVersion = version
  }

  send(message: Buffer, outgoing: Outgoing): Promise<void> {
    const asked = readEnvelope(message)
    const headers = [
      'content-type',
      'application/json',
      'content-length',
      String(message.length),
      'accept',
      'application/json, text/event-stream',
      ...this.#sessionHeaders(outgoing),
    ]
    return new Promise((resolve, reject) => {
      const reply = new Reply({ asked, maxBodyBytes: this.#maxBodyBytes, events: this.#events })
      const finish = (error: KnownError | undefined) => {
        this.#exchanges.delete(exchange)
        if (error) reject(error)
        else resolve()
      }
      const { pathname, search } = this.#endpoint.url
      const exchange = this.#endpoint.send(
        { method: 'POST', path: pathname + search, headers: ownHeaders(this.#endpoint, headers), body: message },
        {
          onStart: ({ status, rawHeaders }) => {
            this.#sessionId ??= headerValue(rawHeaders, headerNames.sessionId)
            reply.start(status, headerValue(rawHeaders, 'content-type'), this.#sessionId !== undefined)
          },
          onData: (chunk) => reply.push(chunk),
          onEnd: () => finish(reply.end()),
          onError: finish,
        },
      )
      this.#exchanges.add(exchange)
    })
  }

  #sessionHeaders({ method, name, uri }: Outgoing): string[] {
    const version = this.#protocolVersion
    if (version !== undefined && method !== undefined && eraOfVersion(version) === 'modern') {
      return modernHeaders({ method, ...(name !== undefined && { name }), ...(uri !== undefined && { uri }) })
    }
    const headers: string[] = []
    if (this.#sessionId !== undefined) headers.push(headerNames.sessionId, this.#sessionId)
    if (version !== undefined) headers.push(headerNames.protocolVersion, version)
    return headers
  }

  /** Ends our session with DELETE, so that the server does not keep it (MCP 2025-11-25, Session Management, 5). */
  async close(): Promise<void> {
    for (const exchange of this.#exchanges) exchange.abort()
    this.#exchanges.clear()
    if (this.#sessionId === undefined) return
    const headers = ownHeaders(this.#endpoint, this.#sessionHeaders({}))
    this.#sessionId = undefined
    const { pathname, search } = this.#endpoint.url
    await new Promise<void>((resolve) => {
      this.#endpoint.send(
        { method: 'DELETE', path: pathname + search, headers, body: null },
        { onStart: () => undefined, onData: () => undefined, onEnd: resolve, onError: () => resolve() },
      )
    })
  }
}

/** Reads the answer to one POST and says at its end whether the transport failed. */
class Reply {
  readonly #asked: Envelope | undefined
  readonly #maxBodyBytes: number
  readonly #events: ChannelEvents
  #status = 0
  #hadSession = false
  #heard = 0
  #stream: SseMessageReader | undefined
  #chunks: Buffer[] = []
  #bytes = 0

  constructor(options: {
    readonly asked: Envelope | undefined
    readonly maxBodyBytes: number
    readonly events: ChannelEvents
  }) {
    this.#asked = options.asked
    this.#maxBodyBytes = options.maxBodyBytes
    this.#events = options.events
  }

  start(status: number, contentType: string | undefined, hadSession: boolean): void {
    this.#status = status
    this.#hadSession = hadSession
    if (!isEventStream(contentType)) return
    this.#stream = new SseMessageReader({
      maxBytes: this.#maxBodyBytes,
      onMessage: ({ data }) => this.#hear(data),
      onTooLarge: () => undefined,
    })
  }

  push(chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#stream) this.#stream.push(chunk)
    else if (this.#bytes <= this.#maxBodyBytes) this.#chunks.push(chunk)
  }

  /** A server that refuses before it has read the id answers with `id: null`; that is the answer to this POST. */
  #hear(message: Buffer): void {
    const envelope = readEnvelope(message)
    if (!envelope) return
    const isAnswer = envelope.kind === 'response'
    if (isAnswer) this.#heard += 1
    const id = isAnswer && (envelope.id === undefined || envelope.id === 'null') ? this.#asked?.id : undefined
    this.#events.onMessage(message, id === undefined ? envelope : { ...envelope, id })
  }

  end(): KnownError | undefined {
    const expectsAnswer = this.#asked?.kind === 'request'
    if (this.#status === 401 || this.#status === 403) {
      return new KnownError('upstream_unauthorized', `HTTP ${this.#status}: credentials are missing or refused`)
    }
    if (this.#status === 404 && this.#hadSession) {
      return new KnownError('upstream_session_gone', 'HTTP 404: the server no longer knows our session')
    }
    if (!this.#stream && this.#chunks.length > 0) this.#hear(Buffer.concat(this.#chunks))
    if (this.#heard > 0) return undefined
    if (this.#status >= 300) {
      return new KnownError('upstream_http_error', `HTTP ${this.#status} without a JSON-RPC answer`)
    }
    if (!expectsAnswer) return undefined
    if (this.#stream) return new KnownError('upstream_closed', 'the event stream ended without an answer')
    return new KnownError('upstream_invalid', `HTTP ${this.#status} with a body that is no JSON-RPC message`)
  }
}
