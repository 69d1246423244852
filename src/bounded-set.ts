/** A set of at most so many members, which forgets the oldest first. */
export class BoundedSet<T> {
  readonly #most: number
  readonly #members = new Set<T>()

  constructor(most: number) {
    this.#most = most
  }

  get size(): number {
    return this.#members.size
  }

  has(member: T): boolean {
    return this.#members.has(member)
  }

  add(member: T): void {
    const [oldest] = this.#members
    if (oldest !== undefined && this.#members.size >= this.#most) this.#members.delete(oldest)
    this.#members.add(member)
  }

  /** False when it was no member. */
  delete(member: T): boolean {
    return this.#members.delete(member)
  }
}
