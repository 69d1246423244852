import { describe, expect, it } from 'vitest'
import { age, headline, indexPage } from '../../src/admin/page.ts'
import type { DebugUpstream } from '../../src/admin/debug.ts'
import { states } from '../../src/heartbeat/verdict.ts'
import { shownReport, shownUpstream } from './fixture.ts'

async function page(upstreams: Readonly<Record<string, DebugUpstream>>): Promise<string> {
  return String(await indexPage(shownReport(upstreams), '1.2.3'))
}

/** What a reader sees, without markup. */
function textOf(html: string): string {
  return html
    .slice(html.indexOf('<body'))
    .replaceAll(/<title>.*?<\/title>/g, '')
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ')
}

const beat = {
  at: '2026-01-01T00:06:50.000Z',
  leg: 'upstream',
  method: 'ping',
  outcome: 'ok',
  response_time_ms: 1.25,
  reason: 'ping answered',
  session: null,
} as const

describe('the index page', () => {
  it('shows every upstream at a glance', async () => {
    const process = {
      pid: 4711,
      restarts: 2,
      next_start_in_seconds: null,
      started: null,
      stderr_tail: '',
      last_ended: null,
      all: [],
    }
    const text = textOf(await page({ files: shownUpstream({ process }) }))
    for (const part of [
      'files is well',
      '1 of 1',
      '100 98.00 % good, 2 failed',
      'http · 2025-11-25',
      'healthy for 7 min',
      'ping answered',
      'ping · 1,234, none failed',
      '1.0 ms · 20 ms · 1.5 s',
      'in 4.2 s 10 s: calm',
      '13',
      '4711 2 restarts',
    ]) {
      expect(text).toContain(part)
    }
  })

  it('says when a process that ended is started again', async () => {
    const process = {
      pid: null,
      restarts: 2,
      next_start_in_seconds: 29.5,
      started: null,
      stderr_tail: '',
      last_ended: null,
      all: [],
    }
    expect(textOf(await page({ files: shownUpstream({ process }) }))).toContain('none 2 restarts starts in 29.5 s')
  })

  it('puts the sickest first, and names in the order that people count in', async () => {
    const states = { 'a-2': 'healthy', 'a-10': 'healthy', b: 'idle', c: 'suspect', d: 'down', e: 'needs_auth' } as const
    const shown = Object.entries(states).map(([name, state]) => [name, shownUpstream({ state })])
    const html = await page(Object.fromEntries(shown) as Record<string, DebugUpstream>)
    const order = [...html.matchAll(/class="name"[^>]*>([^<]+)</g)].map(([, name]) => name)
    expect(order).toEqual(['d', 'e', 'c', 'b', 'a-2', 'a-10'])
  })

  it('knows every state', async () => {
    for (const state of states) expect(await page({ files: shownUpstream({ state }) })).toMatch(/<tr class="\w+"/)
  })

  it('draws the last heartbeats, the newest at the right, and says what each was', async () => {
    const recent = [
      { ...beat, outcome: 'timeout', response_time_ms: 10_000 } as const,
      { ...beat, outcome: 'late', response_time_ms: 4000 } as const,
      beat,
    ]
    const html = await page({ files: shownUpstream({ recent }) })
    const bars = [...html.matchAll(/<rect\s+class="(\w+)"\s+x="(\d+)"/g)].map(([, tone, x]) => [tone, Number(x)])
    expect(bars).toEqual([
      ['good', 136],
      ['warn', 144],
      ['bad', 152],
    ])
    expect(html).toContain('<title>00:06:50 UTC ping: timeout in 10 s</title>')
    expect(html).toContain('the last 3 heartbeats, 1 of them without an answer')
  })

  it('lists the last failures of all upstreams, newest first', async () => {
    const failed = (at: string, reason: string) => ({ ...beat, at, outcome: 'refused' as const, reason })
    const text = textOf(
      await page({
        files: shownUpstream({ failures: [failed('2026-01-01T00:06:00.000Z', 'first')] }),
        mail: shownUpstream({ failures: [failed('2026-01-01T00:06:58.000Z', 'second')] }),
      }),
    )
    expect(text).toContain('Last failures')
    expect(text).toMatch(
      /2 s ago 00:06:58 UTC mail refused ping second 1 min ago 00:06:00 UTC files refused ping first/,
    )
    expect(textOf(await page({ files: shownUpstream() }))).not.toContain('Last failures')
  })

  it('says so when there is nothing to watch, and where a figure is not known', async () => {
    expect(textOf(await page({}))).toContain('No upstream is configured')
    const unknown = shownUpstream({
      protocol_version: null,
      next_probe_in_seconds: null,
      tools: null,
      response_time_ms: { p50: null, p95: null, p99: null },
      heartbeats: { total: 0, failed: 0, success_rate_percent: null },
    })
    const text = textOf(await page({ files: unknown }))
    expect(text).toContain('ping · none yet')
    expect(text).not.toMatch(/null|NaN|undefined/)
  })

  it('lets nothing that a server or a configuration says become markup', async () => {
    const evil = `"><script>alert(1)</script><img src=x onerror='alert(2)'>&lt;`
    const upstream = shownUpstream({
      reason: evil,
      why_this_interval: evil,
      protocol_version: evil,
      probe: evil,
      recent: [{ ...beat, method: evil }],
      failures: [{ ...beat, outcome: 'refused', reason: evil, method: evil }],
    })
    const html = await page({ [evil]: { ...upstream, state: 'down' } })
    expect(html.length).toBeGreaterThan(1000)
    expect(html).not.toMatch(/<script|<img|onerror='/i)
    // Every tag that is there is one of ours.
    const tags = new Set([...html.matchAll(/<\/?([a-z0-9!]+)/gi)].map(([, tag]) => tag?.toLowerCase()))
    const ours = `!doctype html head meta title style body header h1 h2 svg path small nav a main p dl div dt dd table
      thead tr th tbody td span time rect`.split(/\s+/)
    expect([...tags].filter((tag) => !ours.includes(tag ?? ''))).toEqual([])
    expect(html).toContain('/-/ready/%22%3E%3Cscript%3E')
  })
})

it('says when upstreams fell silent together, and nothing of it otherwise', async () => {
  const report = shownReport({ a: shownUpstream(), b: shownUpstream({ state: 'down' }) })
  const page = async (together: readonly string[]) =>
    String(await indexPage({ ...report, silent_together: [...together] }, '1.2.3'))
  expect(await page(['b'])).toContain('1 of 2 upstreams fell silent at the same time')
  expect(await page([])).not.toContain('at the same time')
})

describe('the headline', () => {
  const inStates = (...all: DebugUpstream['state'][]) =>
    headline(all.map((state, at) => [`s${at}`, shownUpstream({ state })] as const))

  it.each<[DebugUpstream['state'][], string]>([
    [[], 'Nothing to watch'],
    [['healthy'], 's0 is well'],
    [['healthy', 'busy'], 'All 2 upstreams are well'],
    [['healthy', 'starting', 'idle'], '2 of 3 upstreams are starting or idle'],
    [['healthy', 'degraded', 'idle'], '1 of 3 upstreams is not well: s1'],
    [['down', 'degraded', 'healthy'], '1 of 3 upstreams is down: s0'],
    [['needs_auth'], '1 of 1 upstream is down: s0'],
    [['down', 'down', 'down', 'down'], '4 of 4 upstreams are down: s0, s1, s2, …'],
  ])('of %j is %j', (all, text) => {
    expect(inStates(...all)).toBe(text)
  })
})

it.each([
  [-5, '0 s'],
  [0, '0 s'],
  [59_999, '59 s'],
  [60_000, '1 min'],
  [61_000, '1 min 1 s'],
  [599_000, '9 min 59 s'],
  [600_000, '10 min'],
  [3_599_000, '59 min'],
  [3_600_000, '1 h'],
  [11_100_000, '3 h 5 min'],
  [86_400_000, '1 d'],
  [187_200_000, '2 d 4 h'],
])('writes %d ms as %s', (ms, text) => {
  expect(age(ms)).toBe(text)
})
