import { type Envelope, EnvelopeReader } from './envelope.ts'

const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20
const colon = 0x3a
const byteOrderMark = [0xef, 0xbb, 0xbf]

/**
 * A field name as a number, so that one cut by a chunk's end needs no buffer: its bytes are the digits in base 256
 * behind a leading 1. No name that means anything is longer than `event`.
 */
const emptyName = 1
const maxName = 256 ** 6
const dataName = nameCode('data')
const eventName = nameCode('event')
const idName = nameCode('id')
const retryName = nameCode('retry')

function nameCode(name: string): number {
  return Buffer.from(name).reduce((code, byte) => code * 256 + byte, emptyName)
}

/** A longer type, id or time counts as absent. */
const maxValueBytes = 4096

const newline = Buffer.from('\n')

/** Is told what an event stream carries. */
export interface SseHandler {
  /** A piece of the current event's data; a newline piece stands between data lines. */
  onData(piece: Buffer): void
  /** A blank line. */
  onEvent(event: SseEvent): void
  /** How long to wait before the stream is opened again. */
  onRetry?(retryMs: number): void
}

export interface SseEvent {
  readonly type: string
  readonly id: string | undefined
  /** Without a data line (only comments, or an id) there is no event that a client would see. */
  readonly hadData: boolean
  /** Where it ends in the chunk, its last line break included as far as that is in it. */
  readonly end: number
}

/**
 * Parses an event stream from chunks cut anywhere (WHATWG HTML §9.2.6, "Interpreting an event stream"). Data is handed
 * on as parts of the chunks, uncopied, and nothing else that grows is kept.
 */
export class SseReader {
  readonly #handler: SseHandler
  #markBytes = 0
  #isAfterCr = false
  #name = emptyName
  #place: 'name' | 'space' | 'value' = 'name'
  /** The value of a type, an id or a time, a character per byte. */
  #value = ''
  #type = ''
  #id: string | undefined
  #hadData = false
  /** Whether the lines since the last blank one were more than comments. */
  #isWithinEvent = false

  constructor(handler: SseHandler) {
    this.#handler = handler
  }

  /** Whether a comment put in here would stand between two events. */
  get isBetweenEvents(): boolean {
    const isMarkWhole = this.#markBytes === 0 || this.#markBytes === byteOrderMark.length
    return !this.#isWithinEvent && this.#place === 'name' && this.#name === emptyName && isMarkWhole
  }

  push(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const nextLineEnd = lineEnds(bytes)
    let at = this.#skipByteOrderMark(bytes)
    while (at < bytes.length) {
      if (this.#isAfterCr && bytes[at] === lineFeed) at += 1
      this.#isAfterCr = false
      const end = nextLineEnd(at)
      if (at < end) this.#readPart(bytes, at, end)
      if (end < bytes.length) this.#endLine(bytes, end)
      at = end + 1
    }
  }

  #skipByteOrderMark(bytes: Buffer): number {
    let at = 0
    while (at < bytes.length && this.#markBytes < byteOrderMark.length) {
      if (bytes[at] === byteOrderMark[this.#markBytes]) {
        this.#markBytes += 1
        at += 1
      } else this.#markBytes = byteOrderMark.length
    }
    return at
  }

  /** Reads bytes that belong to one line, perhaps not its first nor its last ones. */
  #readPart(bytes: Buffer, from: number, to: number): void {
    let at = this.#place === 'name' ? this.#readName(bytes, from, to) : from
    if (at === to) return
    if (this.#place === 'space' && bytes[at] === space) at += 1
    this.#place = 'value'
    if (at < to) this.#readValue(bytes, at, to)
  }

  #readName(bytes: Buffer, from: number, to: number): number {
    let name = this.#name
    let at = from
    while (at < to && name < maxName && bytes[at] !== colon) name = name * 256 + (bytes[at++] ?? 0)
    this.#name = name
    if (at === to) return to
    this.#place = 'space'
    this.#startField()
    // A longer name is unknown, so what follows may as well be its value.
    return bytes[at] === colon ? at + 1 : at
  }

