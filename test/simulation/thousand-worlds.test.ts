import { availableParallelism, constants, setPriority } from 'node:os'
import { expect, it } from 'vitest'
import { liveThroughAll, smallWorlds } from './worlds.ts'

/**
 * A file of its own, and so a process of its own: it takes what the others, which mostly wait, leave of all cores. They
 * never wait for it.
 */
it(
  'simulated worlds break no rule, whatever goes wrong in them: 10 servers, 1 h, 1,000 seeds',
  // Three minutes of two cores, when it gets them. A second try would be the same.
  { timeout: 1_500_000, retry: 0 },
  async () => {
    setPriority(constants.priority.PRIORITY_LOW) // Its threads inherit it.
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
