import { describe, expect, it } from 'vitest'
import { type Fault, type OwnFault, type ServerPlan, anyFaults } from './faults.ts'
import { brokenPromises } from './fleet.ts'
import { between, seeded } from './random.ts'
import type { Outage } from './referee.ts'
import { liveThrough } from './small-world.ts'
import { type WorldReport, runWorld } from './world.ts'

describe('simulated worlds', () => {
  it.each([1513, 1661, 1951, 5482, 6413, 7180])('break no rule where they once did: seed %s', async (seed) => {
    expect((await liveThrough({ seed, upstreams: 10, hours: 1 })).violations).toEqual([])
  })

  it('are the same again for the same seed', async () => {
    const timeline = async (seed: number) => {
      const lines: string[] = []
      await runWorld({ seed, plan: anyFaults(seed, 6, 0.5), policy: 'adaptive', tell: (line) => lines.push(line) })
      return lines.join('\n')
    }
    const first = await timeline(7)
    expect(first).toContain('→ down')
    expect(await timeline(7)).toBe(first)
    expect(await timeline(8)).not.toBe(first)
  })

  it('take a slow server for ill at first, and for healthy again when that is as usual', async () => {
    const minute = 60_000
    const slow = (forMs: number): Fault => ({
      kind: 'slow',
      atMs: 10 * minute,
      untilMs: 10 * minute + forMs,
      factor: 4,
      plusMs: 0,
    })
    const servers = [15, 120].map((minutes): ServerPlan => {
      return { name: `for ${minutes} min`, kind: 'url', rttMs: 100, bootMs: 0, faults: [slow(minutes * minute)] }
    })
    const lines: string[] = []
    const plan = { durationMs: 120 * minute, servers, own: [] }
    const { violations } = await runWorld({ seed: 1, plan, policy: 'adaptive', tell: (line) => lines.push(line) })
    const changes = (name: string) => lines.filter((line) => line.includes(`  ${name} `)).map(changeOf)
    expect(violations).toEqual([])
    const ill = ['starting → healthy', 'healthy → suspect', 'suspect → healthy']
    expect([changes('for 15 min'), changes('for 120 min')]).toEqual([ill, ill])
    for (const minutes of [15, 120]) {
      const wellAgain = lines.findLast((line) => line.includes(`for ${minutes} min`)) ?? ''
      expect(wellAgain).toMatch(/^0:10:.* it answers every heartbeat, though slowly$/)
    }
  })

  it('are asked nothing while a process that was ended is gone, though it answered once more: that is a start', async () => {
    const minute = 60_000
    const timeline = async (untilMs: number) => {
      const hang = (atMs: number, lastsUntilMs: number): Fault => {
        return { kind: 'hang', atMs, untilMs: lastsUntilMs, how: 'stopped' }
      }
      // The first restart comes at once, the second has to wait.
      const faults = [hang(5 * minute, 5.9 * minute), hang(6.5 * minute, untilMs)]
      const servers: ServerPlan[] = [{ name: 'one', kind: 'launched', rttMs: 50, bootMs: 1000, faults }]
      const lines: string[] = []
      const plan = { durationMs: 9 * minute, servers, own: [] }
      const { violations } = await runWorld({ seed: 1, plan, policy: 'adaptive', tell: (line) => lines.push(line) })
      expect(violations).toEqual([])
      return lines
    }
    const [, ending = ''] = (await timeline(9 * minute)).filter((line) => line.includes('process ending'))
    const [, minutes = '', seconds = ''] = ending.split(/[: ]/)
    const lines = await timeline(Number(minutes) * minute + Number(seconds) * 1000 + 2000)
    const changes = lines.slice(lines.indexOf(ending)).flatMap((line) => /\w+ → \w+: .*|process \w+/.exec(line) ?? [])
    expect(changes).toEqual([
      'process ending',
      'process awake',
      expect.stringMatching(/^down → recovering: /),
      'process gone',
      'recovering → starting: its process was stopped to be restarted (hung)',
      'process started',
      'process ready',
      'process open',
      'starting → recovering: answers again (1 of 2): initialize answered (2025-11-25)',
      'recovering → healthy: ping answered',
    ])
  })

  it('take nothing that our own event loop does for a fault of servers: it stands still every few seconds', async () => {
    const random = seeded(1, 'stalls')
    const hour = 3_600_000
    const servers = Array.from({ length: 20 }, (_, at): ServerPlan => {
      return { name: `server-${at}`, kind: 'url', rttMs: between(random, 1, 150), bootMs: 0, faults: [] }
    })
    const own: OwnFault[] = []
    for (let atMs = 60_000; atMs < hour; atMs += between(random, 2000, 8000)) {
      own.push({ kind: 'stall', atMs, forMs: 10 ** between(random, 1.5, 3.5) })
    }
    const lines: string[] = []
    const plan = { durationMs: hour, servers, own }
    const { violations } = await runWorld({ seed: 1, plan, policy: 'adaptive', tell: (line) => lines.push(line) })
    expect(violations).toEqual([])
    const changes = lines.filter((line) => line.includes('→')).map(changeOf)
    expect(changes).toEqual(servers.map(() => 'starting → healthy'))
  })
})

describe('the promises of a fleet', () => {
  const outage = (tookMs: number): Outage => {
    return { upstream: 'a', fault: 'hang', sinceMs: 0, untilMs: 120_000, detectedMs: tookMs, isClear: true }
  }
  const draw: WorldReport = {
    violations: [],
    outages: [outage(12_000), outage(30_000)],
    probes: 36_000,
    restarts: 0,
    mostPerSecond: 50,
    seconds: 3600,
  }
  it.each<[string, WorldReport, number, readonly unknown[]]>([
    ['kept to the letter', draw, 0.5, []],
    [
      'a mean too long',
      { ...draw, outages: [outage(12_000), outage(30_200)] },
      0.5,
      [/^detected after 21.10 s on average/],
    ],
    ['the same without preludes', { ...draw, outages: [outage(12_000), outage(30_200)] }, 0, []],
    [
      'a mean too long without preludes',
      { ...draw, outages: [outage(27_100)] },
      0,
      [/^detected after 27.10 s on average/],
    ],
    [
      'one that took too long',
      { ...draw, outages: [outage(1000), outage(46_100)] },
      0,
      [/^detected after 46.1 s, not 46/],
    ],
    ['too many probes', { ...draw, probes: 36_100 }, 0.5, [/^10.03 probes\/s, not 10/]],
    [
      'a false alarm',
      { ...draw, violations: [{ rule: 'false_down', atMs: 0, upstream: 'a', what: 'down' }] },
      0.5,
      ['1 false alarms'],
    ],
    [
      'one that nobody noticed',
      { ...draw, outages: [outage(1000), { ...outage(0), detectedMs: undefined }] },
      0.5,
      [/^1 outages were not detected/],
    ],
  ])('%s', (_what, report, preludes, broken) => {
    const told = brokenPromises([report], preludes, 200)
    expect(told).toEqual(broken.map((text) => (text instanceof RegExp ? expect.stringMatching(text) : text)))
  })
})

/** The states in a line of a timeline. */
function changeOf(line: string): string {
  return /\w+ → \w+/.exec(line)?.[0] ?? line
}
