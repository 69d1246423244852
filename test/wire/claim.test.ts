import { expect, it } from 'vitest'
import { isWholeClaim } from '../../src/wire/claim.ts'

const version = '"io.modelcontextprotocol/protocolVersion":"2026-07-28"'
const capabilities = '"io.modelcontextprotocol/clientCapabilities":{"roots":{}}'
const request = (meta: string) => `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":${meta}}}`

it.each([
  ['a revision and capabilities', request(`{${version},${capabilities}}`), true],
  ['the same behind a byte order mark', `\uFEFF${request(`{${version},${capabilities}}`)}`, true],
  ['an escape in a key', request(`{${version.replace('o', '\\u006f')},${capabilities}}`), true],
  ['no capabilities', request(`{${version}}`), false],
  ['no revision', request(`{${capabilities}}`), false],
  ['capabilities that are a list', request(`{${version},${capabilities.replace('{"roots":{}}', '[]')}}`), false],
  ['a revision that is a number', request(`{${version.replace('"2026-07-28"', '2026')},${capabilities}}`), false],
  [
    'the last of two keys, which counts',
    request(`{${version},${capabilities},${version.replace(/:.*/, ':1')}}`),
    false,
  ],
  ['no object in _meta', request('[]'), false],
  ['no _meta', '{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}', false],
  ['no params', '{"jsonrpc":"2.0","id":1,"method":"server/discover"}', false],
  ['a batch', `[${request(`{${version},${capabilities}}`)}]`, false],
  ['half a request', request(`{${version},${capabilities}}`).slice(0, -1), false],
])('MCP 2026-07-28, Lifecycle: %s', (_what, text, isWhole) => {
  expect(isWholeClaim(Buffer.from(text))).toBe(isWhole)
})
