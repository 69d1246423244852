import { availableParallelism } from 'node:os'
import { expect, it } from 'vitest'
import { liveThroughAll, smallWorlds } from './worlds.ts'

it(
  'simulated worlds break no rule, whatever goes wrong in them: 10 servers, 1 h, 1,000 seeds',
  // A minute of two quiet cores. A second try would be the same.
  { timeout: 1_500_000, retry: 0 },
  async () => {
    const broken: string[] = []
    const outages: number[] = []
    const worlds = smallWorlds(1, 1000, { upstreams: 10, hours: 1 })
    await liveThroughAll(worlds, availableParallelism(), ({ seed }, report) => {
      outages.push(report.outages.length)
      const [first] = report.violations
      if (first) broken.push(`npm run simulate -- --replay ${seed}: ${first.upstream} ${first.rule}: ${first.what}`)
    })
    expect(broken).toEqual([])
    expect(outages).toHaveLength(1000)
    expect(Math.min(...outages)).toBeGreaterThan(0)
  },
)
