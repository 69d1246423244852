import { closeSync, fstatSync, openSync } from 'node:fs'
import { constants, devNull } from 'node:os'
import { systemClock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import { WrapperProber } from '../heartbeat/wrapper-prober.ts'
import { PipeSession } from '../proxy/pipe-session.ts'
import { RawRelay } from '../proxy/raw-relay.ts'
import { findSetpriv } from '../upstreams/executable.ts'
import { Peer } from '../upstreams/peer.ts'
import { type ExitReason, type ServerProcess, describeExit, processStarter } from '../upstreams/process.ts'
import type { Command } from '../upstreams/upstream.ts'
import { Watchdog } from '../upstreams/watchdog.ts'
import { type EndSigns, watchEnd } from './forced-end.ts'
import { tunableHeartbeat } from './tunable-heartbeat.ts'
import { believedMs, wrappedProcess } from './own-processes.ts'
import { type StdioOptions, stdioOptions } from './stdio-options.ts'
import { openAdmin, stdioVitals, unharmed } from './stdio-vitals.ts'
import { StopSteps } from './stop-steps.ts'

const clock = systemClock

/** Our own last steps may not keep the client waiting for the end of its server. */
const stopDeadlineMs = 1000

/** `mcp-vitals stdio`: is the server of the client that started us. Resolves with the exit code, if it comes back. */
export async function runStdio(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const options = stdioOptions(argv, env)
  const { target } = options.upstream
  if (target.transport === 'stdio') return runStdioCommand(options, target.launch, env)
  const { runStdioUrl } = await import('./stdio-url.ts')
  return runStdioUrl(options, target, env)
}

/**
 * Runs a stdio server for the client that started us in its place: the same bytes, environment, working directory,
 * stderr, signals and end. Never returns once the server runs; before that it ends as a shell would.
 */
async function runStdioCommand(options: StdioOptions, launch: Command, env: NodeJS.ProcessEnv): Promise<number> {
  const { log } = options
  const client = startingClient()
  const watchdog = new Watchdog()
  const start = processStarter({ clock, setprivPath: findSetpriv(), watchdog })
  const server = start(launch, { stderrTailBytes: 1, inheritStderr: true })
  const signals = forwardSignals(server)
  if (server.pid === undefined) {
    const exit = await server.exited
    log.error(`the server ${describeExit(exit)}`)
    return exit.kind === 'spawn_failed' && exit.code === 'EACCES' ? 126 : 127 // POSIX XCU §2.8.2.
  }
  const stop = new StopSteps()
  const wrapped = await wrap(options, server, env, stop)
  const { relay } = wrapped
  const signs = () => ({
    ...signals.asked(),
    isInputOver: relay.isInputOver,
    isClientGone: client.hasEnded() || relay.isOutputBroken,
  })
  const onForced = (why: string) => log.warn({ upstream: options.upstream.name }, why)
  void Promise.race([signals.firstAsked, wrapped.inputOver]).then(() => watchEnd({ clock, server, signs, onForced }))
  if (options.hasAdmin) await openAdmin(options, wrapped.parts, stop, server.exited)

  const exit = await server.exited
  // What it left behind is ended too, and what that still had to say goes to the client.
  await server.stop()
  await relay.finish(clock)
  const isExpected = relay.isInputOver || signals.asked().askedAtMs !== undefined
  wrapped.ended(`process ${server.pid} ${describeExit(exit)}`, isExpected)
  for (const problem of (await stop.run(clock, stopDeadlineMs)).problems) log.debug({ problem }, 'a last step failed')
  watchdog.close()
  return endLike(exit)
}

/** Whoever started us, to speak to the server through a pipe; a file or a terminal that ends says nothing of anybody. */
function startingClient(): { hasEnded(): boolean } {
  const parent = process.ppid
  const input = fstatSync(0)
  const speaks = input.isFIFO() || input.isSocket()
  return { hasEnded: () => speaks && process.ppid !== parent }
}

/** Nothing else of ours may come to be at that number, so the null device takes its place. */
function closeStandard(fd: 0 | 1, flags: 'r' | 'w'): void {
  closeSync(fd)
  openSync(devNull, flags) // The lowest free number: this one.
}

/**
 * Signals that a terminal or shell sends to every process of its foreground job, which the server's group would be part
 * of; and those that are sent to one process. SIGKILL and SIGSTOP cannot be passed on, SIGPIPE would come from our own
 * pipes, those by which a terminal stops a job have no effect on a group of its own, and Node cannot hear the others.
 */
const jobSignals = ['SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGWINCH', 'SIGCONT'] as const
const processSignals = ['SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGPROF', 'SIGIO', 'SIGURG'] as const

/** They ask for the end; and those that do nothing to whoever does not listen. */
const endSignals: ReadonlySet<string> = new Set(['SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGTERM'])
const harmlessSignals: ReadonlySet<string> = new Set(['SIGWINCH', 'SIGCONT', 'SIGURG'])

interface ForwardedSignals {
  asked(): Pick<EndSigns, 'termAtMs' | 'askedAtMs'>
  /** Resolves with the first signal that asks for the end. */
  readonly firstAsked: Promise<void>
}

/** Passes signals on; those after the end of the server end us, too. */
function forwardSignals(server: ServerProcess): ForwardedSignals {
  let termAtMs: number | undefined
  let askedAtMs: number | undefined
  const first = Promise.withResolvers<void>()
  const note = (signal: NodeJS.Signals) => {
    if (!endSignals.has(signal)) return
    askedAtMs ??= clock.now()
    if (signal === 'SIGTERM') termAtMs ??= clock.now()
    first.resolve()
  }
  const on = (signal: NodeJS.Signals, pass: () => void) =>
    process.on(signal, () => {
      note(signal)
      const exit = server.exit()
      if (!exit) pass()
      else if (!harmlessSignals.has(signal)) endLike(exit)
    })
  for (const signal of jobSignals) on(signal, () => server.kill(signal))
  for (const signal of processSignals) on(signal, () => signalOne(server.pid, signal))
  return { asked: () => ({ termAtMs, askedAtMs }), firstAsked: first.promise }
}

function signalOne(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(pid, signal)
  } catch {
    // It has just gone; its end is heard.
  }
}

