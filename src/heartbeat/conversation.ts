import { createHash } from 'node:crypto'
import { type Era, eraOfVersion, latestLegacyVersion, modernVersion } from '../wire/era.ts'
import type { Answer, RequestOptions } from '../upstreams/peer.ts'
import { KnownError, errorCode } from '../errors.ts'
import { isMiss, isUnreached, outcomeOf } from './classify.ts'

/** What the heartbeat needs of a connection; `Peer` is one. */
export interface Talker {
  /** Rejects with a `KnownError` of an `upstream_*` code. */
  request(request: RequestOptions): Promise<Answer>
  notify(method: string, timeoutMs: number): Promise<void>
}

/** What the opening exchange found out. */
export interface Opening {
  readonly era: Era
  readonly protocolVersion: string
  /** The request that the server answered: the first heartbeat. */
  readonly method: 'server/discover' | 'initialize'
  /** Undefined where the server refused to say. */
  readonly hasTools: boolean | undefined
  /** The JSON-RPC error in place of an answer: somebody is there, but nothing was agreed. */
  readonly refusal?: string | undefined
  /** The revisions that the server named, if it was asked `server/discover`. */
  readonly supportedVersions?: readonly string[] | undefined
  /** The server's answer to `initialize`, a result or an error, if it was asked. */
  readonly initializeAnswer?: Buffer | undefined
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

export interface OpeningOptions {
  /** What time is left for the whole exchange. */
  readonly leftMs: () => number
  /** Hears the revision before any message that has to name it, and `undefined` before one that must not. */
  readonly speak: (protocolVersion: string | undefined) => void
  /** What `initialize` declares; nothing unless given. */
  readonly capabilities?: Readonly<Record<string, unknown>> | undefined
}

export interface EraOptions extends OpeningOptions {
  /** The era that this server was of before. */
  readonly known: Era | undefined
  /** How long `server/discover` may stay unanswered before the server is taken for a legacy one that ignores it. */
  readonly discoverPatienceMs: number
}

/**
 * The opening exchange with a server of either era, which is found out once and remembered: a legacy server is not
 * asked `server/discover` again, since the popular reference server keeps an object for each such call. One that
 * refuses `initialize` may have turned modern, or may only have been too slow to answer at first, and is asked then.
 */
export async function open(talker: Talker, options: EraOptions): Promise<Opening> {
  const isKnownLegacy = options.known === 'legacy'
  const modern = isKnownLegacy ? 'unanswered' : await tryDiscover(talker, options)
  if (typeof modern === 'object') return modern
  const legacy = await initialize(talker, options)
  const mayBeModern = modern === 'unanswered' && legacy.refusal !== undefined
  const turned = mayBeModern ? await tryDiscover(talker, options) : undefined
  return typeof turned === 'object' ? { ...turned, initializeAnswer: legacy.initializeAnswer } : legacy
}

/** What a legacy server may do with a request that it does not know, besides answering it. */
const legacyReactions: ReadonlySet<string> = new Set([
  'upstream_http_error',
  'upstream_invalid',
  'upstream_closed',
  'upstream_timeout',
])

/** Undefined when the answer proves that the server is not of the modern era. */
async function tryDiscover(talker: Talker, options: EraOptions): Promise<Opening | 'unanswered' | undefined> {
  const { leftMs, discoverPatienceMs, speak } = options
  speak(modernVersion)
  try {
    const opening = await discover(talker, Math.min(leftMs(), discoverPatienceMs))
    if (!opening) speak(undefined)
    return opening
  } catch (error) {
    if (!legacyReactions.has(errorCode(error))) throw error
  }
  speak(undefined)
  return 'unanswered'
}

/**
 * Asks `server/discover`. Undefined when the answer proves that the server is not of the modern era; the request is
 * safe before any handshake (a legacy `ping` would pin a server of both eras to the legacy one).
 */
async function discover(talker: Talker, timeoutMs: number): Promise<Opening | undefined> {
  const answer = await talker.request({ method: 'server/discover', params: paramsFor('modern'), timeoutMs })
  const result = resultOf(answer)
  const named = result?.['supportedVersions']
  if (!Array.isArray(named)) return undefined
  const supportedVersions = named.filter((version) => typeof version === 'string')
  const protocolVersion = supportedVersions.find((version) => eraOfVersion(version) === 'modern')
  if (protocolVersion === undefined) return undefined
  return {
    era: 'modern',
    protocolVersion,
    method: 'server/discover',
    hasTools: offersTools(result),
    supportedVersions,
  }
}

/**
 * `initialize` and `notifications/initialized` (MCP 2025-11-25, Lifecycle). A JSON-RPC error is an answer too: it
 * opens nothing, but proves that somebody is there.
 */
export async function initialize(
  talker: Talker,
  { leftMs, speak, capabilities = {} }: OpeningOptions,
): Promise<Opening> {
  const method = 'initialize'
  const params = { protocolVersion: latestLegacyVersion, capabilities, clientInfo }
  const answer = await talker.request({ method, params, timeoutMs: leftMs() })
  if (answer.error) {
    const refusal = `${method} answered with JSON-RPC error ${answer.error.code}: ${answer.error.message}`
    const initializeAnswer = answer.message
    return {
      era: 'legacy',
      protocolVersion: latestLegacyVersion,
      method,
      hasTools: undefined,
      refusal,
      initializeAnswer,
    }
  }
  const result = resultOf(answer)
  if (!result) throw new KnownError('upstream_invalid', 'the answer to initialize has no result')
  const version = result['protocolVersion']
  const protocolVersion = typeof version === 'string' ? version : latestLegacyVersion
  speak(protocolVersion)
  await talker.notify('notifications/initialized', leftMs())
  return { era: 'legacy', protocolVersion, method, hasTools: offersTools(result), initializeAnswer: answer.message }
}

/** More pages than this belong to a server that never ends its list. */
const maxPages = 50

/** Reads the whole tool list. A server that answers with an error offers none: restarted without tools is not healthy. */
export async function readInventory(talker: Talker, era: Era, leftMs: () => number): Promise<Inventory> {
  const tools = new Map<string, string>()
  let cursor: string | undefined
  for (let page = 0; page < maxPages; page++) {
    const params = paramsFor(era, cursor === undefined ? {} : { cursor })
    const answer = await talker.request({ method: 'tools/list', params, timeoutMs: leftMs() })
    const result = resultOf(answer)
    if (!result) return new Map()
    for (const [name, schema] of toolsOf(result)) tools.set(name, schema)
    const next = result['nextCursor']
    if (typeof next !== 'string' || next === '' || next === cursor) break
    cursor = next
  }
  return tools
}

/** What came of asking for the tools: nothing of use though the server was asked, or undefined if it could not be. */
export type Listing = Inventory | 'unanswered' | undefined

/** The tools that a server lists, which has declared some, none, or refused to say. */
export async function listTools(
  talker: Talker,
  { era, hasTools }: { readonly era: Era; readonly hasTools: boolean | undefined },
  leftMs: () => number,
): Promise<Listing> {
  if (hasTools !== true) return hasTools === false ? new Map() : undefined
  try {
    return await readInventory(talker, era, leftMs)
  } catch (error) {
    const outcome = outcomeOf(error)
    // Whose connection is lost has not refused its list.
    return isMiss(outcome) && !isUnreached(outcome) ? 'unanswered' : undefined
  }
}

export function isListed(listing: Listing): listing is Inventory {
  return typeof listing === 'object'
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

/** The same for schemas that differ only in the order of their keys, which some servers change with each start. */
function hashOf(schema: unknown): string {
  const text = JSON.stringify(schema ?? null, (_key, value: unknown) => (isRecord(value) ? inOrder(value) : value))
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

function inOrder(record: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)))
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

/** Whether the server declares tools in this answer to `initialize`; undefined where it is no such answer. */
export function declaresTools(answer: Buffer): boolean | undefined {
  const result = resultOf({ message: answer })
  return result && offersTools(result)
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
