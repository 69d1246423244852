import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ErrorCode, KnownError } from '../../src/errors.ts'
import { BodyObserver, type ObservedRequest, type OperationEnd, beginOperation } from '../../src/proxy/observe.ts'
import type { Operation } from '../../src/telemetry/instruments.ts'
import type { OperationResult, ServerSpanStart, SpanStart } from '../../src/telemetry/tracing.ts'
import { type Envelope, readEnvelope } from '../../src/wire/envelope.ts'
import { fakeClock } from '../support/fake-clock.ts'

function envelope(text: string): Envelope {
  const read = readEnvelope(Buffer.from(text))
  if (!read) throw new Error(`no message: ${text}`)
  return read
}

const call = '{"id":7,"method":"tools/call","params":{"name":"echo"}}'

function observed(message = call, changes: Partial<ObservedRequest> = {}) {
  const clock = fakeClock(1000)
  const operations: Operation[] = []
  const results: { side: 'server' | 'client'; result: OperationResult }[] = []
  const starts: (ServerSpanStart | SpanStart)[] = []
  const answered: string[] = []
  const failed: string[] = []
  const span = (side: 'server' | 'client', start: SpanStart) => {
    starts.push(start)
    const ids = { traceId: 'trace', spanId: side, sampled: true }
    return { ...ids, end: (result: OperationResult) => void results.push({ side, result }) }
  }
  const unused = () => undefined
  const operation = beginOperation(
    {
      clock,
      instruments: {
        recordOperation: (one) => void operations.push(one),
        recordHeartbeat: unused,
        recordSession: unused,
        recordStream: unused,
        countStreamEvent: unused,
        countStateChange: unused,
        countRestart: unused,
        countInventoryChange: unused,
        countUnparsed: unused,
        countRejected: unused,
        countDropped: unused,
        countShed: unused,
        countForgotten: unused,
        countCircuitOpened: unused,
        countDroppedSpans: unused,
        countNotifications: unused,
        recordNotification: unused,
        initReceiver: unused,
        countReceivedAlert: unused,
        countRecovery: unused,
        initRecovery: unused,
        labels: { admit: unused, bound: (_upstream, _kind, name) => name, count: () => 0 },
        initUpstream: unused,
        initSession: unused,
      },
      tracing: {
        exportsTo: undefined,
        startServer: (start) => span('server', start),
        startClient: (_parent, start) => span('client', start),
        heartbeat: () => ({ traceId: '', spanId: '', sampled: false }),
        traceparentOf: () => undefined,
        exemplarOf: (place) => (place.sampled ? place : undefined),
        shutdown: () => Promise.resolve(),
      },
      traffic: { onAnswered: (name) => answered.push(name), onFailed: (_name, { code }) => failed.push(code) },
    },
    {
      peering: { upstream: 'u', network: 'tcp', address: 'host', port: 81 },
      envelope: envelope(message),
      protocolVersion: '2025-11-25',
      arrivedAtMs: 990,
      ...changes,
    },
  )
  return { clock, operation, operations, results, starts, answered, failed }
}

const answer = (text: string): OperationEnd => ({ kind: 'answer', envelope: envelope(text) })
const failure = (code: ErrorCode): OperationEnd => ({
  kind: 'failure',
  error: new KnownError(code, 'why'),
})