/** Ends us as the server ended: the same exit code, or death by the same signal. */
function endLike(exit: ExitReason): never {
  if (exit.kind !== 'signal') process.exit(exit.kind === 'exit' ? exit.code : 127)
  const signal = exit.signal as NodeJS.Signals
  process.removeAllListeners(signal)
  try {
    // Node ignores SIGPIPE and a few others until somebody listened for them.
    if (signal !== 'SIGKILL') process.on(signal, () => undefined).removeAllListeners(signal)
    process.kill(process.pid, signal)
  } catch {
    // Not a signal that can be sent here: the number has to do.
  }
  process.exit(128 + (constants.signals[signal] ?? 0))
}

/** The relay and everything that watches it. */
async function wrap(options: StdioOptions, server: ServerProcess, env: NodeJS.ProcessEnv, stop: StopSteps) {
  const { upstream, log } = options
  const { name } = upstream
  const watched: Monitored[] = []
  const { parts, directory, heartbeatDeps } = await stdioVitals({ options, clock, env, stop, watched })
  const { instruments, tracing, scheduler } = parts

  const session: PipeSession = new PipeSession({
    clock,
    instruments,
    tracing,
    // A failure is either the end of the process, which is heard from the process, or the client's own doing.
    traffic: { onAnswered: () => heartbeat.trafficAnswered(true), onFailed: () => undefined },
    peering: { upstream: name, network: 'pipe' },
    directory,
    toClient: () => ({ canAsk: () => relay.toClient.canAsk(), request: (asked) => client.request(asked) }),
    onOpened: () => heartbeat.probeNow(),
  })
  const watch = unharmed(log)
  const inputOver = Promise.withResolvers<void>()
  const relay: RawRelay = new RawRelay({
    client: {
      input: process.stdin,
      output: process.stdout,
      closeInput: () => closeStandard(0, 'r'),
      closeOutput: () => closeStandard(1, 'w'),
    },
    server,
    maxHeldBytes: defaults.maxHeldBytes,
    maxTextBytes: defaults.maxHeldBytes,
    events: {
      wantsText: () => session.wantsText(),
      onClientMessage: (envelope) => watch(() => session.hearClient(envelope)),
      onServerMessage: (envelope, text) => watch(() => session.hearServer(envelope, text)),
      onClientAnswer: (message, envelope) => watch(() => void client.takeAnswer(message, envelope)),
      onServerAnswer: (message, envelope) => watch(() => void peer.takeAnswer(message, envelope)),
      onClientSlow: () => peer.fail(new KnownError('cancelled', 'the client does not read what the server says')),
      onServerSlow: () => client.fail(new KnownError('cancelled', 'the server does not read what the client says')),
      onInputOver: () => inputOver.resolve(),
    },
  })
  const peer = new Peer(relay.toServer, clock)
  const client = new Peer(relay.toClient, clock)
  const prober = new WrapperProber({
    talker: peer,
    clock,
    session,
    process: {
      pid: server.pid,
      isStopped: () => parts.processTable.usageOf(server.pid ?? 0)?.isStopped ?? false,
      hasEnded: () => server.exit() !== undefined,
    },
    canAsk: () => relay.toServer.canAsk(),
    idleSinceMs: () => clock.now() - heartbeat.glance().interval.intervalMs * defaults.heartbeat.idleIntervals,
    excusedMs: believedMs(upstream.target.limits),
    method: () => probeMethod(),
  })
  const own = wrappedProcess({ processTable: parts.processTable }, upstream.target.limits, {
    process: server,
    lastHeardMs: () => session.lastHeardMs,
    inFlight: () => session.requestsInFlight(),
  })
  const { heartbeat, probeMethod, sessionBeats } = tunableHeartbeat(heartbeatDeps, upstream, prober, { own })
  const { pid = 0, startedAtWallMs } = server
  watched.push({
    name,
    transport: 'stdio',
    access: { kind: 'pipe' },
    heartbeat,
    prober,
    processes: () =>
      server.exit() ? [] : [{ pid, role: 'session', session: session.key, startedAtWallMs, stderrTail: '' }],
    lastEnded: () => undefined,
    restarts: () => 0,
    nextStartInMs: () => undefined,
    tryAgain: () => Promise.resolve(),
    connections: () => undefined,
    requestsInFlight: () => session.requestsInFlight(),
    stop: () => heartbeat.stop(),
  })
  stop.add('stop the scheduler', () => scheduler.stop())
  // Before its opening exchange is over it is only looked at, and listened to.
  heartbeat.start()
  sessionBeats.start()
  stop.add('stop the heartbeats inside the session', () => sessionBeats.stop())
  stop.add('stop the heartbeat', () => heartbeat.stop())
  const ended = (why: string, isExpected: boolean) => {
    peer.fail(new KnownError(isExpected ? 'cancelled' : 'upstream_exited', why))
    session.end(isExpected ? 'shutdown' : 'exited', new KnownError('upstream_exited', why))
    if (isExpected) heartbeat.idle(why)
    else heartbeat.processGone(why, 0)
  }
  return { relay, parts, ended, inputOver: inputOver.promise }
}
