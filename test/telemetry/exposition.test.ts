import { execFileSync, spawnSync } from 'node:child_process'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exposition, ExpositionWriter } from '../../src/telemetry/exposition.ts'
import { labelName, liveMetrics } from '../../src/telemetry/names.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { runtimeMetrics } from '../../src/telemetry/runtime.ts'
import { stockText } from '../../src/telemetry/stock.ts'
import { pipeline, toolCall, upstreamGauges } from './fixture.ts'

const trace = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }

/** A pipeline in which every live metric has a sample. */
function busyPipeline(upstream = 'files') {
  const session = { upstream, transport: 'http', active: 2, withIssues: 1, messagesPending: 7 } as const
  const made = pipeline({ sources: { sessions: () => [session] } })
  const { recorder, upstreams } = made
  recorder.initUpstream(upstream, { transport: 'stdio', hasProcess: true, isShared: true })
  recorder.initSession(upstream)
  recorder.labels.admit(upstream, 'tool', ['read_file'])
  for (const side of ['server', 'client'] as const) {
    for (const durationSeconds of [0.004, 0.3, 1, 1000]) {
      recorder.recordOperation({ ...toolCall, span: trace, side, upstream, durationSeconds })
    }
  }
  recorder.recordSession({ upstream, networkTransport: 'tcp', durationSeconds: 12.25 })
  const heartbeat = { upstream, transport: 'stdio', leg: 'upstream', method: 'ping', outcome: 'late' } as const
  recorder.recordHeartbeat({ ...heartbeat, span: trace, durationSeconds: 3 })
  recorder.countDropped(upstream, 'noise')
  upstreams.push(
    upstreamGauges({
      upstream,
      up: 1,
      intervalSeconds: 10,
      timeoutSeconds: 2,
      lastSuccessTimestampSeconds: 1_767_225_600.25,
      unavailableSeconds: 1e-7,
      processes: 1,
      usage: { cpuSeconds: 2.5, residentBytes: 4096, openFds: 7, threads: 3, children: 2, orphans: 1 },
      connections: { active: 1, idle: 0, pending: 0 },
      tools: 11,
    }),
  )
  return made
}

/** The samples of an exposition by name and labels, bounds compared as numbers, exemplars apart. */
function parse(text: string) {
  const samples = new Map<string, number>()
  for (const line of text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))) {
    const [, name, labels, value] = /^([a-z_:]+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/.exec(line) ?? []
    const pairs = [...(labels ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) =>
      key === 'le' ? `le=${Number(String(text).replace('+Inf', 'Infinity'))}` : `${key}=${text}`,
    )
    samples.set(`${name}{${pairs.toSorted().join(',')}}`, Number(String(value).replace('+Inf', 'Infinity')))
  }
  return samples
}

describe('the text format', () => {
  it('has the same samples as OpenTelemetry’s own exporter', async () => {
    const { reader, exemplars } = busyPipeline('quote " back\\slash\nline')
    const snapshot = await reader.snapshot()
    const ours = parse(new ExpositionWriter(exemplars).render('text', snapshot, []))
    expect(ours.size).toBeGreaterThanOrEqual(150)
    expect(ours).toEqual(parse(stockText(snapshot)))
  })

  it('has HELP and TYPE of every live family, samples or not', async () => {
    const text = await pipeline().render()
    for (const { family, kind, help } of liveMetrics()) {
      expect(text).toContain(`# HELP ${family} ${help}\n# TYPE ${family} ${kind}\n`)
    }
  })

  it('has no label that the table of metrics lacks', async () => {
    const names = new Map(liveMetrics().map(({ family, labels }) => [family, new Set(labels.map(labelName))]))
    for (const [sample] of parse(await busyPipeline().render())) {
      const [, name = '', labels = ''] = /^(\w+)\{(.*)\}$/.exec(sample) ?? []
      const known = names.get(name) ?? names.get(name.replace(/_(bucket|sum|count)$/, ''))
      if (name === 'target_info') continue
      for (const [, key] of labels.matchAll(/(\w+)=/g)) expect(key === 'le' || known?.has(key ?? '')).toBe(true)
    }
  })

  it('says once who we are, and not on every sample', async () => {
    const text = await pipeline().render()
    expect(text).toMatch(/^target_info\{service_name="mcp-vitals",service_version="1\.2\.3",.*\} 1$/m)
    expect(text).not.toContain('otel_scope')
  })

  it('carries any label value unharmed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), async (upstream) => {
        const { recorder, samplesOf } = pipeline()
        recorder.countUnparsed(upstream)
        const [line = ''] = await samplesOf('mcp_vitals_unparsed_messages_total')
        const [, escaped = ''] = /upstream="(.*)"\} 1$/s.exec(line) ?? []
        const unescaped = escaped.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char))
        expect(unescaped).toBe(upstream)
      }),
      { numRuns: 30 },
    )
  })
})

