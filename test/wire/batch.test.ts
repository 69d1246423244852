import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BatchSplitter, batchItems, maxBatchMessages, withoutItems } from '../../src/wire/batch.ts'

const texts = (batch: string) => batchItems(Buffer.from(batch))?.map((item) => item.toString())

describe('the messages of a batch (MCP 2025-03-26, Basic, "Batching")', () => {
  it.each([
    ['[]', []],
    [' [ \n ] ', []],
    ['[{"a":1},{"b":[1,2]}]', ['{"a":1}', '{"b":[1,2]}']],
    ['\t[ {"a":1.0 } ,{} ]', [' {"a":1.0 } ', '{} ']],
    [String.raw`[{"a":"],\"[{"},{"b":"\\"}]`, [String.raw`{"a":"],\"[{"}`, String.raw`{"b":"\\"}`]],
    ['[1,[2,3],"x"]', ['1', '[2,3]', '"x"']],
    ['[{},]', ['{}']],
    ['[{"a":1', []],
  ])('%s is %j', (batch, items) => {
    expect(texts(batch)).toEqual(items)
  })

  it('are the entries of the array, byte for byte', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { maxLength: 20 }), fc.constantFrom(0, 2), (values, indent) => {
        const items = texts(JSON.stringify(values, undefined, indent)) ?? []
        expect(items.map((item) => JSON.parse(item))).toEqual(values.map((value) => JSON.parse(JSON.stringify(value))))
      }),
    )
  })

  it('never throws and gives only parts of what came in', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const batch = Buffer.concat([Buffer.from('['), bytes])
        for (const item of batchItems(batch) ?? []) expect(batch.includes(item)).toBe(true)
      }),
    )
  })

  it('are refused beyond the limit', () => {
    const batch = (count: number) => Buffer.from(`[${Array.from({ length: count }, () => '{}').join()}]`)
    expect(batchItems(batch(maxBatchMessages))).toHaveLength(maxBatchMessages)
    expect(batchItems(batch(maxBatchMessages + 1))).toBeUndefined()
  })

  it('are not looked for any more once they are too many', () => {
    let [pieces, items] = [0, 0]
    const splitter = new BatchSplitter({ onPiece: () => (pieces += 1), onItemEnd: () => (items += 1) })
    splitter.push(Buffer.from(`[${'{},'.repeat(maxBatchMessages * 100)}`))
    splitter.push(Buffer.from('{},{}]'))
    expect([pieces, items]).toEqual([maxBatchMessages + 1, maxBatchMessages + 1])
  })

  it.each([
    ['[1,2,3]', [1], '[1,3]'],
    [' [ 1.0 ,2, 3 ]\n', [0], ' [2, 3 ]\n'],
    ['[1,2 ,3 ]', [2], '[1,2 ]'],
    ['[1,2]', [0, 1], undefined],
    ['[1]', [], '[1]'],
    ['[]', [], undefined],
  ])('%s without %j is %j', (text, leftOut, rest) => {
    const batch = Buffer.from(text)
    const items = batchItems(batch) ?? []
    expect(withoutItems(batch, items, (index) => leftOut.includes(index))?.toString()).toBe(rest)
  })

  it('are left alone where one is missing, which is no JSON', () => {
    const batch = Buffer.from('[1,,2]')
    expect(withoutItems(batch, batchItems(batch) ?? [], () => true)).toBe(batch)
  })
})
