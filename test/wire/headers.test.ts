import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeHeaderValue,
  encodeHeaderValue,
  endToEndHeaders,
  headerValue,
  isEventStream,
  isJson,
  mirrorMismatch,
  modernHeaders,
} from '../../src/wire/headers.ts'

describe('endToEndHeaders (RFC 9110 §7.6.1)', () => {
  it('drops hop-by-hop headers and what Connection lists', () => {
    const raw = [
      ['Connection', 'keep-alive, X-Hop'],
      ['Keep-Alive', 'timeout=5'],
      ['x-hop', '1'],
      ['TE', 'trailers'],
      ['Upgrade', 'h2c'],
      ['Transfer-Encoding', 'chunked'],
      ['Trailer', 'x'],
      ['Proxy-Connection', 'close'],
      ['connection', 'x-other'],
      ['X-Other', '2'],
      ['Proxy-Authorization', 'secret'],
      ['Proxy-Authenticate', 'Basic'],
      ['Host', 'a'],
      ['Authorization', 'Bearer b'],
    ].flat()
    expect(endToEndHeaders(raw)).toEqual(['Host', 'a', 'Authorization', 'Bearer b'])
  })

  it('keeps order, case and duplicates', () => {
    const raw = ['set-cookie', 'a', 'Mcp-Session-Id', 's', 'Set-Cookie', 'b', 'Content-Length', '2']
    expect(endToEndHeaders(raw)).toEqual(raw)
  })

  it('drops what it is told to', () => {
    expect(
      endToEndHeaders(['Host', 'a', 'AUTHORIZATION', 'b', 'x', 'c'], { drop: new Set(['authorization', 'host']) }),
    ).toEqual(['x', 'c'])
  })
})

it('finds the first header of a name in any case', () => {
  const raw = ['X', '1', 'Mcp-Session-ID', 'a', 'mcp-session-id', 'b']
  expect(headerValue(raw, 'mcp-session-id')).toBe('a')
  expect(headerValue(raw, 'mcp-name')).toBeUndefined()
  // A value is never taken for a name.
  expect(headerValue(['x', 'mcp-name', 'y', 'z'], 'mcp-name')).toBeUndefined()
})

describe('header values (MCP 2026-07-28, Streamable HTTP, Value Encoding)', () => {
  it.each([
    ['echo', 'echo'],
    ['with space and\ttab', 'with space and\ttab'],
    ['', '=?base64??='],
    [' padded ', '=?base64?IHBhZGRlZCA=?='],
    ['Größe', '=?base64?R3LDtsOfZQ==?='],
    ['two\nlines', '=?base64?dHdvCmxpbmVz?='],
    ['=?base64?ZWNobw==?=', '=?base64?PT9iYXNlNjQ/WldOb2J3PT0/PQ==?='],
  ])('%j is written %j', (text, value) => {
    expect(encodeHeaderValue(text)).toBe(value)
    expect(decodeHeaderValue(value)).toBe(text)
  })

  it.each([
    ['unpadded', '=?base64?R3LDtsOfZQ?='],
    ['not Base64', '=?base64?***?='],
    ['URL-safe Base64', '=?base64?_-_-?='],
    ['not UTF-8', '=?base64?/w==?='],
  ])('is undefined when malformed: %s', (_, value) => {
    expect(decodeHeaderValue(value)).toBeUndefined()
  })

  it('takes what only resembles the form as it is', () => {
    expect(decodeHeaderValue('=?BASE64?ZWNobw==?=')).toBe('=?BASE64?ZWNobw==?=')
    expect(decodeHeaderValue('=?base64?ZWNobw==')).toBe('=?base64?ZWNobw==')
  })

  it('survives the way there and back, in plain ASCII', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const value = encodeHeaderValue(text)
        expect(value).toMatch(/^[\t\x20-\x7e]+$/)
        expect(decodeHeaderValue(value)).toBe(text)
      }),
    )
  })
})

