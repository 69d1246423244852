/** What was exchanged, as files: bytes that pass as they are, and conversations that are carried over any transport. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

export const corpusFolder = join(import.meta.dirname, 'corpus')

/** Bytes: text is UTF-8; what is not, or would be long, is written otherwise. */
const piece = z.union([
  z.string(),
  z.strictObject({ hex: z.string().regex(/^(?:[0-9a-f]{2})+$/) }),
  z.strictObject({ base64: z.base64() }),
  z.strictObject({ repeat: z.string(), times: z.int().positive() }),
])
/** Written, and sent, at once. */
const chunk = z.union([piece, z.array(piece)])
/** Each as it stands on the wire: `Name: value`. */
const headers = z.array(z.string().includes(':'))

const httpExchange = z.strictObject({
  about: z.string(),
  /** Where it was recorded; absent if it was written by hand. */
  recorded: z.string().optional(),
  request: z.strictObject({
    method: z.enum(['POST', 'GET', 'DELETE']),
    headers,
    /** Chunked transfer coding, or a Content-Length. */
    framing: z.enum(['chunked', 'length']),
    chunks: z.array(chunk),
  }),
  response: z.strictObject({
    status: z.string().regex(/^\d{3} /),
    headers,
    /** `close` ends with the connection; `none` has no body and says nothing of a length. */
    framing: z.enum(['chunked', 'length', 'close', 'none']),
    chunks: z.array(chunk),
    trailers: headers.optional(),
  }),
})

const transport = z.enum(['http', 'sse', 'stdio'])

const conversation = z.strictObject({
  about: z.string(),
  recorded: z.string().optional(),
  /** `both`: in either era, with its $CLAIM. */
  era: z.enum(['legacy', 'modern', 'both']),
  /** Where it can happen (`stdio → sse`); everywhere unless given. */
  ways: z.array(z.templateLiteral([transport, ' → ', transport])).optional(),
  /** Every message goes out in pieces, each character beyond ASCII cut. */
  isCut: z.literal(true).optional(),
  /** One message after the other, each sent when the one before has arrived. */
  says: z.array(
    z.union([
      z.strictObject({
        /** `$CLAIM` stands for what the `_meta` of each request of the era holds. */
        client: chunk,
        /** Its messages, where a bridge takes a batch apart. */
        items: z.array(z.string()).optional(),
      }),
      z.strictObject({
        /** `$ID` and `$TOKEN` stand for the last request's id and progress token, as the server got them. */
        server: chunk,
        items: z.array(z.string()).optional(),
        /** How an event stream frames it, chunk by chunk; by default one event. */
        framed: z.array(chunk).optional(),
      }),
    ]),
  ),
})

export type Chunk = z.infer<typeof chunk>
export type HttpExchange = z.infer<typeof httpExchange>
export type Conversation = z.infer<typeof conversation>

export function bytesOf(chunk: Chunk): Buffer {
  if (Array.isArray(chunk)) return Buffer.concat(chunk.map(bytesOf))
  if (typeof chunk === 'string') return Buffer.from(chunk)
  if ('hex' in chunk) return Buffer.from(chunk.hex, 'hex')
  if ('base64' in chunk) return Buffer.from(chunk.base64, 'base64')
  return Buffer.from(chunk.repeat.repeat(chunk.times))
}

/** Bytes as the corpus writes them: text where it is text. */
export function chunkOf(bytes: Buffer): Chunk {
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? text : { base64: bytes.toString('base64') }
}

function load<T>(folder: string, schema: z.ZodType<T>): (readonly [name: string, content: T])[] {
  const path = join(corpusFolder, folder)
  return readdirSync(path)
    .toSorted()
    .map((file) => [file.replace(/\.json$/, ''), schema.parse(JSON.parse(readFileSync(join(path, file), 'utf8')))])
}

export const httpExchanges = () => load('http', httpExchange)
export const conversations = () => load('conversations', conversation)
