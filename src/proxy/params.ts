/** The names of the capabilities that an `initialize` declares; none for what is no such message. */
export function declaredCapabilities(initialize: Buffer): ReadonlySet<string> {
  const capabilities = memberOf(paramsOf(initialize), 'capabilities')
  return new Set(isRecord(capabilities) ? Object.keys(capabilities) : [])
}

/** A text in the params of a small message, however long; undefined when there is none. */
export function textParam(message: Buffer, key: string): string | undefined {
  const value = memberOf(paramsOf(message), key)
  return typeof value === 'string' ? value : undefined
}

function paramsOf(message: Buffer): unknown {
  try {
    return memberOf(JSON.parse(message.toString()), 'params')
  } catch {
    // What our scanner lets pass and a full parser does not is the receiver's to refuse.
    return undefined
  }
}

function memberOf(value: unknown, key: string): unknown {
  return isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
