import { BoundedSet } from '../bounded-set.ts'
import { batchItems, withoutItems } from './batch.ts'
import type { Envelope, EnvelopeReader } from './envelope.ts'

/** Answers that never come must not be remembered for ever. */
const maxExpected = 1000
/** Those that came, which should not come twice. */
const maxAnswered = 16

/** What became of a message at its end. */
export interface Sifted {
  /** Whether it is an answer that was expected, or a batch with one. */
  readonly isOurs: boolean
  /** All its bytes, where it did not pass. */
  readonly kept?: Buffer
}

/** A message with answers that were expected, taken apart. */
export interface TakenOut {
  readonly answers: readonly { readonly message: Buffer; readonly envelope: Envelope }[]
  /** Of a batch: what else is in it, byte for byte; undefined where that is nothing. */
  readonly rest: Buffer | undefined
}

/**
 * Lets the bytes of messages pass as they come, and keeps back answers that are expected. While there are such, each
 * message is held from its first byte to its last, or until it cannot be one of them.
 */
export class AnswerSieve {
  readonly #maxHeldBytes: number
  readonly #isForeign: (id: string) => boolean
  readonly #expected = new BoundedSet<string>(maxExpected)
  readonly #answered = new BoundedSet<string>(maxAnswered)
  /** Of the message under way, while it may still be kept back. */
  #held: Buffer[] = []
  #heldBytes = 0
  #isUnderWay = false
  #isHolding = false

  /**
   * More of a message than this is not held back, whatever it may turn out to be. `isForeign` tells ids to which no
   * answer belongs here: it is kept back as well, as far as nothing has to be held for that.
   */
  constructor(maxHeldBytes: number, isForeign: (id: string) => boolean = () => false) {
    this.#maxHeldBytes = maxHeldBytes
    this.#isForeign = isForeign
  }

  /** From now on keeps back the answer to this id (its JSON text). */
  expect(id: string): void {
    this.#expected.add(id)
  }

  /** A part of a message, of which more follows; adds to `passing` what may pass now. */
  part(piece: Buffer, message: EnvelopeReader | undefined, passing: Buffer[]): void {
    this.#begin()
    const mayBeOurs = this.#isHolding && (message?.mayAnswer((id) => this.#expected.has(id)) ?? true)
    if (mayBeOurs && this.#heldBytes + piece.length <= this.#maxHeldBytes) {
      this.#held.push(piece)
      this.#heldBytes += piece.length
      return
    }
    this.release(passing)
    pass(piece, passing)
  }

  /** The last part of a message, which passes unless the result says otherwise. */
  end(piece: Buffer, envelope: Envelope | undefined, passing: Buffer[]): Sifted {
    const isWhole = !this.#isUnderWay
    const all = envelope ? [envelope, ...(envelope.messages ?? [])] : []
    const isOurs = all.some((one) => one !== undefined && this.#isOurs(one))
    const kept = isOurs && (isWhole || this.#isHolding) ? Buffer.concat([...this.#held, piece]) : undefined
    if (kept) this.#drop()
    else {
      this.release(passing)
      pass(piece, passing)
    }
    this.#isUnderWay = false
    return { isOurs, ...(kept && { kept }) }
  }

  /**
   * The answers that were expected have come with this message. A second one to the same id is kept back as well, as far
   * as nothing has to be held for that.
   */
  takeOut(message: Buffer, envelope: Envelope): TakenOut {
    const taken = this.#parted(message, envelope)
    for (const { envelope } of taken.answers) {
      if (envelope.id !== undefined && this.#expected.delete(envelope.id)) this.#answered.add(envelope.id)
    }
    return taken
  }

  /** Lets go of what is held: no more of it will come. */
  release(passing: Buffer[]): void {
    for (const piece of this.#held) pass(piece, passing)
    this.#drop()
  }

  #parted(message: Buffer, envelope: Envelope): TakenOut {
    if (envelope.kind !== 'batch') return { answers: [{ message, envelope }], rest: undefined }
    const items = batchItems(message) ?? []
    const ours = (envelope.messages ?? []).map((one) => (one && this.#isOurs(one) ? one : undefined))
    const answers = items.flatMap((item, index) => {
      const answer = ours[index]
      return answer ? [{ message: item, envelope: answer }] : []
    })
    return { answers, rest: withoutItems(message, items, (index) => ours[index] !== undefined) }
  }

  #isOurs({ kind, id }: Envelope): boolean {
    if (kind !== 'response' || id === undefined) return false
    return this.#expected.has(id) || this.#answered.has(id) || this.#isForeign(id)
  }

  #begin(): void {
    if (this.#isUnderWay) return
    this.#isUnderWay = true
    this.#isHolding = this.#expected.size > 0
  }

  #drop(): void {
    this.#held = []
    this.#heldBytes = 0
    this.#isHolding = false
  }
}

/** Pieces that lie side by side in memory pass as one. */
function pass(piece: Buffer, passing: Buffer[]): void {
  const last = passing.at(-1)
  const isNext = last?.buffer === piece.buffer && last.byteOffset + last.length === piece.byteOffset
  if (last && isNext)
    passing[passing.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + piece.length)
  else if (piece.length > 0) passing.push(piece)
}
