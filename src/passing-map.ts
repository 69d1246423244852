interface Box<V> {
  value: V | undefined
}

/**
 * A Map whose entries only pass through. V8 leaves the outgrown tables of a Map chained to the next ones: once one of
 * them is old, whatever was in any since then stays in memory until the next full collection, which under load is
 * hundreds of megabytes. Here the tables hold boxes, and what has left its box is free.
 */
export class PassingMap<K, V> {
  readonly #boxes = new Map<K, Box<V>>()

  get size(): number {
    return this.#boxes.size
  }

  get(key: K): V | undefined {
    return this.#boxes.get(key)?.value
  }

  set(key: K, value: V): void {
    const box = this.#boxes.get(key)
    if (box) box.value = value
    else this.#boxes.set(key, { value })
  }

  delete(key: K): void {
    const box = this.#boxes.get(key)
    if (!box) return
    box.value = undefined
    this.#boxes.delete(key)
  }

  clear(): void {
    for (const key of this.#boxes.keys()) this.delete(key)
  }

  /** In the order in which their keys came; what is deleted meanwhile is left out. */
  *values(): Generator<V> {
    for (const { value } of this.#boxes.values()) if (value !== undefined) yield value
  }
}
