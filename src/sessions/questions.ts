import type { Envelope } from '../wire/envelope.ts'

/** More are passed on, yet excuse nobody's silence. */
const maxOpen = 1000

/**
 * What a server asked its client (sampling, elicitation, roots) and the client has not answered: while there is such a
 * question, the server's silence is not its own. `ping` is none, since no work waits for it.
 */
export class Questions {
  readonly #open = new Set<string>()
  readonly #onUncounted: () => void

  /** `onUncounted`: a question is open that is one too many. */
  constructor(onUncounted: () => void = () => undefined) {
    this.#onUncounted = onUncounted
  }

  get isOpen(): boolean {
    return this.#open.size > 0
  }

  heardServer({ kind, method, id, requestId }: Envelope): void {
    if (method === 'notifications/cancelled') this.#open.delete(requestId ?? '')
    if (kind !== 'request' || method === 'ping' || id === undefined) return
    if (this.#open.size < maxOpen) this.#open.add(id)
    else this.#onUncounted()
  }

  /** A batch too. */
  heardClient(message: Envelope | undefined): void {
    if (!message || this.#open.size === 0) return
    if (message.kind === 'response') this.#open.delete(message.id ?? '')
    for (const one of message.messages ?? []) this.heardClient(one)
  }

  /** Nobody waits for an answer any more. */
  clear(): void {
    this.#open.clear()
  }
}
