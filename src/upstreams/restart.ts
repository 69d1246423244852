import { defaults } from '../defaults.ts'
import { isOwnLack } from './own-lack.ts'
import { describeExit, type ExitReason } from './process.ts'
import type { RestartPolicy, RestartReason } from './upstream.ts'

/** What the restart law remembers between two starts. */
export interface RestartState {
  /** Restarts since the process last stayed ready for long enough; the exponent of the back-off. */
  readonly restarts: number
  /** Starts in a row that failed, those for sessions included. */
  readonly failedStarts: number
  /** How many of `restarts` such starts for sessions stand for: one that succeeds shows that it was not the server. */
  readonly besides: number
  /** When the present start became ready, on the monotonic clock. */
  readonly readyAtMs: number | undefined
}

/** Why nothing runs any more. */
export type Gone =
  | { readonly kind: 'exited'; readonly exit: ExitReason }
  | { readonly kind: 'not_ready'; readonly afterMs: number }
  | { readonly kind: 'replaced'; readonly reason: RestartReason; readonly why?: string | undefined }

/** What to do about it, and why. */
export type RestartDecision =
  | { readonly kind: 'restart'; readonly delayMs: number; readonly why: string }
  | { readonly kind: 'give_up'; readonly retryInMs: number; readonly why: string }
  /** Nothing, until somebody asks for it. */
  | { readonly kind: 'rest'; readonly isFailure: boolean; readonly why: string }

/** The constants of the law; the defaults are those of `defaults.supervision`. */
export interface RestartLaw {
  readonly firstBackoffMs: number
  readonly maxBackoffMs: number
  readonly resetAfterReadyMs: number
  readonly startsBeforeCrashLoop: number
  readonly startsBeforeRefusal: number
  readonly crashLoopRetryMs: number
}

/** Nothing has happened yet. */
export const freshRestartState: RestartState = { restarts: 0, failedStarts: 0, besides: 0, readyAtMs: undefined }

/** The start succeeded: the handshake was answered. With a time to outlive the answer, that is still to be shown. */
export function afterReady(state: RestartState, nowMs: number, outliveMs = 0): RestartState {
  return { ...(outliveMs > 0 ? state : afterFirstWord(state)), readyAtMs: nowMs }
}

/** A process that was started for a session said its first word: if others did not, their clients' words may be why. */
export function afterFirstWord(state: RestartState): RestartState {
  return { ...state, restarts: state.restarts - state.besides, failedStarts: 0, besides: 0 }
}

/** So many starts in a row failed, whoever they were for, that another one hardly helps anybody. */
export function isFailing({ failedStarts }: RestartState, law: RestartLaw = defaults.supervision): boolean {
  return failedStarts >= law.startsBeforeRefusal
}

/** It was stopped on request: that says nothing about it, and only time that it stayed ready forgets the past. */
export function afterStopped(state: RestartState, nowMs: number, law: RestartLaw = defaults.supervision): RestartState {
  return wasStable(state, nowMs, law) ? freshRestartState : { ...state, readyAtMs: undefined }
}

function wasStable({ readyAtMs }: RestartState, nowMs: number, law: RestartLaw): boolean {
  return readyAtMs !== undefined && nowMs - readyAtMs >= law.resetAfterReadyMs
}

/** Full delay before the n-th restart in a row, before jitter: none for the first, then doubling up to the maximum. */
export function backoffMs(restarts: number, law: RestartLaw = defaults.supervision): number {
  return restarts === 0 ? 0 : Math.min(law.maxBackoffMs, law.firstBackoffMs * 2 ** (restarts - 1))
}

/** What the process's end means in the closed list of restart reasons. */
export function restartReason(gone: Gone): RestartReason {
  switch (gone.kind) {
    case 'replaced':
      return gone.reason
    case 'not_ready':
      return 'hung'
    case 'exited':
      return gone.exit.kind === 'signal' ? 'signal' : 'exit'
  }
}

function describeGone(gone: Gone): string {
  switch (gone.kind) {
    case 'replaced':
      return `was stopped to be restarted (${gone.why ?? gone.reason})`
    case 'not_ready':
      return `was not ready within ${gone.afterMs / 1000} s`
    case 'exited':
      return describeExit(gone.exit)
  }
}

