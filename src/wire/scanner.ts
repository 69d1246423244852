/** A member that is looked for, and those inside it when its value is an object. */
export interface Member {
  /** In plain ASCII. */
  readonly key: string
  readonly bytes: Buffer
  readonly members: readonly Member[]
  /** Where its value stands in `Found`. */
  readonly slot: number
  /** What stood there last, where messages mostly repeat it. */
  readonly last?: LastText | undefined
}

/** A text and its bytes: to compare bytes costs a fraction of making a string of them. */
export class LastText {
  #text = ''
  readonly #bytes = Buffer.alloc(maxLastBytes)
  #length = 0

  /** The text of these bytes. */
  of(bytes: Buffer, from: number, to: number): string {
    if (this.#length === to - from && isEqual(this.#bytes, bytes, from, to)) return this.#text
    const text = bytes.toString('utf8', from, to)
    if (to - from > maxLastBytes) return text
    this.#length = bytes.copy(this.#bytes, 0, from, to)
    this.#text = text
    return text
  }
}

/** A value that was found, by its bytes in the message. The text of a string stands without its quotes, escapes and all. */
export interface Token {
  readonly kind: 'string' | 'scalar' | 'container'
  readonly text: string
  /** False when the text was cut, so that memory does not grow with the message. */
  readonly isWhole: boolean
  readonly start: number
  /** Of an object that is looked into, it is the start. */
  readonly end: number
}

/** The values of the wanted members, by slot. */
export type Found = readonly (Token | undefined)[]

export type Scanned = { readonly kind: 'object'; readonly found: Found } | { readonly kind: 'array' }

const maxValueBytes = 4096
const maxLastBytes = 64
/** Any key we look for fits, even with each of its characters escaped. */
const maxKeyBytes = 512

const tab = 0x09
const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20
const quote = 0x22
const comma = 0x2c
const minus = 0x2d
const colon = 0x3a
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d
const byteOrderMark = [0xef, 0xbb, 0xbf]

type State =
  | 'before text'
  | 'before first key'
  | 'before key'
  | 'in key'
  | 'before colon'
  | 'before value'
  | 'in string'
  | 'in scalar'
  | 'in container'
  | 'in string of container'
  | 'after value'
  | 'after text'
  | 'broken'

/** States in which white space means nothing. */
type Between = Extract<State, `before ${string}` | `after ${string}`>

/**
 * Picks a few members out of one JSON text that comes in chunks cut anywhere. Of a container that nobody asks about it
 * only counts the depth, and strings are skipped by searching their closing quote, so a large body costs little more
 * than looking at each byte once. It is no validator: what only a full parser would refuse may pass.
 */
export class Scanner {
  readonly #root: Member
  readonly #found: (Token | undefined)[] = []
  /** The objects being read, outermost first, and what is looked for in the innermost. */
  readonly #path: Member[] = []
  #members: readonly Member[] = []
  #state: State = 'before text'
  #isArray = false
  /** Whose value comes next or is being read; undefined when nobody asks for it. */
  #member: Member | undefined
  /** How many containers are open below the one that is skipped, itself included. */
  #depth = 0
  /** The last chunk ended between a backslash and the character it escapes. */
  #isEscaped = false
  /** Bytes before the current chunk. */
  #offset = 0
  #tokenStart = 0
  /** The start of a token that began in an earlier chunk. */
  #held: Buffer[] = []
  #heldBytes = 0

  constructor(root: Member) {
    this.#root = root
  }

  /** Whether the text began as an array. */
  get isArray(): boolean {
    return this.#isArray
  }

  push(chunk: Uint8Array): void {
    const bytes = asBuffer(chunk)
    let at = 0
    while (at < bytes.length) at = this.#read(bytes, at)
    this.#offset += bytes.length
  }

