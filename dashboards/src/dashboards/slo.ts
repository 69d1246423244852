/** Availability against its objective: what is left of the error budget, and how fast it goes. From recorded series. */
import { defaults } from '../../../src/defaults.ts'
import { label, metrics } from '../../../src/telemetry/names.ts'
import { budgetRemaining, errorBudgetRatio, objectiveWindow, unavailableRatio } from '../slo.ts'
import { legendOf, maxBy, rate, sumBy } from './expressions.ts'
import { availabilitySteps, stateNumber, stepsFrom, thresholds } from './look.ts'
import { stat, stateTimeline, timeSeries } from './panels.ts'
import type { DashboardPlan, PanelPlan } from './plan.ts'
import { upstreams } from './scope.ts'
import { linkFromRow, linkFromSeries } from './server-link.ts'
import { table } from './table.ts'

const { availabilityObjectivePercent, burnRates } = defaults.alerts
const tiers = [...burnRates.page, ...burnRates.ticket]
const server = ['instance', label.upstream]
const legend = `${legendOf(label.upstream)} on {{instance}}`
const objective = `${availabilityObjectivePercent} % of ${objectiveWindow}`

type Window = Parameters<typeof unavailableRatio>[0]

const unavailable = (window: Window) => upstreams.recorded(unavailableRatio(window))
const budget = upstreams.recorded(budgetRemaining)

/** How many times too fast the budget is used up: 1 uses it up exactly. */
const burnRate = (window: Window) => maxBy(server, `${unavailable(window)} / ${errorBudgetRatio}`)

const budgetSteps = stepsFrom('red', [
  [0, 'orange'],
  [0.25, 'green'],
])

const now: readonly PanelPlan[] = [
  stat({
    title: 'Availability',
    description: `The part of ${objectiveWindow} during which the servers were available, all of them on average. The objective is ${objective}. Time before mcp-vitals was there counts as available.`,
    queries: [{ expr: `1 - avg(${unavailable(objectiveWindow)})` }],
    unit: 'percentunit',
    decimals: 3,
    thresholds: availabilitySteps(),
    width: 6,
  }),
  stat({
    title: 'Least budget left',
    description: `What the worst server has left of the error budget that ${objective} leave it. Below 0 % the objective is missed.`,
    queries: [{ expr: `min(${budget})` }],
    unit: 'percentunit',
    decimals: 1,
    thresholds: budgetSteps,
    width: 6,
  }),
  stat({
    title: 'Objective missed',
    description: `Servers that were unavailable for longer than ${objective} allow.`,
    queries: [{ expr: `sum(${budget} < bool 0)` }],
    unit: 'none',
    thresholds: thresholds([1, 'red']),
    width: 6,
  }),
  stat({
    title: 'Burning too fast',
    description: 'Servers that use up their budget so fast that an alert fires for it, or soon will.',
    queries: [
      {
        // All tiers give the same series, so an `or` would stop at the first.
        expr: `sum(max by (job, ${server.join(', ')}) (\n  ${tiers
          .map(({ rate, long, short }) => {
            const limit = rate * errorBudgetRatio
            return `(${unavailable(long)} > bool ${limit}) * (${unavailable(short)} > bool ${limit})`
          })
          .join('\n  + ')}\n) > bool 0)`,
      },
    ],
    unit: 'none',
    thresholds: thresholds([1, 'red']),
    width: 6,
  }),
  table({
    title: 'Servers',
    description: `Each server against the objective of ${objective}, the one with the least budget first. A burn rate of 1 uses up the budget exactly; red is where an alert begins. The server leads to its dashboard.`,
    width: 24,
    height: 9,
    labels: [
      { label: label.upstream, title: 'Upstream', link: linkFromRow },
      { label: 'instance', title: 'Instance' },
    ],
    values: [
      {
        title: 'Budget left',
        expr: maxBy(server, budget),
        unit: 'percentunit',
        decimals: 1,
        thresholds: budgetSteps.build().steps,
      },
      ...([objectiveWindow, '1d', '1h'] as const).map((window) => ({
        title: `Available, ${window}`,
        expr: `1 - ${maxBy(server, unavailable(window))}`,
        unit: 'percentunit',
        decimals: 3,
      })),
      ...tiers.map(({ rate, long }) => ({
        title: `Burn rate, ${long}`,
        expr: burnRate(long),
        unit: 'short',
        decimals: 1,
        thresholds: thresholds([rate, 'red']).build().steps,
      })),
    ],
    sortBy: { title: 'Budget left', descending: false },
  }),
]

const budgets: readonly PanelPlan[] = [
  timeSeries({
    title: 'Error budget left',
    description: `What is left of the time that ${objective} allow each server to be unavailable. It grows again as outages leave the window.`,
    queries: [{ expr: maxBy(server, budget), legend }],
    unit: 'percentunit',
    limits: [[0, 'red']],
    belowZero: true,
    link: linkFromSeries,
    width: 24,
  }),
]

const burning: readonly PanelPlan[] = tiers.map(({ rate, long, short }) =>
  timeSeries({
    title: `Burn rate over ${long} and ${short}`,
    description: `How many times too fast the budget is used up. The alert begins when both windows are above ${rate} (dashed line): the long one says that it matters, the short one that it still goes on.`,
    queries: [
      { expr: burnRate(long), legend: `${long}, ${legend}` },
      { expr: burnRate(short), legend: `${short}, ${legend}` },
    ],
    unit: 'short',
    limits: [[rate, 'red']],
    link: linkFromSeries,
    width: 12,
  }),
)

const outages: readonly PanelPlan[] = [
  timeSeries({
    title: 'Unavailable',
    description: 'The part of the time during which each server was unavailable.',
    queries: [{ expr: sumBy(server, rate(upstreams.series(metrics.upstreamUnavailable))), legend }],
    unit: 'percentunit',
    max: 1,
    link: linkFromSeries,
    width: 24,
  }),
  stateTimeline({
    title: 'State',
    description:
      'What mcp-vitals concluded about each server. The time of down, crash_loop and needs_auth is unavailable.',
    queries: [{ expr: maxBy(server, stateNumber(upstreams)), legend }],
    link: linkFromSeries,
    width: 24,
    height: 9,
  }),
]

export const slo: DashboardPlan = {
  name: 'slo',
  description: `Availability of MCP servers against the objective of ${objective}, by time and not by heartbeats. Needs the recording rules of mcp-vitals.`,
  from: 'now-1d',
  upstream: 'any',
  first: now,
  sections: [
    { title: 'Error budget', panels: budgets },
    { title: 'Burn rates', panels: burning },
    { title: 'Outages', panels: outages },
  ],
}
