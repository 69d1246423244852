/**
 * What happens to a server, and what each alert makes of it: timelines of scrapes for `promtool test rules`. Times are in
 * minutes from the first scrape. The texts are written out as the person who is paged reads them.
 */
import { errorBudgetRatio } from '../../dashboards/src/slo.ts'
import type { AlertName } from '../../dashboards/src/links.ts'
import { defaults } from '../../src/defaults.ts'
import { type Metric, label, labelName, metrics, semconv } from '../../src/telemetry/names.ts'

/** A sample of a scrape; `gone` is a series that the scrape no longer has. */
type Sample = number | 'gone'

export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly samples: readonly Sample[]
}

/** A firing alert as it would be sent. */
export interface Firing {
  /** Besides `alertname`, and those that the rule itself adds. */
  readonly labels: Readonly<Record<string, string>>
  readonly description: string
}

export interface AlertCase {
  readonly alert: AlertName
  /** Which of the rules of that name, by labels that the rule adds; absent where there is one. */
  readonly rule?: Readonly<Record<string, string>>
  /** What it shows: that it fires and later resolves, or that just below the threshold it does not. */
  readonly kind: 'fires and resolves' | 'just below' | 'another alert tells'
  readonly what: string
  /** Minutes between scrapes; a quarter unless the windows are long. */
  readonly step?: number
  readonly series: readonly Series[]
  /** When it must be silent. */
  readonly silentAt: readonly number[]
  /** When it must fire, and with what. Not `just below`. */
  readonly firesAt?: readonly (Firing & { readonly at: number })[]
}

const { alerts, heartbeat, shedding } = defaults

const quarter = 0.25
const job = 'mcp-vitals'
const instance = 'vitals:9464'
export const target = { job, instance }
const files = { ...target, upstream: 'files' }
const stdio = { ...files, transport: 'stdio' }

/** A phase of a timeline: for so many minutes, from its start by so much each minute. */
interface Phase {
  readonly minutes: number
  /** Where it begins; where the phase before ended unless told. */
  readonly from?: number
  readonly perMinute?: number
}

/** A line of phases as scrapes see it. */
function line(phases: readonly Phase[], step = quarter): number[] {
  let value = 0
  return phases.flatMap(({ minutes, from = value, perMinute = 0 }) => {
    const count = Math.round(minutes / step)
    value = from + perMinute * minutes
    return Array.from({ length: count }, (_, index) => from + perMinute * index * step)
  })
}

type Step = readonly [value: number, minutes: number]

/** A gauge that stays at each value for so many minutes. */
function steps(...values: readonly Step[]): number[] {
  return line(values.map(([from, minutes]) => ({ from, minutes })))
}

/** A counter that goes up by one at each of these minutes, of so many in all. */
function events(at: readonly number[], minutes: number): number[] {
  return Array.from({ length: minutes / quarter }, (_, index) => at.filter((one) => one <= index * quarter).length)
}

function series(
  metric: Metric,
  samples: readonly Sample[],
  labels: Readonly<Record<string, string>> = {},
  part = '',
): Series {
  const own = metric.labels.includes(label.transport) ? stdio : metric.labels.includes(label.upstream) ? files : target
  const named = Object.entries(labels).map(([key, value]) => [labelName(key), value])
  return { name: metric.family + part, labels: { ...own, ...Object.fromEntries(named) }, samples }
}

const up = (...values: readonly Step[]) => series(metrics.upstreamUp, steps(...values))
const inState = (state: string, ...values: readonly Step[]) =>
  series(metrics.upstreamState, steps(...values), { state })

/** A heartbeat a second, of which this share is missed for so many minutes. */
function missing(share: number, minutes: number, calm: number, perMinute = 60): Series[] {
  const of = (outcome: string, rates: readonly [number, number]) =>
    series(
      metrics.heartbeats,
      line([
        { minutes, perMinute: rates[0] },
        { minutes: calm, perMinute: rates[1] },
      ]),
      { leg: 'upstream', outcome },
    )
  return [
    of('ok', [perMinute * (1 - share), perMinute]),
    of('timeout', [perMinute * share, 0]),
    // Those that tell nothing are not counted at all, nor are refusals missed heartbeats.
    of('inconclusive', [perMinute, perMinute]),
  ]
}

