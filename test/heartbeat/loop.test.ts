import { afterEach, describe, expect, it } from 'vitest'
import { remoteServer } from '../../src/cli/own-processes.ts'
import { defaults } from '../../src/defaults.ts'
import type { Vitals } from '../../src/heartbeat/hang-watch.ts'
import type { ReadingDiff } from '../../src/heartbeat/interval.ts'
import { firstOffsetMs } from '../../src/heartbeat/interval.ts'
import type { HeartbeatReport, HeartbeatSettings } from '../../src/heartbeat/contract.ts'
import { Heartbeat } from '../../src/heartbeat/loop.ts'
import { Scheduler } from '../../src/heartbeat/scheduler.ts'
import type { State } from '../../src/heartbeat/verdict.ts'
import type { Absence } from '../../src/upstreams/supervisor.ts'
import type { RequestLimits } from '../../src/upstreams/upstream.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { type Check, type Script, ScriptedProber } from '../support/scripted-prober.ts'
import { stallableClock } from '../support/stallable-clock.ts'
import { heartbeatSettings } from '../support/settings.ts'

const settings = heartbeatSettings

/** A fixed interval of ten seconds, for timelines that are about something else. */
const fixed = { adaptive: false }
/** The interval of a server that has long been calm. */
const calm = { initialMs: 30_000 }

interface Options {
  readonly settings?: Partial<HeartbeatSettings>
  readonly random?: () => number
  readonly readings?: () => Promise<ReadingDiff>
  readonly script?: Check | Script
  readonly onHeartbeat?: (report: HeartbeatReport) => void
  /** The processes are ours, and this is what they do, by session. */
  readonly vitals?: (session: string | undefined) => Vitals | undefined
  /** No process runs, and that is why. */
  readonly absence?: () => Absence | undefined
  /** The server is not ours, and so many requests of clients wait for it. */
  readonly inFlight?: () => number
  readonly limits?: RequestLimits
}

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

/** A heartbeat in virtual time, with everything that it says. */
function watched(options: Options = {}) {
  const virtual = fakeClock()
  const { clock, stall } = stallableClock(virtual)
  const prober = new ScriptedProber(clock, options.script)
  const errors: unknown[] = []
  const scheduler = new Scheduler({
    clock,
    perSecond: 50,
    inFlight: 16,
    slotMs: 250,
    onError: (_key, error) => errors.push(error),
  })
  const changes: string[] = []
  const beats: string[] = []
  const reported: { readonly outcome: string; readonly nextInMs: number | undefined; readonly traceId: string }[] = []
  const inventories: string[] = []
  const causes: string[] = []
  const renewals: string[] = []
  const hangs: string[] = []
  const { vitals, inFlight } = options
  let traces = 0
  const noNews = () => Promise.resolve({ heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 })
  const heartbeat: Heartbeat = new Heartbeat({
    upstream: 'files',
    transport: 'http',
    instance: 'pod-1',
    prober,
    scheduler,
    clock,
    random: options.random ?? (() => 0.5),
    settings: { ...settings, ...options.settings },
    readings: options.readings ?? noNews,
    ownLoad: () => ({ loopDelayP99Ms: 0, loopUtilisation: 0, probeBacklog: 0 }),
    own: vitals && {
      law: defaults.hang,
      examine: vitals,
      onHung: (session) => {
        hangs.push(`${clock.now()} ${session ?? 'own process'}`)
        return 'it is restarted'
      },
    },
    remote: inFlight && remoteServer(options.limits, { lastHeardMs: () => heartbeat.lastHeardMs(), inFlight }),
    absence: options.absence,
    events: {
      onHeartbeat: (report) => {
        options.onHeartbeat?.(report)
        beats.push(`${clock.now()} ${report.result.method} ${report.result.outcome}`)
        return `trace-${++traces}`
      },
      onReport: ({ result }, traceId) => {
        reported.push({ outcome: result.outcome, nextInMs: heartbeat.status().nextProbeInMs, traceId })
      },
      onVerdict: (_from, to) => changes.push(`${clock.now()} ${to.state}`),
      onNewFailure: (cause) => causes.push(cause),
      onPauseRenewed: (reason) => renewals.push(reason),
      onInventory: (tools, changed) => inventories.push(`${tools.size} tools${changed ? ', changed' : ''}`),
    },
  })
  stops.push(async () => {
    await heartbeat.stop()
    scheduler.stop()
  })
  return {
    clock,
    prober,
    scheduler,
    heartbeat,
    changes,
    beats,
    reported,
    inventories,
    causes,
    renewals,
    hangs,
    errors,
    stall,
    advance: (ms: number) => virtual.advance(ms),
    timers: () => virtual.pending(),
    state: (): State => heartbeat.status().verdict.state,
    reason: () => heartbeat.status().verdict.reason,
    probesAt: () => prober.starts.map(({ atMs }) => atMs),
  }
}

/** A heartbeat whose second probe has just been answered, so that the third is due an interval from now. */
async function settled(options: Options = {}) {
  const test = watched(options)
  test.heartbeat.start()
  await test.advance(offsetMs(options.settings?.initialMs ?? settings.initialMs))
  test.prober.starts.length = 0
  test.changes.length = 0
  test.beats.length = 0
  test.reported.length = 0
  return { ...test, t0: test.clock.now() }
}

/** The same with readings of its own heartbeats. */
async function settledAndRead(options: Options = {}) {
  let news: number[] = []
  const readings = () => {
    const [heartbeats, sumMs] = [news.length, news.reduce((sum, ms) => sum + ms, 0)]
    news = []
    const rttMeanMs = heartbeats === 0 ? undefined : sumMs / heartbeats
    return Promise.resolve({ heartbeats, failures: 0, rttMeanMs, elapsedMs: 10_000 })
  }
  return settled({ ...options, readings, onHeartbeat: ({ result }) => void news.push(result.durationMs) })
}

/** The wall time at a moment of the fake clock. */
function isoTime(atMs: number): string {
  return new Date(Date.UTC(2026, 0, 1) + atMs).toISOString()
}

function offsetMs(intervalMs: number): number {
  return firstOffsetMs('files', 'pod-1', intervalMs)
}

describe('when probes come (control-law.md, "Adaptive interval")', () => {
  it('probes at once, then at hash(upstream, instance) mod T, then once an interval', async () => {
    const { heartbeat, advance, probesAt } = watched({ settings: fixed })
    const second = offsetMs(10_000)
    expect(second).toBeGreaterThan(0)
    heartbeat.start()
    await advance(second - 1)
    expect(probesAt()).toEqual([0])
    await advance(1)
    expect(probesAt()).toEqual([0, second])
    await advance(20_000)
    expect(probesAt()).toEqual([0, second, second + 10_000, second + 20_000])
  })

  it.each([
    { random: 0, delayMs: 9000 },
    { random: 1, delayMs: 11_000 },
  ])('spreads the next one by 10 % ($random → $delayMs ms)', async ({ random, delayMs }) => {
    const { t0, advance, probesAt } = await settled({ random: () => random })
    await advance(12_000)
    expect(probesAt()[0]).toBe(t0 + delayMs)
  })

  it('counts the interval from the start of a probe, however long its answer takes', async () => {
    const { t0, prober, advance, probesAt } = await settled({ settings: fixed })
    prober.play({ afterMs: 1500 })
    await advance(30_000)
    expect(probesAt()).toEqual([t0 + 10_000, t0 + 20_000, t0 + 30_000])
  })

  it.each([
    { what: 'a start that may take 60 s', afterMs: 25_000, openingDeadlineMs: 60_000 },
    { what: 'an opening that is late', afterMs: 9000, openingDeadlineMs: 10_000 },
  ])('never has two opening exchanges at once: $what', async ({ afterMs, openingDeadlineMs }) => {
    const { heartbeat, prober, advance, probesAt } = watched({ settings: { ...fixed, initialMs: 5000 } })
    prober.play({ checks: [{ afterMs, opening: true }], openingDeadlineMs })
    heartbeat.start()
    await advance(afterMs - 1)
    expect(probesAt()).toEqual([0])
    await advance(2 * afterMs)
    expect(prober.mostAtOnce).toBe(1)
    expect(probesAt()).toEqual([0, afterMs, 2 * afterMs])
  })

  it.each([
    ['not before the moment that it names', 25_000, 25_000],
    ['at its usual time where it names an earlier one', 1000, 10_000],
    ['after the longest interval at most', 600_000, 30_000],
  ])('a server that wants fewer requests is asked again %s, and stays what it was', async (_what, retryAfterMs, ms) => {
    const { prober, probesAt, advance, state, t0 } = await settled({ settings: fixed })
    prober.play({ outcome: 'inconclusive', retryAfterMs })
    await advance(10_000)
    prober.play({})
    await advance(40_000)
    expect(probesAt().slice(0, 2)).toEqual([t0 + 10_000, t0 + 10_000 + ms])
    expect(state()).toBe('healthy')
  })

  it('an opening exchange that waits gives its place to others, and goes on', async () => {
    const { heartbeat, prober, scheduler, clock, advance, probesAt } = watched()
    prober.play({ checks: [{ outcome: 'silence', opening: true }], openingDeadlineMs: 10_000 })
    heartbeat.start()
    for (let at = 1; at <= 15; at++) scheduler.schedule(`busy ${at}`, 0, () => new Promise(() => undefined))
    const startedMs: number[] = []
    scheduler.schedule('another', 0, () => Promise.resolve(void startedMs.push(clock.now())))
    await advance(9999)
    expect(startedMs).toEqual([250])
    expect(probesAt()).toEqual([0])
  })

  it('has two probes at once only while the first may still be answered late', async () => {
    const { t0, prober, advance, beats } = await settled({ settings: { ...fixed, initialMs: 5000 } })
    // At t0 + 5 s nobody answers: 2 s time-out, 10 s until even a late answer is given up.
    prober.play({ outcome: 'silence' })
    await advance(16_000)
    expect(prober.mostAtOnce).toBe(2)
    expect(beats).toEqual([`${t0 + 15_000} ping timeout`])
  })
})

describe('other settings while it runs', () => {
  it('a shorter interval brings the next probe forward, counted from the last one', async () => {
    const { t0, heartbeat, advance, probesAt } = await settled({ settings: { ...fixed, initialMs: 30_000 } })
    await advance(4000)
    heartbeat.configure({ ...settings, ...fixed, initialMs: 10_000 })
    await advance(16_000)
    expect(probesAt()).toEqual([t0 + 10_000, t0 + 20_000])
  })

  it('one that has passed already probes at once; a longer one begins with the probe that is planned', async () => {
    const { t0, heartbeat, advance, probesAt } = await settled({ settings: { ...fixed, initialMs: 30_000 } })
    await advance(14_000)
    heartbeat.configure({ ...settings, ...fixed, initialMs: 10_000 })
    await advance(1000)
    expect(probesAt()).toEqual([t0 + 14_000])
    heartbeat.configure({ ...settings, ...fixed, initialMs: 60_000 })
    await advance(69_000)
    expect(probesAt()).toEqual([t0 + 14_000, t0 + 24_000, t0 + 84_000])
  })

  it('other thresholds judge from then on, and what is known stays known', async () => {
    const { prober, heartbeat, advance, state } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    await advance(13_000)
    expect(state()).toBe('suspect')
    heartbeat.configure({ ...settings, ...fixed, missesToDown: 1 })
    expect(state()).toBe('suspect')
    prober.play({ outcome: 'silence' })
    await advance(13_000)
    expect(state()).toBe('down')
  })
})

