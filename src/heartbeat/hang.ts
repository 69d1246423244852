import { defaults } from '../defaults.ts'

/** What is seen of a process, or of a server that is not ours, that has left one more probe unanswered. */
export interface HangSigns {
  /** Probes in a row that it left unanswered, this one included. */
  readonly unanswered: number
  /** Those of them at whose end no client's request was under way. */
  readonly unexplained: number
  /** The present interval between probes. */
  readonly intervalMs: number
  /** Since it last gave any output. */
  readonly silentMs: number
  /** Requests of clients that wait for its answer. */
  readonly inFlight: number
  /** For how long some have waited, as far as was seen; 0 while none does. */
  readonly occupiedMs: number
  /** For how long none has waited; 0 while one does. */
  readonly unoccupiedMs: number
  /** What it and its children used of one core during this probe; undefined where nobody can tell. */
  readonly cpuRatio: number | undefined
  /** A signal stopped it (SIGSTOP), so it does nothing at all. */
  readonly isStopped: boolean
}

/** What an unanswered probe means. */
export type Diagnosis =
  /** It works on what a client asked: no failure. */
  | { readonly kind: 'busy'; readonly reason: string }
  /** A miss, of which more may follow. */
  | { readonly kind: 'silent' }
  /** It will not come back by itself. */
  | { readonly kind: 'hung'; readonly reason: string }

/** What users may set of the law. */
export interface HangTimes {
  /** So long nothing hangs that is silent; or for `silentIntervals`, if that is longer. */
  readonly silentMs: number
  /** One that uses the processor for nothing hangs after this. */
  readonly spinningMs: number
}

/** The constants of the law; the defaults are those of `defaults.hang`. */
export interface HangLaw extends HangTimes {
  readonly unanswered: number
  readonly silentIntervals: number
  /** Less of a core than this is no work. */
  readonly idleCpuRatio: number
  /** A request that uses no processor may wait for somebody else this long. */
  readonly waitingMs: number
  /** No request lasts longer than this. */
  readonly workingMs: number
}

/**
 * Tells a busy process from a hung one (control-law.md, "stdio supervision"). Many servers answer nothing while a tool
 * works, so silence alone proves nothing while a client waits: work shows in CPU time, and a tool that waits for somebody
 * else uses none, which looks like a deadlock until its request has been given up: the silence before that request does not
 * count. Where CPU time is unknown, only that time counts, and a request that came after the silence explains none of it.
 */
export function diagnose(signs: HangSigns, law: HangLaw = defaults.hang): Diagnosis {
  const { unanswered, unexplained, intervalMs, silentMs, inFlight, occupiedMs, cpuRatio, isStopped } = signs
  const isIdle = cpuRatio !== undefined && cpuRatio < law.idleCpuRatio
  const isWorking = cpuRatio !== undefined && !isIdle
  const owedMs = Math.min(silentMs, occupiedMs)
  const isExplained = inFlight > 0 && (cpuRatio !== undefined || unexplained === 0)
  if (isExplained && !isStopped && owedMs < (isWorking ? law.workingMs : law.waitingMs)) {
    const requests = inFlight === 1 ? 'a request is' : `${inFlight} requests are`
    return { kind: 'busy', reason: `busy: ${requests} under way, and ${workText(cpuRatio)}` }
  }
  const isLongSilent = silentMs >= Math.max(law.silentMs, law.silentIntervals * intervalMs)
  if (unanswered < law.unanswered || !isLongSilent) return { kind: 'silent' }
  const since = `no output for ${Math.floor(silentMs / 1000)} s`
  if (isStopped) return { kind: 'hung', reason: `hung: ${since}, and a signal has stopped it` }
  if (isIdle || isSpinning(signs, law)) return { kind: 'hung', reason: `hung: ${since}, and ${workText(cpuRatio)}` }
  return { kind: 'silent' }
}

/** Nobody waits for what it does, or nobody should any more. */
function isSpinning({ silentMs, occupiedMs, unoccupiedMs }: HangSigns, { spinningMs, workingMs }: HangLaw): boolean {
  return Math.min(silentMs, occupiedMs) >= workingMs || Math.min(silentMs, unoccupiedMs) >= spinningMs
}

function workText(cpuRatio: number | undefined): string {
  return cpuRatio === undefined
    ? 'nobody can tell whether it works'
    : `it uses ${Math.round(cpuRatio * 100)} % of a core`
}
