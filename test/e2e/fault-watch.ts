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

/** What the admin pages said last, the metrics after the rest: one reader for all, so that it is no load of its own. */
export interface Seen {
  readonly debug: () => DebugReport | undefined
  readonly metrics: () => string
  readonly stop: () => Promise<void>
}

const lookMs = 500

/** Reads the pages again and again until it is stopped. */
export function watch(vitals: Pick<RunningVitals, 'adminUrl'>): Seen {
  let debug: DebugReport | undefined
  let metrics = ''
  const over = new AbortController()
  const looking = (async () => {
    while (!over.signal.aborted) {
      const report = await debugReport(vitals)
      metrics = await (await fetch(`${vitals.adminUrl}/metrics`)).text()
      debug = report
      await sleep(lookMs)
    }
  })()
  const stop = () => {
    over.abort()
    return looking
  }
  return { debug: () => debug, metrics: () => metrics, stop }
}
