/** One whole HTTP/1.1 answer, body already skipped: the load generator only counts it. */
export interface Answer {
  readonly status: number
  readonly bodyBytes: number
}

type State =
  | { readonly kind: 'head' }
  | { readonly kind: 'body'; left: number }
  | { readonly kind: 'chunk_size' }
  | { readonly kind: 'chunk'; left: number }
  | { readonly kind: 'trailer' }

const head: State = { kind: 'head' }
const chunkSize: State = { kind: 'chunk_size' }
const trailer: State = { kind: 'trailer' }
const empty = Buffer.alloc(0)
const longestHead = 64 * 1024

/**
 * Reads HTTP/1.1 answers off a keep-alive socket (RFC 9112 §6.3: content-length or chunked), counting body bytes
 * without copying them. No general client: it exists to be cheaper than the servers that it measures.
 */
export class ResponseReader {
  readonly #onAnswer: (answer: Answer) => void
  #state: State = head
  /** The start of a head or a chunk-size line that has not wholly arrived. */
  #rest: Buffer = empty
  #status = 0
  #bodyBytes = 0

  constructor(onAnswer: (answer: Answer) => void) {
    this.#onAnswer = onAnswer
  }

  /** Takes what the socket delivered; throws on anything that is not an answer it can delimit. */
  push(data: Buffer): void {
    let at = 0
    while (at < data.length) {
      const state = this.#state
      if (state.kind === 'body' || state.kind === 'chunk') {
        const taken = Math.min(state.left, data.length - at)
        state.left -= taken
        at += taken
        this.#skipped(state, taken)
      } else {
        at = this.#text(state, data, at)
      }
    }
  }

  #skipped(state: State & { left: number }, taken: number): void {
    if (state.kind === 'body') this.#bodyBytes += taken
    if (state.left > 0) return
    if (state.kind === 'body') this.#finish()
    else this.#state = chunkSize
  }

  /** Reads up to the end of the line or head that the state waits for; returns where to go on. */
  #text(state: State, data: Buffer, at: number): number {
    const end = state.kind === 'head' ? '\r\n\r\n' : '\r\n'
    const text = this.#rest.length > 0 ? Buffer.concat([this.#rest, data.subarray(at)]) : data.subarray(at)
    const length = text.indexOf(end)
    if (length < 0) {
      if (text.length > longestHead) throw new Error(`an answer's head is longer than ${longestHead} bytes`)
      this.#rest = Buffer.from(text)
      return data.length
    }
    const next = data.length - (text.length - length - end.length)
    this.#rest = empty
    const line = text.toString('latin1', 0, length)
    if (state.kind === 'head') this.#onHead(line)
    else if (state.kind === 'chunk_size') this.#onChunkSize(line)
    else if (line === '') this.#finish()
    return next
  }

  #onHead(text: string): void {
    const status = Number(text.slice(9, 12))
    if (!text.startsWith('HTTP/1.1 ') || !(status >= 200)) throw new Error(`not an answer: ${text.slice(0, 80)}`)
    this.#status = status
    this.#bodyBytes = 0
    const lower = text.toLowerCase()
    if (lower.includes('\r\ntransfer-encoding: chunked')) {
      this.#state = chunkSize
      return
    }
    const field = lower.indexOf('\r\ncontent-length:')
    if (field < 0) throw new Error('an answer has neither content-length nor chunks')
    const left = Number.parseInt(lower.slice(field + '\r\ncontent-length:'.length), 10)
    if (left === 0) this.#finish()
    else this.#state = { kind: 'body', left }
  }

  #onChunkSize(line: string): void {
    const bytes = Number.parseInt(line, 16)
    if (!(bytes >= 0)) throw new Error(`not a chunk size: ${line.slice(0, 80)}`)
    this.#bodyBytes += bytes
    // The chunk's own line end is skipped with it.
    this.#state = bytes === 0 ? trailer : { kind: 'chunk', left: bytes + 2 }
  }

  #finish(): void {
    this.#state = head
    this.#onAnswer({ status: this.#status, bodyBytes: this.#bodyBytes })
  }
}
