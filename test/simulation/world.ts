import { pino } from 'pino'
import { type Listeners, trafficEvents } from '../../src/cli/evidence.ts'
import type { LiveUpstream } from '../../src/cli/fleet.ts'
import { monitor } from '../../src/cli/monitor.ts'
import type { MonitorDeps } from '../../src/cli/monitor-deps.ts'
import type { HeartbeatConfig, UpstreamConfig } from '../../src/config/config.ts'
import { heartbeatOf } from '../../src/config/heartbeat.ts'
import { defaults } from '../../src/defaults.ts'
import { type Silence, SilenceWatch, isExcused } from '../../src/heartbeat/correlation.ts'
import { overload } from '../../src/heartbeat/load.ts'
import { limitedOf, silencesOf } from '../../src/heartbeat/monitored.ts'
import { Scheduler } from '../../src/heartbeat/scheduler.ts'
import type { AdmissionDeps } from '../../src/proxy/admission.ts'
import { Shedder } from '../../src/proxy/shed.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import { StartGate } from '../../src/upstreams/start-gate.ts'
import type { Command, Target } from '../../src/upstreams/upstream.ts'
import { simulatedLimits } from './carriage.ts'
import { SimulatedClients } from './clients.ts'
import { type Plan, type ServerPlan, befall } from './faults.ts'
import { Ledger } from './ledger.ts'
import { type Random, seeded } from './random.ts'
import { type Outage, Referee, type Violation } from './referee.ts'
import { scriptedPool } from './scripted-pool.ts'
import { SimulatedSessions } from './sessions.ts'
import { SimulatedServer, memoryLimitBytes } from './server.ts'
import { VirtualTime } from './virtual-time.ts'

/** How often servers are probed: as the law adapts it, or every so many seconds. */
export type Policy = 'adaptive' | number

export interface WorldOptions {
  readonly seed: number
  readonly plan: Plan
  readonly policy: Policy
  /** Hears what happens, for people. */
  readonly tell?: (line: string) => void
}

export interface WorldReport {
  readonly violations: readonly Violation[]
  readonly outages: readonly Outage[]
  readonly probes: number
  readonly restarts: number
  readonly mostPerSecond: number
  readonly seconds: number
}

/** A scheduler whose every run the referee sees. */
class WatchedScheduler extends Scheduler {
  readonly #time: VirtualTime
  readonly #referee: Referee

  constructor(time: VirtualTime, referee: Referee) {
    const { probesPerSecond: perSecond, probesInFlight: inFlight, probeSlotMs: slotMs } = defaults.heartbeat
    super({ clock: time, perSecond, inFlight, slotMs, onError: (name, error) => referee.error(name, error) })
    this.#time = time
    this.#referee = referee
  }

  override schedule(key: string, atMs: number, task: () => Promise<void>, notBeforeMs?: number): void {
    const upstream = key.replace(/ sessions$/, '')
    const isOfSession = upstream !== key
    super.schedule(
      key,
      atMs,
      async () => {
        if (isOfSession) this.#referee.sessionProbeStarts(upstream)
        else this.#referee.probeStarts(upstream, atMs)
        let isFree = false
        const free = () => {
          if (!isFree) this.#referee.slotFreed()
          isFree = true
        }
        const patience = this.#time.after(defaults.heartbeat.probeSlotMs, free)
        try {
          await task()
        } finally {
          patience.cancel()
          free()
          if (isOfSession) this.#referee.sessionProbeEnds(upstream)
          else this.#referee.probeEnds(upstream)
        }
      },
      notBeforeMs,
    )
  }
}

