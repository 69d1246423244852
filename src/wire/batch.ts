/** A batch of more messages is not taken apart. */
export const maxBatchMessages = 1000

const tab = 0x09
const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20
const quote = 0x22
const comma = 0x2c
const openBracket = 0x5b
const backslash = 0x5c
const openings: ReadonlySet<number> = new Set([openBracket, 0x7b])
const closings: ReadonlySet<number> = new Set([0x5d, 0x7d])
const spaces: ReadonlySet<number> = new Set([tab, lineFeed, carriageReturn, space])

/** Is told the entries of an array. */
export interface BatchHandler {
  /** The next piece of the current entry, uncopied, with the white space around it. */
  onPiece(piece: Buffer): void
  onItemEnd(): void
}

/**
 * Cuts a JSON array that comes in chunks into its entries, by its commas and brackets alone: of what is not JSON the
 * entries are not JSON either. What stands before the opening bracket or behind the closing one is skipped.
 */
export class BatchSplitter {
  readonly #handler: BatchHandler
  /** Containers that are open, the array included; 0 before it. */
  #depth = 0
  #isInString = false
  #isEscaped = false
  /** Whether more than white space came since the last comma. */
  #hasItem = false
  #isOver = false

  constructor(handler: BatchHandler) {
    this.#handler = handler
  }

  push(chunk: Buffer): void {
    let from = this.#depth > 0 ? 0 : this.#open(chunk)
    for (let at = from; at < chunk.length && !this.#isOver; at++) {
      if (!this.#endsItem(chunk[at] ?? 0)) continue
      if (from < at) this.#handler.onPiece(chunk.subarray(from, at))
      from = at + 1
      this.#isOver = this.#depth === 0
      // After a last comma, or in an empty array, there is no entry.
      if (this.#hasItem || !this.#isOver) this.#handler.onItemEnd()
      this.#hasItem = false
    }
    if (from < chunk.length && !this.#isOver) this.#handler.onPiece(chunk.subarray(from))
  }

  /** Where the first entry begins. */
  #open(chunk: Buffer): number {
    const at = chunk.indexOf(openBracket)
    if (at === -1) return chunk.length
    this.#depth = 1
    return at + 1
  }

  #endsItem(byte: number): boolean {
    if (this.#isInString) {
      this.#isInString = byte !== quote || this.#isEscaped
      this.#isEscaped = byte === backslash && !this.#isEscaped
      return false
    }
    if (byte === comma && this.#depth === 1) return true
    if (byte === quote) this.#isInString = true
    else if (openings.has(byte)) this.#depth += 1
    else if (closings.has(byte)) this.#depth -= 1
    if (this.#depth === 0) return true
    this.#hasItem ||= !spaces.has(byte)
    return false
  }
}

/**
 * The messages of a JSON-RPC batch (MCP 2025-03-26), as uncopied parts of it; undefined when they are too many. Expects
 * what `readEnvelope` calls a batch.
 */
export function batchItems(batch: Buffer): Buffer[] | undefined {
  const items: Buffer[] = []
  let item: Buffer = Buffer.alloc(0)
  const splitter = new BatchSplitter({
    onPiece: (piece) => (item = piece),
    onItemEnd: () => {
      if (items.length <= maxBatchMessages) items.push(item)
      item = Buffer.alloc(0)
    },
  })
  splitter.push(batch)
  return items.length > maxBatchMessages ? undefined : items
}

/**
 * A batch without some of its entries, which `batchItems` gave; every other byte of them is as it was. Undefined when
 * none is left.
 */
export function withoutItems(
  batch: Buffer,
  items: readonly Buffer[],
  isLeftOut: (index: number) => boolean,
): Buffer | undefined {
  // Where an entry is missing it is no JSON, and nobody's answer.
  if (items.some(({ length }) => length === 0)) return batch
  const left = items.filter((_item, index) => !isLeftOut(index))
  const [first, last] = [items[0], items.at(-1)]
  if (!first || !last || left.length === 0) return undefined
  const start = first.byteOffset - batch.byteOffset
  const end = last.byteOffset + last.length - batch.byteOffset
  const entries = left.flatMap((item, index) => (index === 0 ? [item] : [separator, item]))
  return Buffer.concat([batch.subarray(0, start), ...entries, batch.subarray(end)])
}

const separator = Buffer.from(',')