it('the time-out keeps to bounds that changed, and doubles with the miss that leads down, whichever that is', async () => {
  const { prober, heartbeat, advance, state } = await settled({ settings: fixed })
  const timeoutMs = () => heartbeat.status().timeoutMs
  expect(timeoutMs()).toBe(2000)
  heartbeat.configure({ ...settings, ...fixed, missesToDown: 2, minTimeoutMs: 3000, maxTimeoutMs: 3000 })
  expect(timeoutMs()).toBe(3000)
  prober.play({ outcome: 'silence' })
  await advance(13_000)
  expect([state(), timeoutMs()]).toEqual(['suspect', 3000])
  prober.play({ outcome: 'silence' })
  await advance(13_000)
  expect([state(), timeoutMs()]).toEqual(['down', 6000])
})

describe('the rung in use', () => {
  it('is traffic while what clients are answered stands in for probes, and what is asked as soon as it is', async () => {
    const { heartbeat, advance, probesAt, t0 } = await settled({ settings: fixed })
    const rung = () => heartbeat.status().rung
    expect(rung()).toBe('ping')
    await advance(4000)
    heartbeat.trafficAnswered(true)
    await advance(6000)
    expect([rung(), probesAt()]).toEqual(['traffic', []])
    await advance(4000)
    expect([rung(), probesAt()]).toEqual(['ping', [t0 + 14_000]])
  })

  it('is traffic where every process answered its own client, and what is asked where one did not', async () => {
    const { heartbeat, advance, prober } = await settled({ settings: fixed })
    prober.play({ checks: [], alive: 2 })
    await advance(10_000)
    expect(heartbeat.status().rung).toBe('traffic')
    prober.play({ checks: [{ leg: 'session', session: 'a', method: 'traffic' }], alive: 1 })
    await advance(10_000)
    expect(heartbeat.status().rung).toBe('traffic')
    prober.play({ checks: [{ leg: 'session', session: 'a' }], alive: 1 })
    await advance(10_000)
    expect(heartbeat.status().rung).toBe('ping')
  })

  it('is traffic where nothing else is asked, and none where nobody is to be asked', () => {
    const { heartbeat } = watched({ settings: { ...fixed, probe: 'passive' } })
    expect(heartbeat.status().rung).toBe('traffic')
    heartbeat.pause(1000)
    expect(heartbeat.status().rung).toBeUndefined()
    heartbeat.resume('done')
    heartbeat.configure({ ...settings, probe: 'off' })
    expect(heartbeat.status().rung).toBeUndefined()
  })
})

describe('probe: passive', () => {
  const passive = { ...fixed, probe: 'passive' } as const

  it('asks nothing; what clients meet is all that counts', async () => {
    const { heartbeat, advance, probesAt, state, reason } = watched({ settings: passive })
    heartbeat.start()
    await advance(60_000)
    expect([state(), reason()]).toEqual(['idle', 'no client has asked it yet (probe: passive)'])
    heartbeat.trafficAnswered(true)
    expect([state(), reason()]).toEqual(['healthy', 'it answered a client'])
    for (const expected of ['suspect', 'suspect', 'down']) {
      heartbeat.trafficFailed({ outcome: 'closed', reason: 'no answer' })
      expect(state()).toBe(expected)
      await advance(1000)
    }
    await advance(60_000)
    expect([state(), probesAt()]).toEqual(['down', []])
  })

  it('is not down by one blow that many requests met', async () => {
    const { heartbeat, advance, state, reason } = watched({ settings: passive })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    for (let requests = 0; requests < 5; requests++) {
      heartbeat.trafficFailed({ outcome: 'closed', reason: 'connection reset' })
      await advance(100)
    }
    expect([state(), reason()]).toEqual(['suspect', "1 miss (down at 3): a client's request failed: connection reset"])
  })

  it('is down after three failures in a row of clients that were the first to ask, or the first for minutes', async () => {
    for (const isKnown of [false, true]) {
      const { heartbeat, advance, state, reason } = watched({ settings: passive })
      heartbeat.start()
      if (isKnown) heartbeat.trafficAnswered(true)
      await advance(320_000)
      const states: State[] = [state()]
      for (let request = 1; request <= 3; request++) {
        heartbeat.trafficFailed({ outcome: 'closed', reason: 'HTTP 503' })
        await advance(20_000)
        states.push(state())
        if (request === 1) expect(reason()).toBe("1 miss (down at 3): a client's request failed: HTTP 503")
      }
      expect(states).toEqual(['idle', 'idle', 'idle', 'down'])
      expect(reason()).toBe("3 misses in a row: a client's request failed: HTTP 503")
      heartbeat.trafficAnswered(true)
      expect(state()).toBe('recovering')
    }
  })

  it('is down at once where the first client to ask meets a closed port, and healthy where one is answered', () => {
    const [closed, failing] = [watched({ settings: passive }), watched({ settings: passive })]
    closed.heartbeat.trafficFailed({ outcome: 'refused', reason: 'connect ECONNREFUSED' })
    expect([closed.state(), closed.reason()]).toEqual(['down', "a client's request failed: connect ECONNREFUSED"])
    for (let request = 1; request <= 2; request++)
      failing.heartbeat.trafficFailed({ outcome: 'closed', reason: 'HTTP 503' })
    failing.heartbeat.trafficAnswered(true)
    expect([failing.state(), failing.heartbeat.status().verdict.misses]).toEqual(['healthy', 0])
  })

  it('is idle whatever clients meet while no process of it runs', () => {
    const absence = () => ({ kind: 'idle', reason: 'no session is open' }) as const
    const { heartbeat, state } = watched({ settings: passive, absence })
    for (const outcome of ['closed', 'timeout', 'refused', 'closed'] as const)
      heartbeat.trafficFailed({ outcome, reason: 'no' })
    expect([state(), heartbeat.status().verdict.misses]).toEqual(['idle', 0])
  })

  it('is idle again when no client has asked for five minutes: nobody knows', async () => {
    const { heartbeat, advance, state } = watched({ settings: passive })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(299_000)
    expect(state()).toBe('healthy')
    await advance(12_000)
    expect(state()).toBe('idle')
  })

  it('is not doubted for what clients met before they stopped asking, until there is news of it', async () => {
    let diff = { heartbeats: 4, failures: 1, rttMeanMs: undefined, elapsedMs: 10_000 }
    const { heartbeat, advance, state } = watched({ settings: passive, readings: () => Promise.resolve(diff) })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(20_000)
    expect(state()).toBe('suspect')
    diff = { ...diff, heartbeats: 0, failures: 0 }
    await advance(320_000)
    expect(state()).toBe('idle')
    heartbeat.trafficAnswered(true)
    await advance(20_000)
    expect(state()).toBe('healthy')
    diff = { ...diff, heartbeats: 1, elapsedMs: 300_000 }
    await advance(20_000)
    expect(state()).toBe('healthy')
  })

  it('knows no more of a server that is not ours than what its clients met', async () => {
    const { heartbeat, advance, state } = watched({ settings: passive, inFlight: () => 1 })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(200_000)
    expect(state()).toBe('healthy')
  })

  it('is down when a process of ours lets a client wait for a minute and three looks, and nothing is ended', async () => {
    const waiting: Vitals = { pid: 7, cpu: undefined, isStopped: false, lastHeardMs: 0, inFlight: 1 }
    let inFlight = 0
    const vitals = () => ({ ...waiting, inFlight })
    const { heartbeat, advance, changes, state, reason, hangs } = watched({ settings: passive, vitals })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(100_000)
    inFlight = 1
    await advance(60_000)
    expect(state()).toBe('healthy')
    await advance(40_000)
    expect(changes.map((change) => change.split(' ')[1])).toEqual(['healthy', 'suspect', 'down'])
    expect(reason()).toBe('3 misses in a row: a client waits, and nothing shows that it will be answered')
    await advance(300_000)
    expect([state(), hangs]).toEqual(['down', []])
    heartbeat.trafficAnswered(true)
    expect(state()).toBe('recovering')
  })

  it('lets a process of ours work for a client as long as it uses the processor', async () => {
    let now = () => 0
    const vitals = (): Vitals => {
      const cpu = { seconds: now() / 1000, atMs: now() }
      return { pid: 7, cpu, isStopped: false, lastHeardMs: 0, inFlight: 1 }
    }
    const { heartbeat, advance, state, clock } = watched({ settings: passive, vitals })
    now = () => clock.now()
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(580_000)
    expect(state()).toBe('healthy')
    await advance(60_000)
    expect(state()).toBe('down')
  })

  it('takes a request that was given up for silence only where nobody else asks', async () => {
    const [quiet, asked] = [watched({ settings: passive }), await settled({ settings: fixed })]
    quiet.heartbeat.start()
    quiet.heartbeat.trafficAnswered(true)
    await quiet.advance(100_000)
    for (const { heartbeat } of [quiet, asked])
      heartbeat.trafficFailed({ outcome: 'timeout', reason: 'nothing came for 60 s', silentMs: 60_000 })
    expect([quiet.state(), asked.state()]).toEqual(['suspect', 'suspect'])
    const sinceMs = quiet.clock.now() - 60_000
    expect(quiet.heartbeat.status().verdict).toMatchObject({ failingSinceMs: sinceMs, silentSinceMs: sinceMs })
    expect(asked.heartbeat.status().verdict.silentSinceMs).toBeUndefined()
    expect(asked.heartbeat.status().verdict.failingSinceMs).toBe(asked.clock.now())
  })

  it('takes requests that clients gave up in vain for misses, each as long as a heartbeat may take', async () => {
    const { heartbeat, advance, state, reason, clock } = watched({ settings: passive })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(20_000)
    const states: State[] = []
    for (let request = 1; request <= 3; request++) {
      await advance(9000)
      // The second waited beside the first; the third gave up too soon to tell.
      for (const silentMs of [8000, 8000, settings.maxTimeoutMs - 1]) heartbeat.trafficGivenUp(silentMs)
      states.push(state())
    }
    expect(states).toEqual(['suspect', 'suspect', 'down'])
    const why = "a client's request failed: nothing came for 8 s, until its client gave it up"
    expect(reason()).toBe(`3 misses in a row: ${why}`)
    expect(heartbeat.status().verdict.failingSinceMs).toBe(clock.now() - 18_000 - 8000)
  })

  it.each([
    ['somebody was answered meanwhile', {}, 'healthy'],
    ['it is asked by heartbeats', { settings: fixed }, 'healthy'],
    ['its process is ours, which is looked at', { vitals: () => undefined }, 'healthy'],
  ] as const)('takes none of them for a miss where %s', async (_what, options, expected) => {
    const { heartbeat, advance, state } = watched({ settings: passive, ...options })
    heartbeat.start()
    await advance(10_000)
    heartbeat.trafficAnswered(true)
    await advance(5000)
    for (let request = 1; request <= 3; request++) heartbeat.trafficGivenUp(8000)
    expect(state()).toBe(expected)
  })

  it('does not say that nobody asks while somebody waits, nor where nobody was answered', async () => {
    let inFlight = 1
    const { heartbeat, advance, state, reason } = watched({ settings: passive, inFlight: () => inFlight })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(400_000)
    expect(state()).toBe('healthy')
    inFlight = 0
    heartbeat.trafficGivenUp(1000)
    await advance(20_000)
    expect([state(), reason()]).toEqual(['idle', 'no client was answered for 5 min (probe: passive)'])
  })

  it('opens what clients or a start wait for', async () => {
    const { prober, heartbeat, advance, probesAt, state } = watched({
      settings: passive,
      script: { checks: [{ opening: true }], openingDeadlineMs: 1000, isAwaited: true },
    })
    heartbeat.processStarted('process 1 was started')
    await advance(0)
    expect([state(), probesAt()]).toEqual(['healthy', [0]])
    prober.play({})
    await advance(60_000)
    expect(probesAt()).toEqual([0])
  })
})

