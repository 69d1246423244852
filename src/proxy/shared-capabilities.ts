/**
 * What our handshake declares for a process that all clients share: that there are clients who can do everything, or
 * the server would never ask anybody. What a single client did not declare is refused in its name.
 */
export const sharedCapabilities = {
  roots: { listChanged: true },
  sampling: { context: {}, tools: {} },
  elicitation: { form: {}, url: {} },
} as const

/** What a client must have declared to be asked this (MCP 2025-11-25, Lifecycle, "Capability Negotiation"). */
export const capabilityOfMethod: ReadonlyMap<string, string> = new Map([
  ['roots/list', 'roots'],
  ['sampling/createMessage', 'sampling'],
  ['elicitation/create', 'elicitation'],
])
