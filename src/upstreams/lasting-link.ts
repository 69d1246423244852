import { randomUUID } from 'node:crypto'
import type { Clock, Timer } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorCode } from '../errors.ts'
import { type Envelope, readEnvelope, splice } from '../wire/envelope.ts'
import type { HeadersFor } from './client-endpoint.ts'
import type { Link, LinkListener } from './link.ts'

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

/**
 * A link that outlives the server's sessions, for a client that cannot be told that one has ended. Whoever speaks HTTP
 * opens a new one when the server forgot the old (MCP 2025-11-25, Session Management, 4), so the client's own opening
 * exchange is repeated, with the next message and under an id of ours. What the server kept in its old session, such as
 * subscriptions, is gone with it. A message is sent again only if the server refused it for want of its session.
 */
export class LastingLink implements Link {
  readonly #options: LastingLinkOptions
  /** The connection in use; a rejected one is forgotten. */
  #link: Promise<Link> | undefined
  #asked: { readonly id: string | undefined; readonly message: Buffer } | undefined
  #opening: Opening | undefined
  #isHeld = false
  #isClosed = false
  readonly #links = new Set<Link>()

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
    const current = this.#connected(headers)
    try {
      await (await current).send(message, envelope, headers)
    } catch (error) {
      if (errorCode(error) !== 'upstream_session_gone' || !this.#opening || method === 'initialize') throw error
      if (this.#link === current) this.#link = undefined
      await (await this.#connected(headers)).send(message, envelope, headers)
    }
    if (method === 'notifications/initialized' && this.#opening) this.#opening.initialized = message
  }

  giveUp(id: string, reason: string, headers: HeadersFor): void {
    for (const link of this.#links) link.giveUp(id, reason, headers)
  }

  hold(isFull: boolean): void {
    this.#isHeld = isFull
    for (const link of this.#links) link.hold(isFull)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#links].map((link) => link.close()))
  }

  #connected(headers: HeadersFor): Promise<Link> {
    if (this.#isClosed) return Promise.reject(new KnownError('cancelled', 'the connection was closed by us'))
    if (this.#link) return this.#link
    const connecting = this.#connect(headers)
    this.#link = connecting
    connecting.catch(() => {
      if (this.#link === connecting) this.#link = undefined
    })
    return connecting
  }

  async #connect(headers: HeadersFor): Promise<Link> {
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
        if (!this.#links.delete(link)) return
        this.#link = undefined
        listener.onClose(error)
      },
    })
    this.#links.add(link)
    if (this.#isHeld) link.hold(true)
    try {
      await link.open(headers)
      if (this.#opening) await this.#repeat(link, this.#opening, headers, (waiting) => (repetition = waiting))
      return link
    } catch (error) {
      this.#links.delete(link)
      void link.close()
      throw error
    }
  }

  #learn({ kind, id, error, protocolVersion }: Envelope): void {
    if (kind !== 'response' || !this.#asked || id !== this.#asked.id) return
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