describe('error.type by side (OpenTelemetry semantic conventions for MCP)', () => {
  it.each<[string, OperationEnd, string | undefined, string | undefined]>([
    ['a result', answer('{"id":7,"result":{}}'), undefined, undefined],
    ['isError false', answer('{"id":7,"result":{"isError":false}}'), undefined, undefined],
    ['a tool’s error', answer('{"id":7,"result":{"isError":true}}'), 'tool_error', 'tool_error'],
    ['−32603, the server’s fault', answer('{"id":7,"error":{"code":-32603}}'), '-32603', '-32603'],
    ['−32000', answer('{"id":7,"error":{"code":-32000}}'), '-32000', '-32000'],
    ['−32602, the client’s fault', answer('{"id":7,"error":{"code":-32602}}'), '-32602', undefined],
    ['−32601', answer('{"id":7,"error":{"code":-32601}}'), '-32601', undefined],
    ['−32600', answer('{"id":7,"error":{"code":-32600}}'), '-32600', undefined],
    ['−32700', answer('{"id":7,"error":{"code":-32700}}'), '-32700', undefined],
    ['−32002, no such resource', answer('{"id":7,"error":{"code":-32002}}'), '-32002', undefined],
    ['HTTP 401', { kind: 'status', status: 401 }, 'upstream_unauthorized', 'upstream_unauthorized'],
    ['HTTP 403', { kind: 'status', status: 403 }, 'upstream_unauthorized', 'upstream_unauthorized'],
    ['HTTP 404', { kind: 'status', status: 404 }, 'upstream_http_error', 'upstream_http_error'],
    ['HTTP 500', { kind: 'status', status: 500 }, 'upstream_http_error', 'upstream_http_error'],
    ['a reset', failure('upstream_reset'), 'upstream_reset', 'upstream_reset'],
    ['a crash', failure('upstream_exited'), 'upstream_exited', 'upstream_exited'],
    ['a client that left', failure('cancelled'), 'cancelled', 'cancelled'],
  ])('%s: client %s, server %s', (_title, end, client, server) => {
    const { operation, operations, results } = observed()
    operation.end(end)
    expect(operations.map(({ side, errorType }) => [side, errorType])).toEqual([
      ['client', client],
      ['server', server],
    ])
    expect(results.map(({ side, result }) => [side, result.errorType])).toEqual([
      ['client', client],
      ['server', server],
    ])
  })

  it('closing the connection is how a client ends a subscription (MCP 2026-07-28), which is no error', () => {
    const { operation, operations } = observed('{"id":1,"method":"subscriptions/listen"}')
    operation.end(failure('cancelled'))
    expect(operations.map(({ errorType }) => errorType)).toEqual([undefined, undefined])
  })

  it('the JSON-RPC code is told on both sides', () => {
    const { operation, operations } = observed()
    operation.end(answer('{"id":7,"error":{"code":-32602,"message":"bad"}}'))
    expect(operations.map(({ rpcStatusCode }) => rpcStatusCode)).toEqual([-32602, -32602])
  })
})

