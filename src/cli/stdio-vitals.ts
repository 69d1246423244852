import { hostname } from 'node:os'
import type { Clock } from '../clock.ts'
import { errorMessage } from '../errors.ts'
import type { Monitored } from '../heartbeat/monitored.ts'
import type { Logger } from '../log.ts'
import { SessionDirectory } from '../sessions/directory.ts'
import { close, listen, urlOf } from './listener.ts'
import { traitsOf } from './monitor.ts'
import type { HeartbeatDeps } from './monitor-deps.ts'
import type { StdioOptions } from './stdio-options.ts'
import type { StopSteps } from './stop-steps.ts'
import { announceTarget } from './targets-file.ts'
import { type VitalsParts, vitalsParts } from './vitals-parts.ts'

export interface StdioVitalsOptions {
  readonly options: StdioOptions
  readonly clock: Clock
  readonly env: NodeJS.ProcessEnv
  readonly stop: StopSteps
  /** Filled in later with the one server. */
  readonly watched: readonly Monitored[]
}

/** What measures the one conversation of `mcp-vitals stdio`. */
export interface StdioVitals {
  readonly parts: VitalsParts
  readonly directory: SessionDirectory
  readonly heartbeatDeps: HeartbeatDeps
}

export async function stdioVitals({ options, clock, env, stop, watched }: StdioVitalsOptions): Promise<StdioVitals> {
  const { config, upstream, log } = options
  const { name } = upstream
  const directory: SessionDirectory = new SessionDirectory({
    clock,
    maxTracked: 1,
    cleanupIntervalMs: () => config.heartbeat.cleanupIntervalMs,
    idleLimitMs: () => Number.POSITIVE_INFINITY,
    onForgotten: (what) => parts.instruments.countForgotten(what),
    onStart: (upstreamName) => parts.instruments.initSession(upstreamName),
    onEnd: ({ protocolVersion }, end, durationMs) =>
      parts.instruments.recordSession({
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
  const { instruments, tracing, scheduler, readings, readLoad: ownLoad, onVerdict, redact } = parts
  instruments.initUpstream(name, traitsOf(upstream.target))
  const instance = env['HOSTNAME'] ?? hostname()
  const own = { clock, random: Math.random, instance, log, redact }
  const heartbeatDeps = { ...own, scheduler, instruments, tracing, directory, readings, ownLoad, onVerdict }
  return { parts, directory, heartbeatDeps }
}

/** Runs what only watches: its bugs are logged, and harm nobody's messages. */
export function unharmed(log: Logger): (run: () => void) => void {
  return (run) => {
    try {
      run()
    } catch (error) {
      log.error({ err: error }, 'a message could not be observed')
    }
  }
}

/**
 * Opens the admin listener and announces it until the server `ended`, or we do. A client does not have to do without
 * its server because this fails.
 */
export async function openAdmin(
  { config, upstream, targetsFolder, log }: StdioOptions,
  parts: VitalsParts,
  stop: StopSteps,
  ended: Promise<unknown>,
) {
  try {
    const server = await listen(parts.admin({ isReady: () => true }), config.adminListen, 'admin_listen')
    server.unref()
    stop.add('close the admin listener', () => close(server))
    const url = urlOf(server, config.adminListen)
    log.info({ upstream: upstream.name, admin_url: url }, 'listening')
    if (targetsFolder === undefined) return
    const withdraw = announceTarget({ folder: targetsFolder, upstream: upstream.name, address: new URL(url).host })
    process.once('exit', withdraw)
    // At once: what is left may wait for a client that reads slowly, or be cut short by a signal.
    void ended.then(withdraw)
  } catch (error) {
    log.warn(`no metrics of this server: ${errorMessage(error)}`)
  }
}
