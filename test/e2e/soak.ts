/**
 * A mixed soak: clients of both eras over every transport in front of servers over every transport, with clients that
 * vanish, servers that are killed, slow readers, cancelled calls, requests of the server and progress. Every call
 * carries a nonce. It ends with exactly its own answer, or with one error that a fault of the test explains; and at the
 * end nothing is left: no request, no session, no stream, no process, no memory.
 *
 *   npm run soak -- --minutes 30 --seed 7
 *
 * Exit code 1 when anything is wrong, 2 when the run itself failed.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { randomUUID } from 'node:crypto'
import { errorMessage } from '../../src/errors.ts'
import { mediansOfWindows } from '../bench/load.ts'
import { processUsage } from '../bench/proc.ts'
import { endWithSignals, repoRoot } from '../peers/spawn.ts'
import { debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { heapMeter, inspectable } from '../support/inspector.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { seeded } from '../support/seeded.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import type { Place } from '../support/uniform-client.ts'
import { dialects, type Dialect } from './soak-clients.ts'
import {
  type Route,
  type Server,
  type Stage,
  type Transport,
  officialLane,
  servers,
  slowLane,
  stallTimeoutMs,
  transports,
  vanishingLane,
} from './soak-lanes.ts'
import { Ledger, type Totals } from './soak-ledger.ts'

export interface SoakOptions {
  readonly durationMs: number
  readonly seed: number
  /** Time between two kills of the same supervised server. */
  readonly crashEveryMs: number
  /**
   * Sessions that their client left without a word end after this long. Above what a busy machine may take between two
   * messages of a client that has not left.
   */
  readonly idleSeconds: number
  /** Hears a line of progress now and then. */
  readonly onNote?: (line: string) => void
}

export interface SoakResult {
  readonly totals: Totals
  readonly crashes: number
  readonly faults: readonly string[]
  /** Resident memory of mcp-vitals over time, as medians of equal windows; the first is the warm-up. */
  readonly residentMib: readonly number[]
  /** The heap after a full collection: when the warm-up was over, and at the end. */
  readonly heapMib: readonly [afterWarmUp: number, atEnd: number]
}

const windows = 6
const sampleMs = 1000
/** Runs the whole soak, ends everything that it started, and tells what was wrong. */
export async function soak({ durationMs, seed, crashEveryMs, idleSeconds, onNote }: SoakOptions): Promise<SoakResult> {
  const tag = `soak-${randomUUID()}`
  const ledger = new Ledger()
  const urls = {
    http: `http://127.0.0.1:${await freePort()}/mcp`,
    sse: `http://127.0.0.1:${await freePort()}/sse`,
  }
  const vitals = await startVitals({ config: configuration({ tag, urls, idleSeconds }), env: inspectable })
  try {
    for (const name of servers) await isHealthy(vitals, name)
    const heapBytes = await heapMeter(vitals)
    const stage = stageFor(ledger, seed, durationMs)
    const lanes = lanesOf({ vitals, tag, urls }, stage)
    const kills = { count: 0 }
    for (const server of servers) {
      const done = killer(vitals, server, stage, { crashEveryMs, kills }).catch((error: unknown) => {
        ledger.fault(`${server} after a kill: ${errorMessage(error)}`)
      })
      lanes.push({ name: `killer of ${server}`, done })
    }
    const samples: number[] = []
    const watching = watch(vitals, stage, { samples, ledger, onNote })
    await sleep(durationMs / windows)
    const warmHeap = await heapBytes()
    await watching
    const hung = await unended(lanes)
    const leftovers = await gaugesLeft(vitals, idleSeconds)
    const shed = await shedRequests(vitals)
    const { refused } = ledger.totals()
    if (refused > shed) ledger.fault(`${refused} calls were refused, but mcp-vitals counts ${shed}`)
    const heap = await heapBytes()
    await vitals.stop()
    const orphans = await orphansOf(tag)
    return {
      totals: ledger.totals(),
      crashes: kills.count,
      faults: [...hung, ...ledger.faults(), ...leftovers, ...orphans],
      residentMib: mediansOfWindows(samples, windows).map((bytes) => bytes / 2 ** 20),
      heapMib: [warmHeap / 2 ** 20, heap / 2 ** 20],
    }
  } finally {
    await vitals.stop()
  }
}

