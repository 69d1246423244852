import { defaults } from '../defaults.ts'
import type { Outcome } from './classify.ts'
import { meaningOf } from './classify.ts'
import { generalised } from './history.ts'

/** What an upstream can be, as we see it. */
export const states = [
  'starting',
  'healthy',
  'suspect',
  'busy',
  'degraded',
  'recovering',
  'down',
  'crash_loop',
  'needs_auth',
  'idle',
  'paused',
  'disabled',
] as const
export type State = (typeof states)[number]

/** What we conclude about one upstream, why, and what we must remember to conclude the next time. Plain data. */
export interface Verdict {
  readonly state: State
  /** Why this state; never empty. */
  readonly reason: string
  /** When this state began, monotonic. */
  readonly sinceMs: number
  /** Consecutive failures, of either kind. */
  readonly misses: number
  /** Consecutive good answers since it was down or starting, as far as they matter. */
  readonly goods: number
  /** Whether it ever answered. */
  readonly everUp: boolean
  /** When the first failure began after which no answer came; what an outage is back-dated to. */
  readonly failingSinceMs: number | undefined
  /** The same where it only stays silent: exits, refusals and 401s name a culprit, silence may be anybody's. */
  readonly silentSinceMs: number | undefined
  /** As of `flapPenaltyAtMs`; read it with `flapPenalty`. */
  readonly flapPenalty: number
  readonly flapPenaltyAtMs: number
  /** It was down, crash looping or locked, and has not recovered since: the next answer leads to `recovering`. */
  readonly outage: boolean
  /** Whether it ever showed an inventory, and so owes one after each outage. */
  readonly inventorySeen: boolean
  /** A recovery waits for the comparison of inventories. */
  readonly inventoryDue: boolean
  /** How the inventory differs from the accepted one; undefined while it does not. */
  readonly different: string | undefined
  /** Which sessions hang; undefined while none does. */
  readonly hung: string | undefined
  /** The last of the `misses`. */
  readonly missed: string | undefined
  /** Why suspicion of failures is high; undefined while it is not. */
  readonly suspected: string | undefined
  /** Why it is found slow; undefined while it is not. */
  readonly slow: string | undefined
  /** What the last answer came after that was late; undefined once enough of them were in time again, in a row. */
  readonly late: string | undefined
  /** Slow and late answers since it is found slow or late, up to the number from which that is usual for it. */
  readonly slows: number
  /**
   * Whether it works for clients instead of answering heartbeats: at the last one, with no answer to anybody since; or not
   * long ago, with too few heartbeats in a row answered in time since.
   */
  readonly work: 'none' | 'now' | 'lately'
  /** What it answers to our opening exchange in place of a result; undefined while it lets us in. */
  readonly turnedAway: string | undefined
  /** The end of a process is what took it down: that explains all that may have been noticed of it before. */
  readonly exited: boolean
  /** Heartbeats in a row that told nothing, up to the number that makes it suspect. */
  readonly inconclusives: number
  /** Suspicion left over from an outage that is over does not count until it has died down once. */
  readonly excused: boolean
}

