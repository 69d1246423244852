/** `Burning too fast` of the SLO dashboard, as Prometheus' own rule tester evaluates it. */
import { expect, it } from 'vitest'
import { errorBudgetRatio, unavailableRatio } from '../../dashboards/src/slo.ts'
import { defaults } from '../../src/defaults.ts'
import { needed } from '../support/prometheus.ts'
import { type Series, target } from './alert-cases.ts'
import { seconds, tested } from './promtool.ts'
import { allChosen } from './query-rules.ts'
import { shippedDashboards } from './shipped.ts'

const { page, ticket } = defaults.alerts.burnRates
const tiers = [...page, ...ticket]
const windows = [...new Set(tiers.flatMap(({ long, short }) => [long, short]))]

const panel = shippedDashboards
  .find(({ name }) => name === 'slo')
  ?.shown.find(({ title }) => title === 'Burning too fast')
const query = allChosen(panel?.targets[0]?.expr ?? '', { range: 3600, rateInterval: 60 })

/** A server that used up its budget so fast in these windows, and not at all in the others. */
function server(upstream: string, burning: readonly string[], rate: number): Series[] {
  return windows.map((window) => ({
    name: unavailableRatio(window),
    labels: { ...target, upstream },
    samples: [0, 1, 2].map(() => (burning.includes(window) ? rate * errorBudgetRatio : 0)),
  }))
}

it.for(tiers)('counts a server that burns too fast over $long and $short alone', ({ long, short, rate }, context) => {
  const series = [
    ...server('burning', [long, short], rate * 1.01),
    ...server('just below', [long, short], rate * 0.99),
    ...server('no more', [long], rate * 1.01),
  ]
  const expected = [{ expr: query, eval_time: seconds(0.5), exp_samples: [{ labels: '{}', value: 1 }] }]
  expect(tested(needed(context, 'promtool'), { series }, expected)).toBe('')
})