/** Lives through a plan, with the control core as it is and servers, processes, metrics and time that are simulated. */
export async function runWorld({ seed, plan, policy, tell }: WorldOptions): Promise<WorldReport> {
  const time = new VirtualTime()
  const heartbeat = heartbeatOf([quiet, policy === 'adaptive' ? {} : fixedAt(policy)])
  const { intervalMs, adaptive } = heartbeat
  const servers = new Map<string, SimulatedServer>()
  const live = new Map<string, LiveUpstream>()
  const referee = new Referee({
    now: () => time.now(),
    minMs: adaptive.enabled ? adaptive.minIntervalMs : intervalMs,
    maxMs: adaptive.enabled ? adaptive.maxIntervalMs : intervalMs,
    isBounded: adaptive.enabled,
    faultOf: (name) => servers.get(name)?.fault()?.kind,
    hadFault: (name, sinceMs) => servers.get(name)?.hadFault(sinceMs) ?? false,
    tell: (upstream, what) => tell?.(`${stamp(time.now())}  ${upstream.padEnd(12)}  ${what}`),
  })
  const ownLoad = { loopDelayP99Ms: 0, loopUtilisation: 0.05 }
  const ledger = new Ledger(time)
  const inFlight = new Map<string, number>()
  const directory = new SessionDirectory({
    clock: time,
    maxTracked: 1000,
    cleanupIntervalMs: () => Infinity,
    idleLimitMs: () => Infinity,
    onStart: () => undefined,
    onEnd: (session, end) => {
      referee.sessionEnded(session, end)
      live.get(session.upstream)?.sessionEnded()
    },
  })
  const deps = simulatedDeps({
    directory,
    time,
    random: seeded(seed, 'law'),
    referee,
    ledger,
    ownLoad,
    silences: () => silencesOf(upstreams),
    onVerdict: () => void silence.look(),
    requestsInFlight: (name) => inFlight.get(name) ?? 0,
  })
  const shedder = new Shedder({
    clock: time,
    fullness: () => ({ load: overload(deps.ownLoad()), heap: 0 }),
    onShed: () => undefined,
    onLevel: () => undefined,
  })
  const admission: AdmissionDeps = {
    clock: time,
    sweep: new Sweep(time),
    onRequest: (name, change) => inFlight.set(name, (inFlight.get(name) ?? 0) + change),
    shedder,
  }
  const listeners = new Map<string, Listeners>()
  const traffic = trafficEvents((name) => listeners.get(name))
  const upstreams = plan.servers.map((server) => {
    const { name, kind, restart = 'always', probe = 'active', hasMemoryLimit = false } = server
    const simulated = new SimulatedServer({
      plan: server,
      time,
      random: seeded(seed, name),
      onServing: (isServing) => referee.serving(name, isServing),
      onProcess: (event) => referee.process(name, event),
      onAsked: (method) => referee.asked(name, method),
    })
    servers.set(name, simulated)
    const own: MonitorDeps = {
      ...deps,
      startProcess: () => simulated.startProcess(),
      processTable: simulated,
      openPool: scriptedPool({ server: simulated, time }),
    }
    const one = monitor(own, configOf(server, heartbeat))
    live.set(name, one)
    const limits = limitedOf(one.access)
    if (!limits) throw new Error(`what bounds ${name} is known`)
    const asksInSessions = simulated.traits().era === 'legacy'
    referee.watch(name, {
      kind,
      glance: () => one.heartbeat.glance(),
      unavailableSeconds: () => one.heartbeat.status().unavailableSeconds,
      limits,
      restart,
      probe,
      hasMemoryLimit,
      asksInSessions,
    })
    new SimulatedSessions({ plan: server, server: simulated, time, directory, referee }).start()
    listeners.set(name, { heartbeat: one.heartbeat, breaker: limits.breaker, isOneProcess: true })
    const random = seeded(seed, `clients of ${name}`)
    new SimulatedClients({
      plan: server,
      server: simulated,
      time,
      random,
      limits,
      admission,
      traffic,
      ledger,
      referee,
      live: one,
    }).start()
    return one
  })
  const silence = new SilenceWatch({
    silences: () => silencesOf(upstreams),
    onChange: (together) => referee.silentTogether(together),
  })
  for (const upstream of upstreams) upstream.start()
  shedder.start()
  for (const fault of plan.own)
    befall(fault, {
      time,
      ownLoad,
      onTrouble: (from, until) => referee.trouble(from, until),
      onOverload: (from, until) => referee.overload(from, until),
    })
  for (let atMs = 0; atMs < plan.durationMs; atMs += lookMs) time.at(atMs, () => referee.look())
  await time.run(plan.durationMs)
  const { violations, outages, probes, restarts, mostPerSecond } = referee
  return { violations, outages, probes, restarts, mostPerSecond, seconds: plan.durationMs / 1000 }
}

