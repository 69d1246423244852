import { GivenUp, type KnownError, TooManyRequests, Unanswered, Unreachable } from '../errors.ts'
import { outcomeOf } from '../heartbeat/classify.ts'
import type { Heartbeat } from '../heartbeat/loop.ts'
import type { TrafficEvents } from '../proxy/observe.ts'
import type { Breaker } from '../upstreams/breaker.ts'

/** Who hears what clients' requests to one server met. */
export interface Listeners {
  readonly heartbeat: Pick<Heartbeat, 'trafficAnswered' | 'trafficFailed' | 'trafficGivenUp'>
  readonly breaker: Pick<Breaker, 'succeeded' | 'failed'> | undefined
  /** Whether clients are answered by the very process that heartbeats ask. */
  readonly isOneProcess: boolean
}

/** What clients' requests met is as good as heartbeats, and opens or closes the circuit of their server. */
export function trafficEvents(listenersOf: (upstream: string) => Listeners | undefined): TrafficEvents {
  return {
    onAnswered: (name, from) => {
      const upstream = listenersOf(name)
      if (!from?.isOwnProcess) upstream?.breaker?.succeeded()
      upstream?.heartbeat.trafficAnswered(upstream.isOneProcess)
    },
    onFailed: (name, error, from) => {
      const upstream = listenersOf(name)
      // What one client's own process does says nothing about the others', and the end of any is supervised.
      if (trafficEvidence(error) && !from?.isOwnProcess) upstream?.breaker?.failed(error.message)
      if (upstream) hearFailure(upstream.heartbeat, error, from?.traceId)
    },
  }
}

/** What a client's failed request is to the heartbeat of its server. */
export function hearFailure(heartbeat: Listeners['heartbeat'], error: KnownError, traceId?: string): void {
  if (error instanceof GivenUp) return heartbeat.trafficGivenUp(error.silentMs, traceId)
  const silentMs = error instanceof Unanswered ? error.silentMs : 0
  const outcome = outcomeOf(error)
  if (trafficEvidence(error)) heartbeat.trafficFailed({ outcome, reason: error.message, silentMs, traceId })
}

/** What a failed request proves about the upstream; a process's end is heard from the process itself. */
export function trafficEvidence(error: KnownError): 'silent' | 'missed' | 'gone' | undefined {
  const { code } = error
  if (error instanceof Unreachable) return 'silent'
  if (error instanceof TooManyRequests) return undefined
  if (code === 'upstream_refused') return 'gone'
  if (code === 'upstream_timeout') return 'silent'
  const missed = ['upstream_reset', 'upstream_closed', 'upstream_http_error', 'upstream_invalid']
  return missed.includes(code) ? 'missed' : undefined
}
