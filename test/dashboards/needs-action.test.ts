/** Whatever an alert fires for stands in the table of what needs action, as Prometheus' own rule tester evaluates it. */
import { describe, expect, it } from 'vitest'
import type { AlertName } from '../../dashboards/src/links.ts'
import { alerts } from '../../dashboards/src/rules.ts'
import { outcomes } from '../../src/heartbeat/classify.ts'
import { states } from '../../src/heartbeat/verdict.ts'
import { metrics } from '../../src/telemetry/names.ts'
import { needed } from '../support/prometheus.ts'
import { type Series, alertCases, target } from './alert-cases.ts'
import { type Asked, seconds, tested } from './promtool.ts'
import { allChosen } from './query-rules.ts'
import { shippedDashboards } from './shipped.ts'

/** Too long a look back for a table that is drawn anew every half minute; the alerts tell of them. */
const leftToAlerts: readonly AlertName[] = [
  'McpProcessMemoryGrowing',
  'McpAvailabilityBurnRateHigh',
  'McpAvailabilityBurnRateSlow',
]

const table = shippedDashboards.find(({ name }) => name === 'fleet')?.shown[0]?.targets[0]?.expr ?? ''
const query = allChosen(table, { range: 3600, rateInterval: 60 })

/** How many rows there are of an alert for whom it fires. */
function rows(alert: AlertName, { upstream, instance }: Readonly<Record<string, string>>): string {
  const wanted = { alert, ...(upstream !== undefined && { upstream }), ...(instance !== undefined && { instance }) }
  const one = Object.entries(wanted).reduce(
    (vector, [label, value]) => `label_replace(${vector}, "${label}", "${value}", "", "")`,
    'vector(1)',
  )
  return `count((${query}) and on (${Object.keys(wanted).join(', ')}) ${one})`
}

/** The build info is in every scrape. */
function withBuildInfo({ series, ...timing }: Asked): Asked {
  const samples = series[0]?.samples.map(() => 1) ?? []
  return { ...timing, series: [...series, { name: 'mcp_vitals_build_info', labels: target, samples }] }
}

const firing = alertCases.flatMap((one) => {
  const times = (one.firesAt ?? []).filter(({ labels }) => labels['instance'] !== undefined)
  return times.length === 0 || leftToAlerts.includes(one.alert) ? [] : [{ ...one, times }]
})

const impatient = new Set(alerts.flatMap(({ alert, for: patience }) => (patience === undefined ? [alert] : [])))

/** Where an alert is silent for another reason than its patience, which the table does not have. */
const quiet = alertCases.filter(
  ({ alert, kind }) =>
    !leftToAlerts.includes(alert) &&
    (kind === 'another alert tells' || (kind === 'just below' && impatient.has(alert))),
)

describe('the table of what needs action', { timeout: 60_000 }, () => {
  it.for(firing)('has a row while $alert fires: $what', ({ alert, times, ...one }, context) => {
    const expected = times.map(({ at, labels }) => ({
      expr: rows(alert, labels),
      eval_time: seconds(at),
      exp_samples: [{ labels: '{}', value: 1 }],
    }))
    expect(tested(needed(context, 'promtool'), withBuildInfo(one), expected)).toBe('')
  })

  it.for(quiet)('has no row of $alert: $what', ({ alert, silentAt, ...one }, context) => {
    const expected = silentAt.map((at) => ({ expr: rows(alert, {}), eval_time: seconds(at), exp_samples: [] }))
    expect(tested(needed(context, 'promtool'), withBuildInfo(one), expected)).toBe('')
  })

  it('is empty while all is well', (context) => {
    const steady = (value: number) => Array.from({ length: 80 }, () => value)
    const rising = (step: number) => Array.from({ length: 80 }, (_, index) => index * step)
    const server = { ...target, upstream: 'files', transport: 'stdio' }
    const ofUpstream = { ...target, upstream: 'files' }
    const beats = { ...server, leg: 'upstream' }
    const calls = { ...ofUpstream, mcp_method_name: 'tools/call', gen_ai_tool_name: 'read', error_type: '' }
    const series: Series[] = [
      { name: 'up', labels: target, samples: steady(1) },
      { name: metrics.upstreamUp.family, labels: server, samples: steady(1) },
      ...states.map((state) => ({
        name: metrics.upstreamState.family,
        labels: { ...server, state },
        samples: steady(state === 'healthy' ? 1 : 0),
      })),
      { name: metrics.heartbeatLastSuccess.family, labels: server, samples: rising(15) },
      ...outcomes.map((outcome) => ({
        name: metrics.heartbeats.family,
        labels: { ...beats, outcome },
        samples: outcome === 'ok' ? rising(1) : steady(0),
      })),
      ...['0.5', '1', '+Inf'].map((le) => ({
        name: `${metrics.heartbeatDuration.family}_bucket`,
        labels: { ...beats, method: 'ping', outcome: 'ok', le },
        samples: rising(1),
      })),
      { name: `${metrics.serverOperationDuration.family}_count`, labels: calls, samples: rising(10) },
      { name: metrics.upstreamRestarts.family, labels: { ...ofUpstream, reason: 'exit' }, samples: steady(0) },
      {
        name: metrics.upstreamStateChanges.family,
        labels: { ...ofUpstream, from: 'healthy', to: 'down' },
        samples: steady(0),
      },
      { name: metrics.upstreamTools.family, labels: ofUpstream, samples: steady(3) },
      { name: metrics.upstreamQueueLength.family, labels: ofUpstream, samples: steady(0) },
      { name: metrics.sessionsWithIssues.family, labels: server, samples: steady(0) },
      { name: metrics.labelOverflow.family, labels: ofUpstream, samples: steady(0) },
      { name: metrics.loadRatio.family, labels: target, samples: steady(0.1) },
      { name: metrics.correlatedFailure.family, labels: target, samples: steady(0) },
      { name: metrics.shed.family, labels: { ...target, what: 'session' }, samples: steady(0) },
      { name: metrics.configReloadSuccessful.family, labels: target, samples: steady(1) },
      { name: metrics.configReloadTimestamp.family, labels: target, samples: steady(0) },
    ]
    const expected = [1, 5, 19].map((at) => ({ expr: query, eval_time: seconds(at), exp_samples: [] }))
    expect(tested(needed(context, 'promtool'), withBuildInfo({ series }), expected)).toBe('')
    // Nothing of it is so because nothing was asked: a server less and it is there.
    const down = series.map((one) => (one.name === metrics.upstreamUp.family ? { ...one, samples: steady(0) } : one))
    expect(tested(needed(context, 'promtool'), withBuildInfo({ series: down }), expected)).toContain(
      'the last answer was',
    )
  })

  it('knows all alerts but those that look back for long, and how severe they are', () => {
    const named = [...table.matchAll(/(\d) \* label_replace.*?"alert", "(\w+)", "", ""\)/gs)]
    const weights = { critical: 3, warning: 2, info: 1 }
    const known = new Set(alerts.map(({ alert, severity }) => `${weights[severity]} ${alert}`))
    expect(named.map(([, weight, alert]) => `${weight} ${alert}`).filter((one) => !known.has(one))).toEqual([])
    expect(new Set([...named.map(([, , alert]) => alert), ...leftToAlerts])).toEqual(
      new Set(alerts.map(({ alert }) => alert)),
    )
    expect(new Set(firing.map(({ alert }) => alert))).toEqual(new Set(named.map(([, , alert]) => alert)))
  })
})
