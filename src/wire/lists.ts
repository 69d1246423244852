/** What a list holds: the entries of `result[key]`; none when the message is cut short or something else. */
export function entriesIn(message: Buffer, key: 'tools' | 'prompts'): readonly unknown[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(message.toString())
  } catch {
    return [] // Not JSON: that is between client and server, and there is nothing to learn.
  }
  const list = memberOf(memberOf(parsed, 'result'), key)
  return Array.isArray(list) ? list : []
}

/** The `name` of every entry of `result[key]` that has one. */
export function namesIn(message: Buffer, key: 'tools' | 'prompts'): string[] {
  return namesOf(entriesIn(message, key))
}

/** The `name` of every entry that has one. */
export function namesOf(entries: readonly unknown[]): string[] {
  return entries.map((entry) => memberOf(entry, 'name')).filter((name) => typeof name === 'string')
}

/** Of whatever JSON may have held; undefined where there is no such member. */
export function memberOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  return Object.getOwnPropertyDescriptor(value, key)?.value
}
