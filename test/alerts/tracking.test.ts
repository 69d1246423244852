import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { conditionOf } from '../../src/alerts/condition.ts'
import { verdictAlerts } from '../../src/alerts/names.ts'
import { type Judged, type Notice, type TrackedAlerts, firing, keyOf, track } from '../../src/alerts/tracking.ts'
import { states } from '../../src/heartbeat/verdict.ts'
import { judgedAs, verdict } from './fixture.ts'

const holds = { forMs: 15_000, keepFiringForMs: 60_000 }
const wallStartMs = Date.UTC(2026, 0, 1)

/** Looks at what is there at each time; gives what was told, and when. */
function told(
  looks: readonly (readonly [atMs: number, upstreams: readonly Judged[], silentTogether?: readonly string[]])[],
  law = holds,
) {
  let alerts: TrackedAlerts = new Map()
  const notices: { readonly atMs: number; readonly notice: Notice }[] = []
  for (const [nowMs, upstreams, silentTogether = []] of looks) {
    const next = track(alerts, { upstreams, silentTogether }, { nowMs, wallMs: wallStartMs + nowMs }, law)
    alerts = next.alerts
    notices.push(...next.notices.map((notice) => ({ atMs: nowMs, notice })))
  }
  const lines = notices.map(({ atMs, notice }) => `${atMs / 1000} s: ${notice.alert.name} ${notice.kind}`)
  return { alerts, notices, lines }
}

const healthy = [judgedAs('healthy')]
const down = [judgedAs('down')]

describe('an alert', () => {
  it('fires once its cause has lasted, and is over once that has been gone', () => {
    const { lines, notices } = told([
      [0, healthy],
      [1000, [judgedAs('down', { sinceMs: 1000, failingSinceMs: -4000 })]],
      [15_999, down],
      [16_000, [judgedAs('down', { reason: 'killed twice' })]],
      [20_000, down],
      [30_000, healthy],
      [89_999, healthy],
      [90_000, healthy],
      [99_000, healthy],
    ])
    expect(lines).toEqual(['16 s: McpUpstreamDown firing', '90 s: McpUpstreamDown resolved'])
    const [fired, resolved] = notices.map(({ notice }) => notice)
    expect(fired?.alert).toEqual({
      name: 'McpUpstreamDown',
      about: { upstream: 'files', transport: 'stdio' },
      reason: 'killed twice',
      startsAtWallMs: wallStartMs - 4000,
    })
    expect(resolved).toMatchObject({
      alert: { startsAtWallMs: wallStartMs - 4000 },
      endsAtWallMs: wallStartMs + 30_000,
      now: 'healthy: it is healthy',
    })
  })

  it('is not told when its cause goes soon, and is the same one when that comes back soon', () => {
    const short = told([
      [0, down],
      [14_000, healthy],
      [20_000, down],
      [34_000, healthy],
    ])
    expect(short.lines).toEqual([])
    const flapping = told([
      [0, down],
      [15_000, down],
      [20_000, healthy],
      [79_000, down],
      [80_000, healthy],
      [139_000, healthy],
      [140_000, healthy],
    ])
    expect(flapping.lines).toEqual(['15 s: McpUpstreamDown firing', '140 s: McpUpstreamDown resolved'])
  })

  it('lasts while a server is started, recovers or fails in another way', () => {
    const { lines, alerts } = told([
      [0, down],
      [15_000, down],
      [20_000, [judgedAs('recovering')]],
      [100_000, [judgedAs('starting')]],
      [200_000, [judgedAs('crash_loop')]],
      [215_000, [judgedAs('crash_loop')]],
    ])
    expect(lines).toEqual(['15 s: McpUpstreamDown firing', '215 s: McpProcessCrashLooping firing'])
    expect(firing(alerts).map(({ name }) => name)).toEqual(['McpUpstreamDown', 'McpProcessCrashLooping'])
  })

  it('does not fire while nobody knows, however long ago its cause was seen', () => {
    const looks = [
      [0, down],
      [5000, [judgedAs('recovering')]],
      [60_000, [judgedAs('recovering')]],
    ] as const
    expect(told(looks).lines).toEqual([])
    expect(told([...looks, [61_000, down]]).lines).toEqual(['61 s: McpUpstreamDown firing'])
  })

  it('is over at once when its upstream is there no more, and was never there if nobody was told', () => {
    const other = judgedAs('down', {}, 'other')
    const { lines } = told([
      [0, [...down, other]],
      [15_000, [...down, other]],
      [16_000, [other]],
      [17_000, [other, judgedAs('down', {}, 'third')]],
      [18_000, []],
    ])
    expect(lines).toEqual([
      '15 s: McpUpstreamDown firing',
      '15 s: McpUpstreamDown firing',
      '16 s: McpUpstreamDown resolved',
      '18 s: McpUpstreamDown resolved',
    ])
  })

  it('is one for all servers that fall silent together, and each its own for those that stay away', () => {
    const names = ['a', 'b', 'c']
    const all = (state: 'down' | 'healthy') => names.map((name) => judgedAs(state, {}, name))
    const { lines, notices } = told([
      [0, all('down'), names],
      [15_000, all('down'), names],
      [30_000, all('down'), names],
      [40_000, [...all('healthy').slice(1), judgedAs('down', {}, 'a')]],
      [55_000, [...all('healthy').slice(1), judgedAs('down', {}, 'a')]],
      [100_000, [...all('healthy').slice(1), judgedAs('down', {}, 'a')]],
    ])
    expect(lines).toEqual([
      '15 s: McpUpstreamsSilentTogether firing',
      '55 s: McpUpstreamDown firing',
      '100 s: McpUpstreamsSilentTogether resolved',
    ])
    expect(notices[0]?.notice.alert).toMatchObject({
      about: {},
      reason: "a, b, c: the fault is ours or the network's",
    })
  })

  it('holds nothing without hold times', () => {
    const { lines } = told(
      [
        [0, down],
        [1000, healthy],
      ],
      { forMs: 0, keepFiringForMs: 0 },
    )
    expect(lines).toEqual(['0 s: McpUpstreamDown firing', '1 s: McpUpstreamDown resolved'])
  })
})

