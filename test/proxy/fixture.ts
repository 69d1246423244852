import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { type Clock, systemClock } from '../../src/clock.ts'
import { defaults } from '../../src/defaults.ts'
import type { KnownError } from '../../src/errors.ts'
import { initialize } from '../../src/heartbeat/conversation.ts'
import type { Access, Monitored } from '../../src/heartbeat/monitored.ts'
import type { Question } from '../../src/heartbeat/question.ts'
import { dataApp } from '../../src/proxy/app.ts'
import { borrowedSessions } from '../../src/proxy/borrowed-session.ts'
import { Bridge, type BridgeDeps } from '../../src/proxy/bridge.ts'
import { CancellableRequests } from '../../src/proxy/cancellable.ts'
import { ClientPeers } from '../../src/proxy/client-peers.ts'
import { SseForwarder } from '../../src/proxy/forward-sse.ts'
import type { ForwardDeps } from '../../src/proxy/forward.ts'
import { type GuardOptions, guard } from '../../src/proxy/guard.ts'
import { ProtectedResources } from '../../src/proxy/protected-resources.ts'
import { sharedCapabilities } from '../../src/proxy/shared-capabilities.ts'
import { Streams } from '../../src/proxy/streams.ts'
import { Sweep } from '../../src/proxy/sweep.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import type { EndedStream, Instruments, Operation } from '../../src/telemetry/instruments.ts'
import type { OperationResult, ServerSpanStart, Tracing } from '../../src/telemetry/tracing.ts'
import { endpoint } from '../../src/upstreams/endpoint.ts'
import { processStarter } from '../../src/upstreams/process.ts'
import { limited } from '../../src/upstreams/queue.ts'
import { type Line, StdioUpstream } from '../../src/upstreams/stdio.ts'
import { StartGate } from '../../src/upstreams/start-gate.ts'
import type { HostPolicy, ProcessPolicy, RequestLimits, ResidentPolicy } from '../../src/upstreams/upstream.ts'
import { Changes } from '../support/raw-http.ts'

export type TestUpstream =
  | {
      readonly url: string
      readonly transport?: 'http' | 'sse'
      readonly headers?: Readonly<Record<string, string>>
      readonly upstreamHost?: HostPolicy
      readonly limits?: RequestLimits
    }
  | {
      readonly script: string
      readonly args?: readonly string[]
      readonly resident?: ResidentPolicy
      readonly process?: ProcessPolicy
      readonly limits?: RequestLimits
      readonly spareProcesses?: number
    }

export interface ProxyOptions extends Partial<GuardOptions> {
  readonly upstreams: Readonly<Record<string, TestUpstream>>
  readonly maxBodyBytes?: number
  readonly maxSessions?: number
  readonly maxSessionsPerClient?: number
  readonly maxSessionsOf?: Readonly<Record<string, number>>
  readonly maxSessionMs?: number
  readonly idleLimitMs?: number
  readonly clock?: Clock
  readonly keepAliveMs?: number
  readonly shedder?: ForwardDeps['shedder']
  readonly publicUrl?: string | undefined
  readonly pingForwardedSessions?: boolean
  readonly injectsTraceparent?: boolean
  readonly questionFor?: (leg: 'upstream' | 'session') => Question | undefined
  readonly cpuOf?: BridgeDeps['cpuOf']
  readonly lookForLife?: ForwardDeps['lookForLife']
}

export interface EndedSpan {
  readonly side: 'server' | 'client'
  readonly start: Pick<ServerSpanStart, 'method' | 'target' | 'meta' | 'http'>
  readonly result: OperationResult
}

/** What the data path told the rest of the program, in order. */
export interface Told {
  readonly operations: Operation[]
  readonly spans: EndedSpan[]
  readonly rejected: string[]
  readonly dropped: string[]
  readonly unparsed: string[]
  readonly admitted: string[]
  readonly answered: string[]
  readonly failed: KnownError[]
  readonly endedSessions: string[]
  readonly streams: EndedStream[]
  readonly events: string[]
}

