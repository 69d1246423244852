import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import {
  type Inventory,
  type Talker,
  initialize,
  inventoryLoss,
  listTools,
  open,
  paramsFor,
  readInventory,
  sameInventory,
} from '../../src/heartbeat/conversation.ts'
import type { Era } from '../../src/wire/era.ts'

type Answers = Readonly<Record<string, unknown>>

/** A server that answers by table: a result, `{ error }`, or a `KnownError` that the transport came up with. */
function talkerTo(answers: Answers) {
  const log: string[] = []
  const answer = (method: string): unknown => {
    const known = answers[method]
    return typeof known === 'function' ? known() : (known ?? { error: { code: -32_601, message: 'method not found' } })
  }
  const talker: Talker = {
    request: ({ method, timeoutMs }) => {
      log.push(`${method} (${timeoutMs} ms)`)
      const value = answer(method)
      if (value instanceof Error) return Promise.reject(value)
      const isError = typeof value === 'object' && value !== null && 'error' in value
      const error = isError ? (value.error as { code: number; message: string }) : undefined
      return Promise.resolve({ message: Buffer.from(JSON.stringify(isError ? value : { result: value })), error })
    },
    notify: (method, timeoutMs) => {
      log.push(`${method} (${timeoutMs} ms)`)
      return Promise.resolve()
    },
  }
  return { talker, log }
}

/** Opens a conversation; the log holds what was said, with `speak:` for what the channel was told. */
async function opened(answers: Answers, known?: Era) {
  const { talker, log } = talkerTo(answers)
  const opening = await open(talker, {
    known,
    leftMs: () => 10_000,
    discoverPatienceMs: 4000,
    speak: (version) => log.push(`speak: ${version ?? 'nothing'}`),
  })
  return { opening, log }
}

const initialized = { protocolVersion: '2025-06-18', capabilities: { tools: {} } }
const discovered = { supportedVersions: ['2025-11-25', '2026-07-28'], capabilities: {} }

describe('the opening exchange', () => {
  it('asks server/discover first, and that is all with a modern server (MCP 2026-07-28)', async () => {
    const { opening, log } = await opened({ 'server/discover': discovered })
    expect(opening).toEqual({
      era: 'modern',
      protocolVersion: '2026-07-28',
      method: 'server/discover',
      hasTools: false,
      supportedVersions: discovered.supportedVersions,
    })
    expect(log).toEqual(['speak: 2026-07-28', 'server/discover (4000 ms)'])
  })

  it('falls back to initialize, whose agreed revision is spoken from the notification on (MCP 2025-11-25)', async () => {
    const { opening, log } = await opened({ initialize: initialized })
    expect(opening).toMatchObject({
      era: 'legacy',
      protocolVersion: '2025-06-18',
      method: 'initialize',
      hasTools: true,
    })
    expect(JSON.parse(String(opening.initializeAnswer))).toMatchObject({ result: { protocolVersion: '2025-06-18' } })
    expect(log).toEqual([
      'speak: 2026-07-28',
      'server/discover (4000 ms)',
      'speak: nothing',
      'initialize (10000 ms)',
      'speak: 2025-06-18',
      'notifications/initialized (10000 ms)',
    ])
  })

  it.each([
    { what: 'legacy revisions only', answer: { supportedVersions: ['2025-11-25'], capabilities: {} } },
    { what: 'no revisions', answer: { capabilities: {} } },
    { what: 'revisions that are none', answer: { supportedVersions: [7, null, {}] } },
    { what: 'an empty result', answer: {} },
    { what: 'HTTP 400 without JSON-RPC', answer: new KnownError('upstream_http_error', 'HTTP 400') },
    { what: 'garbage', answer: new KnownError('upstream_invalid', 'no JSON-RPC') },
    { what: 'silence', answer: new KnownError('upstream_timeout', 'no answer') },
  ])('takes $what in answer to server/discover for a legacy server', async ({ answer }) => {
    const { opening } = await opened({ 'server/discover': answer, initialize: initialized })
    expect(opening.era).toBe('legacy')
  })

  it.each(['upstream_refused', 'upstream_reset', 'upstream_exited', 'upstream_unauthorized', 'cancelled'] as const)(
    'asks no further after %s',
    async (code) => {
      const failure = new KnownError(code, 'it is over')
      await expect(opened({ 'server/discover': failure, initialize: initialized })).rejects.toBe(failure)
    },
  )

  it('asks a server known as legacy no server/discover, unless it refuses initialize', async () => {
    const legacy = await opened({ initialize: initialized }, 'legacy')
    expect(legacy.log.join()).not.toContain('server/discover')
    const modern = await opened({ 'server/discover': discovered }, 'legacy')
    expect(modern.opening.era).toBe('modern')
    expect(modern.log.map((line) => line.split(' ')[0])).toEqual(['initialize', 'speak:', 'server/discover'])
  })

  it('asks server/discover again where that was not answered and initialize is refused: it was too slow at first', async () => {
    const answers = [new KnownError('upstream_timeout', 'no answer'), discovered]
    const { opening, log } = await opened({ 'server/discover': () => answers.shift() })
    expect(opening).toMatchObject({ era: 'modern', method: 'server/discover' })
    expect(opening.refusal).toBeUndefined()
    expect(log.filter((line) => line.includes('ms'))).toEqual([
      'server/discover (4000 ms)',
      'initialize (10000 ms)',
      'server/discover (4000 ms)',
    ])
    expect(log.at(-2)).toBe('speak: 2026-07-28')
  })

  it('tells a refusal from an agreement', async () => {
    const refuse = { error: { code: -32_603, message: 'no licence' } }
    const { opening, log } = await opened({ initialize: refuse })
    expect(opening).toMatchObject({
      hasTools: undefined,
      refusal: 'initialize answered with JSON-RPC error -32603: no licence',
    })
    expect(log.join()).not.toContain('notifications/initialized')
  })

  it('is invalid without a result', async () => {
    const { talker } = talkerTo({ initialize: 'hello' })
    const opening = initialize(talker, { leftMs: () => 1000, speak: () => undefined })
    await expect(opening).rejects.toMatchObject({ code: 'upstream_invalid' })
  })
})

