import { KnownError } from '../errors.ts'
import { readEnvelope } from '../wire/envelope.ts'
import { headerValue, isEventStream } from '../wire/headers.ts'
import { SseMessageReader } from '../wire/sse.ts'
import type { Channel, ChannelEvents } from './channel.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import type { HttpExchange } from './http.ts'

export interface SseChannelOptions {
  readonly endpoint: Endpoint
  readonly maxBodyBytes: number
  readonly events: ChannelEvents
}

/**
 * Where the `endpoint` event of HTTP+SSE sends us: a path or URL of the upstream's own origin. Anything else would let
 * the server point us at its neighbours (SSRF), so it is refused.
 */
export function messagesUrl(stream: URL, endpointData: string): URL {
  const text = endpointData.trim()
  if (text === '' || !URL.canParse(text, stream.href)) {
    throw new KnownError('upstream_invalid', `the endpoint event "${text.slice(0, 200)}" is no URL`)
  }
  const url = new URL(text, stream)
  if (url.origin !== stream.origin) {
    throw new KnownError(
      'upstream_invalid',
      `the endpoint event names ${url.origin}, but only ${stream.origin} is allowed`,
    )
  }
  return url
}

/** HTTP+SSE (2024-11-05) towards a server, for the sidecar's own messages: one stream down, POSTs up. */
export class SseChannel implements Channel {
  readonly #options: SseChannelOptions
  #stream: HttpExchange | undefined
  #messages: URL | undefined
  #closed: string | undefined

  constructor(options: SseChannelOptions) {
    this.#options = options
  }

  /** Opens the stream; resolves when the server has said where to POST. */
  open(): Promise<void> {
    const { endpoint, maxBodyBytes } = this.#options
    return new Promise((resolve, reject) => {
      const give = (error: KnownError) => {
        this.#stream?.abort()
        this.#close(error.message)
        reject(error)
      }
      const reader = new SseMessageReader({
        maxBytes: maxBodyBytes,
        onMessage: ({ type, data }) => {
          if (type !== 'endpoint') return this.#hear(data)
          try {
            this.#messages ??= messagesUrl(endpoint.url, data.toString())
            resolve()
          } catch (error) {
            give(error instanceof KnownError ? error : new KnownError('internal', String(error)))
          }
        },
        onTooLarge: () => undefined,
      })
      this.#stream = endpoint.send(
        {
          method: 'GET',
          path: endpoint.url.pathname + endpoint.url.search,
          headers: ownHeaders(endpoint, ['accept', 'text/event-stream']),
          body: null,
        },
        {
          onStart: ({ status, rawHeaders }) => {
            const refusal = streamRefusal(status, headerValue(rawHeaders, 'content-type'))
            if (refusal) give(refusal)
          },
          onData: (chunk) => reader.push(chunk),
          onEnd: () => give(new KnownError('upstream_closed', 'the server ended the event stream')),
          onError: give,
        },
      )
    })
  }

  #hear(message: Buffer): void {
    const envelope = readEnvelope(message)
    if (envelope) this.#options.events.onMessage(message, envelope)
  }

  #close(why: string): void {
    if (this.#closed !== undefined) return
    this.#closed = why
    this.#options.events.onClose(why)
  }

  send(message: Buffer): Promise<void> {
    const { endpoint } = this.#options
    const messages = this.#messages
    if (this.#closed !== undefined || !messages) {
      return Promise.reject(new KnownError('upstream_closed', this.#closed ?? 'the event stream is not open'))
    }
    const headers = ['content-type', 'application/json', 'content-length', String(message.length)]
    return new Promise((resolve, reject) => {
      let failure: KnownError | undefined
      endpoint.send(
        {
          method: 'POST',
          path: messages.pathname + messages.search,
          headers: ownHeaders(endpoint, headers),
          body: message,
        },
        {
          onStart: ({ status }) => void (failure = messageRefusal(status)),
          onData: () => undefined,
          onEnd: () => (failure ? reject(failure) : resolve()),
          onError: reject,
        },
      )
    })
  }

  async close(): Promise<void> {
    this.#closed ??= 'closed by us'
    this.#stream?.abort()
    return Promise.resolve()
  }
}

function streamRefusal(status: number, contentType: string | undefined): KnownError | undefined {
  if (status === 401 || status === 403) {
    return new KnownError('upstream_unauthorized', `HTTP ${status}: credentials are missing or refused`)
  }
  if (status !== 200) return new KnownError('upstream_http_error', `HTTP ${status} instead of an event stream`)
  if (!isEventStream(contentType)) {
    return new KnownError('upstream_invalid', `content type "${contentType ?? 'none'}" instead of text/event-stream`)
  }
  return undefined
}

function messageRefusal(status: number): KnownError | undefined {
  if (status < 300) return undefined
  if (status === 401 || status === 403) {
    return new KnownError('upstream_unauthorized', `HTTP ${status}: credentials are missing or refused`)
  }
  if (status === 404) return new KnownError('upstream_session_gone', 'HTTP 404: the server no longer knows our stream')
  return new KnownError('upstream_http_error', `HTTP ${status} in answer to a posted message`)
}
