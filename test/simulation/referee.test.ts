import { describe, expect, it } from 'vitest'
import { heartbeatOf } from '../../src/config/heartbeat.ts'
import { firstDecision } from '../../src/heartbeat/interval.ts'
import { type Verdict, newVerdict } from '../../src/heartbeat/verdict.ts'
import { simulatedLimits } from './carriage.ts'
import type { Fault } from './faults.ts'
import { KnownError } from '../../src/errors.ts'
import { limited } from '../../src/upstreams/queue.ts'
import type { ProbeMode } from '../../src/heartbeat/probe.ts'
import type { RestartPolicy } from '../../src/upstreams/upstream.ts'
import { Referee, type Rule } from './referee.ts'
import type { ProcessEvent } from './server.ts'

const { intervalMs: initialMs, adaptive } = heartbeatOf([])
const law = {
  adaptive: true,
  initialMs,
  minMs: adaptive.minIntervalMs,
  maxMs: adaptive.maxIntervalMs,
  errorBased: true,
  loadBased: true,
  thresholdsEnabled: true,
  errorRateThresholdRatio: 0.05,
  responseTimeThresholdMs: 1000,
}

/** A game of one server, `a`, in which the test says what happens. */
function game(
  servers: readonly string[] = ['a'],
  { restart = 'always', probe = 'active' }: { readonly restart?: RestartPolicy; readonly probe?: ProbeMode } = {},
) {
  let nowMs = 0
  let fault: Fault['kind'] | undefined
  let verdict = newVerdict('healthy', 'ping answered', 0)
  let [intervalMs, unavailableSeconds] = [initialMs, 0]
  const interval = firstDecision(law)
  const referee = new Referee({
    now: () => nowMs,
    minMs: law.minMs,
    maxMs: law.maxMs,
    isBounded: true,
    faultOf: () => fault,
    hadFault: () => fault !== undefined,
    tell: () => undefined,
  })
  const clock = { now: () => nowMs, wallTime: () => nowMs, after: () => ({ cancel: () => undefined }) }
  const limits = limited(clock, { limits: simulatedLimits }, (_from, to) => to === 'open' && referee.circuitOpened('a'))
  for (const name of servers)
    referee.watch(name, {
      kind: 'url',
      glance: () => ({ verdict, interval: { ...interval, intervalMs }, probe, pausedUntilWallMs: undefined }),
      unavailableSeconds: () => unavailableSeconds,
      limits,
      restart,
      probe,
      hasMemoryLimit: true,
      asksInSessions: true,
    })
  return {
    referee,
    at: (ms: number) => (nowMs = ms),
    fault: (kind: Fault['kind'] | undefined) => {
      fault = kind
      referee.serving('a', kind === undefined)
    },
    become: (state: Verdict['state'], reason = 'no answer within 2000 ms', failingSinceMs = nowMs) => {
      const from = verdict.state
      verdict = { ...verdict, state, reason, failingSinceMs }
      referee.changed('a', from)
    },
    interval: (ms: number) => (intervalMs = ms),
    unavailable: (seconds: number) => (unavailableSeconds = seconds),
    probe: (dueMs = nowMs) => {
      referee.probeStarts('a', dueMs)
      referee.asked('a', 'ping')
      referee.slotFreed()
      referee.probeEnds('a')
    },
    limits,
    /** A request that ends at once. */
    request: (how: 'ok' | 'failed' | 'nothing') => {
      const permit = limits.breaker.enter()
      const ticket = referee.requestStarts('a', 0)
      referee.requestEnds('a', ticket, how)
      if (!(permit instanceof KnownError)) permit.release()
      if (how === 'ok') limits.breaker.succeeded()
      if (how === 'failed') limits.breaker.failed('connection reset')
    },
    process: (...events: readonly ProcessEvent[]) => {
      for (const event of events) referee.process('a', event)
    },
    broken: () => [...new Set(referee.violations.map(({ rule }) => rule))],
  }
}
type Game = ReturnType<typeof game>

const queueFull = new KnownError('queue_full', 'no room')

/** An outage of the proper kind, found in time and dated right. */
function properOutage({ at, fault, become, unavailable }: Game): void {
  fault(undefined)
  at(100_000)
  fault('hang')
  at(125_000)
  become('suspect')
  at(140_000)
  become('down', '3 misses in a row: no answer within 2000 ms', 123_000)
  at(200_000)
  fault(undefined)
  at(205_000)
  unavailable(82)
  become('recovering', 'answers again (1 of 2): ping answered')
}

