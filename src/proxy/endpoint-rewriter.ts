import { KnownError } from '../errors.ts'
import { SseMessageReader, sseEvent } from '../wire/sse.ts'

/** The `endpoint` event comes first; a stream that has said this much without it is no HTTP+SSE. */
const maxPreludeBytes = 64 * 1024

/**
 * Replaces the data of a stream's `endpoint` event and passes every other byte as it came (MCP 2024-11-05, Transports,
 * HTTP with SSE: the first event names the URI to POST to).
 */
export class EndpointRewriter {
  readonly #rewrite: (data: string) => string
  #prelude: Buffer | undefined = Buffer.alloc(0)

  /** `rewrite` gets the server's URI and returns the one for the client; what it throws comes out of `pass`. */
  constructor(rewrite: (data: string) => string) {
    this.#rewrite = rewrite
  }

  /** The bytes for the client: nothing until the event is complete, everything from then on. */
  pass(chunk: Buffer): Buffer {
    if (!this.#prelude) return chunk
    const bytes = Buffer.concat([this.#prelude, chunk])
    const event = firstEvent(bytes)
    if (!event) {
      if (bytes.length > maxPreludeBytes) {
        throw new KnownError('upstream_invalid', `no endpoint event within the first ${maxPreludeBytes} bytes`)
      }
      this.#prelude = bytes
      return Buffer.alloc(0)
    }
    this.#prelude = undefined
    if (event.type !== 'endpoint') {
      throw new KnownError('upstream_invalid', `the first event is "${event.type.slice(0, 100)}" instead of "endpoint"`)
    }
    const data = Buffer.from(this.#rewrite(event.data))
    return Buffer.concat([sseEvent({ type: 'endpoint', data }), bytes.subarray(event.endsAt)])
  }
}

/** The first complete event, and where it ends: fed byte by byte from its blank line, as any line end may close it. */
function firstEvent(bytes: Buffer): { type: string; data: string; endsAt: number } | undefined {
  let found: { type: string; data: string } | undefined
  const reader = new SseMessageReader({
    maxBytes: maxPreludeBytes,
    onMessage: ({ type, data }) => (found ??= { type, data: data.toString() }),
    onTooLarge: () => undefined,
  })
  for (let index = 0; index < bytes.length; index++) {
    reader.push(bytes.subarray(index, index + 1))
    if (!found) continue
    // CR LF ends one line: the LF behind the closing CR belongs to the event.
    const endsAt = bytes[index] === 0x0d && bytes[index + 1] === 0x0a ? index + 2 : index + 1
    return { ...found, endsAt }
  }
  return undefined
}
