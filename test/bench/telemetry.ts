/** What a scrape and a measurement cost by themselves, beside the libraries that could do the same. */
import type { Attributes } from '@opentelemetry/api'
import { Histogram, Registry } from 'prom-client'
import { systemClock } from '../../src/clock.ts'
import { ExemplarReservoir } from '../../src/telemetry/exemplars.ts'
import { ExpositionWriter } from '../../src/telemetry/exposition.ts'
import { instruments } from '../../src/telemetry/instruments.ts'
import { labelName, metrics, operationBounds } from '../../src/telemetry/names.ts'
import { metering } from '../../src/telemetry/reader.ts'
import { telemetryResource } from '../../src/telemetry/resource.ts'
import { stockText } from '../../src/telemetry/stock.ts'

const version = '0.0.0'
/** A histogram is 15 buckets, a sum and a count: 10,000 lines. */
export const seriesCount = 589
const ids = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }

/** The metrics of one upstream, as the program makes them, and all tools that are called. */
function ours() {
  const clock = systemClock
  const exemplars = new ExemplarReservoir(clock)
  const { meters, snapshot } = metering({ resource: telemetryResource({}, version), version, onError: console.error })
  const recorder = instruments({
    meters,
    exemplars,
    version,
    maxLabelsPerUpstream: seriesCount,
    sources: {
      states: [],
      upstreams: () => [],
      sessions: () => [],
      streams: () => [],
      configReload: () => ({ successful: true, lastSuccessTimestampSeconds: 0 }),
      isFailureCorrelated: () => false,
      loadRatio: () => 0,
    },
  })
  const tools = Array.from({ length: seriesCount }, (_, index) => `tool_${index}`)
  recorder.labels.admit('files', 'tool', tools)
  return { exemplars, recorder, snapshot, tools, writer: new ExpositionWriter(exemplars) }
}

function operation(side: 'server' | 'client', toolName: string, durationSeconds: number) {
  const common = { side, upstream: 'files', method: 'tools/call', toolName, protocolVersion: '2025-11-25', span: ids }
  return { ...common, networkTransport: 'tcp', httpVersion: '1.1', durationSeconds } as const
}

/** The attributes that these operations come to. */
function attributesOf(toolName: string): Attributes {
  return {
    upstream: 'files',
    'mcp.method.name': 'tools/call',
    'gen_ai.tool.name': toolName,
    'gen_ai.operation.name': 'execute_tool',
    'mcp.protocol.version': '2025-11-25',
    'network.transport': 'tcp',
    'network.protocol.name': 'http',
    'network.protocol.version': '1.1',
  }
}

export interface Figures {
  /** Our time, of theirs: the median of the rounds. */
  readonly ratios: Readonly<Record<string, number>>
  /** Our own time, of one. */
  readonly ownMs: number
}

/** A scrape of 10,000 histogram lines, from the instruments to the text. */
export async function scrapeFigures(rounds: number): Promise<Figures> {
  const { recorder, snapshot, tools, writer } = ours()
  const [bare, shot] = bareHistograms(1)
  const registry = new Registry()
  const promClient = new Histogram({
    name: metrics.serverOperationDuration.family,
    help: metrics.serverOperationDuration.help,
    labelNames: Object.keys(attributesOf('')).map(labelName),
    buckets: [...operationBounds],
    registers: [registry],
  })
  for (const tool of tools) {
    recorder.recordOperation(operation('server', tool, 0.03))
    const attributes = attributesOf(tool)
    bare[0]?.record(0.03, attributes)
    promClient.observe(
      Object.fromEntries(Object.entries(attributes).map(([key, value]) => [labelName(key), String(value)])),
      0.03,
    )
  }
  const contenders = {
    ours: async () => writer.render('text', await snapshot(), []),
    'exporter-prometheus': async () => stockText(await shot()),
    'prom-client': () => registry.metrics(),
  }
  for (const [name, scrape] of Object.entries(contenders)) {
    const lines = linesOf(await scrape())
    if (lines !== seriesCount * 17) throw new Error(`${name} wrote ${lines} lines`)
  }
  return compare(rounds, 10, contenders)
}

/** One operation, recorded on both its sides with exemplars. */
export async function recordFigures(rounds: number): Promise<Figures> {
  const { recorder, tools } = ours()
  const [bare] = bareHistograms(2)
  const both = tools.map((tool) => [operation('server', tool, 0.03), operation('client', tool, 0.02)] as const)
  const attributes = tools.map((tool) => attributesOf(tool))
  return compare(rounds, 50, {
    ours: () => {
      for (const [server, client] of both) {
        recorder.recordOperation(client)
        recorder.recordOperation(server)
      }
    },
    'the bare SDK': () => {
      for (const set of attributes) {
        bare[0]?.record(0.03, set)
        bare[1]?.record(0.02, set)
      }
    },
  })
}

/** Memory after 1,000 scrapes of 10,000 lines, of that after the first 200. */
export async function scrapeMemoryRatio(): Promise<number> {
  const { recorder, snapshot, tools, writer } = ours()
  for (const tool of tools) recorder.recordOperation(operation('server', tool, 0.03))
  let length = 0
  const scrape = async (times: number) => {
    for (let at = 0; at < times; at++) length = writer.render('openmetrics', await snapshot(), []).length
    globalThis.gc?.()
    return process.memoryUsage.rss()
  }
  const before = await scrape(200)
  const after = await scrape(800)
  if (length === 0) throw new Error('a scrape was empty')
  return after / before
}

/** Histograms of the SDK as they come, with a reader of its own. */
function bareHistograms(count: number) {
  const { meters, snapshot } = metering({ resource: telemetryResource({}, version), version, onError: console.error })
  const histograms = Array.from({ length: count }, (_, index) =>
    meters.rest.createHistogram(index === 0 ? metrics.serverOperationDuration.instrument : `bare.${index}`, {
      advice: { explicitBucketBoundaries: [...operationBounds] },
    }),
  )
  return [histograms, snapshot] as const
}

/** The lines of an answer, which have to be as many for everybody. */
function linesOf(text: string): number {
  return text.split('\n').filter((line) => line.includes('_operation_') && !line.startsWith('#')).length
}

/** Runs the contenders in turn, each `times` a round after one round to warm up. */
async function compare(
  rounds: number,
  times: number,
  contenders: Readonly<Record<string, () => unknown>> & { readonly ours: () => unknown },
): Promise<Figures> {
  const elapsed = new Map(Object.keys(contenders).map((name) => [name, [] as number[]]))
  for (let round = -1; round < rounds; round++) {
    for (const [name, run] of Object.entries(contenders)) {
      const startedMs = systemClock.now()
      for (let at = 0; at < times; at++) await run()
      if (round >= 0) elapsed.get(name)?.push((systemClock.now() - startedMs) / times)
    }
  }
  const own = elapsed.get('ours') ?? []
  const ratios = [...elapsed]
    .filter(([name]) => name !== 'ours')
    .map(([name, theirs]) => [name, median(own.map((ms, round) => ms / (theirs[round] ?? NaN)))] as const)
  return { ratios: Object.fromEntries(ratios), ownMs: median(own) }
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? NaN
}
