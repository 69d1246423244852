/** A month of heartbeats at intervals that adapt to what they find, and what PromQL then says of the availability. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { newAvailability, observeAvailability, unavailableSeconds } from '../../src/heartbeat/availability.ts'
import { adapt, firstDecision, nextDelayMs } from '../../src/heartbeat/interval.ts'
import { evidenceOf, isUnavailable, judge, newVerdict } from '../../src/heartbeat/verdict.ts'
import { needed } from '../support/prometheus.ts'
import { intervalSettings } from '../support/settings.ts'

const minuteMs = 60_000
const monthMs = 30 * 24 * 60 * minuteMs
/** 432 minutes: 1.00 % of the month. */
const outageMinutes = [20, 20, 21, 25, 28, 30, 32, 35, 38, 40, 43, 47, 53] as const

const settings = { ...intervalSettings, missesToDown: 3, goodsToHealthy: 2 } as const
const noLoad = { loopDelayP99Ms: 0, loopUtilisation: 0, probeBacklog: 0 }

/** A linear congruential generator (Numerical Recipes). */
function random(seed: number): () => number {
  let state = seed
  return () => (state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32) / 2 ** 32
}

interface Outage {
  readonly fromMs: number
  readonly toMs: number
  readonly outcome: 'timeout' | 'refused'
}

function outagesOf(next: () => number): Outage[] {
  const slotMs = monthMs / outageMinutes.length
  return outageMinutes.map((minutes, index) => {
    const fromMs = slotMs * index + next() * (slotMs - 60 * minuteMs)
    return { fromMs, toMs: fromMs + minutes * minuteMs, outcome: index % 2 === 0 ? 'timeout' : 'refused' }
  })
}

/** Promtool loads 10,000 samples for a query at most; of a counter, a scrape in ten minutes shows as much as one in ten seconds. */
const scrapeMs = 10 * minuteMs

/** What scrapes would have seen of the three counters. */
function month(seed: number) {
  const next = random(seed)
  const outages = outagesOf(next)
  const scraped = { unavailable: [] as number[], answered: [] as number[], failed: [] as number[] }
  let verdict = newVerdict('starting', 'not asked yet', 0)
  let availability = newAvailability()
  let decision = firstDecision(settings)
  let [answered, failed, lastMs] = [0, 0, 0]
  const scrapeUntil = (nowMs: number) => {
    for (let atMs = scraped.failed.length * scrapeMs; atMs <= nowMs; atMs += scrapeMs) {
      scraped.unavailable.push(unavailableSeconds(availability, atMs))
      scraped.answered.push(answered)
      scraped.failed.push(failed)
    }
  }
  for (let startMs = 0; startMs <= monthMs;) {
    const outage = outages.find(({ fromMs, toMs }) => startMs >= fromMs && startMs < toMs)
    const nowMs = startMs + (outage?.outcome === 'timeout' ? 2000 : 5)
    scrapeUntil(nowMs)
    if (outage) failed += 1
    else answered += 1
    const before = verdict
    const heard = { outcome: outage?.outcome ?? 'ok', by: 'probe', reason: 'as simulated', atMs: startMs } as const
    verdict = judge(before, evidenceOf(heard), nowMs, settings)
    const since = verdict.failingSinceMs ?? before.failingSinceMs
    availability = observeAvailability(availability, isUnavailable(verdict), nowMs, since)
    const diff = {
      heartbeats: 1,
      failures: outage ? 1 : 0,
      rttMeanMs: outage ? undefined : 5,
      elapsedMs: nowMs - lastMs,
    }
    decision = adapt(
      decision.state,
      { diff, misses: verdict.misses, hardFailure: outage?.outcome === 'refused', load: noLoad },
      settings,
    )
    lastMs = nowMs
    const isConfirming = verdict.misses > 0 && verdict.state !== 'down'
    const draw = { intervalMs: decision.intervalMs, isConfirming, random: next() }
    startMs = Math.max(nowMs, startMs + nextDelayMs(draw, settings))
  }
  return scraped
}

it('1.00 % of downtime is read as 1.00 ± 0.05 %, where a share of probes is far off', (context) => {
  const promtool = needed(context, 'promtool')
  const seeds = [1, 22, 333, 4444]
  const months = seeds.map(month)
  const series = (name: string, pick: (scraped: ReturnType<typeof month>) => readonly number[], labels = '') =>
    months.map((scraped, index) => ({
      series: `${name}{upstream="s${seeds[index]}"${labels}}`,
      values: pick(scraped).join(' '),
    }))
  const holds = (seed: number, expr: string) => ({
    expr,
    eval_time: '30d',
    exp_samples: [{ labels: `{upstream="s${seed}"}`, value: 1 }],
  })
  const test = {
    interval: '10m',
    input_series: [
      ...series('mcp_upstream_unavailable_seconds_total', ({ unavailable }) => unavailable),
      ...series('mcp_heartbeats_total', ({ answered }) => answered, ',outcome="ok"'),
      ...series('mcp_heartbeats_total', ({ failed }) => failed, ',outcome="timeout"'),
    ],
    promql_expr_test: seeds.flatMap((seed) => {
      const of = (name: string, labels = '') => `increase(${name}{upstream="s${seed}"${labels}}[30d])`
      const failed = of('mcp_heartbeats_total', ',outcome!="ok"')
      return [
        holds(seed, `abs(${of('mcp_upstream_unavailable_seconds_total')} / (30 * 86400) - 0.01) <= bool 0.0005`),
        holds(seed, `sum by (upstream) (${failed}) / sum by (upstream) (${of('mcp_heartbeats_total')}) > bool 0.03`),
      ]
    }),
  }
  const directory = mkdtempSync(join(tmpdir(), 'mcp-vitals-month-'))
  try {
    const file = join(directory, 'month.yaml')
    // YAML reads JSON.
    writeFileSync(file, JSON.stringify({ evaluation_interval: '10m', tests: [test] }))
    const { status, stdout, stderr } = spawnSync(promtool, ['test', 'rules', file], { encoding: 'utf8' })
    expect([status, `${stdout}${stderr}`.slice(0, 2000)]).toEqual([0, expect.stringContaining('SUCCESS')])
  } finally {
    rmSync(directory, { recursive: true })
  }
  for (const { unavailable } of months) {
    // Each outage is missed for at most the longest interval, jitter included, and lasts at most a short one too long.
    const errorSeconds = (unavailable.at(-1) ?? NaN) - 432 * 60
    expect(errorSeconds).toBeGreaterThan(-33 * outageMinutes.length)
    expect(errorSeconds).toBeLessThan((5.5 + 2) * outageMinutes.length)
  }
})
