import type { Glance } from '../../src/heartbeat/contract.ts'
import { type State, type Verdict, isUnavailable, isUp } from '../../src/heartbeat/verdict.ts'
import { defaults } from '../../src/defaults.ts'
import type { KnownError } from '../../src/errors.ts'
import type { ProbeMode } from '../../src/heartbeat/probe.ts'
import type { Session, SessionEnd } from '../../src/sessions/session.ts'
import type { RestartPolicy, RestartReason } from '../../src/upstreams/upstream.ts'
import { Carriage, type CarriageOptions, type Ticket } from './carriage.ts'
import type { Fault, ServerKind } from './faults.ts'
import type { ProcessEvent } from './server.ts'

/** What must hold at every moment of every world, whatever happens in it. */
export const rules = {
  interval: 'the interval stays within its bounds, and so does the time between two probes',
  one_probe: 'a server is probed once at a time',
  budget: 'at most 50 probes start in a second, and 16 are in flight',
  starvation: 'every probe starts soon after it is due, and every server has one due',
  false_down: 'nothing is down without a fault of its own',
  false_suspicion: 'nothing is suspect that had no fault for five minutes, whatever befalls us',
  cause: 'the reason names the fault',
  silence: 'only servers that are silent are said to have fallen silent together',
  detection: 'every outage is detected within the bound',
  availability: 'unavailable seconds are those of the outages, within the error of detection',
  transitions: 'states change only as the state machine allows',
  restarts: 'processes are started no sooner, no later, and no more at a time, than the restart law says',
  hung: 'a process that hangs is ended as soon as the law of hangs allows',
  memory: 'a process that outgrows its limit of memory is replaced once its requests may be over, and no other is',
  unasked: 'who is not to be asked is asked nothing but the opening exchange of a process that we started',
  sessions: 'sessions are asked one after the other while they are idle, and what is found out about them is true',
  shedding: 'tool calls are refused for nothing but our own overload, and then they are',
  circuit:
    'the circuit opens only after failures, lets one request try at a time, and nobody is kept off a server that is well',
  queue: 'no more requests are under way or wait than may, none waits longer than it may, and each is over in time',
  errors: 'nothing fails in an unforeseen way',
} as const
export type Rule = keyof typeof rules

export interface Violation {
  readonly rule: Rule
  readonly atMs: number
  readonly upstream: string
  readonly what: string
}

/** One outage as it was, and when it was noticed. */
export interface Outage {
  readonly upstream: string
  readonly fault: Fault['kind']
  readonly sinceMs: number
  untilMs: number | undefined
  detectedMs: number | undefined
  /** The one before was over for us too, and until it was noticed we had no trouble of our own. */
  isClear: boolean
}

/** From calm: the longest interval, then three time-outs with two of the shortest intervals between them. */
export const detectionBoundMs = 46_000
/** With a connection to open anew, time-outs that our own trouble has stretched, and an interval that it has. */
const troubledBoundMs = 100_000
/** So long after our event loop stood still, what it did to time-outs and intervals still shows. */
const aftermathMs = 120_000
/** What a probe that was under way may lag behind the end of a fault: the longest time-out. */
const stragglerMs = 10_000
/** A process that fell silent together with others is left alone for so long at most. */
const excusedMs = 120_000
/** A probe that opens a process may take that long, and another may have to wait for it. */
const longestSilenceMs = 150_000
const starvingMs = 1500
/** So long a server shows what befell it: no average of the interval law looks back further, but for the baseline. */
const memoryMs = 300_000
/**
 * How long a process may hang. From calm the third miss comes after 46 s; where it comes sooner, the silence is too short
 * until the first miss after 30 s, or after three intervals under our own load. One that spins must have been silent, and
 * nobody's, for a minute. Then the miss that tells it comes within an interval and its time-out.
 */
const hungBoundMs = { hung: 60_000, spinning: 85_000, deadlocked: 60_000 } as const
/**
 * While a client waits, what does nothing may wait for somebody else: for a minute from the first miss that showed both,
 * which comes after the longest interval, to the miss that tells it.
 */
const waitedForMs = 75_000
/** The same of a server that is not ours, of which no miss is told meanwhile: the look that ends it is an interval late. */
const remoteWaitedForMs = 100_000
/** Before it was opened, it has the time of a start. */
const startBoundMs = 62_000
/** Two looks, 10 s apart, find too much memory, and then requests have 10 s to end. */
const [memoryNoticedMs, memoryDrainMs] = [20_000, 10_000]
/** What waited for its turn in the queue may have begun so much later. */
const queueMs = 3000
/** An answer may take so long until it is heard. */
const answerMs = 1000
/** Three steps up from the first second of an overload to the one that refuses tool calls; one down, once it is over. */
const [sheddingAfterMs, sheddingFadesMs] = [15_000, 30_000]
/**
 * After so long without its client, a session was asked: it is idle for a minute, and looked at every ten seconds, or as
 * soon as others have been asked, each for five seconds at most. A miss is asked again twice, after ten seconds.
 */
