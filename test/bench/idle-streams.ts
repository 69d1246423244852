/**
 * What event streams cost that say nothing: as many of each kind stay open through mcp-vitals and through a bare
 * node:http pipe, side by side; none may be dropped. Then streams are opened and closed in rounds, and nothing may stay.
 *
 *   npm run bench:idle-streams                                  500 of each kind for 10 minutes, then 5,000 in 5 rounds
 *   npm run bench:idle-streams -- --streams 100 --minutes 0.5   another number of each kind, another time
 *
 * Exit code 1 when a stream was dropped, one costs more than the bound, or something stays; 2 when the run failed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startPeer } from '../peers/spawn.ts'
import { metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { heapMeter, inspectable } from '../support/inspector.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'
import { processUsage } from './proc.ts'
import { type StreamClient, type StreamUrls, closeStreams, openStreams, streamKinds } from './stream-clients.ts'

/** The most memory that one stream may cost, as a multiple of what it costs the pipe in the same run. */
const memoryBound = 1.5
/** Rounds of opening and closing may leave this much more in the heap of mcp-vitals than the first of them left. */
const growthBound = 1.03
const churnRounds = 5
const churnStreams = 1000
/** So that collections and lazy work of one step do not fall into the next. */
const settleMs = 3000

interface Target {
  readonly name: 'pipe' | 'vitals'
  readonly pid: number
  readonly urls: StreamUrls
}

interface Cost {
  readonly target: Target['name']
  /** Resident KiB that each stream added, by when it was looked at. */
  readonly opened: number
  readonly afterIdle: number
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { streams: { type: 'string', default: '500' }, minutes: { type: 'string', default: '10' } },
  })
  const [perKind, idleMs] = [Number(values.streams), Number(values.minutes) * 60_000]
  const stops: (() => Promise<void>)[] = []
  try {
    const server = await startPeer('test/peers/stream-server.ts')
    stops.push(server.stop)
    const { origin } = new URL(server.ready)
    const pipe = await startPeer('test/bench/bare-pipe.ts', { UPSTREAM: origin })
    stops.push(pipe.stop)
    const mcpServers = { http: { url: server.ready }, sse: { url: `${origin}/sse` } }
    const vitals = await startVitals({ config: { mcpServers }, env: inspectable })
    stops.push(vitals.stop)
    const targets: readonly Target[] = [
      { name: 'pipe', pid: pipe.pid, urls: { http: `${pipe.ready}/mcp`, sse: `${pipe.ready}/sse` } },
      {
        name: 'vitals',
        pid: vitals.pid,
        urls: { http: `${vitals.dataUrl}/http/mcp`, sse: `${vitals.dataUrl}/sse/sse` },
      },
    ]
    const faults = [...(await idle(targets, { vitals, perKind, idleMs })), ...(await churn(targets, vitals))]
    console.log(faults.length === 0 ? 'PASS' : faults.map((fault) => `FAIL: ${fault}`).join('\n'))
    return faults.length === 0 ? 0 : 1
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

interface IdlePlan {
  readonly vitals: RunningVitals
  readonly perKind: number
  readonly idleMs: number
}

async function idle(targets: readonly Target[], { vitals, perKind, idleMs }: IdlePlan): Promise<string[]> {
  for (const target of targets) await closeStreams(await openAll(target, 50))
  await sleep(settleMs)
  const opened = []
  for (const target of targets) {
    const before = residentKib(target)
    const clients = await openAll(target, perKind)
    await sleep(settleMs)
    opened.push({ target, before, clients, after: residentKib(target) })
  }
  console.log(`${perKind} streams of each kind are open through each; now ${idleMs / 60_000} min of silence`)
  await sleep(idleMs)
  const count = perKind * streamKinds.length
  const costs: Cost[] = opened.map(({ target, before, after }) => ({
    target: target.name,
    opened: (after - before) / count,
    afterIdle: (residentKib(target) - before) / count,
  }))
  for (const { target, opened, afterIdle } of costs) {
    console.log(`${target}: ${opened.toFixed(1)} KiB a stream when opened, ${afterIdle.toFixed(1)} after the silence`)
  }
  const faults = opened.flatMap(({ target, clients }) => {
    const dropped = clients.filter((client) => client.isDropped()).length
    const comments = clients.map((client) => client.comments()).toSorted((a, b) => a - b)
    console.log(
      `${target.name}: ${dropped} of ${clients.length} dropped, ${comments[0]}…${comments.at(-1)} comments each`,
    )
    return target.name === 'vitals' && dropped > 0 ? [`${dropped} streams were dropped`] : []
  })
  faults.push(...tooDear(costs), ...(await wrongGauges(vitals, count)))
  for (const { clients } of opened) await closeStreams(clients)
  return [...faults, ...(await wrongGauges(vitals, 0))]
}

function tooDear(costs: readonly Cost[]): string[] {
  const [pipe, vitals] = costs
  if (!pipe || !vitals) return []
  return (['opened', 'afterIdle'] as const).flatMap((when) => {
    const ratio = vitals[when] / pipe[when]
    console.log(`memory of a stream, vitals/pipe, ${when}: ${ratio.toFixed(2)} (bound ${memoryBound})`)
    return ratio <= memoryBound ? [] : [`a stream costs ${ratio.toFixed(2)} of the pipe's memory (${when})`]
  })
}

/** Resident memory moves with the collector's mood, so what counts is the heap after a full collection. */
async function churn(targets: readonly Target[], vitals: RunningVitals): Promise<string[]> {
  const heapBytes = await heapMeter(vitals)
  const heaps: number[] = []
  for (let round = 1; round <= churnRounds; round++) {
    for (const target of targets) await closeStreams(await openAll(target, churnStreams / streamKinds.length))
    await sleep(settleMs)
    heaps.push(await heapBytes())
    const resident = targets.map((target) => `${target.name} ${(residentKib(target) / 1024).toFixed(1)} MiB resident`)
    const heap = `${((heaps.at(-1) ?? 0) / 2 ** 20).toFixed(2)} MiB in the heap of vitals`
    console.log(`${round * churnStreams} opened and closed: ${[...resident, heap].join(', ')}`)
  }
  const growth = (heaps.at(-1) ?? Number.NaN) / (heaps[0] ?? Number.NaN)
  console.log(`heap of mcp-vitals, last round / first: ${growth.toFixed(3)} (bound ${growthBound})`)
  const faults = growth <= growthBound ? [] : [`the heap grew to ${growth.toFixed(3)} of what it was`]
  return [...faults, ...(await wrongGauges(vitals, 0))]
}

async function openAll({ urls }: Target, perKind: number): Promise<StreamClient[]> {
  const clients: StreamClient[] = []
  for (const kind of streamKinds) clients.push(...(await openStreams(urls, kind, perKind)))
  return clients
}

/** What `mcp_streams_open` and `mcp_sessions_active` say beside the number that they should come to. */
async function wrongGauges(vitals: RunningVitals, expected: number): Promise<string[]> {
  const faults: string[] = []
  for (const name of ['mcp_streams_open', 'mcp_sessions_active']) {
    let sum = Number.NaN
    const isRight = async () => {
      sum = (await metricValues(vitals, name, {})).reduce((a, b) => a + b, 0)
      return sum === expected
    }
    await eventually(isRight, { what: name }).catch(() => faults.push(`${name} is ${sum}, not ${expected}`))
  }
  return faults
}

function residentKib({ pid }: Target): number {
  return (processUsage(pid)?.residentBytes ?? Number.NaN) / 1024
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error)
  process.exitCode = 2
}
