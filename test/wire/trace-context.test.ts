import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withTraceparent } from '../../src/wire/trace-context.ts'

const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
const traced = (text: string) => withTraceparent(Buffer.from(text), traceparent).toString()
const member = `"traceparent":"${traceparent}"`

describe('withTraceparent (SEP-414)', () => {
  it.each([
    ['no parameters', '{"id":1,"method":"ping"}', `{"params":{"_meta":{${member}}},"id":1,"method":"ping"}`],
    [
      'empty parameters',
      '{"id":1,"method":"m","params":{ } }',
      `{"id":1,"method":"m","params":{"_meta":{${member}} } }`,
    ],
    [
      'parameters without _meta',
      '{"id":1,"method":"m","params":{"a":1.0}}',
      `{"id":1,"method":"m","params":{"_meta":{${member}},"a":1.0}}`,
    ],
    [
      'an empty _meta',
      '{"id":1,"method":"m","params":{"a":1,"_meta":{}}}',
      `{"id":1,"method":"m","params":{"a":1,"_meta":{${member}}}}`,
    ],
    [
      'other metadata',
      '{"id":1,"method":"m","params":{"_meta":{\n "progressToken":7}}}',
      `{"id":1,"method":"m","params":{"_meta":{${member},\n "progressToken":7}}}`,
    ],
    [
      'a parent of the client, whatever it is',
      '{"id":1,"method":"m","params":{"_meta":{"x":1,"traceparent" : null}}}',
      `{"id":1,"method":"m","params":{"_meta":{"x":1,"traceparent" : "${traceparent}"}}}`,
    ],
    [
      'a parent of the client that is an object',
      String.raw`{"id":1,"method":"m","params":{"_meta":{"traceparent":{"a":[1,"}\""]},"x":1}}}`,
      `{"id":1,"method":"m","params":{"_meta":{${member},"x":1}}}`,
    ],
    [
      'a parent of the client that is an array',
      '{"id":1,"method":"m","params":{"_meta":{"traceparent":[] }}}',
      `{"id":1,"method":"m","params":{"_meta":{${member} }}}`,
    ],
    [
      'keys that are written with escapes',
      String.raw`{"id":1,"method":"m","params":{"\u005fmeta":{"\u0074raceparent":"x"}}}`,
      String.raw`{"id":1,"method":"m","params":{"\u005fmeta":{"\u0074raceparent":` + `"${traceparent}"}}}`,
    ],
    [
      'keys that are there twice, of which the last counts',
      '{"id":1,"method":"m","params":{"_meta":{"traceparent":"x"},"_meta":{"y":1}}}',
      `{"id":1,"method":"m","params":{"_meta":{"traceparent":"x"},"_meta":{${member},"y":1}}}`,
    ],
  ])('writes into a request with %s', (_, message, expected) => {
    expect(traced(message)).toBe(expected)
  })

  it.each([
    ['a notification', '{"method":"notifications/initialized"}'],
    ['an answer', '{"id":1,"result":{}}'],
    ['a batch', '[{"id":1,"method":"ping"}]'],
    ['parameters in an array', '{"id":1,"method":"m","params":[1]}'],
    ['a _meta that is no object', '{"id":1,"method":"m","params":{"_meta":null}}'],
    ['no JSON', '{"id":1,"method":"m"'],
  ])('leaves %s as it is', (_, message) => {
    expect(traced(message)).toBe(message)
  })

  it('adds the parent to any request and changes nothing else', () => {
    const other = fc.string().filter((key) => key !== '_meta')
    const members = fc.dictionary(other, fc.jsonValue())
    const parent = fc.record({ traceparent: fc.jsonValue() }, { requiredKeys: [] })
    const meta = fc.tuple(fc.dictionary(fc.string(), fc.jsonValue()), parent).map(([one, two]) => ({ ...one, ...two }))
    const withMeta = fc.tuple(members, meta).map(([others, _meta]) => ({ ...others, _meta }))
    const params = fc.option(fc.oneof(members, withMeta), { nil: undefined })
    const request = fc.record({ jsonrpc: fc.constant('2.0'), id: fc.integer(), method: fc.constant('m'), params })
    fc.assert(
      fc.property(request, fc.nat(4), (message, indent) => {
        const text = JSON.stringify(message, undefined, indent)
        const { params: given = {} } = JSON.parse(text) as { params?: { _meta?: object } }
        const wanted = { ...given, _meta: { ...given._meta, traceparent } }
        const { params: got, ...rest } = JSON.parse(traced(text)) as { params: unknown }
        expect({ ...rest, params: got }).toEqual({ ...JSON.parse(text), params: wanted })
      }),
    )
  })
})