const [sessionAskedMs, sessionHungMs] = [100_000, 150_000]
const [sessionIdleMs, sessionRetryMs] = [60_000, 10_000]
/** What ended may be told of by its pipe first. */
const restingMs = 15_000
/** What comes at the very moment when it may: sums of fractions of a millisecond may differ by their last bit. */
const lastBitMs = 0.001
/** A start may have to wait until others have begun, two seconds for each four. */
const startQueueMs = 10_000
/** The longest back-off, and that of a crash loop. */
const [longestBackoffMs, crashLoopMs] = [60_000, 600_000]
/** From what is up to `starting` where we end its process although it answers by then: it hung before. */
const allowed: Readonly<Record<string, readonly State[]>> = {
  starting: ['healthy', 'suspect', 'degraded', 'recovering', 'down', 'needs_auth', 'crash_loop', 'idle'],
  healthy: ['suspect', 'busy', 'degraded', 'down', 'needs_auth', 'idle', 'starting'],
  suspect: ['healthy', 'busy', 'degraded', 'down', 'needs_auth', 'idle', 'starting'],
  busy: ['healthy', 'suspect', 'degraded', 'down', 'needs_auth', 'idle', 'starting'],
  degraded: ['healthy', 'suspect', 'down', 'needs_auth', 'idle', 'starting'],
  recovering: ['healthy', 'suspect', 'degraded', 'down', 'needs_auth', 'idle', 'starting'],
  down: ['recovering', 'starting', 'needs_auth', 'crash_loop', 'idle'],
  needs_auth: ['recovering', 'down', 'idle'],
  crash_loop: ['recovering', 'needs_auth'],
  idle: ['starting', 'healthy', 'suspect', 'degraded', 'recovering', 'down'],
  paused: [],
  disabled: [],
}

/** What the reason of an outage has to say, by the fault that caused it. */
const causes: Readonly<Record<Fault['kind'], RegExp>> = {
  crash: /refused|reset|exited with code [01]|killed by SIGSEGV|not ready within|was stopped/i,
  hang: /no answer|sent nothing|a client waits|not ready within|hung/,
  partition: /no answer|sent nothing|not ready within|connect timeout/i,
  garbage: /no JSON-RPC|HTTP 500|no answer|sent nothing|a client waits|not ready within|hung/,
  errors: /HTTP 500/,
  locked: /HTTP 401/,
  slow: /^never$/,
  late: /^never$/,
  leak: /was stopped|not ready within|uses .* of memory/,
  flaky: /^never$/,
}

interface Process {
  readonly startedMs: number
  readyMs: number | undefined
  /** When it answered its opening exchange. */
  openMs: number | undefined
  goneMs: number | undefined
  /** Since when, and how, it hangs that is not being ended. */
  hang: { readonly sinceMs: number; readonly kind: keyof typeof hungBoundMs } | undefined
  /** Since when it uses too much memory, and until when it did: what was decided then still happens. */
  outgrownMs: number | undefined
  shrunkMs: number | undefined
  isEnding: boolean
  /** It ended with exit code 0, and nobody made it. */
  isDone: boolean
}

export interface WatchOptions {
  readonly kind: ServerKind
  readonly glance: () => Glance
  readonly unavailableSeconds: () => number
  readonly limits: CarriageOptions['limits']
  readonly restart: RestartPolicy
  readonly probe: ProbeMode
  readonly hasMemoryLimit: boolean
  /** Whether it can be asked inside sessions: one of 2026-07-28 has none. */
  readonly asksInSessions: boolean
}

/** What is true of a session. */
export interface SessionTruth {
  /** Its server does not know it any more. */
  readonly isForgotten: () => boolean
  /** Its server answers everybody else. */
  readonly isHung: () => boolean
}

interface WatchedSession {
  readonly session: Session
  readonly truth: SessionTruth
  /** Since when its server could be asked, and since when it hangs or is forgotten. */
  askableSinceMs: number
  forgottenSinceMs: number | undefined
  hungSinceMs: number | undefined
}

interface Watched extends Omit<WatchOptions, 'limits'> {
  readonly sessions: Map<Session, WatchedSession>
  isAskingSession: boolean
  readonly outages: Outage[]
  readonly processes: Process[]
  isUnavailable: boolean
  isServing: boolean
  wasServing: boolean
  isProbing: boolean
  asked: number
  /** In the heartbeat under way. */
  wasAsked: boolean
  /** When a client last wanted a process that has done its work. */
  wantedMs: number
  lastAskedMs: number
  lastProbeMs: number
  lastEndMs: number
  unservedMs: number
  /** A client's request failed, and the next probe may come at once. */
  isAlarmed: boolean
  /** When it was busy with its clients, as far as anybody can tell: a heartbeat before its state says so, now and then. */
  readonly busy: { readonly fromMs: number; untilMs: number | undefined }[]
  readonly degraded: { readonly fromMs: number; untilMs: number | undefined }[]
  /** When a client's request kept it from answering anybody else. */
  readonly works: { readonly fromMs: number; readonly untilMs: number }[]
  servesSinceMs: number | undefined
  /** Requests of clients under way, and when one last was. */
  underWay: number
  lastUnderWayMs: number
  /** When a client was last answered. */
  lastServedMs: number
  readonly carriage: Carriage
  /** Restarts in a row, as the restart law counts them. */
  restarts: number
  failedStarts: number
  /** Starts in a row that were never opened, as the supervisor counts them: a server that is ready may refuse us. */
  unopenedStarts: number
}

export interface RefereeOptions {
  readonly now: () => number
  readonly minMs: number
  readonly maxMs: number
  /** Whether outages have to be detected within the bound: only the adaptive interval promises that. */
  readonly isBounded: boolean
  /** What is the matter with a server. */
  readonly faultOf: (upstream: string) => Fault['kind'] | undefined
  /** Whether anything was the matter with it since then. */
  readonly hadFault: (upstream: string, sinceMs: number) => boolean
  readonly tell: (upstream: string, what: string) => void
}

