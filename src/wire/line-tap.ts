import { type Envelope, EnvelopeReader } from './envelope.ts'

const lineFeed = 0x0a
const carriageReturn = 0x0d

export interface LineTapOptions {
  /** More of a line than this is not held back, whatever it may turn out to be. */
  readonly maxHeldBytes: number
  /** The longest line whose text is told. */
  readonly maxTextBytes: number
  /** Asked at the start of each line. */
  readonly wantsText: () => boolean
  /** One line that passed: undefined is no JSON-RPC message. Empty lines are not told. */
  onMessage(envelope: Envelope | undefined, text: Buffer | undefined): void
  /** An answer that was expected, and does not pass. */
  onAnswer(message: Buffer, envelope: Envelope): void
}

/** Answers that never come must not be remembered for ever. */
const maxExpected = 1000

/**
 * Reads newline-delimited messages as their raw bytes pass. Nothing is delayed, unless answers are expected that must
 * not pass: from the next line on, each line is then held until its end, or until it cannot be such an answer.
 */
export class LineTap {
  readonly #options: LineTapOptions
  readonly #expected = new Set<string>()
  /** Of the line under way; undefined between lines. */
  #reader: EnvelopeReader | undefined
  #isBlank = true
  #isHolding = false
  #held: Buffer[] = []
  #heldBytes = 0
  #text: Buffer[] | undefined
  #textBytes = 0

  constructor(options: LineTapOptions) {
    this.#options = options
  }

  /** Whether all that passed are whole lines. */
  get isBetweenLines(): boolean {
    return this.#reader === undefined
  }

  /** From now on keeps back the answer to this id (its JSON text). */
  expect(id: string): void {
    const [oldest] = this.#expected
    if (this.#expected.size >= maxExpected && oldest !== undefined) this.#expected.delete(oldest)
    this.#expected.add(id)
  }

  /** What passes now. */
  push(chunk: Buffer): Buffer[] {
    const passing: Buffer[] = []
    let from = 0
    for (let at = 0; at < chunk.length;) {
      const lineEnd = chunk.indexOf(lineFeed, at)
      const next = lineEnd === -1 ? chunk.length : lineEnd + 1
      const piece = chunk.subarray(at, next)
      this.#read(piece)
      const isKept = lineEnd === -1 ? this.#keep(piece, passing) : this.#finish(piece, passing)
      if (isKept) {
        if (from < at) passing.push(chunk.subarray(from, at))
        from = next
      }
      at = next
    }
    if (from < chunk.length) passing.push(chunk.subarray(from))
    return passing
  }

  /** The stream is over; what follows its last line break is a line too. */
  end(): Buffer[] {
    const passing: Buffer[] = []
    if (this.#reader) this.#finish(Buffer.alloc(0), passing)
    return passing
  }

  #read(piece: Buffer): void {
    if (!this.#reader) this.#startLine()
    this.#isBlank &&= piece.every((byte) => byte === lineFeed || byte === carriageReturn)
    this.#reader?.push(piece)
    if (!this.#text) return
    this.#textBytes += piece.length
    if (this.#textBytes <= this.#options.maxTextBytes) this.#text.push(piece)
    else this.#text = undefined
  }

  #startLine(): void {
    this.#reader = new EnvelopeReader()
    this.#isBlank = true
    this.#isHolding = this.#expected.size > 0
    this.#text = this.#options.wantsText() ? [] : undefined
    this.#textBytes = 0
  }

  /** Holds the part of a line that is here, if it may be an answer of ours; true when it is not to pass now. */
  #keep(piece: Buffer, passing: Buffer[]): boolean {
    if (!this.#isHolding) return false
    const mayBeOurs = this.#reader?.mayAnswer((id) => this.#expected.has(id)) ?? false
    if (mayBeOurs && this.#heldBytes + piece.length <= this.#options.maxHeldBytes) {
      this.#held.push(piece)
      this.#heldBytes += piece.length
      return true
    }
    this.#isHolding = false
    this.#release(passing)
    return false
  }

  /** Tells the line that ends with this piece; true when it is not to pass. */
  #finish(piece: Buffer, passing: Buffer[]): boolean {
    const envelope = this.#reader?.end()
    const text = this.#text
    this.#reader = undefined
    this.#text = undefined
    if (envelope?.kind === 'response' && envelope.id !== undefined && this.#expected.delete(envelope.id)) {
      this.#options.onAnswer(Buffer.concat([...this.#held, piece]), envelope)
      if (this.#isHolding) {
        this.#drop()
        return true
      }
      return false
    }
    this.#release(passing)
    if (!this.#isBlank) this.#options.onMessage(envelope, text && Buffer.concat(text))
    return false
  }

  /** Held pieces came in earlier chunks, so they go before anything of this one. */
  #release(passing: Buffer[]): void {
    passing.push(...this.#held)
    this.#drop()
  }

  #drop(): void {
    this.#held = []
    this.#heldBytes = 0
  }
}