  /** Undefined when the text was cut short, is no object or array, or something follows it. */
  end(): Scanned | undefined {
    if (this.#state !== 'after text') return undefined
    return this.#isArray ? { kind: 'array' } : { kind: 'object', found: this.#found }
  }

  /** What was found so far, while nothing yet rules out that the text is one whole object. */
  soFar(): Found | undefined {
    return this.#state === 'broken' || this.#isArray ? undefined : this.#found
  }

  #read(bytes: Buffer, at: number): number {
    const state = this.#state
    switch (state) {
      case 'in key':
        return this.#readKey(bytes, at)
      case 'in string':
        return this.#readString(bytes, at)
      case 'in scalar':
        return this.#readScalar(bytes, at)
      case 'in container':
        return this.#skipContainer(bytes, at)
      case 'in string of container':
        return this.#skipString(bytes, at)
      case 'before text':
      case 'before first key':
      case 'before key':
      case 'before colon':
      case 'before value':
      case 'after value':
      case 'after text':
        return this.#readPunctuation(state, bytes, at)
      case 'broken':
    }
    return bytes.length
  }

  #readPunctuation(state: Between, bytes: Buffer, at: number): number {
    const byte = bytes[at]
    if (isSpace(byte)) return at + 1
    switch (state) {
      case 'before text':
        this.#startText(byte, this.#offset + at)
        break
      case 'before first key':
        if (byte === closeBrace) this.#closeObject()
        else this.#state = byte === quote ? 'in key' : 'broken'
        break
      case 'before key':
        this.#state = byte === quote ? 'in key' : 'broken'
        break
      case 'before colon':
        this.#state = byte === colon ? 'before value' : 'broken'
        break
      case 'before value':
        // The first byte of a scalar belongs to its text.
        if (!startsScalar(byte)) this.#startValue(byte, this.#offset + at)
        else return this.#startScalar(at)
        break
      case 'after value':
        if (byte === closeBrace) this.#closeObject()
        else this.#state = byte === comma ? 'before key' : 'broken'
        break
      case 'after text':
        this.#state = 'broken'
    }
    return at + 1
  }