const command: Command = { command: 'simulated', args: [], env: {} }
/** How often the referee looks for what should have happened. */
const lookMs = 10_000
const quiet = { logging: { enhanced_heartbeat_logging: false } } as const
const fixedAt = (seconds: number) =>
  ({ heartbeat_interval_seconds: seconds, adaptive_heartbeat: { enabled: false } }) as const

interface SimulatedParts {
  readonly directory: SessionDirectory
  readonly time: VirtualTime
  readonly random: Random
  readonly referee: Referee
  readonly ledger: Ledger
  readonly ownLoad: { readonly loopDelayP99Ms: number; readonly loopUtilisation: number }
  readonly silences: () => readonly Silence[]
  readonly onVerdict: MonitorDeps['onVerdict']
  readonly requestsInFlight: MonitorDeps['requestsInFlight']
}

/** All that upstreams share, real where it decides anything. */
function simulatedDeps({
  directory,
  time,
  random,
  referee,
  ledger,
  ownLoad,
  silences,
  onVerdict,
  requestsInFlight,
}: SimulatedParts): Omit<MonitorDeps, 'startProcess' | 'processTable' | 'openPool'> {
  const scheduler = new WatchedScheduler(time, referee)
  const place = { traceId: '', spanId: '', sampled: false }
  return {
    clock: time,
    random,
    instance: 'simulated',
    env: {},
    scheduler,
    starts: new StartGate(defaults.supervision.concurrentStarts, defaults.supervision.concurrentStartsOfOne),
    standstills: () => 0,
    readings: ledger.current,
    ownLoad: () => ({ ...ownLoad, probeBacklog: scheduler.backlog() }),
    instruments: {
      recordHeartbeat: ledger.record,
      countStateChange: (upstream, from) => referee.changed(upstream, from),
      initUpstream: () => undefined,
      countRestart: (upstream, reason) => referee.replaced(upstream, reason),
      countCircuitOpened: (upstream) => referee.circuitOpened(upstream),
      countInventoryChange: () => undefined,
      countDropped: () => undefined,
      labels: { admit: () => undefined },
    },
    onVerdict,
    isExcused: (upstream) => isExcused(upstream, silences(), time.now()),
    log: pino({ enabled: false }),
    tracing: { heartbeat: () => place, exemplarOf: () => undefined },
    directory,
    redact: (text) => text,
    memoryLookMs: defaults.supervision.memoryLookMs,
    bridge: { hear: () => false, residentClosed: () => undefined },
    requestsInFlight,
  }
}

function configOf(server: ServerPlan, heartbeat: HeartbeatConfig): UpstreamConfig {
  const { name, restart = 'always', probe = 'active', hasMemoryLimit = false } = server
  return {
    name,
    disabled: false,
    target: { ...targetOf(server), limits: simulatedLimits },
    heartbeat: { ...heartbeat, probe },
    supervision: { restart, maxMemoryBytes: hasMemoryLimit ? memoryLimitBytes : Infinity },
    injectsTraceparent: false,
    maxSessions: 0,
    maxSessionMs: Infinity,
  }
}

function targetOf({ kind }: ServerPlan): Target {
  const url = new URL('http://127.0.0.1/mcp')
  const remote = { transport: 'http', url, headers: {}, upstreamHost: 'auto' } as const
  switch (kind) {
    case 'stdio':
      return { transport: 'stdio', launch: command, resident: 'always' }
    case 'launched':
      return { ...remote, launch: command }
    case 'url':
      return remote
  }
}

/** Virtual time as h:mm:ss.mmm. */
function stamp(ms: number): string {
  return new Date(ms).toISOString().slice(12, 23)
}
