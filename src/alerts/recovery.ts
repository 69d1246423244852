import type { ReceivedAlertKind, RecoveryAction, RecoveryOutcome } from '../telemetry/instruments.ts'
import type { ReceivedAlert } from './received.ts'

/** What an alert asks to be done. */
export interface RecoveryRequest {
  readonly upstream: string
  readonly action: RecoveryAction
  /** Names one occurrence of one alert. */
  readonly occurrence: string
}

/** What was done before, as far as it matters. Plain data; times are monotonic. */
export interface RecoveryMemory {
  /** When each action was last started on each upstream. */
  readonly lastMs: ReadonlyMap<string, number>
  /** The requests that were carried out, the oldest first. */
  readonly done: ReadonlySet<string>
}

export const noRecoveries: RecoveryMemory = { lastMs: new Map(), done: new Set() }

export type Asked =
  | { readonly kind: 'recovery'; readonly request: RecoveryRequest }
  /** Nothing. */
  | { readonly kind: Exclude<ReceivedAlertKind, 'recovery'> }

/** What an alert asks for, by the configured actions alone: nothing else in it counts but its name and its upstream. */
export function askedBy(
  { status, labels, fingerprint, startsAt }: ReceivedAlert,
  actions: ReadonlyMap<string, RecoveryAction>,
  isUpstream: (name: string) => boolean,
): Asked {
  const { alertname = '', upstream = '' } = labels
  const action = actions.get(alertname)
  if (!action) return { kind: 'no_action' }
  if (status === 'resolved') return { kind: 'resolved' }
  if (!isUpstream(upstream)) return { kind: 'no_upstream' }
  return { kind: 'recovery', request: { upstream, action, occurrence: `${fingerprint}\0${startsAt}` } }
}

/** Whether something is to be done now, or why not: it was done for this very occurrence, or too short a time ago. */
export function permit(
  { lastMs, done }: RecoveryMemory,
  request: RecoveryRequest,
  nowMs: number,
  minIntervalMs: number,
): 'go' | Extract<RecoveryOutcome, 'repeated' | 'limited'> {
  if (done.has(doneKey(request))) return 'repeated'
  const last = lastMs.get(placeKey(request))
  return last !== undefined && nowMs - last < minIntervalMs ? 'limited' : 'go'
}

/** It was done. The oldest is forgotten when there are too many to remember. */
export function remember(
  { lastMs, done }: RecoveryMemory,
  request: RecoveryRequest,
  nowMs: number,
  maxRemembered: number,
): RecoveryMemory {
  const all = [...done, doneKey(request)]
  return {
    lastMs: new Map([...lastMs, [placeKey(request), nowMs]]),
    done: new Set(all.slice(Math.max(0, all.length - maxRemembered))),
  }
}

function placeKey({ upstream, action }: RecoveryRequest): string {
  return `${upstream}\0${action}`
}

function doneKey(request: RecoveryRequest): string {
  return `${placeKey(request)}\0${request.occurrence}`
}
