import { PassingMap } from '../passing-map.ts'
import type { Envelope } from '../wire/envelope.ts'

/**
 * The requests of one session that have no answer yet: those that wait for their turn, and those that the server was
 * asked. By the raw text of the id; a client that uses an id twice at once gets its answers in the order it asked.
 */
export class OpenRequests<T extends { readonly envelope: Envelope }> {
  readonly #queued: T[] = []
  readonly #asked = new PassingMap<string, readonly T[]>()

  queue(request: T): void {
    this.#queued.push(request)
  }

  /** It is its turn. */
  ask(request: T): void {
    const id = idOf(request)
    this.#leaveQueue(request)
    this.#asked.set(id, this.#withId(id).concat(request))
  }

  has(request: T): boolean {
    return this.isQueued(request) || this.#withId(idOf(request)).includes(request)
  }

  isQueued(request: T): boolean {
    return this.#queued.includes(request)
  }

  /** False when it was not open any more. */
  remove(request: T): boolean {
    if (this.#leaveQueue(request)) return true
    const id = idOf(request)
    const before = this.#withId(id)
    if (!before.includes(request)) return false
    if (before.length === 1) this.#asked.delete(id)
    else
      this.#asked.set(
        id,
        before.filter((one) => one !== request),
      )
    return true
  }

  /** The request that an answer with this id is for. */
  answeredBy(id: string | undefined): T | undefined {
    return this.#withId(id ?? 'null')[0]
  }

  /** The request that a cancellation of this id means: the latest, and rather one that the server has not got. */
  cancelledBy(id: string): T | undefined {
    return this.#queued.findLast((request) => idOf(request) === id) ?? this.#withId(id).at(-1)
  }

  /** Those that the server was asked. */
  asked(): T[] {
    return [...this.#asked.values()].flat()
  }

  all(): T[] {
    return [...this.#queued, ...this.asked()]
  }

  #leaveQueue(request: T): boolean {
    const at = this.#queued.lastIndexOf(request)
    if (at === -1) return false
    if (at === this.#queued.length - 1) this.#queued.pop()
    else this.#queued.splice(at, 1)
    return true
  }

  #withId(id: string): readonly T[] {
    return this.#asked.get(id) ?? []
  }
}

function idOf({ envelope }: { readonly envelope: Envelope }): string {
  return envelope.id ?? 'null'
}
