import { BatchSplitter, batchItems, maxBatchMessages } from './batch.ts'
import { type Found, LastText, type Member, Scanner, type Token, unescaped } from './scanner.ts'

/** Byte offsets of one JSON value inside the message. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/** What the proxy reads of a JSON-RPC message: never more than this, and never by parsing the whole. */
export interface Envelope {
  readonly kind: 'request' | 'notification' | 'response' | 'batch'
  readonly method?: string | undefined
  /**
   * The JSON text of the id (`1`, `"a"`, `null`), fit for a map key and for splicing. Escapes and odd numbers are
   * normalised, because a peer may answer `"a\/b"` with `"a/b"`.
   */
  readonly id?: string | undefined
  /** `params.name`: the tool or the prompt. */
  readonly name?: string | undefined
  /** `params.uri`: the resource. */
  readonly uri?: string | undefined
  /** `params.taskId` (SEP-2663). */
  readonly taskId?: string | undefined
  /** JSON text of `params._meta.progressToken` of a request, of `params.progressToken` of a notification. */
  readonly progressToken?: string | undefined
  /** JSON text of `_meta["io.modelcontextprotocol/subscriptionId"]` of the params or the result. */
  readonly subscriptionId?: string | undefined
  /** JSON text of `params.requestId` (`notifications/cancelled`). */
  readonly requestId?: string | undefined
  /** The revision the message names: in `params._meta`, else in `params`, else in `result`. */
  readonly protocolVersion?: string | undefined
  /** The revision that `params._meta` alone names: the claim that makes a request modern. */
  readonly metaProtocolVersion?: string | undefined
  readonly traceparent?: string | undefined
  readonly tracestate?: string | undefined
  readonly baggage?: string | undefined
  /** The message is cut at 200 characters; a code that is no number reads as 0. */
  readonly error?: { readonly code: number; readonly message: string } | undefined
  /** `result.isError` of a tool call. */
  readonly isError?: boolean | undefined
  readonly clientName?: string | undefined
  /** Of a batch: its messages, undefined where one is none; absent altogether when they are more than `maxBatchMessages`. */
  readonly messages?: readonly (Envelope | undefined)[] | undefined
  /** Of an error that we put in the place of a server's answer: what was wrong with that. */
  readonly unfit?: string | undefined
  readonly ranges: {
    readonly id?: ByteRange | undefined
    readonly progressToken?: ByteRange | undefined
    readonly subscriptionId?: ByteRange | undefined
    readonly requestId?: ByteRange | undefined
    /** Of a request: `traceparent` in the `_meta` of its parameters, whatever it is. */
    readonly traceparent?: ByteRange | undefined
  }
  /** Where a request's parameters and their `_meta` begin, whatever they are. */
  readonly starts?: { readonly params?: number | undefined; readonly meta?: number | undefined } | undefined
}

const maxErrorChars = 200
const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20

interface Wanted extends Member {
  readonly members: readonly Wanted[]
  slot: number
}

function wanted(key: string, members: Readonly<Record<string, Wanted>> = {}): Wanted {
  return { key, bytes: Buffer.from(key), members: Object.values(members), slot: 0, last: undefined }
}

/** Message after message names the same methods, tools and revisions. */
function repeated(key: string): Wanted {
  return { ...wanted(key), last: new LastText() }
}

/** Numbers the outer members first: most messages have little else, and then what is found in them is a short list. */
function numbered(root: Wanted): Wanted {
  let slot = 0
  for (let ring = root.members; ring.length > 0; ring = ring.flatMap(({ members }) => members)) {
    for (const member of ring) member.slot = slot++
  }
  return root
}

