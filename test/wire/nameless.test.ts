import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { isNameless, namedAfter } from '../../src/wire/nameless.ts'

function named(text: string, id: string): string {
  const message = Buffer.from(text)
  const envelope = readEnvelope(message)
  if (!envelope) throw new Error(`no message: ${text}`)
  return namedAfter(message, envelope, id).toString()
}

describe('an answer is nameless', () => {
  it.each([
    ['{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}', true],
    ['{"jsonrpc":"2.0","error":{"code":1,"message":""}}', true],
    ['{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":""}}', false],
    ['{"jsonrpc":"2.0","id":"null","error":{"code":1,"message":""}}', false],
    ['{"jsonrpc":"2.0","method":"notifications/x"}', false],
  ])('%s: %s', (text, expected) => {
    const envelope = readEnvelope(Buffer.from(text))
    expect(envelope && isNameless(envelope)).toBe(expected)
  })
})

describe('a name is given', () => {
  it.each([
    ['{"error":{"code":1},"id":null}', '"x"', '{"error":{"code":1},"id":"x"}'],
    ['{ "id" : null , "error":{"code":1}}', '7', '{ "id" : 7 , "error":{"code":1}}'],
    [' \n{"error":{"code":1}}', '7', '{"id":7,"error":{"code":1}}'],
  ])('%s to %s', (text, id, expected) => {
    expect(named(text, id)).toBe(expected)
  })

  it('and all else stays', () => {
    const data = fc.jsonValue()
    const id = fc.oneof(fc.string(), fc.integer())
    fc.assert(
      fc.property(data, id, fc.constantFrom('first', 'last', 'none'), (value, given, place) => {
        const error = { code: -32_000, message: 'no', data: value }
        const answer = {
          first: { id: null, error },
          last: { error, id: null },
          none: { error },
        }[place]
        const text = JSON.stringify(answer)
        expect(JSON.parse(named(text, JSON.stringify(given)))).toEqual({ ...(JSON.parse(text) as object), id: given })
      }),
    )
  })
})
