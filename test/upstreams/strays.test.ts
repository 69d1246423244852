/** What servers start outside of their process group goes with them, and nobody else. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { type ServerProcess, processStarter } from '../../src/upstreams/process.ts'
import { Strays, originVariable } from '../../src/upstreams/strays.ts'
import { eventually } from '../support/eventually.ts'
import { groupMembers, isRunning, markedProcesses, nameOf } from '../support/processes.ts'

const onLinux = process.platform === 'linux'
const marks: string[] = []
const strangers: ChildProcess[] = []

afterEach(() => {
  vi.unstubAllEnvs()
  for (const stranger of strangers.splice(0)) stranger.kill('SIGKILL')
  for (const mark of marks.splice(0)) for (const pid of markedProcesses(mark)) process.kill(pid, 'SIGKILL')
})

interface Shell {
  readonly server: ServerProcess
  readonly running: () => readonly number[]
}

function starter() {
  const found: number[][] = []
  const strays = new Strays({ clock: systemClock, onFound: (pids) => found.push([...pids]) })
  const start = processStarter({ clock: systemClock, strays })
  /** Starts a shell, and tells what of it runs, wherever it has gone. */
  const shell = (script: string, env: Readonly<Record<string, string>> = {}): Shell => {
    const mark = randomUUID()
    marks.push(mark)
    const command = { command: 'sh', args: ['-c', script], env: { STRAY_TEST: mark, ...env } }
    const server = start(command, { stderrTailBytes: 1024 })
    return { server, running: () => markedProcesses(mark) }
  }
  return { shell, found, strays }
}

const leader = 'exec sleep 1000'
/** Ways out of the group. Each leaves one process. */
const ways: Readonly<Record<string, string>> = {
  'in a session of its own': 'setsid sleep 1000 &',
  'whose parents have all gone': '(setsid sh -c "sleep 1000 & exec sleep 0.01" &);',
  'that ignores SIGTERM': `setsid sh -c "trap '' TERM; exec sleep 1000" &`,
}

/** The server runs, and something that has left its group by now. No shell is left: it could still start another. */
const both = ({ server: { pid = 0 }, running }: Shell) =>
  eventually(() => (isSleeping(running()) && groupMembers(pid).length === 1) || undefined, {
    what: 'the server and what left its group',
  })

const isSleeping = (pids: readonly number[]) => pids.length === 2 && pids.every((pid) => nameOf(pid) === 'sleep')

describe.runIf(onLinux).each(Object.keys(ways))('a grandchild %s', (way) => {
  it('goes when the server is stopped', async () => {
    const { shell, found } = starter()
    const { server, running } = shell(`${ways[way]} ${leader}`)
    await both({ server, running })
    await server.stop({ stdinGraceMs: 0 })
    expect(running()).toEqual([])
    expect(found).toEqual([[expect.any(Number)]])
    expect(found).not.toEqual([[server.pid]])
  })

  it('goes when the server was killed, before another can be started', async () => {
    const { shell } = starter()
    const { server, running } = shell(`${ways[way]} ${leader}`)
    await both({ server, running })
    process.kill(server.pid ?? 0, 'SIGKILL')
    await server.exited
    await server.stop()
    expect(running()).toEqual([])
  })
})

describe.runIf(onLinux)('what is not a server’s own', () => {
  it('stays: that of another start, of nobody, and what was started without the variable', async () => {
    const { shell } = starter()
    const ended = shell(`setsid env -u ${originVariable} sleep 1000 & ${leader}`)
    const other = shell(`${ways['in a session of its own']} ${leader}`)
    const stranger = spawn('sleep', ['1000'], { detached: true })
    strangers.push(stranger)
    await Promise.all([both(ended), both(other), once(stranger, 'spawn')])
    const named = () => markedProcesses(`${originVariable}=`)
    await eventually(() => ended.running().some((pid) => !named().includes(pid)) || undefined, {
      what: 'one runs without the variable',
    })
    await ended.server.stop({ stdinGraceMs: 0 })
    expect(ended.running().length).toBe(1)
    expect(other.running().length).toBe(2)
    expect(isRunning(stranger.pid ?? 0)).toBe(true)
  })

  it('stays, where the environment of the command sets the variable', async () => {
    const { shell, found } = starter()
    const { server, running } = shell(`${ways['in a session of its own']} ${leader}`, { [originVariable]: '' })
    await both({ server, running })
    await server.stop({ stdinGraceMs: 0 })
    expect([running().length, found]).toEqual([1, []])
  })
})

describe.runIf(onLinux)('an mcp-vitals inside of another', () => {
  it('has the names of both starts handed on, so that each finds what is its own', async () => {
    const outer = starter()
    const start = outer.strays.origin({})
    for (const [name, value] of Object.entries(start?.env ?? {})) vi.stubEnv(name, value)
    const inner = starter()
    const { server, running } = inner.shell(`${ways['in a session of its own']} ${leader}`)
    await both({ server, running })
    // As if the inner one had been killed before it could end anything.
    await start?.end()
    expect(running()).toEqual([])
    await server.exited
  })
})

it.runIf(onLinux)('many that end at once share a look, and none is missed', async () => {
  const { shell } = starter()
  const servers = Array.from({ length: 8 }, () => shell(`${ways['in a session of its own']} ${leader}`))
  await Promise.all(servers.map(both))
  await Promise.all(servers.map(({ server }) => server.stop({ stdinGraceMs: 0 })))
  expect(servers.flatMap(({ running }) => running())).toEqual([])
})
