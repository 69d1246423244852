import { KnownError } from '../errors.ts'

/** The `endpoint` event comes first; a stream that has said this much without it is no HTTP+SSE. */
const maxPreludeBytes = 64 * 1024

const lineFeed = 0x0a
const carriageReturn = 0x0d
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/**
 * Replaces the data of a stream's `endpoint` event and passes every other byte as it came (MCP 2024-11-05, Transports,
 * HTTP with SSE: the first event names the URI to POST to). Lines are read as WHATWG HTML §9.2.6 has them.
 */
export class EndpointRewriter {
  readonly #rewrite: (data: string) => string
  /** What came in; undefined once the event has passed. */
  #held: Buffer | undefined = Buffer.alloc(0)
  /** Where the line that is being read began, and how far it was searched for its end. */
  #lineStart = 0
  #searched = 0
  #type = ''
  /** The data lines of the event, each from its first byte to behind its line break. */
  #dataLines: { readonly start: number; readonly end: number; readonly value: string; readonly lineBreak: string }[] =
    []

  /** `rewrite` gets the server's URI and returns the one for the client; what it throws comes out of `pass`. */
  constructor(rewrite: (data: string) => string) {
    this.#rewrite = rewrite
  }

  /** The bytes for the client: nothing until the event is complete, everything from then on. */
  pass(chunk: Buffer): Buffer {
    if (!this.#held) return chunk
    const held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    this.#held = held
    for (let line = this.#nextLine(held); line; line = this.#nextLine(held)) {
      const isBlank = line.text === ''
      if (isBlank && this.#dataLines.length > 0) return this.#replace(held)
      if (isBlank) this.#type = ''
      else this.#readField(line)
    }
    if (held.length > maxPreludeBytes) {
      throw new KnownError('upstream_invalid', `no endpoint event within the first ${maxPreludeBytes} bytes`)
    }
    return Buffer.alloc(0)
  }

  /**
   * The next whole line. One that ends in a CR at the end of what there is counts as whole only when it is blank, so
   * that the event never waits for a byte that may not come; a line feed that follows then is one more blank line.
   */
  #nextLine(held: Buffer): { start: number; end: number; text: string; lineBreak: string } | undefined {
    const start = this.#lineStart
    let at = this.#searched
    while (at < held.length && held[at] !== lineFeed && held[at] !== carriageReturn) at += 1
    this.#searched = at
    const isCr = held[at] === carriageReturn
    const from = start === 0 && held.indexOf(byteOrderMark) === 0 ? byteOrderMark.length : start
    if (at === held.length || (isCr && at + 1 === held.length && at > from)) return undefined
    const end = isCr && held[at + 1] === lineFeed ? at + 2 : at + 1
    this.#lineStart = end
    this.#searched = end
    return { start: from, end, text: held.toString('utf8', from, at), lineBreak: held.toString('latin1', at, end) }
  }

  #readField({ start, end, text, lineBreak }: { start: number; end: number; text: string; lineBreak: string }): void {
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(text) ?? []
    if (name === 'event') this.#type = value
    else if (name === 'data') this.#dataLines.push({ start, end, value, lineBreak })
  }

  #replace(held: Buffer): Buffer {
    if (this.#type !== 'endpoint') {
      const type = this.#type.slice(0, 100) || 'message'
      throw new KnownError('upstream_invalid', `the first event is "${type}" instead of "endpoint"`)
    }
    this.#held = undefined
    const data = this.#rewrite(this.#dataLines.map(({ value }) => value).join('\n'))
    const pieces: Buffer[] = []
    let copied = 0
    for (const [index, { start, end, lineBreak }] of this.#dataLines.entries()) {
      pieces.push(held.subarray(copied, start))
      if (index === 0) pieces.push(Buffer.from(`data: ${data}${lineBreak}`))
      copied = end
    }
    return Buffer.concat([...pieces, held.subarray(copied)])
  }
}
