import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { issuerOf, metadataPaths, withResource } from '../../src/wire/resource-metadata.ts'

const from = new URL('http://127.0.0.1:3000/mcp')
const to = new URL('https://vitals.example.com/u/mcp')
const rewrite = (text: string) => withResource(Buffer.from(text), { from, to }).toString()

describe('the resource in protected resource metadata (RFC 9728 §2)', () => {
  it.each([
    ['the server itself', 'http://127.0.0.1:3000/mcp'],
    ['with a slash', 'http://127.0.0.1:3000/mcp/'],
    ['its site', 'http://127.0.0.1:3000'],
    ['its site with a slash', 'http://127.0.0.1:3000/'],
  ])('is the address that the client knows when it was %s', (_, resource) => {
    expect(rewrite(`{ "resource" : "${resource}", "n": 1.0 ,"resource_name":"é\\u00e9"}\n`)).toBe(
      `{ "resource" : "${to.href}", "n": 1.0 ,"resource_name":"é\\u00e9"}\n`,
    )
  })

  it.each([
    ['another server', '{"resource":"https://evil.example.com/mcp"}'],
    ['another port', '{"resource":"http://127.0.0.1:3001/mcp"}'],
    ['another path', '{"resource":"http://127.0.0.1:3000/other"}'],
    ['a path that only begins alike', '{"resource":"http://127.0.0.1:3000/mc"}'],
    ['a part of it', '{"resource":"http://127.0.0.1:3000/mcp/more"}'],
    ['no URL', '{"resource":"mcp"}'],
    ['no text', '{"resource":["http://127.0.0.1:3000/mcp"]}'],
    ['deeper', '{"x":{"resource":"http://127.0.0.1:3000/mcp"}}'],
    ['cut off', '{"resource":"http://127.0.0.1:3000/mcp"'],
    ['in no object', '["resource","http://127.0.0.1:3000/mcp"]'],
    ['in no JSON', '<html>'],
    ['absent', ''],
  ])('stays for the client to judge when it is %s', (_, metadata) => {
    expect(rewrite(metadata)).toBe(metadata)
  })

  it('is all that changes, whatever else is there', () => {
    const others = fc.dictionary(fc.string(), fc.jsonValue())
    fc.assert(
      fc.property(others, others, (before, after) => {
        const { resource: _one, ...first } = before
        const { resource: _other, ...last } = after
        const metadata = JSON.stringify({ ...first, resource: from.href, ...last }, null, 1)
        expect(rewrite(metadata)).toBe(JSON.stringify({ ...first, resource: to.href, ...last }, null, 1))
      }),
    )
  })
})

it.each([
  ['http://a/mcp', ['/.well-known/oauth-protected-resource/mcp', '/.well-known/oauth-protected-resource']],
  ['http://a/x/mcp/', ['/.well-known/oauth-protected-resource/x/mcp', '/.well-known/oauth-protected-resource']],
  ['http://a/', ['/.well-known/oauth-protected-resource']],
])('the metadata of %s is looked for at the most specific place first (RFC 9728 §3.1)', (url, paths) => {
  expect(metadataPaths(new URL(url))).toEqual(paths)
})

it('reads the issuer of an authorization server', () => {
  expect(issuerOf(Buffer.from('{"issuer":"http:\\/\\/a.example.com","x":1}'))).toBe('http://a.example.com')
  expect(issuerOf(Buffer.from('{"issuer":1}'))).toBeUndefined()
})
