import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { systemClock, type Clock } from '../../src/clock.ts'
import { findExecutable, findSetpriv } from '../../src/upstreams/executable.ts'
import { groupRuns, parseStat } from '../../src/upstreams/process-tree.ts'
import { describeExit, processStarter, type ExitReason, type ServerProcess } from '../../src/upstreams/process.ts'
import { Watchdog } from '../../src/upstreams/watchdog.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { isRunning } from '../support/processes.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-process-'))
const setprivPath = findSetpriv()
const onLinux = process.platform === 'linux'
const started: ServerProcess[] = []
const spawned: ChildProcess[] = []

afterEach(() => {
  for (const child of spawned.splice(0)) child.kill('SIGKILL')
  for (const server of started.splice(0)) server.kill('SIGKILL')
})
afterAll(() => rmSync(folder, { recursive: true }))

function file(name: string, text: string, mode: number): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

/** A stream's output, line by line. */
function reader(stream: Readable): () => Promise<string | undefined> {
  const lines = createInterface({ input: stream })[Symbol.asyncIterator]()
  return async () => (await lines.next()).value
}

/** Polls a condition outside of us, that no event tells of. */
const until = (condition: () => boolean) => vi.waitFor(() => expect(condition()).toBe(true), { timeout: 10_000 })

it.each<[ExitReason, string]>([
  [{ kind: 'exit', code: 3 }, 'exited with code 3'],
  [{ kind: 'exit', code: 126 }, 'exited with code 126 (its command cannot be executed)'],
  [{ kind: 'signal', signal: 'SIGKILL' }, 'was killed by SIGKILL'],
  [{ kind: 'spawn_failed', code: 'EAGAIN', message: 'no more' }, 'could not be started: EAGAIN (no more)'],
])('describes %j', (exit, text) => {
  expect(describeExit(exit)).toBe(text)
})

/** Whether a process ignores SIGTERM, the bit 14 of the mask in /proc/<pid>/status. */
function ignoresTerm(pid: number): boolean {
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0'
  return (BigInt(`0x${mask}`) & (1n << 14n)) !== 0n
}

const modes = [
  { mode: 'plain', setprivPath: undefined },
  ...(setprivPath ? [{ mode: 'behind setpriv', setprivPath }] : []),
]

