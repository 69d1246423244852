import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { ownLoad } from '../../src/heartbeat/load.ts'
import { Heartbeat } from '../../src/heartbeat/loop.ts'
import { Scheduler } from '../../src/heartbeat/scheduler.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { ScriptedProber } from '../support/scripted-prober.ts'
import { heartbeatSettings } from '../support/settings.ts'

const fleet = 100
const calmMs = 60_000
const silenceMs = 120_000
/** A second's worth of starts may be spent when a probe comes due, and as many others with it. */
const patienceMs = 1000

/**
 * A hundred servers with one scheduler, as in `serve`, in virtual time. From `calmMs` on the first of them accept and
 * never answer; all others answer as ever.
 */
async function live(silent: number) {
  const clock = fakeClock()
  const { probesPerSecond: perSecond, probesInFlight: inFlight, probeSlotMs: slotMs } = defaults.heartbeat
  const errors: unknown[] = []
  const onError = (_key: string, error: unknown) => errors.push(error)
  const scheduler = new Scheduler({ clock, perSecond, inFlight, slotMs, onError })
  const load = () => ({ loopDelayP99Ms: 0, loopUtilisation: 0.04, probeBacklog: scheduler.backlog() })
  const servers = Array.from({ length: fleet }, (_, index) => {
    const prober = new ScriptedProber(clock, { afterMs: 5 })
    const plannedMs: number[] = []
    const heartbeat: Heartbeat = new Heartbeat({
      upstream: `server-${index}`,
      transport: 'http',
      instance: 'pod-1',
      prober,
      scheduler,
      clock,
      random: () => 0.5,
      settings: heartbeatSettings,
      readings: () => Promise.resolve({ heartbeats: 1, failures: 0, rttMeanMs: 5, elapsedMs: 10_000 }),
      ownLoad: load,
      events: {
        onHeartbeat: () => 'trace',
        onReport: () => plannedMs.push(clock.now() + (heartbeat.status().nextProbeInMs ?? 0)),
        onVerdict: () => undefined,
        onNewFailure: () => undefined,
        onPauseRenewed: () => undefined,
        onInventory: () => undefined,
      },
    })
    return { heartbeat, prober, plannedMs }
  })
  for (const { heartbeat } of servers) heartbeat.start()
  await clock.advance(calmMs)
  for (const { prober } of servers.slice(0, silent)) prober.play({ outcome: 'silence' })
  const loads: number[] = []
  for (let passedMs = 0; passedMs < silenceMs; passedMs += 5000) {
    await clock.advance(5000)
    loads.push(ownLoad(load()))
  }
  const states = servers.map(({ heartbeat }) => heartbeat.status().verdict.state)
  const lagsMs = servers
    .slice(silent)
    .flatMap(({ prober, plannedMs }) =>
      prober.starts
        .slice(1)
        .flatMap(({ atMs }, probe) => (atMs > calmMs ? [atMs - (plannedMs[probe] ?? -Infinity)] : [])),
    )
  await Promise.all(servers.map(({ heartbeat }) => heartbeat.stop()))
  scheduler.stop()
  return { states, longestLagMs: Math.max(0, ...lagsMs), mostLoad: Math.max(...loads), errors }
}

it('servers that answer keep their rhythm while any number of others accept and never answer', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: fleet }), async (silent) => {
      const { states, longestLagMs, mostLoad, errors } = await live(silent)
      expect(errors).toEqual([])
      expect(new Set(states.slice(0, silent))).toEqual(new Set(silent > 0 ? ['down'] : []))
      expect(new Set(states.slice(silent))).toEqual(new Set(silent < fleet ? ['healthy'] : []))
      expect(longestLagMs).toBeLessThan(patienceMs)
      expect(mostLoad).toBe(0)
    }),
    { numRuns: 6, examples: [[40]] },
  )
})