/** Something that goes on until the stage is over. */
interface Lane {
  readonly name: string
  readonly done: Promise<void>
}

/** Far above what the last call of a lane may take. */
const lastCallMs = 100_000

/** The lanes that do not come to an end. */
async function unended(lanes: readonly Lane[]): Promise<string[]> {
  const running = new Set(lanes.map(({ name }) => name))
  const all = Promise.all(lanes.map(({ name, done }) => done.then(() => running.delete(name))))
  const late = new AbortController()
  await Promise.race([all, sleep(lastCallMs, undefined, { signal: late.signal }).catch(() => undefined)])
  late.abort()
  return [...running].map((name) => `never ended: ${name}`)
}

function stageFor(ledger: Ledger, seed: number, durationMs: number): Stage {
  const endsMs = performance.now() + durationMs
  return { ledger, random: seeded(seed), isOver: () => performance.now() >= endsMs }
}

const soakServer = (transport: Transport, tag: string) => ({
  command: process.execPath,
  args: ['test/peers/soak-server.ts', transport, tag],
  cwd: repoRoot,
})

const limits = { stall_timeout_seconds: stallTimeoutMs / 1000 }

/** Where the servers listen that mcp-vitals starts. */
type Urls = Readonly<Record<'http' | 'sse', string>>

interface Setup {
  readonly tag: string
  readonly urls: Urls
  readonly idleSeconds: number
}

function configuration({ tag, urls, idleSeconds }: Setup): Readonly<Record<string, unknown>> {
  const launched = (type: 'http' | 'sse') => ({
    type,
    url: urls[type],
    ...limits,
    launch: { ...soakServer(type, tag), env: { PORT: new URL(urls[type]).port } },
  })
  return {
    max_sessions: 500,
    heartbeat: {
      heartbeat_interval_seconds: 5,
      session_timeout_seconds: idleSeconds,
      cleanup_interval_seconds: idleSeconds,
    },
    mcpServers: {
      http: launched('http'),
      sse: launched('sse'),
      stdio: { ...soakServer('stdio', tag), ...limits, resident: 'always' },
      shared: { ...soakServer('stdio', tag), ...limits, process: 'shared' },
    },
  }
}

interface Stand {
  readonly vitals: RunningVitals
  readonly tag: string
  readonly urls: Urls
}

/** Every pair that the protocol allows, with every official client that speaks it, and the misbehaving ones. */
function lanesOf(stand: Stand, stage: Stage): Lane[] {
  const lanes: Lane[] = []
  for (const server of servers) {
    for (const client of transports) {
      if (client === 'stdio' && server === 'shared') continue // Who starts a command has it alone.
      const place = placeOf(stand, client, server)
      const isOwnProcess = (dialect: Dialect) => server === 'stdio' && (client === 'stdio' || dialect !== 'v2 modern')
      const route: Route = { client, server, place, isOwnProcess }
      for (const dialect of dialects.filter((one) => isSpoken(one, client, server))) {
        lanes.push({ name: `${client}→${server} ${dialect}`, done: officialLane(route, dialect, stage) })
      }
    }
    for (const [client, path] of [
      ['http', 'mcp'],
      ['sse', 'sse'],
    ] as const) {
      const route = { client, server, url: `${stand.vitals.dataUrl}/${server}/${path}` }
      const name = `${client}→${server}`
      lanes.push(
        { name: `${name} vanishing`, done: vanishingLane(route, stage) },
        { name: `${name} slow`, done: slowLane(route, stage) },
      )
    }
  }
  return lanes
}

/** 2026-07-28 knows no HTTP+SSE, and an SDK server speaks in one process what was spoken first: with `shared` by us. */
function isSpoken(dialect: Dialect, client: Transport, server: Server): boolean {
  return dialect !== 'v2 modern' || (client !== 'sse' && server !== 'sse' && server !== 'shared')
}