/** One piece of evidence about an upstream as a whole. `atMs` is when the failed attempt began; now unless told. */
export type Evidence =
  /**
   * Any JSON-RPC answer, an error or a late one included. One to a probe speaks for the whole upstream (all that were
   * probed answered, so no session hangs), one to a client's request for the process that gave it. `isLate`: after its
   * time-out; `isTurnedAway`: an error in place of an opening exchange.
   */
  | {
      readonly kind: 'answered'
      readonly by: 'probe' | 'traffic'
      readonly reason: string
      readonly isLate?: boolean
      readonly isTurnedAway?: boolean
    }
  /**
   * One failure that may be a blip: nothing came at all, or what came was no answer. One that clients met counts while it
   * is idle, too: they show that something is expected of it.
   */
  | {
      readonly kind: 'silent' | 'missed'
      readonly by?: 'probe' | 'traffic'
      readonly reason: string
      readonly atMs?: number
    }
  /** Process exit (`isExit`), refused connection, spawn failure. */
  | { readonly kind: 'gone'; readonly reason: string; readonly atMs?: number; readonly isExit?: boolean }
  /** A 401 or 403 to our own probe. Those of clients say something about the clients: never report them. */
  | { readonly kind: 'unauthorized'; readonly reason: string; readonly atMs?: number }
  /**
   * A heartbeat that tells nothing; `isBlind`: because nobody was asked, or we stood still ourselves; `isAnswer`: but that
   * somebody is there, who is not silent any more.
   */
  | {
      readonly kind: 'inconclusive'
      readonly reason: string
      readonly isBlind?: boolean
      readonly isAnswer?: boolean
    }
  /**
   * What the interval law suspects after each of its decisions, 0…1: failures by `level`, and slow answers; `isSlow`:
   * there was one more of these.
   */
  | {
      readonly kind: 'suspicion'
      readonly level: number
      readonly slowness: number
      readonly isSlow: boolean
      readonly reason: string
    }
  /** The inventory compared with the accepted one. Once one was reported, each recovery waits for the next. */
  | { readonly kind: 'inventory'; readonly same: boolean; readonly reason: string }
  /** Sessions on processes of their own: how many hang and how many do not. */
  | { readonly kind: 'sessions'; readonly hung: number; readonly alive: number; readonly reason: string }
  /** It will not come back by itself: it hangs, or it ended and is not started again. */
  | { readonly kind: 'lost'; readonly reason: string }
  /** No answer, but it works on what clients asked. Report it instead of `missed`. */
  | { readonly kind: 'busy'; readonly reason: string }
  /** The upstream as a whole (not one more session) is being started. */
  | { readonly kind: 'starting'; readonly reason: string }
  /** Nothing runs, and nothing should. */
  | { readonly kind: 'idle'; readonly reason: string }
  | { readonly kind: 'crash_loop'; readonly reason: string }
  | { readonly kind: 'paused'; readonly reason: string }
  | { readonly kind: 'disabled'; readonly reason: string }
  /** Ends `paused` and `disabled`, which nothing else does. */
  | { readonly kind: 'resumed'; readonly reason: string }

export interface Limits {
  readonly missesToDown: number
  readonly goodsToHealthy: number
}

type EvidenceOf<Kind extends Evidence['kind']> = Extract<Evidence, { readonly kind: Kind }>

interface Context {
  readonly nowMs: number
  readonly limits: Limits
}

/** How long a recovery waits for an inventory that may never come. */
const inventoryPatienceMs = 60_000

/** What a process leaves behind (a closed port, a broken pipe) may be noticed so long before its end is heard of. */
const exitLagMs = 5000

const ups: Readonly<Record<State, boolean | undefined>> = {
  healthy: true,
  suspect: true,
  busy: true,
  degraded: true,
  recovering: true,
  starting: false,
  down: false,
  crash_loop: false,
  needs_auth: false,
  idle: undefined,
  paused: undefined,
  disabled: undefined,
}

/** The verdict to begin with. */
export function newVerdict(state: State, reason: string, nowMs: number): Verdict {
  return {
    state,
    reason: reason.trim() || state,
    sinceMs: nowMs,
    misses: 0,
    goods: 0,
    everUp: isUp(state) === true,
    failingSinceMs: undefined,
    silentSinceMs: undefined,
    flapPenalty: 0,
    flapPenaltyAtMs: nowMs,
    outage: state === 'down' || state === 'crash_loop' || state === 'needs_auth' || state === 'recovering',
    inventorySeen: false,
    inventoryDue: false,
    different: undefined,
    hung: undefined,
    missed: undefined,
    suspected: undefined,
    slow: undefined,
    late: undefined,
    slows: 0,
    work: 'none',
    turnedAway: undefined,
    exited: false,
    inconclusives: 0,
    excused: false,
  }
}

