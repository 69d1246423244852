/** What the two ends of a conversation need to know of its messages, and when two texts are the same message. */

interface Parsed {
  readonly id?: unknown
  readonly method?: unknown
}

function parsed(text: string): readonly Parsed[] {
  const value = JSON.parse(text.replace(/^\uFEFF/, '')) as Parsed | readonly Parsed[]
  return Array.isArray(value) ? (value as readonly Parsed[]) : [value as Parsed]
}

/** Whether this is a request or a notification. */
export function isCall(text: string): boolean {
  return parsed(text).some(({ method }) => method !== undefined)
}

/** The ids of the requests in it, or of the answers. */
export function idsAsked(text: string, what: 'requests' | 'answers' = 'requests'): string[] {
  return parsed(text)
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
