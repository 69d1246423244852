import type { Clock } from '../clock.ts'
import type { Transport } from '../upstreams/upstream.ts'
import { type Availability, newAvailability, observeAvailability, unavailableSeconds } from './availability.ts'
import { isAnswered, isFailure, isGone } from './classify.ts'
import { type Inventory, inventoryLoss, sameInventory } from './conversation.ts'
import { History } from './history.ts'
import {
  type IntervalDecision,
  type IntervalSettings,
  type ReadingDiff,
  adapt,
  firstDecision,
  firstOffsetMs,
  nextDelayMs,
} from './interval.ts'
import type { OwnLoad } from './load.ts'
import type { ProbeResult, Prober } from './probe.ts'
import type { Scheduler } from './scheduler.ts'
import { type RttEstimate, observeHealth, observeRtt, probeTimeoutMs } from './timeout.ts'
import { type Evidence, type Verdict, evidenceOf, isUnavailable, judge, newVerdict } from './verdict.ts'

export interface HeartbeatSettings extends IntervalSettings {
  readonly minTimeoutMs: number
  readonly maxTimeoutMs: number
  readonly lateAnswerMs: number
  readonly missesToDown: number
  readonly goodsToHealthy: number
  readonly recentKept: number
  readonly failuresKept: number
}

/** One heartbeat, told once it is over. */
export interface HeartbeatReport {
  readonly result: ProbeResult
  readonly startedAtWallMs: number
  readonly timeoutMs: number
}

export interface HeartbeatEvents {
  /** At the end of each heartbeat; returns the id of its trace. */
  onHeartbeat(report: HeartbeatReport): string
  /** The same again once the next one is planned: what people read. */
  onReport(report: HeartbeatReport, traceId: string): void
  onVerdict(from: Verdict, to: Verdict): void
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
  readonly events: HeartbeatEvents
}

export interface HeartbeatStatus {
  readonly verdict: Verdict
  readonly interval: IntervalDecision
  readonly timeoutMs: number
  readonly nextProbeInMs: number | undefined
  readonly lastSuccessWallMs: number | undefined
  readonly inventory: Inventory | undefined
  readonly unavailableSeconds: number
}

/** A stall of our own event loop longer than this part of the time-out makes a silent probe inconclusive. */
const stallRatio = 0.25

/** The heartbeat of one upstream: probe, judge, adapt the interval, and again. */
export class Heartbeat {
  readonly history: History
  readonly #options: HeartbeatOptions
  #verdict: Verdict
  #interval: IntervalDecision
  #availability: Availability = newAvailability()
  #rtt: RttEstimate | undefined
  #localHealth = 0
  #inventory: Inventory | undefined
  #lastSuccessWallMs: number | undefined
  /** When a client was last answered, and when last by what we would have probed. */
  #lastAnswerMs = Number.NEGATIVE_INFINITY
  #lastTrafficMs = Number.NEGATIVE_INFINITY
  #openedInWindow = false
  #beats = 0
  /** Reports of the heartbeat under way, told when it is known when the next one comes. */
  #untold: (() => void)[] | undefined
  #stopped = false

  constructor(options: HeartbeatOptions) {
    this.#options = options
    const { clock, settings } = options
    this.history = new History({ recentKept: settings.recentKept, failuresKept: settings.failuresKept })
    this.#verdict = newVerdict('starting', 'not probed yet', clock.now())
    this.#interval = firstDecision(settings)
  }

  /** The first probe at once: it is the opening exchange. */
  start(): void {
    this.#schedule(this.#options.clock.now())
  }

  stop(): Promise<void> {
    this.#stopped = true
    this.#options.scheduler.cancel(this.#options.upstream)
    return this.#options.prober.stop()
  }

  /** Probes as soon as the budget allows. */
  probeNow(): void {
    this.#schedule(this.#options.clock.now())
  }

  /** A client's request was answered: as good as a heartbeat. */
  trafficAnswered(resetsTimer: boolean): void {
    const { clock } = this.#options
    this.#lastAnswerMs = clock.now()
    if (resetsTimer) this.#lastTrafficMs = clock.now()
    this.#lastSuccessWallMs = clock.wallTime()
    if (this.#verdict.state !== 'healthy' || this.#verdict.misses > 0) {
      this.#weigh({ kind: 'answered', by: 'traffic', reason: 'it answered a client' })
    }
  }

