import type { ServerResponse } from 'node:http'
import { sseEvent } from '../wire/sse.ts'

/**
 * The answer to one bridged POST: plain JSON when the answer is the first thing to say, an event stream when something
 * else comes before it (MCP 2025-11-25, Transports, "Sending Messages to the Server": the server chooses).
 */
export class ReplyStream {
  readonly outgoing: ServerResponse
  readonly #streamHeaders: Readonly<Record<string, string>>
  readonly #pressure: (isFull: boolean) => void
  #isStream = false
  #isFull = false

  /** `pressure(true)` asks the sender to wait until `pressure(false)`: the client reads slower than the server writes. */
  constructor(
    outgoing: ServerResponse,
    streamHeaders: Readonly<Record<string, string>>,
    pressure: (isFull: boolean) => void,
  ) {
    this.outgoing = outgoing
    this.#streamHeaders = streamHeaders
    this.#pressure = pressure
  }

  /** Turns the answer into an event stream, and sends its headers at once. */
  open(): void {
    if (this.#isStream || this.outgoing.headersSent) return
    this.#isStream = true
    this.outgoing.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache',
      ...this.#streamHeaders,
    })
    this.outgoing.flushHeaders()
  }

  /** Sends one message before the answer. */
  message(message: Buffer): void {
    this.open()
    this.#write(sseEvent({ type: 'message', data: message }))
  }

  /** Sends the answer and ends. `extra` headers go with it when nothing was sent before. */
  answer(message: Buffer, status: number, extra: Readonly<Record<string, string>> = {}): void {
    if (this.#isStream) {
      this.#write(sseEvent({ type: 'message', data: message }))
      return this.end()
    }
    this.outgoing.writeHead(status, {
      'content-type': 'application/json',
      'content-length': message.length,
      ...extra,
    })
    this.outgoing.end(message)
  }

  /** Ends without an answer: as a stream, since that alone needs none. */
  end(): void {
    this.open()
    this.outgoing.end()
  }

  #write(bytes: Buffer): void {
    const { outgoing } = this
    if (outgoing.destroyed || outgoing.writableEnded || outgoing.write(bytes) || this.#isFull) return
    this.#isFull = true
    this.#pressure(true)
    const relieve = () => {
      outgoing.off('drain', relieve)
      outgoing.off('close', relieve)
      this.#isFull = false
      this.#pressure(false)
    }
    outgoing.on('drain', relieve)
    outgoing.on('close', relieve)
  }
}