/** Ten heartbeats a minute of which this share takes 1 to 2 s, the others up to 1 s. */
function slow(share: number, minutes: number, calm: number): Series[] {
  const bucket = (le: string, rates: readonly [number, number]) => {
    const labels = { leg: 'upstream', outcome: 'ok', method: 'ping', le }
    const phases = [
      { minutes, perMinute: rates[0] },
      { minutes: calm, perMinute: rates[1] },
    ]
    return series(metrics.heartbeatDuration, line(phases), labels, '_bucket')
  }
  const quick = 10 * (1 - share)
  return [bucket('0.005', [0, 10]), bucket('1', [quick, 10]), bucket('2', [10, 10]), bucket('+Inf', [10, 10])]
}

const restarts = (reason: string, at: readonly number[], minutes: number) =>
  series(metrics.upstreamRestarts, events(at, minutes), { reason })

const outages = (at: readonly number[], minutes: number) =>
  series(metrics.upstreamStateChanges, events(at, minutes), { from: 'healthy', to: 'down' })

/** Calls of a tool by the minute, of which this share fails for the first minutes. */
function calls(share: number, minutes: number, calm: number, perMinute = 10): Series[] {
  const of = (labels: Readonly<Record<string, string>>, rates: readonly [number, number]) =>
    series(
      metrics.serverOperationDuration,
      line([
        { minutes, perMinute: rates[0] },
        { minutes: calm, perMinute: rates[1] },
      ]),
      { [semconv.method]: 'tools/call', [semconv.toolName]: 'read_file', ...labels },
      '_count',
    )
  return [
    of({}, [perMinute * (1 - share), perMinute]),
    of({ [semconv.errorType]: 'tool_error' }, [perMinute * share, 0]),
    of({ [semconv.errorType]: 'cancelled' }, [0, 0]),
  ]
}

/** Unavailable for that share of the time, and then not at all. */
const unavailable = (share: number, minutes: number, calm: number, step = quarter) =>
  series(metrics.upstreamUnavailable, line([{ minutes, perMinute: 60 * share }, { minutes: calm }], step))

const mebibytes = (phases: readonly Phase[]) =>
  series(
    metrics.processResidentMemory,
    line(phases).map((value) => Math.round(value * 2 ** 20)),
  )
const processes = (...values: readonly Step[]) => series(metrics.upstreamProcesses, steps(...values))

const gone = (samples: readonly Sample[], minutes: number): Sample[] => [
  ...samples,
  ...Array.from({ length: minutes / quarter }, () => 'gone' as const),
]
const isUp = (samples: readonly Sample[], labels: Readonly<Record<string, string>> = target): Series => ({
  name: 'up',
  labels,
  samples,
})
const buildInfo = (samples: readonly Sample[]) =>
  series(metrics.buildInfo, samples, { [label.version]: '0.1.0', [label.nodeVersion]: '24.21.0' })

const errorRatio = heartbeat.errorRateThresholdPercent / 100
const debug = "curl 'http://vitals:9464/debug/heartbeat?upstream=files'"
const ready = "curl 'http://vitals:9464/-/ready/files'"

/** A budget that goes so many times too fast over a long and a short window. */
function burning(tier: {
  readonly alert: AlertName
  readonly rate: number
  readonly long: string
  readonly short: string
  readonly minutes: number
  readonly calm: number
  readonly step: number
  readonly percent: string
  readonly allowed: string
}): AlertCase[] {
  const { alert, rate, long, short, minutes, calm, step } = tier
  const limit = rate * errorBudgetRatio
  const common = { alert, rule: { long, short }, step } as const
  return [
    {
      ...common,
      kind: 'fires and resolves',
      what: `short outages take a little more than ${rate} times the budget`,
      series: [unavailable(limit * 1.02, minutes, calm, step)],
      silentAt: [minutes + calm - 2 * step],
      firesAt: [
        {
          at: minutes - step,
          labels: files,
          description:
            `files behind vitals:9464 was unavailable for ${tier.percent} of the last ${long}, more than ${tier.allowed} ` +
            `99.5 % in 30d allow. Why: "failures" and "patterns" of ${debug}`,
        },
      ],
    },
    {
      ...common,
      kind: 'just below',
      what: `short outages take a little less than ${rate} times the budget`,
      series: [unavailable(limit * 0.98, minutes, calm, step)],
      silentAt: [minutes / 2, minutes - step, minutes + calm / 2],
    },
  ]
}

const day = 24 * 60

