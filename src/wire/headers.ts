import { modernVersion } from './era.ts'

/** The headers of the Streamable HTTP transport, in lower case. */
export const headerNames = {
  sessionId: 'mcp-session-id',
  protocolVersion: 'mcp-protocol-version',
  method: 'mcp-method',
  name: 'mcp-name',
  lastEventId: 'last-event-id',
} as const

/** Headers about one connection, not the message: RFC 9110 §7.6.1, and §11.7 for those of proxy authentication. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** For answers that we read ourselves: without the header, any coding would be welcome (RFC 9110 §12.5.3). */
export const identityCoding = ['accept-encoding', 'identity'] as const

const noNames: ReadonlySet<string> = new Set()

/**
 * All headers but the hop-by-hop ones, those that `Connection` lists and those in `drop` (lower case); order, case and
 * duplicates stay.
 */
export function endToEndHeaders(
  rawHeaders: readonly string[],
  { drop = noNames }: { readonly drop?: ReadonlySet<string> } = {},
): string[] {
  const listed = connectionOptions(rawHeaders)
  const kept: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    const key = name.toLowerCase()
    if (!hopByHop.has(key) && !listed.has(key) && !drop.has(key)) kept.push(name, rawHeaders[i + 1] ?? '')
  }
  return kept
}

function connectionOptions(rawHeaders: readonly string[]): ReadonlySet<string> {
  let options: Set<string> | undefined
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (!isNamed(rawHeaders[i] ?? '', 'connection')) continue
    options ??= new Set()
    for (const option of (rawHeaders[i + 1] ?? '').split(',')) options.add(option.trim().toLowerCase())
  }
  return options ?? noNames
}

function isNamed(name: string, lowerCase: string): boolean {
  return name.length === lowerCase.length && name.toLowerCase() === lowerCase
}

/** The value of the first header of that name, which is given in lower case. */
export function headerValue(rawHeaders: readonly string[], name: string): string | undefined {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) if (isNamed(rawHeaders[i] ?? '', name)) return rawHeaders[i + 1]
  return undefined
}

const base64Prefix = '=?base64?'
const base64Suffix = '?='
const canonicalBase64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

function isBase64Value(value: string): boolean {
  return value.startsWith(base64Prefix) && value.endsWith(base64Suffix)
}

/**
 * The text of a header that mirrors the body: `=?base64?…?=` decoded, anything else itself; undefined when the Base64 or
 * the UTF-8 in it is malformed (MCP 2026-07-28, Streamable HTTP, Value Encoding; as SDK v2's decodeMcpParamValue).
 */
export function decodeHeaderValue(value: string): string | undefined {
  if (!isBase64Value(value)) return value
  const text = value.slice(base64Prefix.length, value.length - base64Suffix.length)
  if (!canonicalBase64.test(text)) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(text, 'base64'))
  } catch {
    // Not UTF-8: the specification has servers refuse such a value.
    return undefined
  }
}

/** The header value for a text: itself when it is plain ASCII that survives header parsing, else `=?base64?…?=`. */
export function encodeHeaderValue(value: string): string {
  const isPlain = /^[\t\x20-\x7e]+$/.test(value) && value === value.trim() && !isBase64Value(value)
  return isPlain ? value : `${base64Prefix}${Buffer.from(value).toString('base64')}${base64Suffix}`
}

/** What of a modern request its headers repeat. */
export interface MirroredRequest {
  readonly method: string
  readonly name?: string | undefined
  readonly uri?: string | undefined
  readonly taskId?: string | undefined
  /** The revision that `params._meta` names; ours unless given. */
  readonly protocolVersion?: string | undefined
}

/** Which field `Mcp-Name` repeats: SEP-2243 for the first three, SEP-2663 for tasks (as SDK v2's MCP_NAME_HEADER_SOURCE). */
const nameSources: ReadonlyMap<string, 'name' | 'uri' | 'taskId'> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
  ['tasks/get', 'taskId'],
  ['tasks/update', 'taskId'],
  ['tasks/cancel', 'taskId'],
])

/** The headers that mirror a modern request's body: MCP-Protocol-Version, Mcp-Method, and Mcp-Name where it has one. */
export function modernHeaders(request: MirroredRequest): string[] {
  const { method, protocolVersion = modernVersion } = request
  const headers = [headerNames.protocolVersion, protocolVersion, headerNames.method, encodeHeaderValue(method)]
  const name = mirroredName(request)
  if (name !== undefined) headers.push(headerNames.name, encodeHeaderValue(name))
  return headers
}

function mirroredName(request: MirroredRequest): string | undefined {
  const source = nameSources.get(request.method)
  return source && request[source]
}

/**
 * How the headers of a modern request disagree with its body, in words; undefined when they mirror it as a server has
 * to demand (MCP 2026-07-28, Streamable HTTP, "Standard Request Headers"; as SDK v2's validateStandardRequestHeaders).
 */
export function mirrorMismatch(
  request: MirroredRequest,
  header: (name: string) => string | undefined,
): string | undefined {
  return (
    mismatch('MCP-Protocol-Version', request.protocolVersion, header(headerNames.protocolVersion)) ??
    mismatch('Mcp-Method', request.method, header(headerNames.method)) ??
    mismatch('Mcp-Name', mirroredName(request), header(headerNames.name), decodeHeaderValue)
  )
}

function mismatch(
  name: string,
  body: string | undefined,
  sent: string | undefined,
  decode = (value: string): string | undefined => value,
): string | undefined {
  if (body === undefined) return undefined
  const value = sent?.trim()
  if (value === undefined) return `the body says "${body}", and the header ${name} is missing`
  return decode(value) === body ? undefined : `the body says "${body}", the header ${name} "${value}"`
}

export function isEventStream(contentType: string | undefined): boolean {
  return mediaType(contentType) === 'text/event-stream'
}

export function isJson(contentType: string | undefined): boolean {
  return mediaType(contentType) === 'application/json'
}

/** The type without its parameters (RFC 9110 §8.3.1). */
function mediaType(contentType: string | undefined): string | undefined {
  return contentType?.split(';', 1)[0]?.trim().toLowerCase()
}

/** `Retry-After`; a date (RFC 9110 §10.2.3) is not read: whoever limits rates counts seconds. */
export function retryAfterMs(rawHeaders: readonly string[]): number | undefined {
  const text = headerValue(rawHeaders, 'retry-after')
  return text !== undefined && /^\d+$/.test(text) ? Number(text) * 1000 : undefined
}
