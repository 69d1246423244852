import type { NotifierSettings } from '../alerts/notifier.ts'
import type { Judged } from '../alerts/tracking.ts'
import type { AlertsConfig } from '../config/config.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import { receivers } from '../telemetry/instruments.ts'

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
  return { name, transport, verdict: heartbeat.status().verdict }
}

/** Alertmanager is known by the address of its pages, behind which its API is; a webhook is called as it is written. */
function requestUrl(name: (typeof receivers)[number], written: string): URL {
  const url = new URL(written)
  if (name === 'webhook') return url
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/api/v2/alerts`
  return url
}
