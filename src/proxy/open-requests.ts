import { BoundedSet } from '../bounded-set.ts'
import { PassingMap } from '../passing-map.ts'
import { type Envelope, isSameId } from '../wire/envelope.ts'

export interface OpenRequest {
  readonly envelope: Envelope
  /** Whether the server may have it. */
  readonly isSent: boolean
  /** JSON text of the id that the server knows it by, where that is not the client's own. */
  alias: string | undefined
}

/** Ids of a session that were given up and may still be answered. */
const maxUnanswered = 1000

/**
 * The requests of one session that have no answer yet: those that wait for their turn, and those that the server was
 * asked. An id belongs to one request alone (MCP 2025-11-25, Basic, Requests), but clients exist that use one again
 * whose request they left or gave up, or even use one id for all. The server then gets an id of ours in its place, so
 * that it is always known which of them an answer is for.
 */
export class OpenRequests<T extends OpenRequest> {
  readonly #queued: T[] = []
  /** By the id that the server knows. */
  readonly #asked = new PassingMap<string, T>()
  /** Ids that the server knows of requests that were given up. */
  readonly #unanswered: BoundedSet<string>
  #lastAlias = 0

  /** `onForgotten`: of too many requests that were given up, one will not be known again. */
  constructor(onForgotten?: () => void) {
    this.#unanswered = new BoundedSet(maxUnanswered, onForgotten)
  }

  queue(request: T): void {
    this.#queued.push(request)
  }

  /** It is its turn. */
  ask(request: T): void {
    this.#leaveQueue(request)
    const id = ownIdOf(request)
    if (this.#isTaken(id)) request.alias = this.#newAlias()
    this.#asked.set(request.alias ?? id, request)
  }

  has(request: T): boolean {
    return this.isQueued(request) || this.#isAsked(request)
  }

  isQueued(request: T): boolean {
    return this.#queued.includes(request)
  }

  /** It has its answer, or never will have it; false when it was not open any more. */
  remove(request: T, { isAnswered }: { readonly isAnswered: boolean }): boolean {
    if (this.#leaveQueue(request)) return true
    if (!this.#isAsked(request)) return false
    const id = idOf(request)
    this.#asked.delete(id)
    if (!isAnswered && request.isSent) this.#unanswered.add(id)
    return true
  }

  /** The request that an answer of the server with this id is for. */
  answeredBy(id: string | undefined): T | undefined {
    const request = this.#asked.get(id ?? 'null')
    if (request || id === undefined || this.#unanswered.delete(id)) return request
    return this.asked().find((one) => isSameId(idOf(one), id))
  }

  /** The request that a cancellation of this id means: the latest, and rather one that the server has not got. */
  cancelledBy(id: string): T | undefined {
    const isMeant = (request: T) => ownIdOf(request) === id
    return this.#queued.findLast(isMeant) ?? this.asked().findLast(isMeant)
  }

  /** Those that the server was asked. */
  asked(): T[] {
    return [...this.#asked.values()]
  }

  all(): T[] {
    return [...this.#queued, ...this.asked()]
  }

  #isAsked(request: T): boolean {
    return this.#asked.get(idOf(request)) === request
  }

  #isTaken(id: string): boolean {
    return this.#asked.get(id) !== undefined || this.#unanswered.has(id)
  }

  #newAlias(): string {
    for (;;) {
      this.#lastAlias += 1
      const alias = `"vitals-again-${this.#lastAlias}"`
      if (!this.#isTaken(alias)) return alias
    }
  }

  #leaveQueue(request: T): boolean {
    const at = this.#queued.lastIndexOf(request)
    if (at === -1) return false
    if (at === this.#queued.length - 1) this.#queued.pop()
    else this.#queued.splice(at, 1)
    return true
  }
}

/** What the server calls it. */
function idOf(request: OpenRequest): string {
  return request.alias ?? ownIdOf(request)
}

/** What the client calls it. */
function ownIdOf({ envelope }: OpenRequest): string {
  return envelope.id ?? 'null'
}
