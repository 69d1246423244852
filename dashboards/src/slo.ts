/**
 * Availability: the share of time, not of heartbeats, since a server that is down is asked more often. Multi-window,
 * multi-burn-rate alerts as in Google's SRE workbook, chapter 5: the long window says that much of the budget is gone,
 * the short one that it still goes on.
 */
import { defaults } from '../../src/defaults.ts'
import { metrics } from '../../src/telemetry/names.ts'
import type { AlertName } from './links.ts'
import { is, onInstance, onServer, oneOf, select } from './promql.ts'
import { type Alert, type RuleGroup, debugPage, theServer } from './rule.ts'

const { availabilityObjectivePercent, burnRates } = defaults.alerts

/** The share of time that may be missing. */
export const errorBudgetRatio = (100 - availabilityObjectivePercent) / 100

/** The window over which the objective holds. */
export const objectiveWindow = '30d'

/** Those that are recorded: of the alerts, ten minutes for other alerts, and that of the objective. */
const shortWindows = ['5m', '10m', '30m', '1h'] as const
const longWindows = ['2h', '6h', '1d', '3d', objectiveWindow] as const
type Window = (typeof shortWindows)[number] | (typeof longWindows)[number]

/** The share of a window for which a server was unavailable. */
export function unavailableRatio(window: Window): string {
  return `upstream:mcp_upstream_unavailable:ratio_rate${window}`
}

/** The share of the budget that is left: 1 is all of it, and less than 0 more than was there. */
export const budgetRemaining = `upstream:mcp_upstream_error_budget_remaining:ratio${objectiveWindow}`

const unavailableOver = (window: Window) => ({
  record: unavailableRatio(window),
  expr: `rate(${select(metrics.upstreamUnavailable)}[${window}])`,
})

export const availabilityGroups: readonly RuleGroup[] = [
  { name: 'mcp-vitals.availability.rules', rules: shortWindows.map(unavailableOver) },
  {
    name: 'mcp-vitals.budget.rules',
    // These look at many samples, and a minute more or less changes nothing.
    interval: '1m',
    rules: [
      ...longWindows.map(unavailableOver),
      { record: budgetRemaining, expr: `1 - ${unavailableRatio(objectiveWindow)} / ${errorBudgetRatio}` },
    ],
  },
]

interface Tier {
  readonly rate: number
  readonly long: Window
  readonly short: Window
}

/** Whoever was told of an outage need not hear that it used up the budget, nor just after its end. */
const toldOfServer: readonly AlertName[] = ['McpUpstreamDown', 'McpProcessCrashLooping', 'McpUpstreamNeedsAuth']
const toldOfAll: readonly AlertName[] = ['McpUpstreamsSilentTogether']

/** Where one of these fired within the window. */
function told(alerts: readonly AlertName[], window: Window): string {
  return `max_over_time(ALERTS{alertname${oneOf(alerts)}, alertstate${is('firing')}}[${window}])`
}

function burning({ rate, long, short }: Tier): string {
  const limit = `${rate} * ${errorBudgetRatio}`
  return `${unavailableRatio(long)} > ${limit}\nand\n${unavailableRatio(short)} > ${limit}`
}

const times = (rate: number) => (rate === 1 ? 'what ' : `${rate} times what `)

function described({ rate, long }: Tier): string {
  return (
    `${theServer} was unavailable for {{ $value | humanizePercentage }} of the last ${long}, more than ${times(rate)}` +
    `${availabilityObjectivePercent} % in ${objectiveWindow} allow. Why: "failures" and "patterns" of ${debugPage}`
  )
}

const budgetPercent = 100 - availabilityObjectivePercent

function inWords({ rate, long, short }: Tier): string {
  const pace = rate === 1 ? 'faster than it should' : `more than ${rate} times as fast as it should`
  return `the error budget, ${budgetPercent} % of 30 days, goes ${pace} over ${long}, and still so over ${short}`
}

const page = burnRates.page.map((tier): Alert => ({
  alert: 'McpAvailabilityBurnRateHigh',
  when: `${inWords(tier)}, and no other critical alert told of these outages`,
  expr: `${burning(tier)}
unless ${onServer}
${told(toldOfServer, tier.short)}
unless ${onInstance}
${told(toldOfAll, tier.short)}`,
  for: '2m',
  severity: 'critical',
  labels: { long: tier.long, short: tier.short },
  summary: 'An MCP server is down so often that its error budget will not last.',
  description: described(tier),
  dashboard: 'slo',
}))

const ticket = burnRates.ticket.map((tier): Alert => ({
  alert: 'McpAvailabilityBurnRateSlow',
  when: inWords(tier),
  expr: burning(tier),
  for: '15m',
  severity: 'warning',
  labels: { long: tier.long, short: tier.short },
  summary: 'An MCP server uses up its error budget too fast.',
  description: described(tier),
  dashboard: 'slo',
}))

export const sloAlerts: readonly Alert[] = [...page, ...ticket]
