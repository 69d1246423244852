import { randomUUID } from 'node:crypto'
import type { Clock, Timer } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorCode } from '../errors.ts'
import { type Envelope, isSameId, readEnvelope, splice } from '../wire/envelope.ts'
import type { HeadersFor } from './client-endpoint.ts'
import type { Link, LinkListener } from './link.ts'
import type { Answer, Peer, RequestOptions } from './peer.ts'

export interface LastingLinkOptions {
  /** Makes a connection that has said nothing yet. */
  readonly connect: (listener: LinkListener) => Link
  readonly clock: Clock
  readonly listener: LinkListener
}

/** An `initialize` of the client that the server accepted, and what makes it whole. */
interface Opening {
  readonly message: Buffer
  readonly protocolVersion: string | undefined
  initialized: Buffer | undefined
}

/** Hears the answer to the `initialize` that we repeat, on the connection on which we do. */
interface Repetition {
  readonly id: string
  readonly resolve: (answer: Envelope) => void
  readonly reject: (error: Error) => void
}

/** A connection, and how many messages are being sent on it. */
interface Connection {
  readonly link: Link
  sending: number
}

/**
 * A link that outlives the server's sessions, for a client that cannot be told that one has ended. Whoever speaks HTTP
 * opens a new one when the server forgot the old (MCP 2025-11-25, Session Management, 4), so the client's own opening
 * exchange is repeated, with the next message and under an id of ours. What the server kept in its old session, such as
 * subscriptions, is gone with it. A message is sent again only if the server refused it for want of its session.
 */
export class LastingLink implements Link {
  readonly #options: LastingLinkOptions
  /** The connection in use; a rejected one is forgotten. */
  #connecting: Promise<Connection> | undefined
  /** The same once it is open. */
  #current: Connection | undefined
  #asked: { readonly id: string | undefined; readonly message: Buffer } | undefined
  #opening: Opening | undefined
  #isHeld = false
  #isClosed = false
  /** Those that are not closed: a forgotten one may still answer what was sent on it. */
  readonly #connections = new Set<Connection>()

  constructor(options: LastingLinkOptions) {
    this.#options = options
  }

  /** Connects; `send` does so by itself. */
  async open(headers: HeadersFor): Promise<void> {
    await this.#connected(headers)
  }

