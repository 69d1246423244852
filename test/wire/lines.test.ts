import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LineReader, writeLine } from '../../src/wire/lines.ts'

function linesOf(chunks: readonly (string | Buffer)[], maxBytes = 100): string[] {
  const told: string[] = []
  const reader = new LineReader({
    maxBytes,
    onLine: (line) => told.push(line.toString()),
    onTooLong: (bytes) => told.push(`<${bytes} bytes>`),
  })
  for (const chunk of chunks) reader.push(Buffer.from(chunk))
  reader.end()
  return told
}

describe('lines', () => {
  const cases: [what: string, chunks: string[], lines: string[]][] = [
    ['one line', ['{}\n'], ['{}']],
    ['several in a chunk', ['a\nb\nc\n'], ['a', 'b', 'c']],
    ['one cut by chunks', ['a', 'b', 'c\nd', '\n'], ['abc', 'd']],
    ['a trailing CR is no part of it', ['a\r\nb\r', '\n'], ['a', 'b']],
    ['a CR within stays', ['a\rb\n'], ['a\rb']],
    ['empty lines are skipped', ['\n\r\na\n\n', '\r', '\n'], ['a']],
    ['a last line without its line break', ['a\nb'], ['a', 'b']],
  ]
  it.each(cases)('%s', (_, chunks, lines) => {
    expect(linesOf(chunks)).toEqual(lines)
  })

  it('keeps a character whole that a chunk cuts', () => {
    expect(linesOf([Buffer.from([0xc3]), Buffer.from([0xa9, 0x0a])])).toEqual(['é'])
  })

  it.each([
    ['in one chunk', ['abcde\nabcd\nabcdef\n']],
    ['cut', ['abc', 'de', '\nabc', 'd\nabc', 'def\n']],
    ['with CRs, which do not count', ['abcde\r\nab', 'cd\r\nabcdef\r', '\n']],
  ])('drops a line that is too long, told once with its size: %s', (_, chunks) => {
    const [first, second, third] = linesOf(chunks, 4)
    expect([first, second]).toEqual(['<5 bytes>', 'abcd'])
    expect(third).toMatch(/^<[67] bytes>$/)
  })

  it.each([
    ['in one chunk', 1000],
    ['cut', 7],
    ['as long as the limit at first', 40],
  ])('tells of a line that is too long which message it was, wherever that names its id: %s', (_, size) => {
    const answer = Buffer.from(`{"result":{"x":"${'y'.repeat(100)}"},"jsonrpc":"2.0","id":"é"}`)
    const told: unknown[] = []
    const reader = new LineReader({
      maxBytes: 39,
      onLine: (line) => told.push(line.toString()),
      onTooLong: (bytes, envelope) => told.push([bytes, envelope?.kind, envelope?.id]),
    })
    const text = Buffer.concat([answer, Buffer.from(`\n${'x'.repeat(50)}\n`), answer])
    for (let at = 0; at < text.length; at += size) reader.push(text.subarray(at, at + size))
    reader.end()
    const heard = [answer.length, 'response', '"é"']
    expect(told).toEqual([heard, [50, undefined, undefined], heard])
  })

  it('drops a last line that is too long', () => {
    expect(linesOf(['abc', 'def'], 4)).toEqual(['<6 bytes>'])
  })

  it('reads what splitting the whole would give, however it is cut', () => {
    const chunk = fc
      .array(fc.constantFrom('a', 'bc', '\n', '\r', '\r\n', 'é'), { maxLength: 8 })
      .map((parts) => parts.join(''))
    fc.assert(
      fc.property(fc.array(chunk), (chunks) => {
        const lines = chunks
          .join('')
          .split('\n')
          .map((line) => line.replace(/\r$/, ''))
        expect(linesOf(chunks, 1000)).toEqual(lines.filter((line) => line !== ''))
      }),
    )
  })

  it('joins a line of 10 MiB from small chunks', () => {
    const chunk = Buffer.alloc(1024, 'x')
    const [line] = linesOf([...Array.from({ length: 10_240 }, () => chunk), '\n'], 16 << 20)
    expect(line?.length).toBe(10 << 20)
  })
})

describe('writeLine', () => {
  it.each([2, 4094, 4095, 4096, 100_000])('writes %d bytes as one line', async (bytes) => {
    const message = `"${'ü'.repeat(bytes / 2)}"`.replace('üü', '\n ü')
    const written: Buffer[] = []
    const output = new PassThrough().on('data', (chunk: Buffer) => written.push(chunk))
    writeLine(output, Buffer.from(message))
    output.end()
    await finished(output)
    expect(Buffer.concat(written).toString()).toBe(`${message.replace('\n', ' ')}\n`)
  })
})
