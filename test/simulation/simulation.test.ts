import { availableParallelism } from 'node:os'
import { describe, expect, it } from 'vitest'
import { type Fault, type OwnFault, type ServerPlan, anyFaults, hourlyOutages } from './faults.ts'
import { figuresOf, mean } from './figures.ts'
import { between, seeded } from './random.ts'
import { liveThrough } from './small-world.ts'
import { runWorld } from './world.ts'
import { liveThroughAll } from './worlds.ts'

describe('simulated worlds', () => {
  it(
    'break no rule, whatever goes wrong in them: 10 servers, 1 h, 1,000 seeds',
    // They take a minute or two of two cores; a machine on which that is not enough has to be told.
    { timeout: 600_000 },
    async () => {
      const broken: string[] = []
      const outages: number[] = []
      await liveThroughAll({
        first: 1,
        count: 1000,
        upstreams: 10,
        hours: 1,
        workers: availableParallelism(),
        onReport: (seed, report) => {
          outages.push(report.outages.length)
          const [first] = report.violations
          if (first) broken.push(`npm run simulate -- --replay ${seed}: ${first.upstream} ${first.rule}: ${first.what}`)
        },
      })
      expect(broken).toEqual([])
      expect(outages).toHaveLength(1000)
      expect(Math.min(...outages)).toBeGreaterThan(0)
    },
  )

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

  it('take a server that is slower for good for healthy again, and one that is slow for a while for ill', async () => {
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
    const wellAgain = lines.findLast((line) => line.includes('for 120 min')) ?? ''
    expect(wellAgain).toMatch(/^0:[345]/)
  })

  it('are asked nothing while a process that was ended is gone, though it answered once more: that is a start', async () => {
    const minute = 60_000
    const timeline = async (untilMs: number) => {
      const hang = (atMs: number, lastsUntilMs: number): Fault => {
        return { kind: 'hang', atMs, untilMs: lastsUntilMs, isSpinning: false }
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
      'starting → recovering: answers again (1 of 2): initialize answered',
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

  it('of a calm fleet find each outage soon, with few probes: 50 servers, 2 h', { timeout: 120_000 }, async () => {
    const report = await runWorld({ seed: 1, plan: hourlyOutages(1, 50, 2, 0.5), policy: 'adaptive' })
    const { detectionSeconds, falseAlarms, probesPerSecond } = figuresOf([report])
    expect(report.violations).toEqual([])
    expect([report.outages.length, falseAlarms]).toEqual([100, 0])
    expect(mean(detectionSeconds)).toBeLessThanOrEqual(21)
    expect(Math.max(...detectionSeconds)).toBeLessThanOrEqual(46)
    expect(probesPerSecond).toBeLessThanOrEqual(2.5)
  })
})

/** The states in a line of a timeline. */
function changeOf(line: string): string {
  return /\w+ → \w+/.exec(line)?.[0] ?? line
}
