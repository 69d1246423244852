import type { Writable } from 'node:stream'
import { type Envelope, EnvelopeReader, onOneLine, readEnvelope } from './envelope.ts'

const lineFeed = 0x0a
const carriageReturn = 0x0d

export interface LineReaderOptions {
  readonly maxBytes: number
  onLine(line: Buffer): void
  /**
   * A line was longer than `maxBytes` and is dropped; told once, at its end, with the envelope of what it was, if it was
   * a message: servers of the official TypeScript SDK name the id of an answer behind its result.
   */
  onTooLong(bytes: number, envelope: Envelope | undefined): void
}

/**
 * Splits a byte stream into lines, as stdio frames messages (MCP, Transports, stdio). A trailing CR is not part of a
 * line and empty lines are skipped. Pieces of a line are gathered and joined once, so a long line costs no more per
 * byte than a short one.
 */
export class LineReader {
  readonly #options: LineReaderOptions
  #pieces: Buffer[] = []
  #bytes = 0
  /** Reads what is not kept. */
  #skimmed: EnvelopeReader | undefined

  constructor(options: LineReaderOptions) {
    this.#options = options
  }

  push(chunk: Buffer): void {
    let from = 0
    for (;;) {
      const at = chunk.indexOf(lineFeed, from)
      if (at === -1) break
      this.#finish(chunk.subarray(from, at))
      from = at + 1
    }
    if (from < chunk.length) this.#gather(chunk.subarray(from))
  }

  /** The stream is over; what follows its last line break is a line too. */
  end(): void {
    this.#finish(Buffer.alloc(0))
  }

  /** Keeps nothing of a line that is already too long; one byte more than allowed may still be its CR. */
  #gather(piece: Buffer): void {
    this.#bytes += piece.length
    this.#pieces.push(piece)
    if (this.#bytes <= this.#options.maxBytes + 1) return
    this.#skimmed ??= new EnvelopeReader()
    for (const gathered of this.#pieces.splice(0)) this.#skimmed.push(gathered)
  }

  #finish(piece: Buffer): void {
    const line = this.#bytes === 0 ? piece : this.#join(piece)
    if (!line) return
    const end = line.at(-1) === carriageReturn ? line.length - 1 : line.length
    if (end > this.#options.maxBytes) this.#options.onTooLong(end, readEnvelope(line))
    else if (end > 0) this.#options.onLine(line.subarray(0, end))
  }

  #join(piece: Buffer): Buffer | undefined {
    this.#gather(piece)
    const pieces = this.#pieces
    const bytes = this.#bytes
    const skimmed = this.#skimmed
    this.#pieces = []
    this.#bytes = 0
    this.#skimmed = undefined
    if (!skimmed) return Buffer.concat(pieces, bytes)
    this.#options.onTooLong(bytes, skimmed.end())
    return undefined
  }
}

/** Shorter than this, a copy costs less than one more piece in the system call. */
const copiedBytes = 4096
const lineEnd = Buffer.from([lineFeed])

/** Writes a message as one line; `written` hears when it has left. */
export function writeLine(output: Writable, message: Buffer, written?: (error?: Error | null) => void): void {
  const line = onOneLine(message)
  if (line.length < copiedBytes) {
    const framed = Buffer.allocUnsafe(line.length + 1)
    line.copy(framed)
    framed[line.length] = lineFeed
    return void output.write(framed, written)
  }
  output.write(line)
  output.write(lineEnd, written)
}
