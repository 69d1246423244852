import { afterAll, expect, it } from 'vitest'
import { debugReport } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { startFleet } from './fleet.ts'

const stops: (() => Promise<void>)[] = []

afterAll(async () => {
  for (const stop of stops.toReversed()) await stop()
})

it('heartbeats 50 servers, each in its own time and within the bounds of its interval', async () => {
  const bounds = { min_interval_seconds: 2, max_interval_seconds: 4 }
  const heartbeat = { heartbeat_interval_seconds: 3, adaptive_heartbeat: bounds }
  const { vitals, report } = await startFleet(50, heartbeat, stops)
  await eventually(async () => (await report()).every(({ beatsMs }) => beatsMs.length >= 3), {
    timeoutMs: 40_000,
    what: 'each server was asked three times',
  })
  const { upstreams } = await debugReport(vitals)
  const all = Object.values(upstreams)
  expect(all).toHaveLength(50)
  for (const { state, failures, interval_seconds: interval, next_probe_in_seconds: next, probe } of all) {
    expect({ state, failures }).toEqual({ state: 'healthy', failures: [] })
    expect(interval).toBeGreaterThanOrEqual(bounds.min_interval_seconds)
    expect(interval).toBeLessThanOrEqual(bounds.max_interval_seconds)
    expect(next ?? 0).toBeLessThanOrEqual(bounds.max_interval_seconds)
    expect(['ping', 'server/discover']).toContain(probe)
  }
  const firsts = (await report()).map(({ beatsMs: [first] }) => first)
  expect(new Set(firsts).size, 'they are not asked in step').toBe(50)
}, 60_000)
