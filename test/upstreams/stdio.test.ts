import { describe, expect, it } from 'vitest'
import { KnownError, errorCode } from '../../src/errors.ts'
import { stdioLink } from '../../src/upstreams/link.ts'
import { type Line, type LineListener, StdioUpstream } from '../../src/upstreams/stdio.ts'
import { StartGate, type StartLane } from '../../src/upstreams/start-gate.ts'
import type { ResidentPolicy, RestartPolicy } from '../../src/upstreams/upstream.ts'
import { readEnvelope } from '../../src/wire/envelope.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'
import { type FakeProcess, type FakeProcessOptions, fakeProcess, unstartable } from '../support/fake-process.ts'

const crash = { kind: 'exit', code: 1 } as const
const nobody: LineListener = { onMessage: () => {}, onClose: () => {} }

interface Options {
  readonly resident?: ResidentPolicy
  readonly spareProcesses?: number
  readonly starts?: StartLane
  readonly policy?: RestartPolicy
  readonly process?: (pid: number) => FakeProcessOptions | 'unstartable'
}

/** A stdio upstream in virtual time whose resident processes are ready at once unless `handshake` is off. */
function upstreamOf(options: Options = {}) {
  const { resident = 'when_idle', spareProcesses = 0, starts = new StartGate(4).lane(), process = () => ({}) } = options
  const clock = fakeClock()
  const processes: FakeProcess[] = []
  const log: string[] = []
  const heard: string[] = []
  const closed: (number | undefined)[] = []
  const gone: string[] = []
  const test = { handshake: true, sessions: 0 }
  const say = (text: string) => void log.push(text)
  const upstream: StdioUpstream = new StdioUpstream({
    target: { transport: 'stdio', launch: { command: 'x', args: [], env: {} }, resident, spareProcesses },
    clock,
    random: () => 1,
    starts,
    startDeadlineMs: 60_000,
    maxLineBytes: 1000,
    policy: () => options.policy ?? 'always',
    isStopped: () => false,
    startProcess: () => {
      const pid = processes.length + 1
      const options = process(pid)
      if (options === 'unstartable') return unstartable()
      const started = fakeProcess({ pid, ...options })
      processes.push(started)
      say(`start ${pid}`)
      void started.exited.then(() => say(`end ${pid}`))
      return started
    },
    events: {
      onSessionStarted: () => void (test.sessions += 1),
      onResidentStarted: (line) => {
        say(`resident ${line.process.pid}`)
        if (test.handshake) upstream.residentReady(line)
      },
      onSpareExited: (process, _exit, { kind }) => say(`spare ${process.pid} exited: ${kind}`),
      onCrash: (line, _exit, others) => say(`crash ${line.process.pid} (${others} others)`),
      onStartFailed: (why) => say(`start failed: ${why}`),
      onGivenUp: (why) => say(`given up: ${why}`),
      onRestart: (reason) => say(`restart: ${reason}`),
      onResidentGone: (why) => void gone.push(why),
      onCrashLoop: () => say('crash loop'),
      onIdle: () => say('idle'),
      onLeftDown: (why) => say(`left down: ${why}`),
      onDropped: (reason) => say(`dropped: ${reason}`),
      onResidentMessage: (_line, message) => void heard.push(message.toString()),
      onResidentClosed: (line) => void closed.push(line.process.pid),
    },
  })
  const settle = () => clock.advance(0).then(() => clock.advance(0))
  const running = () => processes.filter((one) => !one.exit()).map(({ pid }) => pid)
  const at = (pid: number) => {
    const found = processes[pid - 1]
    if (!found) throw new Error(`process ${pid} was not started`)
    return found
  }
  /** What was logged since the last look. */
  const news = () => log.splice(0)
  return { upstream, clock, processes, heard, closed, gone, test, settle, running, at, news }
}

async function started(options?: Options) {
  const test = upstreamOf(options)
  test.upstream.start()
  await test.settle()
  return test
}

/** What a promise came to so far. */
function outcomeOf(promise: Promise<Line>): { readonly value: () => string } {
  let value = 'pending'
  promise.then(
    (line) => (value = `line ${line.process.pid}`),
    (error: unknown) => (value = errorCode(error)),
  )
  return { value: () => value }
}

