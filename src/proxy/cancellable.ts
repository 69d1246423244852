import { BoundedSet } from '../bounded-set.ts'
import { PassingMap } from '../passing-map.ts'
import type { Envelope } from '../wire/envelope.ts'
import { type Exchange, sessionIdOf } from './exchange.ts'

/** A forwarded POST with requests that their client may cancel. */
export interface Cancellable {
  /** Its client wants no answer to the request of this id; true when the server never got it, and never will. */
  cancel(id: string): boolean
}

/** A POST whose body is read only when it is its turn, and what its session cancels until then. */
export interface UnreadPost {
  /** Ids that may be its own; more than these, and the oldest is forgotten. */
  readonly cancelled: BoundedSet<string>
  readonly stop: () => void
}

/** So many cancellations are remembered for a POST that waits: each is one of a request that is no longer under way. */
const maxRemembered = 1000

/**
 * Forwarded requests under way, as a cancellation names them: by session and id. Without a session nobody knows whose
 * id it is, and two clients may use the same one.
 */
export class CancellableRequests {
  readonly #posts = new PassingMap<string, Cancellable>()
  /** By upstream and session. */
  readonly #unread = new Map<string, Set<UnreadPost>>()
  readonly #onForgotten: () => void

  constructor(onForgotten: () => void = () => undefined) {
    this.#onForgotten = onForgotten
  }

  /** An id that is used again means the latest request. */
  add(exchange: Exchange, message: Envelope | undefined, post: Cancellable): void {
    for (const key of keysOf(exchange, message)) this.#posts.set(key, post)
  }

  /** They are over. */
  delete(exchange: Exchange, message: Envelope | undefined, post: Cancellable): void {
    for (const key of keysOf(exchange, message)) if (this.#posts.get(key) === post) this.#posts.delete(key)
  }

  /** From now on, until it is stopped. Undefined without a session. */
  waitsUnread(exchange: Exchange): UnreadPost | undefined {
    const session = sessionIdOf(exchange)
    if (session === undefined) return undefined
    const key = keyOf(exchange, session)
    const posts = this.#unread.get(key) ?? new Set()
    this.#unread.set(key, posts)
    const stop = () => {
      posts.delete(post)
      if (posts.size === 0 && this.#unread.get(key) === posts) this.#unread.delete(key)
    }
    const post = { cancelled: cancelledIds(this.#onForgotten), stop }
    posts.add(post)
    return post
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
    const known = this.#posts.get(keyOf(exchange, session, id))
    if (!known) this.#remember(keyOf(exchange, session), id)
    return known?.cancel(id) ?? false
  }

  /** It may be of a request that nobody has read yet. */
  #remember(session: string, id: string): void {
    for (const { cancelled } of this.#unread.get(session) ?? []) cancelled.add(id)
  }
}

/** What is cancelled while a POST waits unread. */
export function cancelledIds(onForgotten: () => void): BoundedSet<string> {
  return new BoundedSet(maxRemembered, onForgotten)
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

function keyOf({ upstream }: Exchange, session: string, id = ''): string {
  return `${upstream} ${session} ${id}`
}