const vendor = 'io.modelcontextprotocol/'
const inParamsClientInfo = { name: repeated('name') }
const inMetaClientInfo = { name: repeated('name') }
const inParamsMeta = {
  progressToken: wanted('progressToken'),
  traceparent: wanted('traceparent'),
  tracestate: wanted('tracestate'),
  baggage: wanted('baggage'),
  protocolVersion: repeated(`${vendor}protocolVersion`),
  subscriptionId: wanted(`${vendor}subscriptionId`),
  clientInfo: wanted(`${vendor}clientInfo`, inMetaClientInfo),
}
const inParams = {
  meta: wanted('_meta', inParamsMeta),
  name: repeated('name'),
  uri: wanted('uri'),
  taskId: wanted('taskId'),
  progressToken: wanted('progressToken'),
  requestId: wanted('requestId'),
  protocolVersion: repeated('protocolVersion'),
  clientInfo: wanted('clientInfo', inParamsClientInfo),
}
const inResultMeta = { subscriptionId: wanted(`${vendor}subscriptionId`) }
const inResult = {
  meta: wanted('_meta', inResultMeta),
  isError: repeated('isError'),
  protocolVersion: repeated('protocolVersion'),
}
const inError = { code: wanted('code'), message: wanted('message') }
const inMessage = {
  id: wanted('id'),
  method: repeated('method'),
  params: wanted('params', inParams),
  result: wanted('result', inResult),
  error: wanted('error', inError),
}
const root = numbered(wanted('', inMessage))

/**
 * Reads the envelope of one JSON-RPC message from chunks cut anywhere. `end` gives undefined for what is no JSON-RPC
 * message or was cut short.
 */
export class EnvelopeReader {
  readonly #scanner = new Scanner(root)
  #batch: BatchReader | undefined

  push(chunk: Uint8Array): void {
    this.#scanner.push(chunk)
    if (!this.#scanner.isArray) return
    this.#batch ??= new BatchReader()
    this.#batch.push(chunk)
  }

  /** Whether what came so far may still become an answer under an id of which `isWanted` holds, or a batch with one. */
  mayAnswer(isWanted: (id: string) => boolean): boolean {
    if (this.#scanner.isArray) return true
    const found = this.#scanner.soFar()
    if (!found || found[inMessage.method.slot]) return false
    const id = idText(found[inMessage.id.slot])
    return id === undefined || isWanted(id)
  }

  end(): Envelope | undefined {
    const scanned = this.#scanner.end()
    if (!scanned) return undefined
    if (scanned.kind === 'object') return envelopeOf(scanned.found)
    return { kind: 'batch', messages: this.#batch?.messages, ranges: {} }
  }
}

/** Reads the messages of a batch. A batch within it is none. */
class BatchReader {
  readonly #messages: (Envelope | undefined)[] = []
  readonly #splitter = new BatchSplitter({
    onPiece: (piece) => this.#scanner.push(piece),
    onItemEnd: () => this.#endItem(),
  })
  #scanner = new Scanner(root)

  push(chunk: Uint8Array): void {
    this.#splitter.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
  }

  #endItem(): void {
    const scanned = this.#scanner.end()
    this.#scanner = new Scanner(root)
    this.#messages.push(scanned?.kind === 'object' ? envelopeOf(scanned.found) : undefined)
  }

  /** Undefined when they are too many. */
  get messages(): readonly (Envelope | undefined)[] | undefined {
    return this.#messages.length > maxBatchMessages ? undefined : this.#messages
  }
}

/** The envelope of one complete message in memory. */
export function readEnvelope(message: Uint8Array): Envelope | undefined {
  const reader = new EnvelopeReader()
  reader.push(message)
  return reader.end()
}

/** One entry of a batch; without an envelope where it is no message, as a batch within a batch is none. */
export interface BatchEntry {
  readonly message: Buffer
  readonly envelope: Envelope | undefined
}

/** The entries of a batch, as uncopied parts of it, with what its envelope knows of them; undefined when they are too many. */
export function batchEntries(batch: Buffer, { messages }: Envelope): BatchEntry[] | undefined {
  if (!messages) return undefined
  return batchItems(batch)?.map((message, index) => ({ message, envelope: messages[index] }))
}

function envelopeOf(found: Found): Envelope | undefined {
  const method = found[inMessage.method.slot]
  if (method?.kind === 'string') return callOf(found)
  return method ? undefined : responseOf(found)
}

