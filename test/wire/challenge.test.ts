import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withResourceMetadata } from '../../src/wire/challenge.ts'

const ours = new URL('https://vitals.example.com/.well-known/oauth-protected-resource/u/mcp')
const theirs = 'http://127.0.0.1:3000/.well-known/oauth-protected-resource/mcp'

describe('resource_metadata in a challenge (RFC 9728 §5.1)', () => {
  it.each([
    ['quoted', `Bearer resource_metadata="${theirs}"`, `Bearer resource_metadata="${ours.href}"`],
    [
      'among others',
      `Bearer realm="a, b", error="invalid_token", resource_metadata="${theirs}", scope="x y"`,
      `Bearer realm="a, b", error="invalid_token", resource_metadata="${ours.href}", scope="x y"`,
    ],
    [
      'as a token',
      `Bearer resource_metadata=${theirs}, scope="x"`,
      `Bearer resource_metadata="${ours.href}", scope="x"`,
    ],
    ['in other letters', `bearer Resource_Metadata = "${theirs}"`, `bearer Resource_Metadata ="${ours.href}"`],
    [
      'of the second scheme',
      `DPoP algs="ES256", Bearer resource_metadata="${theirs}"`,
      `DPoP algs="ES256", Bearer resource_metadata="${ours.href}"`,
    ],
    ['inside of another value', `Bearer realm="resource_metadata=${theirs}"`, undefined],
    ['behind an escaped quote', `Bearer realm="\\" resource_metadata=${theirs}"`, undefined],
    ['of another name', `Bearer x_resource_metadata="${theirs}"`, undefined],
    ['that is no URL', 'Bearer resource_metadata="nowhere"', undefined],
    ['absent', 'Bearer realm="mcp"', undefined],
    ['in a quote without end', `Bearer realm="x, resource_metadata`, undefined],
  ])('%s', (_, challenge, expected = challenge) => {
    expect(withResourceMetadata(challenge, () => ours)).toBe(expected)
  })

  it('stays when the URL is to stay', () => {
    const challenge = `Bearer  resource_metadata=${theirs} ,x=1`
    expect(withResourceMetadata(challenge, () => undefined)).toBe(challenge)
  })

  it('is the only thing that ever changes, and any text ends in time', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('"', '\\', '=', ',', ' ', 'resource_metadata', 'http://a/', 'é') }),
        (text) => {
          expect(withResourceMetadata(text, () => undefined)).toBe(text)
        },
      ),
    )
  })
})