/**
 * The verdict after one more piece of evidence; the same object when nothing changed.
 *
 * Only an answer leads from a state that is not up to one that is. Misses lead down only as `missesToDown` in a row.
 * `paused` and `disabled` end by `resumed` alone, `crash_loop` by an answer (or a 401), so that retries do not blink.
 */
export function judge(current: Verdict, evidence: Evidence, nowMs: number, limits: Limits): Verdict {
  const context = { nowMs, limits }
  if (current.state === 'paused' || current.state === 'disabled') return release(current, evidence, context)
  const reason = evidence.reason.trim() || evidence.kind
  switch (evidence.kind) {
    case 'answered':
      return answer(current, evidence, reason, context)
    case 'silent':
    case 'missed':
      return miss(current, evidence, reason, context)
    case 'gone':
      return lose(current, evidence, reason, context)
    case 'unauthorized':
      return lock(current, reason, startOf(current, evidence.atMs, nowMs), context)
    case 'suspicion':
      return suspect(current, evidence, reason, context)
    case 'inventory':
      return compare(current, evidence.same, reason, context)
    case 'sessions':
      return countSessions(current, evidence, reason, context)
    case 'lost':
      return resign(current, reason, context)
    case 'busy':
      return work(current, reason, context)
    case 'starting':
      return start(current, reason, context)
    case 'idle':
      return rest(current, reason, context)
    case 'crash_loop':
      return giveUp(current, reason, context)
    case 'paused':
    case 'disabled':
      return hold(current, evidence.kind, reason, context)
    case 'inconclusive':
      return wonder(current, evidence, reason, context)
    case 'resumed':
      break
  }
  return current
}

/** One heartbeat that is over: what it came to, and whom it speaks for. */
export interface Heard {
  readonly outcome: Outcome
  readonly by: 'probe' | 'traffic'
  readonly reason: string
  readonly atMs: number
  readonly turnedAway?: boolean | undefined
  readonly wantsLess?: boolean | undefined
}

/** The evidence that the outcome of one heartbeat is. */
export function evidenceOf({ outcome, by, reason, atMs, turnedAway = false, wantsLess = false }: Heard): Evidence {
  const kind = meaningOf(outcome)
  switch (kind) {
    case 'answered':
      return { kind, by, reason, isLate: outcome === 'late', isTurnedAway: turnedAway }
    case 'inconclusive':
      return { kind, reason, ...(wantsLess && { isAnswer: true }) }
    case 'silent':
    case 'missed':
    case 'gone':
    case 'unauthorized':
      break
  }
  return { kind, reason, atMs }
}

/** Whether `mcp_upstream_up` is 1; undefined: there is no such series, because nothing is expected to be up. */
export function isUp(state: State): boolean | undefined {
  return ups[state]
}

/** Whether unavailable seconds run. A start counts only when there was something to lose. */
export function isUnavailable({ state, everUp }: Verdict): boolean {
  return state === 'down' || state === 'crash_loop' || state === 'needs_auth' || (state === 'starting' && everUp)
}

/** How much an upstream flapped lately: 1 per outage, halved every five minutes. */
export function flapPenalty(verdict: Verdict, nowMs: number): number {
  return verdict.flapPenalty * 0.5 ** (Math.max(0, nowMs - verdict.flapPenaltyAtMs) / defaults.suspicion.flapHalfLifeMs)
}

function release(current: Verdict, evidence: Evidence, { nowMs }: Context): Verdict {
  if (evidence.kind === 'resumed') {
    // Another server may stand there, or the same one with fewer tools.
    const facts = { ...blank, inventoryDue: current.inventorySeen }
    return change(current, { ...facts, state: 'starting', reason: evidence.reason.trim() || 'resumed' }, nowMs)
  }
  // A pause that is asked for again has another end.
  const isTaken = evidence.kind === 'disabled' || evidence.kind === 'paused'
  if (!isTaken || current.state === 'disabled') return current
  return change(current, { state: evidence.kind, reason: evidence.reason.trim() || evidence.kind }, nowMs)
}

