import type { HeartbeatConfig } from '../config/config.ts'
import { LogPacer, heartbeatFields, levelOf } from '../heartbeat/log-line.ts'
import type { HeartbeatReport } from '../heartbeat/contract.ts'
import type { Heartbeat } from '../heartbeat/loop.ts'
import type { Prober } from '../heartbeat/probe.ts'
import type { State } from '../heartbeat/verdict.ts'
import type { Transport } from '../upstreams/upstream.ts'
import type { HeartbeatDeps } from './monitor-deps.ts'

/** Where an answered heartbeat is nothing to write home about. */
const calmStates: ReadonlySet<State> = new Set(['healthy', 'busy', 'idle', 'paused', 'disabled'])

/** Writes the heartbeat log line: every failure, slow answer and restless state, and routine successes now and then. */
export function heartbeatLog(
  { clock, directory, log }: HeartbeatDeps,
  upstream: { readonly name: string; readonly transport: Transport; readonly config: () => HeartbeatConfig },
  prober: Prober,
  heartbeat: () => Heartbeat,
): (report: HeartbeatReport, traceId: string) => void {
  const { name, transport } = upstream
  const pacer = new LogPacer()
  return (report, traceId) => {
    const { result } = report
    const config = upstream.config()
    const isSlow = result.durationMs > config.performanceMonitoring.responseTimeThresholdMs && !result.opening
    // A session that answers is no news because another one, or the server as a whole, is in trouble.
    const isCalm = report.pace !== undefined || calmStates.has(heartbeat().glance().verdict.state)
    const isRoutine = result.outcome === 'ok' && !isSlow && isCalm
    const level = levelOf(result.outcome, isRoutine)
    if ((isRoutine && !config.logging.enhanced) || !log.isLevelEnabled(level)) return
    // Of a thousand idle sessions one line is enough.
    const target = report.pace ? `${result.leg}s` : (result.session ?? '')
    if (!pacer.isDue({ target, isRoutine, nowMs: clock.now(), intervalMs: config.logIntervalMs })) return
    const sessions = [...directory.of(name)]
    const session = sessions.find(({ key }) => key === result.session)
    const fields = heartbeatFields({
      upstream: name,
      transport: result.leg === 'client' ? (session?.transport ?? transport) : transport,
      protocolVersion: session?.protocolVersion ?? prober.describe().protocolVersion,
      report,
      status: heartbeat().status(),
      totals: heartbeat().history.counts(),
      session,
      pendingMessages: sessions.reduce((sum, { pending }) => sum + pending, 0),
      nowMs: clock.now(),
      traceId,
      includeClient: config.logging.clientInfo,
      includePerformance: config.performanceMonitoring.enabled,
    })
    log[level](fields, 'heartbeat')
  }
}
