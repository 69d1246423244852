/** What clients ask of one server, and how its tools do. */
import { metrics, semconv } from '../../../src/telemetry/names.ts'
import { increase, legendOf, quantile, rate, sumBy, topk } from './expressions.ts'
import { failedOperations, requestErrorShare, toolCalls } from './heartbeat-queries.ts'
import { errorShareLimit } from './look.ts'
import { timeSeries } from './panels.ts'
import type { PanelPlan } from './plan.ts'
import { oneUpstream } from './scope.ts'
import { table } from './table.ts'

const tool = [semconv.toolName]
const byTool = legendOf(semconv.toolName)
const calls = metrics.serverOperationDuration

export const requests: readonly PanelPlan[] = [
  timeSeries({
    title: 'Requests by method',
    description: 'Requests of clients per second.',
    queries: [
      {
        expr: sumBy([semconv.method], rate(oneUpstream.counts(metrics.serverOperationDuration))),
        legend: legendOf(semconv.method),
      },
    ],
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 'reqps',
    stacked: true,
    width: 6,
  }),
  timeSeries({
    title: 'Errors that clients got',
    description:
      'Requests per second that failed, by error: tool_error is a result with isError, numbers are JSON-RPC codes, words are what failed below JSON-RPC or was refused by a limit of ours. Mistakes of the callers themselves are none.',
    queries: [
      {
        expr: sumBy([semconv.errorType], rate(oneUpstream.counts(metrics.serverOperationDuration, failedOperations))),
        legend: legendOf(semconv.errorType),
      },
    ],
    emptyWhenHealthy: 'no request failed.',
    unit: 'reqps',
    stacked: true,
    width: 6,
  }),
  timeSeries({
    title: 'Errors that the server gave',
    description:
      'The same as we get it from the server: every JSON-RPC error, also those that say that the caller made a mistake.',
    queries: [
      {
        expr: sumBy([semconv.errorType], rate(oneUpstream.counts(metrics.clientOperationDuration, failedOperations))),
        legend: legendOf(semconv.errorType),
      },
    ],
    emptyWhenHealthy: 'no request failed.',
    unit: 'reqps',
    stacked: true,
    width: 6,
  }),
  timeSeries({
    title: 'Request latency',
    description: 'As clients see it: with our own part and, in a queue, the time in it. Dots lead to traces.',
    queries: [0.5, 0.95, 0.99].map((ratio) => ({
      expr: quantile(ratio, [], rate(oneUpstream.buckets(metrics.serverOperationDuration))),
      legend: `p${ratio * 100}`,
      exemplars: ratio === 0.99,
    })),
    emptyWhenHealthy: 'no client asked for anything.',
    unit: 's',
    width: 6,
  }),
]

export const tools: readonly PanelPlan[] = [
  table({
    title: 'Tools',
    description:
      'Each tool that was called within the range of the dashboard. _overflow are tools that the server never listed, or beyond the first 200.',
    width: 24,
    height: 9,
    labels: [{ label: semconv.toolName, title: 'Tool' }],
    values: [
      { title: 'Calls', expr: sumBy(tool, increase(oneUpstream.counts(calls, toolCalls))), unit: 'short', decimals: 0 },
      {
        title: 'Failed',
        expr: requestErrorShare(oneUpstream, tool, increase, toolCalls),
        unit: 'percentunit',
        decimals: 1,
        thresholds: [
          { value: null, color: 'green' },
          { value: errorShareLimit, color: 'red' },
        ],
      },
      ...[0.5, 0.95, 0.99].map((ratio) => ({
        title: `p${ratio * 100}`,
        expr: quantile(ratio, tool, increase(oneUpstream.buckets(calls, toolCalls))),
        unit: 's',
      })),
    ],
    sortBy: { title: 'Calls', descending: true },
    emptyWhenHealthy: 'no tool was called.',
    empty: 'No tool was called',
  }),
  timeSeries({
    title: 'Calls by tool',
    description: 'Calls per second, the ten most used.',
    queries: [{ expr: topk(10, sumBy(tool, rate(oneUpstream.counts(calls, toolCalls)))), legend: byTool }],
    emptyWhenHealthy: 'no tool was called.',
    unit: 'reqps',
    stacked: true,
    width: 8,
  }),
  timeSeries({
    title: 'Failed calls by tool',
    description: 'The share of each tool’s calls that failed.',
    queries: [{ expr: requestErrorShare(oneUpstream, tool, rate, toolCalls), legend: byTool }],
    emptyWhenHealthy: 'no tool was called.',
    unit: 'percentunit',
    limits: [[errorShareLimit, 'red']],
    max: 1,
    width: 8,
  }),
  timeSeries({
    title: 'Slowest tools, p95',
    description: 'The time within which 95 % of the calls were answered, the ten slowest. Dots lead to traces.',
    queries: [
      {
        expr: topk(10, quantile(0.95, tool, rate(oneUpstream.buckets(calls, toolCalls)))),
        legend: byTool,
        exemplars: true,
      },
    ],
    emptyWhenHealthy: 'no tool was called.',
    unit: 's',
    width: 8,
  }),
]
