import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inventoryReader } from '../../src/proxy/learn.ts'
import { namesIn } from '../../src/wire/lists.ts'

const list =
  '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"},{"name":"wr\\u0069te"},{"title":"x"},{"name":5}]}}'

function learned(kind: 'json' | 'events', body: Buffer, cuts: readonly number[]): string[] {
  const names: string[] = []
  const reader = inventoryReader(kind, 'tools/list', (found) => names.push(...found))
  const places = [0, ...cuts.map((cut) => cut % (body.length + 1)).toSorted((a, b) => a - b), body.length]
  for (const [index, end] of places.slice(1).entries()) reader.push(body.subarray(places[index], end))
  reader.end()
  return names
}

describe('names in a list that passes by', () => {
  it.each([
    ['json', list],
    ['events', `: c\nevent: message\ndata: {"method":"x"}\n\ndata: ${list}\n\n`],
  ] as const)('are read from %s in whatever chunks', (kind, body) => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 6 }), (cuts) => {
        expect(learned(kind, Buffer.from(body), cuts)).toEqual(['read', 'write'])
      }),
    )
  })

  it.each([
    '',
    'x',
    '[]',
    'null',
    '{"result":null}',
    '{"result":{"tools":{}}}',
    '{"result":{"tools":[null,1]}}',
    '{"error":{}}',
  ])('%j teaches nothing', (body) => expect(namesIn(Buffer.from(body), 'tools')).toEqual([]))

  it('a list longer than 1 MiB is not read', () => {
    const long = Buffer.from(`{"result":{"tools":[{"name":"a"}],"x":"${'x'.repeat(1024 * 1024)}"}}`)
    expect(learned('json', long, [5, 500_000])).toEqual([])
    expect(learned('events', Buffer.from(`data: ${long.toString()}\n\n`), [5, 500_000])).toEqual([])
  })

  it('prompts are another list than tools', () => {
    expect(namesIn(Buffer.from('{"result":{"prompts":[{"name":"p"}]}}'), 'tools')).toEqual([])
    expect(namesIn(Buffer.from('{"result":{"prompts":[{"name":"p"}]}}'), 'prompts')).toEqual(['p'])
  })
})
