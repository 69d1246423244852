import { errorCodes } from '../errors.ts'
import { legacyVersions, modernVersion } from '../wire/era.ts'

/** What unbounded values are recorded as when they are none of the known ones. */
export const otherValue = '_other'

/** What tool and prompt names are recorded as when the server did not announce them, or announced too many. */
export const overflowValue = '_overflow'

/** Every method of every MCP revision up to 2026-07-28, and of the tasks and directory extensions. */
export const knownMethods: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'server/discover',
  'subscriptions/listen',
  'tools/list',
  'tools/call',
  'prompts/list',
  'prompts/get',
  'resources/list',
  'resources/read',
  'resources/templates/list',
  'resources/directory/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'completion/complete',
  'logging/setLevel',
  'sampling/createMessage',
  'elicitation/create',
  'roots/list',
  'tasks/list',
  'tasks/get',
  'tasks/result',
  'tasks/update',
  'tasks/cancel',
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'notifications/message',
  'notifications/tools/list_changed',
  'notifications/prompts/list_changed',
  'notifications/resources/list_changed',
  'notifications/resources/updated',
  'notifications/roots/list_changed',
  'notifications/elicitation/complete',
  'notifications/subscriptions/acknowledged',
  'notifications/tasks',
  'notifications/tasks/status',
])

const knownVersions: ReadonlySet<string> = new Set([...legacyVersions, modernVersion])
const knownHttpVersions: ReadonlySet<string> = new Set(['1.0', '1.1', '2', '3'])
const knownErrorTypes: ReadonlySet<string> = new Set([...errorCodes, 'tool_error'])

/** A method name out of the closed list, else `_other`. */
export function methodLabel(method: string): string {
  return knownMethods.has(method) ? method : otherValue
}

/** A protocol revision out of the closed list, else `_other`. */
export function protocolVersionLabel(version: string): string {
  return knownVersions.has(version) ? version : otherValue
}

/** An HTTP version out of the closed list, else `_other`. */
export function httpVersionLabel(version: string): string {
  return knownHttpVersions.has(version) ? version : otherValue
}

/** A JSON-RPC error code that JSON-RPC or MCP defines or that our own replies use, else `_other`. */
export function rpcStatusLabel(code: number): string {
  const isJsonRpc = code === -32700 || (code >= -32603 && code <= -32600)
  const isMcp = (code >= -32022 && code <= -32000) || code === -32042
  return Number.isInteger(code) && (isJsonRpc || isMcp) ? String(code) : otherValue
}

/** An `error.type` out of our error codes, HTTP statuses and known JSON-RPC codes; else `_OTHER`, as semconv spells it. */
export function errorTypeLabel(errorType: string): string {
  if (knownErrorTypes.has(errorType) || /^[45]\d\d$/.test(errorType)) return errorType
  return /^-\d{5}$/.test(errorType) && rpcStatusLabel(Number(errorType)) === errorType ? errorType : '_OTHER'
}

/** Lets only those tool and prompt names become label values that the server announced itself, up to a limit. */
export interface LabelBounds {
  /** Admits names from the server's own list: first come, first served, up to the limit. */
  readonly admit: (upstream: string, kind: 'tool' | 'prompt', names: readonly string[]) => void
  /** The name if it was admitted, else `_overflow`. */
  readonly bound: (upstream: string, kind: 'tool' | 'prompt', name: string) => string
  /** How many names were admitted so far: while it is the same, so is what `bound` says. */
  readonly count: () => number
}

/** MCP 2025-11-25, Tools, "Tool Names": at most 128 characters. */
const maxNameLength = 128

/** Lone surrogates are all the same in UTF-8: two names of them would be one series twice, which Prometheus refuses. */
function isLabel(name: string): boolean {
  return name.length <= maxNameLength && name.isWellFormed()
}

export function labelBounds(options: { readonly maxLabelsPerUpstream: number }): LabelBounds {
  const admitted = { tool: new Map<string, Set<string>>(), prompt: new Map<string, Set<string>>() }
  let count = 0
  return {
    admit: (upstream, kind, names) => {
      const known = admitted[kind].get(upstream) ?? new Set()
      admitted[kind].set(upstream, known)
      const before = known.size
      for (const name of names) {
        if (known.size < options.maxLabelsPerUpstream && isLabel(name)) known.add(name)
      }
      count += known.size - before
    },
    bound: (upstream, kind, name) => (admitted[kind].get(upstream)?.has(name) ? name : overflowValue),
    count: () => count,
  }
}