function answer(current: Verdict, evidence: EvidenceOf<'answered'>, reason: string, context: Context): Verdict {
  const { by, isLate = false, isTurnedAway = false } = evidence
  const { outage } = current
  // To end an outage any answer is as good as one in time to a probe.
  const isGood = outage || (by === 'probe' && !isLate)
  const goods = isGood ? Math.min(current.goods + 1, context.limits.goodsToHealthy) : isLate ? 0 : current.goods
  const isSteady = by === 'probe' && !isLate && goods >= context.limits.goodsToHealthy
  const late = isLate ? reason : isSteady ? undefined : current.late
  const slows = countSlows({ ...current, late }, isLate)
  const facts = {
    // How soon clients are answered, and who is let in, says nothing about a probe of ours.
    ...(by === 'probe' && { hung: undefined, late, slows, turnedAway: isTurnedAway ? reason : undefined }),
    work: isSteady ? 'none' : pastWork(current),
    misses: 0,
    missed: undefined,
    inconclusives: 0,
    failingSinceMs: undefined,
    silentSinceMs: undefined,
    goods,
    everUp: true,
  } as const
  return outage ? recover(current, facts, reason, context) : settle(current, facts, reason, context)
}

/**
 * Two answers in a row end an outage, and the comparison of inventories when there is one to compare. Where nobody
 * can look (only clients' own processes run, or it turns us away), the wait ends; a difference found later still degrades.
 */
function recover(current: Verdict, facts: Partial<Verdict>, reason: string, context: Context): Verdict {
  const { goods, inventoryDue, turnedAway } = { ...current, ...facts }
  const { nowMs, limits } = context
  if (goods < limits.goodsToHealthy) {
    const progress = `answers again (${goods} of ${limits.goodsToHealthy}): ${reason}`
    return change(current, { ...facts, state: 'recovering', reason: progress }, nowMs)
  }
  const waitedMs = current.state === 'recovering' ? nowMs - current.sinceMs : 0
  if (inventoryDue && turnedAway === undefined && waitedMs < inventoryPatienceMs) {
    const waiting = 'answers again; its inventory is not compared yet'
    return change(current, { ...facts, state: 'recovering', reason: waiting }, nowMs)
  }
  const past = { outage: false, suspected: undefined, slow: undefined, excused: true }
  return settle(current, { ...facts, ...past }, reason, context)
}

/** The state of an upstream that answers: the gravest thing known about it, which is the reason too. */
function settle(current: Verdict, facts: Partial<Verdict>, reason: string, { nowMs, limits }: Context): Verdict {
  const known = { ...current, ...facts }
  const impaired = known.turnedAway ?? known.different ?? known.hung
  if (impaired) return change(current, { ...facts, state: 'degraded', reason: impaired }, nowMs)
  const isUsual = isUsuallySlow(known)
  // Of one whose answers are usually late, one that is not there yet is no news.
  const isAwaited = isUsual && known.late !== undefined && known.misses === 1
  const missed = known.missed === undefined || isAwaited ? undefined : missText(known.misses, limits, known.missed)
  const slow = isUsual ? undefined : (known.late ?? known.slow)
  const isUnknown = known.inconclusives >= defaults.heartbeat.inconclusiveToDoubt
  const doubt = missed ?? slow ?? known.suspected ?? (isUnknown ? unknownText : undefined)
  if (doubt) return change(current, { ...facts, state: 'suspect', reason: doubt }, nowMs)
  const isAsBefore = current.state === 'healthy' && !isUsuallySlow(current)
  const why = isUsual ? slowText : isAsBefore ? current.reason : reason
  return change(current, { ...facts, state: 'healthy', reason: why }, nowMs)
}

/** It is slow, and answers all the same: a level that lasts is no sign of an outage to come. */
function isUsuallySlow({ slows }: Verdict): boolean {
  return slows >= defaults.heartbeat.slowToUsual
}