describe('probe: passive, and then active', () => {
  it.each([
    ['is starting until it is asked', undefined, 'starting', 'its heartbeats are on (probe: active)'],
    ['is idle if it does not run', { kind: 'idle', reason: 'no session is open' }, 'idle', 'no session is open'],
    ['is down if it is left down', { kind: 'lost', reason: 'it ended' }, 'down', 'it ended'],
  ] as const)('%s', async (_what, absence: Absence | undefined, state, reason) => {
    const test = watched({ settings: { ...fixed, probe: 'passive' }, absence: () => absence })
    test.heartbeat.start()
    await test.advance(60_000)
    expect(test.reason()).toBe('no client has asked it yet (probe: passive)')
    test.prober.play({ outcome: 'silence' })
    test.heartbeat.configure({ ...settings, ...fixed })
    expect([test.state(), test.reason()]).toEqual([state, reason])
  })

  it('what is left down stays so when it is passive again', async () => {
    const absence = { kind: 'lost', reason: 'it ended' } as const
    const test = await settled({ settings: fixed, absence: () => absence })
    test.heartbeat.processGone('it ended', 0)
    test.heartbeat.lost('it ended')
    test.heartbeat.configure({ ...settings, ...fixed, probe: 'passive' })
    expect([test.state(), test.reason()]).toEqual(['down', 'it ended'])
  })
})

describe('probe: off', () => {
  it('asks nothing and concludes nothing, until it is switched on', async () => {
    const { heartbeat, advance, probesAt, state } = watched({ settings: { ...fixed, probe: 'off' } })
    heartbeat.start()
    heartbeat.trafficAnswered(true)
    await advance(60_000)
    expect([state(), probesAt()]).toEqual(['disabled', []])
    heartbeat.configure({ ...settings, ...fixed })
    await advance(0)
    expect([state(), probesAt()]).toEqual(['healthy', [60_000]])
    heartbeat.configure({ ...settings, ...fixed, probe: 'off' })
    await advance(60_000)
    expect([state(), probesAt()]).toEqual(['disabled', [60_000]])
  })
})

describe('while nobody is asked', () => {
  const planned = ({ heartbeat }: Awaited<ReturnType<typeof settled>>) => {
    const { unasked, nextProbeInMs } = heartbeat.status()
    return [unasked, nextProbeInMs]
  }

  it.each<{ why: string; options: Options }>([
    { why: 'nobody is asked (probe: passive)', options: { settings: { probe: 'passive' } } },
    { why: 'nobody is asked (probe: off)', options: { settings: { probe: 'off' } } },
    {
      why: 'nobody is asked while no process of it runs',
      options: { absence: () => ({ kind: 'lost', reason: 'exited (restart: never)' }) },
    },
  ])('no heartbeat is announced: $why', async ({ why, options }) => {
    expect(planned(await settled(options))).toEqual([why, undefined])
  })

  it('no heartbeat is announced until the end of a maintenance', async () => {
    const test = await settled({ settings: fixed })
    expect(planned(test)).toEqual([undefined, 10_000])
    test.heartbeat.pause(60_000)
    expect(planned(test)).toEqual(['nobody is asked until its maintenance is over', undefined])
  })
})

describe('maintenance', () => {
  it('asks and concludes nothing until its time is over, and then asks at once', async () => {
    const { t0, prober, heartbeat, advance, probesAt, state, reason } = await settled({ settings: fixed })
    heartbeat.pause(60_000)
    prober.play({ outcome: 'refused' })
    heartbeat.processGone('process 1 exited', 0)
    expect([state(), reason()]).toEqual(['paused', `paused for maintenance until ${isoTime(t0 + 60_000)}`])
    await advance(59_999)
    expect([state(), probesAt()]).toEqual(['paused', []])
    prober.play({})
    await advance(1)
    expect([state(), probesAt()]).toEqual(['healthy', [t0 + 60_000]])
  })

  it('is over without what failed meanwhile being held against it', async () => {
    let failures = 0
    const readings = () => {
      const diff = { heartbeats: failures, failures, rttMeanMs: undefined, elapsedMs: 10_000 }
      failures = 0
      return Promise.resolve(diff)
    }
    const { heartbeat, advance, changes } = await settled({ readings })
    heartbeat.pause(60_000)
    await advance(30_000)
    failures = 5
    await advance(90_000)
    expect(changes.map((change) => change.split(' ')[1])).toEqual(['paused', 'starting', 'healthy'])
  })

  it('that is asked for again ends at the new time; it can be ended before', async () => {
    const { t0, heartbeat, advance, probesAt, changes, renewals, state, reason } = await settled({ settings: fixed })
    heartbeat.pause(60_000)
    expect([reason(), renewals]).toEqual([`paused for maintenance until ${isoTime(t0 + 60_000)}`, []])
    await advance(30_000)
    heartbeat.pause(60_000)
    const renewed = `paused for maintenance until ${isoTime(t0 + 90_000)}`
    expect([reason(), renewals]).toEqual([renewed, [renewed]])
    await advance(40_000)
    expect([state(), changes]).toEqual(['paused', [`${t0} paused`]])
    heartbeat.resume('resumed by request')
    await advance(0)
    expect([state(), probesAt()]).toEqual(['healthy', [t0 + 70_000]])
    await advance(9000)
    expect(probesAt()).toHaveLength(1)
  })

  it.each([
    { kind: 'idle', state: 'idle', reason: 'the resident process exited with code 0 (restart: on_failure)' },
    { kind: 'lost', state: 'down', reason: 'the resident process exited with code 1 (restart: never)' },
    { kind: 'crash_loop', state: 'crash_loop', reason: 'exited with code 127; the next try comes in 560 s' },
    { kind: 'gone', state: 'down', reason: 'the resident process exited with code 1' },
  ] as const)('ends with the verdict of who watched meanwhile: $state ($kind)', async ({ kind, state, reason }) => {
    for (const end of ['by request', 'by its own end', 'after `probe: off`'] as const) {
      let absence: Absence | undefined
      const test = await settled({ settings: fixed, absence: () => absence })
      if (end === 'after `probe: off`') test.heartbeat.configure({ ...settings, ...fixed, probe: 'off' })
      else test.heartbeat.pause(60_000)
      absence = { kind, reason }
      test.prober.play({ checks: [] })
      await test.advance(59_999)
      expect(test.state()).toBe(end === 'after `probe: off`' ? 'disabled' : 'paused')
      if (end === 'by request') test.heartbeat.resume('resumed by request')
      if (end === 'after `probe: off`') test.heartbeat.configure({ ...settings, ...fixed })
      await test.advance(1)
      expect([test.state(), test.reason()]).toEqual([state, reason])
      await test.advance(60_000)
      expect([test.state(), test.reason()]).toEqual([state, reason])
      expect(test.changes).toHaveLength(2)
    }
  })

  it('ends with a look at the tools, which may have been changed on purpose', async () => {
    const { prober, heartbeat, advance, state, inventories } = await settled({
      settings: fixed,
      script: { tools: ['echo'] },
    })
    const looked = () => prober.starts.map(({ options }) => options.wantsInventory)
    await advance(10_000)
    heartbeat.pause(60_000)
    prober.play({ tools: [] })
    await advance(60_000)
    expect([state(), looked(), inventories]).toEqual(['healthy', [false, true], ['1 tools', '0 tools, changed']])
  })

  it('that begins while a probe is under way ignores what comes of it', async () => {
    const { prober, heartbeat, advance, state, probesAt } = await settled({ settings: fixed })
    prober.play({ outcome: 'refused', afterMs: 1000 })
    await advance(10_500)
    heartbeat.pause(60_000)
    await advance(30_000)
    expect([state(), probesAt()]).toEqual(['paused', [expect.any(Number)]])
  })
})

