import type { Session } from '../sessions/session.ts'
import type { Transport } from '../upstreams/upstream.ts'
import { type Outcome, isAnswered } from './classify.ts'
import { type HistoryCounts, successPercent } from './history.ts'
import type { HeartbeatReport, HeartbeatStatus } from './contract.ts'

export interface LogLineInput {
  readonly upstream: string
  readonly transport: Transport
  readonly protocolVersion: string | undefined
  readonly report: HeartbeatReport
  readonly status: HeartbeatStatus
  readonly totals: HistoryCounts
  /** The session that was probed, or none for our own. */
  readonly session: Session | undefined
  readonly pendingMessages: number
  readonly nowMs: number
  readonly traceId: string
  readonly includeClient: boolean
  readonly includePerformance: boolean
}

const longestUserAgent = 50

/** The fields of the heartbeat log line; `ts`, `level` and `msg` come from the logger. */
export function heartbeatFields(input: LogLineInput): Record<string, string | number | null> {
  const { upstream, transport, report, status, totals, session, nowMs, traceId } = input
  const { result, timeoutMs } = report
  const intervalMs = report.pace?.intervalMs ?? status.interval.intervalMs
  const nextMs = report.pace?.nextInMs ?? status.nextProbeInMs ?? intervalMs
  return {
    upstream,
    transport,
    leg: result.leg,
    protocol_version: input.protocolVersion ?? null,
    session: session?.key ?? result.session ?? null,
    method: result.method,
    outcome: result.outcome,
    response_time_ms: rounded(result.durationMs, 2),
    heartbeat_count: totals.heartbeats,
    interval_seconds: rounded(intervalMs / 1000, 1),
    next_in_seconds: rounded(nextMs / 1000, 1),
    timeout_ms: Math.round(timeoutMs),
    ...(input.includePerformance && {
      success_rate_percent: successPercent(totals, 2),
      error_rate_percent: rounded(status.interval.inputs.e * 100, 2),
    }),
    state: status.verdict.state,
    reason: isAnswered(result.outcome) ? status.verdict.reason : result.reason,
    session_age_seconds: session ? rounded((nowMs - session.startedAtMs) / 1000, 1) : null,
    pending_messages: session?.pending ?? input.pendingMessages,
    ...(input.includeClient && {
      client_ip: session?.client.ip ?? null,
      user_agent: session ? shortened(session.client.userAgent) : null,
    }),
    trace_id: traceId,
  }
}

/** The first 50 characters, and `…` where there was more; never half of one. */
export function shortened(userAgent: string): string {
  const characters = Array.from(userAgent.slice(0, 2 * longestUserAgent + 1))
  return characters.length > longestUserAgent ? `${characters.slice(0, longestUserAgent).join('')}…` : userAgent
}

/**
 * Nobody needs to be warned of a heartbeat that proves nothing, such as one cut short because its process made way for a
 * client's (`resident: when_idle`).
 */
export function levelOf(outcome: Outcome, isRoutine: boolean): 'info' | 'warn' {
  return isRoutine || outcome === 'inconclusive' ? 'info' : 'warn'
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

/** A heartbeat that may be worth a line. */
export interface Occasion {
  readonly target: string
  readonly isRoutine: boolean
  readonly nowMs: number
  /** How long a routine success says enough about those that follow. */
  readonly intervalMs: number
}

/**
 * Which heartbeats are worth a line: each that is no routine success, and routine ones once per target and interval.
 */
export class LogPacer {
  /** When each target was last written about, the longest ago first; older than an interval means nothing. */
  readonly #lastMs = new Map<string, number>()

  isDue({ target, isRoutine, nowMs, intervalMs }: Occasion): boolean {
    if (!isRoutine) return true
    this.#forget(nowMs - intervalMs)
    if (this.#lastMs.has(target)) return false
    this.#lastMs.set(target, nowMs)
    return true
  }

  /** How many targets are remembered. */
  get size(): number {
    return this.#lastMs.size
  }

  #forget(untilMs: number): void {
    for (const [target, lastMs] of this.#lastMs) {
      if (lastMs > untilMs) return
      this.#lastMs.delete(target)
    }
  }
}
