import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { ExitReason, ServerProcess } from '../../src/upstreams/process.ts'
import { StartGate } from '../../src/upstreams/start-gate.ts'
import { Supervisor, type SupervisorState, restartRefusal } from '../../src/upstreams/supervisor.ts'
import type { RestartPolicy } from '../../src/upstreams/upstream.ts'
import { fakeClock } from '../support/fake-clock.ts'

interface FakeProcess extends ServerProcess {
  end(exit: ExitReason): void
}

const crash: ExitReason = { kind: 'exit', code: 1 }
const noCommand: ExitReason = { kind: 'spawn_failed', code: 'ENOENT', message: "there is no 'x' in PATH" }

/** A process that ends when told to; `stop` ends it by SIGTERM unless it is stubborn. */
function fakeProcess(pid: number | undefined, stubborn = false): FakeProcess {
  const { promise, resolve } = Promise.withResolvers<ExitReason>()
  let exit: ExitReason | undefined
  const end = (reason: ExitReason) => {
    exit ??= reason
    resolve(exit)
  }
  return {
    pid,
    startedAtMs: 0,
    startedAtWallMs: 0,
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderrTail: () => '',
    lastStderrMs: () => 0,
    exited: promise,
    exit: () => exit,
    stop: () => {
      if (!stubborn) end({ kind: 'signal', signal: 'SIGTERM' })
      return promise
    },
    kill: () => {},
    end,
  }
}

/** A supervisor with jitter at its upper end (whole delays), and a log of what it told, with times in seconds. */
function supervised(script: (start: number) => FakeProcess = fakeProcess, gate = new StartGate(4)) {
  const clock = fakeClock()
  const log: string[] = []
  const hooks: { onStarted?: () => void } = {}
  const test: { policy: RestartPolicy } = { policy: 'always' }
  const processes: FakeProcess[] = []
  const say = (text: string) => log.push(`${clock.now() / 1000} s: ${text}`)
  const supervisor = new Supervisor({
    clock,
    random: () => 1,
    starts: gate.lane(),
    startDeadlineMs: 60_000,
    policy: () => test.policy,
    start: () => {
      const process = script(processes.length + 1)
      processes.push(process)
      return process
    },
    events: {
      onStarted: (process, restart) => {
        say(`started ${process.pid}${restart ? ` (${restart})` : ''}`)
        hooks.onStarted?.()
      },
      onExited: (exit, _process, isCrash) =>
        say(`${isCrash ? 'exited' : 'ended'} ${exit.kind === 'exit' ? exit.code : exit.kind}`),
      onGivenUp: (_process, why) => say(`gives up: ${why}`),
      onWaiting: (delayMs, why) => say(`waits ${delayMs / 1000} s: ${why}`),
      onCrashLoop: (why, retryInMs) => say(`gives up for ${retryInMs / 1000} s: ${why}`),
      onRest: (why, isFailure) => say(`rests${isFailure ? ' down' : ''}: ${why}`),
    },
  })
  const last = () => {
    const process = processes.at(-1)
    if (!process) throw new Error('nothing was started')
    return process
  }
  /** What was told since the last call. */
  const news = () => log.splice(0)
  return { clock, supervisor, processes, last, news, hooks, test }
}

it('rests after exit 0 under on_failure, until somebody wants it, which is no restart', async () => {
  const { clock, supervisor, last, news, test } = supervised()
  test.policy = 'on_failure'
  supervisor.start()
  await clock.advance(0)
  supervisor.ready()
  news()
  last().end({ kind: 'exit', code: 0 })
  await clock.advance(3_600_000)
  expect(supervisor.state()).toBe('resting')
  expect(news()).toEqual(['0 s: ended 0', '0 s: rests: exited with code 0 (restart: on_failure)'])
  supervisor.wake()
  await clock.advance(0)
  expect(news()).toEqual(['3600 s: started 2'])
  last().end(crash)
  await clock.advance(0)
  expect(news()).toEqual(['3600 s: exited 1', '3600 s: waits 0 s: exited with code 1', '3600 s: started 3 (exit)'])
})

it('leaves it down under never, until somebody asks for another try or for the end', async () => {
  const { clock, supervisor, last, news, test } = supervised()
  test.policy = 'never'
  supervisor.start()
  await clock.advance(0)
  news()
  last().end(crash)
  await clock.advance(3_600_000)
  expect(supervisor.state()).toBe('left_down')
  expect(news()).toEqual(['0 s: exited 1', '0 s: rests down: exited with code 1 (restart: never)'])
  await supervisor.tryAgain('manual')
  expect(news()).toEqual(['3600 s: started 2 (manual)'])
  last().end(crash)
  await clock.advance(0)
  await supervisor.stop()
  expect(supervisor.state()).toBe('stopped')
  expect(clock.pending()).toBe(0)
})

