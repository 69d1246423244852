import { randomUUID } from 'node:crypto'
import type { Clock, Timer } from '../clock.ts'
import { KnownError } from '../errors.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Channel } from './channel.ts'

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
  readonly timer: Timer
}

const idPrefix = 'vitals-'

/**
 * The sidecar's own end of a channel: it asks under ids that no client uses (`vitals-<uuid>`), and keeps the answers
 * to them out of everybody else's sight.
 */
export class Peer {
  readonly #channel: Channel
  readonly #clock: Clock
  readonly #pending = new Map<string, Pending>()

  constructor(channel: Channel, clock: Clock) {
    this.#channel = channel
    this.#clock = clock
  }

  /** Rejects with a `KnownError`: `upstream_timeout` when nothing came in time, else what the channel says. */
  request({ method, params, timeoutMs }: RequestOptions): Promise<Answer> {
    const id = `${idPrefix}${randomUUID()}`
    const message = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, method, ...(params && { params }) }))
    return new Promise((resolve, reject) => {
      const key = JSON.stringify(id)
      const settle = () => {
        this.#pending.get(key)?.timer.cancel()
        this.#pending.delete(key)
      }
      const expire = () => {
        settle()
        reject(new KnownError('upstream_timeout', `no answer to ${method} within ${timeoutMs} ms`))
      }
      this.#pending.set(key, { resolve, reject, timer: this.#clock.after(timeoutMs, expire) })
      this.#channel.send(message, { method }).catch((error: unknown) => {
        settle()
        reject(error instanceof Error ? error : new Error(String(error)))
      })
    })
  }

  async notify(method: string): Promise<void> {
    await this.#channel.send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method })), { method })
  }

  /** Takes the message when it answers a request of ours, also one whose time is up; false when it is not for us. */
  takeAnswer(message: Buffer, envelope: Envelope): boolean {
    if (envelope.kind !== 'response' || !envelope.id?.startsWith(`"${idPrefix}`)) return false
    const pending = this.#pending.get(envelope.id)
    if (pending) {
      pending.timer.cancel()
      this.#pending.delete(envelope.id)
      pending.resolve({ message, error: envelope.error })
    }
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
    await this.#channel.send(Buffer.from(`{"jsonrpc":"2.0","id":${envelope.id ?? 'null'},${outcome}}`), {})
  }

  /** The connection is gone: everything still open fails with this error. */
  fail(error: KnownError): void {
    for (const { reject, timer } of this.#pending.values()) {
      timer.cancel()
      reject(error)
    }
    this.#pending.clear()
  }
}
