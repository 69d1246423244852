/**
 * The referee of the soak of faults. It knows what was done to which server and what must follow from it, hears all that
 * mcp-vitals tells, and finds what does not fit: a fault that was missed, found too late or for another reason, an action
 * that is wrong or missing, and every alarm, restart and alert without a fault.
 */
import { type SentAlert, sentAlerts } from '../../src/alerts/names.ts'
import type { Outcome } from '../../src/heartbeat/classify.ts'
import type { State } from '../../src/heartbeat/verdict.ts'
import type { RestartReason } from '../../src/upstreams/upstream.ts'
import type { Change } from './fault-watch.ts'

/** What must follow from a fault. */
export interface Expectation {
  readonly verdict: State
  readonly reason: RegExp
  /** What a heartbeat must come to, in `mcp_heartbeats_total`; undefined where none need fail. */
  readonly outcome: Outcome | undefined
  readonly action: RestartReason | 'none'
  /** Other states that it may be told to be in, before or after. */
  readonly mayBe?: readonly State[]
  /** From the fault to the verdict, by the law of control. */
  readonly withinMs: number
}

/** What the metrics have counted of one server: its restarts by reason, and its heartbeats by outcome. */
export interface Counts {
  readonly restarts: ReadonlyMap<string, number>
  readonly heartbeats: ReadonlyMap<string, number>
}

export interface Fault {
  readonly upstream: string
  readonly kind: string
  readonly expected: Expectation
}

/** A fault, from the moment at which it was made until its server was well again. Times are wall time. */
export interface Episode extends Fault {
  readonly openedMs: number
  readonly before: Counts
  readonly closedMs: number
  readonly after: Counts | undefined
  /** Why it was given up, if the server did not become well. */
  readonly trouble: string | undefined
}

/** An alert that people were told of; without an end it still fires. */
export interface AlertTold {
  readonly name: string
  readonly upstream: string
  readonly startsAtMs: number
  readonly endsAtMs: number | undefined
}

export interface AlertTimes {
  /** A cause that lasts longer than this must have been told … */
  readonly mustAfterMs: number
  /** … and its start may be dated so long before the fault: the heartbeat that it met was under way. */
  readonly backdatedMs: number
}

/** What came of all faults of one kind. */
export interface KindSummary {
  readonly kind: string
  readonly injected: number
  readonly found: number
  readonly meanSeconds: number
  readonly maxSeconds: number
}

/** These states alarm nobody: it answers, or one heartbeat more will tell. */
const quiet: ReadonlySet<string> = new Set<State>(['healthy', 'suspect', 'recovering'])

/** The state that each alert is about. */
const causes: Readonly<Record<SentAlert, State | undefined>> = {
  McpUpstreamDown: 'down',
  McpProcessCrashLooping: 'crash_loop',
  McpUpstreamNeedsAuth: 'needs_auth',
  McpInventoryShrank: 'degraded',
  McpSessionsWithIssues: 'degraded',
  McpUpstreamsSilentTogether: undefined,
}

export class Referee {
  readonly #alertTimes: AlertTimes
  readonly #episodes: Episode[] = []
  readonly #changes: Change[] = []
  readonly #alerts = new Map<string, AlertTold>()
  /** The restarts of each server when it was last known to be well. */
  readonly #restarts = new Map<string, ReadonlyMap<string, number>>()
  readonly #problems: string[] = []

  constructor(alertTimes: AlertTimes) {
    this.#alertTimes = alertTimes
  }

  /** The fault is about to be made. Returns what its end is to be told with. */
  open(fault: Fault, before: Counts, nowMs: number): number {
    this.#mustBeUnchanged(fault.upstream, before)
    const open = { closedMs: Number.POSITIVE_INFINITY, after: undefined, trouble: undefined }
    return this.#episodes.push({ ...fault, ...open, before, openedMs: nowMs }) - 1
  }

  /** Its server is well again, or never will be. */
  close(index: number, after: Counts, nowMs: number, trouble?: string): void {
    const episode = this.#at(index)
    this.#episodes[index] = { ...episode, after, closedMs: nowMs, trouble }
    this.#restarts.set(episode.upstream, after.restarts)
  }

  /** The run is over: what the metrics count of this server in the end. */
  finish(upstream: string, counts: Counts): void {
    this.#mustBeUnchanged(upstream, counts)
  }

  told(change: Change): void {
    this.#changes.push(change)
  }

  alerted(alert: AlertTold): void {
    this.#alerts.set(`${alert.name} ${alert.upstream} ${alert.startsAtMs}`, alert)
  }

  /** When the verdict that this fault calls for was told; undefined as long as it was not. */
  foundMs(index: number): number | undefined {
    return this.#found(this.#at(index))?.atMs
  }

  /** What was told of its server since the fault, for people. */
  toldSince(index: number): string {
    const told = this.#toldOf(this.#at(index))
    return told.map(({ state = 'hang', reason }) => `${state} (${reason})`).join(', ') || 'nothing'
  }