describe('a probe by request', () => {
  it('comes at once although traffic was as good as one, and is over when it says so', async () => {
    const { t0, prober, heartbeat, advance, probesAt } = await settled({ settings: fixed })
    heartbeat.trafficAnswered(true)
    prober.play({ afterMs: 500 })
    let isOver = false
    void heartbeat.probeOnce().then(() => (isOver = true))
    await advance(499)
    expect([probesAt(), isOver]).toEqual([[t0], false])
    await advance(1)
    expect(isOver).toBe(true)
    await advance(9500)
    expect(probesAt()).toEqual([t0, t0 + 10_000])
  })

  it('comes once, also where nobody is asked', async () => {
    const { heartbeat, advance, probesAt, state } = watched({ settings: { ...fixed, probe: 'passive' } })
    heartbeat.start()
    await advance(5000)
    await Promise.all([heartbeat.probeOnce(), heartbeat.probeOnce(), advance(30_000)])
    expect([state(), probesAt()]).toEqual(['healthy', [5000]])
  })

  it('does not wait for ever when the heartbeat is stopped', async () => {
    const { prober, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    const probe = heartbeat.probeOnce()
    await heartbeat.stop()
    await probe
    await heartbeat.probeOnce()
  })
})

describe('a look for life', () => {
  it('asks at once whatever traffic says, and finds it once the server has answered', async () => {
    const { t0, prober, heartbeat, advance, probesAt } = await settled({ settings: { ...fixed, initialMs: 30_000 } })
    await advance(20_000)
    heartbeat.trafficAnswered(true)
    prober.play({ afterMs: 500 })
    const lives = heartbeat.lookForLife(30_000)
    await advance(499)
    expect([probesAt(), lives()]).toEqual([[t0 + 20_000], false])
    await advance(1)
    expect(lives()).toBe(true)
    await advance(1)
    expect(heartbeat.lookForLife(30_000)()).toBe(false)
  })

  it('finds none in a server that is silent, or only answered a client', async () => {
    const { prober, heartbeat, advance } = await settled({ settings: fixed })
    await advance(5000)
    prober.play({ outcome: 'silence' })
    const lives = heartbeat.lookForLife(30_000)
    await advance(1000 + settings.minMs)
    heartbeat.trafficAnswered(true)
    expect([prober.starts.length, lives()]).toEqual([1, false])
  })

  it('asks no more often the more clients wait', async () => {
    const { t0, heartbeat, advance, probesAt } = await settled({ settings: { ...fixed, initialMs: 30_000 } })
    const looks: (() => boolean)[] = []
    await advance(20_000)
    for (let second = 0; second < 10; second++) {
      looks.push(heartbeat.lookForLife(30_000))
      await advance(1000)
    }
    await advance(5000)
    expect([probesAt(), looks.every((lives) => lives())]).toEqual([[t0 + 20_000, t0 + 35_000], true])
  })

  it.each(['passive', 'off'] as const)('asks nothing and finds nothing under probe: %s', async (probe) => {
    const { heartbeat, advance, probesAt } = watched({ settings: { ...fixed, probe } })
    heartbeat.start()
    const lives = heartbeat.lookForLife(30_000)
    await advance(30_000)
    expect([probesAt(), lives()]).toEqual([[], false])
  })

  it('asks nothing during maintenance', async () => {
    const { heartbeat, advance, probesAt } = await settled({ settings: fixed })
    heartbeat.pause(60_000)
    const lives = heartbeat.lookForLife(30_000)
    await advance(30_000)
    expect([probesAt(), lives()]).toEqual([[], false])
  })
})

describe('sessions that hang', () => {
  it('make it degraded, with which, for as long as they do: our own probe speaks for its own session alone', async () => {
    const { t0, heartbeat, advance, changes, reason } = await settled({ settings: fixed })
    heartbeat.sessionsHung(1, 1, '1 of 2 sessions do not answer: a1b2c3d4')
    expect(reason()).toBe('1 of 2 sessions do not answer: a1b2c3d4')
    await advance(60_000)
    heartbeat.sessionsHung(2, 0, '2 of 2 sessions do not answer: a1b2c3d4, b2c3d4e5')
    await advance(60_000)
    expect(changes).toEqual([`${t0} degraded`])
    heartbeat.sessionsHung(0, 2, 'no session hangs any more')
    expect(changes).toEqual([`${t0} degraded`, `${t0 + 120_000} healthy`])
  })

  it('leave the verdict to our own probe when that fails too', async () => {
    const { heartbeat, prober, advance, state } = await settled({ settings: fixed })
    heartbeat.sessionsHung(1, 0, '1 of 1 sessions do not answer: a1b2c3d4')
    prober.play({ outcome: 'refused' })
    await advance(10_000)
    expect(state()).toBe('down')
  })

  it('a heartbeat inside a session is told like any other, and changes no verdict by itself', async () => {
    const { heartbeat, beats, changes, clock } = await settled({ settings: fixed })
    heartbeat.heardInSession({
      result: {
        leg: 'session',
        method: 'ping',
        outcome: 'timeout',
        durationMs: 5000,
        reason: 'no answer',
        session: 'a',
      },
      startedAtWallMs: clock.wallTime(),
      timeoutMs: 5000,
      pace: { intervalMs: 60_000, nextInMs: 10_000 },
    })
    expect(beats).toEqual([`${clock.now()} ping timeout`])
    expect(heartbeat.history.failures()).toMatchObject([{ leg: 'session', session: 'a', outcome: 'timeout' }])
    expect(changes).toEqual([])
  })
})

describe('real traffic', () => {
  it('is a heartbeat: no probe while clients are answered, and one an interval after the last answer', async () => {
    const { t0, heartbeat, advance, probesAt, clock, state } = await settled({ settings: fixed })
    // Answers every 3.1 s for a minute, the last one at t0 + 62 s.
    for (let sent = 0; sent < 20; sent++) {
      await advance(3100)
      heartbeat.trafficAnswered(true)
    }
    expect(clock.now()).toBe(t0 + 62_000)
    expect(probesAt()).toEqual([])
    await advance(9999)
    expect(probesAt()).toEqual([])
    await advance(1)
    expect(probesAt()).toEqual([t0 + 72_000])
    expect(state()).toBe('healthy')
  })

  it('that stopped is followed by one probe, not by many looks, whatever the jitter draws', async () => {
    let looks = 0
    const readings = () => {
      looks += 1
      return Promise.resolve({ heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 })
    }
    const { t0, heartbeat, advance, probesAt } = await settled({
      settings: { maxMs: 10_000 },
      random: () => 0,
      readings,
    })
    looks = 0
    await advance(5000)
    heartbeat.trafficAnswered(true)
    await advance(8999)
    expect(probesAt()).toEqual([])
    await advance(1)
    expect(probesAt()).toEqual([t0 + 14_000])
    expect(looks).toBe(2) // The planned one, which traffic had made needless, and the probe.
  })

  it('that another process answered does not reset the timer', async () => {
    const { t0, heartbeat, advance, probesAt } = await settled({ settings: fixed })
    await advance(5000)
    heartbeat.trafficAnswered(false)
    await advance(5000)
    expect(probesAt()).toEqual([t0 + 10_000])
  })

  it('does not spare an upstream that is not healthy its probe', async () => {
    const { t0, heartbeat, prober, advance, probesAt, changes } = await settled({ settings: fixed })
    prober.play({ outcome: 'refused' })
    await advance(10_000) // t0 + 10 s: down
    prober.play({})
    await advance(1000)
    heartbeat.trafficAnswered(true) // t0 + 11 s: the first good answer
    await advance(9000)
    expect(probesAt()).toEqual([t0 + 10_000, t0 + 20_000])
    expect(changes).toEqual([`${t0 + 10_000} down`, `${t0 + 11_000} recovering`, `${t0 + 20_000} healthy`])
  })

  it('that failed raises suspicion once and probes at once, and the probe decides', async () => {
    const { t0, heartbeat, advance, probesAt, changes, reason } = await settled({ settings: fixed })
    await advance(3000)
    heartbeat.trafficFailed({ outcome: 'closed', reason: 'socket hang up' })
    expect(reason()).toBe("1 miss (down at 3): a client's request failed: socket hang up")
    for (let more = 0; more < 10; more++) heartbeat.trafficFailed({ outcome: 'closed', reason: 'socket hang up' })
    expect(changes).toEqual([`${t0 + 3000} suspect`])
    await advance(0)
    expect(probesAt()).toEqual([t0 + 3000])
    expect(changes).toEqual([`${t0 + 3000} suspect`, `${t0 + 3000} healthy`])
    await advance(9999)
    expect(probesAt()).toEqual([t0 + 3000])
  })

  it('that failed again and again is looked at with a probe at once, and then at the shortest interval', async () => {
    const { t0, heartbeat, advance, probesAt } = await settled({ settings: calm })
    await advance(1000)
    for (let at = 1000; at < 12_000; at += 50) {
      heartbeat.trafficFailed({ outcome: 'http_error', reason: 'HTTP 500' })
      await advance(25)
      heartbeat.trafficAnswered(false)
      await advance(25)
    }
    expect(probesAt().filter((at) => at <= t0 + 12_000)).toEqual([t0 + 1000, t0 + 6000, t0 + 11_000])
  })

  it('that was refused takes the upstream down at once, and those who try on cause no storm of probes', async () => {
    const { t0, heartbeat, prober, advance, probesAt, changes } = await settled({ settings: fixed })
    prober.play({ outcome: 'refused' })
    await advance(3000)
    for (let client = 0; client < 100; client++) {
      heartbeat.trafficFailed({ outcome: 'refused', reason: 'connect ECONNREFUSED' })
      await advance(10)
    }
    expect(changes).toEqual([`${t0 + 3000} down`])
    expect(probesAt()).toEqual([t0 + 3000])
  })

  it('says nothing about a server that is still starting', async () => {
    const { heartbeat, changes, state } = watched()
    heartbeat.trafficFailed({ outcome: 'refused', reason: 'connect ECONNREFUSED' })
    expect(state()).toBe('starting')
    expect(changes).toEqual([])
  })
})

describe('the verdict (control-law.md, "Verdict")', () => {
  it('is suspect at the first missed probe, down at the third and no sooner', async () => {
    const { t0, prober, advance, changes, reason } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    // Probes at t0 + 10, 20, 30 s; each is missed when its 2 s are over.
    await advance(11_999)
    expect(changes).toEqual([])
    await advance(1)
    expect(changes).toEqual([`${t0 + 12_000} suspect`])
    await advance(19_999)
    expect(changes).toEqual([`${t0 + 12_000} suspect`])
    await advance(1)
    expect(changes).toEqual([`${t0 + 12_000} suspect`, `${t0 + 32_000} down`])
    expect(reason()).toBe('3 misses in a row: no answer within 2000 ms')
  })

  it.each([
    { what: 'the largest jitter', random: 1, suspectMs: 29_000, downMs: 39_000 },
    { what: 'no jitter', random: 0.5, suspectMs: 32_000, downMs: 42_000 },
  ])('detects an outage from calm within the bound of the law ($what)', async ({ random, suspectMs, downMs }) => {
    const { t0, prober, advance, changes } = await settled({ settings: calm, random: () => random })
    // Worst case: it stops answering right after an answered probe.
    prober.play({ outcome: 'silence' })
    await advance(60_000)
    expect(changes).toEqual([`${t0 + suspectMs} suspect`, `${t0 + downMs} down`])
  })

  it('is healthy though it always takes 4 s, once its time-out has followed: only a threshold objects', async () => {
    const { prober, advance, state, beats } = await settled({ settings: fixed })
    prober.play({ afterMs: 4000 })
    await advance(60_000)
    expect(state()).toBe('healthy')
    expect(beats.at(0)).toMatch(/ ping late$/)
    expect(beats.at(-1)).toMatch(/ ping ok$/)
  })

  it('takes an answer after its time-out as late: it resets the misses, and is counted once', async () => {
    const { t0, prober, advance, changes, beats, reason } = await settled({ settings: fixed })
    prober.play({ afterMs: 4000 })
    await advance(20_000)
    // Probe at t0 + 10 s, missed at 12 s, answered at 14 s.
    expect(beats).toEqual([`${t0 + 14_000} ping late`])
    expect(reason()).toContain('after its time-out of 2000 ms')
    prober.play({})
    await advance(20_000)
    expect(changes).toEqual([`${t0 + 12_000} suspect`, `${t0 + 30_000} healthy`])
  })

  it.each([
    { afterMs: 4000, more: {} },
    { afterMs: 9000, more: {} },
    { afterMs: 9000, more: fixed },
  ])('is suspect of a server that grows slow, and healthy when it stays so: $afterMs, $more', async (slow) => {
    const settings = { ...slow.more, initialMs: 5000 }
    const { t0, prober, advance, changes, beats, reason } = await settledAndRead({ settings })
    prober.play({ afterMs: slow.afterMs })
    await advance(600_000)
    expect(changes).toEqual([expect.stringContaining(' suspect'), expect.stringContaining(' healthy')])
    expect(Number(changes[1]?.split(' ')[0]) - t0).toBeLessThan(60_000)
    expect(reason()).toBe('it answers every heartbeat, though slowly')
    expect(beats[0]).toContain(' late')
    expect(beats.at(-1)).toContain(slow.afterMs > 5000 ? ' late' : ' ok')
    prober.play({})
    await advance(120_000)
    expect(changes).toHaveLength(2)
    expect(reason()).toBe('it answers as it should again')
    prober.play({ afterMs: slow.afterMs })
    await advance(60_000)
    expect(changes[2]).toContain(' suspect')
  })

  it('is suspect of a server that is slow from its first heartbeat on, for five of them', async () => {
    const { advance, changes, prober, beats } = await settledAndRead({ settings: { ...fixed, initialMs: 5000 } })
    prober.play({ afterMs: 1500 })
    await advance(600_000)
    expect(beats[0]).toContain(' ok')
    expect(changes.map((change) => change.split(' ')[1])).toEqual(['suspect', 'healthy'])
  })

  it('is degraded for a server that turns us away, with its words', async () => {
    const { prober, advance, changes, reason } = await settled({ settings: fixed })
    const words = 'initialize answered with JSON-RPC error -32603: no licence'
    prober.play({ opening: true, turnedAway: true, reason: words })
    await advance(60_000)
    expect(changes).toEqual([expect.stringContaining(' degraded')])
    expect(reason()).toBe(words)
  })

  it('counts a probe that is never answered once, as a time-out', async () => {
    const { t0, prober, advance, beats } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    await advance(10_000)
    prober.play({})
    await advance(15_000)
    expect(beats.toSorted()).toEqual([`${t0 + 20_000} ping ok`, `${t0 + 20_000} ping timeout`])
  })

  it('calls whatever ends a probe after its time-out a time-out, since that is what it was', async () => {
    const { t0, prober, advance, beats } = await settled({ settings: fixed })
    prober.play({ afterMs: 6000, outcome: 'closed' })
    await advance(16_000)
    expect(beats).toEqual([`${t0 + 16_000} ping timeout`])
  })

  it('goes down at once when nobody listens, and back only by two good answers', async () => {
    const { t0, prober, advance, changes, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'refused', reason: 'connect ECONNREFUSED' })
    await advance(10_000)
    expect(changes).toEqual([`${t0 + 10_000} down`])
    expect(prober.forgotten).toBe(1)
    prober.play({})
    await advance(10_000)
    expect(changes.at(-1)).toBe(`${t0 + 20_000} recovering`)
    await advance(10_000)
    expect(changes.at(-1)).toBe(`${t0 + 30_000} healthy`)
    expect(heartbeat.status().unavailableSeconds).toBe(10)
  })

  it('back-dates unavailable seconds to the start of the first failed probe, and lets them run meanwhile', async () => {
    const { prober, advance, heartbeat, state } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    await advance(31_999) // Probes at 10, 20, 30 s.
    expect(heartbeat.status().unavailableSeconds).toBe(0)
    await advance(1)
    expect(state()).toBe('down')
    expect(heartbeat.status().unavailableSeconds).toBe(22)
    await advance(3500)
    expect(heartbeat.status().unavailableSeconds).toBe(25.5)
  })

  it('speaks of missing credentials at our own 401', async () => {
    const { t0, prober, advance, changes } = await settled({ settings: fixed })
    prober.play({ outcome: 'unauthorized' })
    await advance(10_000)
    expect(changes).toEqual([`${t0 + 10_000} needs_auth`])
  })

  it('says nothing of our own 401 while clients, who may have credentials, are answered', async () => {
    const { t0, prober, advance, changes, beats, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'unauthorized' })
    for (let n = 0; n < 4; n++) {
      await advance(9000)
      heartbeat.trafficAnswered(false)
    }
    expect(beats.length).toBe(3)
    expect(changes).toEqual([])
    // The last client was answered at t0 + 36 s; that is good for two intervals.
    await advance(24_000)
    expect(changes).toEqual([`${t0 + 60_000} needs_auth`])
  })
})

