/**
 * A soak of faults: one mcp-vitals in front of real servers of every transport and both eras, on which faults of every
 * kind are tried at random, several at a time. A referee holds what the log, the metrics and the alerts tell against what
 * was done: each fault has to be found with its reason and followed by its action, in time and by nothing else; and at
 * the end nothing is left: no process, no memory, no file descriptor.
 *
 *   npm run soak:faults -- --minutes 30 --seed 7
 *
 * Exit code 1 when anything is wrong, 2 when the run itself failed.
 */
import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { DebugUpstream } from '../../src/admin/debug.ts'
import { defaults } from '../../src/defaults.ts'
import { errorMessage } from '../../src/errors.ts'
import { StartGate, type StartLane } from '../../src/upstreams/start-gate.ts'
import { mediansOfWindows } from '../bench/load.ts'
import { processUsage } from '../bench/proc.ts'
import { endWithSignals } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { heapMeter, inspectable } from '../support/inspector.ts'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { groupMembers, markedProcesses } from '../support/processes.ts'
import type { Program } from '../support/program.ts'
import { seeded } from '../support/seeded.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { type Kind, type Law, type Victim, kinds, oneProbeMs, recoveryMs } from './fault-soak-kinds.ts'
import { type Counts, type KindSummary, Referee } from './fault-soak-referee.ts'
import { type Server, type Wish, serverFor, wholeFleet } from './fault-soak-servers.ts'
import { type Seen, changeOf, watch } from './fault-watch.ts'

export interface FaultSoakOptions {
  readonly durationMs: number
  readonly seed: number
  readonly fleet: readonly Wish[]
  /** What is started, with the constants of its law; the program itself unless told. */
  readonly script?: Program
  readonly law: Law
  /** How long something must be wrong before people are told, and gone before that is over. */
  readonly alertSeconds: { readonly for: number; readonly keepFiring: number }
  /** A server is left alone for so long between two faults, at the least and at the most. */
  readonly pauseMs: readonly [least: number, most: number]
  /** Hears a line of progress now and then. */
  readonly onNote?: (line: string) => void
}

export interface FaultSoakResult {
  readonly kinds: readonly KindSummary[]
  readonly problems: readonly string[]
  /** How often mcp-vitals itself was stopped for two seconds. */
  readonly stalls: number
  readonly alerts: number
  /** Resident memory of mcp-vitals over time, as medians of equal windows; the first is the warm-up. */
  readonly residentMib: readonly number[]
  /** The heap after a full collection: when the warm-up was over, and at the end. */
  readonly heapMib: readonly [afterWarmUp: number, atEnd: number]
  /** File descriptors of mcp-vitals while all is well, before the first fault and after the last. */
  readonly openFds: readonly [before: number, after: number]
}

const windows = 6
const sampleMs = 1000
const stallMs = 2000
/** A stalled mcp-vitals needs this long to be itself again. */
const stallEveryMs = 30_000
/** How much later than it should an alert may be told on a busy machine. */
const alertSlackMs = 15_000