export const alertCases: readonly AlertCase[] = [
  {
    alert: 'McpUpstreamDown',
    kind: 'fires and resolves',
    what: 'it goes down and comes back',
    series: [up([1, 2], [0, 5], [1, 3]), series(metrics.heartbeatLastSuccess, steps([105, 7], [420, 3]))],
    silentAt: [2, 3.75, 7, 9],
    firesAt: [
      {
        at: 4,
        labels: stdio,
        description: `files behind vitals:9464 (stdio) is down: its last answer was 2m 15s ago. Its clients get errors. Why: ${ready}`,
      },
    ],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'fires and resolves',
    what: 'it never answers after the start, and then does',
    series: [up([0, 5], [1, 2]), series(metrics.heartbeatLastSuccess, [...Array<'gone'>(20).fill('gone'), 300, 300])],
    silentAt: [1.75, 5],
    firesAt: [
      {
        at: 2,
        labels: stdio,
        description: `files behind vitals:9464 (stdio) is down: it never answered since mcp-vitals started. Its clients get errors. Why: ${ready}`,
      },
    ],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'just below',
    what: 'it is back after less than two minutes',
    series: [up([1, 2], [0, 1.75], [1, 3])],
    silentAt: [2, 3.5, 3.75, 4, 5],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'another alert tells',
    what: 'it wants credentials',
    series: [up([0, 9]), inState('needs_auth', [1, 9])],
    silentAt: [2, 5, 8],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'another alert tells',
    what: 'its process cannot be started',
    series: [up([0, 9]), inState('crash_loop', [1, 9]), restarts('exit', [], 9)],
    silentAt: [2, 5, 8],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'another alert tells',
    what: 'its process ends again and again',
    series: [up([0, 9]), restarts('exit', [0.25, 0.5, 0.75, 1, 2, 3, 4, 5, 6, 7], 9)],
    silentAt: [2, 5, 8],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'another alert tells',
    what: 'it fell silent with most others',
    series: [up([0, 9]), series(metrics.upstreamSilentTogether, steps([1, 9]))],
    silentAt: [2, 5, 8],
  },
  {
    alert: 'McpUpstreamDown',
    kind: 'fires and resolves',
    what: 'most others fell silent together, and it is down by itself',
    series: [
      up([1, 2], [0, 3], [1, 2]),
      series(metrics.correlatedFailure, steps([1, 7])),
      series(metrics.upstreamSilentTogether, steps([0, 7])),
      series(metrics.upstreamSilentTogether, steps([1, 7]), { upstream: 'other' }),
    ],
    silentAt: [2, 3.75, 5, 6],
    firesAt: [
      {
        at: 4.5,
        labels: stdio,
        description: `files behind vitals:9464 (stdio) is down: it never answered since mcp-vitals started. Its clients get errors. Why: ${ready}`,
      },
    ],
  },
  {
    alert: 'McpUpstreamsSilentTogether',
    kind: 'fires and resolves',
    what: 'most servers are silent for three minutes',
    series: [series(metrics.correlatedFailure, steps([0, 1], [1, 3], [0, 2]))],
    silentAt: [1, 1.75, 4, 5],
    firesAt: [
      {
        at: 2,
        labels: target,
        description:
          'More than half of the servers behind vitals:9464 fell silent within seconds of each other: suspect the network, ' +
          'the machine or mcp-vitals, and not the servers. McpUpstreamDown is held back for them. Which ones: ' +
          "curl 'http://vitals:9464/debug/heartbeat' (silent_together)",
      },
    ],
  },
  {
    alert: 'McpUpstreamsSilentTogether',
    kind: 'just below',
    what: 'they answer again within a minute',
    series: [series(metrics.correlatedFailure, steps([0, 1], [1, 0.75], [0, 2]))],
    silentAt: [1.5, 1.75, 2, 3],
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    kind: 'fires and resolves',
    what: 'a tenth is missed for five minutes',
    series: [...missing(0.1, 5, 15), unavailable(0, 20, 0)],
    silentAt: [0.75, 11, 15],
    firesAt: [
      {
        at: 3,
        labels: files,
        description: `files behind vitals:9464 left 10% of its heartbeats in the last 10 minutes without an answer (threshold 5 %), and answers in between. With what: "failures" and "patterns" of ${debug}`,
      },
    ],
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    kind: 'just below',
    what: 'a little less than the threshold is missed',
    series: missing(errorRatio * 0.98, 20, 1),
    silentAt: [3, 10, 20],
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    kind: 'just below',
    what: 'among ten calm heartbeats one or two are missed',
    series: missing((alerts.heartbeatMisses - 0.1) / 10, 20, 1, 1),
    silentAt: [3, 10, 15, 20],
  },
  {
    alert: 'McpHeartbeatErrorRateHigh',
    kind: 'another alert tells',
    what: 'it hung for half a minute, and was started again',
    series: [...missing(1, 0.5, 14.5, 12), unavailable(1, 0.5, 14.5)],
    silentAt: [1, 2, 5, 8],
  },
  {
    alert: 'McpHeartbeatSlow',
    kind: 'fires and resolves',
    what: 'all answers take between 1 and 2 s for ten minutes',
    series: [...slow(1, 10, 10), up([1, 20])],
    silentAt: [5, 16, 19],
    firesAt: [
      {
        at: 6,
        labels: files,
        description: `Half of the heartbeats of files behind vitals:9464 take longer than 1.5s (threshold 1000 ms); its clients wait at least as long. Times and reasons: ${debug}`,
      },
    ],
  },
  {
    alert: 'McpHeartbeatSlow',
    kind: 'just below',
    what: 'a little less than half takes longer than 1 s',
    series: [...slow(0.49, 15, 5), up([1, 20])],
    silentAt: [6, 10, 15],
  },
  {
    alert: 'McpHeartbeatSlow',
    kind: 'another alert tells',
    what: 'it is down',
    series: [...slow(1, 15, 5), up([0, 20])],
    silentAt: [6, 10, 15],
  },
  {
    alert: 'McpUpstreamFlapping',
    kind: 'fires and resolves',
    what: 'it goes down four times in a quarter of an hour',
    series: [outages([1, 5, 9, 13], 40)],
    silentAt: [12, 14.75, 24, 35],
    firesAt: [
      {
        at: 16,
        labels: files,
        description: `files behind vitals:9464 went down 4 times in the last 30 minutes. What each began with: "failures" and "patterns" of ${debug}`,
      },
    ],
  },
  {
    alert: 'McpUpstreamFlapping',
    kind: 'just below',
    what: 'it goes down once less',
    series: [
      outages(
        Array.from({ length: alerts.flaps - 1 }, (_, index) => 1 + 4 * index),
        40,
      ),
    ],
    silentAt: [10, 14, 20, 30],
  },
  {
    alert: 'McpUpstreamFlapping',
    kind: 'another alert tells',
    what: 'its process loops, and then no more',
    series: [outages([1, 4, 7, 10], 30), restarts('signal', [1, 4, 7, 10], 30)],
    silentAt: [10.5, 13, 16, 18, 19.5, 25],
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    rule: { severity: 'warning' },
    kind: 'fires and resolves',
    what: 'our heartbeats are refused while nobody uses it, until it gets credentials',
    series: [inState('needs_auth', [0, 1], [1, 9], [0, 2])],
    silentAt: [5.75, 10, 11],
    firesAt: [
      {
        at: 6,
        labels: { ...stdio, state: 'needs_auth' },
        description: `files behind vitals:9464 (stdio) refuses our heartbeats with 401 or 403, or no token can be had for it. No client was refused in the last 10 minutes, and none was answered lately, so nobody knows whether it works. Why: ${ready}`,
      },
    ],
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    rule: { severity: 'warning' },
    kind: 'just below',
    what: 'it answers again in less than five minutes',
    series: [inState('needs_auth', [0, 1], [1, 4.75], [0, 5])],
    silentAt: [3, 5.5, 6, 8],
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    rule: { severity: 'critical' },
    kind: 'fires and resolves',
    what: 'a credential expires while clients use it, and is renewed',
    series: [
      inState('needs_auth', [0, 2], [1, 6], [0, 2]),
      series(
        metrics.clientOperationDuration,
        line([{ minutes: 2 }, { minutes: 8, perMinute: 4 }]),
        { [semconv.method]: 'tools/call', [semconv.errorType]: 'upstream_unauthorized' },
        '_count',
      ),
    ],
    silentAt: [3.75, 8, 9],
    firesAt: [
      {
        at: 5,
        labels: { ...stdio, state: 'needs_auth' },
        description: `files behind vitals:9464 (stdio) refuses heartbeats and clients with 401 or 403, or no token can be had for it: most likely a credential has expired or was revoked. Why: ${ready}`,
      },
    ],
  },
  {
    alert: 'McpUpstreamNeedsAuth',
    rule: { severity: 'critical' },
    kind: 'just below',
    what: 'it answers again in less than two minutes',
    series: [
      inState('needs_auth', [0, 2], [1, 1.75], [0, 2]),
      series(
        metrics.clientOperationDuration,
        line([{ minutes: 6, perMinute: 4 }]),
        { [semconv.method]: 'tools/call', [semconv.errorType]: 'upstream_unauthorized' },
        '_count',
      ),
    ],
    silentAt: [3, 3.75, 4, 5],
  },
  {
    alert: 'McpProcessCrashLooping',
    kind: 'fires and resolves',
    what: 'it is started four times, and then stays up',
    series: [restarts('signal', [1, 1.25, 2], 20), restarts('exit', [3], 20), inState('crash_loop', [0, 20])],
    silentAt: [2.75, 8.5, 12],
    firesAt: [
      {
        at: 3.5,
        labels: files,
        description: `The process of files behind vitals:9464 was started again 4 times in the last 15 minutes, and each time its clients lost their sessions. Why: "reason", "failures" and "process" of ${debug}`,
      },
    ],
  },
  {
    alert: 'McpProcessCrashLooping',
    kind: 'fires and resolves',
    what: 'its command is not found, until it is installed',
    series: [restarts('exit', [], 15), inState('crash_loop', [0, 1], [1, 10], [0, 4])],
    silentAt: [0.75, 11, 13],
    firesAt: [
      {
        at: 2,
        labels: files,
        description: `The process of files behind vitals:9464 cannot be started; mcp-vitals tries again every 10 minutes. Why: "reason", "failures" and "process" of ${debug}`,
      },
    ],
  },
  {
    alert: 'McpProcessCrashLooping',
    kind: 'just below',
    what: 'it is started once less, and as often as anybody likes by request',
    series: [
      restarts(
        'signal',
        Array.from({ length: alerts.crashes - 1 }, (_, index) => 1 + index),
        20,
      ),
      restarts('manual', [1, 2, 3, 4, 5, 6], 20),
      restarts('config', [1, 2, 3, 4, 5, 6], 20),
    ],
    silentAt: [3, 4, 6, 10],
  },
  {
    alert: 'McpProcessMemoryGrowing',
    kind: 'fires and resolves',
    what: 'it leaks 300 MiB an hour, and is replaced',
    series: [
      mebibytes([
        { minutes: 80, from: 300, perMinute: 5 },
        { minutes: 10, from: 300 },
      ]),
      processes([1, 90]),
    ],
    silentAt: [59, 82],
    firesAt: [
      {
        at: 75,
        labels: files,
        description: `At the pace of the last hour each process of files behind vitals:9464 will use 1.831GiB in 4 hours. What each uses now: "process" of ${debug}`,
      },
    ],
  },
  {
    alert: 'McpProcessMemoryGrowing',
    kind: 'just below',
    what: 'it leaks as fast, but would not reach the limit in time',
    series: [mebibytes([{ minutes: 90, from: 100, perMinute: 2.5 }]), processes([1, 90])],
    silentAt: [60, 75, 89],
  },
  {
    alert: 'McpProcessMemoryGrowing',
    kind: 'just below',
    what: 'it grows by a step, as when a model is loaded',
    series: [
      mebibytes([
        { minutes: 65, from: 100 },
        { minutes: 80, from: 900 },
      ]),
      processes([1, 145]),
    ],
    silentAt: [70, 80, 90, 100, 120, 140],
  },
  {
    alert: 'McpProcessMemoryGrowing',
    kind: 'just below',
    what: 'more sessions have more processes',
    series: [
      mebibytes([{ minutes: 90, from: 300, perMinute: 5 }]),
      series(metrics.upstreamProcesses, line([{ minutes: 90, from: 3, perMinute: 0.05 }])),
    ],
    silentAt: [60, 75, 89],
  },
  {
    alert: 'McpToolErrorRateHigh',
    kind: 'fires and resolves',
    what: 'half of its calls fail for ten minutes',
    series: [...calls(0.5, 10, 15), unavailable(0, 25, 0)],
    silentAt: [4, 17, 22],
    firesAt: [
      {
        at: 8,
        labels: { ...files, [labelName(semconv.toolName)]: 'read_file' },
        description:
          'The tool "read_file" of files behind vitals:9464 failed in 50% of its calls in the last 10 minutes (threshold 25 %), mistakes of callers aside, while the server itself answers.',
      },
    ],
  },
  {
    alert: 'McpToolErrorRateHigh',
    kind: 'just below',
    what: 'a little less than the threshold fails',
    series: calls(alerts.toolErrorRatio * 0.98, 25, 1),
    silentAt: [8, 15, 25],
  },
  {
    alert: 'McpToolErrorRateHigh',
    kind: 'just below',
    what: 'a tool that is seldom called fails often',
    series: calls(0.5, 25, 1, (alerts.toolErrors - 0.1) / 5),
    silentAt: [8, 15, 25],
  },
  {
    alert: 'McpToolErrorRateHigh',
    kind: 'another alert tells',
    what: 'the process of the server loops',
    series: [...calls(0.5, 10, 15), restarts('signal', [1, 2, 3, 4], 25)],
    silentAt: [7, 10, 15],
  },
  {
    alert: 'McpToolErrorRateHigh',
    kind: 'another alert tells',
    what: 'the server was down',
    series: [...calls(0.5, 5, 15), unavailable(1, 5, 15)],
    silentAt: [5, 8, 12],
  },
  {
    alert: 'McpSessionsWithIssues',
    kind: 'fires and resolves',
    what: 'two sessions hang, until their clients open others',
    series: [series(metrics.sessionsWithIssues, steps([0, 1], [2, 7], [0, 2])), up([1, 10])],
    silentAt: [5.75, 8, 9],
    firesAt: [
      {
        at: 6,
        labels: files,
        description: `Sessions with files behind vitals:9464 in which one end answers no heartbeats, though the server as a whole does: 2. Which ones: "hung" in "sessions" of ${debug}`,
      },
    ],
  },
  {
    alert: 'McpSessionsWithIssues',
    kind: 'just below',
    what: 'the session is over in less than five minutes',
    series: [series(metrics.sessionsWithIssues, steps([0, 1], [1, 4.75], [0, 4])), up([1, 10])],
    silentAt: [3, 5.75, 6, 8],
  },
  {
    alert: 'McpSessionsWithIssues',
    kind: 'another alert tells',
    what: 'the server is down, and so all sessions have issues',
    series: [series(metrics.sessionsWithIssues, steps([3, 10])), up([0, 10])],
    silentAt: [5, 7, 9],
  },
  {
    alert: 'McpConnectionPoolExhausted',
    kind: 'fires and resolves',
    what: 'requests wait for three minutes',
    series: [series(metrics.upstreamQueueLength, steps([0, 1], [12, 3], [0, 2])), up([1, 6])],
    silentAt: [2.75, 4, 5],
    firesAt: [
      {
        at: 3,
        labels: files,
        description: `For 2 minutes as many requests to files behind vitals:9464 have been under way as may be (max_in_flight), and 12 more wait. Those that wait for too long get 503 queue_full. What it does: ${debug}`,
      },
    ],
  },
  {
    alert: 'McpConnectionPoolExhausted',
    kind: 'just below',
    what: 'the queue is empty once within two minutes',
    series: [series(metrics.upstreamQueueLength, steps([0, 1], [12, 1.75], [0, 0.25], [12, 1.75], [0, 2])), up([1, 7])],
    silentAt: [2.5, 3, 4, 4.5, 5],
  },
  {
    alert: 'McpInventoryShrank',
    kind: 'fires and resolves',
    what: 'two tools are gone after a restart, and come back',
    series: [
      series(metrics.upstreamTools, steps([5, 10], [3, 10], [5, 10])),
      inState('degraded', [0, 10], [1, 10], [0, 10]),
    ],
    silentAt: [10, 11.75, 20, 25],
    firesAt: [
      {
        at: 12,
        labels: files,
        description: `files behind vitals:9464 lists fewer tools than before, without having announced that. Missing: 2. Their names: ${ready}`,
      },
    ],
  },
  {
    alert: 'McpInventoryShrank',
    kind: 'just below',
    what: 'the tools are back within two minutes',
    series: [
      series(metrics.upstreamTools, steps([5, 10], [3, 1.75], [5, 10])),
      inState('degraded', [0, 10], [1, 1.75], [0, 10]),
    ],
    silentAt: [11.5, 11.75, 12, 15],
  },
  {
    alert: 'McpInventoryShrank',
    kind: 'just below',
    what: 'the server has announced that there are fewer, or it is degraded by something else',
    series: [series(metrics.upstreamTools, steps([5, 10], [3, 10])), inState('degraded', [1, 10], [0, 10])],
    silentAt: [5, 9, 12, 19],
  },
  ...burning({
    alert: 'McpAvailabilityBurnRateHigh',
    rate: 14.4,
    long: '1h',
    short: '5m',
    minutes: 65,
    calm: 15,
    step: quarter,
    percent: '7.344%',
    allowed: '14.4 times what',
  }),
  ...burning({
    alert: 'McpAvailabilityBurnRateHigh',
    rate: 6,
    long: '6h',
    short: '30m',
    minutes: 6.5 * 60,
    calm: 60,
    step: 1,
    percent: '3.06%',
    allowed: '6 times what',
  }),
  ...burning({
    alert: 'McpAvailabilityBurnRateSlow',
    rate: 3,
    long: '1d',
    short: '2h',
    minutes: day + 60,
    calm: 180,
    step: 2,
    percent: '1.53%',
    allowed: '3 times what',
  }),
  ...burning({
    alert: 'McpAvailabilityBurnRateSlow',
    rate: 1,
    long: '3d',
    short: '6h',
    minutes: 3 * day + 60,
    calm: 480,
    step: 4,
    percent: '0.51%',
    allowed: 'what',
  }),
  {
    alert: 'McpAvailabilityBurnRateHigh',
    rule: { long: '1h', short: '5m' },
    kind: 'another alert tells',
    what: 'it fell silent with most others for long, and answers again',
    series: [
      up([1, 10], [0, 20], [1, 20]),
      series(metrics.correlatedFailure, steps([0, 10], [1, 20], [0, 20])),
      series(metrics.upstreamSilentTogether, steps([0, 10], [1, 20], [0, 20])),
      series(metrics.upstreamUnavailable, line([{ minutes: 10 }, { minutes: 20, perMinute: 60 }, { minutes: 20 }])),
    ],
    silentAt: [15, 20, 29, 31, 33, 36],
  },
  {
    alert: 'McpAvailabilityBurnRateHigh',
    rule: { long: '1h', short: '5m' },
    kind: 'another alert tells',
    what: 'one long outage was told of, and is over',
    series: [
      up([1, 10], [0, 20], [1, 20]),
      series(metrics.upstreamUnavailable, line([{ minutes: 10 }, { minutes: 20, perMinute: 60 }, { minutes: 20 }])),
    ],
    silentAt: [15, 20, 29, 31, 33, 36],
  },
  {
    alert: 'McpVitalsDown',
    kind: 'fires and resolves',
    what: 'one of two dies, and is started again',
    series: [
      isUp(steps([1, 2], [0, 4], [1, 2])),
      buildInfo([...gone(steps([1, 2]), 4), ...steps([1, 2])]),
      isUp(steps([1, 8]), { ...target, instance: 'other:9464' }),
      { ...buildInfo(steps([1, 8])), labels: { ...target, instance: 'other:9464' } },
    ],
    silentAt: [1, 3.75, 6, 7],
    firesAt: [
      {
        at: 4,
        labels: target,
        description:
          'vitals:9464 cannot be scraped. Clients that reach their servers through it get no answer, and the other alerts cannot see those servers.',
      },
    ],
  },
  {
    alert: 'McpVitalsDown',
    kind: 'fires and resolves',
    what: 'there is none at all any more, and later one again',
    series: [
      isUp([...gone(steps([1, 2]), 4), ...steps([1, 2])]),
      buildInfo([...gone(steps([1, 2]), 4), ...steps([1, 2])]),
    ],
    silentAt: [1, 3.75, 6, 7],
    firesAt: [
      {
        at: 4,
        labels: {},
        description:
          'Prometheus scrapes no mcp-vitals at all. Clients that reach their servers through it get no answer, and the other alerts cannot see those servers.',
      },
    ],
  },
  {
    alert: 'McpVitalsDown',
    kind: 'just below',
    what: 'it is back in less than two minutes; somebody else, and the wrapper of a client, are down',
    series: [
      isUp(steps([1, 2], [0, 1.75], [1, 4])),
      buildInfo([...gone(steps([1, 2]), 1.75), ...steps([1, 4])]),
      isUp(steps([0, 8]), { job: 'node', instance: 'node:9100' }),
      isUp(steps([1, 2], [0, 6]), { ...files, instance: 'localhost:40001' }),
      { ...buildInfo(gone(steps([1, 2]), 6)), labels: { ...files, instance: 'localhost:40001' } },
    ],
    silentAt: [3, 3.75, 4, 6],
  },
  {
    alert: 'McpVitalsOverloaded',
    rule: { severity: 'warning' },
    kind: 'fires and resolves',
    what: 'its load is high for ten minutes',
    series: [series(metrics.loadRatio, steps([0.9, 10], [0.1, 10]))],
    silentAt: [4.75, 13, 18],
    firesAt: [
      {
        at: 6,
        labels: target,
        description:
          'The load of vitals:9464 was 90% of what it can bear, over 5 minutes (threshold 80 %). What passes through it may be delayed, and will be refused if that grows.',
      },
    ],
  },
  {
    alert: 'McpVitalsOverloaded',
    rule: { severity: 'warning' },
    kind: 'just below',
    what: 'its load is a little lower',
    series: [series(metrics.loadRatio, steps([shedding.loadFrom - 0.01, 20]))],
    silentAt: [6, 12, 19],
  },
  {
    alert: 'McpVitalsOverloaded',
    rule: { severity: 'critical' },
    kind: 'fires and resolves',
    what: 'it refuses tool calls for ten minutes',
    series: [
      series(metrics.shed, line([{ minutes: 10, perMinute: 5 }, { minutes: 5 }]), { what: 'tool_call' }),
      series(metrics.shed, line([{ minutes: 15, perMinute: 500 }]), { what: 'trace' }),
    ],
    silentAt: [4.75, 12.5, 14],
    firesAt: [
      {
        at: 6,
        labels: target,
        description:
          'vitals:9464 is overloaded and refused 10 new sessions and tool calls in the last 2 minutes. Their clients get 503 overloaded.',
      },
    ],
  },
  {
    alert: 'McpVitalsOverloaded',
    rule: { severity: 'critical' },
    kind: 'just below',
    what: 'it refuses something for two minutes, and spans all the time',
    series: [
      series(metrics.shed, line([{ minutes: 2, perMinute: 5 }, { minutes: 10 }]), { what: 'session' }),
      series(metrics.shed, line([{ minutes: 12, perMinute: 500 }]), { what: 'trace' }),
    ],
    silentAt: [3, 5, 6, 11],
  },
  {
    alert: 'McpVitalsConfigReloadFailed',
    kind: 'fires and resolves',
    what: 'a file has a fault for ten minutes',
    series: [
      series(metrics.configReloadSuccessful, steps([1, 1], [0, 10], [1, 2])),
      series(metrics.configReloadTimestamp, steps([0, 11], [660, 2])),
    ],
    silentAt: [5.75, 11, 12],
    firesAt: [
      {
        at: 6,
        labels: target,
        description:
          'vitals:9464 runs with the configuration of 6m 0s ago: its files changed since, and were refused. After a stop ' +
          "it may not come up again. What is wrong with them: curl 'http://vitals:9464/debug/heartbeat' (config.last_reload)",
      },
    ],
  },
  {
    alert: 'McpVitalsConfigReloadFailed',
    kind: 'just below',
    what: 'the fault is mended in less than five minutes',
    series: [
      series(metrics.configReloadSuccessful, steps([1, 1], [0, 4.75], [1, 5])),
      series(metrics.configReloadTimestamp, steps([0, 10])),
    ],
    silentAt: [3, 5.5, 6, 8],
  },
  {
    alert: 'McpVitalsLabelOverflow',
    kind: 'fires and resolves',
    what: 'clients ask for tools that it does not list, for half an hour',
    series: [series(metrics.labelOverflow, line([{ minutes: 30, perMinute: 0.5 }, { minutes: 70 }]))],
    silentAt: [15, 80, 95],
    firesAt: [
      {
        at: 40,
        labels: files,
        description:
          '15 requests to files behind vitals:9464 in the last hour have no name of their own, but count as _overflow: it has too many tools or prompts, or clients ask for some that it does not list.',
      },
    ],
  },
  {
    alert: 'McpVitalsLabelOverflow',
    kind: 'just below',
    what: 'no more than the limit',
    series: [
      series(
        metrics.labelOverflow,
        line([{ minutes: 30, perMinute: (alerts.labelOverflows - 0.5) / 30 }, { minutes: 40 }]),
      ),
    ],
    silentAt: [20, 30, 45, 60],
  },
]
