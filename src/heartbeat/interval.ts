import { defaults } from '../defaults.ts'
import type { OwnLoad } from './load.ts'
import { ownLoad, ramp } from './load.ts'

/** What the exported metrics gained since the last decision about one upstream, and how long they had gained nothing. */
export interface ReadingDiff {
  readonly heartbeats: number
  readonly failures: number
  /** Mean round trip of the answered ones; undefined when none was answered. */
  readonly rttMeanMs: number | undefined
  readonly elapsedMs: number
}

export interface IntervalSettings {
  /** Off: always `initialMs`, to the millisecond. */
  readonly adaptive: boolean
  readonly initialMs: number
  readonly minMs: number
  readonly maxMs: number
  /** Whether failures may shorten the interval. */
  readonly errorBased: boolean
  /** Whether slow answers may shorten it, and our own load lengthen it. */
  readonly loadBased: boolean
  /** Whether crossing one of the two thresholds below makes an upstream suspect. */
  readonly thresholdsEnabled: boolean
  readonly errorRateThresholdRatio: number
  readonly responseTimeThresholdMs: number
}

/** What the law remembers between two decisions. */
export interface IntervalState {
  readonly intervalMs: number
  /** Failure ratio, averaged over about 30 s. */
  readonly failureRatio: number
  readonly rtt: Rtt | undefined
  /** Decisions in a row without suspicion. */
  readonly goods: number
}

interface Rtt {
  readonly shortMs: number
  readonly baselineMs: number
  /** For how long answers have been slow without a failure; absent while they are not. */
  readonly slowForMs?: number
}

export interface IntervalInput {
  readonly diff: ReadingDiff
  /** Consecutive misses; they act at once, before any metric was collected. */
  readonly misses: number
  /** The upstream is gone: exit, refused connection, spawn failure. */
  readonly hardFailure: boolean
  readonly load: OwnLoad
  /** Its state while that is not up, for the words alone. */
  readonly trouble?: string | undefined
}

export interface IntervalDecision {
  readonly state: IntervalState
  readonly intervalMs: number
  /** 0…1 for the verdict, whatever parts of the adaptation are switched off: by failures, and by slow answers. */
  readonly suspicion: number
  readonly slowness: number
  /** Whether the last answers were slow themselves, and not only those before that are remembered. */
  readonly isSlow: boolean
  /** What is suspicious about the upstream, in words; undefined while nothing is. */
  readonly doubt: string | undefined
  /** The decision in words, with its inputs; made only for whoever reads them. */
  readonly why: () => string
  /** The law's own letters: failure ratio, RTT ratio, misses, own load, and the suspicion that drives the interval. */
  readonly inputs: {
    readonly e: number
    readonly r: number
    readonly m: number
    readonly load: number
    readonly S: number
    readonly targetMs: number
  }
}

const law = defaults.suspicion
const { goodsToLengthen, recoverySteps, deadBandRatio, jitterRatio } = defaults.adaptation

/** The state before the first heartbeat. */
export function newInterval(settings: IntervalSettings): IntervalState {
  return { intervalMs: settings.initialMs, failureRatio: 0, rtt: undefined, goods: 0 }
}

const trust = { suspicion: 0, slowness: 0, isSlow: false, doubt: undefined } as const

/** What stands until the first decision. */
export function firstDecision(settings: IntervalSettings): IntervalDecision {
  const state = newInterval(settings)
  const intervalMs = clamp(state.intervalMs, boundsOf(settings))
  const inputs = { e: 0, r: 1, m: 0, load: 0, S: 0, targetMs: intervalMs }
  return { state, intervalMs, ...trust, why: () => `${seconds(intervalMs)}: no heartbeat yet`, inputs }
}

