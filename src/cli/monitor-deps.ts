import type { Clock } from '../clock.ts'
import type { OwnLoad } from '../heartbeat/load.ts'
import type { Scheduler } from '../heartbeat/scheduler.ts'
import type { Logger } from '../log.ts'
import type { Bridge } from '../proxy/bridge.ts'
import type { Redact } from '../redaction.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import type { Instruments } from '../telemetry/instruments.ts'
import type { UpstreamReading } from '../telemetry/readings.ts'
import type { Tracing } from '../telemetry/tracing.ts'
import type { OpenPool } from '../upstreams/endpoint.ts'
import type { StartProcess } from '../upstreams/process.ts'
import type { StartGate } from '../upstreams/start-gate.ts'
import type { MemoryDeps } from './own-processes.ts'

/** What heartbeats and processes record. */
export interface HeartbeatInstruments extends Pick<
  Instruments,
  | 'initUpstream'
  | 'countCircuitOpened'
  | 'recordHeartbeat'
  | 'countStateChange'
  | 'countRestart'
  | 'countInventoryChange'
  | 'countDropped'
> {
  readonly labels: Pick<Instruments['labels'], 'admit'>
}

/** What all heartbeats share. */
export interface HeartbeatDeps {
  readonly clock: Clock
  readonly random: () => number
  readonly instance: string
  readonly log: Logger
  /** Hides secrets in the words of servers. */
  readonly redact: Redact
  readonly scheduler: Scheduler
  readonly instruments: HeartbeatInstruments
  readonly tracing: Pick<Tracing, 'heartbeat' | 'exemplarOf'>
  readonly directory: SessionDirectory
  readonly readings: () => Promise<ReadonlyMap<string, UpstreamReading>>
  readonly ownLoad: () => OwnLoad
  /** After how long the tools of a server that is not ours are read again; `defaults.heartbeat` unless given. */
  readonly inventoryAgeMs?: number | undefined
  /** Some verdict changed: what is concluded from several may change with it. */
  readonly onVerdict: () => void
}

/** What all upstreams share. */
export interface MonitorDeps extends HeartbeatDeps, MemoryDeps {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly startProcess: StartProcess
  /** How servers behind URLs are reached: with sockets unless given. */
  readonly openPool?: OpenPool
  readonly starts: StartGate
  /** How often our event loop stood still so far. */
  readonly standstills: () => number
  /** Hears what resident processes say to clients. */
  readonly bridge: Pick<Bridge, 'hear' | 'residentClosed'>
}
