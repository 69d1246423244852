import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace'
import { describe, expect, it } from 'vitest'
import { tracing, type HeartbeatTrace } from '../../src/telemetry/tracing.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const sampledParent = { traceparent: `00-${traceId}-b7ad6b7169203331-01`, tracestate: 'vendor=1' }
const unsampledParent = { traceparent: `00-${traceId}-b7ad6b7169203331-00` }
const httpParent = { traceparent: '00-11111111111111111111111111111111-2222222222222222-01' }
const call = { upstream: 'files', method: 'tools/call', target: 'read_file' }

/** Numbers in [0, 1) that differ, the same ones in each run. */
function countingRandom(start = 0.5) {
  let state = start
  return () => (state = (state + 0.618_033_988_75) % 1)
}

async function recordedTracing(env: Record<string, string> = {}, random = countingRandom()) {
  const exporter = new InMemorySpanExporter()
  const spanProcessor = new SimpleSpanProcessor({ exporter })
  const made = await tracing({ env, serviceVersion: '1.2.3', random, spanProcessor })
  return { ...made, spans: () => exporter.getFinishedSpans() }
}

describe('without an endpoint', () => {
  it('makes ids for logs and exemplars and records nothing', async () => {
    const { startServer, startClient, heartbeat, exportsTo, shutdown } = await tracing({ env: {}, serviceVersion: '1' })
    let asked = 0
    const server = startServer({ ...call, attributes: () => ({ asked: ++asked }) })
    const client = startClient(server, call)
    expect(server.traceId).toMatch(/^[0-9a-f]{32}$/)
    expect(server.spanId).toMatch(/^[0-9a-f]{16}$/)
    expect(client.traceId).toBe(server.traceId)
    expect(client.spanId).not.toBe(server.spanId)
    expect([server.sampled, client.sampled, asked, exportsTo]).toEqual([false, false, 0, undefined])
    expect(heartbeat(ping).traceId).toMatch(/^[0-9a-f]{32}$/)
    server.end({})
    await shutdown()
  })

  it('still continues the trace of the client', async () => {
    const { startServer } = await tracing({ env: {}, serviceVersion: '1' })
    expect(startServer({ ...call, meta: sampledParent }).traceId).toBe(traceId)
    expect(startServer({ ...call, http: sampledParent }).traceId).toBe(traceId)
  })

  it.each(['', 'junk', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, `ff-${traceId}-b7ad6b7169203331-01`])(
    'starts a new trace for an invalid parent (W3C Trace Context §3.2.2): "%s"',
    async (traceparent) => {
      const { startServer } = await tracing({ env: {}, serviceVersion: '1' })
      const span = startServer({ ...call, meta: { traceparent } })
      expect(span.traceId).toMatch(/^(?!0{32})[0-9a-f]{32}$/)
      expect(span.traceId).not.toBe(traceId)
    },
  )

  it('never makes an id of zeros', async () => {
    const { heartbeat } = await tracing({ env: {}, serviceVersion: '1', random: () => 0 })
    expect(heartbeat(ping)).toEqual({ traceId: `01${'0'.repeat(30)}`, spanId: `01${'0'.repeat(14)}`, sampled: false })
  })
})