function placeOf({ vitals, tag, urls }: Stand, client: Transport, server: Server): Place {
  if (client === 'http') return `${vitals.dataUrl}/${server}/mcp`
  if (client === 'sse') return `${vitals.dataUrl}/${server}/sse`
  const wrapper = { command: process.execPath, args: ['src/cli/main.ts', 'stdio', '--no-admin'] }
  if (server === 'http' || server === 'sse') return { ...wrapper, args: [...wrapper.args, '--url', urls[server]] }
  const { command, args } = soakServer('stdio', tag)
  return { ...wrapper, args: [...wrapper.args, '--', command, ...args] }
}

interface Killing {
  readonly crashEveryMs: number
  readonly kills: { count: number }
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
    plan.kills.count += 1
    await eventually(async () => (await debugUpstream(vitals, server)).process?.pid !== pid, {
      timeoutMs: 90_000,
      what: `${server} has another process`,
    })
    await isHealthy(vitals, server)
    over(performance.now())
  }
}

/** Heartbeats are answered again, and with them requests; a request of our own might be refused for lack of CPU time. */
async function isHealthy(vitals: RunningVitals, server: Server): Promise<void> {
  const states = new Set(['recovering', 'healthy', 'degraded'])
  const answers = async () => states.has((await debugUpstream(vitals, server)).state)
  await eventually(answers, { timeoutMs: 120_000, what: `${server} answers` })
}

async function pause(ms: number, isOver: () => boolean): Promise<void> {
  const endsMs = performance.now() + ms
  while (performance.now() < endsMs && !isOver()) await sleep(200)
}

interface Watching {
  readonly samples: number[]
  readonly ledger: Ledger
  readonly onNote: SoakOptions['onNote']
}

async function watch(vitals: RunningVitals, { isOver }: Stage, { samples, ledger, onNote }: Watching): Promise<void> {
  while (!isOver()) {
    await sleep(sampleMs)
    const bytes = processUsage(vitals.pid)?.residentBytes
    if (bytes !== undefined) samples.push(bytes)
    if (samples.length % 60 !== 0) continue
    const { started, answered, explained, refused, abandoned } = ledger.totals()
    const resident = `${((bytes ?? 0) / 2 ** 20).toFixed(0)} MiB`
    onNote?.(
      `${samples.length} s: ${started} calls, ${answered} answered, ${explained} explained, ${refused} refused, ${abandoned} abandoned, ` +
        `${ledger.faults().filter((fault) => !fault.startsWith('never ended')).length} faults, ${resident}`,
    )
  }
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
    options: { minutes: { type: 'string', default: '30' }, seed: { type: 'string', default: '1' } },
  })
  const durationMs = Number(values.minutes) * 60_000
  console.log(`soak of ${values.minutes} min, seed ${values.seed}`)
  // A supervised process that was ready for less than 120 s is started again only after a delay that doubles.
  const crashEveryMs = Math.min(150_000, durationMs / 3)
  const result = await soak({
    durationMs,
    seed: Number(values.seed),
    crashEveryMs,
    idleSeconds: 30,
    onNote: (line) => console.log(line),
  })
  const { totals, crashes, residentMib, heapMib } = result
  const [, first = Number.NaN, ...rest] = residentMib
  const growth = (rest.at(-1) ?? Number.NaN) / first
  console.log(
    [
      `${totals.started} calls: ${totals.answered} answered with their own nonce, ${totals.explained} ended with one error that a fault explains, ${totals.refused} refused by an overloaded mcp-vitals, ${totals.abandoned} abandoned by their client`,
      `${crashes} supervised servers killed`,
      `resident MiB, medians of ${windows} windows: ${residentMib.map((mib) => mib.toFixed(0)).join(' ')}; last / first after warm-up ${growth.toFixed(2)} (bound ${growthBound})`,
      `heap after a full collection: ${heapMib[0].toFixed(1)} MiB after the warm-up, ${heapMib[1].toFixed(1)} MiB at the end`,
    ].join('\n'),
  )
  const isGrown = durationMs >= flatFromMs && growth > growthBound
  const faults = [...result.faults, ...(isGrown ? [`resident memory grew to ${growth.toFixed(2)}`] : [])]
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