it('starts nothing more while we are about to stop, and leaves alone what runs', async () => {
  const { clock, supervisor, last, news } = supervised()
  supervisor.start()
  await clock.advance(0)
  supervisor.ready()
  supervisor.startNoMore()
  expect(supervisor.state()).toBe('ready')
  news()
  last().end(crash)
  await clock.advance(600_000)
  expect(news()).toEqual(['0 s: exited 1'])
  await supervisor.stop()
  expect(clock.pending()).toBe(0)
})

it('starts nothing more when it waits for its next start', async () => {
  const { clock, supervisor, last, processes } = supervised()
  supervisor.start()
  for (let start = 1; start <= 2; start++) {
    await clock.advance(0)
    last().end(crash)
  }
  await clock.advance(0)
  expect(supervisor.state()).toBe('waiting')
  supervisor.startNoMore()
  await clock.advance(600_000)
  expect(processes.length).toBe(2)
})

it('ends a process once, however often it is told to start it again', async () => {
  const { clock, supervisor, last, news } = supervised(() => fakeProcess(1, true))
  supervisor.start()
  await clock.advance(0)
  supervisor.ready()
  news()
  void supervisor.restart('hung')
  void supervisor.restart('memory')
  last().end(crash)
  await clock.advance(0)
  expect(news()).toEqual([
    '0 s: ended 1',
    '0 s: waits 0 s: was stopped to be restarted (hung)',
    '0 s: started 1 (hung)',
  ])
})

it('restarts at once, then backs off, and forgets the crashes after 120 s ready', async () => {
  const { clock, supervisor, last, news } = supervised()
  supervisor.start()
  await clock.advance(0)
  expect(supervisor.state()).toBe('starting')
  supervisor.ready()
  expect(supervisor.state()).toBe('ready')

  last().end(crash)
  await clock.advance(0)
  expect(news()).toEqual([
    '0 s: started 1',
    '0 s: exited 1',
    '0 s: waits 0 s: exited with code 1',
    '0 s: started 2 (exit)',
  ])

  supervisor.ready()
  last().end({ kind: 'signal', signal: 'SIGSEGV' })
  await clock.advance(999)
  expect(supervisor.state()).toBe('waiting')
  expect(supervisor.current()).toBeUndefined()
  expect(supervisor.nextStartInMs()).toBe(1)
  await clock.advance(1)
  expect(supervisor.nextStartInMs()).toBeUndefined()
  expect(news()).toEqual(['0 s: exited signal', '0 s: waits 1 s: was killed by SIGSEGV', '1 s: started 3 (signal)'])

  supervisor.ready()
  await clock.advance(120_000)
  last().end(crash)
  await clock.advance(0)
  expect(news()).toEqual(['121 s: exited 1', '121 s: waits 0 s: exited with code 1', '121 s: started 4 (exit)'])
  expect(supervisor.restarts()).toBe(3)
})

it('stops a start that is not ready in time; ready after that comes too late', async () => {
  const { clock, supervisor, last, news } = supervised((start) => fakeProcess(start, true))
  supervisor.start()
  await clock.advance(60_000)
  supervisor.ready()
  expect(supervisor.state()).toBe('waiting')
  last().end({ kind: 'signal', signal: 'SIGKILL' })
  await clock.advance(0)
  expect(news()).toEqual([
    '0 s: started 1',
    '60 s: gives up: process 1 was not ready within 60 s, and is stopped',
    '60 s: ended signal',
    '60 s: waits 0 s: was not ready within 60 s',
    '60 s: started 2 (hung)',
  ])
})

it('gives up after ten starts that never became ready, and looks again every 10 minutes', async () => {
  const { clock, supervisor, processes, news } = supervised((start) => {
    const process = fakeProcess(start)
    if (start < 12) process.end(crash)
    return process
  })
  supervisor.start()
  await clock.advance(243_000) // 0 + 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60, and 60 s to spare.
  expect(processes.length).toBe(10)
  expect(supervisor.state()).toBe('crash_loop')
  expect(news().at(-1)).toBe('183 s: gives up for 600 s: exited with code 1; 10 starts never became ready')

  await clock.advance(540_000)
  expect(news().at(-1)).toBe('783 s: gives up for 600 s: exited with code 1; 11 starts never became ready')
  await clock.advance(600_000)
  supervisor.ready()
  expect(news()).toEqual(['1383 s: started 12 (exit)'])
  expect(supervisor.state()).toBe('ready')
})

