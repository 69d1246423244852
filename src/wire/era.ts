/**
 * The two eras of MCP. Legacy revisions open with `initialize`, keep sessions and know `ping`; the modern revision
 * (2026-07-28) has neither: every request stands alone and `server/discover` tells who answers.
 */
export type Era = 'legacy' | 'modern'

export const legacyVersions = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'] as const
export const latestLegacyVersion = '2025-11-25'
export const modernVersion = '2026-07-28'

/** With the draft that the SDKs accept, too. */
const sessionVersions: ReadonlySet<string> = new Set(['2024-10-07', ...legacyVersions])

/**
 * Why a request may not be of this revision, in the SDK's words; undefined where it may. Servers must refuse what they
 * do not support with 400, and take a request without the header for what was agreed on (MCP 2025-06-18, Transports,
 * "Protocol Version Header"). `agreed` is the session's, which a server may have in advance of us.
 */
export function revisionRefusal(header: string | undefined, agreed: string | undefined): string | undefined {
  if (header === undefined || header === agreed || sessionVersions.has(header)) return undefined
  return `Bad Request: Unsupported protocol version: ${header} (supported versions: ${[...sessionVersions].toReversed().join(', ')})`
}

/** Revisions are dates, so they order as text: 2026-07-28 and everything after it is modern. */
export function eraOfVersion(version: string): Era {
  return version >= modernVersion ? 'modern' : 'legacy'
}

/** What of a client's request tells its era. */
export interface IncomingRequest {
  readonly protocolVersionHeader?: string | undefined
  /** Of the message in the body; absent for GET, DELETE, an answer or a batch. */
  readonly method?: string | undefined
  /** The revision that the body claims in `params._meta`, not what `initialize` asks for in its params. */
  readonly metaProtocolVersion?: string | undefined
  readonly hasSession: boolean
}

/**
 * Which era serves a request. The body decides, as in SDK v2's classifyInboundRequest: a claim in `_meta` makes it
 * modern, even of a revision that nobody serves, as the modern side then answers which ones it does; `initialize` is
 * legacy unless it claims a modern revision; without a claim the header decides. That function refuses a modern header
 * on a bare `initialize` or without a claim; where a session or `initialize` speaks for legacy, the server may refuse.
 */
export function detectEra(request: IncomingRequest): Era {
  const { method, metaProtocolVersion, protocolVersionHeader, hasSession } = request
  if (method === undefined) return 'legacy'
  if (method === 'initialize') return eraOfVersion(metaProtocolVersion ?? latestLegacyVersion)
  if (metaProtocolVersion !== undefined) return 'modern'
  if (hasSession || protocolVersionHeader === undefined) return 'legacy'
  return eraOfVersion(protocolVersionHeader.trim())
}

/** JSON-RPC error codes by which a modern answer is an HTTP error; any other error goes with 200. */
const modernErrorStatus: ReadonlyMap<number, number> = new Map([
  [-32700, 400], // parse error
  [-32600, 400], // invalid request
  [-32601, 404], // method not found
  [-32020, 400], // header mismatch
  [-32021, 400], // missing required client capability
  [-32022, 400], // unsupported protocol version
])

/**
 * The HTTP status that SDK v2's own server handler (createMcpHandler) gives for a JSON-RPC answer, so that a client in
 * front of a bridge sees what the server would send over HTTP itself. Modern: LADDER_ERROR_HTTP_STATUS. The handler
 * keeps 200 for these codes when a request handler threw them; from outside, one cannot be told from the other. Legacy:
 * always 200, but 400 where a modern-only server refuses a legacy request (modernOnlyStrictRejection).
 */
export function statusOfAnswer(error: { readonly code: number } | undefined, era: Era): number {
  if (!error) return 200
  if (era === 'legacy') return error.code === -32022 ? 400 : 200
  return modernErrorStatus.get(error.code) ?? 200
}