  /** A client's request failed below JSON-RPC: evidence that does not wait for the next probe, which comes at once. */
  trafficFailed(kind: 'missed' | 'gone', reason: string): void {
    // Clients can cause failures of their own, so they raise suspicion once, and the probe that follows decides.
    if (kind === 'missed' && this.#verdict.misses > 0) return
    const before = this.#verdict
    this.#weigh({ kind, reason: `a client's request failed: ${reason}` })
    if (this.#verdict !== before) this.probeNow()
  }

  /** A process of this upstream ended that nobody ended; `others` of its processes still run. */
  processGone(reason: string, others: number): void {
    const { clock } = this.#options
    const startedAtWallMs = clock.wallTime()
    this.#tell({ leg: 'upstream', method: 'process', outcome: 'exited', durationMs: 0, reason }, startedAtWallMs, 0)
    if (others > 0) {
      this.#weigh({ kind: 'sessions', hung: 1, alive: others, reason })
      return this.probeNow()
    }
    this.#options.prober.forget()
    this.#weigh({ kind: 'gone', reason })
    this.#adapt({ heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 }, true)
  }

  /** A process runs and may be probed. After an outage the state stays what it is until the process answers. */
  processStarted(reason: string): void {
    if (this.#verdict.state === 'idle') this.#weigh({ kind: 'starting', reason })
    this.probeNow()
  }

  /** A process could not be started at all. */
  startFailed(reason: string): void {
    this.#weigh({ kind: 'gone', reason })
  }

  crashLoop(reason: string): void {
    this.#weigh({ kind: 'crash_loop', reason })
  }

  idle(reason: string): void {
    this.#weigh({ kind: 'idle', reason })
  }

  status(): HeartbeatStatus {
    const { clock, scheduler, upstream } = this.#options
    const nextAtMs = scheduler.nextAt(upstream)
    return {
      verdict: this.#verdict,
      interval: this.#interval,
      timeoutMs: this.#timeoutMs(),
      nextProbeInMs: nextAtMs === undefined ? undefined : Math.max(0, nextAtMs - clock.now()),
      lastSuccessWallMs: this.#lastSuccessWallMs,
      inventory: this.#inventory,
      unavailableSeconds: unavailableSeconds(this.#availability, clock.now()),
    }
  }

  #schedule(atMs: number): void {
    if (this.#stopped) return
    this.#options.scheduler.schedule(this.#options.upstream, atMs, () => this.#beat())
  }

  async #beat(): Promise<void> {
    const { clock } = this.#options
    const startedMs = clock.now()
    const quietMs = startedMs - this.#lastTrafficMs
    const isFresh = this.#verdict.state === 'healthy' && quietMs < this.#interval.intervalMs
    this.#untold = []
    const hardFailure = isFresh ? false : await this.#probe(startedMs)
    const untold = this.#untold
    this.#untold = undefined
    if (this.#stopped) return
    const diff = hardFailure ? noNews : await this.#options.readings()
    this.#adapt(this.#openedInWindow ? { ...diff, rttMeanMs: undefined } : diff, hardFailure)
    this.#openedInWindow = false
    this.#schedule(startedMs + this.#delayMs(isFresh ? quietMs : 0))
    for (const tell of untold) tell()
  }

  /** Real traffic since the last beat counts from its own moment, so the next probe is due an interval after that. */
  #delayMs(sinceTrafficMs: number): number {
    const { upstream, instance, random, settings } = this.#options
    this.#beats += 1
    if (this.#beats === 1) return firstOffsetMs(upstream, instance, this.#interval.intervalMs)
    return Math.max(0, nextDelayMs(this.#interval.intervalMs, random(), settings) - sinceTrafficMs)
  }

  /** Runs the checks of one heartbeat; true when they ended in a hard failure. */
  async #probe(startedMs: number): Promise<boolean> {
    const { clock, prober, settings } = this.#options
    const startedAtWallMs = clock.wallTime()
    const openingMs = prober.openingDeadlineMs()
    const timeoutMs = openingMs !== undefined && openingMs > settings.lateAnswerMs ? openingMs : this.#timeoutMs()
    const runs = prober.start(Math.max(openingMs ?? 0, settings.lateAnswerMs))
    if (runs.length === 0) return false
    const settled: ProbeResult[] = []
    let isTimeUp = false
    const finished = runs.map(async (run) => {
      const result = this.#judgeTime(await run.done, timeoutMs)
      settled.push(result)
      this.#finish(result, startedAtWallMs, timeoutMs)
      // A probe that ran into its time-out was weighed then; only an answer, late as it is, still changes something.
      if (runs.length === 1 && (!isTimeUp || isAnswered(result.outcome))) this.#weighResult(result, startedMs)
    })
    const all = Promise.all(finished)
    const isInTime = await this.#within(timeoutMs, all)
    isTimeUp = true
    const stalledMs = clock.now() - startedMs - timeoutMs
    if (!isInTime && stalledMs > timeoutMs * stallRatio) this.#inconclusive()
    else if (!isInTime || runs.length > 1) this.#weighRuns(runs.length, settled, { timeoutMs, startedMs })
    if (openingMs !== undefined) await all
    return this.#verdict.misses > 0 || settled.some((result) => isGone(result.outcome))
  }

  async #within(timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(timeoutMs, () => resolve(false))
      void work.finally(() => timer.cancel()).then(() => resolve(true))
    })
  }

  #judgeTime(result: ProbeResult, timeoutMs: number): ProbeResult {
    if (result.outcome !== 'ok' || result.durationMs <= timeoutMs) return result
    return { ...result, outcome: 'late', reason: `${result.reason}, after its time-out of ${Math.round(timeoutMs)} ms` }
  }

  #inconclusive(): void {
    this.#localHealth = observeHealth(this.#localHealth, 'inconclusive')
    this.#weigh({ kind: 'inconclusive' })
  }

