import type { Envelope } from '../wire/envelope.ts'
import type { Operation, OperationEnd } from './observe.ts'

/**
 * The requests of a batch that is forwarded (MCP 2025-03-26): each ends with its own answer, and those that got none
 * end with what came of the whole. An id that comes twice cannot be told apart in the answers, so its second request
 * goes unmeasured.
 */
export class BatchOperation implements Operation {
  readonly envelope: Envelope
  /** How many requests are measured. */
  readonly size: number
  /** Those without an answer, by the JSON text of their ids. */
  readonly #waiting = new Map<string, Operation>()

  constructor(batch: Envelope, begin: (request: Envelope) => Operation) {
    this.envelope = batch
    for (const message of batch.messages ?? []) {
      if (message?.kind !== 'request' || message.id === undefined || this.#waiting.has(message.id)) continue
      this.#waiting.set(message.id, begin(message))
    }
    this.size = this.#waiting.size
  }

  get isAnswered(): boolean {
    return this.#waiting.size === 0
  }

  /** A batch goes as it is. */
  traced(message: Buffer): Buffer {
    return message
  }

  endOne(id: string, end: OperationEnd): void {
    this.#waiting.get(id)?.end(end)
    this.#waiting.delete(id)
  }

  end(end: OperationEnd): void {
    for (const operation of this.#waiting.values()) operation.end(end)
    this.#waiting.clear()
  }
}

/** How many messages of what was sent could not be read; a batch that is too long counts as one. */
export function unreadIn(message: Envelope | undefined): number {
  if (!message || (message.kind === 'batch' && !message.messages)) return 1
  return message.messages?.filter((one) => one === undefined).length ?? 0
}
