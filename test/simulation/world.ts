import { pino } from 'pino'
import { type Listeners, trafficEvents } from '../../src/cli/evidence.ts'
import { type MonitorDeps, launch, monitor, tunableHeartbeat } from '../../src/cli/monitor.ts'
import type { HeartbeatConfig, UpstreamConfig } from '../../src/config/config.ts'
import { heartbeatOf } from '../../src/config/heartbeat.ts'
import { defaults } from '../../src/defaults.ts'
import { SilenceWatch } from '../../src/heartbeat/correlation.ts'
import { type Monitored, limitedOf, silenceOf } from '../../src/heartbeat/monitored.ts'
import { Scheduler, type Slot } from '../../src/heartbeat/scheduler.ts'
import type { AdmissionDeps } from '../../src/proxy/admission.ts'
import { noShedder } from '../../src/proxy/shed.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import { type Limited, limited } from '../../src/upstreams/queue.ts'
import { StartGate } from '../../src/upstreams/supervisor.ts'
import type { Command, Supervision, Target } from '../../src/upstreams/upstream.ts'
import { SimulatedClients } from './clients.ts'
import { type Plan, type ServerPlan, befall } from './faults.ts'
import { Ledger } from './ledger.ts'
import { type Random, seeded } from './random.ts'
import { type Outage, Referee, type Violation } from './referee.ts'
import { SimulatedServer } from './server.ts'
import { UrlProber } from './url-prober.ts'
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
  readonly #referee: Referee

  constructor(time: VirtualTime, referee: Referee) {
    const { probesPerSecond: perSecond, probesInFlight: inFlight } = defaults.heartbeat
    super({ clock: time, perSecond, inFlight, onError: (name, error) => referee.error(name, error) })
    this.#referee = referee
  }

  override schedule(key: string, atMs: number, task: (slot: Slot) => Promise<void>): void {
    super.schedule(key, atMs, async (slot) => {
      this.#referee.probeStarts(key, atMs)
      let isFree = false
      const free = () => {
        slot.free()
        if (!isFree) this.#referee.slotFreed()
        isFree = true
      }
      try {
        await task({ free })
      } finally {
        if (!isFree) this.#referee.slotFreed()
        this.#referee.probeEnds(key)
      }
    })
  }
}

/** One upstream of a world. */
type Live = Pick<Monitored, 'name' | 'heartbeat'> & { readonly limits: Limited; start(): void }

/** Lives through a plan, with the control core as it is and servers, processes, metrics and time that are simulated. */
export async function runWorld({ seed, plan, policy, tell }: WorldOptions): Promise<WorldReport> {
  const time = new VirtualTime()
  const heartbeat = heartbeatOf([quiet, policy === 'adaptive' ? {} : fixedAt(policy)])
  const { intervalMs, adaptive } = heartbeat
  const servers = new Map<string, SimulatedServer>()
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
  const deps = simulatedDeps({
    time,
    random: seeded(seed, 'law'),
    referee,
    ledger,
    ownLoad,
    together: () => silence.look(),
    requestsInFlight: (name) => inFlight.get(name) ?? 0,
  })
  const admission: AdmissionDeps = {
    clock: time,
    sweep: new Sweep(time),
    onRequest: (name, change) => inFlight.set(name, (inFlight.get(name) ?? 0) + change),
    shedder: noShedder,
  }
  const listeners = new Map<string, Listeners>()
  const traffic = trafficEvents((name) => listeners.get(name))
  const upstreams = plan.servers.map((server): Live => {
    const { name, kind, restart = 'always' } = server
    const simulated = new SimulatedServer({
      plan: server,
      time,
      random: seeded(seed, name),
      onServing: (isServing) => referee.serving(name, isServing),
      onProcess: (event) => referee.process(name, event),
    })
    servers.set(name, simulated)
    const own: MonitorDeps = { ...deps, startProcess: () => simulated.startProcess(), processTable: simulated }
    const live =
      kind === 'stdio'
        ? stdioUpstream(own, server, heartbeat)
        : urlUpstream(own, server, simulated, time, heartbeat, referee)
    const { limits } = live
    referee.watch(name, { kind, status: () => live.heartbeat.status(), limits, restart })
    listeners.set(name, { heartbeat: live.heartbeat, breaker: limits.breaker, isOneProcess: true })
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
    }).start()
    return live
  })
  const silence = new SilenceWatch({
    silences: () => upstreams.map(silenceOf),
    onChange: (together) => referee.silentTogether(together),
  })
  for (const upstream of upstreams) upstream.start()
  for (const fault of plan.own)
    befall(fault, { time, ownLoad, onTrouble: (from, until) => referee.trouble(from, until) })
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
  readonly time: VirtualTime
  readonly random: Random
  readonly referee: Referee
  readonly ledger: Ledger
  readonly ownLoad: { readonly loopDelayP99Ms: number; readonly loopUtilisation: number }
  /** Who fell silent together. */
  readonly together: () => readonly string[]
  readonly requestsInFlight: MonitorDeps['requestsInFlight']
}