describe('modernHeaders (SEP-2243, SEP-2663)', () => {
  const named = { name: 'n', uri: 'file:///ü', taskId: 't' }
  it.each([
    ['tools/call', 'n'],
    ['prompts/get', 'n'],
    ['resources/read', encodeHeaderValue('file:///ü')],
    ['tasks/get', 't'],
    ['tasks/update', 't'],
    ['tasks/cancel', 't'],
    ['tools/list', undefined],
    ['constructor', undefined],
  ])('%s is named %s', (method, name) => {
    const headers = ['mcp-protocol-version', '2026-07-28', 'mcp-method', method]
    expect(modernHeaders({ method, ...named })).toEqual(name === undefined ? headers : [...headers, 'mcp-name', name])
  })

  it('names nothing when the body does not, and the revision that the body claims', () => {
    const headers = modernHeaders({ method: 'tools/call', protocolVersion: '2027-01-01' })
    expect(headers).toEqual(['mcp-protocol-version', '2027-01-01', 'mcp-method', 'tools/call'])
  })
})

it.each([
  ['text/event-stream', true, false],
  ['Text/Event-Stream; charset=utf-8', true, false],
  ['application/json', false, true],
  ['application/json ;charset=utf-8', false, true],
  ['application/json-seq', false, false],
  ['', false, false],
  [undefined, false, false],
])('media type of %j', (contentType, eventStream, json) => {
  expect(isEventStream(contentType)).toBe(eventStream)
  expect(isJson(contentType)).toBe(json)
})

describe('mirrorMismatch (MCP 2026-07-28, Streamable HTTP, Standard Request Headers)', () => {
  const call = { method: 'tools/call', name: 'echo', protocolVersion: '2026-07-28' }
  const mirror = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'echo' }
  const list = { method: 'tools/list', protocolVersion: '2026-07-28' }

  it.each([
    ['headers that mirror the body', call, mirror],
    ['white space around a value (RFC 9110 §5.5)', call, { ...mirror, 'mcp-name': '  echo\t' }],
    ['a name in Base64', { ...call, name: 'Größe' }, { ...mirror, 'mcp-name': '=?base64?R3LDtsOfZQ==?=' }],
    ['a name that the method has no place for', list, { ...mirror, 'mcp-method': 'tools/list', 'mcp-name': 'x' }],
    ['no name in the body: the server judges that', { ...call, name: undefined }, mirror],
  ])('finds none in %s', (_, request, headers: Readonly<Record<string, string>>) => {
    expect(mirrorMismatch(request, (name) => headers[name])).toBeUndefined()
  })

  it.each([
    [
      { 'mcp-protocol-version': undefined },
      'the body says "2026-07-28", and the header MCP-Protocol-Version is missing',
    ],
    [
      { 'mcp-protocol-version': '2027-01-01' },
      'the body says "2026-07-28", the header MCP-Protocol-Version "2027-01-01"',
    ],
    [{ 'mcp-method': undefined }, 'the body says "tools/call", and the header Mcp-Method is missing'],
    [{ 'mcp-method': 'TOOLS/CALL' }, 'the body says "tools/call", the header Mcp-Method "TOOLS/CALL"'],
    [{ 'mcp-name': undefined }, 'the body says "echo", and the header Mcp-Name is missing'],
    [{ 'mcp-name': 'other' }, 'the body says "echo", the header Mcp-Name "other"'],
    [{ 'mcp-name': '=?base64?ZWNobw?=' }, 'the body says "echo", the header Mcp-Name "=?base64?ZWNobw?="'],
  ])('%j: %s', (wrong, expected) => {
    const headers: Readonly<Record<string, string | undefined>> = { ...mirror, ...wrong }
    expect(mirrorMismatch(call, (name) => headers[name])).toBe(expected)
  })

  it('finds none in the headers that we write ourselves', () => {
    const name = fc.string({ unit: 'binary' })
    const property = fc.property(name, fc.constantFrom('tools/call', 'ping'), (name, method) => {
      const request = { method, name, protocolVersion: '2026-07-28' }
      const raw = modernHeaders(request)
      expect(mirrorMismatch(request, (header) => headerValue(raw, header))).toBeUndefined()
    })
    fc.assert(property)
  })
})
