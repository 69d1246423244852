/** What several dashboards ask about heartbeats and requests, counted as the recording rules count. */
import { isAnswered, isFailure, outcomes, untimedMethods } from '../../../src/heartbeat/classify.ts'
import { label, metrics, semconv } from '../../../src/telemetry/names.ts'
import { type Matches, is, noneOf, oneOf } from '../promql.ts'
import { quantile, share, sumBy } from './expressions.ts'
import type { Scope } from './scope.ts'

export const answeredOutcomes = outcomes.filter(isAnswered)

/** Takes series to their rate or increase. */
export type Over = (series: string) => string

/**
 * The heartbeats that speak for a server as a whole: our own, and those in the sessions of a stdio server, since those
 * are its processes.
 */
function ofServer(select: (matches: Matches) => string, over: Over): string {
  const own = over(select({ [label.leg]: is('upstream') }))
  const inSessions = over(select({ [label.leg]: is('session'), [label.transport]: is('stdio') }))
  return `${own} or ${inSessions}`
}

/** How many heartbeats came to one of these outcomes. */
export function heartbeatsWith(scope: Scope, wanted: readonly string[], labels: readonly string[], over: Over): string {
  const select = (matches: Matches) => scope.series(metrics.heartbeats, { ...matches, [label.outcome]: oneOf(wanted) })
  return sumBy(labels, ofServer(select, over))
}

/** The share of heartbeats that failed, of those that told anything. */
export function heartbeatErrorShare(scope: Scope, labels: readonly string[], over: Over): string {
  const failed = outcomes.filter(isFailure)
  const telling = outcomes.filter((outcome) => isAnswered(outcome) || isFailure(outcome))
  return share(heartbeatsWith(scope, failed, labels, over), heartbeatsWith(scope, telling, labels, over))
}

/** How long answered heartbeats took, as far as that says anything about the server. */
export function heartbeatQuantile(scope: Scope, ratio: number, labels: readonly string[], over: Over): string {
  const answered = { [label.method]: noneOf(untimedMethods), [label.outcome]: oneOf(answeredOutcomes) }
  const select = (matches: Matches) => scope.buckets(metrics.heartbeatDuration, { ...matches, ...answered })
  return quantile(ratio, labels, ofServer(select, over))
}

export const toolCalls: Matches = { [semconv.method]: is('tools/call') }

/** A client that leaves is no failure. */
export const failedOperations: Matches = { [semconv.errorType]: noneOf(['', 'cancelled']) }

/** The share of clients' requests that failed, mistakes of the callers themselves aside. */
export function requestErrorShare(scope: Scope, labels: readonly string[], over: Over, matches: Matches = {}): string {
  const requests = (more: Matches) =>
    sumBy(labels, over(scope.counts(metrics.serverOperationDuration, { ...matches, ...more })))
  return share(requests(failedOperations), requests({}))
}