describe('operations', () => {
  it('are a SERVER span with a CLIENT child, named and described by the semantic conventions', async () => {
    const { startServer, startClient, spans } = await recordedTracing()
    const server = startServer({ ...call, attributes: () => ({ 'mcp.session.id': 's', 'jsonrpc.request.id': '7' }) })
    const client = startClient(server, call)
    client.end({ errorType: '-32601', rpcStatusCode: -32601, message: 'no such method' })
    server.end({})
    const [child, parent] = spans()
    expect(parent).toMatchObject({
      name: 'tools/call read_file',
      kind: SpanKind.SERVER,
      status: { code: SpanStatusCode.UNSET },
      attributes: {
        upstream: 'files',
        'mcp.method.name': 'tools/call',
        'gen_ai.tool.name': 'read_file',
        'gen_ai.operation.name': 'execute_tool',
        'mcp.session.id': 's',
        'jsonrpc.request.id': '7',
      },
    })
    expect(parent?.spanContext()).toMatchObject({ traceId: server.traceId, spanId: server.spanId })
    expect(child).toMatchObject({
      kind: SpanKind.CLIENT,
      parentSpanContext: { traceId: server.traceId, spanId: server.spanId },
      status: { code: SpanStatusCode.ERROR, message: 'no such method' },
      attributes: { 'error.type': '-32601', 'rpc.response.status_code': '-32601' },
    })
    expect(child?.spanContext()).toMatchObject({ traceId: client.traceId, spanId: client.spanId })
    expect(parent?.resource.attributes).toMatchObject({ 'service.name': 'mcp-vitals', 'service.version': '1.2.3' })
  })

  it('take their parent from _meta and link the HTTP context (semconv, MCP, "Context propagation")', async () => {
    const { startServer, startClient, spans } = await recordedTracing()
    const server = startServer({ ...call, meta: sampledParent, http: httpParent })
    server.end({})
    startClient(server, call).end({})
    const [span, child] = spans()
    expect(span?.parentSpanContext).toMatchObject({ traceId, spanId: 'b7ad6b7169203331', isRemote: true })
    for (const one of [span, child]) expect(one?.spanContext().traceState?.serialize()).toBe('vendor=1')
    expect(span?.links.map(({ context }) => context.traceId)).toEqual(['11111111111111111111111111111111'])
  })

  it('take it from HTTP if there is no _meta', async () => {
    const { startServer, spans } = await recordedTracing()
    startServer({ ...call, http: httpParent }).end({})
    expect(spans()[0]?.parentSpanContext?.spanId).toBe('2222222222222222')
    expect(spans()[0]?.links).toEqual([])
  })

  it('are not named after a method that anyone could make up', async () => {
    const { startServer, spans } = await recordedTracing()
    startServer({ upstream: 'files', method: 'x/1234' }).end({})
    expect(spans()[0]).toMatchObject({ name: '_other', attributes: { 'mcp.method.name': 'x/1234' } })
  })

  it.each([
    ['parentbased_always_on', sampledParent, true],
    ['parentbased_always_on', unsampledParent, false],
    ['parentbased_always_on', undefined, true],
    ['parentbased_always_off', sampledParent, true],
    ['parentbased_always_off', undefined, false],
    ['always_on', unsampledParent, true],
    ['always_off', sampledParent, false],
  ])('%s with parent %j: kept %s', async (sampler, meta, isKept) => {
    const { startServer, startClient, spans } = await recordedTracing({ OTEL_TRACES_SAMPLER: sampler })
    const server = startServer({ ...call, ...(meta && { meta }) })
    startClient(server, call).end({})
    server.end({})
    expect([server.sampled, spans().length]).toEqual([isKept, isKept ? 2 : 0])
  })

  it('keep the asked share', async () => {
    const env = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' }
    const { startServer } = await recordedTracing(env)
    const kept = Array.from({ length: 2000 }, () => startServer(call).sampled).filter(Boolean)
    expect(kept.length).toBeGreaterThan(400)
    expect(kept.length).toBeLessThan(600)
  })
})

const ping: HeartbeatTrace = {
  upstream: 'files',
  transport: 'stdio',
  leg: 'upstream',
  method: 'ping',
  outcome: 'ok',
  startedAtWallMs: 1_767_225_600_000,
  durationMs: 12,
  slow: false,
  stateChanged: false,
}

