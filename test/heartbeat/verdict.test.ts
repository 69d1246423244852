import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { meaningOf, outcomes } from '../../src/heartbeat/classify.ts'
import type { Evidence, State, Verdict } from '../../src/heartbeat/verdict.ts'
import { evidenceOf, flapPenalty, isUnavailable, isUp, judge, newVerdict, states } from '../../src/heartbeat/verdict.ts'

const limits = { missesToDown: 3, goodsToHealthy: 2 }
const answered: Evidence = { kind: 'answered', by: 'probe', reason: 'ping answered' }
const traffic: Evidence = { kind: 'answered', by: 'traffic', reason: 'it answered a client' }
const late: Evidence = { kind: 'answered', by: 'probe', reason: 'ping answered, after its time-out', isLate: true }
const turnedAway: Evidence = { kind: 'answered', by: 'probe', reason: 'initialize: no licence', isTurnedAway: true }
const missed: Evidence = { kind: 'missed', reason: 'no answer within 2 s' }
const clientMissed: Evidence = { kind: 'missed', by: 'traffic', reason: "a client's request failed: HTTP 503" }
const silent: Evidence = { kind: 'silent', reason: 'no answer within 2 s' }
const exited: Evidence = { kind: 'gone', reason: 'process 42 exited with code 1', isExit: true }
const gone: Evidence = { kind: 'gone', reason: 'exit code 1' }
const unauthorized: Evidence = { kind: 'unauthorized', reason: 'HTTP 401' }
const inconclusive: Evidence = { kind: 'inconclusive', reason: 'HTTP 429: the server wants fewer requests' }
const stalled: Evidence = { kind: 'inconclusive', reason: 'our own event loop stood still', isBlind: true }
const doubted: Evidence = { kind: 'suspicion', level: 0.3, slowness: 0, isSlow: false, reason: '5 % failed' }
const halfDoubted: Evidence = { kind: 'suspicion', level: 0.2, slowness: 0, isSlow: false, reason: '3 % failed' }
const slow: Evidence = { kind: 'suspicion', level: 0, slowness: 0.3, isSlow: true, reason: 'answers at 3×' }
const lessSlow: Evidence = { kind: 'suspicion', level: 0, slowness: 0.2, isSlow: false, reason: 'answers at 2×' }
const trusted: Evidence = { kind: 'suspicion', level: 0.1, slowness: 0.1, isSlow: false, reason: 'calm' }
const sameTools: Evidence = { kind: 'inventory', same: true, reason: 'the same 5 tools' }
const otherTools: Evidence = { kind: 'inventory', same: false, reason: '2 of 5 tools are missing' }
const someHang: Evidence = { kind: 'sessions', hung: 1, alive: 2, reason: '1 of 3 sessions hangs' }
const allHang: Evidence = { kind: 'sessions', hung: 3, alive: 0, reason: 'all 3 sessions hang' }
const noneHangs: Evidence = { kind: 'sessions', hung: 0, alive: 3, reason: '3 sessions answer' }
const busy: Evidence = { kind: 'busy', reason: 'works on 1 request' }
const lost: Evidence = { kind: 'lost', reason: 'no output for 60 s' }
const starting: Evidence = { kind: 'starting', reason: 'start 2' }
const idle: Evidence = { kind: 'idle', reason: 'no session' }
const crashLoop: Evidence = { kind: 'crash_loop', reason: '10 starts, never ready' }
const paused: Evidence = { kind: 'paused', reason: 'maintenance' }
const disabled: Evidence = { kind: 'disabled', reason: 'heartbeat.enabled is false' }
const resumed: Evidence = { kind: 'resumed', reason: 'maintenance is over' }

const all = (evidence: readonly Evidence[], from = newVerdict('starting', 'not probed yet', 0)) =>
  evidence.reduce((verdict, next, at) => judge(verdict, next, (at + 1) * 1000, limits), from)

/** The shortest way from the start into each state. */
const ways: Readonly<Record<State, readonly Evidence[]>> = {
  starting: [],
  healthy: [answered],
  suspect: [answered, missed],
  busy: [answered, busy],
  degraded: [answered, otherTools],
  recovering: [gone, answered],
  down: [gone],
  crash_loop: [crashLoop],
  needs_auth: [unauthorized],
  idle: [idle],
  paused: [paused],
  disabled: [disabled],
}

