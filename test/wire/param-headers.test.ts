import { describe, expect, it } from 'vitest'
import { paramHeadersFor, paramHeadersOf, paramMismatch } from '../../src/wire/param-headers.ts'

const schema = {
  type: 'object',
  properties: {
    region: { type: 'string', 'x-mcp-header': 'Region' },
    where: { type: 'object', properties: { zone: { type: 'integer', 'x-mcp-header': 'Zone' } } },
    isDry: { type: 'boolean', 'x-mcp-header': 'Dry-Run' },
    query: { type: 'string' },
  },
}
const declared = paramHeadersOf(schema)

describe('which arguments headers repeat (MCP 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters")', () => {
  it('those that a chain of properties reaches', () => {
    expect(declared).toEqual([
      { name: 'Mcp-Param-Region', path: ['region'], isNumber: false },
      { name: 'Mcp-Param-Zone', path: ['where', 'zone'], isNumber: true },
      { name: 'Mcp-Param-Dry-Run', path: ['isDry'], isNumber: false },
    ])
  })

  it.each([
    ['no schema', undefined],
    ['no object', 'x'],
    ['no properties', {}],
    ['properties that are no object', { properties: [] }],
    ['an empty name', { properties: { a: { type: 'string', 'x-mcp-header': '' } } }],
    ['a name that is no token', { properties: { a: { type: 'string', 'x-mcp-header': 'a\r\nb' } } }],
    ['a name that is no text', { properties: { a: { type: 'string', 'x-mcp-header': 1 } } }],
    ['an argument that is no primitive', { properties: { a: { type: 'object', 'x-mcp-header': 'A' } } }],
    ['what only a keyword other than properties reaches', { items: { properties: schema.properties } }],
  ])('none for %s', (_what, inputSchema) => expect(paramHeadersOf(inputSchema)).toEqual([]))

  it('ends with a schema that nests without end', () => {
    const endless: Record<string, unknown> = { type: 'string', 'x-mcp-header': 'A' }
    endless['properties'] = { a: endless }
    expect(paramHeadersOf(endless).length).toBeLessThan(100)
  })
})

describe('the headers of a call', () => {
  it.each([
    [{ region: 'us-west', where: { zone: -7 }, isDry: false }, ['us-west', '-7', 'false']],
    [{ region: 'é' }, ['=?base64?w6k=?=']],
    [{ region: ' a' }, ['=?base64?IGE=?=']],
    [{ region: '=?base64?x?=' }, ['=?base64?PT9iYXNlNjQ/eD89?=']],
    [{ region: null, where: 'x' }, []],
    [{ where: { zone: 2 ** 53 } }, []],
    [{ region: { a: 1 } }, []],
    [undefined, []],
  ])('%j: %j', (args, values) => {
    expect(paramHeadersFor(declared, args).filter((_part, index) => index % 2 === 1)).toEqual(values)
  })

  it.each([
    ['the same text', { region: 'Hello' }, { 'mcp-param-region': 'Hello' }, undefined],
    ['white space around it', { region: 'Hello' }, { 'mcp-param-region': ' Hello\t' }, undefined],
    ['the same in Base64', { region: 'Hello' }, { 'mcp-param-region': '=?base64?SGVsbG8=?=' }, undefined],
    ['Base64 without its mark', { region: 'SGVsbG8=' }, { 'mcp-param-region': 'SGVsbG8=' }, undefined],
    ['the same number', { where: { zone: 42 } }, { 'mcp-param-zone': '42.0' }, undefined],
    ['a header that repeats nothing', { query: 'q' }, { 'mcp-param-region': 'x' }, undefined],
    ['no header', { region: 'a' }, {}, 'the argument region is "a", and the header Mcp-Param-Region is missing'],
    [
      'another text',
      { region: 'a' },
      { 'mcp-param-region': 'b' },
      'the argument region is "a", the header Mcp-Param-Region "b"',
    ],
    ['no Base64', { region: 'Hello' }, { 'mcp-param-region': '=?base64?SGVs!!!bG8=?=' }, expect.any(String)],
    [
      'Base64 without its padding',
      { region: 'Hello' },
      { 'mcp-param-region': '=?base64?SGVsbG8?=' },
      expect.any(String),
    ],
    ['another number', { where: { zone: 42 } }, { 'mcp-param-zone': '0x2a' }, expect.any(String)],
    ['another case', { isDry: true }, { 'mcp-param-dry-run': 'True' }, expect.any(String)],
  ])('%s', (_what, args, headers: Readonly<Record<string, string>>, mismatch) => {
    expect(paramMismatch(declared, args, (name) => headers[name])).toEqual(mismatch)
  })

  it('are those that a server takes', () => {
    const args = { region: ' é=?base64?', where: { zone: 3 }, isDry: true }
    const headers = paramHeadersFor(declared, args)
    const header = (name: string) => headers[headers.findIndex((part) => part.toLowerCase() === name) + 1]
    expect(paramMismatch(declared, args, header)).toBeUndefined()
  })
})