/** Runs the whole soak, ends everything that it started, and tells what was wrong. */
export async function faultSoak(options: FaultSoakOptions): Promise<FaultSoakResult> {
  const { fleet, alertSeconds, script, durationMs, onNote } = options
  const mark = randomUUID()
  const env = { FAULT_SOAK: mark }
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-faults-'))
  const referee = new Referee({
    mustAfterMs: alertSeconds.for * 1000 + alertSlackMs,
    backdatedMs: defaults.heartbeat.lateAnswerMs,
  })
  const receiver = await alertReceiver(referee)
  const servers = await Promise.all(fleet.map((wish) => serverFor(wish, directory, env)))
  const vitals = await startVitals({
    config: configuration(servers, receiver.url, alertSeconds),
    env: { ...inspectable, ...env },
    onLine: (line) => changeOf(line).forEach((change) => referee.told(change)),
    ...(script !== undefined && { script }),
  })
  const seen = watch(vitals)
  const stage: Stage = {
    ...options,
    referee,
    vitals,
    seen,
    counts: (upstream) => countsOf(seen, upstream),
    gates: gatesFor(servers),
  }
  try {
    await Promise.all(servers.map((server) => isWell(stage, server, 0)))
    const heapBytes = await heapMeter(vitals)
    const fdsBefore = await calmFds(vitals)
    const endsMs = Date.now() + durationMs
    const isOver = () => Date.now() >= endsMs
    const warmHeap = sleep(durationMs / windows).then(heapBytes)
    const samples: number[] = []
    const troubles: string[] = []
    const lanes = servers.map((server, at) =>
      lane({ ...stage, random: seeded(options.seed * 1000 + at), isOver }, server).catch((error: unknown) => {
        troubles.push(`the faults of ${server.name} ended: ${errorMessage(error)}`)
      }),
    )
    const [stalls] = await Promise.all([
      stall(vitals, isOver, seeded(options.seed)),
      sample(vitals, isOver, { samples, note: () => onNote?.(progress(referee, vitals)) }),
      ...lanes,
    ])
    const heap = await heapBytes()
    const fdsAfter = await calmFds(vitals, fdsBefore)
    for (const server of servers) referee.finish(server.name, stage.counts(server.name))
    await seen.stop()
    await vitals.stop()
    for (const { guest } of servers) await guest?.stop()
    return {
      kinds: referee.kinds(),
      problems: [...troubles, ...referee.problems(), ...(await leftovers(mark))],
      stalls,
      alerts: referee.alertsTold(),
      residentMib: mediansOfWindows(samples, windows).map(inMib),
      heapMib: [inMib(await warmHeap), inMib(heap)],
      openFds: [fdsBefore, fdsAfter],
    }
  } finally {
    await vitals.stop()
    for (const { guest } of servers) await guest?.stop()
    await receiver.stop()
    await rm(directory, { recursive: true })
  }
}

const inMib = (bytes: number) => bytes / 2 ** 20

function configuration(
  servers: readonly Server[],
  webhook: string,
  { for: forSeconds, keepFiring }: FaultSoakOptions['alertSeconds'],
) {
  return {
    config_check_seconds: 0,
    alerts: { for_seconds: forSeconds, keep_firing_for_seconds: keepFiring, webhook: { url: webhook } },
    mcpServers: Object.fromEntries(servers.map(({ name, entry }) => [name, entry])),
  }
}

/** Takes what mcp-vitals sends to people. */
async function alertReceiver(referee: Referee) {
  const http = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      const { alerts } = JSON.parse(body) as { readonly alerts: readonly Sent[] }
      for (const { status, labels, startsAt, endsAt } of alerts) {
        referee.alerted({
          name: labels.alertname ?? '',
          upstream: labels.upstream ?? '',
          startsAtMs: Date.parse(startsAt),
          endsAtMs: status === 'resolved' ? Date.parse(endsAt) : undefined,
        })
      }
      response.writeHead(200).end()
    })
  })
  const port = await listenOn(http)
  return { url: `http://127.0.0.1:${port}/`, stop: () => stopped(http) }
}

/** One alert as the webhook gets it. */
interface Sent {
  readonly status: string
  readonly labels: Readonly<Record<string, string>>
  readonly startsAt: string
  readonly endsAt: string
}

/** What all lanes share. */
interface Stage extends FaultSoakOptions {
  readonly referee: Referee
  readonly vitals: RunningVitals
  readonly seen: Seen
  readonly counts: (upstream: string) => Counts
  readonly gates: Gates
}

interface Gates {
  /** Most servers are well at any time: were most of them silent together, the fault would be ours. */
  readonly ill: StartLane
  /** Whether a fault is under way that costs a core or much memory. */
  isHeavyTaken: boolean
}

function gatesFor(servers: readonly Server[]): Gates {
  return { ill: new StartGate(Math.max(1, Math.floor(servers.length / 3))).lane(), isHeavyTaken: false }
}

function countsOf({ seriesOf }: Seen, upstream: string): Counts {
  const [restarts, heartbeats] = [new Map<string, number>(), new Map<string, number>()]
  const add = (counts: Map<string, number>, key: string, value: number) =>
    void counts.set(key, (counts.get(key) ?? 0) + value)
  for (const { name, labels, value } of seriesOf(upstream)) {
    if (name === 'mcp_upstream_restarts_total') add(restarts, labels.reason ?? '', value)
    if (name === 'mcp_heartbeats_total') add(heartbeats, labels.outcome ?? '', value)
  }
  return { restarts, heartbeats }
}

interface LaneStage extends Stage {
  readonly random: () => number
  readonly isOver: () => boolean
}

