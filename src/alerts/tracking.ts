import type { Transport } from '../upstreams/upstream.ts'
import { type Condition, type JudgedState, conditionOf } from './condition.ts'
import { type VerdictAlert, verdictAlerts } from './names.ts'

/** One alert about one upstream, from its beginning to its end. */
export interface Alert {
  readonly name: VerdictAlert
  readonly upstream: string
  readonly transport: Transport
  /** Why, as of now. */
  readonly reason: string
  /** When its cause began, back-dated; the same for as long as it lasts. */
  readonly startsAtWallMs: number
}

/** An alert that is to be told, or to be told to be over. */
export type Notice =
  | { readonly kind: 'firing'; readonly alert: Alert }
  | { readonly kind: 'resolved'; readonly alert: Alert; readonly endsAtWallMs: number }

/** Where an alert stands. Times are monotonic. */
export type Tracked =
  /** There is cause for it, but perhaps not for long; nobody was told. */
  | { readonly kind: 'pending'; readonly alert: Alert; readonly seenMs: number }
  | { readonly kind: 'firing'; readonly alert: Alert }
  /** There is no cause for it any more, but perhaps again in a moment; nobody was told. */
  | { readonly kind: 'ending'; readonly alert: Alert; readonly endedMs: number; readonly endsAtWallMs: number }

/** For how long a cause must last before it fires, and be gone before it is over. */
export interface HoldTimes {
  readonly forMs: number
  readonly keepFiringForMs: number
}

export interface Moment {
  readonly nowMs: number
  readonly wallMs: number
}

/** An upstream with the verdict on it. */
export interface Judged {
  readonly name: string
  readonly transport: Transport
  readonly verdict: JudgedState
}

/** All alerts that are more than nothing, by `keyOf`. */
export type TrackedAlerts = ReadonlyMap<string, Tracked>

/** One alert for each upstream and name. */
export function keyOf({ upstream, name }: Pick<Alert, 'upstream' | 'name'>): string {
  return `${upstream}\0${name}`
}

/**
 * The alerts after one more look at all upstreams, and what is to be told of them. An upstream that is there no more
 * takes its alerts with it: nobody expects anything of it.
 */
export function track(
  before: TrackedAlerts,
  upstreams: readonly Judged[],
  moment: Moment,
  holds: HoldTimes,
): { readonly alerts: TrackedAlerts; readonly notices: readonly Notice[] } {
  const alerts = new Map<string, Tracked>()
  const notices: Notice[] = []
  for (const judged of upstreams) {
    for (const name of verdictAlerts) {
      const key = keyOf({ upstream: judged.name, name })
      const next = follow(before.get(key), name, judged, moment, holds)
      if (next.tracked) alerts.set(key, next.tracked)
      if (next.notice) notices.push(next.notice)
    }
  }
  const present = new Set(upstreams.map(({ name }) => name))
  for (const tracked of before.values()) {
    if (present.has(tracked.alert.upstream) || tracked.kind === 'pending') continue
    const endsAtWallMs = tracked.kind === 'ending' ? tracked.endsAtWallMs : moment.wallMs
    notices.push({ kind: 'resolved', alert: tracked.alert, endsAtWallMs })
  }
  return { alerts, notices }
}

/** Those that fire, or whose end nobody was told of yet. */
export function firing(alerts: TrackedAlerts): readonly Alert[] {
  return [...alerts.values()].flatMap(({ kind, alert }) => (kind === 'pending' ? [] : [alert]))
}

interface Step {
  readonly tracked?: Tracked | undefined
  readonly notice?: Notice
}

function follow(
  before: Tracked | undefined,
  name: VerdictAlert,
  judged: Judged,
  moment: Moment,
  holds: HoldTimes,
): Step {
  const condition = conditionOf(name, judged.verdict)
  if (condition.kind === 'undecided') return { tracked: before }
  if (condition.kind === 'off') return before ? end(before, moment, holds) : {}
  const alert = before ? { ...before.alert, reason: condition.reason } : newAlert(name, judged, condition, moment)
  if (before && before.kind !== 'pending') return { tracked: { kind: 'firing', alert } }
  const seenMs = before?.seenMs ?? moment.nowMs
  if (moment.nowMs - seenMs < holds.forMs) return { tracked: { kind: 'pending', alert, seenMs } }
  return { tracked: { kind: 'firing', alert }, notice: { kind: 'firing', alert } }
}

function end(before: Tracked, { nowMs, wallMs }: Moment, { keepFiringForMs }: HoldTimes): Step {
  if (before.kind === 'pending') return {}
  const { alert } = before
  const { endedMs, endsAtWallMs } = before.kind === 'ending' ? before : { endedMs: nowMs, endsAtWallMs: wallMs }
  if (nowMs - endedMs < keepFiringForMs) return { tracked: { kind: 'ending', alert, endedMs, endsAtWallMs } }
  return { notice: { kind: 'resolved', alert, endsAtWallMs } }
}

function newAlert(
  name: VerdictAlert,
  { name: upstream, transport }: Judged,
  { reason, sinceMs }: Extract<Condition, { kind: 'on' }>,
  { nowMs, wallMs }: Moment,
): Alert {
  return { name, upstream, transport, reason, startsAtWallMs: Math.min(wallMs, wallMs - (nowMs - sinceMs)) }
}
