import type { JudgedState } from '../../src/alerts/condition.ts'
import type { Alert, Judged, Notice } from '../../src/alerts/tracking.ts'
import { type State, newVerdict } from '../../src/heartbeat/verdict.ts'

/** What is concluded about an upstream; since second 0, for a reason that tells its state. */
export function verdict(state: State, facts: Partial<JudgedState> = {}): JudgedState {
  return { ...newVerdict(state, `it is ${state}`, 0), ...facts }
}

export function judgedAs(state: State, facts: Partial<JudgedState> = {}, name = 'files'): Judged {
  return { name, transport: 'stdio', verdict: verdict(state, facts) }
}

export function alertOf(changes: Partial<Alert> = {}): Alert {
  return {
    name: 'McpUpstreamDown',
    about: { upstream: 'files', transport: 'stdio' },
    reason: 'server process 7 was killed by SIGKILL',
    startsAtWallMs: Date.UTC(2026, 0, 1),
    ...changes,
  }
}

export function firingNotice(changes: Partial<Alert> = {}): Notice {
  return { kind: 'firing', alert: alertOf(changes) }
}

export function resolvedNotice(changes: Partial<Alert> = {}): Notice {
  const alert = alertOf(changes)
  return { kind: 'resolved', alert, endsAtWallMs: alert.startsAtWallMs + 90_000, now: 'healthy: ping answered' }
}

/** An upstream that an alert is about. */
export function server(upstream: string): { readonly about: Alert['about'] } {
  return { about: { upstream, transport: 'stdio' } }
}
