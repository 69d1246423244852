import { constants, hostname } from 'node:os'
import { isatty } from 'node:tty'
import { parseArgs } from 'node:util'
import { systemClock } from '../clock.ts'
import { commandLineLayer, nameOfCommand } from '../config/command-line.ts'
import type { Config, UpstreamConfig } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import { WrapperProber } from '../heartbeat/wrapper-prober.ts'
import { type Logger, createLogger } from '../log.ts'
import { PipeSession } from '../proxy/pipe-session.ts'
import { RawRelay } from '../proxy/raw-relay.ts'
import { SessionDirectory } from '../sessions/directory.ts'
import { findSetpriv } from '../upstreams/executable.ts'
import { Peer } from '../upstreams/peer.ts'
import { type ExitReason, type ServerProcess, describeExit, processStarter } from '../upstreams/process.ts'
import { Watchdog } from '../upstreams/watchdog.ts'
import { close, listen, urlOf } from './listener.ts'
import { tunableHeartbeat } from './monitor.ts'
import { StopSteps } from './stop-steps.ts'
import { announceTarget } from './targets-file.ts'
import { type VitalsParts, vitalsParts } from './vitals-parts.ts'
import { boundedStderr, logFile } from './wrapper-log.ts'

/** What `mcp-vitals stdio` was told. */
interface WrapperOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly config: Config
  readonly upstream: UpstreamConfig
  readonly hasAdmin: boolean
  readonly targetsFolder: string | undefined
  readonly log: Logger
}

const clock = systemClock

/** Our own last steps may not keep the client waiting for the end of its server. */
const stopDeadlineMs = 1000

/**
 * Runs a stdio server for the client that started us in its place: the same bytes, environment, working directory,
 * stderr, signals and end. Never returns once the server runs; before that it throws, or ends as a shell would.
 */
export async function runStdio(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const options = wrapperOptions(argv, env)
  const { command, args, log } = options
  const watchdog = new Watchdog()
  const start = processStarter({ clock, setprivPath: findSetpriv(), watchdog })
  const server = start({ command, args, env: {} }, { stderrTailBytes: 1, inheritStderr: true })
  const signals = forwardSignals(server)
  if (server.pid === undefined) {
    const exit = await server.exited
    log.error(`the server ${describeExit(exit)}`)
    return exit.kind === 'spawn_failed' && exit.code === 'EACCES' ? 126 : 127 // POSIX XCU §2.8.2.
  }
  const stop = new StopSteps()
  const wrapped = await wrap(options, server, env, stop)
  if (options.hasAdmin) await openAdmin(options, server, wrapped.parts, stop)

  const exit = await server.exited
  // What it left behind is ended too, and what that still had to say goes to the client.
  await server.stop()
  await wrapped.relay.finish(clock)
  const isExpected = wrapped.relay.isInputOver || signals.askedToEnd()
  wrapped.ended(`process ${server.pid} ${describeExit(exit)}`, isExpected)
  for (const problem of (await stop.run(clock, stopDeadlineMs)).problems) log.debug({ problem }, 'a last step failed')
  watchdog.close()
  return endLike(exit)
}

function wrapperOptions(argv: readonly string[], env: NodeJS.ProcessEnv): WrapperOptions {
  const end = argv.indexOf('--')
  const [command, ...args] = end === -1 ? [] : argv.slice(end + 1)
  if (command === undefined) throw new KnownError('usage', 'the server is missing: mcp-vitals stdio -- COMMAND ARGS…')
  const given = parsed(argv.slice(0, end))
  const name = given.name ?? nameOfCommand(command, args)
  const settings = { admin_listen: given['admin-listen'] ?? '127.0.0.1:0' }
  const extra = commandLineLayer({ urls: [], command: [command, ...args], name, settings })
  const { config, notices } = loadConfig({ files: given.config ?? [], env, extra })
  const upstream = config.upstreams.find((one) => one.name === name)
  if (!upstream) throw new KnownError('internal', `the configuration lost the server "${name}"`)
  const log = wrapperLog(given['log-level'], given['log-file'], config)
  for (const notice of notices) log.info(notice)
  const hasAdmin = given['no-admin'] !== true
  return { command, args, config, upstream, hasAdmin, targetsFolder: given['targets-dir'], log }
}

