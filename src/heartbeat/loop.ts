import { sleep } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { Answers } from './answers.ts'
import {
  type Beat,
  evidenceOfChecks,
  isAlone,
  judgeTime,
  noiseOf,
  settle,
  unanswered,
  waitFor,
  wasStalled,
} from './beat.ts'
import { isAnswered, isGone, isQuestion, isUnreached } from './classify.ts'
import type { Glance, HeartbeatOptions, HeartbeatReport, HeartbeatSettings, HeartbeatStatus } from './contract.ts'
import type { Listing } from './conversation.ts'
import type { Diagnosis } from './hang.ts'
import { HangWatch } from './hang-watch.ts'
import { History } from './history.ts'
import {
  type IntervalDecision,
  type ReadingDiff,
  adapt,
  firstDecision,
  firstOffsetMs,
  nextDelayMs,
  retune,
  shortestMs,
} from './interval.ts'
import { InventoryWatch } from './inventory-watch.ts'
import { Judgement } from './judgement.ts'
import { Maintenance } from './maintenance.ts'
import type { ProbeMode, ProbeResult, ProbeRun } from './probe.ts'
import { ReachWatch } from './reach-watch.ts'
import { Reports } from './reports.ts'
import { watchStalls } from './stall.ts'
import { Traffic, type TrafficFailure } from './traffic.ts'
import { type Evidence, type State, type Verdict, evidenceOf, flapPenalty, isUp } from './verdict.ts'

/** What is known of an upstream before anybody asked it, by who will. */
const beginnings: Readonly<Record<ProbeMode, { readonly state: State; readonly reason: string }>> = {
  active: { state: 'starting', reason: 'it has not answered yet' },
  passive: { state: 'idle', reason: 'no client has asked it yet (probe: passive)' },
  off: { state: 'disabled', reason: 'its heartbeats are off (probe: off)' },
}

/** A server that only clients ask, and none has for so long, may be dead without anybody knowing. */
const staleMs = 300_000

/** Who did not answer one heartbeat: those who said nothing in time, and those who could not even be asked. */
interface Suspects {
  readonly silent: readonly (string | undefined)[]
  readonly unreached: readonly ProbeResult[]
}

function unreached({ settled }: Beat): readonly ProbeResult[] {
  return settled.filter(({ outcome }) => isUnreached(outcome))
}

/** What came of the checks of one heartbeat. */
interface Probed {
  readonly isHardFailure: boolean
  /** Nobody had to be asked, since all were heard: the one that has been silent for longest was heard then. */
  readonly heardMs?: number | undefined
}

/** Readings are shared by all upstreams and up to this old, so what happened since may be missing from them. */
const readingsAgeMs = 5000

/** The heartbeat of one upstream: probe, judge, adapt the interval, and again. */
export class Heartbeat {
  readonly history: History
  readonly #options: HeartbeatOptions
  #settings: HeartbeatSettings
  #interval: IntervalDecision
  #lastOpeningMs = Number.NEGATIVE_INFINITY
  #lastReadingsMs = Number.NEGATIVE_INFINITY
  #lastBeatMs = Number.NEGATIVE_INFINITY
  /** When a probe was, or is to be, brought forward because of what clients met. */
  #confirmedMs = Number.NEGATIVE_INFINITY
  /** Whether sessions hang that our own probe, in a session of its own, says nothing about. */
  #sessionsHang = false
  /** Whether the last heartbeat was what clients were answered, in place of a probe. */
  #wasTraffic = false
  #isFirst = true
  /** When its last process ended that nobody ended. */
  #endedMs = Number.NEGATIVE_INFINITY
  /** Until when the server wants to be left alone. */
  #waitUntilMs = Number.NEGATIVE_INFINITY
  /** Who asked for a probe and waits for its end. */
  #asking: (() => void)[] = []
  readonly #judgement: Judgement
  readonly #answers: Answers
  readonly #traffic: Traffic
  readonly #reports: Reports
  readonly #maintenance: Maintenance
  readonly #inventory: InventoryWatch
  /** Only where it is known which clients wait. */
  readonly #hangs: HangWatch | undefined
  /** Only where processes are ours. */
  readonly #reach: ReachWatch | undefined
  readonly #life = new AbortController()

