import { describe, expect, it } from 'vitest'
import { anyFaults, hourlyOutages } from './faults.ts'
import { figuresOf, mean } from './figures.ts'
import { runWorld } from './world.ts'

/** As many worlds as a minute has room for: a busy machine gets fewer, `npm run simulate` as many as you like. */
const [fewest, most, budgetMs] = [20, 1000, 60_000]

describe('simulated worlds', () => {
  it(
    `break no rule, whatever goes wrong in them: 10 servers, 1 h, up to ${most} seeds`,
    { timeout: 600_000 },
    async () => {
      const startedMs = performance.now()
      for (let seed = 1; seed <= most && (seed <= fewest || performance.now() - startedMs < budgetMs); seed++) {
        const { violations, outages } = await runWorld({ seed, plan: anyFaults(seed, 10, 1), policy: 'adaptive' })
        expect(violations, `npm run simulate -- --replay ${seed}`).toEqual([])
        expect(outages.length).toBeGreaterThan(0)
      }
    },
  )

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
