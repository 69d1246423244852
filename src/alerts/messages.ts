import type { Redact } from '../redaction.ts'
import { fingerprint } from './fingerprint.ts'
import { sentAlertTexts } from './names.ts'
import type { Alert, Notice } from './tracking.ts'

/** How alerts are put into words. */
export interface Wording {
  /** Added to every alert; none of the names in `ownLabels`. */
  readonly labels: Readonly<Record<string, string>>
  /** Where the runbooks are; `/<alert name>.md` is added. Without it there is no such annotation. */
  readonly runbookUrl?: string | undefined
  /** Where people find our pages, without a slash at its end. */
  readonly externalUrl: string
  /** Hides secrets in the words of servers. */
  readonly redact: Redact
}

/** The labels that we give every alert. */
export const ownLabels = ['alertname', 'upstream', 'transport', 'severity'] as const

type Texts = Readonly<Record<string, string>>

/** What identifies an alert: the same from its beginning to its end. */
export function labelsOf({ name, about }: Alert, { labels }: Pick<Wording, 'labels'>): Texts {
  const { severity } = sentAlertTexts[name]
  return { ...labels, alertname: name, ...(about.upstream !== undefined && about), severity }
}

export function annotationsOf(notice: Notice, { runbookUrl, redact }: Wording): Texts {
  const { name, about, reason, startsAtWallMs } = notice.alert
  const since = isoTime(startsAtWallMs)
  const description =
    notice.kind === 'firing'
      ? `Since ${since}: ${reason}`
      : `From ${since} to ${isoTime(notice.endsAtWallMs)}: ${reason}. Now ${notice.now}`
  return {
    summary: sentAlertTexts[name].summary(about.upstream ?? ''),
    description: redact(description),
    ...(runbookUrl !== undefined && { runbook_url: `${runbookUrl.replace(/\/$/, '')}/${name}.md` }),
  }
}

/**
 * One element of what `POST /api/v2/alerts` takes. One that fires ends at `expiresAtWallMs` unless it is sent again, so
 * that it does not outlive us.
 */
export function alertmanagerAlert(notice: Notice, wording: Wording, expiresAtWallMs: number): object {
  const { alert } = notice
  return {
    labels: labelsOf(alert, wording),
    annotations: annotationsOf(notice, wording),
    startsAt: isoTime(alert.startsAtWallMs),
    endsAt: isoTime(notice.kind === 'firing' ? expiresAtWallMs : Math.max(notice.endsAtWallMs, alert.startsAtWallMs)),
    generatorURL: generatorUrl(alert, wording),
  }
}

/**
 * What Alertmanager would send to a webhook (its payload, version 4) for a group of one: grouped by alert name and
 * upstream, so that a group fires or is resolved as a whole.
 */
export function webhookMessage(notice: Notice, wording: Wording): object {
  const { alert } = notice
  const labels = labelsOf(alert, wording)
  const annotations = annotationsOf(notice, wording)
  const groupLabels: Texts = {
    alertname: alert.name,
    ...(alert.about.upstream !== undefined && { upstream: alert.about.upstream }),
  }
  const group = Object.entries(groupLabels).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return {
    version: '4',
    groupKey: `{}:{${group.join(', ')}}`,
    truncatedAlerts: 0,
    status: notice.kind,
    receiver: 'mcp-vitals',
    groupLabels,
    commonLabels: labels,
    commonAnnotations: annotations,
    externalURL: wording.externalUrl,
    alerts: [
      {
        status: notice.kind,
        labels,
        annotations,
        startsAt: isoTime(alert.startsAtWallMs),
        // Go's zero time, as Alertmanager writes where there is no end.
        endsAt: notice.kind === 'firing' ? '0001-01-01T00:00:00Z' : isoTime(notice.endsAtWallMs),
        generatorURL: generatorUrl(alert, wording),
        fingerprint: fingerprint(labels),
      },
    ],
  }
}

function generatorUrl({ about }: Alert, { externalUrl }: Wording): string {
  const query = about.upstream === undefined ? '' : `?upstream=${encodeURIComponent(about.upstream)}`
  return `${externalUrl}/debug/heartbeat${query}`
}

function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString()
}