describe('a server that is not ours, silent while a client waits', () => {
  it('is busy for as long as that request may take without a sign, and then as down as any', async () => {
    const { advance, prober, changes, t0, state, reason, hangs } = await settled({
      settings: fixed,
      inFlight: () => 1,
    })
    prober.play({ outcome: 'silence' })
    await advance(12_000)
    expect(changes).toEqual([`${t0 + 12_000} busy`])
    expect(reason()).toBe('busy: a request is under way, and nobody can tell whether it works')
    await advance(59_000)
    expect(state()).toBe('busy')
    await advance(30_000)
    expect(changes.map((change) => change.split(' ')[1])).toEqual(['busy', 'suspect', 'down'])
    expect(hangs).toEqual([])
  })

  it.each([
    ['never given up', Infinity, Infinity, 60_000],
    ['given up after a while, however it goes', Infinity, 30_000, 30_000],
    ['given time', 120_000, Infinity, 120_000],
  ])('is busy for a time even if requests are %s', async (_what, stallTimeoutMs, requestTimeoutMs, believedMs) => {
    const limits = { stallTimeoutMs, requestTimeoutMs, maxInFlight: 1, maxQueue: 1, queueTimeoutMs: 1 }
    const { advance, prober, state } = await settled({ settings: fixed, inFlight: () => 1, limits })
    prober.play({ outcome: 'silence' })
    await advance(believedMs)
    expect(state()).toBe('busy')
    await advance(13_000)
    expect(state()).toBe('suspect')
  })

  it('is healthy again with its answer', async () => {
    const { advance, prober, changes, state } = await settled({ settings: fixed, inFlight: () => 1 })
    prober.play({ outcome: 'silence' })
    await advance(12_000)
    prober.play({})
    await advance(10_000)
    expect(changes.map((change) => change.split(' ')[1])).toEqual(['busy', 'healthy'])
    expect(state()).toBe('healthy')
  })

  it('does not blink while clients are answered between heartbeats that are not', async () => {
    const test = await settled({ settings: fixed, inFlight: () => 1 })
    test.prober.play({ outcome: 'silence' })
    await test.advance(15_000)
    for (let round = 0; round < 10; round++) {
      test.heartbeat.trafficAnswered(false)
      await test.advance(10_000)
    }
    expect(test.changes.map((change) => change.split(' ')[1])).toEqual(['busy', 'healthy'])
    await test.advance(10_000)
    expect(test.state()).toBe('busy')
  })

  it('is not excused by a request that came when it was silent already', async () => {
    let inFlight = 0
    const { advance, prober, changes } = await settled({ settings: fixed, inFlight: () => inFlight })
    prober.play({ outcome: 'silence' })
    await advance(12_000)
    inFlight = 1
    await advance(22_000)
    expect(changes.map((change) => change.split(' ')[1])).toEqual(['suspect', 'down'])
  })
})

