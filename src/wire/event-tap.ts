import { AnswerSieve } from './answer-sieve.ts'
import { type Envelope, readEnvelope } from './envelope.ts'
import { EventMessages, type PassedEvent } from './event-messages.ts'
import { SseMessageReader, sseEvent } from './sse.ts'

const lineFeed = 0x0a
const carriageReturn = 0x0d

export interface EventTapOptions {
  /** More of an event than this is not held back, whatever it may turn out to be. */
  readonly maxHeldBytes: number
  /** Ids to which no answer belongs on this stream; none unless given. */
  readonly isForeign?: (id: string) => boolean
  /** One message that passes: undefined is no JSON-RPC message. */
  onMessage(envelope: Envelope | undefined): void
  /** An event passes that a client would see, with a message in it or without. */
  onEvent(): void
  /** An answer that was expected, or belongs elsewhere, and does not pass; without its text where it was too long to be held back. */
  onAnswer(message: Buffer, envelope: Envelope): void
}

/**
 * Reads the messages of an event stream as its raw bytes pass. Nothing is delayed, unless answers are expected that must
 * not pass: from the next event on, each is then held until its end, or until it cannot be such an answer. An answer
 * leaves with the whole of its event, a comment or a `retry` within that included.
 */
export class EventTap {
  readonly #options: EventTapOptions
  readonly #sieve: AnswerSieve
  readonly #messages: EventMessages
  /** Of the chunk that is being read: from where on it is not sifted yet, and what of it passes. */
  #chunk: Buffer = Buffer.alloc(0)
  #sifted = 0
  #passing: Buffer[] = []
  #isReading = false
  /** The last event ended with a CR at the end of its chunk: what becomes of a line feed that still belongs to it. */
  #lateLineFeed: 'passes' | 'is kept' | undefined

  constructor(options: EventTapOptions) {
    this.#options = options
    this.#sieve = new AnswerSieve(options.maxHeldBytes, options.isForeign)
    this.#messages = new EventMessages((event) => this.#finish(event))
  }

  /** Whether all that passed are whole events, and nothing is about to pass. */
  get isBetweenEvents(): boolean {
    return !this.#isReading && this.#messages.isBetweenEvents
  }

  /** From now on keeps back the answer to this id (its JSON text). */
  expect(id: string): void {
    this.#sieve.expect(id)
  }

  /** What passes now. */
  push(chunk: Buffer): Buffer[] {
    this.#chunk = chunk
    this.#passing = []
    this.#sifted = this.#siftLateLineFeed(chunk)
    this.#isReading = true
    this.#messages.push(chunk)
    this.#isReading = false
    const rest = chunk.subarray(this.#sifted)
    if (rest.length > 0) this.#sieve.part(rest, this.#messages.underWay, this.#passing)
    return this.#passing
  }

  /** The stream is over: what is held passes. */
  end(): Buffer[] {
    const passing: Buffer[] = []
    this.#sieve.release(passing)
    return passing
  }

  #siftLateLineFeed(chunk: Buffer): number {
    const fate = this.#lateLineFeed
    if (chunk.length > 0) this.#lateLineFeed = undefined
    if (fate === undefined || chunk[0] !== lineFeed) return 0
    if (fate === 'passes') this.#passing.push(chunk.subarray(0, 1))
    return 1
  }

  #finish({ end, hadData, isMessage, envelope }: PassedEvent): void {
    const piece = this.#chunk.subarray(this.#sifted, end)
    this.#sifted = end
    const { isOurs, kept } = this.#sieve.end(piece, envelope, this.#passing)
    const mayGoOn = end === this.#chunk.length && this.#chunk[end - 1] === carriageReturn
    this.#lateLineFeed = mayGoOn ? (kept ? 'is kept' : 'passes') : undefined
    if (isOurs && envelope) return this.#takeOut(kept, envelope)
    if (hadData) this.#options.onEvent()
    if (isMessage) this.#options.onMessage(envelope)
  }

  /** What was too long to be held has passed, and is an answer all the same. */
  #takeOut(kept: Buffer | undefined, envelope: Envelope): void {
    const event = kept && messageEvent(kept)
    const { answers, rest } = this.#sieve.takeOut(event?.data ?? Buffer.alloc(0), envelope)
    for (const answer of answers) this.#options.onAnswer(answer.message, answer.envelope)
    if (!event || !rest) return
    this.#passing.push(sseEvent({ ...event, data: rest }))
    this.#options.onEvent()
    this.#options.onMessage(readEnvelope(rest))
  }
}

interface MessageEvent {
  readonly type: string
  readonly id: string | undefined
  readonly data: Buffer
}

/** The one event in these bytes. */
function messageEvent(bytes: Buffer): MessageEvent | undefined {
  let event: MessageEvent | undefined
  const reader = new SseMessageReader({
    maxBytes: bytes.length,
    onMessage: (message) => (event = message),
    onTooLarge: () => undefined, // No data is longer than the event that it is in.
  })
  reader.push(bytes)
  return event
}