  constructor(options: HeartbeatOptions) {
    this.#options = options
    const { clock, settings, own, remote, events, prober, redact } = options
    this.#answers = new Answers(clock)
    this.#traffic = new Traffic(clock)
    this.#maintenance = new Maintenance(clock)
    this.#inventory = new InventoryWatch({ clock, onInventory: (...seen) => events.onInventory(...seen) })
    const signs = own ?? remote
    const law = signs && (() => ({ ...signs.law, ...this.#settings.hang }))
    this.#hangs = law && new HangWatch({ examine: signs.examine, clock, law })
    this.#reach = law && own && new ReachWatch({ examine: own.examine, clock, law })
    this.#settings = settings
    this.history = new History({ recentKept: settings.recentKept, failuresKept: settings.failuresKept })
    this.#reports = new Reports(this.history, events)
    this.#judgement = new Judgement({
      ...beginnings[settings.probe],
      clock,
      limits: () => this.#settings,
      redact,
      onChange: (from, to, traceId) => {
        if (to.state === 'down') {
          prober.forget()
          this.#inventory.restarted()
        }
        events.onVerdict(from, to, traceId)
      },
    })
    this.#interval = firstDecision(settings)
  }

  /** The first probe at once: it is the opening exchange. */
  start(): void {
    this.probeNow()
  }

  stop(): Promise<void> {
    this.#life.abort()
    this.#maintenance.stop()
    for (const tell of this.#asking.splice(0)) tell()
    this.#options.scheduler.cancel(this.#options.upstream)
    return this.#options.prober.stop()
  }

  /** Follows other settings from now on, with all that is known about the upstream. */
  configure(settings: HeartbeatSettings): void {
    const { clock, scheduler, upstream } = this.#options
    const before = this.#settings
    this.#interval = retune(this.#interval.state, before, settings)
    this.#settings = settings
    if (before.probe !== settings.probe && !this.#maintenance.isOn()) this.#changeMode(before.probe)
    const plannedMs = scheduler.nextAt(upstream)
    const dueMs = Math.max(clock.now(), this.#lastBeatMs + this.#interval.intervalMs)
    if (plannedMs !== undefined && dueMs < plannedMs) this.#schedule(dueMs)
  }

  #changeMode(from: ProbeMode): void {
    const { probe } = this.#settings
    const reason = `its heartbeats are on (probe: ${probe})`
    if (from === 'off') return this.#begin([{ kind: 'resumed', reason }])
    // That no client asked says nothing any more.
    const isUnasked = probe === 'active' && this.#verdict.state === 'idle'
    this.#begin(isUnasked ? [{ kind: 'starting', reason }] : [])
  }

  /** Nothing was asked lately: what follows is what its supervisor knows, and else depends on who asks at all. */
  #begin(changes: readonly Evidence[]): void {
    const { scheduler, upstream, absence } = this.#options
    const { probe } = this.#settings
    const { reason } = beginnings[probe]
    if (probe === 'off') {
      scheduler.cancel(upstream)
      return this.#judgement.weighAll([...changes, { kind: 'disabled', reason }])
    }
    const isUnasked = probe === 'passive' && isUp(this.#verdict.state) !== true
    this.#judgement.weighAll([...changes, absence?.() ?? (isUnasked ? { kind: 'idle', reason } : undefined)])
    this.probeNow()
  }

  /** Probes as soon as the budget allows. */
  probeNow(): void {
    this.#schedule(this.#options.clock.now())
  }

  /** Probes once as soon as the budget allows, whatever traffic says, also where nobody is asked; resolves at its end. */
  probeOnce(): Promise<void> {
    if (this.#life.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      this.#asking.push(resolve)
      this.probeNow()
    })
  }

  /**
   * A client waits in silence: a server that is to show that it lives within this time is asked, without more probes the
   * more clients wait. What is given tells whether it has answered since; never where heartbeats ask nothing.
   */
  lookForLife(withinMs: number): () => boolean {
    const { clock, scheduler, upstream, prober } = this.#options
    if (!this.#isJudged() || !isQuestion(prober.describe().probe)) return () => false
    const sinceMs = clock.now()
    const spacingMs = Math.min(shortestMs(this.#settings), withinMs / 2)
    const dueMs = Math.max(sinceMs, this.#lastBeatMs + spacingMs)
    this.#asking.push(() => undefined) // Whatever traffic says, and nobody waits for its end.
    this.#schedule(Math.min(dueMs, scheduler.nextAt(upstream) ?? Number.POSITIVE_INFINITY))
    return () => this.#answers.probedMs >= sinceMs
  }

  /** Maintenance: for so long nothing is asked and nothing concluded; processes are supervised all the same. */
  pause(forMs: number): void {
    const { scheduler, upstream, events } = this.#options
    const wasOn = this.#maintenance.isOn()
    const untilWallMs = this.#maintenance.begin(forMs, () => this.resume('its maintenance is over'))
    scheduler.cancel(upstream)
    const reason = `paused for maintenance until ${new Date(untilWallMs).toISOString()}`
    this.#weigh({ kind: 'paused', reason })
    if (wasOn) events.onPauseRenewed(reason)
  }

  /** How long its maintenance still lasts; 0 while there is none. */
  pauseLeftMs(): number {
    return this.#maintenance.leftMs()
  }

  /** Ends a pause before its time; does nothing without one. What the server then lists is what it should. */
  resume(reason: string): void {
    if (!this.#maintenance.isOn()) return
    this.#maintenance.end()
    // What happened meanwhile is nobody's fault.
    this.#news().catch(() => undefined)
    const renewed = { kind: 'inventory', same: true, reason: 'its tools may have been changed meanwhile' } as const
    const changes = this.#inventory.isKnown() ? [renewed] : []
    this.#inventory.renew()
    this.#begin([{ kind: 'resumed', reason }, ...changes])
  }

  /** A client's request was answered: as good as a heartbeat. */
  trafficAnswered(resetsTimer: boolean): void {
    this.#traffic.answered(resetsTimer)
    this.#answers.heard()
    const { state, misses, inconclusives, work } = this.#verdict
    const isNews = state !== 'healthy' || misses > 0 || inconclusives > 0 || work === 'now'
    // Where no process of ours runs, whoever answered is not the server.
    if (!isNews || this.#options.absence?.()) return
    this.#weigh({ kind: 'answered', by: 'traffic', reason: 'it answered a client' })
  }

  /** A client's request failed below JSON-RPC: evidence that does not wait for the next probe, which is brought forward. */
  trafficFailed(failure: TrafficFailure): void {
    const before = this.#verdict
    const isAbsent = this.#options.absence?.() !== undefined
    const context = { probe: this.#settings.probe, verdict: before, isAbsent }
    const evidence = this.#traffic.failed(failure, context)
    const { outcome, traceId } = failure
    this.#weigh(evidence, traceId)
    if (!evidence || this.#verdict === before) return
    const reason = this.#judgement.shown(evidence.reason)
    this.#reports.noteTraffic({ atWallMs: this.#options.clock.wallTime(), outcome, reason }, traceId)
    this.#confirm()
  }

  /** What clients met is looked at with a probe at once, but not at the pace at which they meet it. */
  #confirm(): void {
    const { clock, scheduler, upstream } = this.#options
    const nowMs = clock.now()
    const isPlanned = this.#confirmedMs > nowMs
    if (!isPlanned) this.#confirmedMs = Math.max(nowMs, this.#confirmedMs + shortestMs(this.#settings))
    this.#schedule(Math.min(this.#confirmedMs, scheduler.nextAt(upstream) ?? Number.POSITIVE_INFINITY))
  }

  /** A client gave its request up, after the server had given no sign of working on it for so long. */
  trafficGivenUp(silentMs: number, traceId?: string): void {
    const { probe, maxTimeoutMs } = this.#settings
    const isOwn = this.#options.own !== undefined
    const failure = this.#traffic.givenUp({ silentMs, traceId, probe, maxTimeoutMs, isOwn })
    if (failure) this.trafficFailed(failure)
  }

  /** A heartbeat inside a client's session, which others asked; what follows from it comes as `sessionsHung`. */
  heardInSession(report: HeartbeatReport): void {
    this.#reports.tell(report)
  }

  /** Sessions hang that share this server with our own probe, or none does any more. */
  sessionsHung(hung: number, others: number, reason: string): void {
    this.#sessionsHang = hung > 0
    // Our own session is one of the others.
    this.#weigh({ kind: 'sessions', hung, alive: others + 1, reason })
  }

  /** A process of this upstream ended that nobody ended; `others` of its processes still run. */
  processGone(reason: string, others: number): void {
    if (others > 0) this.#weigh({ kind: 'sessions', hung: 1, alive: others, reason })
    else {
      this.#options.prober.forget()
      this.#weigh({ kind: 'gone', reason, isExit: true })
      this.#adaptAtOnce()
    }
    if (others === 0) this.#endedMs = this.#options.clock.now()
    this.#tellEnd(reason)
    if (others > 0) this.probeNow()
  }

  #tellEnd(reason: string): void {
    this.#reports.tell({
      result: { leg: 'upstream', method: 'process', outcome: 'exited', durationMs: 0, reason },
      startedAtWallMs: this.#options.clock.wallTime(),
      timeoutMs: 0,
    })
  }

  /**
   * A process runs and may be probed, on a connection of its own. After an outage the state stays what it is until the
   * process answers.
   */
  processStarted(reason: string): void {
    this.#options.prober.forget()
    this.#inventory.restarted()
    const isAsked = this.#settings.probe === 'active' || this.#options.prober.isAwaited()
    if (isAsked && this.#verdict.state === 'idle') this.#weigh({ kind: 'starting', reason })
    this.probeNow()
  }

  /** A client has a process of its own, be it the only one: if nobody could be asked before, heartbeats begin. */
  sessionStarted(reason: string): void {
    const { clock, scheduler, upstream } = this.#options
    const { probe } = this.#settings
    if (probe === 'active' && this.#verdict.state === 'idle') this.#weigh({ kind: 'starting', reason })
    const isAsked = probe !== 'off' && !this.#maintenance.isOn()
    if (isAsked && scheduler.nextAt(upstream) === undefined) this.#schedule(clock.now() + this.#interval.intervalMs)
  }

  /** The only process is being replaced by us. After an outage the state stays what it is. */
  replacing(reason: string): void {
    if (isUp(this.#verdict.state) === true) this.#weigh({ kind: 'starting', reason })
  }

  /** A process could not be started at all: as good as the end of one. */
  startFailed(reason: string): void {
    this.#weigh({ kind: 'gone', reason })
    this.#tellEnd(reason)
  }

  /** A process was not ready in time, which the heartbeats of its opening tell already. */
  givenUp(reason: string): void {
    this.#weigh({ kind: 'gone', reason })
  }

  crashLoop(reason: string): void {
    this.#weigh({ kind: 'crash_loop', reason })
  }

  /** What ended is not started again, or its place is taken. */
  lost(reason: string): void {
    this.#endedMs = this.#options.clock.now()
    this.#weigh({ kind: 'lost', reason })
  }

  idle(reason: string): void {
    this.#endedMs = this.#options.clock.now()
    this.#weigh({ kind: 'idle', reason })
  }

  /** Monotonic time of the last answer to anybody. */
  lastAnswerMs(): number {
    return this.#answers.heardMs
  }

  /** The same, or of what came in place of one. */
  lastHeardMs(): number {
    return this.#answers.heardOrNoiseMs
  }

  /** What it takes to answer while it is well, as far as that is known. */
  usualMs(): number | undefined {
    return this.#interval.state.rtt?.baselineMs ?? this.#answers.roundTripMs
  }

  /** At next to no cost, where `status` has words and figures to make. */
  glance(): Glance {
    return {
      verdict: this.#verdict,
      interval: this.#interval,
      probe: this.#settings.probe,
      pausedUntilWallMs: this.#maintenance.untilWallMs(),
    }
  }

  status(): HeartbeatStatus {
    const { clock, scheduler, upstream } = this.#options
    const unasked = this.#unasked()
    const nextAtMs = unasked === undefined ? scheduler.nextAt(upstream) : undefined
    return {
      ...this.glance(),
      timeoutMs: this.#timeoutMs(),
      nextProbeInMs: nextAtMs === undefined ? undefined : Math.max(0, nextAtMs - clock.now()),
      unasked,
      lastSuccessWallMs: this.#answers.successWallMs,
      inventory: this.#inventory.offered(),
      unavailableSeconds: this.#judgement.unavailableSeconds(),
      flapPenalty: flapPenalty(this.#verdict, clock.now()),
      rung: this.#rung(),
    }
  }

  #unasked(): string | undefined {
    const { prober, absence } = this.#options
    const { probe } = this.#settings
    if (this.#maintenance.isOn()) return 'nobody is asked until its maintenance is over'
    if (probe !== 'active' && !prober.isAwaited()) return `nobody is asked (probe: ${probe})`
    return absence?.() && 'nobody is asked while no process of it runs'
  }

  #rung(): string | undefined {
    const { probe } = this.#settings
    if (this.#maintenance.isOn() || probe === 'off') return undefined
    return probe === 'passive' || this.#wasTraffic ? 'traffic' : this.#options.prober.describe().probe
  }

  #schedule(atMs: number, notBeforeMs?: number): void {
    if (this.#life.signal.aborted) return
    this.#options.scheduler.schedule(this.#options.upstream, atMs, () => this.#beat(), notBeforeMs)
  }

  async #beat(): Promise<void> {
    const asking = this.#asking.splice(0)
    const { probe } = this.#settings
    const isWanted = asking.length > 0 || this.#options.prober.isAwaited()
    if (!isWanted && (this.#maintenance.isOn() || probe === 'off')) return
    const startedMs = this.#options.clock.now()
    // Real traffic since the last one was the heartbeat: the next probe is due an interval after its moment.
    // What is not open yet is opened whatever the traffic says: a request may wait for that very process.
    const isOpen = this.#options.prober.openingDeadlineMs() === undefined
    const isFresh =
      asking.length === 0 &&
      isOpen &&
      !this.#inventory.isNeglected(this.#settings.inventoryAgeMs) &&
      this.#verdict.state === 'healthy' &&
      this.#traffic.standInMs > this.#lastBeatMs
    let countsFromMs = isFresh ? this.#traffic.standInMs : startedMs
    this.#lastBeatMs = startedMs
    this.#reports.hold()
    const { everUp } = this.#verdict
    try {
      const isAsked = isWanted || (probe === 'active' && !isFresh)
      this.#wasTraffic = !isAsked
      const probed = isAsked ? await this.#probe(startedMs) : { isHardFailure: this.#noticeSilence() }
      countsFromMs = probed.heardMs ?? countsFromMs
      if (probed.isHardFailure) this.#adaptAtOnce()
      else {
        const news = await this.#news()
        // What clients met while the server was still starting says nothing about it.
        this.#adapt(everUp ? news : noNews, false)
      }
    } finally {
      this.#plan(countsFromMs)
      for (const tell of asking) tell()
    }
  }

  /**
   * Without probes, what nobody asks is neither up nor down, and a process that leaves clients waiting for longer than it
   * may work has missed a heartbeat each time that we look; true while it has.
   */
  #noticeSilence(): boolean {
    if (this.#settings.probe !== 'passive') return false
    const { clock, own, remote } = this.#options
    // What clients met is all that is known of a server that is not ours.
    const waiting = own && this.#hangs?.diagnoseWaiting(undefined, this.#interval.intervalMs)
    if (waiting && waiting.kind !== 'busy') {
      const reason = 'a client waits, and nothing shows that it will be answered'
      this.#weigh({ kind: 'silent', by: 'traffic', reason })
    }
    const { state, sinceMs, misses } = this.#verdict
    const knownMs = Math.max(sinceMs, this.#traffic.answeredMs)
    const isWaitedFor = waiting !== undefined || (remote?.examine(undefined)?.inFlight ?? 0) > 0
    if (isUp(state) === true && clock.now() - knownMs >= staleMs && !isWaitedFor) {
      const who = this.#traffic.unansweredMs > knownMs ? 'no client was answered' : 'no client has asked it'
      this.#weigh({ kind: 'idle', reason: `${who} for ${staleMs / 60_000} min (probe: passive)` })
    }
    return waiting !== undefined && misses > 0
  }

  /** A hard failure does not wait for the metrics; what they say of it follows. */
  #adaptAtOnce(): void {
    this.#adapt(noNews, true)
    this.#news().then(
      (news) => this.#adapt(news, true),
      () => undefined, // The next heartbeat asks again.
    )
  }

  /** What happened meanwhile may have asked for a probe at once. */
  #plan(countsFromMs: number): void {
    const { scheduler, upstream } = this.#options
    const askedForMs = scheduler.nextAt(upstream) ?? Number.POSITIVE_INFINITY
    const isOver = this.#maintenance.isOn() || this.#settings.probe === 'off'
    const notBeforeMs = Math.max(countsFromMs + shortestMs(this.#settings), this.#waitUntilMs)
    const dueMs = Math.max(countsFromMs + this.#delayMs(), this.#waitUntilMs)
    if (!isOver) this.#schedule(Math.min(askedForMs, dueMs), notBeforeMs)
    this.#reports.release()
  }

  #delayMs(): number {
    const { upstream, instance, random } = this.#options
    const { intervalMs } = this.#interval
    const { misses } = this.#verdict
    const isConfirming = misses > 0 && misses < this.#settings.missesToDown
    if (!this.#isFirst) return nextDelayMs({ intervalMs, isConfirming, random: random() }, this.#settings)
    this.#isFirst = false
    return firstOffsetMs(upstream, instance, intervalMs)
  }

  /** The readings, without round trips that may be those of an opening exchange: a start says nothing about latency. */
  async #news(): Promise<ReadingDiff> {
    const hasOpening = this.#lastOpeningMs >= this.#lastReadingsMs - readingsAgeMs
    this.#lastReadingsMs = this.#options.clock.now()
    const diff = await this.#options.readings()
    return hasOpening ? { ...diff, rttMeanMs: undefined } : diff
  }

  /** Runs the checks of one heartbeat. */
  async #probe(startedMs: number): Promise<Probed> {
    const { clock, prober } = this.#options
    const settings = this.#settings
    const openingMs = prober.openingDeadlineMs()
    // An opening that includes a start takes its time; any other is a request like all.
    const isStart = openingMs !== undefined && openingMs > settings.lateAnswerMs
    const timeoutMs = isStart ? openingMs : this.#timeoutMs()
    // Whoever has not answered when the time is up is looked at, before the prober gives up in its turn.
    const deadlineMs = isStart ? openingMs : Math.max(settings.lateAnswerMs, timeoutMs + deadlineGraceMs)
    const { inventoryDue, different } = this.#verdict
    const isDue = inventoryDue || different !== undefined || this.#inventory.isOlder(settings.inventoryAgeMs)
    const wantsInventory = !this.#inventory.isKnown() || isDue
    if (wantsInventory) this.#inventory.asked()
    const { runs, alive, aliveSinceMs } = prober.start({ deadlineMs, wantsInventory })
    this.#wasTraffic = runs.length + alive > 0 && runs.every(({ method }) => method === 'traffic')
    if (runs.length === 0) {
      if (alive > 0) this.#weigh({ kind: 'sessions', hung: 0, alive, reason: `${alive} sessions answered clients` })
      else this.#weigh({ kind: 'inconclusive', reason: 'nobody could be asked', isBlind: true })
      return { isHardFailure: false, heardMs: aliveSinceMs }
    }
    const beat: Beat = {
      startedMs,
      startedAtWallMs: clock.wallTime(),
      timeoutMs,
      usualMs: this.usualMs(),
      deadlineMs,
      runs,
      alive,
      settled: [],
      busy: new Map(),
      isTimeUp: false,
      stalls: watchStalls(startedMs, startedMs + timeoutMs),
    }
    const all = Promise.all(runs.map((run) => this.#follow(run, beat)))
    // A start has its own deadline, after which the process is started again.
    const silent = () => (isStart ? [] : unanswered(beat).map(({ session }) => session))
    const slow = clock.after(beat.timeoutMs * slowRatio, () => this.#hangs?.begin(silent()))
    await waitFor(all, beat, clock, this.#life.signal)
    slow.cancel()
    if (this.#life.signal.aborted) return { isHardFailure: false }
    if (wasStalled(beat)) this.#inconclusive()
    else this.#conclude(beat, { silent: beat.isTimeUp ? silent() : [], unreached: isStart ? [] : unreached(beat) })
    if (openingMs !== undefined) await all
    return { isHardFailure: this.#verdict.misses > 0 || beat.settled.some(({ outcome }) => isGone(outcome)) }
  }

  /** Reports one check when it is over, and weighs it when it is the only one. */
  async #follow(run: ProbeRun, beat: Beat): Promise<void> {
    const { signal } = this.#life
    const { clock } = this.#options
    const judged = judgeTime(await settle(run, beat, clock, signal), beat, clock.now())
    const reason = this.#judgement.shown(judged.reason)
    const result = reason === judged.reason ? judged : { ...judged, reason }
    // Whoever supervises the process is about to hear of its end, and knows whether that was to be expected.
    if (result.outcome === 'exited' || (isGone(result.outcome) && this.#options.own)) await this.#endHeard(beat)
    if (signal.aborted) return
    beat.settled.push(result)
    // The end of the process was a heartbeat of its own: what that left unanswered is not to be counted twice.
    if (!isAnswered(result.outcome) && this.#endedMs >= beat.startedMs) return
    const traceId = this.#finish(result, beat)
    // A check that ran into its time-out was weighed then; what still changes something is a sign of life.
    const isSign = isAnswered(result.outcome) || result.outcome === 'unauthorized'
    if (isAlone(beat) && (!beat.isTimeUp || isSign)) this.#weighResult(result, beat, traceId)
    const { inventory, announced = false } = result
    if (inventory && isAnswered(result.outcome)) void this.#compareLater(inventory, beat, announced)
  }

  async #endHeard({ startedMs }: Beat): Promise<void> {
    const { clock } = this.#options
    const untilMs = clock.now() + defaults.supervision.exitHeardMs
    while (this.#endedMs < startedMs && clock.now() < untilMs && !this.#life.signal.aborted) {
      await sleep(clock, exitLookMs, this.#life.signal)
    }
  }

  /** What the checks come to, once it is known which of the silent processes are at work, and which hang. */
  #conclude(beat: Beat, { silent, unreached }: Suspects): void {
    if (noiseOf(unanswered(beat)) > 0) this.#answers.noise()
    const hung = new Map<string | undefined, string>()
    for (const session of silent) {
      const diagnosis = this.#diagnose(session)
      if (diagnosis?.kind === 'busy') beat.busy.set(session, diagnosis.reason)
      if (diagnosis?.kind === 'hung') hung.set(session, diagnosis.reason)
    }
    for (const { session, reason } of unreached) {
      const forMs = this.#isJudged()
        ? this.#reach?.failed(session, beat.startedMs, this.#interval.intervalMs)
        : undefined
      if (forMs === undefined) continue
      hung.set(session, `hung: it runs, and was not reached for ${Math.floor(forMs / 1000)} s (${reason})`)
      this.#reach?.close(session)
    }
    if (beat.isTimeUp || !isAlone(beat)) this.#weigh(evidenceOfChecks(beat))
    for (const [session, why] of hung) {
      const action = this.#options.own?.onHung(session, why)
      if (hung.size === beat.runs.length + beat.alive) this.#weigh({ kind: 'lost', reason: `${why}; ${action}` })
    }
  }

  #diagnose(session: string | undefined): Diagnosis | undefined {
    return this.#isJudged() ? this.#hangs?.diagnose(session, this.#interval.intervalMs) : undefined
  }

  /** Who is not to be asked, or only by hand, is not judged either. */
  #isJudged(): boolean {
    return !this.#maintenance.isOn() && this.#settings.probe === 'active'
  }

  #inconclusive(): void {
    this.#answers.spoiled()
    this.#weigh({ kind: 'inconclusive', reason: 'our own event loop stood still', isBlind: true })
  }

  /** What follows from one result, whenever it comes; gives the id of its trace. */
  #finish(result: ProbeResult, beat: Beat): string {
    const { clock } = this.#options
    if (isAnswered(result.outcome)) {
      this.#hangs?.close(result.session)
      this.#reach?.close(result.session)
      this.#answers.probed(result)
    }
    if (result.opening) this.#lastOpeningMs = clock.now()
    // No longer than calm servers wait: what it is worth is to be found out now and then.
    if (result.retryAfterMs !== undefined)
      this.#waitUntilMs = clock.now() + Math.min(result.retryAfterMs, this.#settings.maxMs)
    const { startedAtWallMs, timeoutMs } = beat
    return this.#reports.tell({ result, startedAtWallMs, timeoutMs })
  }

  #weighResult(result: ProbeResult, { startedMs }: Beat, traceId: string): void {
    // Clients may have credentials that we lack: as long as they are answered, our own 401 says nothing.
    if (result.outcome === 'unauthorized' && startedMs - this.#traffic.answeredMs < this.#interval.intervalMs * 2)
      return
    const by = this.#sessionsHang ? 'traffic' : 'probe' // It speaks for its own session alone.
    const { outcome, reason, turnedAway, wantsLess } = result
    this.#weigh(evidenceOf({ outcome, by, reason, atMs: startedMs, turnedAway, wantsLess }), traceId)
  }

  async #compareLater(inventory: Promise<Listing>, beat: Beat, announced: boolean): Promise<void> {
    const { startedMs, deadlineMs } = beat
    const atMs = this.#options.clock.now()
    const asked = { atMs, untilMs: startedMs + deadlineMs, beatMs: atMs - startedMs, announced }
    const listing = await inventory
    if (this.#life.signal.aborted) return
    // What an earlier process left unanswered says nothing about this one.
    if (listing === 'unanswered' && this.#endedMs >= startedMs) return
    this.#weigh(this.#inventory.heard(listing, { ...asked, missesToLoss: this.#settings.missesToDown }))
  }

  get #verdict(): Verdict {
    return this.#judgement.verdict
  }

  #weigh(evidence: Evidence | undefined, traceId?: string): void {
    this.#judgement.weigh(evidence, traceId)
  }

  #adapt(diff: ReadingDiff, hardFailure: boolean): void {
    if (this.#life.signal.aborted) return
    const { ownLoad } = this.#options
    const { state, misses } = this.#verdict
    const trouble = isUp(state) === false ? state : undefined
    const input = { diff, misses, hardFailure, load: ownLoad(), trouble }
    this.#interval = adapt(this.#interval.state, input, this.#settings)
    const { suspicion, slowness, isSlow, doubt } = this.#interval
    const reason = doubt ?? 'it answers as it should again'
    if (!hardFailure && diff.heartbeats > 0)
      this.#weigh({ kind: 'suspicion', level: suspicion, slowness, isSlow, reason })
  }

  #timeoutMs(): number {
    const { minTimeoutMs, maxTimeoutMs, missesToDown } = this.#settings
    return this.#answers.timeoutMs({ isDown: this.#verdict.misses >= missesToDown, minTimeoutMs, maxTimeoutMs })
  }
}

/** How often it is looked whether the end of a process was heard. */
const exitLookMs = 20

/** How long a prober waits at least after the longest time-out. */
const deadlineGraceMs = 500

/** Who has not answered after this part of the time-out is looked at, to see what it does until the end of it. */
const slowRatio = 0.25

const noNews: ReadingDiff = { heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 }