/** One fault after the other on one server, until the time is over; at least one. */
async function lane(stage: LaneStage, server: Server): Promise<void> {
  const { random, isOver, pauseMs, gates, law } = stage
  const [least, most] = pauseMs
  let isAlive = true
  do {
    await pause(least + random() * (most - least), isOver)
    const release = await gates.ill.acquire()
    const kind = chooseKind(server, stage)
    if (kind.isHeavy) gates.isHeavyTaken = true
    try {
      const { process } = await isWell(stage, server, Date.now())
      isAlive = await tryOn(
        kind,
        { server, law, pid: server.guest?.pid() ?? process?.pid ?? 0, url: urlOf(stage, server) },
        stage,
      )
    } finally {
      if (kind.isHeavy) gates.isHeavyTaken = false
      release()
    }
  } while (isAlive && !isOver())
}

const urlOf = ({ vitals }: Stage, { name }: Server) => `${vitals.dataUrl}/${name}/mcp`

function chooseKind(server: Server, { random, gates }: LaneStage): Kind {
  const possible = kinds.filter(({ befalls, isHeavy }) => befalls(server) && !(isHeavy && gates.isHeavyTaken))
  const kind = possible[Math.floor(random() * possible.length)]
  if (!kind) throw new Error(`no fault befalls ${server.name}`)
  return kind
}

/** Makes one fault, waits for what must follow, mends it, and waits until the server is well again, if it ever is. */
async function tryOn(kind: Kind, victim: Victim, stage: LaneStage): Promise<boolean> {
  const { referee, counts, law, random, alertSeconds } = stage
  const { server, pid } = victim
  const expected = kind.expected(server, law)
  const before = counts(server.name)
  const episode = referee.open({ upstream: server.name, kind: kind.kind, expected }, before, Date.now())
  let trouble: string | undefined
  try {
    await kind.inject(victim)
    const isFound = () => referee.foundMs(episode) !== undefined
    const { outcome = 'ok' } = expected
    const isCounted = () => (counts(server.name).heartbeats.get(outcome) ?? 0) > (before.heartbeats.get(outcome) ?? 0)
    const soonMs = oneProbeMs(server)
    for (let leftMs = expected.withinMs + soonMs; leftMs > 0 && !(isFound() && isCounted()); leftMs -= soonMs) {
      if (kind.isRepeated) await kind.inject(victim)
      await eventually(() => isFound() && isCounted(), { timeoutMs: soonMs, what: 'it is found' }).catch(
        () => undefined,
      )
    }
    if (kind.mend) {
      // Now and then it lasts until people are told.
      const lastsMs = random() < 0.25 ? alertSeconds.for * 1000 + alertSlackMs : random() * 5000
      await sleep(lastsMs)
      await kind.mend(victim)
    }
    await isWell(stage, server, Date.now())
    if (expected.action !== 'none') await hasGone(pid)
  } catch (error) {
    trouble = errorMessage(error)
  }
  referee.close(episode, counts(server.name), Date.now(), trouble)
  return trouble === undefined
}

/** The process that was replaced has gone, with all that it started. */
async function hasGone(group: number): Promise<void> {
  await eventually(() => groupMembers(group).length === 0, {
    what: `process group ${group} has gone`,
    timeoutMs: 30_000,
  })
}

/** Healthy as of later than that, with every tool, and with its own process alone if that is ours. */
function isWell({ seen, law }: Stage, server: Server, afterMs: number): Promise<DebugUpstream> {
  const { name, guest } = server
  const check = () => {
    const report = seen.debug()
    const upstream = report?.upstreams[name]
    if (!report || !upstream || Date.parse(report.timestamp) <= afterMs) return undefined
    const isAlone = guest !== undefined || upstream.process?.all.length === 1
    if (upstream.state === 'healthy' && upstream.tools !== null && isAlone) return upstream
    throw new Error(`it is ${upstream.state}: ${upstream.reason}`)
  }
  return eventually(check, { timeoutMs: recoveryMs(server, law), what: `${name} is well` })
}

/** Stops mcp-vitals itself now and then; tells how often. Nothing must follow from that. */
async function stall({ pid }: RunningVitals, isOver: () => boolean, random: () => number): Promise<number> {
  for (let stalls = 0; ; stalls++) {
    await pause(stallEveryMs * (0.5 + random()), isOver)
    if (isOver()) return stalls
    process.kill(pid, 'SIGSTOP')
    await sleep(stallMs)
    process.kill(pid, 'SIGCONT')
  }
}

async function pause(ms: number, isOver: () => boolean): Promise<void> {
  const endsMs = Date.now() + ms
  while (Date.now() < endsMs && !isOver()) await sleep(200)
}

