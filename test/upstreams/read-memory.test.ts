import { describe, expect, it } from 'vitest'
import { ReadMemory } from '../../src/upstreams/read-memory.ts'

const kib = 1024

/** A connection that reads; what it read is as long as is asked for, and every byte of it is the same. */
function reading(memory = new ReadMemory()) {
  let chunk: Buffer = Buffer.alloc(0)
  const onread = memory.onread((came) => {
    chunk = came
    return came.length !== 1
  })
  const into = typeof onread.buffer === 'function' ? onread.buffer() : onread.buffer
  const read = (length: number, byte: number) => {
    into.fill(byte, 0, length)
    const takesMore = onread.callback(length, into)
    return { chunk, takesMore }
  }
  return { memory, read: (length: number, byte: number) => read(length, byte).chunk, goesOn: (n: number) => read(n, 0) }
}

const holds = (chunk: Buffer, length: number, byte: number) => chunk.equals(Buffer.alloc(length, byte))

describe('memory that connections read into', () => {
  it.each([1, 100, 4096, 32 * kib - 1, 32 * kib, 64 * kib])(
    'a chunk of %i bytes is what came, whatever comes next on this or another connection',
    (length) => {
      const { memory, read } = reading()
      const first = read(length, 1)
      const second = read(length, 2)
      const other = reading(memory).read(64 * kib, 3)
      expect([holds(first, length, 1), holds(second, length, 2), holds(other, 64 * kib, 3)]).toEqual([true, true, true])
    },
  )

  it('tells the connection whether to go on', () => {
    const { goesOn } = reading()
    expect([goesOn(2).takesMore, goesOn(1).takesMore]).toEqual([true, false])
  })

  it('lends long chunks alone, and uses what is given back for the next one', () => {
    const { memory, read } = reading()
    const [short, long] = [read(32 * kib - 1, 1), read(32 * kib, 2)]
    expect([memory.isLent(short), memory.isLent(long)]).toEqual([false, true])
    memory.giveBack(short)
    memory.giveBack(long)
    expect(memory.isLent(long)).toBe(false)
    const next = read(64 * kib, 3)
    expect(next.buffer).toBe(long.buffer)
    expect(holds(next, 64 * kib, 3)).toBe(true)
    expect(read(64 * kib, 4).buffer).not.toBe(next.buffer)
  })

  it('uses nothing twice that is given back twice', () => {
    const { memory, read } = reading()
    const long = read(64 * kib, 1)
    memory.giveBack(long)
    memory.giveBack(long)
    expect(read(64 * kib, 2).buffer).not.toBe(read(64 * kib, 3).buffer)
  })

  it('lends what follows a head, but not what something follows', () => {
    const { memory, read } = reading()
    const long = read(64 * kib, 1)
    expect(memory.isLent(long.subarray(200))).toBe(true)
    expect(memory.isLent(long.subarray(200, 64 * kib - 7))).toBe(false)
    expect(memory.isLent(Buffer.alloc(64 * kib))).toBe(false)
  })

  it('keeps no more of what is given back than 2 MiB', () => {
    const { memory, read } = reading()
    const chunks = Array.from({ length: 40 }, () => read(64 * kib, 1))
    for (const chunk of chunks) memory.giveBack(chunk)
    const again = new Set(Array.from({ length: 40 }, () => read(64 * kib, 2).buffer))
    expect(chunks.filter(({ buffer }) => again.has(buffer))).toHaveLength(32)
  })
})
