import { type Envelope, EnvelopeReader } from './envelope.ts'
import { type SseEvent, SseReader } from './sse.ts'

/** One event that passed, and the message in it. */
export interface PassedEvent extends Pick<SseEvent, 'id' | 'hadData' | 'end'> {
  /**
   * Whether its data is meant to be a JSON-RPC message; a priming event, which has an id and empty data, is none (MCP
   * 2025-11-25, Transports).
   */
  readonly isMessage: boolean
  /** Undefined where it is no JSON-RPC message. */
  readonly envelope: Envelope | undefined
}

/** Reads the envelopes of the messages in an event stream as it passes. */
export class EventMessages {
  readonly #events: SseReader
  /** Of the event under way; undefined before its data. */
  #message: EnvelopeReader | undefined

  constructor(onEvent: (event: PassedEvent) => void) {
    this.#events = new SseReader({
      onData: (piece) => {
        this.#message ??= new EnvelopeReader()
        this.#message.push(piece)
      },
      onEvent: ({ type, id, hadData, end }) => {
        const message = this.#message
        this.#message = undefined
        const isMessage = message !== undefined && type === 'message'
        onEvent({ id, hadData, end, isMessage, envelope: isMessage ? message.end() : undefined })
      },
    })
  }

  /** What is known of the message under way. */
  get underWay(): EnvelopeReader | undefined {
    return this.#message
  }

  /** Whether what has passed ends between two events. */
  get isBetweenEvents(): boolean {
    return this.#events.isBetweenEvents
  }

  push(chunk: Uint8Array): void {
    this.#events.push(chunk)
  }
}
