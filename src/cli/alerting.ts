import type { NotifierSettings } from '../alerts/notifier.ts'
import type { RecoverySettings } from '../alerts/recoveries.ts'
import type { Judged } from '../alerts/tracking.ts'
import type { AlertsConfig } from '../config/config.ts'
import { type Monitored, limitedOf } from '../heartbeat/monitored.ts'
import { type RecoveryAction, receivers } from '../telemetry/instruments.ts'
import type { LiveUpstream } from './fleet.ts'

/** Whom the configuration wants to be told; `adminUrl` is where our pages are unless it says otherwise. */
export function notifierSettings(config: AlertsConfig, adminUrl: string): NotifierSettings {
  const { forMs, keepFiringForMs, labels, runbookUrl, externalUrl = adminUrl } = config
  const told = receivers.flatMap((name) => {
    const receiver = config[name]
    return receiver ? [[name, { ...receiver, url: requestUrl(name, receiver.url) }] as const] : []
  })
  return {
    holds: { forMs, keepFiringForMs },
    wording: { labels, runbookUrl, externalUrl },
    receivers: Object.fromEntries(told),
  }
}

/** An upstream as alerts see it. */
export function judged({ name, transport, heartbeat }: Monitored): Judged {
  return { name, transport, verdict: heartbeat.glance().verdict }
}

/** What alerts that come in may do. */
export function recoverySettings({ receive }: AlertsConfig): RecoverySettings {
  return { actions: new Map(Object.entries(receive?.actions ?? {})), minIntervalMs: receive?.minIntervalMs ?? 0 }
}

/** Begins what an alert asks for, and gives why it cannot be done. */
export function recover(upstream: LiveUpstream, action: RecoveryAction, drainMs: number): string | undefined {
  const { access, heartbeat } = upstream
  switch (action) {
    case 'restart':
      return upstream.restart()
    case 'probe_now': {
      const { pausedUntilWallMs } = heartbeat.glance()
      if (pausedUntilWallMs !== undefined) return `it is paused until ${new Date(pausedUntilWallMs).toISOString()}`
      void heartbeat.probeOnce()
      return undefined
    }
    case 'drain': {
      const limited = limitedOf(access)
      if (!limited) return 'it belongs to the client that started it'
      limited.drain.begin(drainMs)
      return undefined
    }
  }
}

/** Alertmanager is known by the address of its pages, behind which its API is; a webhook is called as it is written. */
function requestUrl(name: (typeof receivers)[number], written: string): URL {
  const url = new URL(written)
  if (name === 'webhook') return url
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/api/v2/alerts`
  return url
}