/** The decision that stands after other settings came into force, until the next one by evidence. */
export function retune(state: IntervalState, before: IntervalSettings, after: IntervalSettings): IntervalDecision {
  // A bound that moves takes the interval along only as far as it must; a fixed interval is no experience to keep.
  const fromMs = before.adaptive && after.adaptive ? state.intervalMs : after.initialMs
  const intervalMs = clamp(fromMs, boundsOf(after))
  const inputs = {
    e: state.failureRatio,
    r: state.rtt ? rttRatio(state.rtt) : 1,
    m: 0,
    load: 0,
    S: 0,
    targetMs: intervalMs,
  }
  const why = () => `${seconds(intervalMs)}: the configuration changed`
  return { state: { ...state, intervalMs, goods: 0 }, intervalMs, ...trust, why, inputs }
}

/**
 * Decides the next interval: suspicion shortens it, calm lengthens it slowly, and only our own load may slow it down.
 *
 * From any state the interval never grows with suspicion and never shrinks with our own load. It reaches its target in
 * one step after a failure, halves at most per step on softer signs, and never passes it.
 */
export function adapt(state: IntervalState, input: IntervalInput, settings: IntervalSettings): IntervalDecision {
  const bounds = boundsOf(settings)
  const failureRatio = foldFailures(state.failureRatio, input.diff)
  const failed = input.hardFailure || input.misses > 0
  const rtt = foldRtt(state.rtt, input.diff, failed)
  const errorSign = failed ? 1 : suspicionByErrors(failureRatio, settings)
  const slowSign = rtt ? suspicionBySlowness(rtt, settings) : 0
  const load = ownLoad(input.load)

  const S = Math.max(settings.errorBased ? errorSign : 0, settings.loadBased ? slowSign : 0)
  const L = settings.loadBased ? load : 0
  const targetMs = targetOf(bounds, S, L)
  const goods = S >= law.suspect ? 0 : S <= law.calm ? state.goods + 1 : state.goods
  const fromMs = clamp(state.intervalMs, bounds)
  const failedNow = failed && settings.errorBased
  const stepMs = step(fromMs, { targetMs, S, failed: failedNow, goods, recoveryMs: recoveryStep(bounds) })
  // The shortest interval that this load affords, under the gravest suspicion: more load lengthens at once, this far.
  const affordableMs = targetOf(bounds, 1, L)
  const intervalMs = clamp(Math.max(stepMs, affordableMs), bounds)

  const r = rtt ? rttRatio(rtt) : 1
  const inputs = { e: failureRatio, r, m: input.misses, load, S, targetMs }
  const why = () => {
    const mood = moodOf(input, { errorSign, slowSign, settings })
    return explain({ settings, fromMs, intervalMs, failed: failedNow, goods, rtt, inputs, mood })
  }
  const next = { intervalMs, failureRatio, rtt, goods }
  const isSlow = rtt !== undefined && isSlowNow(rtt, input.diff, settings)
  const signs = { suspicion: errorSign, slowness: slowSign }
  const doubt = doubtIn({ ...signs, failureRatio, rtt, diff: input.diff, settings })
  return { state: next, intervalMs, ...signs, isSlow, doubt, why, inputs }
}

export interface Draw {
  readonly intervalMs: number
  /** A probe was missed, and the next ones tell whether that was a blip. */
  readonly isConfirming: boolean
  /** 0…1 */
  readonly random: number
}

/**
 * From the start of one probe to the start of the next: the interval ± 10 %, within its bounds.
 *
 * Two things differ from control-law.md. What jitter takes beyond a bound is reflected, not cut off: else half of the
 * calm probes would be exactly the longest interval apart, without any jitter, and outages found a third of a second
 * later on average. And what missed is asked again after the interval to the millisecond: at the shortest interval jitter
 * could only delay the verdict (by half a second on average), and probes that missed at moments of their own need none
 * to stay apart.
 */