async function sample(
  { pid }: RunningVitals,
  isOver: () => boolean,
  { samples, note }: { readonly samples: number[]; readonly note: () => void },
): Promise<void> {
  while (!isOver()) {
    await sleep(sampleMs)
    const bytes = processUsage(pid)?.residentBytes
    if (bytes !== undefined) samples.push(bytes)
    if (samples.length % 60 === 0) note()
  }
}

function progress(referee: Referee, { pid }: RunningVitals): string {
  const all = referee.kinds()
  const sum = (pick: (kind: KindSummary) => number) => all.reduce((total, kind) => total + pick(kind), 0)
  const resident = inMib(processUsage(pid)?.residentBytes ?? 0).toFixed(0)
  return `${new Date().toISOString()} ${sum(({ injected }) => injected)} faults, ${sum(({ found }) => found)} found, ${referee.alertsTold()} alerts, ${resident} MiB`
}

/** The file descriptors of mcp-vitals, once they are no more than expected or have had time enough to be closed. */
async function calmFds({ pid }: RunningVitals, expected = 0): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let look = 0; look < 20 && least > expected; look++) {
    await sleep(500)
    least = Math.min(least, readdirSync(`/proc/${pid}/fd`).length)
  }
  return least
}

/** Processes that outlived everything. */
async function leftovers(mark: string): Promise<string[]> {
  const left = () => markedProcesses(mark)
  return eventually(() => left().length === 0, { what: 'every process has ended' }).then(
    () => [],
    () => left().map((pid) => `left over: process ${pid}`),
  )
}

/** Resident memory may differ this much between the first window after the warm-up and the last. */
const growthBound = 1.2
/** It needs some minutes to settle; shorter runs only print it. */
const flatFromMs = 10 * 60_000
/** A few more may be open at any moment: a scrape, a probe. */
const fdsMore = 4

/** What a long run may not do, either. */
function growthOf({ residentMib, openFds }: FaultSoakResult, durationMs: number): string[] {
  const [, first = Number.NaN, ...rest] = residentMib
  const growth = (rest.at(-1) ?? Number.NaN) / first
  const [before, after] = openFds
  return [
    ...(durationMs >= flatFromMs && !(growth <= growthBound) ? [`resident memory grew to ${growth.toFixed(2)}`] : []),
    ...(after > before + fdsMore ? [`${after} file descriptors are open, not ${before}`] : []),
  ]
}

function tableOf(all: readonly KindSummary[]): string {
  const cells = all.map(({ kind, injected, found, meanSeconds, maxSeconds }) =>
    [kind, injected, found, `${meanSeconds.toFixed(2)} s`, `${maxSeconds.toFixed(2)} s`].join(' | '),
  )
  return ['fault | made | found | mean | longest', ...cells].join('\n')
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { minutes: { type: 'string', default: '30' }, seed: { type: 'string', default: '1' } },
  })
  const durationMs = Number(values.minutes) * 60_000
  console.log(`soak of faults of ${values.minutes} min, seed ${values.seed}, ${wholeFleet.length} servers`)
  const result = await faultSoak({
    durationMs,
    seed: Number(values.seed),
    fleet: wholeFleet,
    law: { hang: defaults.hang, memoryLookMs: defaults.supervision.memoryLookMs },
    alertSeconds: { for: defaults.notifications.forSeconds, keepFiring: defaults.notifications.keepFiringForSeconds },
    pauseMs: [1000, 45_000],
    onNote: (line) => console.log(line),
  })
  const { kinds: found, stalls, alerts, residentMib, heapMib, openFds } = result
  console.log(
    [
      tableOf(found),
      `our own event loop stopped ${stalls} times; ${alerts} alerts told`,
      `resident MiB, medians of ${windows} windows: ${residentMib.map((mib) => mib.toFixed(0)).join(' ')}`,
      `heap after a full collection: ${heapMib[0].toFixed(1)} MiB after the warm-up, ${heapMib[1].toFixed(1)} MiB at the end`,
      `file descriptors: ${openFds[0]} before the first fault, ${openFds[1]} after the last`,
    ].join('\n'),
  )
  const problems = [...result.problems, ...growthOf(result, durationMs)]
  console.log(problems.length === 0 ? 'PASS' : `FAIL: ${problems.length} problems\n${problems.join('\n')}`)
  return problems.length === 0 ? 0 : 1
}

if (import.meta.main) {
  endWithSignals()
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(error)
    process.exitCode = 2
  }
}
