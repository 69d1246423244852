import type { DebugReport, DebugUpstream } from '../../src/admin/debug.ts'
import { Heartbeat } from '../../src/heartbeat/loop.ts'
import type { Monitored } from '../../src/heartbeat/monitored.ts'
import { Scheduler } from '../../src/heartbeat/scheduler.ts'
import { pipeline } from '../telemetry/fixture.ts'
import { type Check, type Script, ScriptedProber } from '../support/scripted-prober.ts'
import { heartbeatSettings } from '../support/settings.ts'

const settings = { ...heartbeatSettings, adaptive: false }

/** Upstreams with real heartbeats and real metrics in virtual time; only what the probers find is the test's. */
export function monitoring() {
  const { clock, reader, recorder } = pipeline()
  const scheduler = new Scheduler({ clock, perSecond: 50, inFlight: 16, slotMs: 250, onError: () => {} })
  const upstreams: Monitored[] = []
  const add = (name: string, script: Check | Script = {}, parts: Partial<Monitored> = {}) => {
    const prober = new ScriptedProber(clock, script)
    const transport = parts.transport ?? 'http'
    const heartbeat = new Heartbeat({
      upstream: name,
      transport,
      instance: 'pod',
      prober,
      scheduler,
      clock,
      random: () => 0.5,
      settings,
      readings: () => Promise.resolve({ heartbeats: 0, failures: 0, rttMeanMs: undefined, elapsedMs: 0 }),
      ownLoad: () => ({ loopDelayP99Ms: 0, loopUtilisation: 0, probeBacklog: 0 }),
      events: {
        onHeartbeat: ({ result: { leg, method, outcome, durationMs } }) => {
          const durationSeconds = durationMs / 1000
          recorder.recordHeartbeat({ upstream: name, transport, leg, method, outcome, durationSeconds })
          return ''
        },
        onReport: () => {},
        onVerdict: () => {},
        onInventory: () => {},
        onNewFailure: () => {},
        onPauseRenewed: () => {},
      },
    })
    const monitored: Monitored = {
      name,
      transport,
      access: { kind: 'pipe' },
      heartbeat,
      prober,
      processes: () => [],
      lastEnded: () => undefined,
      restarts: () => undefined,
      nextStartInMs: () => undefined,
      tryAgain: () => Promise.resolve(),
      connections: () => undefined,
      requestsInFlight: () => 0,
      stop: () => heartbeat.stop(),
      ...parts,
    }
    upstreams.push(monitored)
    heartbeat.start()
    return { prober, heartbeat }
  }
  return { clock, reader, recorder, upstreams, add }
}

/** One upstream as `/debug/heartbeat` shows it. */
export function shownUpstream(changes: Partial<DebugUpstream> = {}): DebugUpstream {
  return {
    transport: 'http',
    state: 'healthy',
    since: '2026-01-01T00:00:00.000Z',
    reason: 'ping answered',
    era: 'legacy',
    protocol_version: '2025-11-25',
    probe: 'ping',
    rung: 'ping',
    probe_mode: 'active',
    paused_until: null,
    draining_until: null,
    flap_penalty: 0,
    interval_seconds: 10,
    next_probe_in_seconds: 4.2,
    why_this_interval: '10 s: calm',
    timeout_ms: 2000,
    last_success: null,
    unavailable_seconds: 0,
    response_time_ms: { p50: 1, p95: 20, p99: 1500 },
    heartbeats: { total: 1234, failed: 0, success_rate_percent: 100 },
    tools: 13,
    requests_in_flight: 0,
    circuit: null,
    connections: null,
    recent: [],
    failures: [],
    patterns: [],
    process: null,
    ...changes,
  }
}

/** A whole report about these upstreams. */
export function shownReport(upstreams: Readonly<Record<string, DebugUpstream>>): DebugReport {
  return {
    heartbeat_enabled: true,
    timestamp: '2026-01-01T00:07:00.000Z',
    overall_metrics: {
      total_sessions: 3,
      total_heartbeats: 100,
      successful_heartbeats: 98,
      failed_heartbeats: 2,
      overall_success_rate: 98,
      average_response_time_ms: 12.4,
      sessions_with_issues: 1,
    },
    silent_together: [],
    upstreams: { ...upstreams },
    sessions: {},
    config: { heartbeat_interval: 10, adaptive_enabled: true, performance_monitoring: true, last_reload: null },
  }
}
