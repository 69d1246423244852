/** A set of at most so many members, which forgets the oldest first. */
export class BoundedSet<T> {
  readonly #most: number
  readonly #onForgotten: () => void
  readonly #members = new Set<T>()

  constructor(most: number, onForgotten: () => void = () => undefined) {
    this.#most = most
    this.#onForgotten = onForgotten
  }

  get size(): number {
    return this.#members.size
  }

  has(member: T): boolean {
    return this.#members.has(member)
  }

  add(member: T): void {
    const [oldest] = this.#members
    const isFull = this.#members.size >= this.#most && !this.#members.has(member)
    if (oldest !== undefined && isFull) {
      this.#members.delete(oldest)
      this.#onForgotten()
    }
    this.#members.add(member)
  }

  /** False when it was no member. */
  delete(member: T): boolean {
    return this.#members.delete(member)
  }
}
