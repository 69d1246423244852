import { expect, it } from 'vitest'
import { brokenPromises, fleetServers } from './fleet.ts'
import { type World, liveThroughAll } from './worlds.ts'

const hours = 6

it(
  `a calm fleet keeps its promises: ${fleetServers} servers, ${hours} h, an outage an hour each, with preludes and without`,
  // Half a minute of two quiet cores. A second try would be the same.
  { timeout: 600_000, retry: 0 },
  async () => {
    const worlds = [0.5, 0].map((preludes) => {
      return { kind: 'fleet', seed: 1, upstreams: fleetServers, hours, policy: 'adaptive', preludes } as const
    })
    let lived = 0
    await liveThroughAll<World & { readonly kind: 'fleet' }>(worlds, worlds.length, ({ preludes }, report) => {
      lived += 1
      expect(report.violations).toEqual([])
      expect(report.outages).toHaveLength(fleetServers * hours)
      expect(brokenPromises([report], preludes, fleetServers)).toEqual([])
    })
    expect(lived).toBe(worlds.length)
  },
)