/**
 * A request's id "MUST NOT be null" (MCP 2025-11-25, Basic, Requests), and the SDKs refuse one. Clients exist that send
 * it with a notification, though; nothing could answer that, so it is one.
 */
function callOf(found: Found): Envelope | undefined {
  const method = stringOf(found[inMessage.method.slot])
  const idToken = found[inMessage.id.slot]
  const id = isNull(idToken) ? undefined : idToken
  if (id ? !isId(id) : idToken && method?.startsWith('notifications/') !== true) return undefined
  const progressToken = idOf(found[id ? inParamsMeta.progressToken.slot : inParams.progressToken.slot])
  const requestId = idOf(found[inParams.requestId.slot])
  const subscriptionId = idOf(found[inParamsMeta.subscriptionId.slot])
  const metaProtocolVersion = stringOf(found[inParamsMeta.protocolVersion.slot])
  return {
    kind: id ? 'request' : 'notification',
    method,
    id: idText(id),
    name: stringOf(found[inParams.name.slot]),
    uri: stringOf(found[inParams.uri.slot]),
    taskId: stringOf(found[inParams.taskId.slot]),
    progressToken: idText(progressToken),
    subscriptionId: idText(subscriptionId),
    requestId: idText(requestId),
    protocolVersion: metaProtocolVersion ?? stringOf(found[inParams.protocolVersion.slot]),
    metaProtocolVersion,
    traceparent: stringOf(found[inParamsMeta.traceparent.slot]),
    tracestate: stringOf(found[inParamsMeta.tracestate.slot]),
    baggage: stringOf(found[inParamsMeta.baggage.slot]),
    clientName: stringOf(found[inMetaClientInfo.name.slot]) ?? stringOf(found[inParamsClientInfo.name.slot]),
    ranges: {
      id: rangeOf(id),
      progressToken: rangeOf(progressToken),
      subscriptionId: rangeOf(subscriptionId),
      requestId: rangeOf(requestId),
      traceparent: id && rangeOf(found[inParamsMeta.traceparent.slot]),
    },
    starts: id && { params: found[inMessage.params.slot]?.start, meta: found[inParams.meta.slot]?.start },
  }
}

/** An error that names no id is an answer too: the server could not read it (MCP 2025-11-25, JSONRPCErrorResponse). */
function responseOf(found: Found): Envelope | undefined {
  const id = found[inMessage.id.slot]
  const failure = found[inMessage.error.slot]
  const isFailure = failure !== undefined && !isNull(failure)
  if (id ? !isId(id) : !isFailure) return undefined
  if (!isFailure && !found[inMessage.result.slot]) return undefined
  const subscriptionId = idOf(found[inResultMeta.subscriptionId.slot])
  return {
    kind: 'response',
    id: idText(id),
    subscriptionId: idText(subscriptionId),
    protocolVersion: stringOf(found[inResult.protocolVersion.slot]),
    error: isFailure ? { code: numberOf(found[inError.code.slot]) ?? 0, message: errorText(found) } : undefined,
    isError: booleanOf(found[inResult.isError.slot]),
    ranges: { id: rangeOf(id), subscriptionId: rangeOf(subscriptionId) },
  }
}

const wholeNumber = /^-?(?:0|[1-9]\d*)$/
const jsonNumber = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

function isNull(token: Token | undefined): boolean {
  return token?.kind === 'scalar' && token.text === 'null'
}

function isNumber({ kind, text }: Token): boolean {
  return kind === 'scalar' && (wholeNumber.test(text) || jsonNumber.test(text))
}

function isId(token: Token): boolean {
  return token.kind === 'string' || isNumber(token) || isNull(token)
}

function idOf(token: Token | undefined): Token | undefined {
  return token && isId(token) ? token : undefined
}

function rangeOf(token: Token | undefined): ByteRange | undefined {
  return token && { start: token.start, end: token.end }
}

