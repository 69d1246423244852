import { setTimeout as sleep } from 'node:timers/promises'
import type { FleetReport } from '../peers/fleet.ts'
import { startPeer } from '../peers/spawn.ts'
import { debugReport } from '../support/admin.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { processUsage } from './proc.ts'

/** A fleet of servers, all of them well, and mcp-vitals in front of it. */
export interface Fleet {
  readonly vitals: RunningVitals
  /** What the servers saw. */
  readonly report: () => Promise<FleetReport>
}

export interface FleetPlan {
  readonly upstreams: number
  /** How long it is watched once calm; some intervals have to fit in. */
  readonly calmMs: number
}

export interface FleetFigures {
  /** Of one core. */
  readonly cpuPercent: number
  readonly residentMib: number
  /** Between two heartbeats of one server, as the servers saw them, in ascending order. */
  readonly intervalsSeconds: readonly number[]
  /** Names with state and reason. */
  readonly unhealthy: readonly string[]
}

/** Between two heartbeats while all is well: the default of `max_interval_seconds`, from which jitter takes 10 %. */
export const calmSeconds = { least: 27, most: 30 } as const

type Stops = (() => Promise<void>)[]

/** Starts that many servers in one process, legacy and modern ones in turn. */
export async function startFleet(upstreams: number, heartbeat: object, stops: Stops): Promise<Fleet> {
  const servers = await startPeer('test/peers/fleet.ts', { SERVERS: String(upstreams) })
  stops.push(servers.stop)
  const report = async () => (await (await fetch(servers.ready)).json()) as FleetReport
  const named = (await report()).map(({ url }, index) => [`server-${index}`, { url }])
  const vitals = await startVitals({ config: { heartbeat, mcpServers: Object.fromEntries(named) } })
  stops.push(vitals.stop)
  return { vitals, report }
}

/** Watches a fleet from the moment on at which all is calm; undefined where there is no /proc. */
export async function fleetFigures({ upstreams, calmMs }: FleetPlan, stops: Stops): Promise<FleetFigures | undefined> {
  // It begins with the interval that it would come to after a few minutes.
  const { vitals, report } = await startFleet(upstreams, { heartbeat_interval_seconds: calmSeconds.most }, stops)
  const known = await allAsked(report)
  const before = processUsage(vitals.pid)
  const beforeMs = performance.now()
  await sleep(calmMs)
  const after = processUsage(vitals.pid)
  const elapsedSeconds = (performance.now() - beforeMs) / 1000
  if (!before || !after) return undefined
  const seen = await report()
  return {
    cpuPercent: (100 * (after.cpuSeconds - before.cpuSeconds)) / elapsedSeconds,
    residentMib: after.residentBytes / 1024 / 1024,
    intervalsSeconds: seen
      .flatMap(({ beatsMs }, index) => intervals(beatsMs.slice((known[index] ?? 0) - 1)))
      .toSorted((one, other) => one - other),
    unhealthy: await unhealthy(vitals),
  }
}

const lookMs = 2000
const patienceMs = 180_000

/** How often each server was asked, as soon as all were: the first time comes early, to spread the fleet. */
async function allAsked(report: Fleet['report']): Promise<number[]> {
  for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += lookMs) {
    const asked = (await report()).map(({ beatsMs }) => beatsMs.length)
    if (asked.every((beats) => beats > 0)) return asked
    await sleep(lookMs)
  }
  throw new Error(`some servers were not asked within ${patienceMs / 1000} s`)
}

function intervals(beatsMs: readonly number[]): number[] {
  return beatsMs.slice(1).map((atMs, index) => (atMs - (beatsMs[index] ?? Number.NaN)) / 1000)
}

async function unhealthy(vitals: RunningVitals): Promise<string[]> {
  const { upstreams } = await debugReport(vitals)
  return Object.entries(upstreams).flatMap(([name, { state, reason }]) =>
    state === 'healthy' ? [] : [`${name} is ${state}: ${reason}`],
  )
}