it('gives up at once when there is no such command; its first success is not a restart', async () => {
  const { clock, supervisor, news } = supervised((start) => {
    const process = fakeProcess(start === 1 ? undefined : start)
    if (start === 1) process.end(noCommand)
    return process
  })
  supervisor.start()
  await clock.advance(600_000)
  expect(news()).toEqual([
    '0 s: exited spawn_failed',
    "0 s: gives up for 600 s: could not be started: ENOENT (there is no 'x' in PATH)",
    '600 s: started 2',
  ])
  expect(supervisor.restarts()).toBe(0)
})

describe('restart', () => {
  it('stops gracefully and starts again at once, counted with its reason', async () => {
    const { clock, supervisor, news } = supervised()
    supervisor.start()
    await clock.advance(0)
    supervisor.ready()
    await clock.advance(30_000)
    await supervisor.restart('hung')
    await clock.advance(0)
    expect(news().slice(1)).toEqual([
      '30 s: ended signal',
      '30 s: waits 0 s: was stopped to be restarted (hung)',
      '30 s: started 2 (hung)',
    ])
  })

  it('says of a process that takes its time that it is being ended, so that nobody asks it any more', async () => {
    const { clock, supervisor, processes } = supervised((start) => fakeProcess(start, start === 1))
    supervisor.start()
    await clock.advance(0)
    supervisor.ready()
    expect(supervisor.state()).toBe('ready')
    const restarted = supervisor.restart('hung')
    await clock.advance(8000)
    expect(supervisor.state()).toBe('waiting')
    processes[0]?.end({ kind: 'signal', signal: 'SIGKILL' })
    await restarted
    await clock.advance(0)
    expect(supervisor.state()).toBe('starting')
  })
})

describe('another try', () => {
  it('comes at once in a crash loop when somebody asks for it, which no restart does', async () => {
    const { clock, supervisor, news } = supervised((start) => {
      const process = fakeProcess(start)
      if (start === 1) process.end({ kind: 'exit', code: 127 })
      return process
    })
    supervisor.start()
    await clock.advance(1000)
    await supervisor.restart('memory')
    await clock.advance(0)
    expect(supervisor.state()).toBe('crash_loop')
    await supervisor.tryAgain('config')
    expect(news().at(-1)).toBe('1 s: started 2 (config)')
    expect(clock.pending()).toBe(2) // The deadline of this start, and its place at the gate, only.
  })

  it('is not lost when it comes between an exit and the end of the last grandchild', async () => {
    const groupGone = Promise.withResolvers<ExitReason>()
    const { clock, supervisor, processes, last, news } = supervised((start) => ({
      ...fakeProcess(start),
      stop: () => groupGone.promise,
    }))
    supervisor.start()
    await clock.advance(0)
    last().end(crash)
    await clock.advance(1000)
    expect([supervisor.state(), supervisor.current(), processes.length]).toEqual(['waiting', undefined, 1])
    const begun = supervisor.tryAgain('manual')
    groupGone.resolve(crash)
    await clock.advance(0)
    await begun
    expect(news().at(-1)).toBe('1 s: started 2 (manual)')
  })

  it('is one try: what fails at once is in its crash loop again, for ten minutes from then on', async () => {
    const { clock, supervisor, news } = supervised((start) => {
      const process = fakeProcess(start)
      process.end({ kind: 'exit', code: 127 })
      return process
    })
    supervisor.start()
    await clock.advance(300_000)
    news()
    await supervisor.tryAgain('manual')
    await clock.advance(0)
    const why = 'exited with code 127 (its command or interpreter was not found)'
    expect(news()).toEqual(['300 s: started 2 (manual)', '300 s: exited 127', `300 s: gives up for 600 s: ${why}`])
    await clock.advance(599_999)
    expect(news()).toEqual([])
  })

  it('forgets a wait that it was stopped in, so that whoever starts it next need not wait', async () => {
    const { clock, supervisor, last, news } = supervised()
    supervisor.start()
    await clock.advance(0)
    last().end({ kind: 'exit', code: 127 })
    await clock.advance(0)
    await supervisor.stop()
    expect(supervisor.heldBack()).toMatchObject({ leftMs: 600_000 })
    news()
    await supervisor.tryAgain('manual')
    expect([supervisor.heldBack(), news()]).toEqual([undefined, []])
    supervisor.start()
    await clock.advance(0)
    expect(news()).toEqual(['0 s: started 2'])
  })

  it('waits for its turn at the gate, or until nothing is to be started any more', async () => {
    const gate = new StartGate(1)
    const { clock, supervisor, last, processes } = supervised(fakeProcess, gate)
    supervisor.start()
    await clock.advance(0)
    last().end({ kind: 'exit', code: 127 })
    await clock.advance(0)
    const release = await gate.lane().acquire()
    let isBegun = false
    const asked = supervisor.tryAgain('manual').then(() => (isBegun = true))
    await clock.advance(60_000)
    expect([isBegun, processes.length]).toEqual([false, 1])
    await supervisor.stop()
    await asked
    release()
    expect(processes.length).toBe(1)
  })

  it.each(['starting', 'ready', 'resting', 'stopped'] as const)('is none for one that is %s', async (state) => {
    const { clock, supervisor, last, processes, test } = supervised()
    test.policy = 'on_failure'
    if (state !== 'stopped') supervisor.start()
    await clock.advance(0)
    if (state === 'ready' || state === 'resting') supervisor.ready()
    if (state === 'resting') last().end({ kind: 'exit', code: 0 })
    await clock.advance(0)
    expect(supervisor.state()).toBe(state)
    const before = processes.length
    await supervisor.tryAgain('config')
    await clock.advance(1000)
    expect([supervisor.state(), processes.length]).toEqual([state, before])
  })
})