  #startText(byte: number | undefined, position: number): void {
    if (byte === openBrace) this.#openObject(this.#root)
    else if (byte === openBracket) {
      this.#isArray = true
      this.#openContainer()
    } else if (byte !== byteOrderMark[position]) this.#state = 'broken'
  }

  #startValue(byte: number | undefined, position: number): void {
    const member = this.#startToken(position)
    if (byte === quote) this.#state = 'in string'
    else if (byte !== openBrace && byte !== openBracket) this.#state = 'broken'
    else {
      if (member)
        this.#found[member.slot] = { kind: 'container', text: '', isWhole: true, start: position, end: position }
      if (byte === openBrace && member && member.members.length > 0) this.#openObject(member)
      else this.#openContainer()
    }
  }

  #startScalar(at: number): number {
    this.#startToken(this.#offset + at)
    this.#state = 'in scalar'
    return at
  }

  #startToken(position: number): Member | undefined {
    this.#tokenStart = position
    // The last of duplicate keys wins, as in JSON.parse, and nothing of the earlier value may stay.
    if (this.#member) this.#forget(this.#member)
    return this.#member
  }

  #forget(member: Member): void {
    if (!this.#found[member.slot]) return
    this.#found[member.slot] = undefined
    for (const inner of member.members) this.#forget(inner)
  }

  #openObject(member: Member): void {
    this.#path.push(member)
    this.#members = member.members
    this.#state = 'before first key'
  }

  #closeObject(): void {
    this.#path.pop()
    this.#members = this.#path.at(-1)?.members ?? []
    this.#afterValue()
  }

  #openContainer(): void {
    this.#depth = 1
    this.#state = 'in container'
  }

  #afterValue(): void {
    this.#state = this.#path.length === 0 ? 'after text' : 'after value'
  }

  #readKey(bytes: Buffer, at: number): number {
    const end = this.#closingQuote(bytes, at)
    if (end === -1) return this.#hold(bytes, at, bytes.length, maxKeyBytes)
    const members = this.#members
    if (this.#heldBytes === 0) this.#member = memberNamed(members, bytes, at, end)
    else {
      const key = this.#takeHeld(bytes, at, end, maxKeyBytes)
      this.#member = key.length > maxKeyBytes ? undefined : memberNamed(members, key, 0, key.length)
    }
    return this.#afterKey(bytes, end + 1)
  }

  /** Most text is compact, so what follows a key or a value is mostly seen at once. */
  #afterKey(bytes: Buffer, at: number): number {
    this.#state = 'before colon'
    if (bytes[at] !== colon) return at
    this.#state = 'before value'
    if (bytes[at + 1] !== quote) return at + 1
    this.#startToken(this.#offset + at + 1)
    this.#state = 'in string'
    return at + 2
  }

  /** The same behind the value of a member. */
  #afterMember(bytes: Buffer, at: number): number {
    this.#state = 'after value'
    if (bytes[at] !== comma || bytes[at + 1] !== quote) return at
    this.#state = 'in key'
    return at + 2
  }

  #readString(bytes: Buffer, at: number): number {
    const end = this.#closingQuote(bytes, at)
    if (end === -1) return this.#member ? this.#hold(bytes, at, bytes.length, maxValueBytes) : bytes.length
    if (this.#member) this.#note(this.#member, 'string', bytes, at, end)
    return this.#afterMember(bytes, end + 1)
  }

  #readScalar(bytes: Buffer, from: number): number {
    let at = from
    while (at < bytes.length && !endsScalar(bytes[at])) at++
    if (at === bytes.length) return this.#member ? this.#hold(bytes, from, at, maxValueBytes) : at
    if (this.#member) this.#note(this.#member, 'scalar', bytes, from, at)
    return this.#afterMember(bytes, at)
  }

  #skipContainer(bytes: Buffer, from: number): number {
    let depth = this.#depth
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0
      if (byte === quote) {
        const end = closingQuote(bytes, at + 1)
        if (end === -1) return this.#leaveInString(bytes, at + 1, depth)
        at = end
        // Digits and white space, most of what is left, lie below all brackets.
      } else if (byte >= openBracket) {
        if (byte === openBrace || byte === openBracket) depth++
        else if ((byte === closeBrace || byte === closeBracket) && --depth === 0) {
          this.#endContainer(this.#offset + at + 1)
          return at + 1
        }
      }
    }
    this.#depth = depth
    return bytes.length
  }

  #endContainer(end: number): void {
    const found = this.#member && this.#found[this.#member.slot]
    if (found && this.#member) this.#found[this.#member.slot] = { ...found, end }
    this.#afterValue()
  }

  #leaveInString(bytes: Buffer, from: number, depth: number): number {
    this.#depth = depth
    this.#isEscaped = isEscapedAt(bytes, bytes.length, from)
    this.#state = 'in string of container'
    return bytes.length
  }

  #skipString(bytes: Buffer, at: number): number {
    const end = this.#closingQuote(bytes, at)
    if (end === -1) return bytes.length
    this.#state = 'in container'
    return end + 1
  }

  /** Where the open string ends, −1 when it goes on in the next chunk. */
  #closingQuote(bytes: Buffer, at: number): number {
    const from = this.#isEscaped ? at + 1 : at
    const end = closingQuote(bytes, from)
    this.#isEscaped = end === -1 && isEscapedAt(bytes, bytes.length, from)
    return end
  }

  #note(member: Member, kind: 'string' | 'scalar', bytes: Buffer, from: number, to: number): void {
    const length = this.#heldBytes + to - from
    const text =
      this.#heldBytes === 0
        ? textOf(member, bytes, from, Math.min(to, from + maxValueBytes))
        : this.#takeHeld(bytes, from, to, maxValueBytes).toString('utf8', 0, maxValueBytes)
    const end = this.#offset + to + (kind === 'string' ? 1 : 0)
    this.#found[member.slot] = { kind, text, isWhole: length <= maxValueBytes, start: this.#tokenStart, end }
  }

  /** Copies what of the token fits, so that no chunk is kept alive, and one byte more to tell that it was cut. */
  #hold(bytes: Buffer, from: number, to: number, maxBytes: number): number {
    const room = maxBytes + 1 - this.#heldBytes
    if (room > 0) this.#held.push(Buffer.from(bytes.subarray(from, Math.min(to, from + room))))
    this.#heldBytes += to - from
    return to
  }

  #takeHeld(bytes: Buffer, from: number, to: number, maxBytes: number): Buffer {
    this.#hold(bytes, from, to, maxBytes)
    const token = Buffer.concat(this.#held)
    this.#held = []
    this.#heldBytes = 0
    return token
  }
}