export function nextDelayMs({ intervalMs, isConfirming, random }: Draw, settings: IntervalSettings): number {
  const bounds = boundsOf(settings)
  const share = isConfirming || Number.isNaN(random) ? 0.5 : Math.min(1, Math.max(0, random))
  const drawnMs = clamp(intervalMs, bounds) * (1 + jitterRatio * (2 * share - 1))
  return clamp(reflected(drawnMs, bounds), bounds)
}

function reflected(valueMs: number, { minMs, maxMs }: Bounds): number {
  if (valueMs > maxMs) return 2 * maxMs - valueMs
  return valueMs < minMs ? 2 * minMs - valueMs : valueMs
}

/**
 * How long after the first probe the second one starts: the same for ever for this upstream and this instance of us,
 * and spread evenly over the interval, so that a fleet started at once does not probe at once.
 */
export function firstOffsetMs(upstream: string, instance: string, intervalMs: number): number {
  return intervalMs > 0 && Number.isFinite(intervalMs) ? fnv1a(`${upstream}\n${instance}`) % intervalMs : 0
}

/** Between two probes there is never less, whatever else is due. */
export function shortestMs(settings: IntervalSettings): number {
  return boundsOf(settings).minMs
}

interface Bounds {
  readonly minMs: number
  readonly maxMs: number
  readonly initialMs: number
}

/** A fixed interval is an adaptive one without room. */
function boundsOf({ adaptive, initialMs, minMs, maxMs }: IntervalSettings): Bounds {
  if (!adaptive) return { initialMs, minMs: initialMs, maxMs: initialMs }
  return { initialMs, minMs, maxMs: Math.max(minMs, maxMs) }
}

function clamp(valueMs: number, { initialMs, minMs, maxMs }: Bounds): number {
  return Math.min(maxMs, Math.max(minMs, Number.isNaN(valueMs) ? initialMs : valueMs))
}

function recoveryStep({ minMs, maxMs }: Bounds): number {
  return (maxMs - minMs) / recoverySteps
}

/** Geometric between the bounds: suspicion 1 asks for the shortest interval; our own full load halves what it asks. */
function targetOf({ minMs, maxMs }: Bounds, S: number, L: number): number {
  return maxMs * (minMs / maxMs) ** (S * (1 - 0.5 * L))
}

interface Step {
  readonly targetMs: number
  readonly S: number
  readonly failed: boolean
  readonly goods: number
  readonly recoveryMs: number
}

function step(fromMs: number, { targetMs, S, failed, goods, recoveryMs }: Step): number {
  if (failed) return targetMs
  if (S >= law.suspect) {
    return targetMs < (1 - deadBandRatio) * fromMs ? Math.max(targetMs, fromMs / 2) : fromMs
  }
  // Upwards only: else a calm history would shorten an interval that a restless one leaves alone.
  return goods >= goodsToLengthen ? Math.max(fromMs, Math.min(targetMs, fromMs + recoveryMs)) : fromMs
}

function suspicionByErrors(failureRatio: number, settings: IntervalSettings): number {
  return Math.max(ramp(failureRatio, ...law.failureRatio), failsTooOften(failureRatio, settings) ? law.suspect : 0)
}

function failsTooOften(failureRatio: number, settings: IntervalSettings): boolean {
  return settings.thresholdsEnabled && failureRatio > settings.errorRateThresholdRatio
}

function suspicionBySlowness(rtt: Rtt, settings: IntervalSettings): number {
  const slowed = rtt.shortMs - rtt.baselineMs >= law.noticeableMs
  return Math.max(slowed ? ramp(rttRatio(rtt), ...law.rttRatio) : 0, isTooSlow(rtt, settings) ? law.suspect : 0)
}

/** As slow as it takes for suspicion to go on. */
function isSlowNow({ baselineMs }: Rtt, { rttMeanMs = 0 }: ReadingDiff, settings: IntervalSettings): boolean {
  return suspicionBySlowness({ shortMs: rttMeanMs, baselineMs }, settings) > law.calm
}