describe('what it would have told', () => {
  it.each([
    ['always', 127, { kind: 'crash_loop', reason: expect.stringContaining('; the next try comes in 600 s') }],
    ['always', 1, { kind: 'gone', reason: 'it exited with code 1' }],
    ['never', 1, { kind: 'lost', reason: 'it exited with code 1 (restart: never)' }],
    ['on_failure', 0, { kind: 'idle', reason: 'it exited with code 0 (restart: on_failure)' }],
  ] as const)('can be asked for (restart: %s, code %i)', async (policy, code, absence) => {
    const { clock, supervisor, last, test } = supervised()
    test.policy = policy
    supervisor.start()
    await clock.advance(0)
    expect(supervisor.absence('it')).toBeUndefined()
    for (let start = 1; start <= 3 && supervisor.current(); start++) {
      last().end({ kind: 'exit', code })
      await clock.advance(0)
    }
    expect(supervisor.absence('it')).toEqual(absence)
    void supervisor.tryAgain('manual')
    supervisor.wake()
    await clock.advance(0)
    expect(supervisor.absence('it')).toBeUndefined()
    await supervisor.stop()
  })
})

describe('stop', () => {
  it('keeps the law and what is left of a wait for the next start', async () => {
    const { clock, supervisor, last, news } = supervised()
    supervisor.start()
    for (let start = 1; start <= 3; start++) {
      await clock.advance(start === 3 ? 1000 : 0)
      last().end(crash)
    }
    await clock.advance(0)
    expect(news().at(-1)).toBe('1 s: waits 2 s: exited with code 1')
    await supervisor.stop()
    expect([supervisor.state(), supervisor.nextStartInMs()]).toEqual(['stopped', undefined])
    expect(supervisor.heldBack()).toEqual({ leftMs: 2000, why: 'exited with code 1' })
    await clock.advance(500)
    supervisor.start()
    await clock.advance(1500)
    expect(news()).toEqual(['1.5 s: waits 1.5 s: exited with code 1', '3 s: started 4 (exit)'])
    last().end(crash)
    await clock.advance(0)
    await supervisor.stop()
    expect(news().at(-1)).toBe('3 s: waits 4 s: exited with code 1')
    await clock.advance(60_000)
    expect(supervisor.heldBack()).toBeUndefined()
    supervisor.start()
    await clock.advance(0)
    expect(news()).toEqual(['63 s: started 5 (exit)'])
    await supervisor.stop()
    expect(clock.pending()).toBe(0)
  })

  it('after 120 s ready forgets the crashes; a crash loop goes on where it was', async () => {
    const { clock, supervisor, last, news } = supervised()
    supervisor.start()
    for (let start = 1; start <= 2; start++) {
      await clock.advance(1000)
      supervisor.ready()
      await clock.advance(start === 1 ? 0 : 120_000)
      if (start === 1) last().end(crash)
    }
    await supervisor.stop()
    supervisor.start()
    await clock.advance(0)
    last().end({ kind: 'exit', code: 127 })
    await clock.advance(100_000)
    await supervisor.stop()
    news()
    supervisor.start()
    await clock.advance(0)
    expect(supervisor.state()).toBe('crash_loop')
    expect(news()).toEqual([
      '222 s: gives up for 500 s: exited with code 127 (its command or interpreter was not found)',
    ])
    await supervisor.stop()
  })

  it('is no restart, leaves no timer, and start begins afresh', async () => {
    const { clock, supervisor, news } = supervised()
    supervisor.start()
    await clock.advance(0)
    await supervisor.stop()
    expect(supervisor.state()).toBe('stopped')
    expect(clock.pending()).toBe(0)
    await clock.advance(600_000)
    supervisor.start()
    await clock.advance(0)
    expect(news()).toEqual(['0 s: started 1', '0 s: exited signal', '600 s: started 2'])
  })

  it('may be asked for by the listener that hears of the start', async () => {
    const { clock, supervisor, news, hooks } = supervised()
    hooks.onStarted = () => void supervisor.stop()
    supervisor.start()
    await clock.advance(0)
    expect(news()).toEqual(['0 s: started 1', '0 s: exited signal'])
    expect(supervisor.state()).toBe('stopped')
    expect(clock.pending()).toBe(0)
  })

  it('waits for a process that is slow to go, and a start asked for meanwhile waits too', async () => {
    const { clock, supervisor, last, news } = supervised((start) => fakeProcess(start, true))
    supervisor.start()
    await clock.advance(0)
    const stopped = supervisor.stop()
    supervisor.start()
    await clock.advance(70_000)
    expect(news()).toEqual(['0 s: started 1'])
    last().end(crash)
    await stopped
    await clock.advance(0)
    expect(news()).toEqual(['70 s: exited 1', '70 s: started 2'])
  })

  it.each([
    ['while it waits', 5],
    ['in a crash loop', 400],
  ])('ends at once %s', async (_when, afterSeconds) => {
    const { clock, supervisor, news } = supervised((start) => {
      const process = fakeProcess(start)
      process.end(crash)
      return process
    })
    supervisor.start()
    await clock.advance(afterSeconds * 1000)
    news()
    await supervisor.stop()
    await clock.advance(3_600_000)
    expect(news()).toEqual([])
    expect(clock.pending()).toBe(0)
  })
})

