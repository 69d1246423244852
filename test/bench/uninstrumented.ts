/**
 * mcp-vitals' data path with nothing that records: it routes, guards, forwards and reads envelopes, but there are no
 * histograms, no exemplars, no trace ids and no heartbeats. What those cost is the difference.
 *
 * `UPSTREAM=http://127.0.0.1:7101/mcp node test/bench/uninstrumented.ts` prints `{"msg":"listening","url":…}`.
 */
import { createServer } from 'node:http'
import { systemClock } from '../../src/clock.ts'
import { defaults } from '../../src/defaults.ts'
import type { Monitored } from '../../src/heartbeat/monitored.ts'
import { dataApp } from '../../src/proxy/app.ts'
import { Bridge } from '../../src/proxy/bridge.ts'
import { SseForwarder } from '../../src/proxy/forward-sse.ts'
import type { ForwardDeps } from '../../src/proxy/forward.ts'
import { guard } from '../../src/proxy/guard.ts'
import { CancellableRequests } from '../../src/proxy/cancellable.ts'
import { ClientPeers } from '../../src/proxy/client-peers.ts'
import { Streams } from '../../src/proxy/streams.ts'
import { noShedder } from '../../src/proxy/shed.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import type { Instruments } from '../../src/telemetry/instruments.ts'
import type { Tracing } from '../../src/telemetry/tracing.ts'
import { endpoint } from '../../src/upstreams/endpoint.ts'

const nothing = (): void => undefined
const nowhere = { traceId: '', spanId: '', sampled: false, end: nothing }

const instruments: Instruments = {
  recordOperation: nothing,
  recordHeartbeat: nothing,
  recordSession: nothing,
  recordStream: nothing,
  countStreamEvent: nothing,
  countStateChange: nothing,
  countRestart: nothing,
  countInventoryChange: nothing,
  countUnparsed: nothing,
  countRejected: nothing,
  countDropped: nothing,
  countShed: nothing,
  countForgotten: nothing,
  countCircuitOpened: nothing,
  countDroppedSpans: nothing,
  countNotifications: nothing,
  recordNotification: nothing,
  initReceiver: nothing,
  countReceivedAlert: nothing,
  countRecovery: nothing,
  initRecovery: nothing,
  labels: { admit: nothing, bound: (_upstream, _kind, name) => name, count: () => 0 },
  initUpstream: nothing,
  initSession: nothing,
}

const tracing: Tracing = {
  exportsTo: undefined,
  startServer: () => nowhere,
  startClient: () => nowhere,
  heartbeat: () => nowhere,
  exemplarOf: () => undefined,
  traceparentOf: () => undefined,
  shutdown: () => Promise.resolve(),
}

const clock = systemClock
const sweep = new Sweep(clock)
const forwarding: ForwardDeps = {
  clock,
  shedder: noShedder,
  instruments,
  tracing,
  traffic: { onAnswered: nothing, onFailed: nothing },
  publicPath: '',
  directory: new SessionDirectory({
    clock,
    maxTracked: defaults.maxTrackedSessions,
    cleanupIntervalMs: () => 300_000,
    idleLimitMs: () => 300_000,
    onStart: () => undefined,
    onEnd: nothing,
  }),
  sweep,
  streams: new Streams({ clock, sweep, instruments, keepAliveMs: () => 15_000 }),
  clientPeers: new ClientPeers(clock),
  cancellable: new CancellableRequests(),
  lookForLife: () => () => false,
  borrowedSessions: { heard: nothing, answered: nothing },
  maxBodyBytes: defaults.maxBodyBytes,
  ownsAuthorization: false,
  onRequest: nothing,
}

const echo = endpoint(
  { transport: 'http', url: new URL(process.env.UPSTREAM ?? ''), headers: {}, upstreamHost: 'auto' },
  { connectTimeoutMs: 5000, idleConnectionMs: 4000, clock },
)
// The data path reads the name and the access of an upstream and nothing else.
const upstream = {
  name: 'echo',
  transport: 'http',
  access: { kind: 'endpoint', transport: 'http', endpoint: echo },
} as unknown as Monitored

const app = dataApp({
  clock,
  guard: guard({ allowedHosts: [], allowedOrigins: [] }),
  upstreams: () => new Map([['echo', upstream]]),
  forwarding,
  sse: new SseForwarder(forwarding),
  bridge: new Bridge({
    ...forwarding,
    questionTo: () => undefined,
    cpuOf: () => undefined,
    sessionLimits: { total: 0, perClient: 0, perUpstream: () => 0, upstreams: [] },
  }),
  isStopping: () => false,
  isLeaving: () => false,
})

const server = createServer(app)
server.keepAliveTimeout = 65_000
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${port}/echo/mcp` }))
})

process.once('SIGTERM', () => process.exit(0))
process.once('SIGINT', () => process.exit(0))
