import type { Clock } from '../clock.ts'
import { KnownError } from '../errors.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { headerValue, isEventStream } from '../wire/headers.ts'
import { SseMessageReader } from '../wire/sse.ts'
import type { Channel, ChannelEvents, Outgoing } from './channel.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import type { HttpExchange } from './http.ts'
import { post } from './post.ts'
import { Unauthorized, busyOf } from './reply.ts'
import { refuseUnfit } from './unfit.ts'

export interface SseChannelOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly maxBodyBytes: number
  readonly events: ChannelEvents
}

/**
 * Where the `endpoint` event of HTTP+SSE sends us: a path or URL of the upstream's own origin. Anything else would let
 * the server point us at its neighbours (SSRF), so it is refused. `sentHost` is the `Host` that we opened the stream
 * with: a server that builds its URL from that means itself, at the address by which we know it.
 */
export function messagesUrl(stream: URL, endpointData: string, sentHost?: string): URL {
  const text = endpointData.trim()
  if (text === '' || !URL.canParse(text, stream.href)) {
    throw new KnownError('upstream_invalid', `the endpoint event "${text.slice(0, 200)}" is no URL`)
  }
  const url = new URL(text, stream)
  if (url.origin === stream.origin) return url
  if (!isAt(url, sentHost)) {
    throw new KnownError(
      'upstream_invalid',
      `the endpoint event names ${url.origin}, but only ${stream.origin} is allowed`,
    )
  }
  const own = new URL(stream.origin)
  own.pathname = url.pathname
  own.search = url.search
  return own
}

/** Whether it is a web address of this host; a port that its scheme implies may be left out. */
function isAt(url: URL, host: string | undefined): boolean {
  if (host === undefined || !/^https?:$/.test(url.protocol)) return false
  const named = `${url.protocol}//${host}`
  return URL.canParse(named) && new URL(named).host === url.host
}

/** HTTP+SSE (2024-11-05) towards a server, for the sidecar's own messages: one stream down, POSTs up. */
export class SseChannel implements Channel {
  readonly #options: SseChannelOptions
  readonly #life = new AbortController()
  #stream: HttpExchange | undefined
  #messages: URL | undefined
  #closed: string | undefined

  constructor(options: SseChannelOptions) {
    this.#options = options
  }

  /** Opens the stream; resolves when the server has said where to POST. */
  open(): Promise<void> {
    const { endpoint, maxBodyBytes } = this.#options
    if (this.#closed !== undefined) return Promise.reject(new KnownError('cancelled', this.#closed))
    const headers = ownHeaders(endpoint, ['accept', 'text/event-stream'])
    return new Promise((resolve, reject) => {
      this.#life.signal.addEventListener('abort', () => reject(new KnownError('cancelled', this.#closed ?? '')))
      const fail = (error: KnownError) => {
        reject(error)
        this.#lose(error.message)
      }
      const reader = new SseMessageReader({
        maxBytes: maxBodyBytes,
        onMessage: ({ type, data }) => {
          if (type === 'message') return this.#hear(data)
          if (type !== 'endpoint') return
          try {
            this.#messages ??= messagesUrl(endpoint.url, data.toString(), headerValue(headers, 'host'))
            resolve()
          } catch (error) {
            fail(error instanceof KnownError ? error : new KnownError('internal', String(error)))
          }
        },
        onTooLarge: ({ type, bytes, envelope }) => {
          if (type === 'message') this.#refuse(bytes, envelope)
        },
      })
      this.#stream = endpoint.send(
        {
          method: 'GET',
          path: endpoint.url.pathname + endpoint.url.search,
          headers,
          body: null,
        },
        {
          onStart: ({ status, rawHeaders }) => {
            const refusal = streamRefusal(status, rawHeaders)
            if (refusal) fail(refusal)
          },
          onData: (chunk) => reader.push(chunk),
          onEnd: () => fail(new KnownError('upstream_closed', 'the server ended the event stream')),
          onError: fail,
        },
      )
    })
  }

  #hear(message: Buffer): void {
    const envelope = readEnvelope(message)
    if (envelope) this.#options.events.onMessage(message, envelope)
    else this.#options.events.onNoise?.()
  }

  #refuse(bytes: number, envelope: Envelope | undefined): void {
    const { maxBodyBytes: maxBytes, events } = this.#options
    events.onTooLong?.()
    if (envelope) refuseUnfit({ envelope, bytes, maxBytes, events, answer: (error) => this.send(error, {}) })
  }

  #lose(why: string): void {
    if (this.#closed !== undefined) return
    this.#closed = why
    // Told first: what waits for an answer then fails with this reason, and not because we close what is left.
    this.#options.events.onClose(why)
    this.#end(why)
  }

  #end(why: string): void {
    this.#closed ??= why
    this.#stream?.abort()
    this.#life.abort()
  }

  async send(message: Buffer, _outgoing: Outgoing, signal?: AbortSignal): Promise<void> {
    const { endpoint, clock, maxBodyBytes, events } = this.#options
    const messages = this.#messages
    if (this.#closed !== undefined || !messages) {
      throw new KnownError('upstream_closed', this.#closed ?? 'the event stream is not open')
    }
    await post({
      endpoint,
      clock,
      path: messages.pathname + messages.search,
      message,
      headers: [],
      maxBodyBytes,
      isAnsweredElsewhere: true,
      signals: signal ? [signal, this.#life.signal] : [this.#life.signal],
      onStart: (status) => status === 404, // The stream is the session, and the URL that we post to names it.
      onMessage: (heard, envelope) => events.onMessage(heard, envelope),
      onTooLong: (bytes, envelope) => this.#refuse(bytes, envelope),
    })
  }

  close(): Promise<void> {
    this.#end('closed by us')
    return Promise.resolve()
  }
}

function streamRefusal(status: number, rawHeaders: readonly string[]): KnownError | undefined {
  const contentType = headerValue(rawHeaders, 'content-type')
  if (status === 401 || status === 403) return new Unauthorized(status, headerValue(rawHeaders, 'www-authenticate'))
  const busy = busyOf(status, rawHeaders)
  if (busy) return busy
  if (status !== 200) return new KnownError('upstream_http_error', `HTTP ${status} instead of an event stream`)
  if (!isEventStream(contentType)) {
    return new KnownError('upstream_invalid', `content type "${contentType ?? 'none'}" instead of text/event-stream`)
  }
  return undefined
}