function textOf({ last }: Member, bytes: Buffer, from: number, to: number): string {
  return last ? last.of(bytes, from, to) : bytes.toString('utf8', from, to)
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function isSpace(byte: number | undefined): boolean {
  return byte === space || byte === lineFeed || byte === carriageReturn || byte === tab
}

/** A digit, a minus, or the first letter of `true`, `false` or `null`. */
function startsScalar(byte: number | undefined): boolean {
  if (byte === undefined) return false
  return byte === minus || (byte >= 0x30 && byte <= 0x39) || byte === 0x74 || byte === 0x66 || byte === 0x6e
}

function endsScalar(byte: number | undefined): boolean {
  return byte === comma || byte === closeBrace || byte === closeBracket || isSpace(byte)
}

/** Bytes looked at one by one before the search for a quote is worth a native call. */
const nearBytes = 48

/** Where the string that is open at `from` ends, or −1. A short one is walked, a long one searched. */
function closingQuote(bytes: Buffer, from: number): number {
  let at = from
  for (;;) {
    const near = Math.min(at + nearBytes, bytes.length)
    while (at < near) {
      const byte = bytes[at]
      if (byte === quote) return at
      at += byte === backslash ? 2 : 1
    }
    const found = bytes.indexOf(quote, at)
    if (found === -1 || !isEscapedAt(bytes, found, at)) return found
    at = found + 1
  }
}

/** Whether an odd number of backslashes stands right before `at`; nothing before `from` is escaping. */
function isEscapedAt(bytes: Buffer, at: number, from: number): boolean {
  let start = at
  while (start > from && bytes[start - 1] === backslash) start--
  return (at - start) % 2 === 1
}

function memberNamed(members: readonly Member[], bytes: Buffer, from: number, to: number): Member | undefined {
  const length = to - from
  for (const member of members) {
    if (member.key.length === length && isEqual(member.bytes, bytes, from, to)) return member
  }
  if (!hasBackslash(bytes, from, to)) return undefined
  const key = unescaped(bytes.toString('utf8', from, to))
  return members.find((member) => member.key === key)
}

/** Whether `expected` begins with what stands between `from` and `to`; texts that differ mostly do so at the end. */
function isEqual(expected: Buffer, bytes: Buffer, from: number, to: number): boolean {
  for (let at = to - 1; at >= from; at--) if (expected[at - from] !== bytes[at]) return false
  return true
}

function hasBackslash(bytes: Buffer, from: number, to: number): boolean {
  if (to - from > maxKeyBytes) return false
  for (let at = from; at < to; at++) if (bytes[at] === backslash) return true
  return false
}

/** What a string means; undefined when it holds an escape that JSON does not know. */
export function unescaped(text: string): string | undefined {
  if (!text.includes('\\')) return text
  try {
    const value: unknown = JSON.parse(`"${text}"`)
    return typeof value === 'string' ? value : undefined
  } catch {
    // The message is for its receiver to refuse.
    return undefined
  }
}
