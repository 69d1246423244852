import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { WatchedFiles } from '../../src/cli/watched-files.ts'
import { fakeClock } from '../support/fake-clock.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-watch-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function watched(everyMs = 1000) {
  const clock = fakeClock()
  const content = new Map([
    ['a.yaml', '1'],
    ['b.yaml', '1'],
  ])
  const changesAtMs: number[] = []
  const files = new WatchedFiles({
    clock,
    everyMs,
    look: (file) => content.get(file),
    onChange: () => changesAtMs.push(clock.now()),
  })
  files.watch(['a.yaml', 'b.yaml'])
  return { clock, content, changesAtMs, files }
}

describe('a watched file', () => {
  it('is told once, when it has stayed the same for one look', async () => {
    const { clock, content, changesAtMs } = watched()
    await clock.advance(1500)
    content.set('b.yaml', '2')
    await clock.advance(1000)
    expect(changesAtMs).toEqual([])
    await clock.advance(10_000)
    expect(changesAtMs).toEqual([3000])
  })

  it('that is still being written is left alone until it is finished', async () => {
    const { clock, content, changesAtMs } = watched()
    for (const text of ['2', '23', '234']) {
      content.set('a.yaml', text)
      await clock.advance(1000)
    }
    expect(changesAtMs).toEqual([])
    await clock.advance(1000)
    expect(changesAtMs).toEqual([4000])
  })

  it('that is gone for a moment and comes back the same is no change; one that stays away is', async () => {
    const { clock, content, changesAtMs } = watched()
    content.delete('a.yaml')
    await clock.advance(1000)
    content.set('a.yaml', '1')
    await clock.advance(5000)
    expect(changesAtMs).toEqual([])
    content.delete('a.yaml')
    await clock.advance(2000)
    expect(changesAtMs).toHaveLength(1)
  })

  it('is not looked at when that is off, nor after the end', async () => {
    const off = watched(Number.POSITIVE_INFINITY)
    expect(off.clock.pending()).toBe(0)
    const on = watched()
    on.files.stop()
    expect(on.clock.pending()).toBe(0)
  })

  it('a real file that another one of the same size takes the place of, as editors write, is told', async () => {
    const clock = fakeClock()
    let changes = 0
    const file = join(folder, 'config.yaml')
    writeFileSync(file, 'one')
    const files = new WatchedFiles({ clock, everyMs: 1000, onChange: () => (changes += 1) })
    files.watch([file])
    writeFileSync(`${file}.new`, 'two')
    renameSync(`${file}.new`, file)
    await clock.advance(2000)
    files.stop()
    expect(changes).toBe(1)
  })
})
