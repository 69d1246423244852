import { randomUUID } from 'node:crypto'
import { BoundedSet } from '../bounded-set.ts'
import { type Clock, giveUpAfter } from '../clock.ts'
import { KnownError, errorMessage } from '../errors.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Channel, Outgoing } from './channel.ts'

/** A server's answer to a request of our own. `error` is set for JSON-RPC errors, which are answers too. */
export interface Answer {
  readonly message: Buffer
  readonly error?: { readonly code: number; readonly message: string } | undefined
}

export interface RequestOptions {
  readonly method: string
  readonly params?: Readonly<Record<string, unknown>> | undefined
  readonly timeoutMs: number
}

interface Pending {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

const idPrefix = 'vitals-'
/** How the JSON text of such an id begins. */
const idTextPrefix = `"${idPrefix}`

/** Requests that are over and were not answered: a process that was stopped answers them all at once. */
const maxLate = 1000
/** Those that were answered, which should not happen twice. */
const maxAnswered = 16

/** How long a server may take to accept our answer to a request of its own. */
const replyTimeoutMs = 10_000

/**
 * The sidecar's own end of a channel: it asks under ids that nobody else uses (`vitals-<uuid>`), and keeps the answers
 * to them out of everybody else's sight. Ids alone tell what is ours: the client may be another sidecar.
 */
export class Peer {
  readonly #channel: Channel
  readonly #clock: Clock
  readonly #pending = new Map<string, Pending>()
  readonly #late = new BoundedSet<string>(maxLate)
  readonly #answered = new BoundedSet<string>(maxAnswered)

  constructor(channel: Channel, clock: Clock) {
    this.#channel = channel
    this.#clock = clock
  }

  /** Rejects with a `KnownError`: `upstream_timeout` when nothing came in time, else what the channel says. */
  request({ method, params, timeoutMs }: RequestOptions): Promise<Answer> {
    const id = `${idPrefix}${randomUUID()}`
    const message = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, method, ...(params && { params }) }))
    const key = `"${id}"`
    const ask = (signal: AbortSignal) =>
      new Promise<Answer>((resolve, reject) => {
        this.#pending.set(key, { resolve, reject })
        // The answer may come before the transport is done with the request, or after.
        this.#channel.send(message, { method }, signal).catch(reject)
      })
    return this.#within(timeoutMs, method, ask).finally(() => this.#forget(key))
  }

  /** Without an answer so far; one may still come, and is for nobody else. */
  #forget(key: string): void {
    if (this.#pending.delete(key)) this.#late.add(key)
  }

  async notify(method: string, timeoutMs: number): Promise<void> {
    await this.#send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method })), { method }, timeoutMs)
  }

  #send(message: Buffer, outgoing: Outgoing, timeoutMs: number): Promise<void> {
    const what = outgoing.method ?? 'the answer to a request of the server'
    return this.#within(timeoutMs, what, (signal) => this.#channel.send(message, outgoing, signal))
  }

  /** Rejects with `upstream_timeout` when the work takes longer, and closes what it holds open. */
  #within<T>(timeoutMs: number, what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const expiry = new AbortController()
    return new Promise<T>((resolve, reject) => {
      const timer = giveUpAfter(this.#clock, timeoutMs, () => {
        reject(new KnownError('upstream_timeout', `no answer to ${what} within ${Math.round(timeoutMs)} ms`))
        expiry.abort('its time is up') // Without a reason it would make one: an error with a stack.
      })
      const end = (settle: () => void) => {
        timer.cancel()
        settle()
      }
      work(expiry.signal).then(
        (value) => end(() => resolve(value)),
        (error: unknown) => end(() => reject(error instanceof Error ? error : new Error(errorMessage(error)))),
      )
    })
  }

  /** Whether this id (its JSON text) is that of a request of ours, be it over or not. */
  hasAsked(id: string): boolean {
    return id.startsWith(idTextPrefix) && (this.#pending.has(id) || this.#late.has(id) || this.#answered.has(id))
  }

  /** Takes the message when it answers a request of ours, also one whose time is up; false when it is not for us. */
  takeAnswer(message: Buffer, envelope: Envelope): boolean {
    const { kind, id, error } = envelope
    if (kind !== 'response' || id?.startsWith(idTextPrefix) !== true) return false
    const asked = this.#pending.get(id)
    if (!asked && !this.#late.has(id)) return this.#answered.has(id)
    this.#pending.delete(id)
    this.#late.delete(id)
    this.#answered.add(id)
    asked?.resolve({ message, error })
    return true
  }

  /**
   * Answers what a server asks of us on a connection of our own: `ping` with an empty result (MCP 2025-11-25, Ping),
   * anything else with −32601, since our handshake declares no client capability.
   */
  async answerServerRequest(envelope: Envelope): Promise<void> {
    if (envelope.kind !== 'request') return
    const outcome =
      envelope.method === 'ping'
        ? '"result":{}'
        : '"error":{"code":-32601,"message":"the heartbeat client offers no such method"}'
    await this.#send(Buffer.from(`{"jsonrpc":"2.0","id":${envelope.id ?? 'null'},${outcome}}`), {}, replyTimeoutMs)
  }

  /** The connection is gone: everything still open fails with this error. */
  fail(error: KnownError): void {
    for (const { reject } of this.#pending.values()) reject(error)
  }
}
