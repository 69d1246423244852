import type { OnReadOpts } from 'node:net'

/** What libuv reads at once at the most. */
const readBytes = 64 * 1024
/** Less than this gets memory of its own length, since not everybody gives back. */
const minLentBytes = readBytes / 2
/** Of `readBytes` each, as many as many clients with long answers have under way. */
const maxFree = 32

/**
 * The memory that plain connections to servers read into. Left to itself, Node takes 64 KiB of fresh memory for each
 * read and leaves them to the garbage collector: long answers then cost more for that than for all else. Here every
 * connection reads into the same bytes, which are copied before the next read, and the memory of a long copy is used
 * again once it is given back. What nobody gives back is the garbage collector's.
 */
export class ReadMemory {
  readonly #read = Buffer.allocUnsafeSlow(readBytes)
  readonly #free: ArrayBuffer[] = []
  /** How many bytes were read into each. */
  readonly #lent = new WeakMap<ArrayBufferLike, number>()

  /** How a connection reads; `push` takes what came, and says whether it takes more. */
  onread(push: (chunk: Buffer) => boolean): OnReadOpts {
    return { buffer: this.#read, callback: (length) => push(this.#copy(length)) }
  }

  #copy(length: number): Buffer {
    const chunk = length < minLentBytes ? Buffer.allocUnsafe(length) : this.#lend(length)
    this.#read.copy(chunk)
    return chunk
  }

  #lend(length: number): Buffer {
    const memory = this.#free.pop() ?? Buffer.allocUnsafeSlow(readBytes).buffer
    this.#lent.set(memory, length)
    return Buffer.from(memory, 0, length)
  }

  /** Whether it is the end of a long chunk. What lies before it in its memory goes with it when it is given back. */
  isLent(chunk: Buffer): boolean {
    return this.#lent.get(chunk.buffer) === chunk.byteOffset + chunk.length
  }

  /** Nobody looks any more at what was read together with the end of this chunk. */
  giveBack({ buffer }: Buffer): void {
    if (this.#lent.delete(buffer) && this.#free.length < maxFree && buffer instanceof ArrayBuffer) {
      this.#free.push(buffer)
    }
  }
}

/** One for the whole process, which reads from one connection at a time. */
export const readMemory = new ReadMemory()