describe.each(modes)('a process started $mode', ({ setprivPath }) => {
  interface Options {
    readonly clock?: Clock
    readonly stderrTailBytes?: number
    readonly env?: Record<string, string>
    readonly cwd?: string
  }
  function start(command: string, args: readonly string[], options: Options = {}): ServerProcess {
    const { clock = systemClock, stderrTailBytes = 1024, env = {}, cwd } = options
    const server = processStarter({ clock, setprivPath })({ command, args, env, cwd }, { stderrTailBytes })
    started.push(server)
    return server
  }
  const shell = (script: string, options?: Options) => start('sh', ['-c', script], options)

  it('gets our environment plus its own, its directory, and arguments untouched by any shell', async () => {
    const script = 'echo "$HOME|$GREETING|$PWD|$1"'
    const server = start('sh', ['-c', script, 'sh', '$(id) "*"'], { env: { GREETING: 'hi' }, cwd: folder })
    expect(await reader(server.stdout)()).toBe(`${process.env['HOME']}|hi|${folder}|$(id) "*"`)
    expect(await server.exited).toEqual({ kind: 'exit', code: 0 })
    expect(server.exit()).toEqual({ kind: 'exit', code: 0 })
  })

  it('is found in the PATH of its own environment', async () => {
    file('only-there', '#!/bin/sh\nexit 7\n', 0o755)
    const server = start('only-there', [], { env: { PATH: `${folder}:${process.env['PATH']}` } })
    expect(await server.exited).toEqual({ kind: 'exit', code: 7 })
  })

  it('leads a process group of its own', () => {
    const server = shell('sleep 1000')
    expect(server.pid).toBeGreaterThan(0)
    expect(groupRuns(server.pid ?? 0)).toBe(true)
  })

  it('has its last words on stderr at hand when its exit is known', async () => {
    const server = shell('echo "no config" >&2; exit 3')
    expect(await server.exited).toEqual({ kind: 'exit', code: 3 })
    expect(server.stderrTail()).toBe('no config\n')
  })

  it('tells the signal that killed it', async () => {
    const server = shell('kill -9 $$')
    expect(await server.exited).toEqual({ kind: 'signal', signal: 'SIGKILL' })
  })

  it.each([126, 127])('keeps its exit code %i', async (code) => {
    expect(await shell(`exit ${code}`).exited).toEqual({ kind: 'exit', code })
  })

  it.each([
    ['a name that PATH does not have', 'no-such-command', 'ENOENT', "there is no 'no-such-command' in PATH"],
    ['a path that is not there', './no-such-command', 'ENOENT', "there is no './no-such-command'"],
    ['an empty name', '', 'ENOENT', "there is no ''"],
    ['a folder', '/tmp', 'EACCES', "'/tmp' is not an executable file"],
    ['a file that must not be run', file('plain.txt', 'text', 0o644), 'EACCES', `'${folder}/plain.txt' is not`],
  ])('fails to start: %s', async (_name, command, code, message) => {
    const server = start(command, [])
    expect(server.pid).toBeUndefined()
    expect(await server.exited).toMatchObject({ kind: 'spawn_failed', code })
    expect(describeExit(await server.stop())).toContain(message)
    server.stdin.write('swallowed')
    expect(await reader(server.stdout)()).toBeUndefined()
  })

  it('fails to start in a directory that is not there, and says that it is the directory', async () => {
    const exit = await start('sh', [], { cwd: '/no/such/folder' }).exited
    expect(exit).toEqual({
      kind: 'spawn_failed',
      code: 'ENOENT',
      message: "there is no working directory '/no/such/folder'",
    })
  })

  it('fails to start with arguments that no process can have', async () => {
    expect(await start('sh', ['a\0b']).exited).toMatchObject({ kind: 'spawn_failed' })
    expect(await start('sh', ['x'.repeat(4_000_000)]).exited).toMatchObject({ kind: 'spawn_failed', code: 'E2BIG' })
  })

  it('can be told from a ready server when the interpreter of its script is missing', async () => {
    const exit = await start(file('broken', '#!/no/such/interpreter\n', 0o755), []).exited
    expect(exit).toMatchObject(setprivPath ? { kind: 'exit', code: 127 } : { kind: 'spawn_failed', code: 'ENOENT' })
  })

  it('survives a broken stdin: the write fails silently, the process goes on', async () => {
    const server = shell('exec <&-; echo closed; exec sleep 1000')
    expect(await reader(server.stdout)()).toBe('closed')
    const closed = new Promise((resolve) => server.stdin.once('close', resolve))
    server.stdin.write('anyone?\n')
    await closed
    expect(server.exit()).toBeUndefined()
  })

  it('keeps only the end of a 10 MB flood on stderr', async () => {
    const server = shell('head -c 10485760 /dev/zero | tr "\\0" x >&2; printf "the é end" >&2; read line', {
      stderrTailBytes: 64,
    })
    await until(() => server.stderrTail().endsWith('the é end'))
    expect(server.stderrTail()).toBe('x'.repeat(64 - 10) + 'the é end')
  })

  it('cuts the tail between two characters', async () => {
    const server = shell('printf "ééééé" >&2', { stderrTailBytes: 5 })
    await server.exited
    expect(server.stderrTail()).toBe('éé')
  })

  describe('stop', () => {
    it('ends at the end of stdin without any signal', async () => {
      const server = shell('cat; echo bye; exit 4')
      const line = reader(server.stdout)
      expect(await server.stop()).toEqual({ kind: 'exit', code: 4 })
      expect(await line()).toBe('bye')
    })

    it('ends stdin, then sends SIGTERM, then SIGKILL, each after its grace', async () => {
      const clock = fakeClock()
      const stubborn = `
        process.on('SIGTERM', () => console.log('term'))
        process.stdin.on('end', () => console.log('eof')).resume()
        setInterval(() => {}, 1000)
        console.log('up')`
      const server = start(process.execPath, ['-e', stubborn], { clock })
      const line = reader(server.stdout)
      expect(await line()).toBe('up')

      const stopped = server.stop()
      expect(await line()).toBe('eof')
      await clock.advance(3000)
      expect(await line()).toBe('term')
      await clock.advance(4999)
      expect(server.exit()).toBeUndefined()
      await clock.advance(1)
      expect(await stopped).toEqual({ kind: 'signal', signal: 'SIGKILL' })
      expect(server.stop()).toBe(server.stop())
    })

    it('ends by SIGTERM when it never looks at its stdin', async () => {
      const server = shell('exec sleep 1000')
      expect(await server.stop({ stdinGraceMs: 0 })).toEqual({ kind: 'signal', signal: 'SIGTERM' })
    })

    it('resolves with the exit of a process that had gone before', async () => {
      const server = shell('exit 5')
      await server.exited
      expect(await server.stop()).toEqual({ kind: 'exit', code: 5 })
    })

    it('takes the grandchildren along', async () => {
      const server = shell('sleep 1000 & echo $!; wait')
      const grandchild = Number(await reader(server.stdout)())
      expect(isRunning(grandchild)).toBe(true)
      await server.stop({ stdinGraceMs: 0 })
      expect(isRunning(grandchild)).toBe(false)
    })
  })

  it('is known to have exited while a grandchild holds its stdout, and the grandchild goes too', async () => {
    const server = shell('sleep 1000 & echo $!; exit 3')
    const ended = once(server.stdout, 'end')
    const grandchild = Number(await reader(server.stdout)())
    expect(await server.exited).toEqual({ kind: 'exit', code: 3 })
    await server.stop()
    expect(isRunning(grandchild)).toBe(false)
    await ended
  })

  it('leaves not even a grandchild that ignores SIGTERM', async () => {
    const clock = fakeClock()
    const server = shell(`trap '' TERM; sleep 1000 & echo $!; exit 3`, { clock })
    const grandchild = Number(await reader(server.stdout)())
    await server.exited
    const stopped = server.stop()
    await clock.advance(4999)
    expect(isRunning(grandchild)).toBe(true)
    await clock.advance(1)
    await until(() => !isRunning(grandchild))
    await clock.advance(1000)
    await stopped
  })
})