describe('judge', () => {
  // One row per piece of evidence, one column per state it meets; `-` leaves the verdict as it is, object and all;
  // `=` keeps the state, but remembers something.
  const table = `
                 starting    healthy     suspect     busy        degraded    recovering  down        crash_loop  needs_auth  idle        paused      disabled
    answered     healthy     =           healthy     healthy     =           healthy     recovering  recovering  recovering  healthy     -           -
    traffic      healthy     =           healthy     healthy     =           healthy     recovering  recovering  recovering  healthy     -           -
    late         suspect     suspect     =           suspect     =           suspect     recovering  recovering  recovering  suspect     -           -
    turnedAway   degraded    degraded    degraded    degraded    =           degraded    recovering  recovering  recovering  degraded    -           -
    missed       =           suspect     =           suspect     =           =           =           -           =           -           -           -
    clientMissed =           suspect     =           suspect     =           =           =           -           =           =           -           -
    silent       =           suspect     =           suspect     =           =           =           -           =           -           -           -
    gone         down        down        down        down        down        down        =           -           down        down        -           -
    unauthorized needs_auth  needs_auth  needs_auth  needs_auth  needs_auth  needs_auth  needs_auth  needs_auth  -           needs_auth  -           -
    inconclusive =           =           =           healthy     =           =           =           =           =           =           -           -
    doubted      -           suspect     =           =           =           -           -           -           -           -           -           -
    halfDoubted  -           -           -           -           -           -           -           -           -           -           -           -
    slow         -           suspect     =           =           =           -           -           -           -           -           -           -
    lessSlow     -           -           -           -           -           -           -           -           -           -           -           -
    trusted      -           =           =           =           =           -           -           -           -           -           -           -
    sameTools    =           =           =           =           healthy     =           =           =           =           =           -           -
    otherTools   =           degraded    degraded    degraded    -           =           =           =           =           =           -           -
    someHang     =           degraded    degraded    degraded    =           =           =           =           =           =           -           -
    allHang      down        down        down        down        down        down        -           -           down        down        -           -
    noneHangs    -           -           -           -           -           -           -           -           -           -           -           -
    busy         -           busy        busy        -           -           -           -           -           -           -           -           -
    lost         down        down        down        down        down        down        =           -           down        -           -           -
    starting     -           starting    starting    starting    starting    starting    starting    -           starting    starting    -           -
    idle         idle        idle        idle        idle        idle        idle        idle        -           idle        -           -           -
    crashLoop    crash_loop  crash_loop  crash_loop  crash_loop  crash_loop  crash_loop  crash_loop  -           crash_loop  crash_loop  -           -
    paused       paused      paused      paused      paused      paused      paused      paused      paused      paused      paused      -           -
    disabled     disabled    disabled    disabled    disabled    disabled    disabled    disabled    disabled    disabled    disabled    disabled    -
    resumed      -           -           -           -           -           -           -           -           -           -           starting    starting`
  const evidences: Readonly<Record<string, Evidence>> = {
    answered,
    traffic,
    late,
    turnedAway,
    missed,
    clientMissed,
    silent,
    gone,
    unauthorized,
    inconclusive,
    doubted,
    halfDoubted,
    slow,
    lessSlow,
    trusted,
    sameTools,
    otherTools,
    someHang,
    allHang,
    noneHangs,
    busy,
    lost,
    starting,
    idle,
    crashLoop,
    paused,
    disabled,
    resumed,
  }
  const [header = [], ...rows] = table
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  const cells = rows.flatMap(([name = '', ...expected]) =>
    states.map((state) => ({ state, name, expected: expected[header.indexOf(state)] ?? 'missing in the table' })),
  )

  it.each(cells)('$state + $name: $expected', ({ state, name, expected }) => {
    const before = all(ways[state])
    const evidence = evidences[name] ?? inconclusive
    const after = judge(before, evidence, 99_000, limits)
    expect(before.state).toBe(state)
    if (expected === '-') {
      expect(after).toBe(before)
      return
    }
    expect(after.state).toBe(expected === '=' ? state : expected)
    expect(after.sinceMs).toBe(after.state === state ? before.sinceMs : 99_000)
    if (after.state !== state && after.state !== 'recovering' && 'reason' in evidence) {
      expect(after.reason).toContain(evidence.reason)
    }
    expect(judge(before, evidence, 99_000, limits)).toEqual(after)
  })
})