describe('OpenMetrics', () => {
  it('has the same samples as the text', async () => {
    const { render } = busyPipeline()
    expect(parse(await render('openmetrics'))).toEqual(parse(await render('text')))
  })

  it('names counters without _total, gives units that are suffixes, and ends with # EOF', async () => {
    const text = await busyPipeline().render('openmetrics')
    expect(text).toContain('# TYPE mcp_heartbeats counter\nmcp_heartbeats_total{')
    expect(text).toContain(
      '# TYPE mcp_upstream_unavailable_seconds counter\n# UNIT mcp_upstream_unavailable_seconds seconds\n' +
        'mcp_upstream_unavailable_seconds_total{upstream="files"} 1e-7\n',
    )
    expect(text).toContain('# UNIT mcp_vitals_load_ratio ratio\n')
    expect(text).toContain('# TYPE target info\ntarget_info{')
    expect(text).not.toContain('# UNIT mcp_upstream_up')
    expect(text.endsWith('\n# EOF\n')).toBe(true)
  })

  it('puts exemplars on buckets and counters only, each within its bucket', async () => {
    const text = await busyPipeline().render('openmetrics')
    const withExemplar = text.split('\n').filter((line) => line.includes(' # {'))
    expect(withExemplar).toContain(
      'mcp_heartbeats_total{upstream="files",transport="stdio",leg="upstream",outcome="late"} 1' +
        ` # {trace_id="${trace.traceId}",span_id="${trace.spanId}"} 1 1767225600`,
    )
    expect(withExemplar.filter((line) => line.includes('le="0.01"'))).toHaveLength(2)
    expect(withExemplar.filter((line) => /le="\+Inf"\} 4 # \{.*\} 1000 /.test(line))).toHaveLength(2)
    for (const line of withExemplar) expect(line).toMatch(/^\w+(_bucket|_total)\{/)
    expect(await busyPipeline().render('text')).not.toContain(' # {')
  })
})

describe('the metrics of the process', () => {
  it('are written by the same writer in either format', async () => {
    const runtime = runtimeMetrics(fakeClock())
    const { reader, exemplars } = pipeline()
    const snapshot = await reader.snapshot()
    const families = await runtime.collect()
    const writer = new ExpositionWriter(exemplars)
    for (const format of ['openmetrics', 'text', 'openmetrics', 'text'] as const) {
      const text = writer.render(format, snapshot, families)
      expect(text).toMatch(/^process_cpu_seconds_total \d/m)
      expect(text).toContain(`# TYPE process_cpu_seconds${format === 'text' ? '_total' : ''} counter\n`)
      expect(text).toMatch(/^nodejs_version_info\{version="v\d+.*",major="\d+",minor="\d+",patch="\d+"\} 1$/m)
    }
    await runtime.stop()
  })
})

describe('exposition', () => {
  it('answers in the format that was asked for', async () => {
    const { reader, exemplars } = busyPipeline()
    const runtime = runtimeMetrics(fakeClock())
    const { scrape } = exposition({ mode: 'own', snapshot: () => reader.snapshot(), runtime, exemplars })
    const openmetrics = await scrape('application/openmetrics-text;version=1.0.0,text/plain;q=0.5')
    expect(openmetrics.contentType).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8')
    expect(openmetrics.body).toMatch(/# EOF\n$/)
    const text = await scrape(undefined)
    expect(text.contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(text.body).not.toContain('# EOF')
    await runtime.stop()
  })

  it('gives the exporters’ own text, under the same names, if asked for stock', async () => {
    const { reader, exemplars } = busyPipeline()
    const runtime = runtimeMetrics(fakeClock())
    const { scrape } = exposition({ mode: 'stock', snapshot: () => reader.snapshot(), runtime, exemplars })
    const { contentType, body } = await scrape('application/openmetrics-text')
    expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(body).toContain('mcp_server_operation_duration_seconds_bucket{')
    expect(body).toMatch(/^process_cpu_seconds_total \d/m)
    await runtime.stop()
  })

  const hasPromtool = spawnSync('promtool', ['--version']).error === undefined
  it.skipIf(!hasPromtool && process.env['CI'] === undefined).each(['own', 'stock'] as const)(
    'has nothing that promtool’s lint finds, mode %s (skipped? apt-get install prometheus)',
    async (mode) => {
      const { reader, exemplars } = busyPipeline()
      const runtime = runtimeMetrics(fakeClock())
      const { body } = await exposition({ mode, snapshot: () => reader.snapshot(), runtime, exemplars }).scrape('*/*')
      await runtime.stop()
      // It throws, with the findings, unless the exit code is 0.
      expect(execFileSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' })).toBe('')
    },
  )
})