describe('when we are killed with -9', () => {
  it.runIf(onLinux).each([
    ['setpriv and watchdog', 'nobody'],
    ['watchdog', 'nobody'],
    ['setpriv', 'the grandchild'],
    ['nothing', 'both'],
  ])('protected by %s, %s stays behind', async (protections, survivors) => {
    const sidecar = spawn(process.execPath, ['test/peers/children/sidecar.ts', protections], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    spawned.push(sidecar)
    const pids = (await reader(sidecar.stdout)())?.trim().split(' ').map(Number) ?? []
    const [child = 0, grandchild = 0, watchdog] = pids
    expect([child, grandchild].every(isRunning)).toBe(true)

    sidecar.kill('SIGKILL')
    await once(sidecar, 'exit')
    if (watchdog) await until(() => !isRunning(watchdog))
    if (survivors !== 'both') await until(() => !isRunning(child))
    if (survivors === 'nobody') await until(() => !isRunning(grandchild))
    expect(isRunning(grandchild)).toBe(survivors !== 'nobody')
    for (const pid of [child, grandchild]) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  })
})

describe('watchdog', () => {
  const sleeper = () => {
    const server = processStarter({ clock: systemClock })(
      { command: 'sleep', args: ['1000'], env: {} },
      { stderrTailBytes: 0 },
    )
    started.push(server)
    return server
  }

  it('kills the groups it watches when it is closed, and not those it was told to forget', async () => {
    const watchdog = new Watchdog()
    const [first, second, third] = [sleeper(), sleeper(), sleeper()]
    for (const { pid = 0 } of [first, second, third]) watchdog.watch(pid)
    watchdog.forget(second.pid ?? 0)
    watchdog.close()
    const killed: ExitReason = { kind: 'signal', signal: 'SIGKILL' }
    expect(await Promise.all([first.exited, third.exited])).toEqual([killed, killed])
    expect(second.exit()).toBeUndefined()
  })

  it.runIf(onLinux)('survives the signals that everybody gets, and is replaced after being killed', async () => {
    const watchdog = new Watchdog()
    const [first, second] = [sleeper(), sleeper()]
    watchdog.watch(first.pid ?? 0)
    const shell = watchdog.pid() ?? 0
    // It does not ignore signals before it has set its traps, which we see in its signal mask.
    await until(() => isRunning(shell) && ignoresTerm(shell))
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(shell, signal)
    expect(isRunning(shell)).toBe(true)

    process.kill(shell, 'SIGKILL')
    await until(() => watchdog.pid() === undefined)
    watchdog.watch(second.pid ?? 0)
    watchdog.close()
    expect((await first.exited).kind).toBe('signal')
    expect((await second.exited).kind).toBe('signal')
  })

  it('is told of a group only while it runs', async () => {
    const log: string[] = []
    const watchdog = { watch: () => log.push('watch'), forget: () => log.push('forget') }
    const start = processStarter({ clock: systemClock, watchdog })
    const server = start({ command: 'sh', args: ['-c', 'exit 0'], env: {} }, { stderrTailBytes: 0 })
    start({ command: 'no-such-command', args: [], env: {} }, { stderrTailBytes: 0 })
    expect(log).toEqual(['watch'])
    await server.exited
    await server.stop()
    expect(log).toEqual(['watch', 'forget'])
  })
})

describe('/proc', () => {
  it.each([
    ['1 (systemd) S 0 1 1 0 -1', { pid: 1, state: 'S', parentPid: 0, groupId: 1 }],
    ['42 (a) b) Z) Z 7 40 40 0', { pid: 42, state: 'Z', parentPid: 7, groupId: 40 }],
    [
      '9 (sh) R 8 9 9 0 -1 4194304 100 0 0 0 1 20 300 4000 20 0 6 0 1489019 3133440 396 18446744073709551615',
      { pid: 9, state: 'R', cpuTicks: 4321, threads: 6, residentPages: 396 },
    ],
    ['', undefined],
    ['junk', undefined],
  ])('reads %j', (line, stat) => {
    const parsed = parseStat(line)
    if (stat) expect(parsed).toMatchObject(stat)
    else expect(parsed).toBeUndefined()
  })

  it.runIf(onLinux)('does not take a zombie for alive, alone or in its group', async () => {
    // The inner shell leads a group (setsid) and ends after its parent has become another program, which never waits.
    const script = `exec 3<&0; setsid sh -c 'read line <&3' & echo $!; exec sleep 1000`
    const parent = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore'] })
    spawned.push(parent)
    const zombie = Number(await reader(parent.stdout)())
    // Before that, it is a shell, which may wait for whatever ends.
    await until(() => readFileSync(`/proc/${parent.pid}/comm`, 'latin1') === 'sleep\n')
    parent.stdin.end('go\n')
    await until(() => !isRunning(zombie))
    expect([process.kill(zombie, 0), process.kill(-zombie, 0)]).toEqual([true, true])
    expect(groupRuns(zombie)).toBe(false)
  })

  it('says of a pid that nobody has that it is not alive', () => {
    expect(isRunning(2 ** 22 + 1)).toBe(false)
    expect(groupRuns(2 ** 22 + 1)).toBe(false)
  })
})

describe('findExecutable', () => {
  const denied = file('both', 'text', 0o644)
  it('goes on past a file that must not be run, and remembers it', () => {
    expect(findExecutable('both', { path: `${folder}:/usr/bin` })).toEqual({ kind: 'missing', code: 'EACCES' })
    expect(findExecutable(denied, {})).toEqual({ kind: 'missing', code: 'EACCES' })
  })

  it('reads an empty or relative PATH entry from the working directory', () => {
    const path = file('here', '#!/bin/sh\n', 0o755)
    expect(findExecutable('here', { path: ':/nowhere', cwd: folder })).toEqual({ kind: 'found', path })
    expect(findExecutable('./here', { path: '', cwd: folder })).toEqual({ kind: 'found', path })
  })

  it('refuses a setpriv without a parent-death signal, such as the one of busybox', () => {
    file('setpriv', '#!/bin/sh\nexit 1\n', 0o755)
    expect(findSetpriv(folder)).toBeUndefined()
  })
})
