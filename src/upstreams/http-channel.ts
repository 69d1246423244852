import type { Clock, Timer } from '../clock.ts'
import { KnownError, errorCode } from '../errors.ts'
import { type Envelope, isSameId, readEnvelope } from '../wire/envelope.ts'
import { eraOfVersion } from '../wire/era.ts'
import { headerNames, headerValue, modernHeaders } from '../wire/headers.ts'
import type { Channel, ChannelEvents, Outgoing } from './channel.ts'
import { type Endpoint, ownHeaders } from './endpoint.ts'
import { type FollowOptions, follow } from './follow.ts'
import { post } from './post.ts'
import type { ResumePoint } from './reply.ts'
import { refuseUnfit } from './unfit.ts'

export interface HttpChannelOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly maxBodyBytes: number
  /** Whether an answer whose stream was cut is fetched behind its last event. */
  readonly resumes?: boolean
  readonly events: Pick<ChannelEvents, 'onMessage' | 'onTooLong'>
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
  /** Whether the server could not be reached since it last accepted something: it may have been restarted. */
  #wasLost = false

  constructor(options: HttpChannelOptions) {
    this.#options = options
    this.#path = options.endpoint.url.pathname + options.endpoint.url.search
  }

  /** The revision agreed in the handshake; from then on every request names it. */
  useProtocolVersion(version: string | undefined): void {
    this.#protocolVersion = version
  }

  /**
   * Opens the stream on which the server speaks unasked, and keeps it open; a server that offers none is let be.
   * `onGone` hears that the server no longer knows our session (MCP 2025-11-25, "Listening for Messages from the Server").
   */
  listen(onGone: (error: KnownError) => void): void {
    this.#follow(this.#life.signal, undefined, {
      onMessage: (message, envelope) => this.#options.events.onMessage(message, envelope),
      onTooLong: (bytes, envelope) => this.#refuse(bytes, envelope, this.#options.events),
      onBroken: () => void (this.#wasLost = true),
      onRefused: (status) => {
        if (this.#sessionId === undefined || !this.#isForgotten(status)) return
        this.#sessionId = undefined
        onGone(new KnownError('upstream_session_gone', `HTTP ${status}: the server no longer knows our session`))
      },
    })
  }

  /**
   * Whether this answer says that the server does not know our session: 404 (MCP 2025-11-25, Session Management, 3), or
   * the 400 that servers built after the SDK's examples give, if they may have been started anew meanwhile.
   */
  #isForgotten(status: number): boolean {
    return status === 404 || (status === 400 && this.#wasLost)
  }

  #follow(
    signal: AbortSignal,
    from: ResumePoint | undefined,
    heard: Pick<FollowOptions, 'onMessage' | 'onTooLong' | 'onBroken' | 'onRefused'>,
  ): void {
    const { endpoint, clock, maxBodyBytes } = this.#options
    const headers = this.#contextHeaders({})
    follow({ endpoint, clock, path: this.#path, headers, maxBodyBytes, from, signal, ...heard })
  }

  /** What was left of an answer: until it came, the request stays open, as it would with the client itself. */
  #resume(asked: Envelope | undefined, from: ResumePoint, signal: AbortSignal): Promise<void> {
    const answered = new AbortController()
    return new Promise((resolve, reject) => {
      const cancel = () => reject(new KnownError('cancelled', 'the connection was closed by us'))
      if (signal.aborted) return cancel()
      signal.addEventListener('abort', cancel, { once: true })
      const onMessage = (message: Buffer, envelope: Envelope) => {
        this.#options.events.onMessage(message, envelope)
        if (envelope.kind !== 'response' || !isSameId(asked?.id, envelope.id)) return
        answered.abort()
        signal.removeEventListener('abort', cancel)
        resolve()
      }
      this.#follow(AbortSignal.any([answered.signal, signal]), from, {
        onMessage,
        onTooLong: (bytes, envelope) => this.#refuse(bytes, envelope, { onMessage }),
        onRefused: (status) => {
          reject(new KnownError('upstream_closed', `the answer was cut off, and HTTP ${status} came for the rest`))
        },
      })
    })
  }

  async send(message: Buffer, outgoing: Outgoing, signal?: AbortSignal): Promise<void> {
    const ends = signal ? [signal, this.#life.signal] : [this.#life.signal]
    try {
      const rest = await this.#post(message, outgoing, ends)
      if (rest) await this.#resume(readEnvelope(message), rest, AbortSignal.any(ends))
    } catch (error) {
      const code = errorCode(error)
      this.#wasLost ||= code === 'upstream_refused' || code === 'upstream_reset'
      throw error
    }
  }

  #post(message: Buffer, outgoing: Outgoing, signals: readonly AbortSignal[]): Promise<ResumePoint | undefined> {
    const { endpoint, clock, maxBodyBytes, events, resumes } = this.#options
    const isModern = this.#isModern(outgoing)
    return post({
      endpoint,
      clock,
      path: this.#path,
      message,
      headers: ['accept', 'application/json, text/event-stream', ...this.#contextHeaders(outgoing)],
      maxBodyBytes,
      isAnsweredElsewhere: false,
      canResume: resumes,
      signals,
      onStart: (status, rawHeaders) => !isModern && this.#isOurSessionGone(status, rawHeaders, outgoing),
      onMessage: (heard, envelope) => events.onMessage(heard, envelope),
      onTooLong: (bytes, envelope) => this.#refuse(bytes, envelope, events),
    })
  }

  #refuse(bytes: number, envelope: Envelope | undefined, events: Pick<ChannelEvents, 'onMessage'>): void {
    const { maxBodyBytes: maxBytes } = this.#options
    this.#options.events.onTooLong?.()
    if (envelope) refuseUnfit({ envelope, bytes, maxBytes, events, answer: (error) => this.send(error, {}) })
  }

  #isOurSessionGone(status: number, rawHeaders: readonly string[], { method }: Outgoing): boolean {
    // The answer to `initialize` alone assigns a session (MCP 2025-11-25, Session Management, 1).
    const isAssigned = method === 'initialize' && status === 200
    if (isAssigned) this.#sessionId = headerValue(rawHeaders, headerNames.sessionId)
    const isGone = this.#sessionId !== undefined && this.#isForgotten(status)
    if (isGone) this.#sessionId = undefined // Nothing is left to end.
    if (status < 300) this.#wasLost = false
    return isGone
  }

  #contextHeaders(outgoing: Outgoing): string[] {
    const { method, protocolVersion: version = this.#protocolVersion, paramHeaders = [] } = outgoing
    if (version !== undefined && method !== undefined && this.#isModern(outgoing)) {
      return [...modernHeaders({ ...outgoing, method, protocolVersion: version }), ...paramHeaders]
    }
    const headers: string[] = []
    if (this.#sessionId !== undefined) headers.push(headerNames.sessionId, this.#sessionId)
    if (version !== undefined) headers.push(headerNames.protocolVersion, version)
    return headers
  }

  #isModern({ protocolVersion = this.#protocolVersion }: Outgoing): boolean {
    return protocolVersion !== undefined && eraOfVersion(protocolVersion) === 'modern'
  }

  /** Leaves our session to somebody else: it goes on, and is ours no more. Undefined where the server assigned none. */
  release(): string | undefined {
    const sessionId = this.#sessionId
    this.#sessionId = undefined
    this.#life.abort('left to somebody else')
    return sessionId
  }

  /** Ends our session with DELETE, so that the server does not keep it (MCP 2025-11-25, Session Management, 5). */
  async close(): Promise<void> {
    this.#life.abort('closed by us') // Without a reason it would make one: an error with a stack, for each session.
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