describe('exemplars', () => {
  it('name only traces that are kept, once traces are exported', async () => {
    const { heartbeat, exemplarOf } = await recordedTracing()
    const kept = heartbeat({ ...ping, outcome: 'timeout' })
    const dropped = { ...kept, sampled: false }
    expect(exemplarOf(kept)).toMatchObject({ traceId: kept.traceId, spanId: kept.spanId })
    expect(exemplarOf(dropped)).toBeUndefined()
  })

  it('name every trace while none is exported, as its id still finds the log line', async () => {
    const { heartbeat, exemplarOf } = await tracing({ env: {}, serviceVersion: '1' })
    const place = heartbeat(ping)
    expect(exemplarOf(place)).toMatchObject({ traceId: place.traceId, spanId: place.spanId })
  })
})

describe('heartbeats', () => {
  it('are recorded after the fact, with the time they took', async () => {
    const { heartbeat, spans } = await recordedTracing()
    const { sampled, ...ids } = heartbeat({
      ...ping,
      outcome: 'timeout',
      durationMs: 2000,
      reason: 'no answer in 2000 ms',
    })
    expect(sampled).toBe(true)
    expect(spans()[0]).toMatchObject({
      name: 'heartbeat ping',
      startTime: [1_767_225_600, 0],
      endTime: [1_767_225_602, 0],
      status: { code: SpanStatusCode.ERROR, message: 'no answer in 2000 ms' },
      attributes: { upstream: 'files', 'error.type': 'timeout', 'mcp.heartbeat.leg': 'upstream' },
    })
    expect(spans()[0]?.spanContext()).toMatchObject(ids)
  })

  it.each([
    ['a failure', { outcome: 'refused' }],
    ['a late answer', { outcome: 'late' }],
    ['a slow one', { slow: true }],
    ['a change of state', { stateChanged: true }],
  ] satisfies [string, Partial<HeartbeatTrace>][])('are always kept: %s', async (_, change) => {
    const { heartbeat, spans } = await recordedTracing()
    for (let count = 0; count < 50; count++) heartbeat({ ...ping, ...change })
    expect(spans()).toHaveLength(50)
  })

  it('are kept at 1 % otherwise', async () => {
    const { heartbeat, spans } = await recordedTracing()
    for (let count = 0; count < 10_000; count++) heartbeat(ping)
    expect(spans().length).toBeGreaterThan(50)
    expect(spans().length).toBeLessThan(150)
  })

  it('are not kept if sampling is off', async () => {
    const { heartbeat, spans } = await recordedTracing({ OTEL_TRACES_SAMPLER: 'always_off' })
    heartbeat({ ...ping, outcome: 'timeout' })
    expect(spans()).toEqual([])
  })
})

describe('with an endpoint', () => {
  interface Received {
    readonly url: string | undefined
    readonly type: string | undefined
    readonly body: string
  }

  async function collector(status: number) {
    const received: Received[] = []
    const server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const body = Buffer.concat(chunks).toString('latin1')
        received.push({ url: request.url, type: request.headers['content-type'], body })
        response.writeHead(status).end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const stop = () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    return { received, stop, endpoint: `http://127.0.0.1:${port}` }
  }

  it('posts OTLP as protobuf', async () => {
    const { received, stop, endpoint } = await collector(200)
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SERVICE_NAME: 'edge' }
    const { startServer, shutdown, exportsTo } = await tracing({ env, serviceVersion: '1' })
    expect(exportsTo).toBe(`${endpoint}/v1/traces`)
    const span = startServer(call)
    span.end({})
    await shutdown()
    await stop()
    expect(received).toMatchObject([{ url: '/v1/traces', type: 'application/x-protobuf' }])
    expect(received[0]?.body).toContain('tools/call read_file')
    expect(received[0]?.body).toContain('edge')
    expect(received[0]?.body).toContain(Buffer.from(span.traceId, 'hex').toString('latin1'))
  })

  it('tells of what could not be sent', async () => {
    const { stop, endpoint } = await collector(400)
    const errors: Error[] = []
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }
    const onExportError = (error: Error) => errors.push(error)
    const { startServer, shutdown } = await tracing({ env, serviceVersion: '1', onExportError })
    startServer(call).end({})
    await shutdown().catch(() => undefined)
    await stop()
    expect(errors).toHaveLength(1)
  })
})