  /** Everything that is wrong, once the run is over. */
  problems(): readonly string[] {
    return [
      ...this.#problems,
      ...this.#episodes.flatMap((episode, index) => this.#judge(episode, index)),
      ...this.#changes.flatMap((change) => this.#alarm(change)),
      ...[...this.#alerts.values()].flatMap((alert) => this.#falseAlert(alert)),
      ...this.#causesNotTold(),
    ]
  }

  kinds(): readonly KindSummary[] {
    const groups = Map.groupBy(this.#episodes, ({ kind }) => kind)
    return [...groups].map(([kind, episodes]) => {
      const seconds = episodes.flatMap((episode) => {
        const found = this.#found(episode)
        return found ? [(found.atMs - episode.openedMs) / 1000] : []
      })
      const meanSeconds = seconds.reduce((sum, one) => sum + one, 0) / seconds.length
      return { kind, injected: episodes.length, found: seconds.length, meanSeconds, maxSeconds: Math.max(...seconds) }
    })
  }

  /** How many alerts were told. */
  alertsTold(): number {
    return this.#alerts.size
  }

  #at(index: number): Episode {
    const episode = this.#episodes[index]
    if (!episode) throw new Error(`there is no episode ${index}`)
    return episode
  }

  #mustBeUnchanged(upstream: string, { restarts }: Counts): void {
    const more = gained(this.#restarts.get(upstream) ?? new Map(), restarts)
    if (more !== '') this.#problems.push(`restarted without a fault: ${upstream}: ${more}`)
    this.#restarts.set(upstream, restarts)
  }

  #toldOf({ upstream, openedMs, closedMs }: Episode): readonly Change[] {
    return this.#changes.filter(
      (change) => change.upstream === upstream && change.atMs >= openedMs && change.atMs <= closedMs,
    )
  }

  #found(episode: Episode): Change | undefined {
    const { verdict, reason } = episode.expected
    return this.#toldOf(episode).find((change) => change.state === verdict && reason.test(change.reason))
  }

  #judge(episode: Episode, index: number): readonly string[] {
    const { kind, upstream, expected, openedMs, before, after, trouble } = episode
    const { verdict, outcome, action, withinMs } = expected
    const found = this.#found(episode)
    const what = `${kind} of ${upstream}`
    const told = `told were ${this.toldSince(index)}`
    const problems: string[] = []
    if (!found) problems.push(`missed: ${what} was never ${verdict} for that reason; ${told}`)
    else if (found.atMs - openedMs > withinMs)
      problems.push(`found late: ${what} after ${found.atMs - openedMs} ms, not ${withinMs} ms`)
    if (trouble !== undefined) problems.push(`never well again: ${what}: ${trouble}; ${told}`)
    if (!after) return problems
    const done = gained(before.restarts, after.restarts)
    const due = action === 'none' ? '' : `1 × ${action}`
    if (done !== due) problems.push(`wrong action: ${what}: restarts ${done || 'none'}, not ${due || 'none'}; ${told}`)
    if (outcome !== undefined && (after.heartbeats.get(outcome) ?? 0) <= (before.heartbeats.get(outcome) ?? 0))
      problems.push(`not counted: ${what}: no heartbeat was ${outcome}`)
    return problems
  }

  /** A change that no fault explains. */
  #alarm({ upstream, state, reason, atMs }: Change): readonly string[] {
    if (state !== undefined && quiet.has(state)) return []
    const what = state ?? 'hung'
    const episode = this.#episodeAt(upstream, atMs)
    if (!episode) return [`false alarm: ${upstream} is ${what}: ${reason}`]
    const { verdict, mayBe = [], action } = episode.expected
    const isRight = state === undefined ? action === 'hung' : [verdict, ...mayBe].some((one) => one === state)
    return isRight ? [] : [`wrong verdict: ${episode.kind} of ${upstream} made it ${what}: ${reason}`]
  }

  #episodeAt(upstream: string, atMs: number, earlierMs = 0): Episode | undefined {
    return this.#episodes.find(
      (episode) => episode.upstream === upstream && episode.openedMs - earlierMs <= atMs && atMs <= episode.closedMs,
    )
  }

  #falseAlert({ name, upstream, startsAtMs }: AlertTold): readonly string[] {
    const episode = this.#episodeAt(upstream, startsAtMs, this.#alertTimes.backdatedMs)
    const { verdict, mayBe = [] } = episode?.expected ?? {}
    const known = sentAlerts.find((one) => one === name)
    const cause = known && causes[known]
    const isRight = cause !== undefined && (cause === verdict || mayBe.includes(cause))
    return isRight ? [] : [`false alert: ${name} for ${upstream || 'all'} at ${new Date(startsAtMs).toISOString()}`]
  }

  /** States that lasted and about which there is an alert, and that nobody was told of. */
  #causesNotTold(): readonly string[] {
    const byServer = Map.groupBy(
      this.#changes.filter(({ state }) => state !== undefined),
      ({ upstream }) => upstream,
    )
    const told = [...this.#alerts.values()]
    return [...byServer].flatMap(([upstream, changes]) =>
      changes.flatMap(({ state, atMs, reason }, at) => {
        const untilMs = changes[at + 1]?.atMs ?? atMs
        const names = sentAlerts.filter((name) => causes[name] === state)
        if (names.length === 0 || untilMs - atMs < this.#alertTimes.mustAfterMs) return []
        const isTold = told.some(
          ({ name, upstream: about, startsAtMs, endsAtMs = Number.POSITIVE_INFINITY }) =>
            names.some((one) => one === name) && about === upstream && startsAtMs <= untilMs && endsAtMs >= atMs,
        )
        return isTold ? [] : [`no alert: ${upstream} was ${state} for ${untilMs - atMs} ms: ${reason}`]
      }),
    )
  }
}

/** What there is more of than before: `1 × signal`. */
function gained(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string {
  return [...after]
    .map(([reason, count]) => [reason, count - (before.get(reason) ?? 0)] as const)
    .filter(([, more]) => more !== 0)
    .map(([reason, more]) => `${more} × ${reason}`)
    .join(', ')
}