/** Its slow answers, one more included or not; none once nothing of that is left. */
function countSlows({ slow, late, slows }: Verdict, isOneMore: boolean): number {
  if (slow === undefined && late === undefined) return 0
  return isOneMore ? Math.min(slows + 1, defaults.heartbeat.slowToUsual) : slows
}

function miss(
  current: Verdict,
  { kind, by, atMs }: EvidenceOf<'silent' | 'missed'>,
  reason: string,
  context: Context,
): Verdict {
  const { nowMs, limits } = context
  const misses = current.misses + 1
  const failingSinceMs = startOf(current, atMs, nowMs)
  const silentSinceMs = kind === 'silent' ? (current.silentSinceMs ?? atMs ?? nowMs) : undefined
  const facts = { misses, missed: reason, goods: 0, inconclusives: 0, failingSinceMs, silentSinceMs, excused: false }
  // Nothing runs that could have answered: a straggler.
  if (current.state === 'crash_loop' || (current.state === 'idle' && by !== 'traffic')) return current
  if (current.state === 'down') {
    // One more of the same kind says nothing new, and less than what was concluded from the first.
    const isOther = hasLasted(current, context) && generalised(reason) !== generalised(current.missed ?? '')
    return change(current, isOther ? { ...facts, reason } : facts, nowMs)
  }
  if (misses >= limits.missesToDown) {
    const row = misses === 1 ? '1 miss' : `${misses} misses in a row`
    return fall(current, facts, `${row}: ${reason}`, context)
  }
  if (current.state === 'needs_auth') return change(current, facts, nowMs)
  if (current.state === 'starting' || current.state === 'recovering' || current.state === 'idle') {
    return change(current, { ...facts, reason: missText(misses, limits, reason) }, nowMs)
  }
  return settle(current, facts, reason, context)
}

function lose(
  current: Verdict,
  { atMs, isExit = false }: EvidenceOf<'gone'>,
  reason: string,
  context: Context,
): Verdict {
  if (current.state === 'crash_loop') return current
  const failingSinceMs = startOf(current, atMs, context.nowMs)
  const facts = { misses: current.misses + 1, missed: reason, failingSinceMs, silentSinceMs: undefined }
  if (current.state !== 'down') return fall(current, { ...facts, exited: isExit }, reason, context)
  // The first cause of an outage says more than what follows from it, and the end of a process more than what showed it;
  // what keeps the server down after that is another matter.
  const explains = hasLasted(current, context) || (isExit && !current.exited)
  return change(current, { ...facts, goods: 0, ...(explains && { reason, exited: isExit }) }, context.nowMs)
}

/** What comes now is no trace of what took it down. */
function hasLasted({ sinceMs }: Verdict, { nowMs }: Context): boolean {
  return nowMs - sinceMs > exitLagMs
}

function fall(current: Verdict, facts: Partial<Verdict>, reason: string, { nowMs }: Context): Verdict {
  // A start that fails goes on with the same outage: a crash loop is one flap, not ten.
  const flaps = current.state === 'starting' && current.outage ? 0 : 1
  const penalty = { flapPenalty: flapPenalty(current, nowMs) + flaps, flapPenaltyAtMs: nowMs }
  return change(current, { ...outageOf(current), ...facts, ...penalty, state: 'down', reason }, nowMs)
}

/** It is down already, or as good as: what led there says less than that it stays so. */
function resign(current: Verdict, reason: string, context: Context): Verdict {
  if (current.state === 'down') return change(current, { reason }, context.nowMs)
  const isHopeful = current.state === 'starting' || current.state === 'needs_auth'
  if (isUp(current.state) !== true && !isHopeful) return current
  return fall(current, { failingSinceMs: startOf(current, undefined, context.nowMs) }, reason, context)
}

