/** What a message or an event stream shows of the protocol and of JSON, found in its bytes, so that no label can be wrong. */
import { itemsOf } from './messages.ts'

export type Side = 'client' | 'server'
type Message = Readonly<Record<string, unknown>>
type Shown<T> = (message: T, side: Side) => boolean

const hasId = (message: Message) => 'id' in message
const isMethod = ({ method }: Message, what: RegExp) => typeof method === 'string' && what.test(method)

/** Every kind of message that the protocol has. */
const kinds: Readonly<Record<string, Shown<Message>>> = {
  request: (message, side) => side === 'client' && hasId(message) && isMethod(message, /./),
  'server request': (message, side) => side === 'server' && hasId(message) && isMethod(message, /./),
  notification: (message) => !hasId(message) && isMethod(message, /./),
  answer: (message) => 'result' in message,
  error: (message) => 'error' in message,
  progress: (message) => isMethod(message, /^notifications\/progress$/),
  cancellation: (message) => isMethod(message, /^notifications\/cancelled$/),
  list_changed: (message) => isMethod(message, /list_changed$/),
  'subscriptions/listen': (message) => isMethod(message, /^subscriptions\/listen$/),
  'multi-round-trip': (message) => 'inputRequests' in partOf(message) || 'inputResponses' in partOf(message),
  _meta: (message) => '_meta' in partOf(message),
}

/** The parameters of a call, the result of an answer. */
function partOf({ params, result }: Message): object {
  const part = params ?? result
  return typeof part === 'object' && part !== null ? part : {}
}

const batch = 'batch'
export const kindNames = [...Object.keys(kinds), batch]

export function kindsOf(text: string, side: Side): string[] {
  const items = itemsOf(text)
  const shown = namesOf(kinds, (isShown) => items.some((message) => isShown(message, side)))
  return text.trimStart().startsWith('[') ? [batch, ...shown] : shown
}

export const beyondAscii = 'characters beyond ASCII'
const deep = 1000
const largeChars = 256 * 1024
const topKeys = new Set(['jsonrpc', 'id', 'method', 'params', 'result', 'error'])

/** What JSON allows, and what whoever reads it into values and writes it again would change or choke on. */
const oddities: Readonly<Record<string, Shown<string>>> = {
  'big numbers': (text) => numbersOf(text).some((one) => /^-?\d{16,}/.test(one) || !Number.isFinite(Number(one))),
  'numbers that could be written otherwise': (text) =>
    numbersOf(text).some((one) => JSON.stringify(Number(one)) !== one),
  'duplicate keys': (text) => keysOf(text).some((keys) => new Set(keys).size < keys.length),
  'unknown keys': (text) => itemsOf(text).some((message) => Object.keys(message).some((key) => !topKeys.has(key))),
  'another order of keys': (text) => /^[[\s]*\{\s*"(?!jsonrpc)/.test(text),
  'unicode escapes': (text) => /\\u[0-9a-f]{4}/i.test(text),
  'lone surrogates': (text) => /\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])/i.test(text),
  [beyondAscii]: (text) => /[^\0-\x7f]/.test(text),
  'deep nesting': (text) => depthOf(text) >= deep,
  'line breaks between tokens': (text) => /[\r\n]/.test(text.trim()),
  'a large message': (text) => text.length >= largeChars,
}

export const oddityNames = Object.keys(oddities)

export function odditiesOf(text: string, side: Side): string[] {
  return namesOf(oddities, (isShown) => isShown(text, side))
}

function tokensOf(text: string): readonly string[] {
  return text.match(/"(?:[^"\\]|\\.)*"|[-+.\w]+|[[\]{}:,]/g) ?? []
}

function numbersOf(text: string): string[] {
  return tokensOf(text).filter((token) => /^[-\d]/.test(token))
}

/** The keys of each object, as they mean. */
function keysOf(text: string): unknown[][] {
  const all: unknown[][] = []
  const open: unknown[][] = []
  let last = ''
  for (const token of tokensOf(text)) {
    if (token === '{' || token === '[') open.push([])
    if (token === ':') open.at(-1)?.push(JSON.parse(last))
    if (token === '}' || token === ']') all.push(open.pop() ?? [])
    last = token
  }
  return all
}

function depthOf(text: string): number {
  let [depth, deepest] = [0, 0]
  for (const token of tokensOf(text)) {
    if (token === '{' || token === '[') depth += 1
    if (token === '}' || token === ']') depth -= 1
    deepest = Math.max(deepest, depth)
  }
  return deepest
}

/** What an event stream allows (WHATWG HTML §9.2). */
const framings: Readonly<Record<string, Shown<readonly Buffer[]>>> = {
  'CRLF line ends': (chunks) => textOf(chunks).includes('\r\n'),
  'CR line ends': (chunks) => /\r(?!\n)/.test(textOf(chunks)),
  'a line end cut by a chunk': (chunks) => chunks.some((chunk, at) => at > 0 && /^[\r\n]/.test(textOf([chunk]))),
  'UTF-8 cut by a chunk': (chunks) => chunks.some((chunk) => textOf([chunk]).includes('\uFFFD')),
  comments: (chunks) => /^:/m.test(textOf(chunks)),
  'event ids': (chunks) => /^id: *\S/m.test(textOf(chunks)),
  'an id without a value': (chunks) => /^id:?$/m.test(textOf(chunks)),
  'event types': (chunks) => /^event: *\S/m.test(textOf(chunks)),
  retry: (chunks) => /^retry:/m.test(textOf(chunks)),
  'unknown fields': (chunks) => /^(?!data|id|event|retry)[a-z]/m.test(textOf(chunks)),
  'data in several lines': (chunks) => /^data.*[\r\n]+data/m.test(textOf(chunks)),
}

export const framingNames = Object.keys(framings)

export function framingsOf(chunks: readonly Buffer[]): string[] {
  return namesOf(framings, (isShown) => isShown(chunks, 'server'))
}

function textOf(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString()
}

function namesOf<T>(table: Readonly<Record<string, Shown<T>>>, isShown: (one: Shown<T>) => boolean): string[] {
  return Object.entries(table).flatMap(([name, one]) => (isShown(one) ? [name] : []))
}
