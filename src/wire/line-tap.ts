import { AnswerSieve } from './answer-sieve.ts'
import { type Envelope, EnvelopeReader, readEnvelope } from './envelope.ts'

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
  /** An answer that was expected, and does not pass; without its text where it was too long to be held back. */
  onAnswer(message: Buffer, envelope: Envelope): void
}

/**
 * Reads newline-delimited messages as their raw bytes pass. Nothing is delayed, unless answers are expected that must
 * not pass: from the next line on, each line is then held until its end, or until it cannot be such an answer.
 */
export class LineTap {
  readonly #options: LineTapOptions
  readonly #sieve: AnswerSieve
  /** Of the line under way; undefined between lines. */
  #reader: EnvelopeReader | undefined
  #isBlank = true
  #text: Buffer[] | undefined
  #textBytes = 0

  constructor(options: LineTapOptions) {
    this.#options = options
    this.#sieve = new AnswerSieve(options.maxHeldBytes)
  }

  /** Whether all that passed are whole lines. */
  get isBetweenLines(): boolean {
    return this.#reader === undefined
  }

  /** From now on keeps back the answer to this id (its JSON text). */
  expect(id: string): void {
    this.#sieve.expect(id)
  }

  /** What passes now. */
  push(chunk: Buffer): Buffer[] {
    const passing: Buffer[] = []
    for (let at = 0; at < chunk.length;) {
      const lineEnd = chunk.indexOf(lineFeed, at)
      const next = lineEnd === -1 ? chunk.length : lineEnd + 1
      const piece = chunk.subarray(at, next)
      this.#read(piece)
      if (lineEnd === -1) this.#sieve.part(piece, this.#reader, passing)
      else this.#finish(piece, passing)
      at = next
    }
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
    this.#text = this.#options.wantsText() ? [] : undefined
    this.#textBytes = 0
  }

  /** Tells the line that ends with this piece. */
  #finish(piece: Buffer, passing: Buffer[]): void {
    const envelope = this.#reader?.end()
    const text = this.#text
    this.#reader = undefined
    this.#text = undefined
    const { isOurs, kept } = this.#sieve.end(piece, envelope, passing)
    if (isOurs && envelope) return this.#takeOut(kept, envelope, passing)
    if (!this.#isBlank) this.#options.onMessage(envelope, text && Buffer.concat(text))
  }

  /** What was too long to be held has passed, and is an answer all the same. */
  #takeOut(kept: Buffer | undefined, envelope: Envelope, passing: Buffer[]): void {
    const { answers, rest } = this.#sieve.takeOut(kept ?? Buffer.alloc(0), envelope)
    for (const answer of answers) this.#options.onAnswer(answer.message, answer.envelope)
    if (!rest) return
    passing.push(rest)
    this.#options.onMessage(readEnvelope(rest), rest)
  }
}