describe('the way down', () => {
  it('is suspect at the first miss, down at the third and no sooner, each with its reason', () => {
    const path = [answered, missed, missed, missed].map((_, at, list) => all(list.slice(0, at + 1)))
    expect(path.map(({ state, misses, reason }) => [state, misses, reason])).toEqual([
      ['healthy', 0, 'ping answered'],
      ['suspect', 1, '1 miss (down at 3): no answer within 2 s'],
      ['suspect', 2, '2 misses (down at 3): no answer within 2 s'],
      ['down', 3, '3 misses in a row: no answer within 2 s'],
    ])
  })

  it.each([
    ['a late answer between misses', [answered, missed, missed, answered, missed, missed], 'suspect'],
    ['an answer to a client', [answered, missed, missed, traffic, missed, missed], 'suspect'],
    ['a 401, which is a sign of life', [missed, missed, unauthorized, missed, missed], 'needs_auth'],
    ['a new start', [missed, missed, gone, starting, missed, missed], 'starting'],
  ] as const)('%s starts the count again', (_, evidence, state) => {
    expect(all(evidence).state).toBe(state)
    expect(all([...evidence, missed]).state).toBe('down')
  })

  it('doubts after five heartbeats in a row that told nothing, until one tells something', () => {
    const four = all([answered, ...Array.from({ length: 4 }, () => inconclusive)])
    expect(four.state).toBe('healthy')
    const five = judge(four, inconclusive, 99_000, limits)
    expect([five.state, five.reason]).toEqual(['suspect', 'nobody knows: 5 heartbeats in a row told nothing'])
    expect(judge(five, inconclusive, 100_000, limits)).toBe(five)
    expect(judge(five, answered, 101_000, limits).state).toBe('healthy')
    expect(judge(judge(five, missed, 101_000, limits), answered, 102_000, limits).state).toBe('healthy')
    expect(all([gone, ...Array.from({ length: 9 }, () => inconclusive)]).state).toBe('down')
  })

  it.each([
    ['down', [gone]],
    ['starting', [missed]],
    ['suspect', [answered, missed]],
    ['recovering', [gone, answered, missed]],
  ] as const)('is %s still when it answers with 429, which is the reason then', (state, before) => {
    const reason = 'HTTP 429: it wants to be asked less often'
    const after = judge(all([...before]), { kind: 'inconclusive', reason, isAnswer: true }, 99_000, limits)
    expect(after).toMatchObject({ state, reason })
    expect(judge(after, missed, 100_000, limits).misses).toBe(after.misses + 1)
  })

  it('says what it knows for certain, whatever a heartbeat did not tell', () => {
    const before = all([gone])
    expect(judge(before, inconclusive, 99_000, limits).reason).toBe(before.reason)
    expect(judge(before, stalled, 99_000, limits).reason).toBe(before.reason)
  })

  it('is busy until it says anything, or until nobody can tell any more', () => {
    const atWork = all([answered, busy])
    const after = (...evidence: Evidence[]) =>
      evidence.reduce((verdict, one) => judge(verdict, one, 99_000, limits), atWork)
    expect(after(inconclusive)).toMatchObject({ state: 'healthy', reason: 'HTTP 429: the server wants fewer requests' })
    expect(after(stalled, stalled, stalled, stalled).state).toBe('busy')
    expect(after(stalled, stalled, stalled, stalled, stalled).state).toBe('suspect')
    expect(after(stalled, stalled, stalled, stalled, busy, stalled).state).toBe('busy')
    expect(judge(all([answered, missed, busy]), inconclusive, 99_000, limits).state).toBe('suspect')
  })

  it.each([
    ['being busy', [answered, missed, missed, busy, missed]],
    ['an inconclusive probe', [answered, missed, missed, inconclusive, missed]],
    ['recovering', [gone, answered, missed, missed, missed]],
    ['starting', [missed, missed, missed]],
    ['missing tools', [answered, otherTools, missed, missed, missed]],
    ['a locked door', [unauthorized, missed, missed, missed]],
  ] as const)('%s does not stop the count', (_, evidence) => {
    expect(all(evidence.slice(0, -1)).state).not.toBe('down')
    expect(all(evidence).state).toBe('down')
  })

  it('keeps the first cause of an outage, and counts on', () => {
    const verdict = all([answered, missed, missed, missed, gone, missed])
    expect([verdict.reason, verdict.misses, verdict.sinceMs]).toEqual([
      '3 misses in a row: no answer within 2 s',
      5,
      4000,
    ])
  })

  it('knows when the failing began: at the start of the first failed probe, else now; an answer ends it', () => {
    const failing = all([answered, { ...missed, atMs: 1500 }, missed, missed])
    expect(failing.failingSinceMs).toBe(1500)
    expect(all([answered, missed, gone]).failingSinceMs).toBe(2000)
    expect(judge(failing, answered, 9000, limits).failingSinceMs).toBeUndefined()
    expect(all([paused, resumed], failing).failingSinceMs).toBeUndefined()
    expect(all([starting], failing).failingSinceMs).toBe(1500)
  })
})

