import { systemClock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { HttpProber } from '../heartbeat/http-prober.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import { peeringOf } from '../proxy/observe.ts'
import { PipeBridge } from '../proxy/pipe-bridge.ts'
import { PipeSession } from '../proxy/pipe-session.ts'
import { noShedder } from '../proxy/shed.ts'
import { Sweep } from '../proxy/sweep.ts'
import { endpoint } from '../upstreams/endpoint.ts'
import { LastingLink } from '../upstreams/lasting-link.ts'
import { type LinkListener, httpLink, sseLink } from '../upstreams/link.ts'
import { proxyFor } from '../upstreams/proxy-env.ts'
import type { UrlTarget } from '../upstreams/upstream.ts'
import { yielding } from '../upstreams/yielding.ts'
import { hearFailure } from './evidence.ts'
import { oneConnection } from './monitor.ts'
import { tunableHeartbeat } from './tunable-heartbeat.ts'
import { remoteServer } from './own-processes.ts'
import type { StdioOptions } from './stdio-options.ts'
import { openAdmin, stdioVitals, unharmed } from './stdio-vitals.ts'
import { StopSteps } from './stop-steps.ts'

const clock = systemClock

/** Our own last steps, the DELETE among them, may not keep the client waiting for our end. */
const stopDeadlineMs = 1000

/**
 * Is the stdio server of the client that started us, by passing every message on to a server behind a URL. Ends with
 * the client's input, or by a signal.
 */
export async function runStdioUrl(options: StdioOptions, target: UrlTarget, env: NodeJS.ProcessEnv): Promise<number> {
  const { upstream, log } = options
  const { name } = upstream
  const signalled = untilSignalled()
  const stop = new StopSteps()
  const watched: Monitored[] = []
  const { parts, directory, heartbeatDeps } = await stdioVitals({ options, clock, env, stop, watched })
  const { instruments, tracing, scheduler } = parts

  const { connectTimeoutMs, idleConnectionMs } = defaults.http
  const pool = endpoint(target, {
    connectTimeoutMs,
    idleConnectionMs,
    standstills: parts.standstills,
    clock,
    proxyFor: (url) => proxyFor(url, env),
    onTokenFailure: ({ message }) =>
      log.warn({ upstream: name, reason: parts.redact(message) }, 'no token for the upstream'),
  })
  stop.add('close the connections', () => pool.close())
  const session: PipeSession = new PipeSession({
    clock,
    instruments,
    tracing,
    traffic: {
      onAnswered: () => heartbeat.trafficAnswered(true),
      onFailed: (_name, error) => hearFailure(heartbeat, error),
    },
    peering: peeringOf(name, pool),
    directory,
    toServer: () => bridge.toServer,
    toClient: () => bridge.toClient,
    onOpened: () => undefined,
  })
  const sweep = new Sweep(clock)
  stop.add('stop the sweep', () => sweep.stop())
  let inFlight = 0
  const watch = unharmed(log)
  const bridge: PipeBridge = new PipeBridge({
    client: { input: process.stdin, output: process.stdout },
    clock,
    upstream: name,
    link: (listener) => new LastingLink({ clock, listener, connect: (inner) => linkTo(inner) }),
    limits: pool,
    admission: { clock, sweep, shedder: noShedder, onRequest: (_name, change) => void (inFlight += change) },
    lookForLife: (leftMs) => heartbeat.lookForLife(leftMs),
    maxLineBytes: defaults.maxLineBytes,
    events: {
      onUncounted: () => instruments.countForgotten('question'),
      onClientMessage: (envelope) => watch(() => session.hearClient(envelope)),
      onServerMessage: (envelope, text) =>
        watch(() => session.hearServer(envelope, session.wantsText() ? text : undefined)),
      onFailed: (id, error) => watch(() => session.failed(id, error)),
      onUndelivered: (error) => {
        log.debug({ upstream: name, reason: error.message }, 'a message was not delivered')
        if (error.code.startsWith('upstream_')) hearFailure(heartbeat, error)
        else instruments.countRejected(error.code)
      },
    },
  })
  const linkTo = (listener: LinkListener) => {
    const send = yielding((request, handler) => pool.send(request, handler), prober, {
      clock,
      ...defaults.supervision.makeWay,
    })
    const link = {
      endpoint: { ...pool, send },
      clock,
      maxBodyBytes: defaults.maxLineBytes,
      listener,
      onTooLong: () => instruments.countDropped(name, 'message_too_long'),
      onForgottenTool: () => instruments.countForgotten('tool'),
      ownRequests: prober,
    }
    return target.transport === 'sse' ? sseLink(link) : httpLink(link)
  }

  const prober = new HttpProber({
    endpoint: pool,
    transport: target.transport,
    clock,
    maxBodyBytes: defaults.maxLineBytes,
    startDeadlineMs: defaults.supervision.startDeadlineMs,
    openingDeadlineMs: defaults.heartbeat.lateAnswerMs,
    isStarting: () => false,
    method: () => probeMethod(),
    onInTheWay: (how) => log.warn({ upstream: name, how }, oneConnection),
  })
  const remote = remoteServer(target.limits, {
    lastHeardMs: () => heartbeat.lastHeardMs(),
    inFlight: () => inFlight,
  })
  const { heartbeat, probeMethod, sessionBeats } = tunableHeartbeat(heartbeatDeps, upstream, prober, {
    remote,
    // That of the client goes on: its next message opens another at the server.
    onSessionGone: () => undefined,
  })
  watched.push({
    name,
    transport: target.transport,
    access: { kind: 'pipe', endpoint: pool },
    heartbeat,
    prober,
    processes: () => [],
    lastEnded: () => undefined,
    restarts: () => undefined,
    nextStartInMs: () => undefined,
    tryAgain: () => Promise.resolve(),
    connections: () => pool.stats(),
    requestsInFlight: () => inFlight,
    stop: () => heartbeat.stop(),
  })
  stop.add('stop the scheduler', () => scheduler.stop())
  sessionBeats.start()
  stop.add('stop the heartbeats inside the session', () => sessionBeats.stop())
  stop.add('stop the heartbeat', () => heartbeat.stop())
  heartbeat.start()
  const ended = Promise.race([bridge.ended, signalled])
  if (options.hasAdmin) await openAdmin(options, parts, stop, ended)

  const end = await ended
  if (end === 'input_over') await Promise.race([bridge.drain(defaults.shutdownDrainMs), signalled])
  const gone = new KnownError('shutting_down', end === 'signal' ? 'we were told to stop' : 'the client has left')
  stop.add('let the client read the rest', () => bridge.flush())
  stop.add('end the session', () => bridge.close(gone))
  for (const problem of (await stop.run(clock, stopDeadlineMs)).problems) log.debug({ problem }, 'a last step failed')
  watch(() => session.end('shutdown', gone))
  return 0
}

/** Resolves with the first signal that asks us to end; a second one ends us at once. */
function untilSignalled(): Promise<'signal'> {
  return new Promise((resolve) => {
    let isFirst = true
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (!isFirst) process.exit(130)
        isFirst = false
        resolve('signal')
      })
    }
  })
}