function parsed(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string', multiple: true, short: 'c' },
        name: { type: 'string' },
        'admin-listen': { type: 'string' },
        'no-admin': { type: 'boolean' },
        'targets-dir': { type: 'string' },
        'log-level': { type: 'string' },
        'log-file': { type: 'string' },
      },
    })
    return values
  } catch (error) {
    throw new KnownError('usage', errorMessage(error), { cause: error })
  }
}

const levels = ['debug', 'info', 'warn', 'error'] as const

/**
 * Stdout belongs to the server. Clients show stderr as the server's own, so we are sparing with it, and do not open it
 * as a stream: Node would make it non-blocking for the server too.
 */
function wrapperLog(level: string | undefined, file: string | undefined, { log, heartbeat }: Config): Logger {
  const chosen = level === undefined ? (file === undefined ? 'warn' : log.level) : levels.find((one) => one === level)
  if (!chosen) throw new KnownError('usage', `--log-level is "${level ?? ''}": not one of ${levels.join(', ')}`)
  const format = heartbeat.logging.structured ? log.format : 'logfmt'
  const stderr = { level: chosen, format, isTerminal: isatty(2), write: boundedStderr() }
  if (file === undefined) return createLogger(stderr)
  try {
    return createLogger({ level: chosen, format, isTerminal: false, write: logFile(file) })
  } catch (error) {
    const logger = createLogger(stderr)
    logger.warn(`--log-file cannot be opened: ${errorMessage(error)}`)
    return logger
  }
}

/**
 * Signals that a terminal sends to every process of its foreground job, which the server's group would be part of; and
 * those that are sent to one process. The kernel's own (SIGKILL, SIGSTOP) cannot be passed on.
 */