describe('the way up', () => {
  it('is recovering at the first answer and healthy at the second', () => {
    const verdict = all([answered, gone, answered])
    expect([verdict.state, verdict.reason]).toEqual(['recovering', 'answers again (1 of 2): ping answered'])
    expect(all([traffic], verdict).state).toBe('healthy')
  })

  it('is healthy at the first answer of a first start, but recovering after a start that failed or a restart', () => {
    expect(all([answered]).state).toBe('healthy')
    expect(all([gone, starting, answered]).state).toBe('recovering')
    expect(all([answered, gone, starting, answered]).state).toBe('recovering')
    expect(all([answered, idle, starting, answered]).state).toBe('healthy')
  })

  it('needs two answers in a row', () => {
    expect(all([gone, answered, missed, answered]).state).toBe('recovering')
    expect(all([gone, answered, missed, answered, answered]).state).toBe('healthy')
  })

  const known = [answered, sameTools, gone] as const
  it.each([
    ['never saw an inventory: two answers do', [answered, gone, answered, answered], 'healthy'],
    ['the inventory is still to come', [...known, answered, answered], 'recovering'],
    ['the inventory is still to come, many answers', [...known, answered, answered, traffic, answered], 'recovering'],
    ['same, before the first answer', [...known, sameTools, answered, answered], 'healthy'],
    ['same, between the answers', [...known, answered, sameTools, answered], 'healthy'],
    ['same, after the second answer', [...known, answered, answered, sameTools], 'healthy'],
    ['same, but a miss came between', [...known, answered, answered, missed, sameTools], 'recovering'],
    ['different, before the second answer', [...known, answered, otherTools], 'recovering'],
    ['… and at the second answer', [...known, answered, otherTools, answered], 'degraded'],
    ['different, after the second answer', [...known, answered, answered, otherTools], 'degraded'],
    ['first seen and different after a recovery', [answered, gone, answered, answered, otherTools], 'degraded'],
    ['the next outage asks again', [...known, sameTools, answered, answered, gone, answered, answered], 'recovering'],
    ['a locked door restarts nothing', [answered, sameTools, unauthorized, answered, answered], 'healthy'],
  ] as const)('inventory: %s', (_, evidence, state) => {
    expect(all(evidence).state).toBe(state)
  })

  it('does not wait for an inventory that never comes', () => {
    const waiting = all([...known, answered, answered])
    expect(waiting.reason).toBe('answers again; its inventory is not compared yet')
    const sinceMs = waiting.sinceMs
    expect(judge(waiting, answered, sinceMs + 59_999, limits)).toBe(waiting)
    const healthy = judge(waiting, answered, sinceMs + 60_000, limits)
    expect(healthy.state).toBe('healthy')
    expect(judge(healthy, otherTools, sinceMs + 70_000, limits).state).toBe('degraded')
  })

  it('goes straight to healthy where one answer is enough', () => {
    const quick = { missesToDown: 1, goodsToHealthy: 1 }
    const path = [answered, missed, answered].reduce(
      (verdict, next) => judge(verdict, next, 1, quick),
      newVerdict('starting', 'x', 0),
    )
    expect(path.state).toBe('healthy')
    const down = judge(path, missed, 2, quick)
    expect([down.state, down.reason.split(':')[0]]).toEqual(['down', '1 miss'])
  })
})

describe('suspicion', () => {
  it('makes suspect from .30 on and clears at .10, with no blinking in between', () => {
    const verdict = all([answered, doubted])
    expect([verdict.state, verdict.reason]).toEqual(['suspect', '5 % failed'])
    expect(all([answered, halfDoubted], verdict).state).toBe('suspect')
    expect(all([trusted], verdict).state).toBe('healthy')
  })

  it('outlives the answer that ends a miss: a server that fails now and then stays suspect', () => {
    const verdict = all([answered, missed, doubted, answered])
    expect([verdict.state, verdict.misses, verdict.reason]).toEqual(['suspect', 0, '5 % failed'])
    expect(all([answered, missed, answered]).state).toBe('healthy')
    expect(all([answered, missed, doubted, trusted]).state).toBe('suspect')
  })

  it('is left over after an outage and does not count until it died down or something fails again', () => {
    const recovered = all([gone, answered, answered, doubted])
    expect(recovered.state).toBe('healthy')
    expect(all([trusted, doubted], recovered).state).toBe('suspect')
    expect(all([missed, answered, doubted], recovered).state).toBe('suspect')
  })

  it('tells its figures of now for as long as they are why', () => {
    const more: Evidence = { kind: 'suspicion', level: 0.9, slowness: 0, isSlow: false, reason: '17 % failed' }
    expect(all([answered, doubted, more]).reason).toBe('17 % failed')
    expect(all([answered, doubted, more, halfDoubted]).reason).toBe('17 % failed')
  })

  it('that is not a number changes nothing', () => {
    const healthy = all([answered])
    expect(judge(healthy, { ...doubted, level: NaN }, 1, limits)).toBe(healthy)
  })
})

describe('slow answers', () => {
  const times = (count: number, ...evidence: readonly Evidence[]) =>
    Array.from({ length: count }, () => evidence).flat()
  const usual = [answered, ...times(5, answered, slow)]
  const usuallyLate = [answered, ...times(5, silent, late)]

  it('are suspicious until there were five of them: then slow is what the server is', () => {
    const path = usual.map((_, at) => all(usual.slice(0, at + 1)))
    expect(path.map(({ state }) => state)).toEqual(['healthy', 'healthy', ...Array(8).fill('suspect'), 'healthy'])
    expect(path.at(-2)?.reason).toBe('answers at 3×')
    expect(path.at(-1)?.reason).toBe('it answers every heartbeat, though slowly')
    expect(all(times(50, answered, slow, lessSlow), path.at(-1))).toBe(path.at(-1))
  })

  it('are news again once they were quick in between', () => {
    const quick = all([...usual, answered, trusted])
    expect([quick.state, quick.reason, quick.slows]).toEqual(['healthy', 'calm', 0])
    expect(all([answered, slow], quick).state).toBe('suspect')
  })

  it('that come after the time-out are no other: then what is not there yet is not missed', () => {
    const path = usuallyLate.map((_, at) => all(usuallyLate.slice(0, at + 1)).state)
    expect(path).toEqual(['healthy', ...Array(9).fill('suspect'), 'healthy'])
    const verdict = all(usuallyLate)
    expect(verdict.reason).toBe('it answers every heartbeat, though slowly')
    expect(all([silent], verdict).state).toBe('healthy')
    expect(all([silent, silent], verdict).reason).toBe('2 misses (down at 3): no answer within 2 s')
    expect(all([silent, silent, silent], verdict).state).toBe('down')
    expect(all([answered, answered], verdict)).toMatchObject({ state: 'healthy', reason: 'ping answered', slows: 0 })
  })

  it('explain neither failures nor misses of a server that is only slow', () => {
    expect(all([...usual, { ...slow, level: 0.3, reason: 'both' }])).toMatchObject({ state: 'suspect', reason: 'both' })
    expect(all([...usual, silent]).reason).toBe('1 miss (down at 3): no answer within 2 s')
  })

  it('are counted anew after an outage', () => {
    const recovered = all([...usuallyLate, gone, answered, answered])
    expect([recovered.state, recovered.slows]).toEqual(['healthy', 0])
    expect(all([late], recovered).state).toBe('suspect')
  })

  it('that are only remembered do not count', () => {
    const verdict = all([answered, slow, ...times(50, answered, { ...slow, isSlow: false })])
    expect([verdict.state, verdict.slows]).toEqual(['suspect', 1])
  })

  it('of clients count for nothing', () => {
    expect(all([answered, late, ...times(20, traffic)]).state).toBe('suspect')
  })
})