describe('the resident process (design.md, "Data paths")', () => {
  it('leaves before a session’s process starts, and returns after the last session has ended', async () => {
    const { upstream, settle, news } = await started()
    const first = await upstream.openSession('a', nobody)
    const second = await upstream.openSession('b', nobody)
    expect(news()).toEqual(['start 1', 'resident 1', 'end 1', 'start 2', 'start 3'])
    await upstream.closeSession(first)
    await settle()
    expect(news()).toEqual(['end 2'])
    await upstream.closeSession(second)
    await settle()
    expect(news()).toEqual(['end 3', 'start 4', 'resident 4'])
  })

  it('is given the time to leave: a session waits until it has gone', async () => {
    const { upstream, settle, news, at } = await started({ process: (pid) => ({ isStubborn: pid === 1 }) })
    const opening = outcomeOf(upstream.openSession('a', nobody))
    await settle()
    expect(news()).toEqual(['start 1', 'resident 1'])
    expect(at(1).wasStopped()).toBe(true)
    at(1).end(crash)
    await settle()
    expect(opening.value()).toBe('line 2')
    // However it ended: we ended it.
    expect(news().filter((text) => /crash|restart/.test(text))).toEqual([])
  })

  it('returns even when the session that it left for ends while it is leaving', async () => {
    const { upstream, settle, news, at, running } = await started({ process: (pid) => ({ isStubborn: pid === 1 }) })
    const session = upstream.openSession('a', nobody)
    await settle()
    at(1).end(crash)
    await upstream.closeSession(await session)
    await settle()
    expect(running()).toEqual([3])
    expect(news()).toContain('resident 3')
  })

  describe('lets nothing start beside what is still leaving, where no other session is open', () => {
    const leaving = (pid: number) => ({ isStubborn: pid === 2 })

    it('be it for a client that comes back at once', async () => {
      const { upstream, settle, news, at, running } = await started({ process: leaving })
      const closing = upstream.closeSession(await upstream.openSession('a', nobody))
      const opening = outcomeOf(upstream.openSession('b', nobody))
      await settle()
      expect(running()).toEqual([2])
      at(2).end(crash)
      await closing
      await settle()
      expect(opening.value()).toBe('line 3')
      expect(running()).toEqual([3])
      expect(news().filter((text) => /crash|restart|failed/.test(text))).toEqual([])
    })

    it('be it for a modern request', async () => {
      const { upstream, settle, at, running } = await started({ process: leaving })
      void upstream.closeSession(await upstream.openSession('a', nobody))
      const borrowing = outcomeOf(Promise.resolve(upstream.borrowResident()))
      await settle()
      expect(running()).toEqual([2])
      at(2).end(crash)
      await settle()
      expect(borrowing.value()).toBe('line 3')
    })

    it('be it the end of a process that hangs, or what is left of one that crashed', async () => {
      const { upstream, settle, at, running } = await started({ process: leaving })
      upstream.endSession(await upstream.openSession('a', nobody), 'hung')
      const opening = outcomeOf(upstream.openSession('b', nobody))
      await settle()
      expect(running()).toEqual([2])
      at(2).end(crash)
      await settle()
      expect(opening.value()).toBe('line 3')
    })

    it('but beside another session nobody waits, nor where spare processes say that several may run', async () => {
      const { upstream, running } = await started({ process: leaving })
      const first = await upstream.openSession('a', nobody)
      const second = await upstream.openSession('b', nobody)
      void upstream.closeSession(first)
      const third = await upstream.openSession('c', nobody)
      expect(running()).toEqual([2, second.process.pid, third.process.pid])
      await upstream.closeSession(second)
    })
  })

  it('stays under `always`', async () => {
    const { upstream, running } = await started({ resident: 'always' })
    await upstream.openSession('a', nobody)
    expect(running()).toEqual([1, 2])
  })

  it('does not run under `never`, which is idle while there is no session', async () => {
    const { upstream, news, settle, test } = await started({ resident: 'never' })
    expect(news()).toEqual(['idle'])
    const line = await upstream.openSession('a', nobody)
    expect(test.sessions).toBe(1)
    await upstream.closeSession(line)
    await settle()
    expect(news()).toEqual(['start 1', 'end 1', 'idle'])
  })

  it('that leaves fails the heartbeat under way as cancelled: it says nothing about the server', async () => {
    const { upstream } = await started({ process: () => ({ script: () => undefined }) })
    const ping = upstream.residentLine()?.peer.request({ method: 'ping', timeoutMs: 10_000 })
    const session = await upstream.openSession('a', nobody)
    await expect(ping).rejects.toMatchObject({ code: 'cancelled' })
    const inSession = session.peer.request({ method: 'ping', timeoutMs: 10_000 })
    await Promise.all([upstream.closeSession(session), expect(inSession).rejects.toMatchObject({ code: 'cancelled' })])
  })

  it('speaks to nobody else: answers to our own requests stay with us, and those of another sidecar pass', async () => {
    const { upstream, at, heard, settle } = await started()
    const answer = await upstream.residentLine()?.peer.request({ method: 'ping', timeoutMs: 1000 })
    expect(answer?.error).toBeUndefined()
    at(1).say({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    at(1).say({ jsonrpc: '2.0', id: 'vitals-of-another', result: {} })
    at(1).say({ jsonrpc: '2.0', id: 7, result: {} })
    await settle()
    expect(heard).toEqual([
      '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
      '{"jsonrpc":"2.0","id":"vitals-of-another","result":{}}',
      '{"jsonrpc":"2.0","id":7,"result":{}}',
    ])
  })
})

describe('borrowing the resident process for modern requests', () => {
  it('hands it out at once when it is ready', async () => {
    const { upstream } = await started()
    expect((await upstream.borrowResident()).process.pid).toBe(1)
  })

  it('waits for its handshake while it starts', async () => {
    const { upstream, test, settle } = upstreamOf()
    test.handshake = false
    upstream.start()
    await settle()
    const borrowers = [
      outcomeOf(Promise.resolve(upstream.borrowResident())),
      outcomeOf(Promise.resolve(upstream.borrowResident())),
    ]
    await settle()
    expect(borrowers.map(({ value }) => value())).toEqual(['pending', 'pending'])
    const line = upstream.residentLine()
    if (line) upstream.residentReady(line)
    await settle()
    expect(borrowers.map(({ value }) => value())).toEqual(['line 1', 'line 1'])
  })

  it('starts it while sessions exist, and ends it a minute after the last use', async () => {
    const { upstream, clock, running } = await started()
    await upstream.openSession('a', nobody)
    expect(running()).toEqual([2])
    expect((await upstream.borrowResident()).process.pid).toBe(3)
    await clock.advance(300_000)
    expect(running()).toEqual([2, 3])
    upstream.releaseResident()
    await clock.advance(59_999)
    expect(running()).toEqual([2, 3])
    await clock.advance(1)
    expect(running()).toEqual([2])
  })

  it('counts that minute from the last use, however many came before', async () => {
    const { upstream, clock, running } = await started()
    await upstream.openSession('a', nobody)
    for (const pauseMs of [1000, 50_000, 59_999]) {
      await upstream.borrowResident()
      upstream.releaseResident()
      await clock.advance(pauseMs)
    }
    expect(running()).toEqual([2, 3])
    await clock.advance(1)
    expect(running()).toEqual([2])
  })

  it('keeps it while it is borrowed again, and while no session exists', async () => {
    const { upstream, clock, running } = await started()
    const session = await upstream.openSession('a', nobody)
    await upstream.borrowResident()
    upstream.releaseResident()
    await clock.advance(50_000)
    await upstream.borrowResident()
    await clock.advance(50_000)
    upstream.releaseResident()
    await upstream.closeSession(session)
    await clock.advance(60_000)
    expect(running()).toEqual([3])
  })

  it('keeps it from leaving for a session as long as it is in use', async () => {
    const { upstream, running } = await started()
    await upstream.borrowResident()
    await upstream.openSession('a', nobody)
    expect(running()).toEqual([1, 2])
  })

  it('gets the next one when the last has just been sent away', async () => {
    const { upstream, settle, at } = await started({ process: (pid) => ({ isStubborn: pid === 1 }) })
    const session = outcomeOf(upstream.openSession('a', nobody))
    const borrower = outcomeOf(Promise.resolve(upstream.borrowResident()))
    await settle()
    expect([session.value(), borrower.value()]).toEqual(['pending', 'pending'])
    at(1).end(crash)
    await settle()
    expect([session.value(), borrower.value()].toSorted()).toEqual(['line 2', 'line 3'])
  })

  it('runs it under `never` only for this, and is idle again afterwards', async () => {
    const { upstream, clock, news } = await started({ resident: 'never' })
    await upstream.borrowResident()
    upstream.releaseResident()
    await clock.advance(60_000)
    expect(news()).toEqual(['idle', 'start 1', 'resident 1', 'end 1', 'idle'])
  })

  it('is refused in a back-off, also to those who wait already, and in a crash loop', async () => {
    const { upstream, test, settle, at, clock, news } = upstreamOf()
    test.handshake = false
    upstream.start()
    await settle()
    at(1).end(crash) // Restarted at once,
    await settle()
    const waiting = outcomeOf(Promise.resolve(upstream.borrowResident()))
    at(2).end(crash) // and then after a second.
    await settle()
    expect(waiting.value()).toBe('upstream_exited')
    expect(outcomeOf(Promise.resolve(upstream.borrowResident())).value()).toBe('pending')
    const refusal = { code: 'upstream_restarting', retryAfterSeconds: 1 }
    await expect(upstream.borrowResident()).rejects.toMatchObject(refusal)
    for (let start = 3; start <= 10; start++) {
      await clock.advance(60_000)
      at(start).end(crash)
      await settle()
    }
    expect(news()).toContain('crash loop')
    const message = expect.stringMatching(
      /^the server process exited with code 1; 10 starts .*; the next start comes in/,
    )
    await expect(upstream.borrowResident()).rejects.toMatchObject({ code: 'upstream_restarting', message })
  })
})

describe('the restart law (restart.ts) holds for clients, too', () => {
  it('a back-off lets no session start anything, and the next start comes when it would have come', async () => {
    const { upstream, test, at, clock, news, settle } = upstreamOf()
    test.handshake = false
    upstream.start()
    await clock.advance(0)
    at(1).end(crash) // Restarted at once, then after a second, and then after two.
    await settle()
    at(2).end(crash)
    await clock.advance(1000)
    at(3).end(crash)
    await clock.advance(300)
    const refusal = { code: 'upstream_restarting', retryAfterSeconds: 2 }
    for (let client = 0; client < 8; client++)
      await expect(upstream.openSession('a', nobody)).rejects.toMatchObject(refusal)
    expect(news().filter((entry) => entry.startsWith('start'))).toEqual(['start 1', 'start 2', 'start 3'])
    await clock.advance(1699)
    expect(news()).toEqual([])
    await clock.advance(1)
    expect(news()).toEqual(['start 4', 'restart: exit', 'resident 4'])
    await expect(upstream.openSession('a', nobody)).resolves.toMatchObject({ role: 'session' })
  })

  it('a back-off after the crash of what had worked refuses no session: to start one is to use the server', async () => {
    const { upstream, at, clock, news, settle } = await started()
    at(1).end(crash)
    await settle()
    at(2).end(crash)
    await clock.advance(300)
    await expect(upstream.borrowResident()).rejects.toMatchObject({ code: 'upstream_restarting', retryAfterSeconds: 1 })
    expect(upstream.nextStartInMs()).toBe(700)
    news()
    const line = await upstream.openSession('a', nobody)
    await upstream.closeSession(line)
    await settle()
    expect(upstream.nextStartInMs()).toBe(700)
    await clock.advance(699)
    expect(news().filter((entry) => entry.startsWith('start'))).toEqual(['start 3'])
    await clock.advance(1)
    expect(news()).toContain('start 4')
  })

  it('a session’s process that ends before its first word is a start that failed', async () => {
    const { upstream, test, at, clock, news, processes, settle } = upstreamOf()
    test.handshake = false
    upstream.start()
    await settle()
    for (const [start, waitMs] of [0, 1000, 2000, 4000].entries()) {
      await upstream.openSession('a', nobody)
      news()
      at(processes.length).end(crash)
      await settle()
      expect(upstream.nextStartInMs(), `after ${start} that failed`).toBe(waitMs === 0 ? undefined : waitMs)
      await clock.advance(waitMs)
      expect(news()).toContain('restart: exit')
    }
  })

  it('one client whose words end its process keeps no other out: a start that succeeds forgives those before', async () => {
    const { upstream, at, clock, processes, settle } = await started({ resident: 'never' })
    const open = async () => {
      await upstream.openSession('a', nobody)
      return at(processes.length)
    }
    for (let day = 0; day < 12; day++) {
      for (let times = 0; times < 2; times++) (await open()).end(crash)
      await settle()
      expect(upstream.nextStartInMs()).toBeUndefined()
      const good = await open()
      good.say({ jsonrpc: '2.0', id: 1, result: {} })
      await settle()
      good.end({ kind: 'exit', code: 0 })
      await settle()
    }
    for (let times = 0; times < 3; times++) (await open()).end(crash)
    await settle()
    await expect(open()).rejects.toMatchObject({ code: 'upstream_restarting', retryAfterSeconds: 2 })
    await clock.advance(2000)
    const good = await open()
    good.say({ jsonrpc: '2.0', id: 1, result: {} })
    await settle()
    await expect(open()).resolves.toBeDefined()
  })

  it('a resident process that is ready forgives them too, and waits no longer for them', async () => {
    const { upstream, at, processes, settle } = await started()
    for (let times = 0; times < 12; times++) {
      await upstream.openSession('a', nobody)
      at(processes.length).end(crash)
      await settle()
      expect(upstream.residentLine()?.opened).toBe(true)
    }
  })

  it('one that cannot ever run is a crash loop at once, and under `never` clients alone try again', async () => {
    const { upstream, at, clock, processes, news } = await started({ resident: 'never' })
    await upstream.openSession('a', nobody)
    at(1).end({ kind: 'exit', code: 127 })
    await clock.advance(1000)
    expect(news().at(-1)).toBe('crash loop')
    const refusal = { code: 'upstream_restarting', retryAfterSeconds: 599 }
    await expect(upstream.openSession('a', nobody)).rejects.toMatchObject(refusal)
    expect(upstream.nextStartInMs()).toBe(599_000)
    await clock.advance(600_000)
    expect([processes.length, upstream.nextStartInMs()]).toEqual([1, undefined])
    const line = await upstream.openSession('a', nobody)
    at(2).say({ jsonrpc: '2.0', id: 1, result: {} })
    await clock.advance(0)
    await upstream.closeSession(line)
    expect([news().at(-1), upstream.nextStartInMs()]).toEqual(['idle', undefined])
  })

  it('one that served for two minutes clears the record', async () => {
    const { upstream, at, clock, settle } = await started()
    at(1).end(crash)
    await settle()
    const line = await upstream.openSession('a', nobody)
    at(3).say({ jsonrpc: '2.0', id: 1, result: {} })
    await clock.advance(120_000)
    await upstream.closeSession(line)
    await settle()
    at(4).end(crash) // Another one would wait for a second.
    await settle()
    expect(upstream.residentLine()?.process.pid).toBe(5)
  })
})

describe('a crash', () => {
  it('of the resident process is told, and it is restarted by its supervisor', async () => {
    const { at, settle, news, closed } = await started()
    news()
    at(1).end({ kind: 'signal', signal: 'SIGKILL' })
    await settle()
    expect(closed).toEqual([1])
    expect(news()).toEqual(['end 1', 'crash 1 (0 others)', 'start 2', 'restart: signal', 'resident 2'])
  })

  it('of one of two sessions leaves the other, and restarts nothing', async () => {
    const { upstream, at, settle, news } = await started()
    await upstream.openSession('a', nobody)
    await upstream.openSession('b', nobody)
    news()
    at(2).end(crash)
    await settle()
    expect(news()).toEqual(['end 2', 'crash 2 (1 others)'])
  })

  it('of the last session brings the resident process back, counted as one restart', async () => {
    const { upstream, at, settle, news } = await started()
    await upstream.openSession('a', nobody)
    news()
    at(2).end({ kind: 'signal', signal: 'SIGSEGV' })
    await settle()
    expect(news()).toEqual(['end 2', 'crash 2 (0 others)', 'start 3', 'restart: signal', 'resident 3'])
  })

  it('of the last session under `never` leaves nothing to restart', async () => {
    const { upstream, at, settle, news } = await started({ resident: 'never' })
    await upstream.openSession('a', nobody)
    news()
    at(1).end(crash)
    await settle()
    expect(news()).toEqual(['end 1', 'crash 1 (0 others)', 'idle'])
  })

  it('fails what was asked of the process, and tells its session', async () => {
    const closed: string[] = []
    const { upstream, at, settle } = await started({ process: () => ({ script: () => undefined }) })
    const line = await upstream.openSession('a', {
      onMessage: () => {},
      onClose: ({ message }) => closed.push(message),
    })
    const ping = line.peer.request({ method: 'ping', timeoutMs: 10_000 })
    await settle()
    at(2).end(crash)
    await expect(ping).rejects.toMatchObject({ code: 'upstream_exited', message: 'process 2 exited with code 1' })
    expect(closed).toEqual(['process 2 exited with code 1'])
  })
})

describe('a session', () => {
  it('hears everything that its process says but the answers to our heartbeats', async () => {
    const heard: string[] = []
    const { upstream, at, settle } = await started()
    const line = await upstream.openSession('a', { ...nobody, onMessage: (message) => heard.push(message.toString()) })
    await line.peer.request({ method: 'ping', timeoutMs: 1000 })
    at(2).say({ jsonrpc: '2.0', id: 1, result: {} })
    await settle()
    expect(heard).toEqual(['{"jsonrpc":"2.0","id":1,"result":{}}'])
  })

  it('cannot be opened when its process cannot be started, which takes an upstream with nothing else down', async () => {
    const { upstream, news } = await started({ process: (pid) => (pid === 2 ? 'unstartable' : {}) })
    await expect(upstream.openSession('a', nobody)).rejects.toMatchObject({ code: 'upstream_exited' })
    expect(news()).toContain("start failed: the process could not be started: ENOENT (there is no 'x' in PATH)")
  })
})

describe('a start for a session', () => {
  const mute = { script: () => undefined }

  it('holds its place until the server has said its first word', async () => {
    const { upstream, at, settle } = await started({
      resident: 'never',
      starts: new StartGate(1).lane(),
      process: () => mute,
    })
    await upstream.openSession('a', nobody)
    const second = outcomeOf(upstream.openSession('b', nobody))
    await settle()
    expect(second.value()).toBe('pending')
    at(1).say({ jsonrpc: '2.0', id: 1, result: {} })
    await settle()
    expect(second.value()).toBe('line 2')
  })

  it.each([
    ['for two seconds at most', (clock: FakeClock) => clock.advance(2000)],
    ['until its process ends', (_clock: FakeClock, first: FakeProcess) => Promise.resolve(first.end(crash))],
  ])('holds its place %s', async (_title, end) => {
    const { upstream, clock, at, settle } = await started({
      resident: 'never',
      starts: new StartGate(1).lane(),
      process: () => mute,
    })
    await upstream.openSession('a', nobody)
    const second = outcomeOf(upstream.openSession('b', nobody))
    await clock.advance(1999)
    expect(second.value()).toBe('pending')
    await end(clock, at(1))
    await settle()
    expect(second.value()).toBe('line 2')
  })

  it('is not made for a client that left while it waited for its place', async () => {
    const gate = new StartGate(1).lane()
    const { upstream, processes, settle } = await started({ resident: 'never', starts: gate })
    const release = await gate.acquire()
    const leaving = new AbortController()
    const opening = outcomeOf(upstream.openSession('a', nobody, leaving.signal))
    await settle()
    leaving.abort()
    release()
    await settle()
    expect([opening.value(), processes.length]).toEqual(['cancelled', 0])
  })

  it('that cannot be made gives its place back', async () => {
    const { upstream, clock } = await started({
      resident: 'never',
      starts: new StartGate(1).lane(),
      process: (pid) => (pid === 1 ? 'unstartable' : {}),
    })
    await expect(upstream.openSession('a', nobody)).rejects.toMatchObject({ code: 'upstream_exited' })
    await clock.advance(600_000) // What cannot be started is not tried again before.
    await expect(upstream.openSession('b', nobody)).rejects.toMatchObject({ code: 'upstream_exited' })
  })
})

describe('a spare process (spare.ts)', () => {
  it('is a session’s at once, and hears nothing before', async () => {
    const heard: string[] = []
    const { upstream, clock, at, settle } = await started({ resident: 'never', spareProcesses: 1 })
    at(1).say({ jsonrpc: '2.0', method: 'notifications/message' })
    await clock.advance(10_000)
    expect(upstream.spareProcesses().map(({ pid }) => pid)).toEqual([1])
    const line = await upstream.openSession('a', { ...nobody, onMessage: (message) => heard.push(message.toString()) })
    await settle()
    expect([line.process.pid, line.session, at(1).heard]).toEqual([1, 'a', []])
    // What it said before it was taken is for its session.
    expect(heard).toEqual(['{"jsonrpc":"2.0","method":"notifications/message"}'])
  })

  it('needs no place among the starts, and nobody to leave first', async () => {
    const gate = new StartGate(1).lane()
    const { upstream, clock, news, running } = await started({
      spareProcesses: 1,
      starts: gate,
      process: (pid) => ({ isStubborn: pid === 1 }),
    })
    await clock.advance(10_000)
    await gate.acquire()
    expect(news()).toEqual(['start 1', 'resident 1', 'start 2'])
    expect((await upstream.openSession('a', nobody)).process.pid).toBe(2)
    expect(running()).toEqual([1, 2])
  })

  it('is no session until it is one: its end is no crash of the server', async () => {
    const { upstream, at, settle, news } = await started({ resident: 'never', spareProcesses: 1 })
    news()
    expect(upstream.sessionLines()).toEqual([])
    at(1).end(crash)
    await settle()
    expect(news()).toEqual(['end 1', 'spare 1 exited: restart', 'start 2', 'restart: exit'])
  })

  it('that is taken and crashes is a crash like any other', async () => {
    const { upstream, at, settle, news, clock } = await started({ resident: 'never', spareProcesses: 1 })
    await clock.advance(10_000)
    await upstream.openSession('a', nobody)
    news()
    at(1).end(crash)
    await settle()
    expect(news()).toEqual(['end 1', 'crash 1 (0 others)', 'idle'])
  })

  it('ends with the upstream', async () => {
    const { upstream, clock, running, settle } = await started({ spareProcesses: 2 })
    await clock.advance(10_000)
    expect(running()).toEqual([1, 2, 3])
    await upstream.stop()
    await settle()
    expect([running(), clock.pending()]).toEqual([[], 0])
  })
})

describe('stop()', () => {
  it('leaves nothing: no process, no timer, nobody who waits', async () => {
    const { upstream, running, clock, settle } = await started()
    await upstream.openSession('a', nobody)
    await upstream.borrowResident()
    expect(running()).toEqual([2, 3])
    await upstream.stop()
    upstream.releaseResident()
    await settle()
    expect(running()).toEqual([])
    expect(clock.pending()).toBe(0)
    await expect(upstream.borrowResident()).rejects.toMatchObject({ code: 'shutting_down' })
    await expect(upstream.openSession('b', nobody)).rejects.toMatchObject({ code: 'shutting_down' })
    expect(running()).toEqual([])
  })

  it('ends a session that is just being opened', async () => {
    const { upstream, running, at, settle } = await started({ process: (pid) => ({ isStubborn: pid === 1 }) })
    const opening = outcomeOf(upstream.openSession('a', nobody))
    const stopping = upstream.stop()
    at(1).end(crash)
    await stopping
    await settle()
    expect(opening.value()).toBe('shutting_down')
    expect(running()).toEqual([])
  })

  it('tells of no crash', async () => {
    const { upstream, news, settle } = await started()
    await upstream.openSession('a', nobody)
    news()
    await upstream.stop()
    await settle()
    expect(news()).toEqual(['end 2'])
  })
})

describe('what is ended to be replaced', () => {
  it('is no crash: the resident process starts anew by the law, and its clients hear that it is closed', async () => {
    const { upstream, closed, settle, news } = await started()
    news()
    upstream.restartResident('hung')
    upstream.restartResident('hung')
    await settle()
    expect(news()).toEqual(['end 1', 'start 2', 'restart: hung', 'resident 2'])
    expect(closed).toEqual([1])
  })

  it('leaves nobody to be asked until the next one is started, unless a session has a process', async () => {
    const { upstream, gone, settle } = await started({ resident: 'always' })
    upstream.restartResident('hung')
    await settle()
    expect(gone).toEqual(['was stopped to be restarted (hung)'])
    await upstream.openSession('a', nobody)
    upstream.restartResident('memory')
    await settle()
    expect(gone).toHaveLength(1)
  })

  it('tells the client of a session that its process is gone, and lets the resident process take its place', async () => {
    const { upstream, settle, news } = await started()
    const why: string[] = []
    const line = await upstream.openSession('a', { ...nobody, onClose: ({ code }) => why.push(code) })
    news()
    upstream.endSession(line, 'hung')
    upstream.endSession(line, 'memory')
    await settle()
    expect(news()).toEqual(['end 2', 'restart: hung', 'start 3', 'resident 3'])
    expect(why).toEqual(['upstream_exited'])
  })

  it('for its memory is told as what we did: to its client, and as the last process that ended', async () => {
    const { upstream, settle, news } = await started()
    const why: KnownError[] = []
    const line = await upstream.openSession('a', { ...nobody, onClose: (error) => why.push(error) })
    news()
    upstream.endSession(line, 'memory', 'it uses 196 MiB of memory, more than 120 MiB')
    await settle()
    expect(news()).toEqual(['end 2', 'restart: memory', 'start 3', 'resident 3'])
    const message = 'we ended process 2: it uses 196 MiB of memory, more than 120 MiB'
    expect(why).toEqual([new KnownError('shutting_down', message)])
    expect(upstream.lastEnded()?.why).toBe('it uses 196 MiB of memory, more than 120 MiB')
  })

  it('for its memory says so of the resident process, too', async () => {
    const { upstream, gone, settle } = await started({ resident: 'always' })
    upstream.restartResident('memory', 'it uses 196 MiB of memory, more than 120 MiB')
    await settle()
    expect(gone).toEqual(['was stopped to be restarted (it uses 196 MiB of memory, more than 120 MiB)'])
    expect(upstream.lastEnded()?.why).toBe('it uses 196 MiB of memory, more than 120 MiB')
  })

  it('is replaced by nobody while another session has a process', async () => {
    const { upstream, settle, news } = await started()
    const line = await upstream.openSession('a', nobody)
    await upstream.openSession('b', nobody)
    news()
    upstream.endSession(line, 'hung')
    await settle()
    expect(news()).toEqual(['end 2'])
  })

  it('is not replaced when we are about to stop', async () => {
    const { upstream, at, settle, running } = await started({ spareProcesses: 1 })
    upstream.startNoMore()
    await settle()
    at(1).end(crash)
    await settle()
    expect(running()).toEqual([])
  })
})

describe('a resident process that is not always started again', () => {
  it('is idle after exit 0 under on_failure, and starts when a client needs it', async () => {
    const { upstream, at, settle, news } = await started({ policy: 'on_failure' })
    news()
    at(1).end({ kind: 'exit', code: 0 })
    await settle()
    expect(news()).toEqual(['end 1', 'idle'])
    const line = await upstream.borrowResident()
    expect(line.process.pid).toBe(2)
    expect(news()).toEqual(['start 2', 'resident 2'])
  })

  it('stays down under never, and tells clients so', async () => {
    const { upstream, at, settle, news } = await started({ policy: 'never' })
    news()
    at(1).end({ kind: 'exit', code: 0 })
    await settle()
    expect(news()).toEqual([
      'end 1',
      'crash 1 (0 others)',
      'left down: the resident process exited with code 0 (restart: never)',
    ])
    await expect(upstream.borrowResident()).rejects.toMatchObject({
      code: 'upstream_exited',
      message: expect.stringContaining('restart: never'),
    })
    await upstream.tryAgain('config')
    expect(news()).toEqual(['start 2', 'restart: config', 'resident 2'])
  })

  it('stays down under never when sessions have come and gone, however they went', async () => {
    const { upstream, at, clock, settle, news, running } = await started({ policy: 'never' })
    at(1).end(crash)
    await settle()
    const down = 'left down: the resident process exited with code 1 (restart: never)'
    expect(news().at(-1)).toBe(down)
    const served = await upstream.openSession('a', nobody)
    at(2).say({ jsonrpc: '2.0', id: 1, result: {} })
    await expect(upstream.borrowResident()).rejects.toMatchObject({ code: 'upstream_exited' })
    upstream.releaseResident()
    await clock.advance(150_000)
    await upstream.closeSession(served)
    await settle()
    expect(news()).toEqual(['start 2', 'end 2', down])
    for (const word of [[], [{ jsonrpc: '2.0', id: 1, result: {} }]]) {
      const line = await upstream.openSession('a', nobody)
      const process = at(line.process.pid ?? 0)
      process.say(...word)
      await settle()
      process.end(crash)
      await settle()
      expect(news().slice(1)).toEqual([`end ${process.pid}`, `crash ${process.pid} (0 others)`, down])
    }
    expect(running()).toEqual([])
    await upstream.tryAgain('manual')
    await settle()
    expect(running()).toEqual([5])
  })
})

describe('a process that is about to be replaced', () => {
  it('is not lent to new requests', async () => {
    const { upstream } = await started()
    const line = upstream.residentLine()
    if (line) line.isLeaving = true
    await expect(upstream.borrowResident()).rejects.toMatchObject({ code: 'shutting_down' })
  })

  it('gets no new request of its session, but answers and notifications', async () => {
    const { upstream, at, settle } = await started()
    const link = stdioLink(upstream, 'a', { onMessage: () => {}, onClose: () => {} })
    const headers = () => new Map<string, string>()
    await link.open(headers)
    const [line] = upstream.sessionLines()
    if (line) line.isLeaving = true
    const send = (message: object) => {
      const bytes = Buffer.from(JSON.stringify(message))
      const envelope = readEnvelope(bytes)
      if (!envelope) throw new Error('no message')
      return link.send(bytes, envelope, headers)
    }
    await expect(send({ jsonrpc: '2.0', id: 1, method: 'ping' })).rejects.toMatchObject({ code: 'shutting_down' })
    await send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } })
    await send({ jsonrpc: '2.0', id: 7, result: {} })
    await settle()
    expect(at(2).heard).toHaveLength(2)
  })
})
