import { html } from 'hono/html'
import type { DebugReport, DebugUpstream } from './debug.ts'

type Html = ReturnType<typeof html>

const tones: Readonly<Record<DebugUpstream['state'], string>> = {
  healthy: 'good',
  busy: 'good',
  recovering: 'warn',
  suspect: 'warn',
  degraded: 'warn',
  starting: 'idle',
  idle: 'idle',
  paused: 'idle',
  disabled: 'idle',
  down: 'bad',
  crash_loop: 'bad',
  needs_auth: 'bad',
}

const style = `
:root { color-scheme: light dark; --line: #8884; --dim: #8889; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; }
nav a { margin-right: 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1.2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem .45rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .85rem; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
small { color: light-dark(#555, #aaa); display: block; max-width: 34rem; }
.state { border-radius: .6rem; padding: .05rem .6rem; font-weight: 600; white-space: nowrap; }
.good { background: #1a7f3722; color: light-dark(#116329, #56d364); }
.warn { background: #bf870022; color: light-dark(#7d4e00, #e3b341); }
.bad { background: #cf222e22; color: light-dark(#a40e26, #ff7b72); }
.idle { background: #8882; }
`

/** The index: every upstream at a glance, with links to what tells more. It needs no script and reloads itself. */
export function indexPage(report: DebugReport, version: string): Html {
  const upstreams = Object.entries(report.upstreams)
  const { overall_metrics: overall } = report
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <meta http-equiv="refresh" content="5" />
        <title>mcp-vitals</title>
        <style>
          ${style}
        </style>
      </head>
      <body>
        <h1>mcp-vitals ${version}</h1>
        <p>
          ${upstreams.length} upstreams · ${overall.total_sessions} sessions · ${overall.total_heartbeats} heartbeats,
          ${overall.overall_success_rate.toFixed(2)} % successful · answers in ${overall.average_response_time_ms} ms on
          average · ${report.timestamp}
        </p>
        <nav>
          <a href="/metrics">metrics</a> <a href="/debug/heartbeat">debug/heartbeat</a> <a href="/-/healthy">healthy</a>
          <a href="/-/ready">ready</a>
        </nav>
        <table>
          <thead>
            <tr>
              <th>upstream</th>
              <th>state</th>
              <th>p50 / p95 / p99</th>
              <th>heartbeats</th>
              <th>next probe</th>
              <th>tools</th>
              <th>process</th>
            </tr>
          </thead>
          <tbody>
            ${upstreams.map(([name, upstream]) => row(name, upstream))}
          </tbody>
        </table>
        ${upstreams.length === 0 ? html`<p>No upstream is configured: there is nothing to watch.</p>` : ''}
      </body>
    </html>`
}

function row(name: string, upstream: DebugUpstream): Html {
  const { p50, p95, p99 } = upstream.response_time_ms
  const next = upstream.next_probe_in_seconds
  return html`<tr>
    <td>
      <a href="/debug/heartbeat?upstream=${encodeURIComponent(name)}">${name}</a>
      <small>${upstream.transport}${upstream.protocol_version === null ? '' : ` · ${upstream.protocol_version}`}</small>
    </td>
    <td>
      <a class="state ${tones[upstream.state]}" href="/-/ready/${encodeURIComponent(name)}">${upstream.state}</a>
      <small>${upstream.reason}</small>
      <small>since ${upstream.since}</small>
    </td>
    <td class="n">${[p50, p95, p99].map(shownMs).join(' / ')}</td>
    <td class="n">
      ${upstream.heartbeats.total} <small>${upstream.heartbeats.failed} failed · ${upstream.probe}</small>
    </td>
    <td class="n">
      ${next === null ? '–' : `${next.toFixed(1)} s`}
      <small>${upstream.why_this_interval}</small>
    </td>
    <td class="n">${upstream.tools ?? '–'}</td>
    <td class="n">
      ${
        upstream.process === null
          ? '–'
          : html`${upstream.process.pid ?? 'none'} <small>${upstream.process.restarts} restarts</small>`
      }
    </td>
  </tr>`
}

function shownMs(value: number | null): string {
  return value === null ? '–' : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
}