describe('degraded', () => {
  it('clears when the inventory matches again and no session hangs', () => {
    const verdict = all([answered, otherTools, someHang])
    expect([verdict.state, verdict.reason]).toEqual(['degraded', '2 of 5 tools are missing'])
    const hanging = all([sameTools], verdict)
    expect([hanging.state, hanging.reason]).toEqual(['degraded', '1 of 3 sessions hangs'])
    expect(all([noneHangs], hanging).state).toBe('healthy')
  })

  it('by a hung session: a round of probes that all were answered clears it, one client served does not', () => {
    const verdict = all([answered, someHang])
    expect(all([traffic], verdict).state).toBe('degraded')
    expect(all([answered], verdict).state).toBe('healthy')
  })

  it('shows what is left of it: a miss makes suspect', () => {
    const verdict = all([answered, otherTools, missed, sameTools])
    expect([verdict.state, verdict.reason]).toEqual(['suspect', '1 miss (down at 3): no answer within 2 s'])
  })

  it('comes back after a restart that did not help', () => {
    expect(all([answered, otherTools, starting, answered]).state).toBe('degraded')
  })
})

describe('what stays', () => {
  it.each([
    ['paused', paused],
    ['disabled', disabled],
  ] as const)('%s, until it is resumed; then everything is to be proved again', (_, hold) => {
    const others = [answered, missed, gone, unauthorized, starting, idle, crashLoop, allHang, otherTools, busy]
    const held = all([answered, hold])
    expect(all(others, held)).toBe(held)
    expect(all([resumed], held).state).toBe('starting')
    expect(all([gone, hold, resumed, answered]).state).toBe('recovering')
  })

  it('crash_loop through retries and misses, so that alerts do not blink; an answer ends it', () => {
    const loop = all([gone, crashLoop])
    expect(all([starting, gone, missed, idle], loop)).toBe(loop)
    expect(all([{ kind: 'crash_loop', reason: 'retry in 10 min' }], loop).reason).toBe('retry in 10 min')
    expect(all([answered], loop).state).toBe('recovering')
  })

  it('busy, until an answer or a miss: works is not hangs, and proves no new life', () => {
    expect(all([answered, missed, busy]).misses).toBe(1)
    expect(all([gone, busy]).state).toBe('down')
    expect(all([answered, missed, busy, answered]).state).toBe('healthy')
  })
})

describe('busy again and again', () => {
  it.each([
    ['is busy at once, and healthy with the next answer', [busy, traffic], 'b h'],
    ['one heartbeat more is no news', [busy, traffic, busy, traffic, busy, late], 'b h h h h s'],
    ['two without a word in between are', [busy, traffic, busy, busy], 'b h h b'],
    ['late as before is no news', [busy, late, busy, late, busy], 'b s s s s'],
    [
      'late as usual is no news',
      [busy, late, busy, late, busy, late, busy, late, busy, late, busy],
      'b s s s s s s s s h h',
    ],
    ['late and then at work', [silent, late, busy, busy, late], 's s s b s'],
    ['is news again after two heartbeats in time', [busy, answered, answered, busy], 'b h h b'],
    ['is none after one', [busy, answered, busy], 'b h h'],
    ['what clients hear is no heartbeat in time', [busy, traffic, traffic, answered, busy], 'b h h h h'],
    ['whoever answers with 429 is not silent', [busy, inconclusive, busy, inconclusive, busy], 'b h h h h'],
    ['whom nobody could ask may be', [busy, traffic, busy, stalled, busy], 'b h h h b'],
    ['misses count as always', [busy, traffic, silent, silent, silent], 'b h s s d'],
    ['an outage ends it', [busy, traffic, gone, answered, answered, busy], 'b h d r h b'],
  ] as const)('%s', (_what, evidence, expected) => {
    const path = evidence.map((_, at) => all([answered, ...evidence.slice(0, at + 1)]).state)
    expect(path.map(([initial]) => initial).join(' ')).toBe(expected)
  })

  const word = fc.constantFrom(traffic, late)

  it('a server that hears of clients between heartbeats that it leaves unanswered settles', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(word, { minLength: 1, maxLength: 5 }), { minLength: 10, maxLength: 60 }),
        (rounds) => {
          const evidence = rounds.flatMap((words) => [busy, ...words])
          const path = [answered, ...evidence].map((_, at, steps) => all(steps.slice(0, at + 1)).state)
          const changes = path.filter((state, at) => at > 0 && state !== path[at - 1])
          // Found busy, found late, and late as usual.
          expect(changes.length).toBeLessThanOrEqual(4)
          expect(changes.filter((state) => state === 'busy').length).toBe(1)
        },
      ),
    )
  })
})

