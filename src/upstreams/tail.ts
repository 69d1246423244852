/** The last bytes of a stream, in a ring. */
export class Tail {
  readonly #ring: Buffer
  #written = 0

  constructor(limitBytes: number) {
    this.#ring = Buffer.alloc(limitBytes)
  }

  /** Adds what came; the oldest bytes give way. */
  append(chunk: Buffer): void {
    const size = this.#ring.length
    const skipped = Math.max(0, chunk.length - size)
    const start = (this.#written + skipped) % size
    const fitting = chunk.copy(this.#ring, start, skipped)
    chunk.copy(this.#ring, 0, skipped + fitting)
    this.#written += chunk.length
  }

  /** The bytes kept, from the first whole line on, or of one long line from the first whole character. */
  text(): string {
    const size = this.#ring.length
    if (this.#written <= size) return this.#ring.toString('utf8', 0, this.#written)
    const cut = this.#written % size
    const tail = Buffer.concat([this.#ring.subarray(cut), this.#ring.subarray(0, cut)])
    const lineEnd = tail.indexOf('\n')
    if (lineEnd >= 0 && lineEnd < tail.length - 1) return tail.toString('utf8', lineEnd + 1)
    const firstCharacter = tail.findIndex((byte) => (byte & 0xc0) !== 0x80) // Not inside a UTF-8 sequence.
    return tail.toString('utf8', Math.max(0, firstCharacter))
  }
}
