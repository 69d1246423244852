import { describe, expect, it } from 'vitest'
import { Reloader, describeChanges } from '../../src/cli/reload.ts'
import type { Config } from '../../src/config/config.ts'
import type { Difference } from '../../src/config/difference.ts'
import { type Loaded, loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/log.ts'
import { fakeClock } from '../support/fake-clock.ts'

function setup(text: string) {
  const clock = fakeClock()
  const file = { text }
  const lines: string[] = []
  const applied: { readonly config: Config; readonly changes: Difference }[] = []
  const watched: (readonly string[])[] = []
  const gate: { wait: Promise<void> } = { wait: Promise.resolve() }
  const load = (): Loaded => loadConfig({ files: ['a.yaml'], env: {}, readFile: () => file.text })
  const reloader = new Reloader({
    clock,
    log: createLogger({ level: 'info', format: 'json', isTerminal: false, write: (line) => lines.push(line) }),
    config: load().config,
    load,
    apply: async (config, changes) => {
      applied.push({ config, changes })
      await gate.wait
    },
    onFiles: (files) => watched.push(files),
  })
  return { clock, file, lines, applied, watched, reloader, gate }
}

const one = "mcpServers: {one: {url: 'http://localhost:3000/mcp'}}"
const two = "mcpServers: {one: {url: 'http://localhost:3000/mcp'}, two: {command: node}}"

describe('a reload', () => {
  it('applies what changed, says so, and is a success from then on', async () => {
    const { clock, file, lines, applied, watched, reloader } = setup(one)
    await clock.advance(5000)
    file.text = two
    const outcome = await reloader.reload('signal')
    expect(outcome.kind).toBe('reloaded')
    expect(applied).toHaveLength(1)
    expect(applied[0] && describeChanges(applied[0].changes)).toMatchObject({ added: ['two'], replaced: [] })
    expect(reloader.status()).toEqual({ successful: true, lastSuccessWallMs: clock.wallTime(), problem: undefined })
    expect(watched).toEqual([['a.yaml']])
    expect(lines.join('')).toContain('"msg":"the configuration was reloaded","cause":"signal","added":["two"]')
  })

  it('of a faulty file touches nothing, says why, and keeps the time of the last success', async () => {
    const { clock, file, lines, applied, reloader } = setup(one)
    const loadedAtMs = clock.wallTime()
    await clock.advance(5000)
    file.text = 'mcpServers: {one: {urll: x}}'
    const outcome = await reloader.reload('file')
    expect(outcome).toMatchObject({ kind: 'refused', problem: expect.stringContaining('urll') })
    expect(applied).toEqual([])
    expect(reloader.status()).toMatchObject({ successful: false, lastSuccessWallMs: loadedAtMs })
    expect(lines.join('')).toContain('the old one stays in force')
  })

  it.each([
    ['nothing', '', 'a.yaml: the file is empty; if nothing is meant, write {}'],
    ['a comment', '# mine\n', 'a.yaml: the file is empty; if nothing is meant, write {}'],
    ['no servers', 'max_sessions: 7', 'mcpServers: no server is left of those that run'],
    ['a block of servers without any', 'mcpServers:\n', 'mcpServers: no server is left of those that run'],
    ['an empty mapping', '{}', 'mcpServers: no server is left of those that run'],
  ])('of a file that may have been cut off, for it holds %s, removes nothing', async (_, text, problem) => {
    const { file, applied, reloader } = setup(two)
    file.text = text
    expect(await reloader.reload('file')).toEqual({ kind: 'refused', problem: expect.stringContaining(problem) })
    expect(applied).toEqual([])
    expect(reloader.status()).toMatchObject({ successful: false, problem: expect.stringContaining(problem) })
  })

  it('removes all servers if that is what the file says', async () => {
    const { file, applied, reloader } = setup(two)
    file.text = 'mcpServers: {}'
    expect(await reloader.reload('file')).toMatchObject({ kind: 'reloaded' })
    file.text = two.replace('command: node', 'command: node, disabled: true').replace("mcp'", "mcp', disabled: true")
    expect(await reloader.reload('file')).toMatchObject({ kind: 'reloaded' })
    file.text = one
    await reloader.reload('file')
    file.text = one.replace("mcp'", "mcp', disabled: true")
    expect(await reloader.reload('file')).toMatchObject({ kind: 'reloaded' })
    expect(applied.map(({ changes }) => changes.removed)).toEqual([['one', 'two'], [], [], ['one']])
  })

  it('goes on without servers where there were none', async () => {
    const { file, applied, reloader } = setup('max_sessions: 7')
    file.text = 'max_sessions: 8'
    expect(await reloader.reload('file')).toMatchObject({ kind: 'reloaded' })
    expect(applied).toHaveLength(1)
  })

  it('that works again compares with what is in force, not with what was refused', async () => {
    const { file, applied, reloader } = setup(one)
    file.text = 'listen: :7999\nallow_unauthenticated: true'
    await reloader.reload('request')
    file.text = two
    await reloader.reload('request')
    expect(applied.map(({ changes }) => describeChanges(changes).added)).toEqual([['two']])
    expect(reloader.status().successful).toBe(true)
  })

  it('waits for the one under way, and then reads the file anew', async () => {
    const { file, applied, reloader, gate } = setup(one)
    let open = (): void => undefined
    gate.wait = new Promise((resolve) => {
      open = resolve
    })
    file.text = two
    const first = reloader.reload('signal')
    const second = reloader.reload('signal')
    await Promise.resolve()
    file.text = one
    open()
    await Promise.all([first, second])
    expect(applied.map(({ changes }) => [describeChanges(changes).added, changes.removed])).toEqual([
      [['two'], []],
      [[], ['two']],
    ])
  })

  it('is refused after the end', async () => {
    const { applied, reloader } = setup(one)
    await reloader.stop()
    expect(await reloader.reload('signal')).toMatchObject({ kind: 'refused' })
    expect(applied).toEqual([])
  })
})