/** The real data listener with real upstreams behind it; only telemetry and heartbeats are recorders. */
export async function startProxy(options: ProxyOptions) {
  const {
    clock = systemClock,
    maxBodyBytes = defaults.maxBodyBytes,
    maxSessions = 100,
    idleLimitMs = 300_000,
  } = options
  const changes = new Changes()
  const tell = <T>(list: T[], what: T) => {
    list.push(what)
    changes.notify()
  }
  const told: Told = {
    operations: [],
    spans: [],
    rejected: [],
    dropped: [],
    unparsed: [],
    admitted: [],
    answered: [],
    failed: [],
    endedSessions: [],
    streams: [],
    events: [],
  }
  const inFlight = new Map<string, number>()
  const directory: SessionDirectory = new SessionDirectory({
    clock,
    maxTracked: 1000,
    cleanupIntervalMs: () => 1000,
    idleLimitMs: () => idleLimitMs,
    maxAgeMs: () => options.maxSessionMs ?? Infinity,
    onStart: () => undefined,
    onEnd: (session, end) => {
      told.endedSessions.push(end)
      bridge.sessionEnded(session, end)
      changes.notify()
    },
  })
  const observing = {
    clock,
    instruments: recordingInstruments(told, tell),
    tracing: recordingTracing(told),
    traffic: {
      onAnswered: (name: string) => tell(told.answered, name),
      onFailed: (_name: string, error: KnownError) => tell(told.failed, error),
    },
  }
  const onRequest = (name: string, change: 1 | -1) => {
    inFlight.set(name, (inFlight.get(name) ?? 0) + change)
    changes.notify()
  }
  const ownsAuthorization = options.bearerToken !== undefined
  const sweep = new Sweep(clock)
  const { keepAliveMs = Infinity } = options
  const streams = new Streams({ clock, sweep, instruments: observing.instruments, keepAliveMs: () => keepAliveMs })
  const forwarding: ForwardDeps = {
    ...observing,
    directory,
    sweep,
    streams,
    clientPeers: new ClientPeers(clock),
    cancellable: new CancellableRequests(),
    lookForLife: options.lookForLife ?? (() => () => false),
    borrowedSessions: borrowedSessions({ clock, isWanted: () => options.pingForwardedSessions ?? false }),
    maxBodyBytes,
    ownsAuthorization,
    onRequest,
    injectsTraceparent: () => options.injectsTraceparent ?? false,
    shedder: options.shedder ?? { refusal: () => undefined },
    publicPath: options.publicUrl === undefined ? '' : new URL(options.publicUrl).pathname.replace(/\/$/, ''),
    protectedResources:
      options.publicUrl === undefined
        ? undefined
        : new ProtectedResources({ publicUrl: new URL(options.publicUrl), clock }),
  }
  const { maxSessionsPerClient = maxSessions, maxSessionsOf = {} } = options
  const sessionLimits = {
    total: maxSessions,
    perClient: maxSessionsPerClient,
    perUpstream: (name: string) => maxSessionsOf[name] ?? maxSessions,
    upstreams: Object.keys(options.upstreams),
  }
  const bridge: Bridge = new Bridge({
    ...forwarding,
    sessionLimits,
    questionTo: (_name, leg) => options.questionFor?.(leg),
    cpuOf: (pid) => options.cpuOf?.(pid),
  })
  const stops: (() => Promise<void>)[] = []
  const access = new Map<string, Access>()
  for (const [name, upstream] of Object.entries(options.upstreams)) {
    const opened = 'url' in upstream ? urlAccess(upstream, clock) : stdioAccess(name, upstream, bridge, told, clock)
    access.set(name, opened)
    stops.push(async () => {
      if (opened.kind === 'stdio') await opened.upstream.stop()
      if (opened.kind === 'endpoint') await opened.endpoint.close()
    })
  }
  let isStopping = false
  const app = dataApp({
    clock,
    guard: guard({
      allowedHosts: options.allowedHosts ?? [],
      allowedOrigins: options.allowedOrigins ?? [],
      bearerToken: options.bearerToken,
    }),
    upstreams: () => new Map([...access].map(([name, one]) => [name, monitored(name, one)])),
    forwarding,
    sse: new SseForwarder(forwarding),
    bridge,
    isLeaving: () => false,
    isStopping: () => isStopping,
  })
  const server = createServer(app)
  server.requestTimeout = 0
  server.keepAliveTimeout = 65_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    told,
    directory,
    access,
    inFlight: (name: string) => inFlight.get(name) ?? 0,
    streams,
    /** The upstream is let go, as when a reload removes or replaces it. */
    forget: (name: string) => {
      const left = access.get(name)
      if (left) bridge.forget(name, left)
    },
    until: <T>(check: () => T | undefined | false) => changes.until(check),
    shutDown: () => {
      isStopping = true
      streams.stop()
    },
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      directory.stop()
      sweep.stop()
      await Promise.all(stops.map((stop) => stop()))
    },
  }
}

export type RunningProxy = Awaited<ReturnType<typeof startProxy>>

/** The upstream's stdio side, to look at its processes. */
export function stdioOf(proxy: RunningProxy, name: string): StdioUpstream {
  const access = proxy.access.get(name)
  if (access?.kind !== 'stdio') throw new Error(`${name} is no stdio upstream`)
  return access.upstream
}

function monitored(name: string, access: Access): Monitored {
  // The data path reads the name and the access of an upstream and nothing else.
  return { name, transport: access.kind === 'endpoint' ? access.transport : 'stdio', access } as unknown as Monitored
}

