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
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** Is told the entries of an array. */
export interface BatchHandler {
  /** The next piece of the current entry, uncopied, with the white space around it. */
  onPiece(piece: Buffer): void
  onItemEnd(): void
}

/**
 * Cuts a JSON array that comes in chunks into its entries, by its commas and brackets alone: of what is not JSON the
 * entries are not JSON either. What stands before the opening bracket or behind the closing one is skipped, and so is
 * what follows the first entry beyond `maxBatchMessages`: nobody takes such a batch apart.
 */
export class BatchSplitter {
  readonly #handler: BatchHandler
  /** Containers that are open, the array included; 0 before it. */
  #depth = 0
  #isInString = false
  #isEscaped = false
  /** Whether more than white space came since the last comma. */
  #hasItem = false
  #items = 0
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
      const isLast = this.#depth === 0
      // After a last comma, or in an empty array, there is no entry.
      if (this.#hasItem || !isLast) this.#endItem()
      this.#hasItem = false
      this.#isOver = isLast || this.#items > maxBatchMessages
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

  #endItem(): void {
    this.#items += 1
    this.#handler.onItemEnd()
  }

  #endsItem(byte: number): boolean {
    if (this.#isInString) {
      this.#isInString = byte !== quote || this.#isEscaped
      this.#isEscaped = byte === backslash && !this.#isEscaped
      return false
    }
    if (byte === comma && this.#depth === 1) return true
    if (byte === quote) this.#isInString = true
    else if (byte === openBracket || byte === openBrace) this.#depth += 1
    else if (byte === closeBracket || byte === closeBrace) this.#depth -= 1
    if (this.#depth === 0) return true
    this.#hasItem ||= !isSpace(byte)
    return false
  }
}

function isSpace(byte: number): boolean {
  return byte === space || byte === lineFeed || byte === carriageReturn || byte === tab
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
      items.push(item)
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