const jobSignals = ['SIGINT', 'SIGQUIT', 'SIGHUP'] as const
const processSignals = ['SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const

/** Passes signals on; those after the end of the server end us, too. */
function forwardSignals(server: ServerProcess): { askedToEnd(): boolean } {
  let isEndWanted = false
  const on = (signal: NodeJS.Signals, pass: () => void) =>
    process.on(signal, () => {
      isEndWanted ||= !signal.startsWith('SIGUSR')
      const exit = server.exit()
      if (exit) endLike(exit)
      else pass()
    })
  for (const signal of jobSignals) on(signal, () => server.kill(signal))
  for (const signal of processSignals) on(signal, () => signalOne(server.pid, signal))
  return { askedToEnd: () => isEndWanted }
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
async function wrap(options: WrapperOptions, server: ServerProcess, env: NodeJS.ProcessEnv, stop: StopSteps) {
  const { config, upstream, log } = options
  const { name } = upstream
  const watched: Monitored[] = []
  const directory: SessionDirectory = new SessionDirectory({
    clock,
    maxTracked: 1,
    cleanupIntervalMs: config.heartbeat.cleanupIntervalMs,
    idleLimitMs: () => Number.POSITIVE_INFINITY,
    onEnd: ({ protocolVersion }, end, durationMs) =>
      instruments.recordSession({
        upstream: name,
        networkTransport: 'pipe',
        protocolVersion,
        ...(end === 'exited' && { errorType: 'upstream_exited' }),
        durationSeconds: durationMs / 1000,
      }),
  })
  const sources = {
    config: () => config,
    reload: undefined,
    upstreams: () => watched,
    sessions: () => directory.all(),
    streams: () => [],
  }
  const parts = await vitalsParts({ clock, env, log, stop, ...sources }).catch((error: unknown) => {
    // A mistake in OTEL_… variables, which may be meant for the server, must not cost the client its server.
    log.warn(`no traces: ${errorMessage(error)}`)
    return vitalsParts({ clock, env: {}, log, stop, ...sources })
  })
  const { instruments, tracing, scheduler, readings, readLoad: ownLoad } = parts
  instruments.initUpstream(name, 'stdio')

  const session: PipeSession = new PipeSession({
    clock,
    instruments,
    tracing,
    // A failure is either the end of the process, which is heard from the process, or the client's own doing.
    traffic: { onAnswered: () => heartbeat.trafficAnswered(true), onFailed: () => undefined },
    peering: { upstream: name, network: 'pipe' },
    directory,
    onOpened: () => heartbeat.start(),
  })
  const watch = unharmed(log)
  const relay: RawRelay = new RawRelay({
    client: { input: process.stdin, output: process.stdout },
    server,
    maxHeldBytes: defaults.maxHeldBytes,
    maxTextBytes: defaults.maxHeldBytes,
    events: {
      wantsText: () => session.wantsText(),
      onClientMessage: (envelope) => watch(() => session.hearClient(envelope)),
      onServerMessage: (envelope, text) => watch(() => session.hearServer(envelope, text)),
      onAnswer: (message, envelope) => watch(() => void peer.takeAnswer(message, envelope)),
      onClientSlow: () => peer.fail(new KnownError('cancelled', 'the client does not read what the server says')),
    },
  })
  const peer = new Peer(relay, clock)
  const prober = new WrapperProber({
    talker: peer,
    clock,
    session,
    canAsk: () => relay.canAsk(),
    // The interval has its jitter, and is no reason to skip a heartbeat.
    idleSinceMs: () => clock.now() - heartbeat.status().interval.intervalMs * 0.8,
  })
  const instance = env['HOSTNAME'] ?? hostname()
  const deps = {
    clock,
    random: Math.random,
    instance,
    log,
    scheduler,
    instruments,
    tracing,
    directory,
    readings,
    ownLoad,
  }
  const { heartbeat } = tunableHeartbeat(deps, upstream, prober, () => undefined)
  const { pid = 0, startedAtWallMs } = server
  watched.push({
    name,
    transport: 'stdio',
    access: { kind: 'pipe' },
    heartbeat,
    prober,
    processes: () =>
      server.exit() ? [] : [{ pid, role: 'session', session: session.key, startedAtWallMs, stderrTail: '' }],
    restarts: () => 0,
    connections: () => undefined,
    requestsInFlight: () => session.requestsInFlight(),
    stop: () => heartbeat.stop(),
  })
  stop.add('stop the scheduler', () => scheduler.stop())
  stop.add('stop the heartbeat', () => heartbeat.stop())
  const ended = (why: string, isExpected: boolean) => {
    peer.fail(new KnownError(isExpected ? 'cancelled' : 'upstream_exited', why))
    session.end(isExpected ? 'shutdown' : 'exited', new KnownError('upstream_exited', why))
    if (isExpected) heartbeat.idle(why)
    else heartbeat.processGone(why, 0)
  }
  return { relay, parts, ended }
}

/** Runs what only watches: its bugs are logged, and harm nobody's messages. */
function unharmed(log: Logger): (run: () => void) => void {
  return (run) => {
    try {
      run()
    } catch (error) {
      log.error({ err: error }, 'a message could not be observed')
    }
  }
}

/** Opens the admin listener and announces it. A server does not have to do without its client because this fails. */
async function openAdmin(
  { config, upstream, targetsFolder, log }: WrapperOptions,
  child: ServerProcess,
  parts: VitalsParts,
  stop: StopSteps,
) {
  try {
    const admin = parts.admin({ isReady: () => true })
    const server = await listen(admin, config.adminListen, 'admin_listen')
    server.unref()
    stop.add('close the admin listener', () => close(server))
    const url = urlOf(server, config.adminListen)
    log.info({ upstream: upstream.name, admin_url: url }, 'listening')
    if (targetsFolder === undefined) return
    const withdraw = announceTarget({ folder: targetsFolder, upstream: upstream.name, address: new URL(url).host })
    process.once('exit', withdraw)
    // At once: what is left may wait for a client that reads slowly, or be cut short by a signal.
    void child.exited.then(withdraw)
  } catch (error) {
    log.warn(`no metrics of this server: ${errorMessage(error)}`)
  }
}