describe('a stall of our own event loop', () => {
  it('of more than a quarter of the time-out makes a silent probe inconclusive, and the next one more patient', async () => {
    const { t0, prober, advance, changes, beats, stall, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    await advance(10_500)
    stall(600) // Of 2000 ms; what was due meanwhile happens after it.
    await advance(1000)
    expect(changes).toEqual([])
    expect(heartbeat.status().timeoutMs).toBe(4000)
    await advance(8500)
    expect(beats).toEqual([`${t0 + 20_600} ping inconclusive`])
    expect(changes).toEqual([])
  })

  it('of less than that excuses nothing', async () => {
    const { prober, advance, state, stall } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    await advance(10_500)
    stall(400)
    await advance(2000)
    expect(state()).toBe('suspect')
  })

  it('does not keep a prober from its answer, however long it lasts', async () => {
    const { beats, prober, advance, stall } = await settled({ settings: fixed })
    prober.play({ afterMs: 11_400, outcome: 'ok' })
    await advance(10_500)
    stall(20_000) // The prober's own grace is over in the middle of it.
    await advance(60_000)
    expect(beats.slice(0, 1)).toEqual([expect.stringContaining('ping ok')])
  })

  it('adds nothing to the time of an answer, which tells how the server is and not how we are', async () => {
    const durations: number[] = []
    const onHeartbeat = ({ result }: HeartbeatReport) => durations.push(result.durationMs)
    const { prober, advance, beats, stall, heartbeat, t0 } = await settled({ settings: fixed, onHeartbeat })
    durations.length = 0
    prober.play({ afterMs: 60 })
    await advance(10_020)
    stall(400)
    await advance(1000)
    expect(beats).toEqual([`${t0 + 10_460} ping ok`])
    expect(durations).toEqual([60])
    expect(heartbeat.status().timeoutMs).toBe(2000)
  })

  it('does not turn an answer into none', async () => {
    const { prober, advance, beats, stall, state } = await settled({ settings: fixed })
    prober.play({ afterMs: 1800 })
    await advance(10_500)
    stall(1000)
    await advance(1500)
    expect(beats).toEqual([expect.stringContaining('ping ok')])
    expect(state()).toBe('healthy')
  })
})

describe('a process of ours', () => {
  it.each([
    ['that was to be expected is no outage', (heartbeat: Heartbeat) => heartbeat.idle('it exited with code 0'), 'idle'],
    ['is told as what it is', (heartbeat: Heartbeat) => heartbeat.lost('exited with code 0 (restart: never)'), 'down'],
  ])('whose end a broken pipe tells before the exit is heard: an end %s', async (_, tell, state) => {
    const { heartbeat, prober, advance, changes, reason, ...test } = await settled({ settings: fixed })
    prober.play({ outcome: 'exited', reason: 'stdin: write EPIPE' })
    await advance(10_000)
    expect(test.state()).toBe('healthy')
    await advance(200)
    tell(heartbeat)
    await advance(400)
    expect(test.state()).toBe(state)
    expect(changes).toHaveLength(1)
    expect(reason()).toContain('exited with code 0')
  })

  it('that no longer reads, but does not end either, is down all the same', async () => {
    const { prober, advance, state, reason } = await settled({ settings: fixed })
    prober.play({ outcome: 'exited', reason: 'the process no longer reads its stdin' })
    await advance(10_600)
    expect([state(), reason()]).toEqual(['down', 'the process no longer reads its stdin'])
  })

  it('that is gone takes the upstream down at once, with the interval at its shortest, and the outage runs', async () => {
    const { t0, heartbeat, advance, changes, beats, reason } = await settled({ settings: calm })
    await advance(7000)
    heartbeat.processGone('process 42 was killed by SIGKILL', 0)
    expect(changes).toEqual([`${t0 + 7000} down`])
    expect(beats).toEqual([`${t0 + 7000} process exited`])
    expect(reason()).toBe('process 42 was killed by SIGKILL')
    expect(heartbeat.status().interval.intervalMs).toBe(5000)
    await advance(2000)
    expect(heartbeat.status().unavailableSeconds).toBe(2)
  })

  it('that is gone is the reason from the beginning, also where a heartbeat met the closed port first', async () => {
    const test = await settled({ settings: fixed, vitals: () => undefined })
    test.prober.play({ outcome: 'refused', reason: 'connect ECONNREFUSED 127.0.0.1:3000' })
    await test.advance(10_300)
    expect(test.state()).toBe('healthy')
    test.heartbeat.processGone('process 42 was killed by SIGKILL', 0)
    await test.advance(400)
    expect([test.state(), test.reason()]).toEqual(['down', 'process 42 was killed by SIGKILL'])
    expect(test.beats).toEqual([`${test.t0 + 10_300} process exited`])
  })

  it.each(['refused', 'reset', 'closed'] as const)(
    'that runs, and cannot be reached (%s), is dealt with like one that hangs: after 30 s, once',
    async (outcome) => {
      const running = { pid: 7, cpu: undefined, isStopped: false, lastHeardMs: 0, inFlight: 0 }
      const test = await settled({ settings: { ...fixed, initialMs: 5000 }, vitals: () => running })
      test.prober.play({ outcome, reason: 'nobody is there' })
      await test.advance(34_000)
      expect([test.state(), test.hangs]).toEqual(['down', []])
      await test.advance(6000)
      expect(test.hangs).toHaveLength(1)
      expect(test.reason()).toMatch(
        /^hung: it runs, and was not reached for 3\d s \(nobody is there\); it is restarted$/,
      )
      await test.advance(25_000)
      expect(test.hangs).toHaveLength(1)
    },
  )

  it('that cannot be reached is left alone while it is under maintenance, or not asked by us', async () => {
    const running = { pid: 7, cpu: undefined, isStopped: false, lastHeardMs: 0, inFlight: 0 }
    const { heartbeat, prober, advance, hangs } = await settled({ settings: fixed, vitals: () => running })
    prober.play({ outcome: 'refused' })
    await advance(25_000)
    heartbeat.pause(600_000)
    await advance(60_000)
    const asked = heartbeat.probeOnce()
    await advance(1000)
    await asked
    expect(hangs).toEqual([])
  })

  it('that runs, and refuses connections, is down half a second later', async () => {
    const test = await settled({ settings: fixed, vitals: () => undefined })
    test.prober.play({ outcome: 'refused', reason: 'connect ECONNREFUSED 127.0.0.1:3000' })
    await test.advance(10_600)
    expect([test.state(), test.reason()]).toEqual(['down', 'connect ECONNREFUSED 127.0.0.1:3000'])
  })

  it('that is gone is the reason, also where a client met the closed port first', async () => {
    const { t0, heartbeat, changes, reason } = await settled({ settings: calm })
    heartbeat.trafficFailed({ outcome: 'refused', reason: 'connect ECONNREFUSED 127.0.0.1:3000' })
    heartbeat.processGone('process 42 was killed by SIGKILL', 0)
    expect(changes).toEqual([`${t0} down`])
    expect(reason()).toBe('process 42 was killed by SIGKILL')
  })

  it('that dies in the middle of a heartbeat is counted as one failure, and down without waiting for it', async () => {
    const { t0, heartbeat, prober, advance, changes, beats } = await settled({ settings: fixed })
    prober.play({ afterMs: 1500, outcome: 'exited' })
    await advance(11_450) // A probe at 10 s; the process dies, and its pipe closes a moment later.
    heartbeat.processGone('process 42 was killed by SIGKILL', 0)
    expect(changes).toEqual([`${t0 + 11_450} down`])
    await advance(500)
    expect(beats).toEqual([`${t0 + 11_450} process exited`])
    expect(changes).toHaveLength(1)
  })

  it('dates the outage back to the first miss when it hung before it died', async () => {
    const { prober, advance, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence' })
    await advance(15_000) // A probe at 10 s, missed at 12 s.
    heartbeat.processGone('process 42 exited with code 1', 0)
    expect(heartbeat.status().unavailableSeconds).toBe(5)
  })

  it('is probed the moment it runs again, on a new connection', async () => {
    const { t0, heartbeat, prober, advance, probesAt, changes } = await settled({ settings: calm })
    heartbeat.processGone('process 42 exited with code 1', 0)
    await advance(1000)
    const { forgotten } = prober
    heartbeat.processStarted('process 43 was started')
    expect(prober.forgotten).toBe(forgotten + 1)
    await advance(0)
    expect(probesAt()).toEqual([t0 + 1000])
    expect(changes).toEqual([`${t0} down`, `${t0 + 1000} recovering`])
  })

  it('of the first session begins the heartbeats of a server that nobody was to ask; of others it changes nothing', async () => {
    const { clock, heartbeat, prober, advance, probesAt, state } = watched({ settings: fixed })
    const startedMs = clock.now()
    heartbeat.idle('no session is open, and resident is never')
    await advance(60_000)
    heartbeat.sessionStarted('process 44 was started for a client')
    await advance(4000)
    heartbeat.sessionStarted('process 44 was started for a client')
    heartbeat.trafficAnswered(false)
    await advance(6000)
    expect(probesAt()).toEqual([startedMs + 70_000])
    prober.play({ outcome: 'silence' })
    await advance(60_000)
    expect(state()).toBe('down')
  })

  it('that starts while a heartbeat is under way is probed right after it', async () => {
    const { t0, heartbeat, prober, advance, probesAt } = await settled({ settings: calm })
    prober.play({ afterMs: 1500 })
    await advance(30_500) // A probe at t0 + 30 s, answered at 31.5 s.
    heartbeat.processStarted('process 43 was started')
    await advance(2000)
    expect(probesAt()).toEqual([t0 + 30_000, t0 + 31_500])
  })

  it('degrades while others run, and the next probe, at once, decides', async () => {
    const { t0, heartbeat, advance, changes, probesAt, reason } = await settled({ settings: fixed })
    heartbeat.processGone('session process 42 exited with code 1', 2)
    expect(reason()).toBe('session process 42 exited with code 1')
    await advance(0)
    expect(changes).toEqual([`${t0} degraded`, `${t0} healthy`])
    expect(probesAt()).toEqual([t0])
  })

  it('that cannot be started means down; one that never runs for long, a crash loop until it answers', async () => {
    const { heartbeat, changes, beats, advance, clock } = await settled({ settings: fixed })
    const t = clock.now()
    heartbeat.startFailed("there is no 'npx' in PATH")
    heartbeat.crashLoop("there is no 'npx' in PATH")
    expect(changes).toEqual([`${t} down`, `${t} crash_loop`])
    // A heartbeat like the end of one that ran, so that it is among the failures.
    expect(beats).toEqual([`${t} process exited`])
    const reason = "there is no 'npx' in PATH"
    expect(heartbeat.history.failures()).toMatchObject([{ method: 'process', outcome: 'exited', reason }])
    await advance(5000)
    expect(heartbeat.status().unavailableSeconds).toBe(5)
    heartbeat.processStarted('process 44 was started')
    await advance(0)
    expect(changes.at(-1)).toBe(`${t + 5000} recovering`)
  })

  it('that nobody needs makes the upstream idle, and its start makes it starting', async () => {
    const { heartbeat, prober, changes, clock, advance } = await settled({ settings: fixed })
    const t = clock.now()
    prober.play({ checks: [] })
    heartbeat.idle('no session is open')
    await advance(60_000)
    expect(changes).toEqual([`${t} idle`])
    heartbeat.processStarted('process 45 was started')
    expect(changes.at(-1)).toBe(`${t + 60_000} starting`)
  })
})

describe('the processes of several sessions (design.md, "Data paths")', () => {
  const session = (key: string, outcome: 'ok' | 'silence'): Check => ({ leg: 'session', session: key, outcome })

  it.each([
    { what: 'one of three hangs', checks: ['ok', 'silence', 'ok'] as const, alive: 0, reason: '1 of 3' },
    { what: 'one hangs and two answer clients', checks: ['silence'] as const, alive: 2, reason: '1 of 3' },
    { what: 'two hang and one answers clients', checks: ['silence', 'silence'] as const, alive: 1, reason: '2 of 3' },
  ])('degrade the upstream when $what', async ({ checks, alive, reason: start }) => {
    const { t0, prober, advance, changes, reason } = await settled({ settings: fixed })
    prober.play({ checks: checks.map((outcome, at) => session(`s${at}`, outcome)), alive })
    await advance(40_000)
    expect(changes).toEqual([`${t0 + 12_000} degraded`])
    expect(reason()).toBe(`${start} processes do not answer`)
  })

  it('take it down when all of them hang, by the same three misses', async () => {
    const { t0, prober, advance, changes, reason } = await settled({ settings: fixed })
    prober.play({ checks: [session('a', 'silence'), session('b', 'silence')] })
    await advance(40_000)
    expect(changes).toEqual([`${t0 + 12_000} suspect`, `${t0 + 32_000} down`])
    expect(reason()).toBe('3 misses in a row: all 2 processes: no answer within 2000 ms')
  })

  it('clear it when all of them answer, by a probe or to clients', async () => {
    const { t0, prober, advance, changes } = await settled({ settings: fixed })
    prober.play({ checks: [session('a', 'silence')], alive: 1 })
    await advance(15_000)
    prober.play({ checks: [], alive: 1 }) // The session that hung was closed.
    await advance(10_000)
    expect(changes).toEqual([`${t0 + 12_000} degraded`, `${t0 + 20_000} healthy`])
  })

  it.each([
    ['none of which can be asked', [] as const],
    ['that only run', ['inconclusive', 'inconclusive'] as const],
  ])('%s tell nothing, which makes doubtful after five heartbeats, until one is heard', async (_, outcomes) => {
    const { t0, prober, advance, changes } = await settled({ settings: fixed })
    prober.play({ checks: outcomes.map((outcome, at) => ({ leg: 'session', session: `s${at}`, outcome })) })
    await advance(45_000)
    prober.play({ checks: [], alive: 1 })
    await advance(10_000)
    prober.play({ checks: [] })
    await advance(60_000)
    expect(changes).toEqual([`${t0 + 100_000} suspect`])
  })

  it('are asked an interval after the one was heard that has been silent for longest', async () => {
    const { t0, prober, advance, probesAt } = await settled({ settings: fixed })
    prober.play({ checks: [], alive: 2, aliveSinceMs: t0 + 4000 })
    await advance(10_000)
    prober.play({ checks: [session('a', 'ok')], alive: 1, aliveSinceMs: t0 + 9000 })
    await advance(24_000)
    expect(probesAt()).toEqual([t0 + 10_000, t0 + 14_000, t0 + 24_000, t0 + 34_000])
  })

  it('are each reported once', async () => {
    const { t0, prober, advance, beats } = await settled({ settings: fixed })
    prober.play({ checks: [session('a', 'ok'), session('b', 'ok'), session('c', 'silence')] })
    await advance(10_000)
    prober.play({ checks: [], alive: 2 })
    await advance(20_000)
    expect(beats).toEqual([`${t0 + 10_000} ping ok`, `${t0 + 10_000} ping ok`, `${t0 + 20_000} ping timeout`])
  })
})

describe('the inventory of tools', () => {
  const opening = (...tools: string[]): Script => ({
    checks: [{ opening: true, method: 'initialize', tools }],
    openingDeadlineMs: 10_000,
  })

  /** Two good answers after an outage, with these tools. */
  async function restartedWith(script: Script, after: Check = {}) {
    const test = watched({ settings: fixed, script: opening('read', 'write') })
    test.heartbeat.start()
    await test.advance(offsetMs(10_000))
    test.heartbeat.processGone('process 1 exited with code 1', 0)
    test.changes.length = 0
    test.prober.play(script)
    test.heartbeat.processStarted('process 2 was started')
    await test.advance(0)
    test.prober.play(after)
    await test.advance(10_000)
    return { ...test, states: () => test.changes.map((change) => change.split(' ')[1]) }
  }

  it('must be what it was for a recovery', async () => {
    const { states, inventories } = await restartedWith(opening('write', 'read'))
    expect(states()).toEqual(['recovering', 'healthy'])
    expect(inventories).toEqual(['2 tools'])
  })

  it('may have grown meanwhile', async () => {
    const { states, inventories } = await restartedWith(opening('read', 'write', 'list'))
    expect(states()).toEqual(['recovering', 'healthy'])
    expect(inventories).toEqual(['2 tools', '3 tools, changed'])
  })

  it.each([
    { what: 'fewer', tools: ['read'], reason: '2 then, 1 now, 1 gone (write)' },
    { what: 'none', tools: [], reason: '2 then, 0 now, 2 gone (read, write)' },
    { what: 'other', tools: ['read', 'write#2'], reason: '2 then, 2 now, 1 with another schema (write)' },
  ])('degrades the upstream when the server came back with $what tools', async ({ tools, reason }) => {
    const { states, reason: why, heartbeat } = await restartedWith(opening(...tools))
    expect(states()).toEqual(['recovering', 'degraded'])
    expect(why()).toBe(`it serves other tools than before: ${reason}`)
    // What is shown is what it serves now, not what it should.
    expect(heartbeat.status().inventory?.size).toBe(tools.length)
  })

  it('is asked for again until it is right, and counted as changed only when it changes', async () => {
    const { advance, prober, states, inventories } = await restartedWith(opening('read'), { tools: ['read'] })
    expect(prober.starts.at(-1)?.options.wantsInventory).toBe(true)
    await advance(20_000)
    expect(inventories).toEqual(['2 tools', '1 tools, changed'])
    prober.play({ tools: ['read', 'write'] })
    await advance(10_000)
    expect(states()).toEqual(['recovering', 'degraded', 'healthy'])
    await advance(10_000)
    expect(prober.starts.at(-1)?.options.wantsInventory).toBe(false)
  })

  it('may change when the server says so itself', async () => {
    const test = watched({ settings: fixed, script: opening('read', 'write') })
    test.heartbeat.start()
    await test.advance(0)
    test.prober.play({ tools: ['list'], announced: true })
    await test.advance(20_000)
    expect(test.changes).toEqual(['0 healthy'])
    expect(test.inventories).toEqual(['2 tools', '1 tools, changed'])
    // And that is then what it should offer.
    expect(test.prober.starts.at(-1)?.options.wantsInventory).toBe(false)
  })

  describe('that are not listed any more', () => {
    it('degrades the upstream that answers the rest, until they come again', async () => {
      const silent: Script = { checks: [{ opening: true, tools: 'silence' }], openingDeadlineMs: 10_000 }
      const { states, advance, prober, reason, heartbeat } = await restartedWith(silent, { tools: 'silence' })
      expect(states()).toEqual(['recovering'])
      await advance(30_000)
      expect(states()).toEqual(['recovering', 'degraded'])
      expect(reason()).toBe(
        'it answers, but no longer lists its tools: 2 before, and 3 requests in a row for them came to nothing',
      )
      expect(heartbeat.status().inventory?.size).toBe(0)
      prober.play({ tools: ['read', 'write'] })
      await advance(10_000)
      expect(states()).toEqual(['recovering', 'degraded', 'healthy'])
      expect(heartbeat.status().inventory?.size).toBe(2)
    })

    it.each<{ why: string; check: Check }>([
      { why: 'it is slow in everything', check: { afterMs: 4000, tools: 'silence' } },
      { why: 'nobody could ask', check: {} },
    ])('says nothing where $why', async ({ check }) => {
      const { states, advance } = await restartedWith(opening('read', 'write'), check)
      await advance(defaults.heartbeat.inventoryAgeMs + 60_000)
      expect(states()).not.toContain('degraded')
    })

    it('is no loss of a server that never listed any', async () => {
      const test = watched({ settings: fixed, script: { tools: 'silence' } })
      test.heartbeat.start()
      await test.advance(120_000)
      expect(test.changes).toEqual(['0 healthy'])
    })
  })

  describe('of a server that may be another one, unseen', () => {
    async function replacedUnseen(options: Options = {}) {
      const test = watched({ settings: fixed, script: opening('read', 'write'), ...options })
      test.heartbeat.start()
      await test.advance(0)
      test.prober.play({})
      await test.advance(defaults.heartbeat.inventoryAgeMs - 20_000)
      return { ...test, wanted: () => test.prober.starts.filter(({ options: { wantsInventory } }) => wantsInventory) }
    }

    it('is read again every five minutes, since another one may stand there unseen', async () => {
      const { advance, prober, wanted, state, reason } = await replacedUnseen()
      expect(wanted()).toHaveLength(1)
      prober.play({ tools: ['read'] })
      await advance(40_000)
      expect(wanted().length).toBeGreaterThan(1)
      expect([state(), reason()]).toEqual([
        'degraded',
        'it serves other tools than before: 2 then, 1 now, 1 gone (write)',
      ])
    })

    it('is read again however much clients ask meanwhile', async () => {
      const { advance, clock, heartbeat, prober, state } = await replacedUnseen()
      prober.play({ tools: ['read'] })
      for (let left = 40; left > 0; left--) {
        heartbeat.trafficAnswered(true)
        await advance(1000)
      }
      expect(state()).toBe('degraded')
      expect(clock.now()).toBeLessThan(defaults.heartbeat.inventoryAgeMs + 21_000)
    })

    it('is read again of one that is ours, too: its command may have started another one', async () => {
      const running = { pid: 7, cpu: undefined, isStopped: false, lastHeardMs: 0, inFlight: 0 }
      const { advance, prober, state } = await replacedUnseen({ vitals: () => running })
      prober.play({ tools: ['read'] })
      await advance(40_000)
      expect(state()).toBe('degraded')
    })

    it('makes no heartbeat of traffic give way again and again where nobody can read it', async () => {
      const { advance, heartbeat, prober } = await replacedUnseen()
      const before = prober.starts.length
      for (let left = 240; left > 0; left--) {
        heartbeat.trafficAnswered(true)
        await advance(1000)
      }
      expect(prober.starts.length - before).toBe(1)
    })
  })

  it('may have been changed in a maintenance: what is listed after it is what should be', async () => {
    const test = await restartedWith(opening('read'), { tools: ['read'] })
    const { heartbeat, advance, state, states, prober, inventories } = test
    expect(state()).toBe('degraded')
    heartbeat.pause(60_000)
    await advance(60_000)
    expect(states().slice(-4)).toEqual(['degraded', 'paused', 'starting', 'healthy'])
    expect(heartbeat.status().inventory?.size).toBe(1)
    await advance(10_000)
    expect(prober.starts.at(-1)?.options.wantsInventory).toBe(false)
    expect(inventories).toEqual(['2 tools', '1 tools, changed'])
    // Whatever is lost later is a loss.
    heartbeat.processGone('process 2 exited with code 1', 0)
    prober.play(opening())
    heartbeat.processStarted('process 3 was started')
    await advance(0)
    prober.play({ tools: [] })
    await advance(10_000)
    expect(test.reason()).toBe('it serves other tools than before: 1 then, 0 now, 1 gone (read)')
  })

  it('does not hold up the verdict: an answer is an answer, however long the list takes', async () => {
    const { promise, resolve } = Promise.withResolvers<readonly string[]>()
    const test = watched({ settings: fixed })
    test.prober.play({ checks: [{ opening: true, tools: promise }], openingDeadlineMs: 10_000 })
    test.heartbeat.start()
    await test.advance(0)
    expect(test.changes).toEqual(['0 healthy'])
    expect(test.inventories).toEqual([])
    resolve(['read'])
    await test.advance(0)
    expect(test.inventories).toEqual(['1 tools'])
  })
})

describe('the interval', () => {
  it('comes from the exported metrics alone: what probes took is no input', async () => {
    const seen: number[] = []
    const readings = () => Promise.resolve({ heartbeats: 1, failures: 0, rttMeanMs: 10, elapsedMs: 10_000 })
    const test = await settled({ readings, onHeartbeat: ({ result }) => seen.push(result.durationMs) })
    test.prober.play({ afterMs: 1900 })
    await test.advance(200_000)
    expect(seen.at(-1)).toBe(1900)
    const { suspicion, inputs, intervalMs } = test.heartbeat.status().interval
    expect(suspicion).toBe(0)
    expect(inputs.r).toBe(1)
    expect(intervalMs).toBeGreaterThan(10_000)
  })

  it('is shortened by what the metrics say, though every probe was answered at once', async () => {
    let failures = 0
    const readings = () => Promise.resolve({ heartbeats: 10, failures, rttMeanMs: 10, elapsedMs: 10_000 })
    const test = await settled({ readings, settings: calm })
    failures = 10 // Clients' operations fail; see `ReadingDiff`.
    await test.advance(60_000)
    expect(test.heartbeat.status().interval.intervalMs).toBeLessThan(10_000)
    expect(test.state()).toBe('suspect')
  })

  it('does not wait for metrics after a miss: it is at its shortest at once', async () => {
    let isStuck = false
    const readings = () =>
      isStuck
        ? new Promise<never>(() => undefined)
        : Promise.resolve({ heartbeats: 1, failures: 0, rttMeanMs: 10, elapsedMs: 10_000 })
    const { t0, prober, advance, probesAt, heartbeat } = await settled({ readings, settings: calm })
    isStuck = true
    prober.play({ outcome: 'silence' })
    await advance(32_000)
    expect(heartbeat.status().interval.intervalMs).toBe(5000)
    await advance(3000)
    expect(probesAt()).toEqual([t0 + 30_000, t0 + 35_000])
  })

  it('learns from the metrics in the middle of an outage, too: its failure ratio does not stay 0', async () => {
    const readings = () => Promise.resolve({ heartbeats: 1, failures: 1, rttMeanMs: undefined, elapsedMs: 5000 })
    const { prober, advance, heartbeat } = await settled({ readings, settings: calm })
    prober.play({ outcome: 'silence' })
    await advance(32_000)
    expect(heartbeat.status().interval.inputs.e).toBeGreaterThan(0.1)
    expect(heartbeat.status().interval.why()).not.toContain('no recent failures')
  })

  it('learns no round trip from a window with an opening exchange in it, be the readings a second old', async () => {
    let rttMeanMs = 8000
    const readings = () => Promise.resolve({ heartbeats: 1, failures: 0, rttMeanMs, elapsedMs: 10_000 })
    const test = watched({ readings, settings: fixed })
    // The opening is answered at 100 ms and the readings are taken at 600 ms, as they may have been at -400 ms.
    const session: Check = { leg: 'session', session: 'a', afterMs: 600 }
    test.prober.play({ checks: [{ opening: true, afterMs: 100 }, session], openingDeadlineMs: 60_000 })
    test.heartbeat.start()
    await test.advance(600)
    test.prober.play({})
    expect(test.heartbeat.status().interval.state.rtt).toBeUndefined()
    await test.advance(offsetMs(10_000))
    expect(test.probesAt()).toHaveLength(2)
    expect(test.heartbeat.status().interval.state.rtt).toBeUndefined()
    rttMeanMs = 20
    await test.advance(10_000)
    expect(test.heartbeat.status().interval.state.rtt?.baselineMs).toBe(20)
  })
})

describe('a new kind of failure', () => {
  it('is told once, without what differs from case to case', async () => {
    const { prober, advance, causes } = await settled({ settings: fixed })
    for (const [status, ms] of [
      [502, 12],
      [502, 7],
      [503, 7],
    ]) {
      prober.play({ outcome: 'http_error', reason: `answered with ${status} after ${ms} ms` })
      await advance(10_000)
    }
    prober.play({ outcome: 'refused', reason: 'nobody listens' })
    await advance(10_000)
    expect(causes).toEqual([
      'http_error on ping: answered with 502 after # ms',
      'http_error on ping: answered with 503 after # ms',
      'refused on ping: nobody listens',
    ])
  })

  it('is what takes a server down that clients met, and that it wants credentials, both with their patterns', async () => {
    const { prober, heartbeat, advance, causes, state } = await settled({ settings: fixed })
    heartbeat.trafficFailed({ outcome: 'refused', reason: 'connect ECONNREFUSED 127.0.0.1:3000' })
    heartbeat.trafficFailed({ outcome: 'refused', reason: 'connect ECONNREFUSED 127.0.0.1:3000' })
    expect(state()).toBe('down')
    prober.play({ outcome: 'unauthorized', reason: 'HTTP 401: credentials are missing or refused' })
    await advance(30_000)
    expect(state()).toBe('needs_auth')
    const [met, locked] = [
      "refused on traffic: a client's request failed: connect ECONNREFUSED #:#",
      'unauthorized on ping: HTTP 401: credentials are missing or refused',
    ]
    expect(causes).toEqual([met, locked])
    const patterns = heartbeat.history.patterns()
    expect(patterns.map(({ cause }) => cause)).toEqual(expect.arrayContaining([met, locked]))
    expect(patterns.find(({ cause }) => cause === met)?.count).toBe(1)
    expect(heartbeat.history.failures().at(-1)).toMatchObject({ method: 'traffic', outcome: 'refused' })
    expect(heartbeat.history.counts().failures).toBe(0)
  })
})

describe('what is told', () => {
  it('tells each heartbeat once, under one trace id, when it is known when the next one comes', async () => {
    const { advance, reported, beats } = await settled({ settings: fixed })
    await advance(30_000)
    expect(beats).toHaveLength(3)
    expect(reported.map(({ nextInMs }) => nextInMs)).toEqual([10_000, 10_000, 10_000])
    expect(new Set(reported.map(({ traceId }) => traceId)).size).toBe(3)
  })

  it('keeps a history of them with their reasons', async () => {
    const { advance, prober, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'http_error', reason: 'HTTP 503 without a JSON-RPC answer' })
    await advance(10_000)
    expect(heartbeat.history.failures()[0]).toMatchObject({
      outcome: 'http_error',
      reason: 'HTTP 503 without a JSON-RPC answer',
      responseTimeMs: 0,
    })
    expect(heartbeat.history.counts()).toEqual({ heartbeats: 3, answered: 2, failures: 1 })
  })

  it('tells when it was last answered, by probes and clients alike', async () => {
    const { advance, heartbeat, clock, t0 } = await settled({ settings: fixed })
    await advance(10_500)
    expect(heartbeat.status().lastSuccessWallMs).toBe(clock.wallTime() - 500)
    heartbeat.trafficAnswered(true)
    expect(heartbeat.status().lastSuccessWallMs).toBe(clock.wallTime())
    expect(clock.now()).toBe(t0 + 10_500)
  })
})

describe('whatever goes wrong in it', () => {
  it.each<{ what: string; script: Check | Script }>([
    { what: 'a prober that throws', script: { checks: [], throws: new Error('bug') } },
    { what: 'a prober that rejects', script: { rejects: new Error('bug') } },
    { what: 'a prober that never settles', script: { neverSettles: true } },
    {
      what: 'an opening exchange that never settles',
      script: { checks: [{ neverSettles: true, opening: true }], openingDeadlineMs: 10_000 },
    },
  ])('the heartbeat goes on after $what', async ({ script }) => {
    const { prober, advance, probesAt, state } = await settled({ settings: fixed })
    prober.play(script)
    await advance(30_000)
    expect(probesAt().length).toBeGreaterThanOrEqual(2)
    prober.play({})
    await advance(40_000)
    expect(state()).toBe('healthy')
  })

  it('reports a probe that never settles once, as a time-out', async () => {
    const { t0, prober, advance, beats } = await settled({ settings: fixed })
    prober.play({ neverSettles: true })
    await advance(15_000)
    prober.play({ checks: [] })
    await advance(30_000)
    expect(beats).toEqual([`${t0 + 21_000} ping timeout`])
  })

  it('our own bug in a prober is never blamed on the upstream', async () => {
    const { prober, advance, changes, beats, t0 } = await settled({ settings: fixed })
    prober.play({ rejects: new TypeError('undefined is not a function') })
    await advance(10_000)
    expect(changes).toEqual([])
    expect(beats).toEqual([`${t0 + 10_000} ping inconclusive`])
  })

  it('the heartbeat goes on after readings, or a listener, that fail', async () => {
    let isBroken = false
    const fail = () => {
      if (isBroken) throw new Error('bug')
    }
    const readings = () => {
      fail()
      return Promise.resolve({ heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 })
    }
    const test = await settled({ settings: fixed, readings, onHeartbeat: fail })
    isBroken = true
    await test.advance(20_000)
    isBroken = false
    await test.advance(20_000)
    expect(test.probesAt()).toHaveLength(4)
    expect(test.errors).toHaveLength(2)
  })
})

describe('stop()', () => {
  it('stops the prober, the schedule and every timer, also in the middle of a probe', async () => {
    const { prober, advance, heartbeat, scheduler, timers, changes, beats } = await settled({ settings: fixed })
    prober.play({ neverSettles: true })
    await advance(10_500)
    await heartbeat.stop()
    scheduler.stop()
    await advance(0)
    expect(prober.stopped).toBe(true)
    expect(timers()).toBe(0)
    heartbeat.probeNow()
    await advance(100_000)
    expect(prober.starts).toHaveLength(1)
    expect([changes, beats]).toEqual([[], []])
  })
})

describe('a server that says something else than answers', () => {
  it('is invalid, down by three misses, and not silent', async () => {
    const { t0, prober, advance, changes, beats, reason, heartbeat } = await settled({ settings: fixed })
    prober.play({ outcome: 'silence', noise: 2 })
    await advance(32_000)
    expect(changes).toEqual([`${t0 + 12_000} suspect`, `${t0 + 32_000} down`])
    expect(reason()).toBe('3 misses in a row: no answer within 2000 ms, but 2 messages that are no JSON-RPC')
    expect(beats.map((beat) => beat.split(' ').slice(1))).toEqual([
      ['ping', 'invalid'],
      ['ping', 'invalid'],
    ])
    expect(heartbeat.status().verdict.silentSinceMs).toBeUndefined()
    expect(heartbeat.lastHeardMs()).toBe(t0 + 32_000)
  })
})

describe('busy or hung, where the processes are ours (control-law.md, "stdio supervision")', () => {
  const still: Vitals = { pid: 7, cpu: { seconds: 1, atMs: 0 }, isStopped: false, lastHeardMs: 0, inFlight: 0 }
  /** Its CPU time as if it used this share of a core all the time. */
  const using = (cpuRatio: number, nowMs: number) => ({ cpu: { seconds: (cpuRatio * nowMs) / 1000, atMs: nowMs } })
  const silence: Check = { outcome: 'silence' }

  it('takes a silent, idle process down by three misses, and tells of the hang once it was silent for 30 s', async () => {
    let now = () => 0
    const vitals = () => ({ ...still, ...using(0, now()), lastHeardMs: t0 })
    const test = await settled({ vitals })
    const t0 = test.t0
    now = () => test.clock.now()
    test.prober.play(silence)
    await test.advance(40_000)
    const [suspect, down] = test.changes.map((change) => Number(change.split(' ')[0]) - t0)
    expect(test.changes.map((change) => change.split(' ')[1])).toEqual(['suspect', 'down'])
    expect([suspect, down]).toEqual([12_000, 22_000])
    // The sixth probe starts at 30 s, and has twice the time since the third was missed.
    expect(test.hangs[0]).toBe(`${t0 + 34_000} own process`)
    expect(test.reason()).toMatch(/^hung: no output for \d+ s, and it uses 0 % of a core; it is restarted$/)
  })

  it.each([
    ['idle', 0, 'silentMs', 'it uses 0 % of a core'],
    ['spinning', 1, 'spinningMs', 'it uses 100 % of a core'],
  ] as const)('hangs, %s, after the time of its settings, of which other ones count at once', async (...row) => {
    const [, cores, name, words] = row
    let now = () => 0
    const vitals = () => ({ ...still, ...using(cores, now()), lastHeardMs: t0 })
    const patient = { ...fixed, hang: { ...settings.hang, [name]: 3_600_000 } }
    const test = await settled({ vitals, settings: patient })
    const t0 = test.t0
    now = () => test.clock.now()
    test.prober.play(silence)
    await test.advance(600_000)
    expect([test.state(), test.hangs]).toEqual(['down', []])
    test.heartbeat.configure({ ...settings, ...patient, hang: { ...settings.hang, [name]: 605_000 } })
    await test.advance(30_000)
    expect(test.hangs.length).toBeGreaterThan(0)
    expect(test.reason()).toContain(words)
  })

  it('tells of the hang of a process that it has to open anew, which is no start', async () => {
    let now = () => 0
    const vitals = () => ({ ...still, ...using(0, now()), lastHeardMs: t0 })
    const test = await settled({ vitals, settings: fixed })
    const t0 = test.t0
    now = () => test.clock.now()
    const { checks } = { checks: [silence] }
    test.prober.play({ checks, openingDeadlineMs: settings.lateAnswerMs })
    await test.advance(60_000)
    expect(test.hangs.length).toBeGreaterThan(0)
  })

  it('is busy while a request is under way that uses CPU: no miss, no failure, no restart, and healthy at the answer', async () => {
    let now = () => 0
    const vitals = () => ({ ...still, ...using(1, now()), inFlight: 1, lastHeardMs: t0 })
    const test = await settled({ vitals, settings: fixed })
    const t0 = test.t0
    now = () => test.clock.now()
    test.prober.play(silence)
    await test.advance(300_000)
    expect(test.changes).toEqual([`${t0 + 12_000} busy`])
    expect(test.reason()).toBe('busy: a request is under way, and it uses 100 % of a core')
    expect(test.heartbeat.status().verdict.misses).toBe(0)
    expect(new Set(test.beats.map((beat) => beat.split(' ')[2]))).toEqual(new Set(['inconclusive']))
    expect(test.heartbeat.history.failures()).toEqual([])
    expect(test.hangs).toEqual([])
    test.prober.play({})
    await test.advance(20_000)
    expect(test.state()).toBe('healthy')
  })

  it('takes what a process says to its client after the time-out for no late answer: nothing was asked', async () => {
    let now = () => 0
    const vitals = () => ({ ...still, ...using(1, now()), inFlight: 1, lastHeardMs: t0 })
    const test = await settled({ vitals, settings: fixed })
    const t0 = test.t0
    now = () => test.clock.now()
    test.prober.play({ leg: 'session', session: 'a', method: 'traffic', afterMs: 4000 })
    await test.advance(15_000)
    expect(test.changes).toEqual([`${t0 + 12_000} busy`, `${t0 + 14_000} healthy`])
    expect(test.beats).toEqual([`${t0 + 14_000} traffic ok`])
  })

  it('looks at a silent process also where the time-out is as long as anything is waited for', async () => {
    let now = () => 0
    let inFlight = 1
    const vitals = () => ({ ...still, ...using(0, now()), inFlight, lastHeardMs: t0 })
    const longest = { minTimeoutMs: settings.lateAnswerMs, maxTimeoutMs: settings.lateAnswerMs }
    const test = await settled({ vitals, settings: { ...fixed, ...longest } })
    const t0 = test.t0
    now = () => test.clock.now()
    test.prober.play(silence)
    await test.advance(45_000)
    expect(test.state()).toBe('busy')
    inFlight = 0
    await test.advance(40_000)
    expect([test.state(), test.hangs.length > 0]).toEqual(['down', true])
  })

  it('tells of the session that hangs, while the others answer', async () => {
    let now = () => 0
    const vitals = (session: string | undefined) => ({ ...still, pid: session === 'a' ? 1 : 2, ...using(0, now()) })
    const test = await settled({ vitals, settings: fixed })
    now = () => test.clock.now()
    test.prober.play({
      checks: [
        { leg: 'session', session: 'a', outcome: 'silence' },
        { leg: 'session', session: 'b' },
      ],
    })
    await test.advance(35_000)
    expect(test.state()).toBe('degraded')
    expect(test.hangs.map((hang) => hang.split(' ')[1])).toEqual(['a'])
  })

  it('is over at the first heartbeat that is answered in any way', async () => {
    const test = await settled({ settings: fixed, inFlight: () => 1 })
    test.prober.play(silence)
    await test.advance(40_000)
    expect(test.state()).toBe('busy')
    test.prober.play({ outcome: 'inconclusive', reason: 'HTTP 429: the server wants fewer requests' })
    await test.advance(10_000)
    expect([test.state(), test.reason()]).toEqual(['healthy', 'HTTP 429: the server wants fewer requests'])
    await test.advance(40_000)
    expect([test.state(), test.reason()]).toEqual(['suspect', 'nobody knows: 5 heartbeats in a row told nothing'])
  })

  it.each([
    ['paused', (test: Awaited<ReturnType<typeof settled>>) => test.heartbeat.pause(3_600_000)],
    ['off', (test: Awaited<ReturnType<typeof settled>>) => test.heartbeat.configure({ ...settings, probe: 'off' })],
    [
      'passive',
      (test: Awaited<ReturnType<typeof settled>>) => test.heartbeat.configure({ ...settings, probe: 'passive' }),
    ],
  ])('tells of no hang while it is %s, not even when it is probed by hand', async (_what, quiet) => {
    const test = await settled({ vitals: () => still })
    quiet(test)
    test.prober.play(silence)
    for (let probe = 0; probe < 5; probe++) {
      const over = test.heartbeat.probeOnce()
      await test.advance(20_000)
      await over
    }
    expect(test.hangs).toEqual([])
  })
})
