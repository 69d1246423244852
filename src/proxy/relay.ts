import type { ServerResponse } from 'node:http'
import type { HttpExchange, ResponseHead } from '../upstreams/http.ts'
import { endToEndHeaders } from '../wire/headers.ts'

/** What Node writes in a reason phrase; undici reads one that is no UTF-8 into something else. */
const isWritable = /^[\t\x20-\x7e\x80-\xff]*$/

/**
 * Node holds back what is written within a turn of the event loop until its end, so that one chunk of 64 KiB alone says
 * nothing of the client; two that wait do.
 */
const maxUnsentBytes = 128 * 1024

/** Passes an upstream's answer on to the client as it comes, at the client's pace. */
export class Relay {
  readonly #outgoing: ServerResponse
  #head: ResponseHead | undefined
  #source: HttpExchange | undefined
  #isPaused = false

  constructor(outgoing: ServerResponse) {
    this.#outgoing = outgoing
  }

  /** Whether the upstream is kept waiting because the client reads too slowly. */
  get isPaused(): boolean {
    return this.#isPaused
  }

  /** Where the answer comes from; what a slow client pauses. */
  attach(source: HttpExchange): void {
    this.#source = source
  }

  /**
   * The head goes out with the first bytes of the body when those are here already, else at once. Until then the
   * client can still be told of a failure.
   */
  start({ status, statusText, rawHeaders }: ResponseHead, drop?: ReadonlySet<string>): void {
    this.#head = { status, statusText, rawHeaders: endToEndHeaders(rawHeaders, drop && { drop }) }
    process.nextTick(() => {
      if (!this.#head || this.#outgoing.headersSent || this.#outgoing.destroyed) return
      this.#sendHead()
      this.#outgoing.flushHeaders()
    })
  }

  /** `onWritten` hears when the chunk has left for good, unless the connection breaks before. */
  data(chunk: Buffer, onWritten?: () => void): void {
    this.#sendHead()
    const written = onWritten && ((error?: Error | null) => (error ? undefined : onWritten()))
    if (this.#outgoing.write(chunk, written) || this.#isPaused || this.#outgoing.destroyed) return
    if (this.#outgoing.writableLength < maxUnsentBytes) return
    this.#isPaused = true
    this.#source?.pause()
    this.#outgoing.once('drain', () => {
      this.#isPaused = false
      this.#source?.resume()
    })
  }

  end(): void {
    this.#sendHead()
    this.#outgoing.end()
  }

  #sendHead(): void {
    if (!this.#head) return
    const { status, statusText, rawHeaders } = this.#head
    this.#head = undefined
    this.#outgoing.sendDate = false
    this.#outgoing.writeHead(status, isWritable.test(statusText) ? statusText : '', rawHeaders)
  }
}
