/**
 * A mixed soak: clients of both eras over every transport in front of servers over every transport, with clients that
 * vanish, servers that are killed, slow readers, cancelled calls, requests of the server and progress. Every call
 * carries a nonce. It ends with exactly its own answer, or with one error that a fault of the test explains; and at the
 * end nothing is left: no request, no session, no stream, no process, no memory.
 *
 *   npm run soak -- --minutes 30 --seed 7
 *   npm run soak -- --direct              as a control: the same clients on the servers alone, without crashes
 *   npm run soak -- --tireless            refusing nothing for lack of CPU time, for a machine that others keep busy
 *   npm run soak -- --log FILE            with the log of mcp-vitals
 *
 * Exit code 1 when anything is wrong, 2 when the run itself failed.
 */
import { createWriteStream, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { randomUUID } from 'node:crypto'
import { freePort } from '../../deploy/stack/ports.ts'
import { errorMessage } from '../../src/errors.ts'
import { mediansOfWindows } from '../bench/load.ts'
import { processUsage } from '../bench/proc.ts'
import { endWithSignals } from '../peers/spawn.ts'
import { debugUpstream, seriesValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { heapMeter, inspectable } from '../support/inspector.ts'
import { compileCache } from '../support/program.ts'
import { modernPost } from '../support/rpc.ts'
import { seeded } from '../support/seeded.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { type Server, type Stage, officialLane, servers, slowLane, vanishingLane } from './soak-lanes.ts'
import { type Counts, Ledger, totalOf } from './soak-ledger.ts'
import { type Stand, configuration, directStand, rawRoutesOf, routesOf, vitalsStand } from './soak-stand.ts'

export interface SoakOptions {
  /** It goes on for at least this long, and until every lane has had its share. */
  readonly durationMs: number
  readonly seed: number
  /** Time between two kills of the same supervised server. */
  readonly crashEveryMs: number
  /**
   * Sessions that their client left without a word end after this long. Above what a busy machine may take between two
   * messages of a client that has not left.
   */
  readonly idleSeconds: number
  readonly callTimeoutMs: number
  /** How long mcp-vitals waits for a sign of a server, and how long some calls keep it silent, if any do. */
  readonly stallTimeoutMs: number
  readonly stallMs?: number | undefined
  /** Whether mcp-vitals never refuses anything because it has too little CPU time. */
  readonly isTireless: boolean
  /** Hears a line of progress now and then. */
  readonly onNote?: ((line: string) => void) | undefined
  /** Hears each line of the log of mcp-vitals. */
  readonly onLog?: ((line: string) => void) | undefined
}

export interface SoakResult {
  readonly lanes: ReadonlyMap<string, Counts>
  /** How many times each supervised server was killed. */
  readonly kills: ReadonlyMap<Server, number>
  /** How many processes of any kind were killed or died. */
  readonly crashes: number
  readonly faults: readonly string[]
  /** Resident memory of mcp-vitals over time, as medians of equal windows; the first is the warm-up. */
  readonly residentMib: readonly number[]
  /** The heap after a full collection: when the warm-up was over, and at the end. */
  readonly heapMib: readonly [afterWarmUp: number, atEnd: number]
}

const windows = 6
const sampleMs = 1000
/** Each lane has had its share when this many of its calls were answered, or left by their client as planned. */
const share = 3
/** How much longer than planned it may take until every lane has. */
const patienceMs = 300_000

/** Runs the whole soak, ends everything that it started, and tells what was wrong. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const { durationMs, idleSeconds, stallTimeoutMs, onLog } = options
  const tag = `soak-${randomUUID()}`
  const urls = {
    http: `http://127.0.0.1:${await freePort()}/mcp`,
    sse: `http://127.0.0.1:${await freePort()}/sse`,
  }
  const vitals = await startVitals({
    config: configuration({ tag, urls, idleSeconds, stallTimeoutMs }),
    env: { ...inspectable, ...compileCache },
    ...(options.isTireless && { script: 'test/peers/tireless-vitals.ts' }),
    ...(onLog && { onLine: onLog }),
  })
  try {
    for (const name of servers) await isHealthy(vitals, name)
    const heapBytes = await heapMeter(vitals)
    const kills = new Map<Server, number>(servers.map((server) => [server, 0]))
    const stand = vitalsStand(vitals.dataUrl, { tag, urls })
    const run = new Run(stand, options, () => Math.min(...kills.values()) > 0)
    for (const server of servers) {
      run.start(`killer of ${server}`, (stage) => killer(vitals, server, stage, { ...options, kills }))
    }
    const watching = watch(vitals, run, options)
    await sleep(durationMs / windows)
    const warmHeap = await heapBytes()
    const samples = await watching
    await run.end()
    const { ledger } = run
    const leftovers = await gaugesLeft(vitals, idleSeconds)
    const shed = await shedRequests(vitals)
    const { refused } = ledger.totals()
    if (refused > shed) ledger.fault(`${refused} calls were refused, but mcp-vitals counts ${shed}`)
    const heap = await heapBytes()
    await vitals.stop()
    const orphans = await orphansOf(tag)
    return {
      lanes: ledger.lanes(),
      kills,
      crashes: ledger.crashes(),
      faults: [...ledger.faults(), ...leftovers, ...orphans],
      residentMib: mediansOfWindows(samples, windows).map((bytes) => bytes / 2 ** 20),
      heapMib: [warmHeap / 2 ** 20, heap / 2 ** 20],
    }
  } finally {
    await vitals.stop()
  }
}

export type ControlOptions = Pick<SoakOptions, 'durationMs' | 'seed' | 'callTimeoutMs'> & {
  /** Faults that the servers are to have, as in soak-server.ts. */
  readonly marks?: readonly string[]
  /** It does not end before. */
  readonly isEnough?: (ledger: Ledger) => boolean
}

/** The same clients on the servers alone: what goes wrong here is not the fault of mcp-vitals. */
export async function control(options: ControlOptions): Promise<Pick<SoakResult, 'lanes' | 'faults'>> {
  const { marks = [], isEnough = () => true } = options
  const stand = await directStand(`soak-${randomUUID()}`, marks)
  try {
    const run = new Run(stand, options, isEnough)
    while (!run.isOver()) await sleep(sampleMs)
    await run.end()
    return { lanes: run.ledger.lanes(), faults: run.ledger.faults() }
  } finally {
    await stand.stop()
  }
}

type RunOptions = Pick<SoakOptions, 'durationMs' | 'seed' | 'callTimeoutMs'> & { readonly stallMs?: number | undefined }

/** All lanes of a stand, from their start to the end of the last one. */
class Run {
  readonly ledger = new Ledger()
  readonly #options: RunOptions
  readonly #isEnough: (ledger: Ledger) => boolean
  readonly #endsMs: number
  readonly #clientLanes: readonly string[]
  readonly #running = new Map<string, Promise<void>>()
  #started = 0

  constructor(stand: Stand, options: RunOptions, isEnough: (ledger: Ledger) => boolean) {
    this.#options = options
    this.#isEnough = isEnough
    this.#endsMs = performance.now() + options.durationMs
    for (const route of routesOf(stand)) this.start(route.lane, (stage) => officialLane(route, stage))
    for (const route of rawRoutesOf(stand, 'vanishing')) this.start(route.lane, (stage) => vanishingLane(route, stage))
    for (const route of rawRoutesOf(stand, 'slow')) this.start(route.lane, (stage) => slowLane(route, stage))
    this.#clientLanes = [...this.#running.keys()]
  }

  /** Each has random numbers of its own, so that what it does hangs neither on the others nor on the machine. */
  start(lane: string, work: (stage: Stage) => Promise<void>): void {
    const { ledger } = this
    const { seed, callTimeoutMs, stallMs } = this.#options
    const random = seeded(seed * 1000 + (this.#started += 1))
    const done = work({ ledger, random, isOver: () => this.isOver(), callTimeoutMs, stallMs })
    const forgotten = done
      .catch((error: unknown) => ledger.fault(`${lane}: ${errorMessage(error)}`))
      .finally(() => this.#running.delete(lane))
    this.#running.set(lane, forgotten)
  }

  isOver(): boolean {
    const sinceMs = performance.now() - this.#endsMs
    if (sinceMs < 0) return false
    return sinceMs > patienceMs || (this.#isEnough(this.ledger) && this.#withoutShare().length === 0)
  }

  /** Waits until the last lane has come to its end, for as long as that can take. */
  async end(): Promise<void> {
    const late = new AbortController()
    const lastEndMs = 1.5 * this.#options.callTimeoutMs + (this.#options.stallMs ?? 0)
    await Promise.race([
      Promise.all(this.#running.values()),
      sleep(lastEndMs, undefined, { signal: late.signal }).catch(() => undefined),
    ])
    late.abort()
    for (const lane of this.#running.keys()) this.ledger.fault(`never ended: ${lane}`)
    for (const lane of this.#withoutShare()) this.ledger.fault(`not exercised: ${lane}`)
  }

  #withoutShare(): string[] {
    const counts = this.ledger.lanes()
    return this.#clientLanes.filter((lane) => {
      const { answered = 0, abandoned = 0 } = counts.get(lane) ?? {}
      return answered + abandoned < share
    })
  }
}

interface Killing {
  readonly crashEveryMs: number
  readonly kills: Map<Server, number>
}

/** Kills a supervised process again and again, and waits each time until its successor answers. */
async function killer(vitals: RunningVitals, server: Server, stage: Stage, plan: Killing): Promise<void> {
  const { ledger, random, isOver } = stage
  for (;;) {
    await pause(plan.crashEveryMs * (0.8 + random() * 0.4), isOver)
    if (isOver()) return
    const { process: running } = await debugUpstream(vitals, server)
    const pid = running?.pid
    if (typeof pid !== 'number') continue
    const over = ledger.crash(server, performance.now())
    process.kill(pid, 'SIGKILL')
    plan.kills.set(server, (plan.kills.get(server) ?? 0) + 1)
    await eventually(async () => (await debugUpstream(vitals, server)).process?.pid !== pid, {
      timeoutMs: 90_000,
      what: `${server} has another process`,
    })
    await servesAgain(vitals, server)
    over(performance.now())
  }
}

/** Heartbeats are answered again, and with them requests; a request of our own might be refused for lack of CPU time. */
async function isHealthy(vitals: RunningVitals, server: Server): Promise<void> {
  const states = new Set(['recovering', 'healthy', 'degraded'])
  const answers = async () => states.has((await debugUpstream(vitals, server)).state)
  await eventually(answers, { timeoutMs: 120_000, what: `${server} answers` })
}

const legacyAlone: ReadonlySet<Server> = new Set(['sse', 'shared'])

/**
 * A stdio server is well while its clients' own processes are, whatever becomes of the one for 2026-07-28. Unlike calls
 * and new sessions, the request here is never refused for lack of CPU time.
 */
async function servesAgain(vitals: RunningVitals, server: Server): Promise<void> {
  if (legacyAlone.has(server)) return isHealthy(vitals, server)
  const discovers = async () => {
    const { status } = await modernPost(`${vitals.dataUrl}/${server}/mcp`, { id: 1, method: 'server/discover' }).done
    return status === 200
  }
  await eventually(discovers, { timeoutMs: 120_000, what: `${server} answers` })
}

async function pause(ms: number, isOver: () => boolean): Promise<void> {
  const endsMs = performance.now() + ms
  while (performance.now() < endsMs && !isOver()) await sleep(200)
}

/** Samples the resident memory until the run is over. */
async function watch(vitals: RunningVitals, run: Run, { onNote }: Pick<SoakOptions, 'onNote'>): Promise<number[]> {
  const samples: number[] = []
  while (!run.isOver()) {
    await sleep(sampleMs)
    const bytes = processUsage(vitals.pid)?.residentBytes
    if (bytes !== undefined) samples.push(bytes)
    if (samples.length % 60 !== 0) continue
    onNote?.(`${samples.length} s: ${progressOf(run.ledger)}; ${await memoryOf(vitals)}`)
  }
  return samples
}

function progressOf(ledger: Ledger): string {
  const { started, answered, explained, refused, abandoned } = ledger.totals()
  const faults = ledger.faults().filter((fault) => !fault.startsWith('never ended'))
  const calls = `${started} calls, ${answered} answered, ${explained} explained, ${refused} refused, ${abandoned} abandoned`
  return [`${calls}, ${faults.length} faults`, ...faults.slice(-3)].join('; ')
}

/** What takes the memory of mcp-vitals, by its own metrics. */
async function memoryOf(vitals: RunningVitals): Promise<string> {
  const text = await (await fetch(`${vitals.adminUrl}/metrics`)).text()
  const mib = (name: string) => `${((seriesValues(text, name)[0] ?? Number.NaN) / 2 ** 20).toFixed(0)} MiB`
  return `resident ${mib('process_resident_memory_bytes')}, heap ${mib('nodejs_heap_size_total_bytes')} (used ${mib('nodejs_heap_size_used_bytes')}), external ${mib('nodejs_external_memory_bytes')}`
}

/** What must be back at 0 when nobody calls any more. */
const gauges = [
  'mcp_upstream_requests_in_flight',
  'mcp_upstream_queue_length',
  'mcp_session_messages_pending',
  'mcp_sessions_active',
  'mcp_streams_open',
] as const

async function gaugesLeft({ adminUrl }: RunningVitals, idleSeconds: number): Promise<string[]> {
  let left: string[] = []
  const areZero = async () => {
    const text = await (await fetch(`${adminUrl}/metrics`)).text()
    left = text.split('\n').filter((line) => gauges.some((name) => line.startsWith(`${name}{`)) && !line.endsWith(' 0'))
    return left.length === 0
  }
  return eventually(areZero, { what: 'every gauge is back at 0', timeoutMs: 4 * idleSeconds * 1000 }).then(
    () => [],
    () => left.map((line) => `left: ${line}`),
  )
}

/** The requests that mcp-vitals says it has refused because it was overloaded. */
async function shedRequests({ adminUrl }: RunningVitals): Promise<number> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text()
  const counts = text.matchAll(/^mcp_vitals_shed_total\{what="(?:session|tool_call)"\} (\d+)/gm)
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
}

/** Processes of our servers that outlived everything. */
async function orphansOf(tag: string): Promise<string[]> {
  const marked = () =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => commandLine(pid).includes(tag))
  return eventually(() => marked().length === 0, { what: 'every server has ended' }).then(
    () => [],
    () => marked().map((pid) => `orphan: process ${pid}`),
  )
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return '' // It has gone.
  }
}

/** Resident memory may differ this much between the first window after the warm-up and the last. */
const growthBound = 1.2
/** Resident memory needs some minutes to settle; shorter runs only print it. */
const flatFromMs = 10 * 60_000

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '30' },
      seed: { type: 'string', default: '1' },
      direct: { type: 'boolean', default: false },
      tireless: { type: 'boolean', default: false },
      log: { type: 'string' },
    },
  })
  const durationMs = Number(values.minutes) * 60_000
  const options = { durationMs, seed: Number(values.seed), callTimeoutMs: 120_000 }
  console.log(`soak of ${values.minutes} min, seed ${values.seed}${values.direct ? ', without mcp-vitals' : ''}`)
  if (values.direct) {
    const { lanes, faults } = await control(options)
    printLanes(lanes)
    return verdict(faults)
  }
  const log = values.log === undefined ? undefined : createWriteStream(values.log)
  const stallTimeoutMs = 30_000
  const result = await soak({
    ...options,
    // A supervised process that was ready for less than 120 s is started again only after a delay that doubles.
    crashEveryMs: Math.min(150_000, durationMs / 3),
    idleSeconds: 30,
    stallTimeoutMs,
    stallMs: 3 * stallTimeoutMs,
    isTireless: values.tireless,
    onNote: (line) => console.log(line),
    onLog: log && ((line) => void log.write(`${line}\n`)),
  })
  const { residentMib, heapMib } = result
  const [, first = Number.NaN, ...rest] = residentMib
  const growth = (rest.at(-1) ?? Number.NaN) / first
  printLanes(result.lanes)
  const killed = [...result.kills].map(([server, count]) => `${server} ${count}`).join(', ')
  console.log(
    [
      `processes of servers that were killed: ${result.crashes}, of those under supervision: ${killed}`,
      `resident MiB, medians of ${windows} windows: ${residentMib.map((mib) => mib.toFixed(0)).join(' ')}; last / first after warm-up ${growth.toFixed(2)} (bound ${growthBound})`,
      `heap after a full collection: ${heapMib[0].toFixed(1)} MiB after the warm-up, ${heapMib[1].toFixed(1)} MiB at the end`,
    ].join('\n'),
  )
  const isGrown = durationMs >= flatFromMs && growth > growthBound
  return verdict([...result.faults, ...(isGrown ? [`resident memory grew to ${growth.toFixed(2)}`] : [])])
}

function printLanes(lanes: SoakResult['lanes']): void {
  const rows = [...lanes, ['all', totalOf(lanes.values())] as const]
  console.table(Object.fromEntries(rows))
}

function verdict(faults: readonly string[]): number {
  console.log(faults.length === 0 ? 'PASS' : `FAIL: ${faults.length} faults\n${faults.slice(0, 100).join('\n')}`)
  return faults.length === 0 ? 0 : 1
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
