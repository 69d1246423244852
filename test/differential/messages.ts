/** What the two ends of a conversation need to know of its messages, and when two texts are the same message. */

type Parsed = Readonly<Record<string, unknown>>

/** The messages of a batch, or the one that it is. */
export function itemsOf(text: string): readonly Parsed[] {
  const value = JSON.parse(text.replace(/^\uFEFF/, '')) as Parsed | readonly Parsed[]
  return Array.isArray(value) ? (value as readonly Parsed[]) : [value as Parsed]
}

/** The pieces in which a message goes out when each of its characters beyond ASCII is cut. */
export function cutCharacters(message: Buffer): Buffer[] {
  const pieces: Buffer[] = []
  let from = 0
  for (let at = 1; at < message.length; at++) {
    const isContinued = ((message[at] ?? 0) & 0xc0) === 0x80
    if (!isContinued) continue
    pieces.push(message.subarray(from, at))
    from = at
  }
  return [...pieces, message.subarray(from)]
}

/** Lets what was written before leave on its own. */
export function tick(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Whether this is a request or a notification. */
export function isCall(text: string): boolean {
  return itemsOf(text).some(({ method }) => method !== undefined)
}

/** The ids of the requests in it, or of the answers. */
export function idsAsked(text: string, what: 'requests' | 'answers' = 'requests'): string[] {
  return itemsOf(text)
    .filter(({ id, method }) => id !== undefined && (method !== undefined) === (what === 'requests'))
    .map(({ id }) => JSON.stringify(id))
}

const tokens = /"(?:[^"\\]|\\.)*"|[ \t\r\n]+|[^" \t\r\n]+/gs
const isSpace = (token: string | undefined) => token !== undefined && /^[ \t\r\n]/.test(token)

/**
 * Whether two texts are the same JSON text, token by token. Only white space that holds a line break may be other white
 * space: no line of stdio may hold one, and a line break within an event is a new `data:` line.
 */
export function isSameText(sent: string, got: string): boolean {
  const wanted = sent.trim().match(tokens) ?? []
  const found = got.trim().match(tokens) ?? []
  return (
    wanted.length === found.length &&
    wanted.every(
      (token, index) => token === found[index] || (/[\r\n]/.test(token) && isSpace(token) && isSpace(found[index])),
    )
  )
}

/** Opens each conversation and each connection of mcp-vitals itself, heartbeats among them. */
export function isOurs(text: string): boolean {
  return itemsOf(text).some(({ id }) => typeof id === 'string' && id.startsWith('vitals-'))
}

/** What a server of the legacy era answers to that. */
export function answerToOurs(text: string): string {
  const [{ id, method } = {}] = itemsOf(text)
  if (method === 'initialize') {
    const result = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 's', version: '1' } }
    return JSON.stringify({ jsonrpc: '2.0', id, result })
  }
  if (method === 'ping') return JSON.stringify({ jsonrpc: '2.0', id, result: {} })
  return JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32601, message: 'Method not found' } })
}
