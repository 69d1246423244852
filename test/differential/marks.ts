/** What stands for something else in the conversations of the corpus. */

export type Era = 'legacy' | 'modern'

/** The raw text of a request's id, the last if it has several, and of its progress token. */
export function marksOf(text: string) {
  const rawOf = (key: string) => {
    const value = new RegExp(`"${key}"\\s*:\\s*("(?:[^"\\\\]|\\\\.)*"|[^,}\\s]+)`, 'g')
    return [...text.matchAll(value)].at(-1)?.[1] ?? ''
  }
  return { id: rawOf('id'), token: rawOf('progressToken') }
}

export type Marks = ReturnType<typeof marksOf>

/** What the `_meta` of each request holds (MCP 2026-07-28, Lifecycle); anything in the legacy era. */
const claims: Readonly<Record<Era, string>> = {
  legacy: '"a/b":[]',
  modern: `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`,
}

/** A message of a conversation as it is said in this era, after a request with these marks. */
export function filled(said: Buffer, era: Era, { id, token }: Marks): Buffer {
  const bytes = (text: string) => Buffer.from(text).toString('latin1')
  const text = said.toString('latin1')
  const all = [
    ['$CLAIM', claims[era]],
    ['$ID', id],
    ['$TOKEN', token],
  ] as const
  return Buffer.from(
    all.reduce((sum, [mark, value]) => sum.replaceAll(mark, () => bytes(value)), text),
    'latin1',
  )
}

/** A request as its client wrote it: where clients have a process in common, its id and progress token became ours. */
export function restored(text: string, { id, token }: Marks): string {
  return text
    .replace(/("id"\s*:\s*)"vitals[+/]\d+"/, (_all, key: string) => key + id)
    .replace(/("progressToken"\s*:\s*)"vitals[+/]\d+"/, (_all, key: string) => key + token)
}
