import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { Logger } from '../log.ts'
import type { Instruments, ReceivedAlertKind, RecoveryAction, RecoveryOutcome } from '../telemetry/instruments.ts'
import type { ReceivedAlert } from './received.ts'
import { type RecoveryMemory, type RecoveryRequest, askedBy, noRecoveries, permit, remember } from './recovery.ts'

/** What the configuration lets alerts do. */
export interface RecoverySettings {
  /** By the name of the alert. */
  readonly actions: ReadonlyMap<string, RecoveryAction>
  /** Between two starts of the same action on the same upstream. */
  readonly minIntervalMs: number
}

export interface RecoveriesOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly settings: () => RecoverySettings
  readonly upstreams: () => readonly string[]
  /** Begins it, and gives why it cannot be done. */
  readonly recover: (upstream: string, action: RecoveryAction) => string | undefined
  readonly instruments: Pick<Instruments, 'initRecovery' | 'countRecovery' | 'countReceivedAlert'>
}

/** What became of one alert, for whoever sent it. */
export interface AlertResult {
  readonly alert: string | null
  readonly upstream: string | null
  readonly outcome: RecoveryOutcome | ReceivedAlertKind
  readonly action?: RecoveryAction
  readonly reason?: string
}

/** Does what the configuration wants done when alerts come in, and says so in the log and the metrics. */
export class Recoveries {
  readonly #options: RecoveriesOptions
  #memory: RecoveryMemory = noRecoveries

  constructor(options: RecoveriesOptions) {
    this.#options = options
  }

  /** The upstreams or the settings may be others: counters that may be needed start at 0. */
  follow(): void {
    const { settings, upstreams, instruments } = this.#options
    const actions = new Set(settings().actions.values())
    for (const upstream of upstreams()) for (const action of actions) instruments.initRecovery(upstream, action)
  }

  /** `from` is the address of whoever sent them. */
  receive(alerts: readonly ReceivedAlert[], from: string): readonly AlertResult[] {
    const { settings, upstreams, instruments } = this.#options
    const { actions } = settings()
    const known = new Set(upstreams())
    return alerts.map((alert) => {
      const { alertname = null, upstream = null } = alert.labels
      const asked = askedBy(alert, actions, (name) => known.has(name))
      instruments.countReceivedAlert(asked.kind)
      if (asked.kind !== 'recovery') return { alert: alertname, upstream, outcome: asked.kind }
      return { alert: alertname, upstream, ...this.#attempt(alert, asked.request, from) }
    })
  }

  #attempt(
    { labels, fingerprint, startsAt }: ReceivedAlert,
    request: RecoveryRequest,
    from: string,
  ): Pick<AlertResult, 'outcome' | 'action' | 'reason'> {
    const { instruments, log } = this.#options
    const { upstream, action } = request
    const { outcome, reason } = this.#carryOut(request)
    instruments.countRecovery(upstream, action, outcome)
    const fields = { from, alert: labels['alertname'], upstream, action, outcome, reason: reason ?? null }
    // Alertmanager repeats what lasts.
    const level = outcome === 'repeated' ? 'info' : 'warn'
    log[level]({ ...fields, fingerprint, starts_at: startsAt }, 'an alert asks for a recovery')
    return { outcome, action, ...(reason !== undefined && { reason }) }
  }

  #carryOut(request: RecoveryRequest): { readonly outcome: RecoveryOutcome; readonly reason?: string } {
    const { clock, settings, recover } = this.#options
    const { minIntervalMs } = settings()
    const { upstream, action } = request
    const permitted = permit(this.#memory, request, clock.now(), minIntervalMs)
    if (permitted === 'repeated') return { outcome: permitted, reason: 'it was done for this alert already' }
    if (permitted === 'limited') {
      const seconds = minIntervalMs / 1000
      return {
        outcome: permitted,
        reason: `the last ${action} of it was less than ${seconds} s ago (min_interval_seconds)`,
      }
    }
    const refusal = recover(upstream, action)
    if (refusal !== undefined) return { outcome: 'refused', reason: refusal }
    this.#memory = remember(this.#memory, request, clock.now(), defaults.recoveries.maxRemembered)
    return { outcome: 'started' }
  }
}