it('says in _meta of every modern request who asks and in which revision (MCP 2026-07-28, Lifecycle)', () => {
  expect(paramsFor('legacy', { cursor: 'c' })).toEqual({ cursor: 'c' })
  expect(paramsFor('modern', { cursor: 'c' })).toEqual({
    cursor: 'c',
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientInfo': { name: 'mcp-vitals', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    },
  })
})

describe('the inventory', () => {
  const read = (answers: Answers) => readInventory(talkerTo(answers).talker, 'legacy', () => 1000)

  it('passes over what is no tool', async () => {
    const tools = [{ name: 'a' }, null, 7, { name: 8 }, 'b', { title: 'no name' }, ['c']]
    expect([...(await read({ 'tools/list': { tools } })).keys()]).toEqual(['a'])
    expect((await read({ 'tools/list': { tools: 'none' } })).size).toBe(0)
  })

  it('is empty when the server refuses to tell: a restart without tools is not healthy', async () => {
    expect((await read({ 'tools/list': { error: { code: -32_603, message: 'broken' } } })).size).toBe(0)
  })

  it.each<{ what: string; hasTools?: boolean; answer: unknown; listing: unknown }>([
    { what: 'was asked, and says nothing', answer: new KnownError('upstream_timeout', 'none'), listing: 'unanswered' },
    { what: 'was asked, and fails', answer: new KnownError('upstream_http_error', '500'), listing: 'unanswered' },
    { what: 'lost its connection', answer: new KnownError('upstream_closed', 'closed'), listing: undefined },
    { what: 'was ended by us', answer: new KnownError('cancelled', 'ended'), listing: undefined },
    { what: 'declared none', hasTools: false, answer: {}, listing: new Map() },
  ])('of a server that $what', async ({ hasTools = true, answer, listing }) => {
    const { talker } = talkerTo({ 'tools/list': answer })
    expect(await listTools(talker, { era: 'legacy', hasTools }, () => 1000)).toEqual(listing)
  })

  it('is the same for schemas that differ in nothing but the order of their keys', async () => {
    const tools = (inputSchema: object) => read({ 'tools/list': { tools: [{ name: 'a', inputSchema }] } })
    const one = await tools({ type: 'object', properties: { x: { type: 'string', title: 'X' }, y: {} } })
    const two = await tools({ properties: { y: {}, x: { title: 'X', type: 'string' } }, type: 'object' })
    const three = await tools({ properties: { y: {}, x: { title: 'X', type: 'number' } }, type: 'object' })
    const list = await tools({ type: 'object', required: ['a', 'b'] })
    const reordered = await tools({ type: 'object', required: ['b', 'a'] })
    expect(sameInventory(one, two)).toBe(true)
    expect(sameInventory(one, three)).toBe(false)
    expect(sameInventory(list, reordered)).toBe(false)
  })

  const named = (...names: string[]): Inventory => new Map(names.map((name) => [name.split('#')[0] ?? '', name]))
  const many = Array.from({ length: 8 }, (_, at) => `t${at}`)

  it.each<{ before: Inventory; after: Inventory; loss: string | undefined }>([
    { before: named('a', 'b'), after: named('b', 'a'), loss: undefined },
    { before: named('a'), after: named('a', 'b'), loss: undefined },
    { before: named(), after: named(), loss: undefined },
    { before: named('a', 'b'), after: named('a'), loss: '2 then, 1 now, 1 gone (b)' },
    { before: named('a'), after: named('b'), loss: '1 then, 1 now, 1 gone (a)' },
    { before: named('a', 'b'), after: named('a#2', 'b'), loss: '2 then, 2 now, 1 with another schema (a)' },
    { before: named('a', 'b'), after: named('a#2'), loss: '2 then, 1 now, 1 gone (b), 1 with another schema (a)' },
    { before: named(...many), after: named(), loss: '8 then, 0 now, 8 gone (t0, t1, t2, t3, t4, …)' },
  ])('lost what it says: $loss', ({ before, after, loss }) => {
    expect(inventoryLoss(before, after)).toBe(loss && `it serves other tools than before: ${loss}`)
  })
})
