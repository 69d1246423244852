import { ExemplarReservoir } from '../../src/telemetry/exemplars.ts'
import { ExpositionWriter } from '../../src/telemetry/exposition.ts'
import { instruments, type GaugeSources, type UpstreamGauges } from '../../src/telemetry/instruments.ts'
import type { ExpositionFormat } from '../../src/telemetry/negotiate.ts'
import { metering } from '../../src/telemetry/reader.ts'
import { telemetryResource } from '../../src/telemetry/resource.ts'
import { fakeClock } from '../support/fake-clock.ts'

export const states = ['starting', 'healthy', 'suspect', 'down', 'idle']

/** The gauges of an upstream that nothing is known of yet. */
export function upstreamGauges(changes: Partial<UpstreamGauges> = {}): UpstreamGauges {
  return {
    upstream: 'files',
    transport: 'stdio',
    state: 'starting',
    unavailableSeconds: 0,
    flapPenalty: 0,
    requestsInFlight: 0,
    isSilentTogether: false,
    ...changes,
  }
}

/** The whole metrics pipeline in virtual time; `upstreams` may be changed between snapshots. */
export function pipeline(options: { maxLabelsPerUpstream?: number; sources?: Partial<GaugeSources> } = {}) {
  const clock = fakeClock()
  const errors: unknown[] = []
  const exemplars = new ExemplarReservoir(clock)
  const upstreams: UpstreamGauges[] = []
  const sources: GaugeSources = {
    states,
    upstreams: () => upstreams,
    sessions: () => [],
    streams: () => [],
    configReload: () => ({ successful: true, lastSuccessTimestampSeconds: 1_767_225_600 }),
    isFailureCorrelated: () => false,
    loadRatio: () => 0.25,
    ...options.sources,
  }
  const version = '1.2.3'
  const { meters, ...reader } = metering({
    resource: telemetryResource({}, version),
    version,
    onError: (error) => errors.push(error),
  })
  const recorder = instruments({
    meters,
    exemplars,
    sources,
    version,
    maxLabelsPerUpstream: options.maxLabelsPerUpstream ?? 200,
  })
  const writer = new ExpositionWriter(exemplars)
  const render = async (format: ExpositionFormat = 'text') => writer.render(format, await reader.snapshot(), [])
  /** The samples of one family, without HELP and TYPE. */
  const samplesOf = async (family: string, format: ExpositionFormat = 'text') =>
    (await render(format)).split('\n').filter((line) => new RegExp(`^${family}(_bucket|_sum|_count)?[{ ]`).test(line))
  return { clock, errors, reader, exemplars, upstreams, recorder, render, samplesOf }
}

/** A call of a tool over Streamable HTTP that went well. */
export const toolCall = {
  side: 'server',
  upstream: 'files',
  method: 'tools/call',
  toolName: 'read_file',
  protocolVersion: '2025-11-25',
  networkTransport: 'tcp',
  httpVersion: '1.1',
  durationSeconds: 0.03,
} as const