describe('start gate', () => {
  it('lets four start at a time; the next goes when one is ready or over', async () => {
    const gate = new StartGate(4)
    const all = [1, 2, 3, 4, 5, 6].map(() => supervised(fakeProcess, gate))
    const started = () => all.map(({ processes }) => processes.length).join('')
    for (const { supervisor } of all) supervisor.start()
    for (const { clock } of all) await clock.advance(0)
    expect(started()).toBe('111100')
    all[1]?.supervisor.ready()
    await all[4]?.clock.advance(0)
    expect(started()).toBe('111110')
    await all[0]?.supervisor.stop()
    await all[5]?.clock.advance(0)
    expect(started()).toBe('111111')
  })

  it('lets the next go after two seconds of one that hangs: its place is given back once', async () => {
    const gate = new StartGate(1)
    const [hung, second, third] = [
      supervised(fakeProcess, gate),
      supervised(fakeProcess, gate),
      supervised(fakeProcess, gate),
    ]
    for (const { supervisor } of [hung, second, third]) supervisor.start()
    await hung.clock.advance(1999)
    expect(second.processes.length).toBe(0)
    await hung.clock.advance(1)
    expect(second.processes.length).toBe(1)
    await hung.clock.advance(58_000)
    expect(hung.news().some((text) => text.includes('was not ready within 60 s'))).toBe(true)
    expect(third.processes.length).toBe(0)
    second.supervisor.ready()
    await third.clock.advance(0)
    expect(third.processes.length).toBe(1)
  })

  it('lets go of one that is stopped in the queue', async () => {
    const gate = new StartGate(1)
    const [first, second, third] = [
      supervised(fakeProcess, gate),
      supervised(fakeProcess, gate),
      supervised(fakeProcess, gate),
    ]
    for (const { supervisor } of [first, second, third]) supervisor.start()
    await first.clock.advance(0)
    await second.supervisor.stop()
    first.supervisor.ready()
    await third.clock.advance(0)
    expect([second.processes.length, third.processes.length]).toEqual([0, 1])
  })
})

describe('a restart because somebody else thinks so', () => {
  it.each<[SupervisorState, string | undefined]>([
    ['ready', undefined],
    ['starting', 'its process is being started already'],
    ['waiting', 'no process of it runs, and the next start comes by itself'],
    ['crash_loop', 'no process of it runs, and the next start comes by itself'],
    ['resting', 'no process of it runs, and none should'],
    ['left_down', 'no process of it runs, and none should'],
    ['stopped', 'no process of it runs, and none should'],
  ])('while it is %s: %s', (state, refusal) => {
    expect(restartRefusal(state, 'always')).toBe(refusal)
    expect(restartRefusal(state, 'on_failure')).toBe(refusal)
    expect(restartRefusal(state, 'never')).toBe('nothing would start it again (restart: never)')
  })
})