  /** What follows from one result, whenever it comes. */
  #finish(result: ProbeResult, startedAtWallMs: number, timeoutMs: number): void {
    if (this.#stopped) return
    const { clock } = this.#options
    if (isAnswered(result.outcome)) {
      this.#lastSuccessWallMs = clock.wallTime()
      this.#localHealth = observeHealth(this.#localHealth, 'success')
      if (!result.opening) this.#rtt = observeRtt(this.#rtt, result.durationMs)
    }
    if (result.opening) this.#openedInWindow = true
    this.#tell(result, startedAtWallMs, timeoutMs)
  }

  #tell(result: ProbeResult, startedAtWallMs: number, timeoutMs: number): void {
    const { leg, method, outcome, durationMs: responseTimeMs, reason, session } = result
    this.history.record({
      atWallMs: startedAtWallMs,
      leg,
      method,
      outcome,
      responseTimeMs,
      reason,
      ...(session !== undefined && { session }),
    })
    const report = { result, startedAtWallMs, timeoutMs }
    const { events } = this.#options
    const traceId = events.onHeartbeat(report)
    if (this.#untold) this.#untold.push(() => events.onReport(report, traceId))
    else events.onReport(report, traceId)
  }

  #weighResult(result: ProbeResult, startedMs: number): void {
    if (this.#stopped) return
    // Clients may have credentials that we lack: as long as they are answered, our own 401 says nothing.
    if (result.outcome === 'unauthorized' && startedMs - this.#lastAnswerMs < this.#interval.intervalMs * 2) return
    this.#weigh(evidenceOf(result.outcome, 'probe', result.reason, startedMs))
    if (isAnswered(result.outcome)) this.#compare(result)
  }

  #weighRuns(started: number, settled: readonly ProbeResult[], at: { timeoutMs: number; startedMs: number }): void {
    const failing = started - settled.filter((result) => !isFailure(result.outcome)).length
    const silence = `no answer within ${Math.round(at.timeoutMs)} ms`
    const missed = { kind: 'missed', atMs: at.startedMs } as const
    if (started === 1) return this.#weigh({ ...missed, reason: silence })
    if (failing === 0) return this.#weigh({ kind: 'answered', by: 'probe', reason: `${started} sessions answered` })
    if (failing === started) return this.#weigh({ ...missed, reason: `all ${started} sessions: ${silence}` })
    const reason = `${failing} of ${started} sessions do not answer`
    return this.#weigh({ kind: 'sessions', hung: failing, alive: started - failing, reason })
  }

  #compare({ inventory, announced }: ProbeResult): void {
    if (!inventory) return
    const { events } = this.#options
    const known = this.#inventory
    if (!known) {
      this.#inventory = inventory
      events.onInventory(inventory, false)
      return
    }
    const loss = announced ? undefined : inventoryLoss(known, inventory)
    if (!sameInventory(known, inventory)) events.onInventory(inventory, true)
    if (loss === undefined) this.#inventory = inventory
    this.#weigh({ kind: 'inventory', same: loss === undefined, reason: loss ?? 'it serves the same tools as before' })
  }

  #weigh(evidence: Evidence): void {
    const { clock, settings, prober, events } = this.#options
    const before = this.#verdict
    this.#verdict = judge(before, evidence, clock.now(), settings)
    if (this.#verdict === before) return
    const since = this.#verdict.failingSinceMs ?? before.failingSinceMs
    this.#availability = observeAvailability(this.#availability, isUnavailable(this.#verdict), clock.now(), since)
    if (this.#verdict.state === before.state) return
    if (this.#verdict.state === 'down') prober.forget()
    events.onVerdict(before, this.#verdict)
  }

  #adapt(diff: ReadingDiff, hardFailure: boolean): void {
    const { settings, ownLoad } = this.#options
    const input = { diff, misses: this.#verdict.misses, hardFailure, load: ownLoad() }
    this.#interval = adapt(this.#interval.state, input, settings)
    const { suspicion, why } = this.#interval
    if (!hardFailure) this.#weigh({ kind: 'suspicion', level: suspicion, reason: why })
  }

  #timeoutMs(): number {
    const { minTimeoutMs: minMs, maxTimeoutMs: maxMs } = this.#options.settings
    return probeTimeoutMs(this.#rtt, { misses: this.#verdict.misses, localHealth: this.#localHealth, minMs, maxMs })
  }
}

const noNews: ReadingDiff = { heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 }