  async send(message: Buffer, envelope: Envelope, headers: HeadersFor): Promise<void> {
    const { method, id } = envelope
    if (method === 'initialize') this.#asked = { id, message }
    const connecting = this.#connected(headers)
    try {
      await this.#sendOn(await connecting, message, envelope, headers)
    } catch (error) {
      if (errorCode(error) !== 'upstream_session_gone' || !this.#opening || method === 'initialize') throw error
      this.#forget(await connecting)
      await this.#sendOn(await this.#connected(headers), message, envelope, headers)
    }
    if (method === 'notifications/initialized' && this.#opening) this.#opening.initialized = message
  }

  /** Inside the session in use; where the server turns out to have forgotten it, the next message opens another. */
  get peer(): Pick<Peer, 'request'> | undefined {
    const connection = this.#current
    const peer = connection?.link.peer
    return connection && peer && { request: (asked) => this.#ask(connection, peer, asked) }
  }

  async #ask(connection: Connection, peer: Pick<Peer, 'request'>, asked: RequestOptions): Promise<Answer> {
    try {
      return await peer.request(asked)
    } catch (error) {
      if (errorCode(error) === 'upstream_session_gone') this.#forget(connection)
      throw error
    }
  }

  giveUp(id: string, reason: string, headers: HeadersFor): void {
    for (const { link } of this.#connections) link.giveUp(id, reason, headers)
  }

  hold(isFull: boolean): void {
    this.#isHeld = isFull
    for (const { link } of this.#connections) link.hold(isFull)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#connections].map(({ link }) => link.close()))
  }

  async #sendOn(connection: Connection, message: Buffer, envelope: Envelope, headers: HeadersFor): Promise<void> {
    connection.sending += 1
    try {
      await connection.link.send(message, envelope, headers)
    } finally {
      connection.sending -= 1
      this.#closeUnused(connection)
    }
  }

  /** The next message goes on another connection. */
  #forget(connection: Connection): void {
    if (this.#current === connection) {
      this.#current = undefined
      this.#connecting = undefined
    }
    this.#closeUnused(connection)
  }

  #closeUnused(connection: Connection): void {
    const isUsed = connection === this.#current || connection.sending > 0
    if (!isUsed && this.#connections.delete(connection)) void connection.link.close()
  }

  #connected(headers: HeadersFor): Promise<Connection> {
    if (this.#isClosed) return Promise.reject(new KnownError('cancelled', 'the connection was closed by us'))
    if (this.#connecting) return this.#connecting
    const connecting = this.#connect(headers)
    this.#connecting = connecting
    connecting.catch(() => {
      if (this.#connecting === connecting) this.#connecting = undefined
    })
    return connecting
  }

  async #connect(headers: HeadersFor): Promise<Connection> {
    let repetition: Repetition | undefined
    const { connect, listener } = this.#options
    const link = connect({
      onMessage: (message, envelope) => {
        const isOurs = envelope.kind === 'response' && envelope.id === repetition?.id
        if (isOurs) return repetition?.resolve(envelope)
        this.#learn(envelope)
        listener.onMessage(message, envelope)
      },
      onClose: (error) => {
        repetition?.reject(error)
        if (this.#current !== connection) return
        this.#connections.delete(connection)
        this.#forget(connection)
        listener.onClose(error)
      },
    })
    const connection: Connection = { link, sending: 0 }
    this.#connections.add(connection)
    if (this.#isHeld) link.hold(true)
    try {
      await link.open(headers)
      if (this.#opening) await this.#repeat(link, this.#opening, headers, (waiting) => (repetition = waiting))
      this.#current = connection
      return connection
    } catch (error) {
      this.#connections.delete(connection)
      void link.close()
      throw error
    }
  }

  #learn({ kind, id, error, protocolVersion }: Envelope): void {
    if (kind !== 'response' || !this.#asked || !isSameId(this.#asked.id, id)) return
    if (!error) this.#opening = { message: this.#asked.message, protocolVersion, initialized: undefined }
    this.#asked = undefined
  }

  async #repeat(
    link: Link,
    { message, protocolVersion, initialized }: Opening,
    headers: HeadersFor,
    expect: (repetition: Repetition) => void,
  ): Promise<void> {
    const id = JSON.stringify(`vitals-${randomUUID()}`)
    const range = readEnvelope(message)?.ranges.id
    const ours = splice(message, range ? [{ range, text: id }] : [])
    const answered = this.#inTime(
      new Promise<Envelope>((resolve, reject) => expect({ id, resolve, reject })),
      defaults.heartbeat.lateAnswerMs,
    )
    const envelope = readEnvelope(ours)
    // One that cannot be sent is never answered; its answer may come before it counts as sent.
    const [answer] = await Promise.all([answered, envelope && link.send(ours, envelope, headers)])
    const refused = answer.error?.message ?? otherRevision(answer.protocolVersion, protocolVersion)
    if (refused !== undefined) throw new KnownError('upstream_session_gone', `no new session: ${refused}`)
    const toldEnvelope = initialized && readEnvelope(initialized)
    if (initialized && toldEnvelope) await link.send(initialized, toldEnvelope, headers)
  }

  #inTime(answered: Promise<Envelope>, timeoutMs: number): Promise<Envelope> {
    let timer: Timer | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = this.#options.clock.after(timeoutMs, () => {
        reject(new KnownError('upstream_timeout', `the server opened no new session within ${timeoutMs / 1000} s`))
      })
    })
    return Promise.race([answered, late]).finally(() => timer?.cancel())
  }
}

/** The client cannot be told of another revision than the one that it agreed on. */
function otherRevision(now: string | undefined, before: string | undefined): string | undefined {
  return now === before ? undefined : `the server now speaks ${now ?? 'no revision'} and not ${before ?? 'none'}`
}