/** All that upstreams share, real where it decides anything. */
function simulatedDeps({
  time,
  random,
  referee,
  ledger,
  ownLoad,
  together,
  requestsInFlight,
}: SimulatedParts): Omit<MonitorDeps, 'startProcess' | 'processTable'> {
  const scheduler = new WatchedScheduler(time, referee)
  const place = { traceId: '', spanId: '', sampled: false }
  return {
    clock: time,
    random,
    instance: 'simulated',
    env: {},
    scheduler,
    starts: new StartGate(defaults.supervision.concurrentStarts),
    readings: ledger.current,
    ownLoad: () => ({ ...ownLoad, probeBacklog: scheduler.backlog() }),
    instruments: {
      recordHeartbeat: ledger.record,
      countStateChange: (upstream, from) => referee.changed(upstream, from),
      initUpstream: () => undefined,
      countRestart: () => undefined,
      countCircuitOpened: (upstream) => referee.circuitOpened(upstream),
      countInventoryChange: () => undefined,
      countDropped: () => undefined,
      labels: { admit: () => undefined },
    },
    onVerdict: () => void together(),
    isFailureCorrelated: () => together().length > 0,
    log: pino({ enabled: false }),
    tracing: { heartbeat: () => place, exemplarOf: () => undefined },
    directory: new SessionDirectory({
      clock: time,
      maxTracked: 0,
      cleanupIntervalMs: () => Infinity,
      idleLimitMs: () => Infinity,
      onStart: () => undefined,
      onEnd: () => undefined,
    }),
    redact: (text) => text,
    hangLaw: defaults.hang,
    memoryLookMs: defaults.supervision.memoryLookMs,
    bridge: { hear: () => false, residentClosed: () => undefined },
    requestsInFlight,
  }
}

function supervisionOf({ restart = 'always' }: ServerPlan): Supervision {
  return { restart, maxMemoryBytes: Infinity }
}

function configOf(server: ServerPlan, target: Target, heartbeat: HeartbeatConfig): UpstreamConfig {
  const { name } = server
  const supervision = supervisionOf(server)
  const sessions = { injectsTraceparent: false, maxSessions: 0, maxSessionMs: Infinity }
  return { name, disabled: false, target, heartbeat, supervision, ...sessions }
}

function stdioUpstream(deps: MonitorDeps, server: ServerPlan, heartbeat: HeartbeatConfig): Live {
  const live = monitor(deps, configOf(server, { transport: 'stdio', launch: command, resident: 'always' }, heartbeat))
  const limits = limitedOf(live.access)
  if (!limits) throw new Error('what bounds a stdio server is known')
  return { ...live, limits }
}

/** A server behind a URL, with HTTP and all below left out. */
function urlUpstream(
  deps: MonitorDeps,
  plan: ServerPlan,
  server: SimulatedServer,
  time: VirtualTime,
  config: HeartbeatConfig,
  referee: Referee,
): Live {
  const { name, kind } = plan
  const supervision = supervisionOf(plan)
  const url = new URL('http://127.0.0.1/mcp')
  const target = { transport: 'http', url, headers: {}, upstreamHost: 'auto' } as const
  const launched =
    kind === 'launched'
      ? launch(deps, { ...target, name, launch: command, supervision: () => supervision }, () => heartbeat)
      : undefined
  const prober = new UrlProber({
    server,
    time,
    isStarting: () => launched?.supervisor.state() === 'starting',
    isResting: () => launched?.isResting() ?? false,
    onAsked: () => referee.asked(name),
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    openingDeadlineMs: defaults.heartbeat.lateAnswerMs,
  })
  const limits = limited(deps.clock, {}, (_from, to) => {
    if (to === 'open') deps.instruments.countCircuitOpened(name)
  })
  const { heartbeat } = tunableHeartbeat(deps, configOf(plan, target, config), prober, {
    own: launched?.own,
    onOpened: () => launched?.supervisor.ready(),
    onAnswered: () => limits.breaker.signOfLife(),
  })
  return {
    name,
    heartbeat,
    limits,
    start: () => (launched ? launched.supervisor.start() : heartbeat.start()),
  }
}

/** Virtual time as h:mm:ss.mmm. */
function stamp(ms: number): string {
  return new Date(ms).toISOString().slice(12, 23)
}