/** Watches one world and holds it to the rules; it knows what is true, and keeps the books for the figures. */
export class Referee {
  readonly violations: Violation[] = []
  readonly outages: Outage[] = []
  probes = 0
  restarts = 0
  mostPerSecond = 0
  readonly #options: RefereeOptions
  readonly #watched = new Map<string, Watched>()
  readonly #starts: number[] = []
  #inFlight = 0
  /** When our own event loop stood still or was busy. */
  readonly #troubles: { readonly fromMs: number; readonly untilMs: number }[] = []
  /** When it was so busy that work has to be refused. */
  readonly #overloads: { readonly fromMs: number; readonly untilMs: number }[] = []
  /** When servers were found to have fallen silent together, and nothing that hangs is ended. */
  readonly #togethers: { readonly fromMs: number; untilMs: number | undefined }[] = []

  constructor(options: RefereeOptions) {
    this.#options = options
  }

  watch(upstream: string, { limits, ...options }: WatchOptions): void {
    const { now } = this.#options
    const violate: CarriageOptions['violate'] = (rule, what) => this.#violate(rule, upstream, what)
    const troubleMs = (fromMs: number, untilMs: number) => this.#troubleMs(fromMs, untilMs)
    this.#watched.set(upstream, {
      ...options,
      sessions: new Map(),
      isAskingSession: false,
      wasAsked: false,
      wantedMs: Number.NEGATIVE_INFINITY,
      isAlarmed: false,
      busy: [],
      degraded: [],
      works: [],
      servesSinceMs: undefined,
      underWay: 0,
      lastUnderWayMs: Number.NEGATIVE_INFINITY,
      lastServedMs: Number.NEGATIVE_INFINITY,
      carriage: new Carriage({ limits, now, troubleMs, violate }),
      outages: [],
      processes: [],
      isUnavailable: false,
      isServing: false,
      wasServing: false,
      isProbing: false,
      asked: 0,
      lastAskedMs: 0,
      lastProbeMs: 0,
      lastEndMs: 0,
      unservedMs: 0,
      restarts: 0,
      failedStarts: 0,
      unopenedStarts: 0,
    })
  }

  /** Our own event loop stands still, or is too busy to be relied on, until then. */
  trouble(fromMs: number, untilMs: number): void {
    this.#options.tell('us', `our event loop is in trouble from ${seconds(fromMs)} to ${seconds(untilMs)}`)
    this.#troubles.push({ fromMs, untilMs })
  }

  /** The same, and so much that work has to be refused. */
  overload(fromMs: number, untilMs: number): void {
    this.#overloads.push({ fromMs, untilMs })
  }

  error(upstream: string, error: unknown): void {
    this.#violate('errors', upstream, error instanceof Error ? (error.stack ?? error.message) : String(error))
  }

  probeStarts(upstream: string, dueMs: number): void {
    const nowMs = this.#options.now()
    const watched = this.#of(upstream)
    if (watched.isProbing) this.#violate('one_probe', upstream, 'a second probe starts')
    // A schedule that was made while the one before still ran waits for its end.
    const lagMs = nowMs - Math.max(dueMs, watched.lastEndMs)
    // All of them may be due at once, and 50 start in a second; whoever is silent takes nobody's turn.
    const allowedMs = starvingMs + (this.#watched.size / 50) * 1000
    if (lagMs > allowedMs && !this.#hadTrouble(dueMs, nowMs)) {
      this.#violate('starvation', upstream, `a probe started ${Math.round(lagMs)} ms after it was due`)
    }
    watched.isProbing = true
    watched.wasAsked = false
    watched.lastProbeMs = nowMs
    this.probes += 1
    this.#takeSlot(upstream)
  }

  #takeSlot(upstream: string): void {
    const nowMs = this.#options.now()
    this.#inFlight += 1
    this.#starts.push(nowMs)
    for (
      let first = this.#starts[0];
      first !== undefined && nowMs - first >= 1000 - lastBitMs;
      first = this.#starts[0]
    ) {
      this.#starts.shift()
    }
    this.mostPerSecond = Math.max(this.mostPerSecond, this.#starts.length)
    if (this.#starts.length > 50) this.#violate('budget', upstream, `${this.#starts.length} probes within a second`)
    if (this.#inFlight > 16) this.#violate('budget', upstream, `${this.#inFlight} probes in flight`)
  }

  /** The server is really asked, and not just looked at because clients were answered: the first request of each heartbeat. */
  asked(upstream: string, method: string): void {
    const { minMs, now } = this.#options
    const watched = this.#of(upstream)
    const { kind, probe } = watched
    const isOpening = kind !== 'url' && method !== 'ping'
    if (probe !== 'active' && !isOpening) this.#violate('unasked', upstream, `${method} (probe: ${probe})`)
    // A list of tools that is read after a late answer is no heartbeat, and it may come when the next one is over already.
    const isLateList = method === 'tools/list' && !watched.isProbing
    if (watched.wasAsked || isLateList) return
    watched.wasAsked = true
    const gapMs = now() - watched.lastAskedMs
    // The second one comes at an offset of its own, and a process that starts is probed at once.
    if (kind === 'url' && watched.asked > 1 && gapMs < minMs - 1 && !watched.isAlarmed) {
      this.#violate('interval', upstream, `${gapMs} ms between two probes`)
    }
    watched.isAlarmed = false
    watched.asked += 1
    watched.lastAskedMs = now()
  }

  /** A probe ends, or only waits for a start and lets others go on. */
  slotFreed(): void {
    this.#inFlight -= 1
  }

  probeEnds(upstream: string): void {
    const { minMs, maxMs } = this.#options
    const watched = this.#of(upstream)
    watched.isProbing = false
    watched.lastEndMs = this.#options.now()
    this.#follow(watched)
    const { intervalMs, why } = watched.glance().interval
    if (!(intervalMs >= minMs && intervalMs <= maxMs)) this.#violate('interval', upstream, why())
  }

  sessionProbeStarts(upstream: string): void {
    const watched = this.#of(upstream)
    if (watched.isAskingSession) this.#violate('sessions', upstream, 'a second one is asked')
    watched.isAskingSession = true
    this.#takeSlot(upstream)
  }

  sessionProbeEnds(upstream: string): void {
    this.#of(upstream).isAskingSession = false
  }

  sessionOpened(session: Session, truth: SessionTruth): void {
    const nowMs = this.#options.now()
    this.#of(session.upstream).sessions.set(session, {
      session,
      truth,
      askableSinceMs: nowMs,
      forgottenSinceMs: undefined,
      hungSinceMs: undefined,
    })
  }

  sessionAsked({ upstream, key, pending, lastActiveMs, health }: Session): void {
    const idleMs = this.#options.now() - lastActiveMs
    const leastMs = health.session.misses > 0 ? sessionRetryMs : sessionIdleMs
    if (pending > 0) this.#violate('sessions', upstream, `${key} is asked while it works`)
    if (idleMs < leastMs - 1) this.#violate('sessions', upstream, `${key} is asked after ${seconds(idleMs)} of silence`)
  }

  sessionEnded(session: Session, end: SessionEnd): void {
    const { sessions } = this.#of(session.upstream)
    const isFalse = end === 'unknown' && sessions.get(session)?.truth.isForgotten() === false
    if (isFalse) this.#violate('sessions', session.upstream, `${session.key} is taken for forgotten`)
    sessions.delete(session)
  }

  /** Whoever hangs, or was forgotten, must have been found out while its server could be asked. */
  #mustBeFoundOut(upstream: string, watched: WatchedSession): void {
    const { session, truth } = watched
    const { probe, asksInSessions, isServing, glance } = this.#of(upstream)
    const nowMs = this.#options.now()
    const { state } = glance().verdict
    const isWell = isServing && isUp(state) === true && this.#options.faultOf(upstream) === undefined
    // While it works for somebody nobody else is answered, and what it does not let in waits for its client.
    const { isRefused, lastMs } = session.health.session
    const isLeft = state === 'busy' || (isRefused && session.lastActiveMs <= lastMs)
    const mayBeAsked = probe === 'active' && asksInSessions && isWell && !isLeft
    const isAskable = mayBeAsked && session.pending === 0 && !this.#isTroubled(nowMs)
    if (!isAskable) watched.askableSinceMs = nowMs
    watched.hungSinceMs = truth.isHung() ? (watched.hungSinceMs ?? nowMs) : undefined
    watched.forgottenSinceMs = truth.isForgotten() ? (watched.forgottenSinceMs ?? nowMs) : undefined
    const sinceMs = Math.max(watched.askableSinceMs, session.lastActiveMs)
    const forgottenMs = nowMs - Math.max(sinceMs, watched.forgottenSinceMs ?? nowMs)
    if (forgottenMs > sessionAskedMs) {
      this.#violate('sessions', upstream, `${session.key} was forgotten, and kept for ${seconds(forgottenMs)}`)
      watched.askableSinceMs = nowMs
    }
    const hungMs = nowMs - Math.max(sinceMs, watched.hungSinceMs ?? nowMs)
    if (hungMs > sessionHungMs && state !== 'degraded') {
      this.#violate('sessions', upstream, `${session.key} hangs for ${seconds(hungMs)}, and its server is ${state}`)
      watched.askableSinceMs = nowMs
    }
  }

  serving(upstream: string, isServing: boolean): void {
    const nowMs = this.#options.now()
    const watched = this.#of(upstream)
    watched.isServing = isServing
    const open = watched.outages.at(-1)
    watched.servesSinceMs = isServing ? nowMs : undefined
    if (!isServing && isResting(watched)) return
    if (isServing) {
      watched.wasServing = true
      if (open && open.untilMs === undefined) this.#endOutage(upstream, watched, open)
    } else if (watched.wasServing) this.#beginOutage(upstream, watched, nowMs)
  }

  #beginOutage(upstream: string, watched: Watched, nowMs: number): void {
    const { verdict, interval } = watched.glance()
    const outage: Outage = {
      upstream,
      fault: this.#options.faultOf(upstream) ?? 'crash',
      sinceMs: nowMs,
      untilMs: undefined,
      detectedMs: isUnavailable(verdict) ? nowMs : undefined,
      isClear: isUp(verdict.state) === true && !verdict.outage && !this.#isTroubled(nowMs),
    }
    watched.outages.push(outage)
    this.outages.push(outage)
    this.#options.tell(
      upstream,
      `out: ${outage.fault} (state ${verdict.state}, interval ${Math.round(interval.intervalMs)} ms)`,
    )
  }

  #endOutage(upstream: string, watched: Watched, outage: Outage): void {
    const nowMs = this.#options.now()
    outage.untilMs = nowMs
    watched.unservedMs += nowMs - outage.sinceMs
    this.#options.tell(upstream, `serves again after ${seconds(nowMs - outage.sinceMs)}`)
    this.#mustBeDetected(upstream, outage, nowMs)
  }

  #mustBeDetected(upstream: string, outage: Outage, nowMs: number): void {
    if (!this.#isBounded(upstream)) return
    const tookMs = (outage.detectedMs ?? nowMs) - outage.sinceMs
    const boundMs = outage.isClear && !this.#isTroubled(nowMs) ? detectionBoundMs : troubledBoundMs
    if (tookMs > boundMs + this.#excusedMs(outage, nowMs)) {
      const how = outage.detectedMs === undefined ? 'went unnoticed for' : 'was detected after'
      this.#violate('detection', upstream, `an outage (${outage.fault}) ${how} ${seconds(tookMs)}`)
    }
  }

  /** The state changed, from this one. */
  changed(upstream: string, from: string): void {
    const watched = this.#of(upstream)
    const { verdict } = watched.glance()
    this.#options.tell(upstream, `${from} → ${verdict.state}: ${verdict.reason}`)
    if (!(allowed[from] ?? []).includes(verdict.state)) {
      this.#violate('transitions', upstream, `${from} → ${verdict.state}: ${verdict.reason}`)
    }
    const wasUnavailable = watched.isUnavailable
    watched.isUnavailable = isUnavailable(verdict)
    this.#follow(watched)
    if (verdict.state === 'degraded') this.#mayBeDegraded(upstream, verdict.reason)
    if (verdict.state === 'suspect') this.#mayBeSuspect(upstream, watched, verdict.reason)
    if (watched.isUnavailable && !wasUnavailable) this.#noticed(upstream, watched, verdict)
    if (verdict.state === 'recovering') this.#compareAvailability(upstream, watched)
  }

  /** Since when it is in states that may excuse it, and until when it was. */
  #follow({ glance, busy, degraded }: Watched): void {
    const { state, work } = glance().verdict
    const nowMs = this.#options.now()
    for (const [spells, isOn] of [
      [busy, state === 'busy' || work === 'now'],
      [degraded, state === 'degraded'],
    ] as const) {
      const last = spells.at(-1)
      const isOpen = last !== undefined && last.untilMs === undefined
      if (isOn && !isOpen) spells.push({ fromMs: nowMs, untilMs: undefined })
      if (last && isOpen && !isOn) last.untilMs = nowMs
    }
  }

  #mayBeSuspect(upstream: string, { works, probe, servesSinceMs = Infinity }: Watched, reason: string): void {
    // What clients met last stands until they ask again, be that minutes later.
    if (probe !== 'active') return
    const nowMs = this.#options.now()
    const sinceMs = nowMs - memoryMs
    // While it works for a client it cannot answer us, and whether it works nobody can tell for sure.
    const isExcused = servesSinceMs > sinceMs || this.#options.hadFault(upstream, sinceMs)
    if (!isExcused && overlapMs(works, sinceMs, nowMs) === 0) this.#violate('false_suspicion', upstream, reason)
  }

  #mayBeDegraded(upstream: string, reason: string): void {
    const isOfSessions = reason.includes('sessions do not answer')
    const hadFault = this.#options.hadFault(upstream, this.#options.now() - sessionHungMs)
    if (isOfSessions && !hadFault) this.#violate('sessions', upstream, reason)
  }

  /** They were found to have fallen silent together; none is the end of that. */
  silentTogether(together: readonly string[]): void {
    const nowMs = this.#options.now()
    const before = this.#togethers.at(-1)
    if (before && together.length === 0) before.untilMs = nowMs
    if (together.length > 0 && (!before || before.untilMs !== undefined)) {
      this.#togethers.push({ fromMs: nowMs, untilMs: undefined })
    }
    for (const upstream of together) {
      const [outage, silentMs] = [this.#of(upstream).outages.at(-1), this.#of(upstream).glance().verdict.silentSinceMs]
      const isOut = outage && (outage.untilMs ?? nowMs) + stragglerMs >= (silentMs ?? nowMs)
      // Slow answers come too late now and then, and flaky servers lose some.
      if (!isOut && !this.#options.hadFault(upstream, silentMs ?? nowMs))
        this.#violate('silence', upstream, 'is said to have fallen silent')
    }
    this.#options.tell(
      'us',
      together.length > 0 ? `silent together: ${together.join(', ')}` : 'silent together no more',
    )
  }

  #noticed(upstream: string, watched: Watched, { state, reason, failingSinceMs }: Verdict): void {
    const nowMs = this.#options.now()
    const outage = watched.outages.findLast(
      ({ untilMs }) => (untilMs ?? nowMs) + stragglerMs >= (failingSinceMs ?? nowMs),
    )
    if (!outage) {
      const isReplaced = outgrownForMs(watched.processes.at(-1), nowMs) !== undefined && causes.leak.test(reason)
      if (watched.wasServing && !isReplaced) this.#violate('false_down', upstream, `${state}: ${reason}`)
      return
    }
    // A start tells nothing but itself.
    if (state !== 'starting' && !causes[outage.fault].test(reason))
      this.#violate('cause', upstream, `${outage.fault} is told as "${reason}"`)
    outage.detectedMs ??= nowMs
    outage.isClear &&= !this.#isTroubled(nowMs)
    this.#mustBeDetected(upstream, outage, nowMs)
  }

  /** Nobody promises when an outage is found of a server that only its clients ask. */
  #isBounded(upstream: string): boolean {
    return this.#options.isBounded && this.#of(upstream).probe === 'active'
  }

  /** Each outage may be dated wrong by the time that it took to notice it, and its end by that to notice that. */
  #compareAvailability(upstream: string, watched: Watched): void {
    if (!this.#isBounded(upstream)) return
    const nowMs = this.#options.now()
    const measuredMs = watched.unavailableSeconds() * 1000
    const open = watched.isServing ? 0 : nowMs - (watched.outages.at(-1)?.sinceMs ?? nowMs)
    const errorMs = Math.abs(measuredMs - watched.unservedMs - open)
    const boundMs = watched.outages.reduce(
      (sum, outage) =>
        sum +
        (outage.isClear ? detectionBoundMs : troubledBoundMs) +
        this.#excusedMs(outage, outage.untilMs ?? nowMs) +
        // Whoever works for a client as soon as the outage is over shows that it is over only afterwards.
        overlapMs(watched.works, outage.untilMs ?? nowMs, nowMs),
      0,
    )
    if (errorMs > boundMs) {
      const [measured, real] = [seconds(measuredMs), seconds(watched.unservedMs + open)]
      this.#violate('availability', upstream, `${measured} unavailable, in truth ${real}`)
    }
  }

  /** A client's request goes to its server, after so long in the queue. */
  requestStarts(upstream: string, waitedMs: number): Ticket {
    const watched = this.#of(upstream)
    const nowMs = this.#options.now()
    const refusing = this.#overloads.find(
      ({ fromMs, untilMs }) => fromMs + sheddingAfterMs + queueMs < nowMs && nowMs < untilMs,
    )
    if (refusing)
      this.#violate('shedding', upstream, `a tool call passes, overloaded since ${seconds(refusing.fromMs)}`)
    watched.underWay += 1
    watched.lastUnderWayMs = nowMs
    return watched.carriage.starts(waitedMs)
  }

  /** It is over; told before anybody else hears of it. */
  requestEnds(upstream: string, ticket: Ticket, how: 'ok' | 'failed' | 'nothing'): void {
    const watched = this.#of(upstream)
    watched.underWay -= 1
    watched.lastUnderWayMs = this.#options.now()
    if (how === 'failed') watched.isAlarmed = true
    if (how === 'ok') watched.lastServedMs = this.#options.now()
    watched.carriage.ends(ticket, how)
  }

  /** A client's request keeps the server from answering anybody else until then. */
  works(upstream: string, untilMs: number): void {
    this.#of(upstream).works.push({ fromMs: this.#options.now(), untilMs })
  }

  requestRefused(upstream: string, error: KnownError, waitedMs: number): void {
    if (error.code !== 'overloaded') return this.#of(upstream).carriage.refused(error, waitedMs)
    const nowMs = this.#options.now()
    if (!this.#hadTrouble(nowMs - sheddingFadesMs, nowMs)) this.#violate('shedding', upstream, error.message)
  }

  /** A client wants a process that does not run. */
  wanted(upstream: string): void {
    this.#of(upstream).wantedMs = this.#options.now()
  }

  /** A process takes the place of the one before. */
  replaced(upstream: string, reason: RestartReason): void {
    const nowMs = this.#options.now()
    const before = this.#of(upstream).processes.findLast(({ goneMs }) => goneMs !== undefined)
    const outgrownMs = outgrownForMs(before, nowMs) ?? 0
    if (reason === 'memory' && outgrownMs < memoryNoticedMs / 2) {
      this.#violate('memory', upstream, `replaced for its memory, outgrown for ${seconds(outgrownMs)}`)
    }
  }

  circuitOpened(upstream: string): void {
    this.#options.tell(upstream, 'the circuit opens')
    this.#of(upstream).carriage.opened()
  }

  /** What the process of a server does. */
  process(upstream: string, event: ProcessEvent): void {
    this.#options.tell(upstream, `process ${event}`)
    const nowMs = this.#options.now()
    const process = this.#of(upstream).processes.at(-1)
    switch (event) {
      case 'started':
        return this.#processStarted(upstream)
      case 'gone':
        return this.#processGone(upstream)
      case 'ready':
        if (process) process.readyMs = nowMs
        return
      case 'open':
        if (process) process.openMs = nowMs
        return
      case 'hung':
      case 'spinning':
      case 'deadlocked':
        if (process) process.hang = { sinceMs: nowMs, kind: event }
        return
      case 'outgrown':
        if (process) Object.assign(process, { outgrownMs: nowMs, shrunkMs: undefined })
        return
      case 'shrunk':
        this.#mustBeReplaced(upstream)
        // What is being ended already is replaced all the same.
        if (process && !process.isEnding) process.shrunkMs = nowMs
        return
      case 'done':
        if (process) process.isDone = true
        return
      case 'ending':
        this.#mustBeReplaced(upstream)
        this.#mustLetFinish(upstream)
        this.#mustBeEnded(upstream)
        if (!process) return
        // What was decided before it shrank is carried out.
        if (outgrownForMs(process, nowMs) === undefined) process.outgrownMs = undefined
        Object.assign(process, { hang: undefined, isEnding: true, shrunkMs: undefined })
        return
      case 'awake':
        this.#mustBeEnded(upstream)
        if (process) process.hang = undefined
    }
  }

  /** Nothing may have been too large for longer than until now. */
  #mustBeReplaced(upstream: string): void {
    const { hasMemoryLimit, processes } = this.#of(upstream)
    const process = processes.at(-1)
    if (!hasMemoryLimit || process?.outgrownMs === undefined || process.shrunkMs !== undefined) return
    if (process.isEnding || process.goneMs !== undefined) return
    const nowMs = this.#options.now()
    const tookMs = nowMs - process.outgrownMs - this.#troubleMs(process.outgrownMs, nowMs)
    if (tookMs <= memoryNoticedMs + memoryDrainMs + starvingMs) return
    this.#violate('memory', upstream, `it is too large for ${seconds(tookMs)}, and is not being replaced`)
    process.outgrownMs = undefined
  }

  /** What is replaced for its memory alone has time for what it was asked before. */
  #mustLetFinish(upstream: string): void {
    const { carriage, processes } = this.#of(upstream)
    const process = processes.at(-1)
    if (outgrownForMs(process, this.#options.now()) === undefined || process?.openMs === undefined) return
    const youngestMs = carriage.youngestMs()
    const leastMs = memoryDrainMs - queueMs
    if (youngestMs < leastMs) this.#violate('memory', upstream, `a request is cut off after ${seconds(youngestMs)}`)
  }

  /** Nothing that hangs may have hung for longer than until now. */
  #mustBeEnded(upstream: string): void {
    const watched = this.#of(upstream)
    const process = watched.processes.at(-1)
    if (!process?.hang || process.goneMs !== undefined || !this.#isBounded(upstream)) return
    const nowMs = this.#options.now()
    const { kind, sinceMs } = process.hang
    const isOpen = process.openMs !== undefined
    const waitedMs = kind === 'deadlocked' && watched.lastUnderWayMs >= sinceMs ? waitedForMs : 0
    const isOccupied = kind === 'spinning' && watched.underWay > 0
    // What uses the processor while a client waits is at work, and nobody can tell on what.
    const countsFromMs = kind === 'spinning' ? Math.max(sinceMs, watched.lastUnderWayMs) : sinceMs
    const fromMs = isOpen ? countsFromMs : process.startedMs
    const boundMs = isOpen ? hungBoundMs[kind] + waitedMs : startBoundMs
    const tookMs = nowMs - fromMs
    if (isOccupied || tookMs <= boundMs + this.#patienceMs(upstream, fromMs, nowMs)) return
    this.#violate('hung', upstream, `it hangs (${kind}) for ${seconds(tookMs)}, and is not being ended`)
    process.hang = undefined
  }

  /** What a process that hangs may be left alone for longer, for reasons of ours or of clients. */
  #patienceMs(upstream: string, fromMs: number, untilMs: number): number {
    const { busy, lastServedMs } = this.#of(upstream)
    const togetherMs = Math.min(excusedMs, overlapMs(this.#togethers, fromMs, untilMs))
    const silentMs = Math.max(0, lastServedMs - fromMs)
    const troubledMs = this.#isTroubledSince(fromMs, untilMs) ? troubledBoundMs - detectionBoundMs : 0
    const ownMs = this.#troubleMs(fromMs, untilMs) + troubledMs
    return ownMs + overlapMs(busy, fromMs, untilMs) + silentMs + (togetherMs > 0 ? togetherMs + stragglerMs : 0)
  }

  #processStarted(upstream: string): void {
    const nowMs = this.#options.now()
    const watched = this.#of(upstream)
    const before = watched.processes.at(-1)
    watched.processes.push({
      startedMs: nowMs,
      readyMs: undefined,
      openMs: undefined,
      goneMs: undefined,
      hang: undefined,
      outgrownMs: undefined,
      shrunkMs: undefined,
      isEnding: false,
      isDone: false,
    })
    const holding = [...this.#watched.values()].filter(({ processes }) => isStarting(processes.at(-1), nowMs))
    if (holding.length > 4) this.#violate('restarts', upstream, `${holding.length} processes start at a time`)
    if (!before) return
    this.restarts += 1
    if (watched.restart === 'on_failure' && before.isDone) {
      if (watched.wantedMs < (before.goneMs ?? nowMs))
        this.#violate('restarts', upstream, 'started again, though it is done')
      watched.restarts = 0
      // From now on somebody waits.
      if (watched.wasServing) this.#beginOutage(upstream, watched, nowMs)
      return
    }
    if (watched.restart === 'never') this.#violate('restarts', upstream, 'started again (restart: never)')
    if (before.goneMs === undefined) return this.#violate('restarts', upstream, 'started beside a process that runs')
    const waitedMs = nowMs - before.goneMs
    if (waitedMs < leastPauseMs(watched) - 1) {
      this.#violate('restarts', upstream, `restart ${watched.restarts + 1} came after ${Math.round(waitedMs)} ms`)
    }
    watched.restarts += 1
  }

  #processGone(upstream: string): void {
    const nowMs = this.#options.now()
    const watched = this.#of(upstream)
    const process = watched.processes.at(-1)
    if (!process) return
    process.goneMs = nowMs
    if (process.readyMs !== undefined && nowMs - process.readyMs >= 120_000) watched.restarts = 0
    // Who ends so soon behind a URL may not have been the one that answered there.
    const outliveMs = watched.kind === 'launched' ? defaults.supervision.launchOutlivesMs + answerMs : 0
    const hasWorked = process.openMs !== undefined && nowMs - process.openMs >= outliveMs
    watched.unopenedStarts = hasWorked ? 0 : watched.unopenedStarts + 1
    watched.failedStarts = process.readyMs === undefined ? watched.failedStarts + 1 : 0
  }

  /** What shows only by not happening; to be called now and then, and at the end. */
  look(): void {
    const nowMs = this.#options.now()
    for (const [upstream, watched] of this.#watched) {
      const { lastProbeMs, glance, outages, carriage, servesSinceMs, probe, sessions } = watched
      this.#follow(watched)
      // Without heartbeats nobody tells that it is well again.
      const isWell = this.#options.faultOf(upstream) === undefined && (probe === 'active' || carriage.refuses())
      carriage.check(isWell ? servesSinceMs : undefined)
      this.#mustBeEnded(upstream)
      this.#mustBeReplaced(upstream)
      this.#mustBeStarted(upstream)
      for (const session of sessions.values()) this.#mustBeFoundOut(upstream, session)
      const silentMs = nowMs - lastProbeMs - this.#troubleMs(lastProbeMs, nowMs)
      // A process that is not running has nobody to ask.
      if (silentMs > longestSilenceMs && probe !== 'off' && !isUnavailable(glance().verdict)) {
        this.#violate('starvation', upstream, `not probed for ${seconds(silentMs)}`)
      }
      const open = outages.at(-1)
      if (open && open.untilMs === undefined && open.detectedMs === undefined)
        this.#mustBeDetected(upstream, open, nowMs)
    }
  }

  #mustBeStarted(upstream: string): void {
    const watched = this.#of(upstream)
    const { processes, unopenedStarts, restart, glance } = watched
    const goneMs = processes.at(-1)?.goneMs
    if (goneMs === undefined || restart === 'never') return
    const nowMs = this.#options.now()
    if (isResting(watched)) {
      const { state } = glance().verdict
      const isTold = state === 'idle' || state === 'disabled' || watched.wantedMs > goneMs
      if (nowMs - goneMs > restingMs && !isTold)
        this.#violate('transitions', upstream, `it is done, and said to be ${state}`)
      return
    }
    const waitedMs = nowMs - goneMs - this.#troubleMs(goneMs, nowMs)
    const mostMs = (unopenedStarts >= 10 ? crashLoopMs : longestBackoffMs) + startQueueMs
    if (waitedMs > mostMs) this.#violate('restarts', upstream, `not started again for ${seconds(waitedMs)}`)
  }

  #isTroubled(nowMs: number): boolean {
    return this.#troubles.some(({ fromMs, untilMs }) => fromMs <= nowMs && nowMs <= untilMs + aftermathMs)
  }

  /** Whether our own trouble, or what it left behind, touches this time. */
  #isTroubledSince(fromMs: number, untilMs: number): boolean {
    return this.#hadTrouble(fromMs - aftermathMs, untilMs)
  }

  #hadTrouble(fromMs: number, untilMs: number): boolean {
    return this.#troubles.some((trouble) => trouble.fromMs <= untilMs && fromMs <= trouble.untilMs)
  }

  #troubleMs(fromMs: number, untilMs: number): number {
    return overlapMs(this.#troubles, fromMs, untilMs)
  }

  /** What an outage may take longer to be found, for reasons that nobody can help. */
  #excusedMs({ upstream, fault, sinceMs }: Outage, untilMs: number): number {
    const { busy, degraded, kind, lastUnderWayMs, lastServedMs } = this.#of(upstream)
    // While clients wait for a server that may be at work, nobody can tell whether it will answer.
    // One that is degraded stays so meanwhile.
    const mayBeBusy = lastUnderWayMs >= sinceMs
    const waitingMs = overlapMs(mayBeBusy ? [...busy, ...degraded] : busy, sinceMs, untilMs)
    // Where nothing shows whether it works, a client that waits excuses it once.
    const busyMs = kind === 'url' ? Math.min(waitingMs, remoteWaitedForMs) : waitingMs
    // What clients asked before is answered all the same. And they may have credentials that we lack: for two intervals
    // after one was answered, our own 401 says nothing.
    const trustMs = fault === 'locked' ? 2 * this.#options.maxMs : 0
    const servedMs = Math.max(0, Math.min(lastServedMs, untilMs) + trustMs - sinceMs)
    return this.#troubleMs(sinceMs, untilMs) + busyMs + servedMs
  }

  #violate(rule: Rule, upstream: string, what: string): void {
    const atMs = this.#options.now()
    this.violations.push({ rule, atMs, upstream, what })
    this.#options.tell(upstream, `VIOLATION of ${rule}: ${what}`)
  }

  #of(upstream: string): Watched {
    const watched = this.#watched.get(upstream)
    if (!watched) throw new Error(`no upstream is called ${upstream}`)
    return watched
  }
}

