import type { ServerResponse } from 'node:http'
import { sseEvent } from '../wire/sse.ts'

/**
 * The answer to one bridged POST: plain JSON when the answer is the first thing to say, an event stream when something
 * else comes before it (MCP 2025-11-25, Transports, "Sending Messages to the Server": the server chooses).
 */
export class ReplyStream {
  readonly outgoing: ServerResponse
  readonly #headers: Readonly<Record<string, string>>
  readonly #pressure: (isFull: boolean) => void
  #isStream = false

  /** `pressure(true)` asks the sender to wait until `pressure(false)`: the client reads slower than the server writes. */
  constructor(
    outgoing: ServerResponse,
    headers: Readonly<Record<string, string>>,
    pressure: (isFull: boolean) => void,
  ) {
    this.outgoing = outgoing
    this.#headers = headers
    this.#pressure = pressure
  }

  /** Turns the answer into an event stream, and sends its headers at once. */
  open(): void {
    if (this.#isStream) return
    this.#isStream = true
    this.outgoing.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache',
      ...this.#headers,
    })
    this.outgoing.flushHeaders()
  }

  /** Sends one message before the answer. */
  message(message: Buffer): void {
    this.open()
    this.#write(sseEvent({ type: 'message', data: message }))
  }

  /** Sends the answer and ends. */
  answer(message: Buffer, status: number): void {
    if (this.#isStream) {
      this.#write(sseEvent({ type: 'message', data: message }))
      this.outgoing.end()
      return
    }
    this.outgoing.writeHead(status, {
      'content-type': 'application/json',
      'content-length': message.length,
      ...this.#headers,
    })
    this.outgoing.end(message)
  }

  end(): void {
    this.outgoing.end()
  }

  #write(bytes: Buffer): void {
    if (this.outgoing.destroyed || this.outgoing.write(bytes)) return
    this.#pressure(true)
    const relieve = () => {
      this.outgoing.off('drain', relieve)
      this.outgoing.off('close', relieve)
      this.#pressure(false)
    }
    this.outgoing.on('drain', relieve)
    this.outgoing.on('close', relieve)
  }
}