function isTooSlow({ shortMs }: Rtt, settings: IntervalSettings): boolean {
  return settings.thresholdsEnabled && shortMs > settings.responseTimeThresholdMs
}

function rttRatio({ shortMs, baselineMs }: Rtt): number {
  return shortMs / Math.max(baselineMs, 0.001)
}

/** An average in continuous time: uneven probing must not weigh some moments more than others. */
function fold(average: number, sample: number, elapsedMs: number, tauMs: number): number {
  const passedMs = elapsedMs > 0 ? elapsedMs : 0
  return average + (1 - Math.exp(-passedMs / tauMs)) * (sample - average)
}

function foldFailures(average: number, { heartbeats, failures, elapsedMs }: ReadingDiff): number {
  const ratio = failures / heartbeats
  if (!(heartbeats > 0) || Number.isNaN(ratio)) return average
  return fold(average, Math.min(1, Math.max(0, ratio)), elapsedMs, law.failureTauMs)
}

/**
 * An illness is not a new normal: the baseline stands still while answers are slow. A level that lasts without a failure
 * is one after all, as after a move to another machine; from then on the baseline follows it.
 */
function foldRtt(rtt: Rtt | undefined, diff: ReadingDiff, failed: boolean): Rtt | undefined {
  const { rttMeanMs, elapsedMs, failures } = diff
  if (rttMeanMs === undefined || !Number.isFinite(rttMeanMs) || rttMeanMs < 0) {
    return rtt && (failed || failures > 0) ? { shortMs: rtt.shortMs, baselineMs: rtt.baselineMs } : rtt
  }
  if (!rtt) return { shortMs: rttMeanMs, baselineMs: rttMeanMs }
  const { baselineMs, slowForMs = 0 } = rtt
  const shortMs = fold(rtt.shortMs, rttMeanMs, elapsedMs, law.shortRttTauMs)
  const followed = fold(baselineMs, rttMeanMs, elapsedMs, law.baselineRttTauMs)
  if (rttRatio({ shortMs, baselineMs }) < law.frozenRatio) return { shortMs, baselineMs: followed }
  const isIll = failed || failures > 0
  const lastsMs = isIll ? 0 : slowForMs + (elapsedMs > 0 ? elapsedMs : 0)
  return { shortMs, baselineMs: lastsMs < law.newNormalMs ? baselineMs : followed, slowForMs: lastsMs }
}

interface Signs {
  readonly suspicion: number
  readonly slowness: number
  readonly failureRatio: number
  readonly rtt: Rtt | undefined
  readonly diff: ReadingDiff
  readonly settings: IntervalSettings
}

function doubtIn({ suspicion, slowness, failureRatio, rtt, diff, settings }: Signs): string | undefined {
  if (suspicion < law.suspect && slowness < law.suspect) return undefined
  const failures = suspicion >= law.suspect ? failureText(failureRatio, diff, settings) : undefined
  const slow = rtt && slowness >= law.suspect ? slowText(rtt, settings) : undefined
  return [failures, slow].filter((text) => text !== undefined).join('; ')
}

function failureText(ratio: number, { failures, heartbeats }: ReadingDiff, settings: IntervalSettings): string {
  const tooOften = failsTooOften(ratio, settings) ? tooOftenText(settings) : ''
  if (!(failures > 0) && ratio < 0.005) return 'a heartbeat or request has just failed'
  if (!(failures > 0)) return `${percent(ratio)} of recent heartbeats and requests failed${tooOften}`
  const last = heartbeats === 1 ? 'heartbeat or request' : `${heartbeats} heartbeats and requests`
  const share = heartbeats === 1 ? `the last ${last}` : `${failures} of the last ${last}`
  return `${share} failed, ${percent(ratio)} of the recent ones${tooOften}`
}