function lock(current: Verdict, reason: string, failingSinceMs: number, { nowMs }: Context): Verdict {
  // Whoever refuses us is there: it ends a row of misses.
  const facts = { misses: 0, missed: undefined, failingSinceMs, silentSinceMs: undefined }
  if (current.state === 'needs_auth') return change(current, { ...facts, goods: 0, reason }, nowMs)
  const { inventoryDue, different } = current
  // Nothing was restarted, so the inventory stands as it did.
  return change(
    current,
    { ...outageOf(current), inventoryDue, different, ...facts, state: 'needs_auth', reason },
    nowMs,
  )
}

function giveUp(current: Verdict, reason: string, { nowMs }: Context): Verdict {
  if (current.state === 'crash_loop') return change(current, { reason }, nowMs)
  const failingSinceMs = startOf(current, undefined, nowMs)
  return change(current, { ...outageOf(current), failingSinceMs, state: 'crash_loop', reason }, nowMs)
}

/** Suspicion clears where the interval law begins to count good probes, so that it does not blink in between. */
function suspect(
  current: Verdict,
  { level, slowness, isSlow }: EvidenceOf<'suspicion'>,
  reason: string,
  context: Context,
): Verdict {
  if (isUp(current.state) !== true || current.state === 'recovering') return current
  const excused = current.excused && !(Math.max(level, slowness) <= defaults.suspicion.calm)
  if (excused) return current
  const suspected = doubtAt(level, current.suspected, reason)
  const slow = doubtAt(slowness, current.slow, reason)
  const slows = countSlows({ ...current, slow }, isSlow)
  return learn(current, { suspected, slow, slows, excused }, reason, context)
}

function doubtAt(level: number, before: string | undefined, reason: string): string | undefined {
  if (level <= defaults.suspicion.calm) return undefined
  // Its figures are those of now, as long as they tell why.
  return level >= defaults.suspicion.suspect ? reason : before
}

/** Nothing is known against it, but for so long nothing for it either that its old state may be a lie. */
function wonder(
  current: Verdict,
  { isBlind = false, isAnswer = false }: EvidenceOf<'inconclusive'>,
  reason: string,
  context: Context,
): Verdict {
  const inconclusives = Math.min(current.inconclusives + 1, defaults.heartbeat.inconclusiveToDoubt)
  // It is silent no more, or nobody can tell any more whether it is.
  const isOver = !isBlind || inconclusives === defaults.heartbeat.inconclusiveToDoubt
  const facts = { inconclusives, work: isOver ? pastWork(current) : current.work }
  const next =
    isOver && current.state === 'busy'
      ? settle(current, facts, reason, context)
      : learn(current, facts, reason, context)
  // The state needs another proof to end, but that nothing comes from there is not true any more.
  return isAnswer && isSilent(next) ? change(next, { reason }, context.nowMs) : next
}

/** Whether the reason of its state is that it does not answer. */
function isSilent({ state, misses }: Verdict): boolean {
  return state === 'down' || state === 'starting' || ((state === 'suspect' || state === 'recovering') && misses > 0)
}

function compare(current: Verdict, same: boolean, reason: string, context: Context): Verdict {
  const facts = { inventorySeen: true, inventoryDue: false, different: same ? undefined : reason }
  return learn(current, facts, reason, context)
}

function countSessions(
  current: Verdict,
  { hung, alive }: { readonly hung: number; readonly alive: number },
  reason: string,
  context: Context,
): Verdict {
  if (!(hung > 0)) return learn(current, { hung: undefined, ...(alive > 0 && { inconclusives: 0 }) }, reason, context)
  if (alive > 0) return learn(current, { hung: reason }, reason, context)
  if (current.state === 'down' || current.state === 'crash_loop') return current
  return fall(current, { failingSinceMs: startOf(current, undefined, context.nowMs) }, reason, context)
}

