/** What a running mcp-vitals tells while faults are tried on its servers: its log and its admin pages. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DebugReport } from '../../src/admin/debug.ts'
import { jsonLine } from '../peers/spawn.ts'
import { debugReport } from '../support/admin.ts'
import type { RunningVitals } from '../support/vitals.ts'

/** A state that the log told of, or (without one) a hang. */
export interface Change {
  readonly upstream: string
  readonly state: string | undefined
  readonly reason: string
  readonly atMs: number
}

/** The change that a line of the log tells of, if it does. */
export function changeOf(line: string): Change[] {
  const entry = jsonLine(line)
  if (entry?.msg !== 'upstream state changed' && entry?.msg !== 'a server process hangs') return []
  const { upstream, state, reason, ts } = entry
  const told = typeof state === 'string' ? state : undefined
  return [{ upstream: String(upstream), state: told, reason: String(reason), atMs: Date.parse(String(ts)) }]
}

/** What the admin pages said last, the metrics after the rest: one reader for all, since reading is work, too. */
export interface Seen {
  readonly debug: () => DebugReport | undefined
  /** All series of one upstream but for histograms. */
  readonly seriesOf: (upstream: string) => readonly Series[]
  readonly stop: () => Promise<void>
}

/** One line of `/metrics`. */
export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const lookMs = 500

/** Reads the pages again and again until it is stopped. */
export function watch(vitals: Pick<RunningVitals, 'adminUrl'>): Seen {
  let debug: DebugReport | undefined
  let series: ReadonlyMap<string, readonly Series[]> = new Map()
  const over = new AbortController()
  const looking = (async () => {
    while (!over.signal.aborted) {
      const report = await debugReport(vitals)
      series = seriesByUpstream(await (await fetch(`${vitals.adminUrl}/metrics`)).text())
      debug = report
      await sleep(lookMs)
    }
  })()
  const stop = () => {
    over.abort()
    return looking
  }
  return { debug: () => debug, seriesOf: (upstream) => series.get(upstream) ?? [], stop }
}

function seriesByUpstream(text: string): ReadonlyMap<string, readonly Series[]> {
  const all = text.matchAll(
    /^(mcp_upstream_\w+|mcp_heartbeats_total|mcp_heartbeat_probe_info|mcp_heartbeat_duration_seconds_count)\{(.*)\} (\S+)/gm,
  )
  const series = Array.from(all, ([, name = '', labels = '', value]) => ({
    name,
    labels: Object.fromEntries(Array.from(labels.matchAll(/(\w+)="([^"]*)"/g), ([, label, text]) => [label, text])),
    value: Number(value),
  }))
  return Map.groupBy(series, ({ labels }) => labels.upstream ?? '')
}