function urlAccess(upstream: Extract<TestUpstream, { url: string }>, clock: Clock): Access {
  const { url, transport = 'http', headers = {}, upstreamHost = 'auto', limits } = upstream
  const target = { transport, url: new URL(url), headers, upstreamHost, limits }
  return {
    kind: 'endpoint',
    transport,
    endpoint: endpoint(target, { connectTimeoutMs: 5000, idleConnectionMs: 4000, clock }),
  }
}

function stdioAccess(
  name: string,
  {
    script,
    args = [],
    resident = 'never',
    process: policy,
    spareProcesses = 0,
    limits,
  }: Extract<TestUpstream, { script: string }>,
  bridge: Bridge,
  told: Told,
  clock: Clock,
): Access {
  const path = fileURLToPath(new URL(`../peers/children/${script}`, import.meta.url))
  const launch = { command: process.execPath, args: [path, ...args], env: {} }
  const start = processStarter({ clock })
  const upstream: StdioUpstream = new StdioUpstream({
    target: { transport: 'stdio', launch, resident, process: policy, spareProcesses },
    clock,
    random: () => 0.5,
    starts: new StartGate(4).lane(),
    startProcess: () => start(launch, { stderrTailBytes: 4096 }),
    startDeadlineMs: 10_000,
    maxLineBytes: 16 * 1024 * 1024,
    policy: () => 'always',
    isStopped: () => false,
    events: {
      onSessionStarted: () => {},
      onResidentStarted: (line) => {
        if (policy === 'shared') void openShared(upstream, line)
        else setImmediate(() => upstream.residentReady(line))
      },
      onSpareExited: () => undefined,
      onCrash: () => undefined,
      onStartFailed: () => undefined,
      onGivenUp: () => undefined,
      onRestart: () => undefined,
      onResidentGone: () => undefined,
      onCrashLoop: () => undefined,
      onIdle: () => undefined,
      onLeftDown: () => undefined,
      onDropped: (reason) => void told.dropped.push(reason),
      onResidentMessage: (line, message, envelope) => void bridge.hear(name, { line, message, envelope }),
      onResidentClosed: (line, error) => bridge.residentClosed(name, line, error),
    },
  })
  const access = { kind: 'stdio', upstream, ...limited(clock, { limits }, undefined) } as const
  upstream.start()
  return access
}

/** The handshake that a heartbeat would make. */
async function openShared(upstream: StdioUpstream, line: Line): Promise<void> {
  const options = { leftMs: () => 10_000, speak: () => undefined, capabilities: sharedCapabilities }
  line.initializeAnswer = (await initialize(line.peer, options)).initializeAnswer
  upstream.residentReady(line)
}

function recordingInstruments(told: Told, tell: <T>(list: T[], what: T) => void): Instruments {
  return {
    recordOperation: (operation) => tell(told.operations, operation),
    recordHeartbeat: () => undefined,
    recordSession: () => undefined,
    recordStream: (stream) => tell(told.streams, stream),
    countStreamEvent: (upstream) => tell(told.events, upstream),
    countStateChange: () => undefined,
    countRestart: () => undefined,
    countInventoryChange: () => undefined,
    countUnparsed: (upstream) => tell(told.unparsed, upstream),
    countRejected: (reason) => tell(told.rejected, reason),
    countDroppedSpans: () => undefined,
    countNotifications: () => undefined,
    recordNotification: () => undefined,
    initReceiver: () => undefined,
    countReceivedAlert: () => undefined,
    countRecovery: () => undefined,
    initRecovery: () => undefined,
    countDropped: (_upstream, reason) => tell(told.dropped, reason),
    countShed: () => undefined,
    countForgotten: () => undefined,
    countCircuitOpened: () => undefined,
    labels: {
      admit: (_upstream, kind, names) => void told.admitted.push(...names.map((name) => `${kind} ${name}`)),
      bound: (_upstream, _kind, name) => name,
      count: () => 0,
    },
    initUpstream: () => undefined,
    initSession: () => undefined,
  }
}

const ids = { traceId: '0'.repeat(31) + '1', spanId: '0'.repeat(15) + '1', sampled: false }

/** What names every span here. */
export const traceparent = `00-${ids.traceId}-${ids.spanId}-01`

function recordingTracing(told: Told): Tracing {
  const span = (side: 'server' | 'client', start: ServerSpanStart) => ({
    ...ids,
    end: (result: OperationResult) => {
      const { method, target, meta, http } = start
      told.spans.push({ side, start: { method, target, meta, http }, result })
    },
  })
  return {
    exportsTo: undefined,
    startServer: (start) => span('server', start),
    startClient: (_parent, start) => span('client', start),
    heartbeat: () => ids,
    exemplarOf: () => ids,
    traceparentOf: () => traceparent,
    shutdown: () => Promise.resolve(),
  }
}
