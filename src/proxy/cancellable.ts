import type { Envelope } from '../wire/envelope.ts'
import { type Exchange, sessionIdOf } from './exchange.ts'

/** A forwarded POST with requests that their client may cancel. */
export interface Cancellable {
  /** Its client wants no answer to the request of this id; true when the server never got it, and never will. */
  cancel(id: string): boolean
}

/**
 * Forwarded requests under way, as a cancellation names them: by session and id. Without a session nobody knows whose
 * id it is, and two clients may use the same one.
 */
export class CancellableRequests {
  readonly #posts = new Map<string, Cancellable>()

  /** An id that is used again means the latest request. */
  add(exchange: Exchange, message: Envelope | undefined, post: Cancellable): void {
    for (const key of keysOf(exchange, message)) this.#posts.set(key, post)
  }

  /** They are over. */
  delete(exchange: Exchange, message: Envelope | undefined, post: Cancellable): void {
    for (const key of keysOf(exchange, message)) if (this.#posts.get(key) === post) this.#posts.delete(key)
  }

  /** Reads a message of a client; true when it cancels what the server never got, and so need not hear of either. */
  heard(exchange: Exchange, message: Envelope | undefined): boolean {
    if (message?.kind === 'batch') {
      for (const one of message.messages ?? []) this.heard(exchange, one)
      return false
    }
    const id = message && cancelledId(message)
    const session = sessionIdOf(exchange)
    if (id === undefined || session === undefined) return false
    return this.#posts.get(keyOf(exchange, session, id))?.cancel(id) ?? false
  }
}

/** The id that a cancellation names. */
export function cancelledId({ method, requestId }: Envelope): string | undefined {
  return method === 'notifications/cancelled' ? requestId : undefined
}

/** `initialize` must not be cancelled (MCP 2025-11-25, Cancellation). */
export function isCancellable({ kind, method }: Envelope): boolean {
  return kind === 'request' && method !== 'initialize'
}

const none: readonly string[] = []

function keysOf(exchange: Exchange, message: Envelope | undefined): readonly string[] {
  const session = sessionIdOf(exchange)
  if (!message || session === undefined) return none
  return (message.messages ?? [message]).flatMap((one) =>
    one?.id !== undefined && isCancellable(one) ? [keyOf(exchange, session, one.id)] : [],
  )
}

function keyOf({ upstream }: Exchange, session: string, id: string): string {
  return `${upstream} ${session} ${id}`
}
