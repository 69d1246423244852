import { availableParallelism } from 'node:os'
import { expect, it } from 'vitest'
import { liveThroughAll, smallWorlds } from './worlds.ts'

/** A file of its own: it takes all cores, and has them to itself where the others wait for its end (`npm test`). */
it(
  'simulated worlds break no rule, whatever goes wrong in them: 10 servers, 1 h, 1,000 seeds',
  // Two minutes of two cores; a machine on which that is not enough has to be told. A second try would be the same.
  { timeout: 600_000, retry: 0 },
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
