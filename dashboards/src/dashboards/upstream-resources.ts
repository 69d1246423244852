/** What one server uses: processes, connections, places in the queue; and the sessions with it. */
import { label, metrics } from '../../../src/telemetry/names.ts'
import { circuitStates } from '../../../src/upstreams/breaker.ts'
import { is } from '../promql.ts'
import { legendOf, maxBy, rate, recentIncrease, sum, sumBy } from './expressions.ts'
import { mapping } from './look.ts'
import { events, stateTimeline, timeSeries } from './panels.ts'
import type { PanelPlan } from './plan.ts'
import { oneUpstream } from './scope.ts'

const instance = ['instance']
const byInstance = '{{instance}}'

const noProcess = 'mcp-vitals runs no process of this server.'

export const processes: readonly PanelPlan[] = [
  timeSeries({
    title: 'Memory',
    description: 'Resident memory of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.processResidentMemory)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'bytes',
    width: 8,
  }),
  timeSeries({
    title: 'CPU',
    description: 'CPU time per second, in cores, of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, rate(oneUpstream.series(metrics.processCpu))), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Processes',
    description:
      'Processes that mcp-vitals runs for this server (the resident one, those of sessions, spare ones), what these started themselves, and orphans: those of it whose own parent has gone.',
    queries: [
      { expr: sum(oneUpstream.series(metrics.upstreamProcesses)), legend: 'ours' },
      { expr: sum(oneUpstream.series(metrics.processChildren)), legend: 'children' },
      { expr: sum(oneUpstream.series(metrics.processOrphans)), legend: 'orphans' },
    ],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Open files',
    description: 'Open file descriptors of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.processOpenFds)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'Threads',
    description: 'Threads of the server’s processes and all that they started.',
    queries: [{ expr: sumBy(instance, oneUpstream.series(metrics.processThreads)), legend: byInstance }],
    emptyWhenHealthy: noProcess,
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Restarts',
    description: 'Processes that were started again, by reason.',
    queries: [
      {
        expr: `${sumBy([label.reason], recentIncrease(oneUpstream.series(metrics.upstreamRestarts)))} > 0`,
        legend: legendOf(label.reason),
      },
    ],
    emptyWhenHealthy: 'nothing had to be started again.',
    unit: 'short',
    width: 8,
  }),
]

export const traffic: readonly PanelPlan[] = [
  timeSeries({
    title: 'Connections',
    description:
      'Connections to the server. Pending are requests that wait for one: the pool is too small, or the server too slow.',
    queries: [
      { expr: sumBy([label.state], oneUpstream.series(metrics.upstreamConnections)), legend: legendOf(label.state) },
    ],
    emptyWhenHealthy: 'the server is a process and has no connections.',
    unit: 'short',
    width: 8,
  }),
  timeSeries({
    title: 'In flight and queued',
    description: 'Requests whose clients wait for the server, and those that wait for their turn.',
    queries: [
      { expr: sum(oneUpstream.series(metrics.upstreamRequestsInFlight)), legend: 'in flight' },
      { expr: sum(oneUpstream.series(metrics.upstreamQueueLength)), legend: 'queued' },
    ],
    unit: 'short',
    width: 8,
  }),
  stateTimeline({
    title: 'Circuit breaker',
    description:
      'Closed lets requests pass; open refuses them for a while after several failed; half open lets one try.',
    queries: [{ expr: maxBy(instance, circuitNumber()), legend: byInstance }],
    mappings: [
      mapping({
        0: { text: 'closed', color: 'green' },
        1: { text: 'open', color: 'red' },
        2: { text: 'half open', color: 'yellow' },
      }),
    ],
    emptyWhenHealthy: 'the circuit breaker is off.',
    width: 8,
  }),
  events({
    title: 'Circuit openings',
    description: 'How often the circuit breaker began to refuse requests.',
    queries: [
      { expr: sumBy(instance, recentIncrease(oneUpstream.series(metrics.upstreamCircuitOpened))), legend: byInstance },
    ],
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Undelivered messages',
    description: 'Messages that could not be delivered because a limit was reached or nobody was there, by reason.',
    queries: [
      {
        expr: `${sumBy([label.reason], recentIncrease(oneUpstream.series(metrics.droppedMessages)))} > 0`,
        legend: legendOf(label.reason),
      },
    ],
    emptyWhenHealthy: 'every message was delivered.',
    unit: 'short',
    width: 8,
  }),
  events({
    title: 'Unmeasured messages',
    description:
      'Messages that passed but could not be read, and requests for tools and prompts that the server never listed.',
    queries: [
      { expr: sum(recentIncrease(oneUpstream.series(metrics.unparsedMessages))), legend: 'unreadable' },
      { expr: sum(recentIncrease(oneUpstream.series(metrics.labelOverflow))), legend: '_overflow' },
    ],
    unit: 'short',
    width: 8,
  }),
]

export const sessions: readonly PanelPlan[] = [
  timeSeries({
    title: 'Sessions',
    description: 'Client sessions that are open, by the client’s transport.',
    queries: [
      { expr: sumBy([label.transport], oneUpstream.series(metrics.sessionsActive)), legend: legendOf(label.transport) },
    ],
    unit: 'short',
    stacked: true,
    width: 8,
  }),
  timeSeries({
    title: 'Sessions with issues',
    description: 'Client sessions of which one end stopped answering heartbeats, or whose server is unavailable.',
    queries: [
      {
        expr: sumBy([label.transport], oneUpstream.series(metrics.sessionsWithIssues)),
        legend: legendOf(label.transport),
      },
    ],
    unit: 'short',
    limits: [[1, 'red']],
    width: 8,
  }),
  timeSeries({
    title: 'Inventory',
    description: 'Tools that the server lists, and how often their names or schemas changed.',
    queries: [
      { expr: `max(${oneUpstream.series(metrics.upstreamTools)})`, legend: 'tools' },
      { expr: sum(recentIncrease(oneUpstream.series(metrics.upstreamInventoryChanges))), legend: 'changes' },
    ],
    unit: 'short',
    width: 8,
  }),
]

/** The state of the circuit breaker as a number, its place in the list of its states. */
function circuitNumber(): string {
  const terms = circuitStates.map(
    (state, index) => `${index} * (${oneUpstream.series(metrics.upstreamCircuit, { [label.state]: is(state) })} == 1)`,
  )
  return terms.join('\n  or ')
}
