/** The spans of the real program, as an OpenTelemetry collector receives them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectV1 } from '../peers/clients.ts'
import { jsonLine, repoRoot } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { type CollectedSpan, type Collector, collector } from '../support/otlp.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { modernPost, post } from '../support/rpc.ts'
import { type TinyServer, tinyServer } from '../support/tiny-server.ts'
import { debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { samplesOf } from '../support/prometheus.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const ofMeta = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }
const ofHttp = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' }
const unsampled = { traceId: '11112222333344445555666677778888', spanId: '1234567812345678' }
const traceparent = ({ traceId, spanId }: typeof ofMeta, flags = '01') => `00-${traceId}-${spanId}-${flags}`

/** Each call is known by its request id; all are sent before the program is stopped, which sends the last spans. */
const calls = {
  root: { id: 1, method: 'tools/call', params: { name: 'add' } },
  meta: { id: 2, method: 'tools/call', params: { name: 'add', _meta: { traceparent: traceparent(ofMeta) } } },
  both: { id: 3, method: 'tools/call', params: { name: 'add', _meta: { traceparent: traceparent(ofMeta) } } },
  http: { id: 4, method: 'tools/call', params: { name: 'add' } },
  unsampled: {
    id: 5,
    method: 'tools/call',
    params: { name: 'add', _meta: { traceparent: traceparent(unsampled, '00') } },
  },
  broken: { id: 6, method: 'tools/call', params: { name: 'add', _meta: { traceparent: 'nonsense' } } },
  toolError: { id: 7, method: 'tools/call', params: { name: 'add', arguments: { fail: true } } },
  clientFault: { id: 8, method: 'tools/call', params: { name: 'add', arguments: { code: -32_602 } } },
  serverFault: { id: 9, method: 'tools/call', params: { name: 'add', arguments: { code: -32_603 } } },
  unknown: { id: 10, method: 'made/up', params: {} },
} as const