function slowText(rtt: Rtt, settings: IntervalSettings): string {
  const ratio = rttRatio(rtt)
  const times = `${ratio < 10 ? ratio.toFixed(1) : Math.round(ratio)}×`
  const tooSlow = isTooSlow(rtt, settings) ? tooSlowText(settings) : ''
  return `answers take ${millis(rtt.shortMs)}, ${times} their baseline of ${millis(rtt.baselineMs)}${tooSlow}`
}

function tooOftenText({ errorRateThresholdRatio }: IntervalSettings): string {
  return `, above the ${percent(errorRateThresholdRatio)} of error_rate_threshold_percent`
}

function tooSlowText({ responseTimeThresholdMs }: IntervalSettings): string {
  return `, above the ${millis(responseTimeThresholdMs)} of response_time_threshold_ms`
}

interface Explanation {
  readonly settings: IntervalSettings
  readonly fromMs: number
  readonly intervalMs: number
  readonly failed: boolean
  readonly goods: number
  readonly rtt: Rtt | undefined
  readonly inputs: IntervalDecision['inputs']
  /** How the upstream is where nothing about it changes the interval. */
  readonly mood: string
}

function explain(explanation: Explanation): string {
  const { intervalMs, rtt, inputs, settings } = explanation
  const failed = `${percent(inputs.e)} of recent heartbeats and requests failed`
  const failures =
    inputs.e < 0.005 ? 'no recent failures' : failed + (failsTooOften(inputs.e, settings) ? tooOftenText(settings) : '')
  const answers = rtt
    ? `answers at ${inputs.r.toFixed(1)}× their baseline of ${millis(rtt.baselineMs)}${isTooSlow(rtt, settings) ? tooSlowText(settings) : ''}`
    : 'no answer measured yet'
  return `${seconds(intervalMs)}: ${motive(explanation)} (${failures}, ${answers}, own load ${percent(inputs.load)})`
}

function motive({ settings, fromMs, intervalMs, failed, goods, inputs, mood }: Explanation): string {
  const { m, S, targetMs } = inputs
  if (!settings.adaptive) return 'fixed, adaptive heartbeats are off'
  if (failed) return failedText(m)
  const suspicion = `suspicion ${S.toFixed(2)}`
  if (S >= law.suspect) {
    return intervalMs < fromMs ? `${suspicion}, shortening towards ${seconds(targetMs)}` : suspicion
  }
  if (S > law.calm) return `${suspicion}, too little to act on`
  if (intervalMs >= targetMs) return mood
  const left = goodsToLengthen - goods
  return left > 0
    ? `${mood}, lengthening after ${left} more good ${left === 1 ? 'probe' : 'probes'}`
    : `${mood}, lengthening towards ${seconds(targetMs)}`
}

function failedText(misses: number): string {
  return misses > 0 ? `${misses} ${misses === 1 ? 'miss' : 'misses'} in a row` : 'the upstream is gone'
}

interface Heeded {
  readonly errorSign: number
  readonly slowSign: number
  readonly settings: IntervalSettings
}

/** Calm, unless something is wrong with it that the interval does not follow. */
function moodOf({ misses, hardFailure, trouble }: IntervalInput, { errorSign, slowSign, settings }: Heeded): string {
  const failures = misses > 0 || hardFailure ? failedText(misses) : 'failures'
  const unheeded = [
    trouble,
    !settings.errorBased && errorSign > law.calm ? `${failures} with error_based_adjustment off` : undefined,
    !settings.loadBased && slowSign > law.calm ? 'slow answers with load_based_adjustment off' : undefined,
  ].filter((text) => text !== undefined)
  return unheeded.length > 0 ? unheeded.join(', ') : 'calm'
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}

function millis(ms: number): string {
  return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`
}

function percent(ratio: number): string {
  return `${Math.round(ratio * 100)} %`
}

/** FNV-1a, 32 bits, over UTF-16 code units: stable across processes, which is all that is asked of it. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  }
  return hash >>> 0
}
