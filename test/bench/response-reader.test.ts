import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { median, quantile } from './load.ts'
import { ResponseReader, type Answer } from './response-reader.ts'

const withLength = (body: string) => `HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: ${body.length}\r\n\r\n${body}`
const chunked = (pieces: readonly string[]) =>
  [
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
    ...pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`),
    '0\r\n\r\n',
  ].join('')

function readAll(wire: string, cuts: readonly number[] = []): Answer[] {
  const answers: Answer[] = []
  const reader = new ResponseReader((answer) => answers.push(answer))
  const data = Buffer.from(wire)
  const edges = [0, ...cuts.map((cut) => cut % data.length).toSorted((a, b) => a - b), data.length]
  for (const [i, from] of edges.slice(0, -1).entries()) reader.push(data.subarray(from, edges[i + 1]))
  return answers
}

describe('ResponseReader', () => {
  it.each([
    ['content-length', withLength('hello'), [{ status: 200, bodyBytes: 5 }]],
    ['an empty body', withLength(''), [{ status: 200, bodyBytes: 0 }]],
    ['chunks', chunked(['abc', 'de\r\nf']), [{ status: 200, bodyBytes: 8 }]],
    ['an empty chunked body', chunked([]), [{ status: 200, bodyBytes: 0 }]],
    ['trailers', chunked(['abc']).replace(/\r\n$/, 'T: 1\r\n\r\n'), [{ status: 200, bodyBytes: 3 }]],
    ['another status', withLength('no').replace('200 OK', '502 Bad Gateway'), [{ status: 502, bodyBytes: 2 }]],
  ])('reads %s', (_, wire, expected) => expect(readAll(wire)).toEqual(expected))

  it('finds the same answers however the bytes are cut', () => {
    const text = fc.string({ unit: 'grapheme-ascii', maxLength: 60 })
    const piece = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 30 })
    const answer = fc.oneof(
      text.map((body) => ({ wire: withLength(body), bodyBytes: body.length })),
      fc.array(piece).map((pieces) => ({ wire: chunked(pieces), bodyBytes: pieces.join('').length })),
    )
    const property = fc.property(fc.array(answer, { minLength: 1, maxLength: 4 }), fc.array(fc.nat()), (all, cuts) => {
      const expected = all.map(({ bodyBytes }) => ({ status: 200, bodyBytes }))
      expect(readAll(all.map(({ wire }) => wire).join(''), cuts)).toEqual(expected)
    })
    fc.assert(property)
  })

  it.each([
    ['what is not HTTP/1.1', 'SSH-2.0-x\r\n\r\n'],
    ['an answer that only the end of the connection delimits', 'HTTP/1.1 200 OK\r\n\r\n'],
  ])('refuses %s', (_, wire) => expect(() => readAll(wire)).toThrow())
})

describe('statistics', () => {
  it.each([
    [[3, 1, 2], 2],
    [[4, 1, 2, 3], 2.5],
    [[7], 7],
  ])('median of %j is %d', (values, expected) => expect(median(values)).toBe(expected))

  it.each([
    [0.5, 2],
    [0.99, 4],
    [0, 1],
  ])('quantile %d of 1 2 3 4 is %d', (q, expected) => expect(quantile([1, 2, 3, 4], q)).toBe(expected))
})