describe('one operation', () => {
  it('is measured from its arrival on our server side, from its start on our client side', async () => {
    const { clock, operation, operations } = observed()
    await clock.advance(90)
    operation.end(answer('{"id":7,"result":{}}'))
    expect(operations).toMatchObject([
      {
        side: 'client',
        durationSeconds: 0.09,
        networkTransport: 'tcp',
        serverAddress: 'host',
        serverPort: 81,
        span: { spanId: 'client' },
      },
      {
        side: 'server',
        durationSeconds: 0.1,
        networkTransport: 'tcp',
        serverAddress: undefined,
        span: { spanId: 'server' },
      },
    ])
  })

  it('towards a process is a pipe, of no HTTP version', () => {
    const { operation, operations } = observed(call, { peering: { upstream: 'u', network: 'pipe' } })
    operation.end(answer('{"id":7,"result":{}}'))
    expect(operations.map(({ networkTransport, httpVersion }) => [networkTransport, httpVersion])).toEqual([
      ['pipe', undefined],
      ['tcp', '1.1'],
    ])
  })

  it.each<[string, Partial<ObservedRequest>, object, object]>([
    [
      'a server behind a URL',
      {},
      { 'network.transport': 'tcp', 'network.protocol.name': 'http', 'network.protocol.version': '1.1' },
      { 'network.transport': 'tcp', 'network.protocol.name': 'http', 'server.address': 'host', 'server.port': 81 },
    ],
    [
      'a process',
      { peering: { upstream: 'u', network: 'pipe' } },
      { 'network.transport': 'tcp', 'network.protocol.name': 'http' },
      { 'network.transport': 'pipe', 'network.protocol.name': undefined, 'server.address': undefined },
    ],
    [
      'a process whose client is one, too',
      { peering: { upstream: 'u', network: 'pipe' }, clientNetwork: 'pipe' },
      { 'network.transport': 'pipe', 'network.protocol.name': undefined },
      { 'network.transport': 'pipe', 'network.protocol.name': undefined },
    ],
  ])('with %s has spans that tell how it went (OpenTelemetry, MCP conventions)', (_, changes, server, client) => {
    const { starts } = observed(call, { sessionId: 's', ...changes })
    const [ofServer, ofClient] = (['server', 'client'] as const).map((side, at) => starts[at]?.attributes?.(side))
    const both = { 'jsonrpc.request.id': '7', 'mcp.session.id': 's', 'mcp.protocol.version': '2025-11-25' }
    expect(ofServer).toMatchObject({ ...both, ...server })
    expect(ofServer?.['server.address']).toBeUndefined()
    expect(ofClient).toMatchObject({ ...both, ...client })
  })

  it('counts once, however often it ends', () => {
    const { operation, operations, results, answered, failed } = observed()
    operation.end(answer('{"id":7,"result":{}}'))
    operation.end(failure('upstream_reset'))
    expect([operations.length, results.length, answered, failed]).toEqual([2, 2, ['u'], []])
  })

  it.each([
    ['tools/call', 'echo', 'echo', undefined],
    ['prompts/get', 'echo', undefined, 'echo'],
    ['resources/read', undefined, undefined, undefined],
  ])('%s names its target %s', (method, target, toolName, promptName) => {
    const { operation, operations, starts } = observed(`{"id":1,"method":"${method}","params":{"name":"echo"}}`)
    operation.end(answer('{"id":1,"result":{}}'))
    expect(starts.map((start) => start.target)).toEqual([target, target])
    expect(operations[0]).toMatchObject({ method, toolName, promptName })
  })

  it('has its parent in _meta (SEP-414), and the HTTP headers’ beside it', () => {
    const meta = '{"id":1,"method":"ping","params":{"_meta":{"traceparent":"m","tracestate":"s"}}}'
    const { starts } = observed(meta, { httpTraceparent: 'h', httpTracestate: 'hs' })
    expect(starts[0]).toMatchObject({
      meta: { traceparent: 'm', tracestate: 's' },
      http: { traceparent: 'h', tracestate: 'hs' },
    })
    expect(observed().starts[0]).toMatchObject({ meta: undefined, http: undefined })
  })

  it.each([
    [answer('{"id":7,"error":{"code":-32603}}'), ['u'], []],
    [failure('upstream_refused'), [], ['upstream_refused']],
    [failure('cancelled'), [], ['cancelled']],
    [{ kind: 'status', status: 500 } as const, [], ['upstream_http_error']],
    [{ kind: 'status', status: 404 } as const, [], []],
  ])('tells the heartbeat what it proves: %j', (end, answered, failed) => {
    const one = observed()
    one.operation.end(end)
    expect([one.answered, one.failed]).toEqual([answered, failed])
  })
})

describe('messages in a body that passes', () => {
  const stream = Buffer.from(
    'id: 1\ndata:\n\n: c\n\nevent: endpoint\ndata: /x\n\ndata: {"id":1,\ndata: "result":{"t":"é"}}\n\ndata: x\n\nevent: message\ndata: {"method":"n"}\n\ndata: {"id":2',
  )

  it('are found in an event stream cut anywhere; what is no message is told as such', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 8 }), (cuts) => {
        const heard: (string | undefined)[] = []
        const observer = new BodyObserver('events', (one) => heard.push(one?.kind))
        const places = [0, ...cuts.toSorted((a, b) => a - b), stream.length]
        for (const [index, end] of places.slice(1).entries()) observer.push(stream.subarray(places[index], end))
        observer.end()
        expect(heard).toEqual(['response', undefined, 'notification'])
        expect(observer.hasEventIds).toBe(true)
      }),
    )
  })

  it('a JSON body is one message, told once at its end', () => {
    const heard: (Envelope | undefined)[] = []
    const observer = new BodyObserver('json', (one) => heard.push(one))
    for (const byte of Buffer.from('{"id":1,"result":{}}')) observer.push(Uint8Array.of(byte))
    expect(heard).toEqual([])
    observer.end()
    observer.end()
    expect(heard.map((one) => one?.id)).toEqual(['1'])
  })
})
