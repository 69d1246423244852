/** From the most verbose on (RFC 5424 §6.2.1, as MCP 2025-11-25, Logging, names them). */
const levels = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'] as const

export function isLogLevel(level: string | undefined): level is (typeof levels)[number] {
  return levels.some((known) => known === level)
}

/** The level that satisfies all of them; undefined when nobody asked for any. */
export function mostVerbose(asked: Iterable<string>): string | undefined {
  const wanted = new Set(asked)
  return levels.find((level) => wanted.has(level))
}