describe('flap penalty', () => {
  it('is 1 per outage and halves every five minutes', () => {
    const down = all([answered, gone])
    expect(flapPenalty(down, down.sinceMs)).toBe(1)
    expect(flapPenalty(down, down.sinceMs + 300_000)).toBe(0.5)
    const again = judge(judge(down, answered, 302_000, limits), gone, 302_000, limits)
    expect(flapPenalty(again, 302_000)).toBe(1.5)
  })

  it('counts an outage once, however many starts fail in it', () => {
    const verdict = all([answered, gone, starting, gone, starting, gone])
    expect(flapPenalty(verdict, 2000)).toBeCloseTo(1, 1)
    expect(flapPenalty(verdict, 2000)).toBeLessThanOrEqual(1)
  })
})

describe('answers that come too late', () => {
  it('are one steady state, whatever comes in between, until two in a row are in time', () => {
    const states = (...evidence: readonly Evidence[]) => evidence.map((_, at) => all(evidence.slice(0, at + 1)).state)
    expect(all([answered, silent, late]).reason).toBe('ping answered, after its time-out')
    expect(states(answered, silent, late, answered, late, answered, answered)).toEqual([
      'healthy',
      'suspect',
      'suspect',
      'suspect',
      'suspect',
      'suspect',
      'healthy',
    ])
  })

  it('are as good as any to end an outage, and what a client hears says nothing about them', () => {
    expect([gone, late, late].map((_, at, list) => all(list.slice(0, at + 1)).state)).toEqual([
      'down',
      'recovering',
      'suspect',
    ])
    expect(all([answered, silent, late, traffic, traffic, traffic]).state).toBe('suspect')
  })
})

describe('a server that turns us away', () => {
  it('is degraded with its words, however often it is asked, and healthy when it lets us in', () => {
    const verdict = all([turnedAway, traffic, turnedAway])
    expect([verdict.state, verdict.reason]).toEqual(['degraded', 'initialize: no licence'])
    expect(all([turnedAway, answered]).state).toBe('healthy')
  })

  it('does not wait for its tools after an outage', () => {
    const verdict = all([answered, sameTools, gone, turnedAway, turnedAway])
    expect([verdict.state, verdict.reason]).toEqual(['degraded', 'initialize: no licence'])
  })
})

describe('who fell silent', () => {
  it('is whoever says nothing at all, from when on; not who says something wrong', () => {
    const since = (...evidence: readonly Evidence[]) => all(evidence).silentSinceMs
    expect(since(answered, silent, silent)).toBe(2000)
    expect(since(answered, missed, silent, silent)).toBe(3000)
    expect(since(answered, silent, missed)).toBeUndefined()
    expect(since(answered, missed)).toBeUndefined()
    expect(since(answered, silent, answered)).toBeUndefined()
    expect(all([answered, missed, silent]).failingSinceMs).toBe(2000)
  })
})

describe('the reason of an outage', () => {
  const refused: Evidence = { kind: 'gone', reason: 'connect ECONNREFUSED' }
  const down = judge(all([answered]), refused, 10_000, limits)

  it('is the end of the process, if that is heard of right after', () => {
    expect(judge(down, exited, 15_000, limits)).toMatchObject({
      reason: 'process 42 exited with code 1',
      sinceMs: 10_000,
    })
  })

  it('is what keeps it down, once the outage has lasted: no transition, and no other beginning', () => {
    const later = judge(judge(down, exited, 12_000, limits), { ...exited, reason: 'again' }, 20_000, limits)
    expect(later).toMatchObject({ state: 'down', reason: 'again', sinceMs: 10_000, failingSinceMs: 10_000 })
    expect(later.flapPenalty).toBe(down.flapPenalty)
    expect(judge(later, refused, 30_000, limits).reason).toBe('connect ECONNREFUSED')
    expect(judge(later, { kind: 'missed', reason: 'HTTP 500' }, 30_000, limits).reason).toBe('HTTP 500')
  })

  it('is not worn out by more failures of the same kind', () => {
    const hung = all([answered, silent, silent, silent, { kind: 'lost', reason: 'hung: it is restarted' }])
    const still = judge(hung, { kind: 'silent', reason: 'no answer within 4 s' }, 60_000, limits)
    expect(still).toMatchObject({ state: 'down', reason: 'hung: it is restarted', misses: 4 })
  })

  it('is the first end of several, and no weaker one comes after it', () => {
    const after = judge(down, exited, 11_000, limits)
    expect(judge(after, { ...exited, reason: 'process 43 exited with code 2' }, 12_000, limits).reason).toBe(
      after.reason,
    )
    expect(judge(after, refused, 12_000, limits).reason).toBe(after.reason)
    expect(judge(all([answered, exited]), { ...exited, reason: 'again' }, 3000, limits).reason).toBe(
      'process 42 exited with code 1',
    )
  })
})