  #startField(): void {
    if (this.#name !== dataName) return
    if (this.#hadData) this.#handler.onData(newline)
    this.#hadData = true
  }

  #readValue(bytes: Buffer, from: number, to: number): void {
    if (this.#name === dataName) this.#handler.onData(bytes.subarray(from, to))
    else if (this.#name === eventName || this.#name === idName || this.#name === retryName) {
      const room = maxValueBytes + 1 - this.#value.length
      this.#value += bytes.toString('latin1', from, Math.min(to, from + room))
    }
  }

  #endLine(bytes: Buffer, at: number): void {
    this.#isAfterCr = bytes[at] === carriageReturn
    if (this.#place === 'name') {
      if (this.#name === emptyName)
        return this.#endEvent(this.#isAfterCr && bytes[at + 1] === lineFeed ? at + 2 : at + 1)
      // A line without a colon is a field with an empty value.
      this.#startField()
    }
    this.#isWithinEvent ||= this.#name !== emptyName
    const isKept = this.#value.length <= maxValueBytes
    if (this.#name === eventName) this.#type = isKept ? fromBytes(this.#value) : ''
    if (this.#name === idName && isKept && !this.#value.includes('\0')) this.#id = fromBytes(this.#value)
    if (this.#name === retryName && isKept && /^\d+$/.test(this.#value)) this.#handler.onRetry?.(Number(this.#value))
    this.#name = emptyName
    this.#place = 'name'
    this.#value = ''
  }

  #endEvent(end: number): void {
    const event = { type: this.#type || 'message', id: this.#id, hadData: this.#hadData, end }
    this.#type = ''
    this.#id = undefined
    this.#hadData = false
    this.#isWithinEvent = false
    this.#handler.onEvent(event)
  }
}

function fromBytes(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : Buffer.from(text, 'latin1').toString()
}

/**
 * Finds the next CR or LF at or after a position, else the end. Each is searched once and remembered: a stream that
 * uses only one of them would otherwise be searched to its end for the other at every line.
 */
function lineEnds(bytes: Buffer): (from: number) => number {
  const search = (byte: number, from: number) => {
    const found = bytes.indexOf(byte, from)
    return found === -1 ? bytes.length : found
  }
  let nextLf = -1
  let nextCr = -1
  return (from) => {
    if (nextLf < from) nextLf = search(lineFeed, from)
    if (nextCr < from) nextCr = search(carriageReturn, from)
    return Math.min(nextLf, nextCr)
  }
}

export interface SseMessageReaderOptions {
  readonly maxBytes: number
  onMessage(event: { readonly type: string; readonly id: string | undefined; readonly data: Buffer }): void
  /** The id of an event, before its message if it has one: without data an id counts as well. */
  onId?(id: string): void
  /** How long to wait before the stream is opened again. */
  onRetry?(retryMs: number): void
  /** The data of an event was longer than `maxBytes` and is dropped; told with the envelope, if it was a message. */
  onTooLarge(event: { readonly type: string; readonly bytes: number; readonly envelope: Envelope | undefined }): void
}

/** Gathers the data of each event of a stream; events without data are no messages. */
export class SseMessageReader {
  readonly #options: SseMessageReaderOptions
  readonly #reader: SseReader
  #pieces: Buffer[] = []
  #bytes = 0
  /** Reads what is not kept. */
  #skimmed: EnvelopeReader | undefined

  constructor(options: SseMessageReaderOptions) {
    this.#options = options
    this.#reader = new SseReader({
      onData: (piece) => this.#gather(piece),
      onEvent: ({ type, id, hadData }) => {
        if (id !== undefined) this.#options.onId?.(id)
        if (hadData) this.#finish(type, id)
      },
      onRetry: (retryMs) => this.#options.onRetry?.(retryMs),
    })
  }

  push(chunk: Uint8Array): void {
    this.#reader.push(chunk)
  }

  #gather(piece: Buffer): void {
    this.#bytes += piece.length
    this.#pieces.push(piece)
    if (this.#bytes <= this.#options.maxBytes) return
    this.#skimmed ??= new EnvelopeReader()
    for (const gathered of this.#pieces.splice(0)) this.#skimmed.push(gathered)
  }

  #finish(type: string, id: string | undefined): void {
    const pieces = this.#pieces
    const bytes = this.#bytes
    const skimmed = this.#skimmed
    this.#pieces = []
    this.#bytes = 0
    this.#skimmed = undefined
    if (skimmed) return this.#options.onTooLarge({ type, bytes, envelope: skimmed.end() })
    const [first] = pieces
    const data = first && pieces.length === 1 ? first : Buffer.concat(pieces, bytes)
    this.#options.onMessage({ type, id, data })
  }
}

/** One event as it stands in a stream. A line break cannot be part of a type or an id and is left out. */
export function sseEvent(event: {
  readonly data: Uint8Array
  readonly type?: string | undefined
  readonly id?: string | undefined
}): Buffer {
  const type = event.type === undefined ? '' : `event: ${oneLine(event.type)}\n`
  const id = event.id === undefined ? '' : `id: ${oneLine(event.id)}\n`
  const pieces: Buffer[] = [Buffer.from(`${type}${id}data: `)]
  const bytes = Buffer.from(event.data.buffer, event.data.byteOffset, event.data.byteLength)
  const nextLineEnd = lineEnds(bytes)
  let at = 0
  for (let end = nextLineEnd(at); end < bytes.length; end = nextLineEnd(at)) {
    pieces.push(bytes.subarray(at, end), Buffer.from('\ndata: '))
    at = end + (bytes[end] === carriageReturn && bytes[end + 1] === lineFeed ? 2 : 1)
  }
  return Buffer.concat([...pieces, bytes.subarray(at), Buffer.from('\n\n')])
}

function oneLine(text: string): string {
  return text.replaceAll(/[\r\n\0]/g, '')
}

/** A comment that keeps middleboxes from closing a silent stream; parsers ignore it (WHATWG HTML §9.2.7). */
export const keepAliveComment: Buffer = Buffer.from(': keep-alive\n\n')
