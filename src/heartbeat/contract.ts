import type { Clock } from '../clock.ts'
import type { Redact } from '../redaction.ts'
import type { Absence } from '../upstreams/supervisor.ts'
import type { Transport } from '../upstreams/upstream.ts'
import type { Inventory } from './conversation.ts'
import type { Examine } from './hang-watch.ts'
import type { HangLaw, HangTimes } from './hang.ts'
import type { IntervalDecision, IntervalSettings, ReadingDiff } from './interval.ts'
import type { OwnLoad } from './load.ts'
import type { ProbeMode, ProbeResult, Prober } from './probe.ts'
import type { Scheduler } from './scheduler.ts'
import type { Verdict } from './verdict.ts'

/** How the heartbeat of one upstream is made, in milliseconds where it says so. */
export interface HeartbeatSettings extends IntervalSettings {
  readonly probe: ProbeMode
  readonly minTimeoutMs: number
  readonly maxTimeoutMs: number
  readonly lateAnswerMs: number
  readonly hang: HangTimes
  readonly missesToDown: number
  readonly goodsToHealthy: number
  /** After so long its tools are read again: another server may stand there unseen, behind its URL or inside its command. */
  readonly inventoryAgeMs: number
  readonly recentKept: number
  readonly failuresKept: number
}

/** What it takes to tell a server that is at work from one that is silent. */
export interface WorkSigns {
  readonly examine: Examine
  /** But for what the settings say of it. */
  readonly law: Omit<HangLaw, keyof HangTimes>
}

/** The same where its processes are ours, and may hang. */
export interface OwnProcesses extends WorkSigns {
  /** A process hangs: that of a session, or else the upstream's own. Returns what is done about it, for people. */
  onHung(session: string | undefined, reason: string): string
}

/** The rhythm of a heartbeat that is not the upstream's own. */
export interface Pace {
  readonly intervalMs: number
  readonly nextInMs: number
}

/** One heartbeat, told once it is over. */
export interface HeartbeatReport {
  readonly result: ProbeResult
  readonly startedAtWallMs: number
  readonly timeoutMs: number
  readonly pace?: Pace | undefined
}

export interface HeartbeatEvents {
  /** At the end of each heartbeat; returns the id of its trace. */
  onHeartbeat(report: HeartbeatReport): string
  /** The same again once the next one is planned: what people read. */
  onReport(report: HeartbeatReport, traceId: string): void
  /** `traceId` is that of the heartbeat or the operation by which it changed, if it was one alone. */
  onVerdict(from: Verdict, to: Verdict, traceId?: string): void
  /** A failure unlike those before: its cause, without what differs from case to case. */
  onNewFailure(cause: string, traceId: string | undefined): void
  /** A maintenance that was on has another end, which the reason names. */
  onPauseRenewed(reason: string): void
  /** The tools that the server offers, at first sight and whenever they changed. */
  onInventory(inventory: Inventory, changed: boolean): void
}

export interface HeartbeatOptions {
  readonly upstream: string
  readonly transport: Transport
  /** Tells replicas of the sidecar apart, so that they do not probe in step. */
  readonly instance: string
  readonly prober: Prober
  readonly scheduler: Scheduler
  readonly clock: Clock
  readonly random: () => number
  readonly settings: HeartbeatSettings
  /** What the exported metrics say happened since the last call. */
  readonly readings: () => Promise<ReadingDiff>
  readonly ownLoad: () => OwnLoad
  /** Without it no process is ours. */
  readonly own?: OwnProcesses | undefined
  /** Of a server that is not ours. */
  readonly remote?: WorkSigns | undefined
  /** Why no process of ours runs and none is being started, where that is so: asked after a time without listening. */
  readonly absence?: (() => Absence | undefined) | undefined
  readonly events: HeartbeatEvents
  /** Hides secrets in reasons, which may be the words of a server. */
  readonly redact?: Redact
}

/** What others decide by. */
export interface Glance {
  readonly verdict: Verdict
  readonly interval: IntervalDecision
  readonly probe: ProbeMode
  /** When maintenance ends, as wall time; undefined while there is none. */
  readonly pausedUntilWallMs: number | undefined
}

/** What people read. */
export interface HeartbeatStatus extends Glance {
  readonly timeoutMs: number
  readonly nextProbeInMs: number | undefined
  /** Why nobody is asked, so that there is no interval either; undefined while heartbeats are made. */
  readonly unasked: string | undefined
  readonly lastSuccessWallMs: number | undefined
  /** What the server offers now, be it less than it should. */
  readonly inventory: Inventory | undefined
  readonly unavailableSeconds: number
  readonly flapPenalty: number
  /**
   * The rung of the ladder in use: `traffic` while what clients ask stands in for probes, else what is asked. Undefined
   * while nobody is to be asked at all.
   */
  readonly rung: string | undefined
}