describe('evidenceOf', () => {
  it.each(outcomes)('%s', (outcome) => {
    const evidence = evidenceOf({ outcome, by: 'probe', reason: 'because', atMs: 7 })
    const withReason = { reason: 'because', atMs: 7 }
    const expected = {
      answered: { kind: 'answered', by: 'probe', reason: 'because', isLate: outcome === 'late', isTurnedAway: false },
      silent: { kind: 'silent', ...withReason },
      missed: { kind: 'missed', ...withReason },
      gone: { kind: 'gone', ...withReason },
      unauthorized: { kind: 'unauthorized', ...withReason },
      inconclusive: { kind: 'inconclusive', reason: 'because' },
    }
    expect(evidence).toEqual(expected[meaningOf(outcome)])
  })
})

describe('what a state means', () => {
  it.each([
    ['starting', false, false],
    ['healthy', true, false],
    ['suspect', true, false],
    ['busy', true, false],
    ['degraded', true, false],
    ['recovering', true, false],
    ['down', false, true],
    ['crash_loop', false, true],
    ['needs_auth', false, true],
    ['idle', undefined, false],
    ['paused', undefined, false],
    ['disabled', undefined, false],
  ] as const)('%s: up %s, unavailable %s', (state, up, unavailable) => {
    expect(isUp(state)).toBe(up)
    expect(isUnavailable(all(ways[state]))).toBe(unavailable)
  })

  it('starting is unavailable once there was something to lose', () => {
    expect(isUnavailable(all([gone, starting]))).toBe(false)
    expect(isUnavailable(all([answered, gone, starting]))).toBe(true)
  })
})

const reason = fc.constantFrom('because', '', '  ')
const anyEvidence: fc.Arbitrary<Evidence> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('answered' as const),
      by: fc.constantFrom('probe' as const, 'traffic' as const),
      reason,
      isLate: fc.boolean(),
      isTurnedAway: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('silent' as const, 'missed' as const),
      by: fc.constantFrom('probe' as const, 'traffic' as const),
      reason,
    }),
  },
  fc.constant(exited),
  fc.record({
    kind: fc.constantFrom(
      ...([
        'gone',
        'unauthorized',
        'busy',
        'lost',
        'starting',
        'idle',
        'crash_loop',
        'paused',
        'disabled',
        'resumed',
      ] as const),
    ),
    reason,
  }),
  fc.constant(inconclusive),
  fc.record({
    kind: fc.constant('suspicion' as const),
    level: fc.double(),
    slowness: fc.double(),
    isSlow: fc.boolean(),
    reason,
  }),
  fc.record({ kind: fc.constant('inventory' as const), same: fc.boolean(), reason }),
  fc.record({ kind: fc.constant('sessions' as const), hung: fc.nat(2), alive: fc.nat(2), reason }),
)
const history = fc.array(fc.tuple(anyEvidence, fc.nat(40_000)), { maxLength: 40 })