/** Trying again changes nothing: no such command, or one that must not be run. */
function isHopeless(exit: ExitReason): boolean {
  switch (exit.kind) {
    case 'spawn_failed':
      return exit.code === 'ENOENT' || exit.code === 'EACCES'
    case 'exit':
      return exit.code === 126 || exit.code === 127
    case 'signal':
      return false
  }
}

/** Nothing was started, and not by its own fault. */
function lacksResources(gone: Gone): boolean {
  return gone.kind === 'exited' && gone.exit.kind === 'spawn_failed' && isOwnLack(gone.exit.code)
}

/** How long until the next start, whoever does not ask for one. */
export function delayOf(decision: RestartDecision): number {
  switch (decision.kind) {
    case 'restart':
      return decision.delayMs
    case 'give_up':
      return decision.retryInMs
    case 'rest':
      return Infinity
  }
}

/** Whether a process may end like that: it has done its work, and is wanted again when somebody asks. */
export function isExpected(gone: Gone, policy: RestartPolicy): boolean {
  return policy === 'on_failure' && gone.kind === 'exited' && gone.exit.kind === 'exit' && gone.exit.code === 0
}

/** The end of a process, and what the law has to know of it. */
export interface GoneEvent {
  readonly gone: Gone
  readonly nowMs: number
  readonly random: number
  readonly policy?: RestartPolicy
  /** One that exits sooner than this after it was ready has failed to start: somebody else may have answered for it. */
  readonly outliveMs?: number
  /** It was started for a session, and never said a word. */
  readonly isBeside?: boolean
}

/**
 * The restart law: at once, then min(60 s, 1 s · 2ⁿ) · U[.5, 1], where `random` in [0, 1) draws the jitter. Staying
 * ready for 120 s forgets the past, and so does a restart that somebody asked for. Ten starts in a row that failed, or
 * one that cannot ever become ready, make it give up and look again every 10 minutes; those that failed for lack of our
 * own resources do not count. The policy may forbid all of that but the restart that somebody asked for.
 */
export function afterGone(
  state: RestartState,
  event: GoneEvent,
  law: RestartLaw = defaults.supervision,
): { readonly state: RestartState; readonly decision: RestartDecision } {
  const { gone, nowMs, random, policy = 'always', outliveMs = 0, isBeside = false } = event
  const why = describeGone(gone)
  if (gone.kind === 'replaced' && (gone.reason === 'manual' || gone.reason === 'config')) {
    return { state: freshRestartState, decision: { kind: 'restart', delayMs: 0, why } }
  }
  if (policy === 'never' || isExpected(gone, policy)) {
    const isFailure = policy === 'never'
    const last = gone.kind === 'replaced' ? `was stopped (${gone.why ?? gone.reason})` : why
    return { state: freshRestartState, decision: { kind: 'rest', isFailure, why: `${last} (restart: ${policy})` } }
  }
  const hasOutlived = gone.kind !== 'exited' || nowMs - (state.readyAtMs ?? nowMs) >= outliveMs
  const wasReady = state.readyAtMs !== undefined && hasOutlived
  const { restarts, besides } = wasStable(state, nowMs, law) ? freshRestartState : state
  const failedStarts = wasReady ? 0 : state.failedStarts + (lacksResources(gone) ? 0 : 1)
  const next = { restarts: restarts + 1, failedStarts, besides: besides + (isBeside ? 1 : 0), readyAtMs: undefined }
  const giveUp = (why: string) =>
    ({ state: next, decision: { kind: 'give_up', retryInMs: law.crashLoopRetryMs, why } }) as const
  if (!wasReady && gone.kind === 'exited' && isHopeless(gone.exit)) return giveUp(why)
  const failure = outliveMs > 0 ? `were never ready for ${outliveMs / 1000} s` : 'never became ready'
  if (failedStarts >= law.startsBeforeCrashLoop) return giveUp(`${why}; ${failedStarts} starts ${failure}`)
  const delayMs = backoffMs(restarts, law) * (0.5 + random / 2)
  return { state: next, decision: { kind: 'restart', delayMs, why } }
}