/** `1.0` and `1e0` are the number 1; a whole number keeps its digits, however many. */
function idText(token: Token | undefined): string | undefined {
  if (!token?.isWhole) return undefined
  if (token.kind === 'string') return quoted(token.text)
  if (isNull(token) || wholeNumber.test(token.text)) return token.text
  const value = Number(token.text)
  return Number.isFinite(value) ? String(value) : token.text
}

/**
 * Whether an answer under `heard` is for `asked`, both JSON text: JavaScript writes the id 12345678901234567890 back as
 * 12345678901234567000, and -0 as 0.
 */
export function isSameId(asked: string | undefined, heard: string | undefined): boolean {
  if (asked === heard || asked === undefined || heard === undefined) return asked === heard
  return Number(asked) === Number(heard)
}

/** An escape may hide which character it is, as in `"a\/b"`, so such a string is written anew. */
function quoted(text: string): string {
  return text.includes('\\') ? JSON.stringify(unescaped(text) ?? text) : `"${text}"`
}

function stringOf(token: Token | undefined): string | undefined {
  return token?.kind === 'string' && token.isWhole ? unescaped(token.text) : undefined
}

function numberOf(token: Token | undefined): number | undefined {
  return token && isNumber(token) ? Number(token.text) : undefined
}

function booleanOf(token: Token | undefined): boolean | undefined {
  return token?.kind === 'scalar' && (token.text === 'true' || token.text === 'false')
    ? token.text === 'true'
    : undefined
}

/** The start of the message; a long one may have been cut inside an escape. */
function errorText(found: Found): string {
  const token = found[inError.message.slot]
  if (token?.kind !== 'string') return ''
  const text = token.isWhole ? token.text : token.text.replace(/(?<!\\)((?:\\\\)*)\\(?:u[^\\]{0,3})?$/, '$1')
  return (unescaped(text) ?? text).slice(0, maxErrorChars)
}

export interface Edit {
  readonly range: ByteRange
  readonly text: string
}

/** The JSON text there, as a copy, so that the message itself can go. */
export function textAt(message: Buffer, range: ByteRange | undefined): string | undefined {
  return range && message.toString('utf8', range.start, range.end)
}

/** What to replace, of the places that there are. */
export function edits(...wanted: readonly (readonly [range: ByteRange | undefined, text: string])[]): Edit[] {
  const made: Edit[] = []
  for (const [range, text] of wanted) if (range) made.push({ range, text })
  return made
}

/** Replaces byte ranges of a message, which must not overlap, by other JSON text; the rest stays byte for byte. */
export function splice(message: Buffer, edits: readonly Edit[]): Buffer {
  if (edits.length === 0) return message
  const inOrder = edits.length === 1 ? edits : edits.toSorted((a, b) => a.range.start - b.range.start)
  let bytes = message.length
  for (const { range, text } of edits) bytes += Buffer.byteLength(text) - (range.end - range.start)
  const made = Buffer.allocUnsafe(bytes)
  let from = 0
  let to = 0
  for (const { range, text } of inOrder) {
    to += message.copy(made, to, from, range.start)
    to += made.write(text, to)
    from = range.end
  }
  message.copy(made, to, from)
  return made
}

/**
 * The message without a UTF-8 byte order mark in front: whoever reads the body of a POST or its answer drops one (`fetch`
 * does), and whoever parses a line takes it for an error (RFC 8259 §8.1).
 */
export function withoutMark(message: Buffer): Buffer {
  const isMarked = message[0] === 0xef && message[1] === 0xbb && message[2] === 0xbf
  return isMarked ? message.subarray(3) : message
}

/**
 * The message on one line, as the framing of stdio needs it: raw line breaks, which JSON allows only between tokens,
 * become spaces, and a byte order mark goes. Gives back the same buffer when there is nothing to change.
 */
export function onOneLine(marked: Buffer): Buffer {
  const message = withoutMark(marked)
  if (!message.includes(lineFeed) && !message.includes(carriageReturn)) return message
  const line = Buffer.from(message)
  for (let at = 0; at < line.length; at++) {
    if (line[at] === lineFeed || line[at] === carriageReturn) line[at] = space
  }
  return line
}