describe('whatever happens', () => {
  const look = fc.record({
    state: fc.constantFrom(...states),
    hung: fc.option(fc.constant('1 hangs'), { nil: undefined }),
    different: fc.option(fc.constant('1 gone'), { nil: undefined }),
    afterMs: fc.integer({ min: 1000, max: 40_000 }),
  })

  it('beginnings and ends of an alert take turns, hold their times, and agree on when it began', () => {
    fc.assert(
      fc.property(fc.array(look, { maxLength: 60 }), (looks) => {
        let atMs = 0
        const times = looks.map(({ state, hung, different, afterMs }) => {
          atMs += afterMs
          return { atMs, verdict: verdict(state, { hung, different, sinceMs: atMs }) }
        })
        const { notices } = told(
          times.map(({ atMs: at, verdict: now }) => [at, [{ name: 'files', transport: 'stdio', verdict: now }]]),
        )
        for (const name of verdictAlerts) {
          const own = notices.filter(({ notice }) => notice.alert.name === name)
          const seen = times.map((time) => ({ atMs: time.atMs, kind: conditionOf(name, time.verdict, false).kind }))
          for (const [index, { atMs: toldMs, notice }] of own.entries()) {
            expect(notice.kind).toBe(index % 2 === 0 ? 'firing' : 'resolved')
            const wanted = notice.kind === 'firing' ? 'on' : 'off'
            const holdMs = notice.kind === 'firing' ? holds.forMs : holds.keepFiringForMs
            const past = seen.filter((one) => one.atMs <= toldMs)
            // Since the last look that said the opposite, the first that said this is long enough ago.
            const opposite = past.findLastIndex(({ kind }) => kind !== 'undecided' && kind !== wanted)
            const since = past.slice(opposite + 1).find(({ kind }) => kind === wanted)
            expect(toldMs - (since?.atMs ?? toldMs)).toBeGreaterThanOrEqual(holdMs)
            if (notice.kind === 'resolved') {
              expect(notice.alert.startsAtWallMs).toBe(own[index - 1]?.notice.alert.startsAtWallMs)
              expect(notice.endsAtWallMs).toBeGreaterThanOrEqual(notice.alert.startsAtWallMs)
              expect(notice.endsAtWallMs).toBeLessThanOrEqual(wallStartMs + toldMs)
            }
          }
        }
      }),
    )
  })

  it('what fires is what was told and is not over', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(look, look), { maxLength: 40 }), (looks) => {
        let atMs = 0
        const { alerts, notices } = told(
          looks.map(([one, other]) => {
            atMs += one.afterMs
            return [atMs, [judgedAs(one.state, one), judgedAs(other.state, other, 'other')]]
          }),
        )
        const open = new Set<string>()
        for (const { notice } of notices) {
          if (notice.kind === 'firing') open.add(keyOf(notice.alert))
          else open.delete(keyOf(notice.alert))
        }
        expect(new Set(firing(alerts).map(keyOf))).toEqual(open)
      }),
    )
  })
})
