import { html, raw } from 'hono/html'
import { isAnswered } from '../heartbeat/classify.ts'
import { isUp } from '../heartbeat/verdict.ts'
import type { DebugReport, DebugUpstream } from './debug.ts'
import { style } from './style.ts'

type Html = ReturnType<typeof html>
type Beat = DebugUpstream['recent'][number]
type Tone = 'good' | 'warn' | 'bad' | 'idle'
type Named = readonly [name: string, upstream: DebugUpstream]

const tones: Readonly<Record<DebugUpstream['state'], Tone>> = {
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

/** The gravest first, which is the order of the table too. */
const gravity: readonly Tone[] = ['bad', 'warn', 'idle', 'good']

const failuresShown = 12

/** The index: every upstream at a glance, the sickest first. It needs no script and reloads itself. */
export function indexPage(report: DebugReport, version: string): Html {
  const upstreams = Object.entries(report.upstreams).toSorted(byGravity)
  const tone = gravity.find((one) => upstreams.some(([, { state }]) => tones[state] === one)) ?? 'idle'
  const summary = headline(upstreams)
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="refresh" content="5" />
        <title>${summary} · mcp-vitals</title>
        <style>
          ${raw(style)}
        </style>
      </head>
      <body class="${tone}">
        <header>
          <h1>
            <svg viewBox="0 0 44 24" aria-hidden="true"><path d="M0 13h12l4-9 6 17 5-12 3 4h14" /></svg>
            mcp-vitals <small>${version}</small>
          </h1>
          <nav>
            <a href="/metrics">metrics</a>
            <a href="/debug/heartbeat">debug/heartbeat</a>
            <a href="/-/healthy">healthy</a>
            <a href="/-/ready">ready</a>
          </nav>
        </header>
        <main>
          <p class="headline">${summary}</p>
          ${together(report)} ${figures(report)}
          <div class="sheet">${upstreams.length === 0 ? nothing : table(upstreams, Date.parse(report.timestamp))}</div>
          ${lastFailures(upstreams, Date.parse(report.timestamp))}
          <p class="dim">As of ${report.timestamp}; reloads every 5 s.</p>
        </main>
      </body>
    </html>`
}

/** What puts all that follows into another light. */
function together({ silent_together: names, upstreams }: DebugReport): Html | '' {
  if (names.length === 0) return ''
  const all = Object.keys(upstreams).length
  return html`<p class="together">
    ${names.length} of ${all} upstreams fell silent at the same time: the fault is probably ours, or the network’s.
  </p>`
}

const nothing = html`<p class="none">No upstream is configured: there is nothing to watch.</p>`

function byGravity([nameA, a]: Named, [nameB, b]: Named): number {
  const difference = gravity.indexOf(tones[a.state]) - gravity.indexOf(tones[b.state])
  return difference === 0 ? nameA.localeCompare(nameB, 'en', { numeric: true }) : difference
}

/** What matters most, in one sentence; it is the title of the tab too. */
export function headline(upstreams: readonly Named[]): string {
  const inTone = (tone: Tone) => upstreams.filter(([, { state }]) => tones[state] === tone)
  const [bad, warn, idle] = [inTone('bad'), inTone('warn'), inTone('idle')]
  if (bad.length > 0) return `${share(bad, upstreams)} down: ${namesOf(bad)}`
  if (warn.length > 0) return `${share(warn, upstreams)} not well: ${namesOf(warn)}`
  if (upstreams.length === 0) return 'Nothing to watch'
  if (idle.length > 0) return `${share(idle, upstreams)} starting or idle`
  return upstreams.length === 1 ? `${namesOf(upstreams)} is well` : `All ${upstreams.length} upstreams are well`
}

function share(some: readonly Named[], all: readonly Named[]): string {
  return `${some.length} of ${all.length} ${all.length === 1 ? 'upstream' : 'upstreams'} ${some.length === 1 ? 'is' : 'are'}`
}

function namesOf(upstreams: readonly Named[]): string {
  const names = upstreams.slice(0, 3).map(([name]) => name)
  return names.join(', ') + (upstreams.length > names.length ? ', …' : '')
}

function figures({ upstreams, overall_metrics: overall }: DebugReport): Html {
  const states = Object.values(upstreams).map(({ state }) => state)
  const { total_heartbeats: total, failed_heartbeats: failed, sessions_with_issues: troubled } = overall
  const { overall_success_rate: rate } = overall
  return html`<dl class="figures">
    <div>
      <dt>upstreams up</dt>
      <dd>${states.filter((state) => isUp(state)).length} <small>of ${states.length}</small></dd>
    </div>
    <div>
      <dt>client sessions</dt>
      <dd>${grouped(overall.total_sessions)} ${troubled > 0 ? html`<small>${troubled} with issues</small>` : ''}</dd>
    </div>
    <div>
      <dt>heartbeats</dt>
      <dd>
        ${grouped(total)}
        <small
          >${rate === null ? '' : `${rate.toFixed(2)} % good`}${failed > 0 ? `, ${grouped(failed)} failed` : ''}</small
        >
      </dd>
    </div>
    <div>
      <dt>mean answer</dt>
      <dd>${total > failed ? shownMs(overall.average_response_time_ms) : '–'}</dd>
    </div>
  </dl>`
}

function table(upstreams: readonly Named[], nowWallMs: number): Html {
  return html`<table>
    <thead>
      <tr>
        <th>upstream</th>
        <th>state</th>
        <th>last heartbeats</th>
        <th>p50 · p95 · p99</th>
        <th>next probe</th>
        <th>tools</th>
        <th>process</th>
      </tr>
    </thead>
    <tbody>
      ${upstreams.map(([name, upstream]) => row(name, upstream, nowWallMs))}
    </tbody>
  </table>`
}

function row(name: string, upstream: DebugUpstream, nowWallMs: number): Html {
  const { transport, state, reason, since, protocol_version: version, heartbeats, tools } = upstream
  const { p50, p95, p99 } = upstream.response_time_ms
  return html`<tr class="${tones[state]}">
    <td>
      <a class="name" href="/debug/heartbeat?upstream=${encodeURIComponent(name)}">${name}</a>
      <small>${transport}${version === null ? '' : ` · ${version}`}</small>
    </td>
    <td class="wide">
      <a class="state" href="/-/ready/${encodeURIComponent(name)}">${state}</a>
      <span class="dim">for <time datetime="${since}">${age(nowWallMs - Date.parse(since))}</time></span>
      <small class="clamp" title="${reason}">${reason}</small>
      ${upstream.draining_until === null ? '' : html`<small>drained: nothing new until ${upstream.draining_until}</small>`}
    </td>
    <td data-label="last heartbeats">
      ${strip(upstream.recent)}
      <small>${upstream.probe} · ${tally(heartbeats)}</small>
    </td>
    <td class="number" data-label="p50 · p95 · p99">
      ${p50 === null ? '–' : [p50, p95, p99].map(shownMs).join(' · ')}
    </td>
    <td class="wide" data-label="next probe">
      ${upstream.next_probe_in_seconds === null ? '–' : `in ${upstream.next_probe_in_seconds.toFixed(1)} s`}
      <small class="clamp" title="${upstream.why_this_interval}">${upstream.why_this_interval}</small>
    </td>
    <td class="number" data-label="tools">${tools ?? '–'}</td>
    <td class="number" data-label="process">${process(upstream)}</td>
  </tr>`
}

function tally({ total, failed }: DebugUpstream['heartbeats']): string {
  if (total === 0) return 'none yet'
  return failed === 0 ? `${grouped(total)}, none failed` : `${grouped(failed)} of ${grouped(total)} failed`
}

function process({ process: own }: DebugUpstream): Html | string {
  if (own === null) return '–'
  const { pid, restarts, all, next_start_in_seconds: nextStart } = own
  const others = all.length > 1 ? ` and ${all.length - 1} more` : ''
  return html`${pid === null ? 'none' : `${pid}${others}`}
    <small>${restarts} ${restarts === 1 ? 'restart' : 'restarts'}</small>
    ${nextStart === null ? '' : html`<small>starts in ${nextStart.toFixed(1)} s</small>`}`
}

const [barWidth, barGap, barHeight, barsShown] = [6, 2, 27, 20]

/** The last heartbeats as bars, the newest at the right: the slower the higher, on a logarithmic scale. */
function strip(recent: readonly Beat[]): Html {
  const beats = recent.slice(0, barsShown).toReversed()
  const start = barsShown - beats.length
  return html`<svg
    class="strip"
    viewBox="0 0 ${barsShown * (barWidth + barGap)} ${barHeight}"
    preserveAspectRatio="none"
    role="img"
    aria-label="the last ${beats.length} heartbeats, ${beats.filter(({ outcome }) => !isAnswered(outcome)).length} of them without an answer"
  >
    ${beats.map((beat, at) => bar(beat, (start + at) * (barWidth + barGap)))}
  </svg>`
}

function bar(beat: Beat, x: number): Html {
  const height = barHeight * heightOf(beat)
  return html`<rect
    class="${toneOf(beat)}"
    x="${x}"
    y="${(barHeight - height).toFixed(1)}"
    width="${barWidth}"
    height="${height.toFixed(1)}"
    rx="1"
  >
    <title>${clock(beat.at)} ${beat.method}: ${beat.outcome} in ${shownMs(beat.response_time_ms)}</title>
  </rect>`
}

/** 1 ms is low, 10 s or no answer is full height. */
function heightOf({ outcome, response_time_ms: ms }: Beat): number {
  if (!isAnswered(outcome)) return 1
  return 0.2 + 0.8 * Math.min(1, Math.log10(1 + (ms ?? 0)) / 4)
}

function toneOf({ outcome }: Beat): Tone {
  if (outcome === 'late') return 'warn'
  if (isAnswered(outcome)) return 'good'
  return outcome === 'inconclusive' || outcome === 'session_gone' ? 'idle' : 'bad'
}

function lastFailures(upstreams: readonly Named[], nowWallMs: number): Html | string {
  const failures = upstreams
    .flatMap(([name, { failures: beats }]) => beats.map((beat) => ({ name, ...beat })))
    .toSorted((a, b) => b.at.localeCompare(a.at))
    .slice(0, failuresShown)
  if (failures.length === 0) return ''
  return html`<h2>Last failures</h2>
    <div class="sheet">
      <table>
        <thead>
          <tr>
            <th>when</th>
            <th>upstream</th>
            <th>outcome</th>
            <th>reason</th>
          </tr>
        </thead>
        <tbody>
          ${failures.map(
            ({ name, at, method, outcome, reason }) =>
              html`<tr class="bad">
                <td class="number">${age(nowWallMs - Date.parse(at))} ago <small>${clock(at)}</small></td>
                <td class="who">${name}</td>
                <td class="number">${outcome} <small>${method}</small></td>
                <td class="wide"><span class="clamp" title="${reason}">${reason}</span></td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`
}

/** `42 s`, `7 min`, `3 h 5 min`, `2 d 4 h`: the largest unit, and the next one where it still says something. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ]
  if (seconds < 60) return `${seconds} s`
  if (minutes < 60) return minutes < 10 ? joined(minutes, 'min', seconds % 60, 's') : `${minutes} min`
  return hours < 24 ? joined(hours, 'h', minutes % 60, 'min') : joined(days, 'd', hours % 24, 'h')
}

function joined(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`
}

/** The time of day of an ISO time, in UTC as it stands. */
function clock(isoTime: string): string {
  return `${isoTime.slice(11, 19)} UTC`
}

function grouped(count: number): string {
  return count.toLocaleString('en')
}

function shownMs(ms: number | null): string {
  if (ms === null) return '–'
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}
