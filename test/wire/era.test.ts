import { classifyInboundRequest, createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { SUPPORTED_PROTOCOL_VERSIONS } from '@modelcontextprotocol/sdk/types.js'
import { describe, expect, it } from 'vitest'
import {
  detectEra,
  type Era,
  eraOfVersion,
  legacyVersions,
  modernVersion,
  revisionRefusal,
  statusOfAnswer,
} from '../../src/wire/era.ts'

const metaKey = 'io.modelcontextprotocol/protocolVersion'

it('orders revisions', () => {
  expect(legacyVersions.map(eraOfVersion)).toEqual(['legacy', 'legacy', 'legacy', 'legacy'])
  expect([modernVersion, '2027-01-01'].map(eraOfVersion)).toEqual(['modern', 'modern'])
})

describe('detectEra', () => {
  const cases: [
    what: string,
    method: string | undefined,
    header: string | undefined,
    claim: string | undefined,
    era: Era,
  ][] = [
    ['initialize', 'initialize', undefined, undefined, 'legacy'],
    ['initialize that claims a modern revision', 'initialize', modernVersion, modernVersion, 'modern'],
    ['a request without any version', 'tools/list', undefined, undefined, 'legacy'],
    ['a request with a legacy header', 'tools/list', '2025-11-25', undefined, 'legacy'],
    ['a request that claims the modern revision', 'server/discover', modernVersion, modernVersion, 'modern'],
    ['a request that claims it but lacks the header', 'tools/list', undefined, modernVersion, 'modern'],
    ['a request that claims an unknown revision', 'server/discover', '2099-01-01', '2099-01-01', 'modern'],
    ['a request that claims a legacy revision', 'tools/list', '2025-11-25', '2025-11-25', 'modern'],
    ['a request with a modern header alone', 'tools/list', modernVersion, undefined, 'modern'],
    ['server/discover without a claim', 'server/discover', undefined, undefined, 'legacy'],
    ['a notification with a modern header', 'notifications/cancelled', ` ${modernVersion}`, undefined, 'modern'],
    ['a notification with a legacy header', 'notifications/initialized', '2025-06-18', undefined, 'legacy'],
  ]
  it.each(cases)('%s', (_, method, protocolVersionHeader, metaProtocolVersion, era) => {
    expect(detectEra({ method, protocolVersionHeader, metaProtocolVersion, hasSession: false })).toBe(era)
  })

  it.each(cases)('agrees with SDK v2 on %s', (_, method, protocolVersionHeader, claim, era) => {
    const meta = {
      [metaKey]: claim,
      'io.modelcontextprotocol/clientCapabilities': {},
      'io.modelcontextprotocol/clientInfo': { name: 'c', version: '1' },
    }
    const isNotification = method?.startsWith('notifications/') ?? false
    const body = {
      jsonrpc: '2.0',
      ...(!isNotification && { id: 1 }),
      method,
      params: claim === undefined ? {} : { _meta: meta },
    }
    const outcome = classifyInboundRequest({
      httpMethod: 'POST',
      body,
      ...(protocolVersionHeader !== undefined && { protocolVersionHeader }),
    })
    // What it refuses is answered by its modern side.
    expect(outcome.kind === 'legacy' ? 'legacy' : 'modern').toBe(era)
  })

  it('leaves it to the server to refuse initialize with a modern header', () => {
    const request = { method: 'initialize', protocolVersionHeader: modernVersion, hasSession: false }
    expect(detectEra(request)).toBe('legacy')
  })

  it('takes GET, DELETE, answers and batches for legacy', () => {
    expect(detectEra({ protocolVersionHeader: modernVersion, hasSession: false })).toBe('legacy')
  })

  it('takes a request of a session for legacy unless its body claims otherwise', () => {
    const request = { method: 'tools/list', protocolVersionHeader: modernVersion, hasSession: true }
    expect(detectEra(request)).toBe('legacy')
    expect(detectEra({ ...request, metaProtocolVersion: modernVersion })).toBe('modern')
  })
})

describe('revisionRefusal', () => {
  it.each(SUPPORTED_PROTOCOL_VERSIONS)(
    '%s may be the revision of a request in a session, as with the SDK',
    (version) => {
      expect(revisionRefusal(version, undefined)).toBeUndefined()
    },
  )

  it('takes what was agreed on, and what says nothing', () => {
    expect([revisionRefusal('2026-03-01', '2026-03-01'), revisionRefusal(undefined, undefined)]).toEqual([
      undefined,
      undefined,
    ])
  })

  it.each(['1999-01-01', '2026-07-28', '', '2025-11-25 '])('refuses "%s" in the words of the SDK', (version) => {
    const supported = SUPPORTED_PROTOCOL_VERSIONS.join(', ')
    expect(revisionRefusal(version, '2025-11-25')).toBe(
      `Bad Request: Unsupported protocol version: ${version} (supported versions: ${supported})`,
    )
  })
})

describe('statusOfAnswer', () => {
  it.each([
    [undefined, 200, 200],
    [-32700, 400, 200],
    [-32600, 400, 200],
    [-32601, 404, 200],
    [-32602, 200, 200],
    [-32603, 200, 200],
    [-32000, 200, 200],
    [-32020, 400, 200],
    [-32021, 400, 200],
    [-32022, 400, 400],
    [1, 200, 200],
  ])('of error %s: modern %i, legacy %i', (code, modern, legacy) => {
    const error = code === undefined ? undefined : { code }
    expect(statusOfAnswer(error, 'modern')).toBe(modern)
    expect(statusOfAnswer(error, 'legacy')).toBe(legacy)
  })

  const modern = (method: string, { version = modernVersion, methodHeader = method } = {}) => ({
    headers: { 'mcp-protocol-version': version, 'mcp-method': methodHeader },
    body: {
      jsonrpc: '2.0',
      id: 1,
      method,
      params: {
        name: 'none',
        _meta: {
          [metaKey]: version,
          'io.modelcontextprotocol/clientCapabilities': {},
          'io.modelcontextprotocol/clientInfo': { name: 'c', version: '1' },
        },
      },
    },
  })
  const legacy = (method: string, params: object) => ({ headers: {}, body: { jsonrpc: '2.0', id: 1, method, params } })
  const clientInfo = { name: 'c', version: '1' }
  const initialize = legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo })
  it.each([
    ['an answer', 'modern', modern('server/discover'), undefined],
    ['an unknown method', 'modern', modern('no/such'), -32601],
    ['a revision nobody knows', 'modern', modern('server/discover', { version: '2099-01-01' }), -32022],
    ['headers that contradict the body', 'modern', modern('server/discover', { methodHeader: 'tools/list' }), -32020],
    ['initialize', 'legacy', initialize, undefined],
    ['an unknown method of a legacy client', 'legacy', legacy('no/such', {}), -32601],
    ['initialize refused by a modern-only server', 'modern only', initialize, -32022],
  ])('is what createMcpHandler gives for %s', async (_, serves, { headers, body }, code) => {
    const handler = createMcpHandler(() => new McpServer({ name: 's', version: '1' }), {
      legacy: serves === 'modern only' ? 'reject' : 'stateless',
    })
    const response = await handler.fetch(
      new Request('http://localhost/mcp', {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
        body: JSON.stringify(body),
      }),
    )
    const text = await response.text()
    const answer: { error?: { code: number } } = JSON.parse(text.replace(/^[^{]*/, ''))
    await handler.close()
    expect(answer.error?.code).toBe(code)
    expect(response.status).toBe(statusOfAnswer(answer.error, serves === 'modern' ? 'modern' : 'legacy'))
  })
})
