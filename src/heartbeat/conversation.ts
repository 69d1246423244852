import { createHash } from 'node:crypto'
import { type Era, eraOfVersion, latestLegacyVersion, modernVersion } from '../wire/era.ts'
import type { Answer, RequestOptions } from '../upstreams/peer.ts'
import { KnownError } from '../errors.ts'

/** What the heartbeat needs of a connection; `Peer` is one. */
export interface Talker {
  /** Rejects with a `KnownError` of an `upstream_*` code. */
  request(request: RequestOptions): Promise<Answer>
  notify(method: string): Promise<void>
}

/** What the opening exchange found out. */
export interface Opening {
  readonly era: Era
  readonly protocolVersion: string
  /** The request that the server answered: the first heartbeat. */
  readonly method: 'server/discover' | 'initialize'
  readonly hasTools: boolean
}

/** The tools that a server offers: each name with a hash of its input schema, to compare across restarts. */
export type Inventory = ReadonlyMap<string, string>

const clientInfo = { name: 'mcp-vitals', version: '1' }
const meta = {
  'io.modelcontextprotocol/protocolVersion': modernVersion,
  'io.modelcontextprotocol/clientInfo': clientInfo,
  'io.modelcontextprotocol/clientCapabilities': {},
}

/** Modern requests say in `_meta` who asks and in which revision (MCP 2026-07-28, Lifecycle). */
export function paramsFor(era: Era, params: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
  return era === 'modern' ? { ...params, _meta: meta } : params
}

/**
 * Asks `server/discover`. Undefined when the answer proves that the server is not of the modern era; the request is
 * safe before any handshake (a legacy `ping` would pin a server of both eras to the legacy one).
 */
export async function discover(talker: Talker, timeoutMs: number): Promise<Opening | undefined> {
  const answer = await talker.request({ method: 'server/discover', params: paramsFor('modern'), timeoutMs })
  const result = resultOf(answer)
  const versions = result?.['supportedVersions']
  if (!Array.isArray(versions)) return undefined
  const version = versions.find((v): v is string => typeof v === 'string' && eraOfVersion(v) === 'modern')
  if (version === undefined) return undefined
  return { era: 'modern', protocolVersion: version, method: 'server/discover', hasTools: offersTools(result) }
}

/**
 * `initialize` and `notifications/initialized` (MCP 2025-11-25, Lifecycle). A JSON-RPC error is an answer, so it opens
 * too, without tools. `agree` hears the revision before the notification goes out, which must carry it as a header.
 */
export async function initialize(
  talker: Talker,
  timeoutMs: number,
  agree: (protocolVersion: string) => void,
): Promise<Opening> {
  const params = { protocolVersion: latestLegacyVersion, capabilities: {}, clientInfo }
  const answer = await talker.request({ method: 'initialize', params, timeoutMs })
  const result = resultOf(answer)
  if (!answer.error && !result) throw new KnownError('upstream_invalid', 'the answer to initialize has no result')
  const version = result?.['protocolVersion']
  const protocolVersion = typeof version === 'string' ? version : latestLegacyVersion
  agree(protocolVersion)
  if (result) await talker.notify('notifications/initialized')
  return { era: 'legacy', protocolVersion, method: 'initialize', hasTools: offersTools(result) }
}

/** More pages than this belong to a server that never ends its list. */
const maxPages = 50

/** Reads the whole tool list; undefined when the server answers with an error. */
export async function readInventory(talker: Talker, era: Era, timeoutMs: number): Promise<Inventory | undefined> {
  const tools = new Map<string, string>()
  let cursor: string | undefined
  for (let page = 0; page < maxPages; page++) {
    const params = paramsFor(era, cursor === undefined ? {} : { cursor })
    const answer = await talker.request({ method: 'tools/list', params, timeoutMs })
    const result = resultOf(answer)
    if (!result) return undefined
    for (const [name, schema] of toolsOf(result)) tools.set(name, schema)
    const next = result['nextCursor']
    if (typeof next !== 'string' || next === '') break
    cursor = next
  }
  return tools
}

/** Names and schemas of a `tools/list` result; whatever is no tool is passed over. */
function* toolsOf(result: Readonly<Record<string, unknown>>): Generator<[string, string]> {
  const list = result['tools']
  if (!Array.isArray(list)) return
  for (const tool of list) {
    if (!isRecord(tool) || typeof tool['name'] !== 'string') continue
    yield [tool['name'], hashOf(tool['inputSchema'])]
  }
}

function hashOf(schema: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(schema ?? null))
    .digest('hex')
    .slice(0, 16)
}

/** What `after` lacks of `before`, in words; undefined when everything is still there. More tools are no loss. */
export function inventoryLoss(before: Inventory, after: Inventory): string | undefined {
  const gone = [...before.keys()].filter((name) => !after.has(name))
  const changed = [...before]
    .filter(([name, hash]) => after.has(name) && after.get(name) !== hash)
    .map(([name]) => name)
  if (gone.length + changed.length === 0) return undefined
  const parts = [
    gone.length > 0 ? `${gone.length} gone (${shortList(gone)})` : '',
    changed.length > 0 ? `${changed.length} with another schema (${shortList(changed)})` : '',
  ].filter((part) => part !== '')
  return `it serves other tools than before: ${before.size} then, ${after.size} now, ${parts.join(', ')}`
}

export function sameInventory(a: Inventory, b: Inventory): boolean {
  return a.size === b.size && [...a].every(([name, hash]) => b.get(name) === hash)
}

function shortList(names: readonly string[]): string {
  return names.length > 5 ? `${names.slice(0, 5).join(', ')}, …` : names.join(', ')
}

function offersTools(result: Readonly<Record<string, unknown>> | undefined): boolean {
  const capabilities = result?.['capabilities']
  return isRecord(capabilities) && isRecord(capabilities['tools'])
}

function resultOf(answer: Answer): Readonly<Record<string, unknown>> | undefined {
  if (answer.error) return undefined
  try {
    const message: unknown = JSON.parse(answer.message.toString())
    const result = isRecord(message) ? message['result'] : undefined
    return isRecord(result) ? result : undefined
  } catch (error) {
    throw new KnownError('upstream_invalid', 'the answer is not valid JSON', { cause: error })
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