describe('spans sent by OTLP', { timeout: 60_000 }, () => {
  let sink: Collector
  let tiny: TinyServer
  let vitals: RunningVitals
  let forwarded = ''
  let told = ''

  beforeAll(async () => {
    sink = await collector()
    tiny = await tinyServer(['add'])
    vitals = await startVitals({
      config: {
        heartbeat: { heartbeat_interval_seconds: 0.5, adaptive_heartbeat: { enabled: false } },
        mcpServers: {
          tiny: { url: tiny.url },
          files: { command: process.execPath, args: [`${repoRoot}/src/cli/selftest-server.ts`] },
          told: { url: tiny.url, inject_traceparent: true },
          dead: { url: `http://127.0.0.1:${await freePort()}/mcp` },
        },
      },
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
        OTEL_SERVICE_NAME: 'vitals-under-test',
        OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=test',
      },
    })
    for (const name of ['tiny', 'files']) {
      await eventually(async () => (await fetch(`${vitals.adminUrl}/-/ready/${name}`)).ok, { what: `${name} is up` })
    }
    const mcp = `${vitals.dataUrl}/tiny/mcp`
    for (const [key, call] of Object.entries(calls)) {
      const headers = key === 'both' || key === 'http' ? { traceparent: traceparent(ofHttp) } : undefined
      await post(mcp, { jsonrpc: '2.0', ...call }, headers)
      if (key === 'meta') forwarded = tiny.last('tools/call')?.body ?? ''
    }
    await post(`${vitals.dataUrl}/told/mcp`, { jsonrpc: '2.0', ...calls.meta, id: 12 })
    told = tiny.last('tools/call')?.body ?? ''
    const { id, method, params } = { ...calls.root, id: 11 }
    await modernPost(mcp, { id, method, params }).done
    const client = await connectV1(`${vitals.dataUrl}/files/mcp`)
    await client.callTool({ name: 'echo', arguments: { message: 'hello' } })
    await client.close()
    await eventually(() => failures().length >= 2, { what: 'two failed heartbeats' })
    await vitals.stop()
  }, 60_000)

  afterAll(async () => {
    await vitals?.stop()
    await tiny?.close()
    await sink?.close()
  })

  const heartbeatLines = () =>
    vitals
      .output()
      .split('\n')
      .map(jsonLine)
      .filter((line) => line?.['msg'] === 'heartbeat')
  const failures = () => heartbeatLines().filter((line) => line?.['upstream'] === 'dead')
  const heartbeatSpans = () => sink.spans.filter(({ name }) => name.startsWith('heartbeat '))
  const spansOf = (id: number, kind: 'server' | 'client') =>
    sink.spans.filter(
      ({ attributes, ...span }) =>
        attributes['jsonrpc.request.id'] === String(id) && attributes['upstream'] === 'tiny' && span.kind === kind,
    )
  const only = (id: number, kind: 'server' | 'client'): CollectedSpan => {
    const [span, ...more] = spansOf(id, kind)
    if (!span || more.length > 0) throw new Error(`${more.length + (span ? 1 : 0)} ${kind} spans of request ${id}`)
    return span
  }

  it('go to /v1/traces of the endpoint as protobuf, under the name of the service (OTLP Exporter specification)', () => {
    expect(new Set(sink.requests)).toEqual(new Set(['POST /v1/traces application/x-protobuf']))
    expect(new Set(sink.spans.map(({ service }) => service))).toEqual(new Set(['vitals-under-test']))
    const ids = sink.spans.map(({ spanId }) => spanId)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('are one for each failed heartbeat, a root with the trace id of its log line', () => {
    const sent = heartbeatSpans().filter(({ attributes }) => attributes['upstream'] === 'dead')
    expect(sent).toHaveLength(failures().length)
    for (const line of failures()) {
      const span = sent.find(({ traceId }) => traceId === line?.['trace_id'])
      const name = `heartbeat ${String(line?.['method'])}`
      expect(span).toMatchObject({ name, kind: 'client', parentId: '', isError: true, message: line?.['reason'] })
      expect(span?.attributes).toMatchObject({ 'error.type': 'refused', 'mcp.heartbeat.outcome': 'refused' })
    }
  })

  it('have the trace id of the line that tells of a new kind of failure, and of a changed state', () => {
    const lines = vitals.output().split('\n').map(jsonLine)
    const ofDead = (msg: string) => lines.find((line) => line?.['msg'] === msg && line['upstream'] === 'dead')
    const [first] = failures()
    expect(ofDead('a new kind of failure')?.['trace_id']).toBe(first?.['trace_id'])
    expect(ofDead('upstream state changed')?.['trace_id']).toBe(first?.['trace_id'])
  })

  it('are one for the heartbeat that found a server up', () => {
    for (const [upstream, name] of [
      ['tiny', 'heartbeat server/discover'],
      ['files', 'heartbeat initialize'],
    ] as const) {
      const sent = heartbeatSpans().filter(({ attributes }) => attributes['upstream'] === upstream)
      const [first] = heartbeatLines().filter((line) => line?.['upstream'] === upstream)
      const span = sent.find(({ traceId }) => traceId === first?.['trace_id'])
      expect(span).toMatchObject({ name, kind: 'client', parentId: '', isError: false })
    }
  })

  it('are a SERVER span for each request and a CLIENT span below it (OpenTelemetry, MCP conventions)', () => {
    for (const { id, method } of Object.values(calls).filter(({ id }) => id !== calls.unsampled.id)) {
      const server = only(id, 'server')
      const client = only(id, 'client')
      const name = method === 'tools/call' ? 'tools/call add' : '_other'
      expect([id, server.name, client.name]).toEqual([id, name, name])
      expect([id, client.traceId, client.parentId]).toEqual([id, server.traceId, server.spanId])
      expect(server.attributes).toMatchObject({ upstream: 'tiny', 'mcp.method.name': method })
    }
    expect(only(calls.root.id, 'server')).toMatchObject({ parentId: '', isError: false, linkedTo: [] })
    expect(only(calls.root.id, 'client').attributes).toMatchObject({
      'gen_ai.tool.name': 'add',
      'gen_ai.operation.name': 'execute_tool',
      'network.transport': 'tcp',
      'network.protocol.name': 'http',
      'server.address': '127.0.0.1',
    })
    expect(only(calls.root.id, 'server').attributes).not.toHaveProperty('server.address')
    expect(only(11, 'server').attributes).toMatchObject({ 'mcp.protocol.version': '2026-07-28' })
  })

  it('are made for a stdio server too, with the session that they belong to', () => {
    const sent = sink.spans.filter(({ name }) => name === 'tools/call echo')
    expect(sent.map(({ kind }) => kind).toSorted()).toEqual(['client', 'server'])
    const [client, server] = sent.toSorted((a, b) => a.kind.localeCompare(b.kind))
    expect(client?.parentId).toBe(server?.spanId)
    expect(server?.attributes['mcp.session.id']).toMatch(/^[0-9a-f]{8}$/)
    expect(sink.spans.filter(({ name, kind }) => name === 'initialize' && kind === 'server')).toHaveLength(1)
  })

  it('are the parent of what the server makes of a request, where that is wanted', () => {
    const [span, ...more] = sink.spans.filter(
      ({ attributes, kind }) => attributes['jsonrpc.request.id'] === '12' && kind === 'client',
    )
    expect(more).toEqual([])
    expect(span).toMatchObject({ traceId: ofMeta.traceId, attributes: { upstream: 'told' } })
    const parent = traceparent({ traceId: ofMeta.traceId, spanId: span?.spanId ?? '' })
    expect(told).toBe(JSON.stringify({ jsonrpc: '2.0', ...calls.meta, id: 12 }).replace(traceparent(ofMeta), parent))
  })

  it('have the traceparent in params._meta as parent, which the server receives as it was (SEP-414)', () => {
    expect(only(calls.meta.id, 'server')).toMatchObject({
      traceId: ofMeta.traceId,
      parentId: ofMeta.spanId,
      linkedTo: [],
    })
    expect(only(calls.meta.id, 'client').traceId).toBe(ofMeta.traceId)
    expect(forwarded).toBe(JSON.stringify({ jsonrpc: '2.0', ...calls.meta }))
  })

  it('are linked to the traceparent of HTTP, which is the parent where params._meta has none', () => {
    expect(only(calls.both.id, 'server')).toMatchObject({
      traceId: ofMeta.traceId,
      parentId: ofMeta.spanId,
      linkedTo: [ofHttp.traceId],
    })
    expect(only(calls.http.id, 'server')).toMatchObject({
      traceId: ofHttp.traceId,
      parentId: ofHttp.spanId,
      linkedTo: [],
    })
  })

  it('are not made where the parent is not sampled, and are roots where it is no traceparent (W3C Trace Context §3.2)', () => {
    expect(spansOf(calls.unsampled.id, 'server')).toEqual([])
    expect(sink.spans.filter(({ traceId }) => traceId === unsampled.traceId)).toEqual([])
    expect(only(calls.broken.id, 'server').parentId).toBe('')
  })

  it('are errors as the conventions have it: tool errors on both sides, the faults of a client not on the server side', () => {
    for (const kind of ['server', 'client'] as const) {
      expect(only(calls.toolError.id, kind)).toMatchObject({
        isError: true,
        attributes: { 'error.type': 'tool_error' },
      })
      expect(only(calls.serverFault.id, kind)).toMatchObject({ isError: true, message: 'error -32603' })
      expect(only(calls.clientFault.id, kind)).toMatchObject({ isError: kind === 'client' })
      expect(only(calls.clientFault.id, kind).attributes['rpc.response.status_code']).toBe('-32602')
    }
  })
})

describe('metrics pushed by OTLP', { timeout: 60_000 }, () => {
  it('are those of /metrics, under the names of the conventions, to the last one', async () => {
    const sink = await collector()
    const tiny = await tinyServer(['add'])
    const vitals = await startVitals({
      config: { mcpServers: { tiny: { url: tiny.url } } },
      env: {
        OTEL_METRICS_EXPORTER: 'otlp',
        OTEL_TRACES_EXPORTER: 'none',
        OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
        OTEL_METRIC_EXPORT_INTERVAL: '200',
        OTEL_SERVICE_NAME: 'vitals-under-test',
      },
    })
    const points = (name: string) => sink.pushes.at(-1)?.filter((point) => point.name === name) ?? []
    try {
      await eventually(async () => (await debugUpstream(vitals, 'tiny')).tools === 1, { what: 'the tool is known' })
      const { root } = calls
      for (let id = 1; id <= 3; id++) await post(`${vitals.dataUrl}/tiny/mcp`, { jsonrpc: '2.0', ...root, id })
      const isAdd = ({ attributes }: { attributes: object }) => Object.values(attributes).includes('add')
      await eventually(() => points('mcp.server.operation.duration').find(isAdd)?.value === 3, {
        what: 'a push with the three calls',
      })
      const scraped = samplesOf(await (await fetch(`${vitals.adminUrl}/metrics`)).text())
      const buckets = scraped.filter(
        ({ name, labels }) =>
          name === 'mcp_server_operation_duration_seconds_bucket' && labels['gen_ai_tool_name'] === 'add',
      )
      const [pushed] = points('mcp.server.operation.duration').filter(isAdd)
      let below = 0
      expect(pushed?.buckets?.counts.map((count) => (below += count))).toEqual(buckets.map(({ value }) => value))
      expect(pushed).toMatchObject({
        service: 'vitals-under-test',
        unit: 's',
        isCumulative: true,
        attributes: { upstream: 'tiny', 'mcp.method.name': 'tools/call', 'gen_ai.operation.name': 'execute_tool' },
      })
      // A gauge that is gone is not pushed for ever: only the state that it is in now has the value 1.
      expect(points('mcp.upstream.state').filter(({ value }) => value === 1)).toMatchObject([
        { kind: 'gauge', attributes: { upstream: 'tiny', state: 'healthy' } },
      ])
      await post(`${vitals.dataUrl}/tiny/mcp`, { jsonrpc: '2.0', ...root, id: 4 })
      await vitals.stop()
      expect(points('mcp.server.operation.duration').find(isAdd)?.value).toBe(4)
      expect(new Set(sink.requests)).toEqual(new Set(['POST /v1/metrics application/x-protobuf']))
    } finally {
      await vitals.stop()
      await tiny.close()
      await sink.close()
    }
  })
})

describe('a collector that never answers', { timeout: 60_000 }, () => {
  it('holds nobody up, and what it does not take is counted', async () => {
    const sink = await collector({ isSilent: true })
    const tiny = await tinyServer(['add'])
    const vitals = await startVitals({
      config: { mcpServers: { tiny: { url: tiny.url } } },
      env: {
        OTEL_METRICS_EXPORTER: 'otlp',
        OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
        OTEL_METRIC_EXPORT_INTERVAL: '200',
        OTEL_BSP_SCHEDULE_DELAY: '10',
        OTEL_BSP_MAX_QUEUE_SIZE: '10',
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '5',
      },
    })
    try {
      const mcp = `${vitals.dataUrl}/tiny/mcp`
      for (let id = 1; id <= 100; id++) {
        expect((await post(mcp, { jsonrpc: '2.0', ...calls.root, id })).status).toBe(200)
      }
      const lost = () => metricValue(vitals, 'mcp_vitals_dropped_spans_total', { reason: 'queue_full' })
      // Two spans a call: at most one batch is under way, and ten wait.
      await eventually(async () => ((await lost()) ?? 0) >= 200 - 5 - 10, { what: 'the lost spans are counted' })
      expect(await metricValues(vitals, 'mcp_vitals_dropped_spans_total')).toHaveLength(2)
      expect(sink.requests.length).toBeGreaterThan(0)
    } finally {
      await vitals.stop()
      await tiny.close()
      await sink.close()
    }
  })
})