describe('flap penalty, after any evidence (control-law.md, "Verdict")', () => {
  const flap = fc.constantFrom(gone, starting, answered, lost)
  const history = fc.array(fc.tuple(fc.oneof(anyEvidence, { weight: 3, arbitrary: flap }), fc.nat(40_000)))
  it('rises by 1 with each outage that begins, never otherwise, and is never more than there were', () => {
    fc.assert(
      fc.property(history, (steps) => {
        let [verdict, nowMs, outages] = [newVerdict('starting', 'not probed yet', 0), 0, 0]
        for (const [evidence, passedMs] of steps) {
          nowMs += passedMs
          const before = flapPenalty(verdict, nowMs)
          const next = judge(verdict, evidence, nowMs, limits)
          const isOneMore =
            next.state === 'down' && verdict.state !== 'down' && !(verdict.state === 'starting' && verdict.outage)
          if (isOneMore) outages++
          expect(flapPenalty(next, nowMs)).toBeCloseTo(before + (isOneMore ? 1 : 0), 9)
          expect(flapPenalty(next, nowMs)).toBeLessThanOrEqual(outages + 1e-9)
          verdict = next
        }
      }),
    )
  })

  it('halves in every five minutes, falls all the time, never below 0, and not if the clock goes back', () => {
    const span = fc.nat(86_400_000)
    fc.assert(
      fc.property(history, span, span, (steps, one, other) => {
        let [verdict, nowMs] = [newVerdict('starting', 'not probed yet', 0), 0]
        for (const [evidence, passedMs] of steps) verdict = judge(verdict, evidence, (nowMs += passedMs), limits)
        const at = (ms: number) => flapPenalty(verdict, nowMs + ms)
        expect(at(Math.max(one, other))).toBeLessThanOrEqual(at(Math.min(one, other)))
        expect(at(one + 300_000)).toBeCloseTo(at(one) / 2, 9)
        expect(at(one)).toBeGreaterThanOrEqual(0)
        expect(flapPenalty(verdict, verdict.flapPenaltyAtMs - one)).toBe(verdict.flapPenalty)
      }),
    )
  })

  it('stays below 1 / (1 - 2^(-d / 5 min)) for outages that are d apart', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1000, max: 3_600_000 }), fc.nat(200), (apartMs, count) => {
        let verdict = newVerdict('healthy', 'it answers', 0)
        for (let outage = 1; outage <= count; outage++) {
          const nowMs = outage * apartMs
          verdict = judge(judge(verdict, gone, nowMs, limits), answered, nowMs + 1, limits)
        }
        const bound = 1 / (1 - 0.5 ** (apartMs / 300_000))
        expect(flapPenalty(verdict, count * apartMs)).toBeLessThanOrEqual(bound + 1e-9)
      }),
    )
  })
})

/** Judges a whole history and hands each step to `check`. */
function replay(
  steps: readonly (readonly [Evidence, number])[],
  check: (before: Verdict, evidence: Evidence, after: Verdict) => void,
): void {
  let [verdict, nowMs] = [newVerdict('starting', 'not probed yet', 0), 0]
  for (const [evidence, afterMs] of steps) {
    nowMs += afterMs
    const after = judge(verdict, evidence, nowMs, limits)
    check(verdict, evidence, after)
    verdict = after
  }
}

describe('any history', () => {
  it('ends in a known state with a reason, and the same evidence twice is judged alike', () => {
    fc.assert(
      fc.property(history, (steps) => {
        replay(steps, (before, evidence, after) => {
          expect(states).toContain(after.state)
          expect(after.reason.trim()).not.toBe('')
          expect(after.misses).toBeGreaterThanOrEqual(0)
          expect(after.goods).toBeLessThanOrEqual(limits.goodsToHealthy)
          if (evidence.kind === 'inconclusive' && after.state !== 'suspect') {
            expect(after.state).toBe(before.state === 'busy' ? 'healthy' : before.state)
          }
        })
      }),
    )
  })

  it('is busy at the second heartbeat without a word for which it is at work, if it is up and not impaired', () => {
    fc.assert(
      fc.property(history, (steps) => {
        replay(steps, (before) => {
          const { state } = judge(judge(before, busy, 0, limits), busy, 0, limits)
          const mayBe = before.state === 'healthy' || before.state === 'suspect' || before.state === 'busy'
          expect(state).toBe(mayBe ? 'busy' : before.state)
        })
      }),
    )
  })

  it('never goes down by misses before the third in a row', () => {
    fc.assert(
      fc.property(history, (steps) => {
        let row = 0
        replay(steps, (before, evidence, after) => {
          if (evidence.kind === 'answered' || evidence.kind === 'unauthorized') row = 0
          const isMiss = evidence.kind === 'missed' || evidence.kind === 'silent'
          if (isMiss || evidence.kind === 'gone') row++
          if (isMiss && before.state !== 'down' && after.state === 'down') {
            expect(row).toBeGreaterThanOrEqual(3)
          }
        })
      }),
      { numRuns: 300 },
    )
  })

  it('is never green without an answer since it was last not: no green while dead', () => {
    fc.assert(
      fc.property(history, (steps) => {
        replay(steps, (before, evidence, after) => {
          const turnedGreen = isUp(before.state) !== true && isUp(after.state) === true
          if (turnedGreen) expect(evidence.kind).toBe('answered')
          if (evidence.kind === 'gone') expect(isUp(after.state)).not.toBe(true)
        })
      }),
      { numRuns: 300 },
    )
  })

  it('is healthy with nothing held against it but that it is usually slow, and recovering only while an outage is open', () => {
    fc.assert(
      fc.property(history, (steps) => {
        replay(steps, (_, __, after) => {
          if (after.state === 'healthy') {
            const { misses, different, hung, suspected, outage, late, slow: slowness, slows } = after
            expect({ different, hung, suspected, outage }).toEqual({ outage: false })
            if (slows < 5) expect({ misses, late, slowness }).toEqual({ misses: 0 })
            else expect(misses).toBeLessThanOrEqual(late === undefined ? 0 : 1)
          }
          if (after.state === 'recovering') expect(after.outage).toBe(true)
          if (isUp(after.state) === true) expect(after.everUp).toBe(true)
          if (isUp(after.state) === true && after.misses === 0) expect(after.failingSinceMs).toBeUndefined()
        })
      }),
      { numRuns: 300 },
    )
  })
})