/** Its process has done its work, and that is all right. */
function isResting({ restart, processes }: Pick<Watched, 'restart' | 'processes'>): boolean {
  return restart === 'on_failure' && processes.at(-1)?.isDone === true
}

function overlapMs(
  spans: readonly { readonly fromMs: number; readonly untilMs: number | undefined }[],
  fromMs: number,
  untilMs: number,
): number {
  return spans.reduce(
    (sum, span) => sum + Math.max(0, Math.min(untilMs, span.untilMs ?? untilMs) - Math.max(fromMs, span.fromMs)),
    0,
  )
}

/** Half of 1 s · 2ⁿ, which is what jitter leaves, up to half a minute; ten minutes after ten starts in vain. */
function leastPauseMs({ restarts, failedStarts }: Pick<Watched, 'restarts' | 'failedStarts'>): number {
  if (failedStarts >= 10) return 600_000
  return restarts === 0 ? 0 : Math.min(30_000, 500 * 2 ** (restarts - 1))
}

/** For how long it has used too much memory, or had until a moment ago. */
function outgrownForMs(process: Process | undefined, nowMs: number): number | undefined {
  if (process?.outgrownMs === undefined) return undefined
  const { outgrownMs, shrunkMs = nowMs } = process
  return nowMs - shrunkMs <= memoryDrainMs + starvingMs ? shrunkMs - outgrownMs : undefined
}

/** A start that holds one of the four places for starts. It gives it back after 2 s, and the next one starts at once. */
function isStarting(process: Process | undefined, nowMs: number): boolean {
  if (!process || process.readyMs !== undefined || process.goneMs !== undefined) return false
  return nowMs - process.startedMs < 2000 - lastBitMs
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
