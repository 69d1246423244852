import type { Transport } from '../upstreams/upstream.ts'
import { type Condition, type JudgedState, conditionOf } from './condition.ts'
import { type SentAlert, verdictAlerts } from './names.ts'

/** What an alert is about: one upstream, or most of them. */
export type Subject =
  | { readonly upstream: string; readonly transport: Transport }
  | { readonly upstream?: undefined; readonly transport?: undefined }

/** One alert, from its beginning to its end. */
export interface Alert {
  readonly name: SentAlert
  readonly about: Subject
  /** Why, as of now. */
  readonly reason: string
  /** When its cause began, back-dated; the same for as long as it lasts. */
  readonly startsAtWallMs: number
}

/** An alert that is to be told, or to be told to be over. */
export type Notice =
  | { readonly kind: 'firing'; readonly alert: Alert }
  | {
      readonly kind: 'resolved'
      readonly alert: Alert
      readonly endsAtWallMs: number
      /** What is there in its place. */
      readonly now: string
    }

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

/** Everything that alerts follow from. */
export interface Situation {
  readonly upstreams: readonly Judged[]
  /** The names of those that fell silent together; empty while too few did. */
  readonly silentTogether: readonly string[]
}

/** All alerts that are more than nothing, by `keyOf`. */
export type TrackedAlerts = ReadonlyMap<string, Tracked>

/** One alert for each upstream and name. */
export function keyOf({ about, name }: Pick<Alert, 'about' | 'name'>): string {
  return `${about.upstream ?? ''}\0${name}`
}

/**
 * The alerts after one more look at everything, and what is to be told of them. An upstream that is there no more takes
 * its alerts with it: nobody expects anything of it.
 */
export function track(
  before: TrackedAlerts,
  situation: Situation,
  moment: Moment,
  holds: HoldTimes,
): { readonly alerts: TrackedAlerts; readonly notices: readonly Notice[] } {
  const alerts = new Map<string, Tracked>()
  const notices: Notice[] = []
  const looked = looks(situation, moment)
  for (const look of looked) {
    const next = follow(before.get(keyOf(look)), look, moment, holds)
    if (next.tracked) alerts.set(keyOf(look), next.tracked)
    if (next.notice) notices.push(next.notice)
  }
  const present = new Set(looked.map(keyOf))
  for (const [key, tracked] of before) {
    if (present.has(key) || tracked.kind === 'pending') continue
    const endsAtWallMs = tracked.kind === 'ending' ? tracked.endsAtWallMs : moment.wallMs
    notices.push({ kind: 'resolved', alert: tracked.alert, endsAtWallMs, now: 'it is configured no more' })
  }
  return { alerts, notices }
}

/** Those that fire, or whose end nobody was told of yet. */
export function firing(alerts: TrackedAlerts): readonly Alert[] {
  return [...alerts.values()].flatMap(({ kind, alert }) => (kind === 'pending' ? [] : [alert]))
}

/** What is to be said about one alert now. */
interface Look {
  readonly name: SentAlert
  readonly about: Subject
  readonly condition: Condition
  /** How things are, if not as in the alert. */
  readonly now: string
}

function looks({ upstreams, silentTogether }: Situation, { nowMs }: Moment): readonly Look[] {
  const silent = new Set(silentTogether)
  const each = upstreams.flatMap(({ name: upstream, transport, verdict }) =>
    verdictAlerts.map((name) => ({
      name,
      about: { upstream, transport },
      condition: conditionOf(name, verdict, silent.has(upstream)),
      now: `${verdict.state}: ${verdict.reason}`,
    })),
  )
  const reason = `${silentTogether.join(', ')}: the fault is ours or the network's`
  const together: Condition = silentTogether.length > 0 ? { kind: 'on', reason, sinceMs: nowMs } : { kind: 'off' }
  return [...each, { name: 'McpUpstreamsSilentTogether', about: {}, condition: together, now: 'they answer again' }]
}

interface Step {
  readonly tracked?: Tracked | undefined
  readonly notice?: Notice
}

function follow(before: Tracked | undefined, look: Look, moment: Moment, holds: HoldTimes): Step {
  const { condition } = look
  if (condition.kind === 'undecided') return { tracked: before }
  if (condition.kind === 'off') return before ? end(before, look, moment, holds) : {}
  const alert = before ? { ...before.alert, reason: condition.reason } : newAlert(look, condition, moment)
  if (before && before.kind !== 'pending') return { tracked: { kind: 'firing', alert } }
  const seenMs = before?.seenMs ?? moment.nowMs
  if (moment.nowMs - seenMs < holds.forMs) return { tracked: { kind: 'pending', alert, seenMs } }
  return { tracked: { kind: 'firing', alert }, notice: { kind: 'firing', alert } }
}

function end(before: Tracked, { now }: Look, { nowMs, wallMs }: Moment, { keepFiringForMs }: HoldTimes): Step {
  if (before.kind === 'pending') return {}
  const { alert } = before
  const { endedMs, endsAtWallMs } = before.kind === 'ending' ? before : { endedMs: nowMs, endsAtWallMs: wallMs }
  if (nowMs - endedMs < keepFiringForMs) return { tracked: { kind: 'ending', alert, endedMs, endsAtWallMs } }
  return { notice: { kind: 'resolved', alert, endsAtWallMs, now } }
}

function newAlert(
  { name, about }: Look,
  { reason, sinceMs }: Extract<Condition, { kind: 'on' }>,
  { nowMs, wallMs }: Moment,
): Alert {
  return { name, about, reason, startsAtWallMs: Math.min(wallMs, wallMs - (nowMs - sinceMs)) }
}