/** Takes in facts that prove no life: they may change one kind of up into another, and no more. */
function learn(current: Verdict, facts: Partial<Verdict>, reason: string, context: Context): Verdict {
  const known = { ...current, ...facts }
  switch (current.state) {
    case 'healthy':
    case 'suspect':
    case 'degraded':
      return settle(current, facts, reason, context)
    case 'busy':
      return known.different || known.hung
        ? settle(current, facts, reason, context)
        : change(current, facts, context.nowMs)
    case 'recovering':
      return known.goods >= context.limits.goodsToHealthy && !known.inventoryDue
        ? recover(current, facts, reason, context)
        : change(current, facts, context.nowMs)
    case 'starting':
    case 'down':
    case 'crash_loop':
    case 'needs_auth':
    case 'idle':
    case 'paused':
    case 'disabled':
      break
  }
  return change(current, facts, context.nowMs)
}

/** One whose answers come late as a rule, or that has just been busy, may be so for one heartbeat more: that is no news. */
function work(current: Verdict, reason: string, { nowMs }: Context): Verdict {
  const facts = { work: 'now', goods: 0, inconclusives: 0 } as const
  if (current.state === 'busy') return change(current, facts, nowMs)
  if (current.state !== 'healthy' && current.state !== 'suspect') return current
  const isUsual = current.work === 'lately' || (current.work === 'none' && current.late !== undefined)
  return change(current, isUsual ? facts : { ...facts, state: 'busy', reason }, nowMs)
}

/** What is left of its work once something was heard of it. */
function pastWork({ work }: Verdict): Verdict['work'] {
  return work === 'now' ? 'lately' : work
}

function start(current: Verdict, reason: string, { nowMs }: Context): Verdict {
  if (current.state === 'crash_loop' || current.state === 'starting') return current
  const { failingSinceMs, silentSinceMs } = current
  return change(current, { ...blank, failingSinceMs, silentSinceMs, state: 'starting', reason }, nowMs)
}

function rest(current: Verdict, reason: string, { nowMs }: Context): Verdict {
  if (current.state === 'crash_loop' || (current.state === 'idle' && current.misses === 0)) return current
  return change(current, { ...blank, state: 'idle', reason }, nowMs)
}

function hold(current: Verdict, state: 'paused' | 'disabled', reason: string, { nowMs }: Context): Verdict {
  return change(current, { ...blank, state, reason }, nowMs)
}

/** What nothing that runs, or something new, cannot have: rows of answers, hung sessions, a reputation. */
const blank = {
  misses: 0,
  missed: undefined,
  goods: 0,
  failingSinceMs: undefined,
  silentSinceMs: undefined,
  hung: undefined,
  suspected: undefined,
  slow: undefined,
  late: undefined,
  slows: 0,
  work: 'none',
  turnedAway: undefined,
  exited: false,
  inconclusives: 0,
} as const

function outageOf({ inventorySeen }: Verdict) {
  return {
    outage: true,
    goods: 0,
    inventoryDue: inventorySeen,
    different: undefined,
    hung: undefined,
    suspected: undefined,
    slow: undefined,
    late: undefined,
    slows: 0,
    work: 'none',
    turnedAway: undefined,
    exited: false,
    inconclusives: 0,
  } as const
}

function startOf(current: Verdict, atMs: number | undefined, nowMs: number): number {
  return current.failingSinceMs ?? atMs ?? nowMs
}

const slowText = 'it answers every heartbeat, though slowly'
const unknownText = `nobody knows: ${defaults.heartbeat.inconclusiveToDoubt} heartbeats in a row told nothing`

function missText(misses: number, limits: Limits, reason: string): string {
  return `${misses} ${misses === 1 ? 'miss' : 'misses'} (down at ${limits.missesToDown}): ${reason}`
}

function change(current: Verdict, facts: Partial<Verdict>, nowMs: number): Verdict {
  if (!isNews(current, facts)) return current
  const next = { ...current, ...facts }
  return next.state === current.state ? next : { ...next, sinceMs: nowMs }
}

function isNews<T extends object>(current: T, facts: Partial<T>): boolean {
  for (const name in facts) if (facts[name] !== current[name]) return true
  return false
}