describe('the referee', () => {
  it('has nothing to say about a proper world', () => {
    const one = game()
    properOutage(one)
    one.referee.silentTogether(['a'])
    one.process('started', 'ready', 'gone', 'started')
    for (const ms of [210_000, 215_000, 240_000]) {
      one.at(ms)
      one.probe()
    }
    for (const how of ['ok', 'failed', 'failed', 'failed', 'failed', 'failed'] as const) one.request(how)
    one.at(241_500)
    one.request('ok')
    for (let requests = 0; requests < 7; requests++) one.request('ok')
    for (let failures = 0; failures < 3; failures++) one.request('failed')
    one.referee.look()
    expect(one.referee.violations).toEqual([])
    expect(one.referee.outages[0]).toMatchObject({ sinceMs: 100_000, detectedMs: 140_000, untilMs: 200_000 })
  })

  const breaches: readonly (readonly [Rule, string, (one: Game) => void])[] = [
    [
      'interval',
      'an interval above its bounds',
      ({ interval, probe }) => {
        interval(30_001)
        probe()
      },
    ],
    [
      'interval',
      'probes closer together than the shortest interval',
      ({ at, probe }) => {
        for (const ms of [0, 3000, 7000]) {
          at(ms)
          probe()
        }
      },
    ],
    [
      'one_probe',
      'a second probe at a time',
      ({ referee }) => {
        referee.probeStarts('a', 0)
        referee.probeStarts('a', 0)
      },
    ],
    [
      'starvation',
      'a probe that starts late',
      ({ at, probe }) => {
        at(10_000)
        probe(100)
      },
    ],
    [
      'starvation',
      'a server that is asked no more',
      ({ at, probe, referee }) => {
        probe()
        at(200_000)
        referee.look()
      },
    ],
    ['false_down', 'down without a fault', ({ fault, become }) => [fault(undefined), become('down')]],
    [
      'false_down',
      'down long after the fault',
      (one) => {
        properOutage(one)
        one.at(300_000)
        one.become('down', undefined, 290_000)
      },
    ],
    [
      'cause',
      'a reason that names something else',
      ({ fault, become }) => {
        fault(undefined)
        fault('hang')
        become('down', 'HTTP 500')
      },
    ],
    [
      'silence',
      'a server that answers, said to be silent',
      ({ fault, referee }) => [fault(undefined), referee.silentTogether(['a'])],
    ],
    [
      'detection',
      'an outage found too late',
      ({ at, fault, become }) => {
        fault(undefined)
        fault('hang')
        at(46_001)
        become('down')
      },
    ],
    [
      'detection',
      'an outage never found',
      ({ at, fault, referee }) => {
        fault(undefined)
        fault('hang')
        at(46_001)
        referee.look()
      },
    ],
    [
      'availability',
      'an outage dated wrong',
      ({ at, fault, become, unavailable }) => {
        fault(undefined)
        fault('hang')
        at(40_000)
        become('down')
        at(60_000)
        fault(undefined)
        unavailable(107)
        become('recovering')
      },
    ],
    [
      'transitions',
      'up at once after an outage',
      (one) => {
        one.fault(undefined)
        one.fault('hang')
        one.become('down')
        one.fault(undefined)
        one.become('healthy')
      },
    ],
    ['restarts', 'two processes side by side', ({ process }) => process('started', 'ready', 'started')],
    [
      'restarts',
      'a third start without a pause',
      ({ process }) => process('started', 'ready', 'gone', 'started', 'ready', 'gone', 'started'),
    ],
    [
      'restarts',
      'no end after ten starts in vain',
      ({ at, process }) => {
        for (let start = 1; start <= 11; start++) {
          at(start * 60_000)
          process('started', 'gone')
        }
      },
    ],
    [
      'false_suspicion',
      'suspicion of a server that had no fault',
      ({ at, fault, become }) => {
        fault(undefined)
        at(300_001)
        become('suspect', 'answers at 4.0× their baseline')
      },
    ],
    [
      'restarts',
      'an end that nobody follows',
      ({ at, process, probe, referee }) => {
        process('started', 'ready', 'gone')
        at(70_001)
        probe()
        referee.look()
      },
    ],
    [
      'hung',
      'a process that hangs and is left alone',
      ({ at, process, probe, referee }) => {
        process('started', 'ready', 'open', 'hung')
        at(60_001)
        probe()
        referee.look()
      },
    ],
    [
      'hung',
      'one that is ended too late',
      ({ at, process }) => {
        process('started', 'ready', 'open', 'hung')
        at(60_001)
        process('ending')
      },
    ],
    [
      'hung',
      'one that spins and is ended too late',
      ({ at, process }) => {
        process('started', 'ready', 'open', 'spinning')
        at(85_001)
        process('awake')
      },
    ],
    [
      'hung',
      'one that hangs since before it was opened',
      ({ at, process }) => {
        process('started', 'ready', 'hung')
        at(62_001)
        process('ending')
      },
    ],
    ['circuit', 'one that opens without failures', ({ referee }) => referee.circuitOpened('a')],
    [
      'circuit',
      'one that opens after too few failures',
      ({ request, referee }) => {
        for (const how of ['failed', 'failed', 'ok', 'failed', 'failed', 'failed', 'failed'] as const) request(how)
        referee.circuitOpened('a')
      },
    ],
    [
      'circuit',
      'a request that passes while it is open',
      ({ request }) => {
        for (let failures = 0; failures < 6; failures++) request('failed')
      },
    ],
    [
      'circuit',
      'a second trial',
      ({ limits, request, referee }) => {
        for (let failures = 0; failures < 5; failures++) request('failed')
        limits.breaker.signOfLife()
        referee.requestStarts('a', 0)
        referee.requestStarts('a', 0)
      },
    ],
    [
      'circuit',
      'a trial whose place is not given back',
      ({ limits, request, referee }) => {
        for (let failures = 0; failures < 5; failures++) request('failed')
        limits.breaker.signOfLife()
        limits.breaker.enter()
        request('nothing')
        referee.look()
      },
    ],
    [
      'circuit',
      'one that keeps clients off a server that is well',
      ({ at, fault, request, referee, probe }) => {
        fault(undefined)
        for (let failures = 0; failures < 5; failures++) request('failed')
        at(93_000)
        probe()
        referee.look()
      },
    ],
    [
      'circuit',
      'a refusal while it is closed',
      ({ referee }) => referee.requestRefused('a', new KnownError('circuit_open', 'connection reset'), 0),
    ],
    ['queue', 'a refusal though there is room', ({ referee }) => referee.requestRefused('a', queueFull, 0)],
    ['queue', 'a turn that came too late', ({ referee }) => referee.requestStarts('a', 3002)],
    [
      'queue',
      'too many at a time',
      ({ referee }) => {
        for (let requests = 0; requests < 65; requests++) referee.requestStarts('a', 0)
      },
    ],
    [
      'queue',
      'a request that never ends',
      ({ at, referee, probe }) => {
        referee.requestStarts('a', 0)
        at(63_000)
        probe()
        referee.look()
      },
    ],
    [
      'memory',
      'a process that is too large and is left alone',
      ({ at, process, probe, referee }) => {
        process('started', 'ready', 'open', 'outgrown')
        at(31_501)
        probe()
        referee.look()
      },
    ],
    [
      'memory',
      'one that is replaced at once',
      ({ at, process, referee }) => {
        process('started', 'ready', 'open', 'outgrown')
        at(9_999)
        process('ending', 'gone')
        referee.replaced('a', 'memory')
      },
    ],
    [
      'memory',
      'one that is replaced though it is small enough',
      ({ at, process, referee }) => {
        process('started', 'ready', 'open', 'outgrown', 'shrunk')
        at(20_000)
        process('ending', 'gone')
        referee.replaced('a', 'memory')
      },
    ],
    [
      'memory',
      'one whose requests are cut off',
      ({ at, process, referee }) => {
        process('started', 'ready', 'open', 'outgrown')
        at(20_000)
        referee.requestStarts('a', 0)
        at(26_999)
        process('ending')
      },
    ],
    [
      'shedding',
      'a refusal while we are calm',
      ({ at, referee }) => {
        referee.trouble(0, 10_000)
        at(40_001)
        referee.requestRefused('a', new KnownError('overloaded', 'overloaded'), 0)
      },
    ],
    [
      'shedding',
      'a tool call in spite of our overload',
      ({ at, referee }) => {
        referee.overload(0, 60_000)
        at(18_001)
        referee.requestStarts('a', 0)
      },
    ],
    ['errors', 'a bug', ({ referee }) => referee.error('a', new Error('bug'))],
  ]
  it.each(breaches)('notices a breach of %s: %s', (rule, _what, play) => {
    const one = game()
    play(one)
    expect(one.broken()).toEqual([rule])
  })

  it('lets a process hang for as long as the law does, or a client may be the reason, or the fault may be ours', () => {
    const inTime = game()
    inTime.process('started', 'ready', 'open', 'hung')
    inTime.at(60_000)
    inTime.process('ending')
    inTime.at(68_000)
    inTime.process('gone')
    expect(inTime.broken()).toEqual([])

    const occupied = game()
    occupied.process('started', 'ready', 'open', 'spinning')
    const ticket = occupied.referee.requestStarts('a', 0)
    occupied.at(59_000)
    occupied.referee.requestEnds('a', ticket, 'nothing')
    occupied.at(140_000)
    occupied.process('ending')
    expect(occupied.broken()).toEqual([])

    const together = game()
    together.process('started', 'ready', 'open', 'hung')
    together.fault('hang')
    together.referee.silentTogether(['a'])
    together.at(90_000)
    together.referee.silentTogether([])
    together.at(100_000)
    together.process('ending')
    expect(together.broken()).toEqual([])
  })

  it('lets a process be replaced that shrank while it was let finish, or was being ended', () => {
    for (const [shrunkMs, endingMs] of [
      [20_000, 30_000],
      [30_000, 30_000],
    ] as const) {
      const { at, process, referee, broken } = game()
      process('started', 'ready', 'open', 'outgrown')
      at(shrunkMs)
      if (shrunkMs < endingMs) process('shrunk')
      at(endingMs)
      process('ending')
      if (shrunkMs === endingMs) process('shrunk')
      at(38_000)
      process('gone')
      referee.replaced('a', 'memory')
      expect(broken()).toEqual([])
    }
  })

  it('lets a process that waits for a lock hang for longer while a client waits for it', () => {
    const alone = game()
    alone.process('started', 'ready', 'open', 'deadlocked')
    alone.at(60_001)
    alone.process('ending')
    expect(alone.broken()).toEqual(['hung'])

    const waitedFor = game()
    waitedFor.process('started', 'ready', 'open', 'deadlocked')
    waitedFor.referee.requestStarts('a', 0)
    waitedFor.at(135_000)
    waitedFor.process('ending')
    expect(waitedFor.broken()).toEqual([])
    waitedFor.process('gone', 'started', 'ready', 'open', 'deadlocked')
    waitedFor.referee.requestStarts('a', 0)
    waitedFor.at(270_001)
    waitedFor.process('ending')
    expect(waitedFor.broken()).toEqual(['hung'])
  })

  it('wants what has done its work to rest until a client wants it, and to be called idle', () => {
    const resting = game(['a'], { restart: 'on_failure' })
    resting.fault(undefined)
    resting.process('started', 'ready', 'open', 'done')
    resting.fault('crash')
    resting.process('gone')
    resting.become('idle')
    resting.at(16_000)
    resting.probe()
    resting.referee.look()
    expect(resting.broken()).toEqual([])
    expect(resting.referee.outages).toEqual([])
    resting.referee.wanted('a')
    resting.process('started', 'done')
    resting.at(16_500)
    resting.process('gone')
    expect(resting.broken()).toEqual([])
    resting.at(17_000)
    resting.process('started')
    expect(resting.broken()).toEqual(['restarts'])

    const down = game(['a'], { restart: 'on_failure' })
    down.process('started', 'ready', 'open', 'done', 'gone')
    down.at(16_000)
    down.probe()
    down.referee.look()
    expect(down.broken()).toEqual(['transitions'])
  })

  it.each(['passive', 'off'] as const)('wants nothing to be asked of a server with probe: %s', (probe) => {
    const one = game(['a'], { probe })
    one.referee.asked('a', 'server/discover')
    expect(one.broken()).toEqual(['unasked'])
  })

  it('lets nothing be started again that must not be, and asks for no start of it', () => {
    const never = game(['a'], { restart: 'never' })
    never.process('started', 'ready', 'gone')
    never.at(100_000)
    never.probe()
    never.referee.look()
    expect(never.broken()).toEqual([])
    never.process('started')
    expect(never.broken()).toEqual(['restarts'])
  })

  it('counts probes within a second, those in flight, and starts at a time, over all servers', () => {
    const names = Array.from({ length: 60 }, (_, at) => `server-${at}`)
    const many = game(names)
    for (const name of names.slice(0, 16)) many.referee.probeStarts(name, 0)
    expect(many.broken()).toEqual([])
    many.referee.probeStarts('server-16', 0)
    expect(many.broken()).toEqual(['budget'])

    const quick = game(names)
    for (const name of names.slice(0, 51)) {
      quick.referee.probeStarts(name, 0)
      quick.referee.slotFreed()
      quick.referee.probeEnds(name)
    }
    expect(quick.broken()).toEqual(['budget'])

    const starting = game(names)
    for (const name of names.slice(0, 5)) starting.referee.process(name, 'started')
    expect(starting.broken()).toEqual(['restarts'])
  })
})
