import type { State, Verdict } from '../heartbeat/verdict.ts'
import type { VerdictAlert } from './names.ts'

/**
 * What a verdict says about one alert: there is cause for it, there is none, or that cannot be said while things are
 * as they are. What is undecided neither begins an alert nor ends one, so that an outage which shows different faces
 * (down, starting, recovering, down again) is one alert and not three.
 */
export type Condition =
  | { readonly kind: 'on'; readonly reason: string; readonly sinceMs: number }
  | { readonly kind: 'off' }
  | { readonly kind: 'undecided' }

/** The part of a verdict that alerts depend on. */
export type JudgedState = Pick<Verdict, 'state' | 'reason' | 'sinceMs' | 'failingSinceMs' | 'different' | 'hung'>

const off = { kind: 'off' } as const
const undecided = { kind: 'undecided' } as const

/** What each state means for alerts that are not its own. */
const elsewhere: Readonly<Record<State, Condition>> = {
  // It answers, or nobody expects it to. A suspect server is up: one miss wakes nobody.
  healthy: off,
  suspect: off,
  busy: off,
  degraded: off,
  idle: off,
  paused: off,
  disabled: off,
  // Something is being tried, or has just been.
  starting: undecided,
  recovering: undecided,
  // An outage is not over because it has another name now.
  down: undecided,
  crash_loop: undecided,
  needs_auth: undecided,
}

/**
 * What a verdict says about an alert. Times are monotonic, and those of outages back-dated to the first failure. Where
 * most servers fell silent together, the fault is hardly that of this one, and has an alert of its own.
 */
export function conditionOf(alert: VerdictAlert, verdict: JudgedState, isSilentTogether: boolean): Condition {
  const { state, reason, sinceMs, failingSinceMs = sinceMs } = verdict
  switch (alert) {
    case 'McpUpstreamDown':
      return state === 'down' && !isSilentTogether ? { kind: 'on', reason, sinceMs: failingSinceMs } : elsewhere[state]
    case 'McpUpstreamNeedsAuth':
      return state === 'needs_auth' ? { kind: 'on', reason, sinceMs: failingSinceMs } : elsewhere[state]
    case 'McpProcessCrashLooping':
      if (state === 'crash_loop') return { kind: 'on', reason, sinceMs }
      // Whoever asks for credentials has started.
      return state === 'needs_auth' ? off : elsewhere[state]
    case 'McpInventoryShrank':
      return degraded(verdict, verdict.different)
    case 'McpSessionsWithIssues':
      return degraded(verdict, verdict.hung)
  }
}

/** Both may be why a server is degraded, and its reason tells only the graver one. */
function degraded({ state, sinceMs }: JudgedState, reason: string | undefined): Condition {
  return state === 'degraded' && reason !== undefined ? { kind: 'on', reason, sinceMs } : elsewhere[state]
}
