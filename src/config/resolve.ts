import { dirname, resolve } from 'node:path'
import { KnownError } from '../errors.ts'
import type { Credentials } from '../upstreams/credentials.ts'
import type { Receiver } from '../telemetry/instruments.ts'
import type { Command, RequestLimits, Target, TlsSettings } from '../upstreams/upstream.ts'
import { type Address, parseAddress } from './address.ts'
import type {
  AlertSecrets,
  AlertsConfig,
  AuthConfig,
  Config,
  ReceiveConfig,
  ReceiverConfig,
  UpstreamConfig,
} from './config.ts'
import { heartbeatOf } from './heartbeat.ts'
import {
  alertsDefaults,
  type AlertsEntry,
  fileDefaults,
  type FileConfig,
  type LimitKey,
  receiveDefaults,
  upstreamDefaults,
  type UpstreamEntry,
} from './schema.ts'
import type { Path } from './tree.ts'

/** What was read from the files that the configuration names. */
export interface ReadSecrets {
  readonly auth: AuthConfig
  readonly adminAuth: AuthConfig
  readonly alerts: AlertSecrets
  readonly upstreams: ReadonlyMap<string, TargetSecrets>
}

interface TargetSecrets {
  readonly credentials?: Credentials | undefined
  readonly tls?: TlsSettings | undefined
}

/** Builds the configuration from files that obey every rule. `fileOf` names the file that a value came from. */
export function resolveConfig(file: FileConfig, secrets: ReadSecrets, fileOf: (path: Path) => string): Config {
  const all = { ...fileDefaults, ...file }
  return {
    listen: addressOf(all.listen),
    adminListen: addressOf(all.admin_listen),
    publicUrl: file.public_url === undefined ? undefined : new URL(file.public_url),
    auth: secrets.auth,
    allowUnauthenticated: all.allow_unauthenticated,
    adminAuth: secrets.adminAuth,
    allowedHosts: all.allowed_hosts.map((host) => host.toLowerCase()),
    allowedOrigins: all.allowed_origins.map((origin) => origin.toLowerCase()),
    maxBodyBytes: all.max_body_bytes,
    maxSessions: all.max_sessions,
    maxSessionsPerClient: all.max_sessions_per_client ?? all.max_sessions,
    streamKeepAliveMs: unlessOff(all.stream_keep_alive_seconds),
    configCheckMs: unlessOff(all.config_check_seconds),
    exposition: all.exposition,
    log: { ...fileDefaults.log, ...file.log },
    alerts: alertsOf(file.alerts ?? {}, secrets.alerts),
    heartbeat: heartbeatOf([file.heartbeat ?? {}]),
    upstreams: Object.entries(file.mcpServers ?? {}).map(([name, entry]) =>
      upstreamOf(name, entry, secrets.upstreams.get(name) ?? {}, file, fileOf),
    ),
  }
}

/** A path relative to the file that names it. */
export function besideFile(file: string, path: string): string {
  return resolve(dirname(file), path)
}

function addressOf(text: string): Address {
  const address = parseAddress(text)
  if (!address) throw new KnownError('internal', 'the schema let a text pass that is not an address')
  return address
}

function alertsOf(entry: AlertsEntry, secrets: AlertSecrets): AlertsConfig {
  const all = { ...alertsDefaults, ...entry }
  const receiverOf = (key: Receiver): ReceiverConfig | undefined => {
    const url = entry[key]?.url
    return url === undefined ? undefined : { url, ...secrets[key] }
  }
  return {
    forMs: all.for_seconds * 1000,
    keepFiringForMs: all.keep_firing_for_seconds * 1000,
    labels: { ...all.labels },
    runbookUrl: entry.runbook_url,
    externalUrl: entry.external_url?.replace(/\/+$/, ''),
    alertmanager: receiverOf('alertmanager'),
    webhook: receiverOf('webhook'),
    receive: receiveOf(entry, secrets),
  }
}

function receiveOf({ receive }: AlertsEntry, { receive: { bearerToken } }: AlertSecrets): ReceiveConfig | undefined {
  if (!receive || bearerToken === undefined) return undefined
  const all = { ...receiveDefaults, ...receive }
  return {
    bearerToken,
    actions: { ...receive.actions },
    minIntervalMs: all.min_interval_seconds * 1000,
    drainMs: all.drain_seconds * 1000,
  }
}

function upstreamOf(
  name: string,
  entry: UpstreamEntry,
  secrets: TargetSecrets,
  file: FileConfig,
  fileOf: (path: Path) => string,
): UpstreamConfig {
  return {
    name,
    disabled: entry.disabled ?? false,
    target: targetOf(entry, secrets, ['mcpServers', name], fileOf),
    heartbeat: heartbeatOf([file.heartbeat ?? {}, entry.heartbeat ?? {}]),
    supervision: {
      restart: entry.restart ?? upstreamDefaults.restart,
      maxMemoryBytes: unlessNone(entry.max_memory_mb ?? upstreamDefaults.max_memory_mb),
    },
    injectsTraceparent: entry.inject_traceparent ?? upstreamDefaults.inject_traceparent,
    maxSessions: entry.max_sessions ?? file.max_sessions ?? fileDefaults.max_sessions,
    maxSessionMs: unlessOff(entry.max_session_seconds ?? file.max_session_seconds ?? fileDefaults.max_session_seconds),
  }
}

function targetOf(
  entry: UpstreamEntry,
  { credentials, tls }: TargetSecrets,
  path: Path,
  fileOf: (path: Path) => string,
): Target {
  const limits = limitsOf({ ...upstreamDefaults, ...entry })
  const address = entry.url ?? entry.httpUrl ?? entry.serverUrl
  if (address === undefined) {
    const { resident, process, spare_processes: spareProcesses } = { ...upstreamDefaults, ...entry }
    const launch = commandOf(entry, path, fileOf)
    return { transport: 'stdio', launch, resident, process, spareProcesses, limits }
  }
  const url = new URL(address)
  const target = {
    transport: urlTransport(entry, url),
    url,
    headers: { ...entry.headers },
    ...(credentials && { credentials }),
    upstreamHost: entry.upstream_host ?? 'auto',
    limits,
    ...(tls && { tls }),
  } as const
  return entry.launch ? { ...target, launch: commandOf(entry.launch, [...path, 'launch'], fileOf) } : target
}

function limitsOf(entry: Required<Pick<UpstreamEntry, LimitKey>>): RequestLimits {
  return {
    stallTimeoutMs: unlessOff(entry.stall_timeout_seconds),
    requestTimeoutMs: unlessOff(entry.request_timeout_seconds),
    maxInFlight: entry.max_in_flight,
    maxQueue: entry.max_queue,
    queueTimeoutMs: entry.queue_timeout_seconds * 1000,
    maxConnections: entry.max_connections,
    hasBreaker: entry.circuit_breaker,
  }
}

/** A duration in milliseconds, where 0 means that there is none. */
function unlessOff(seconds: number): number {
  return seconds === 0 ? Infinity : seconds * 1000
}

/** A size in bytes, where 0 means that there is no limit. */
function unlessNone(mebibytes: number): number {
  return mebibytes === 0 ? Infinity : mebibytes * 1024 ** 2
}

function urlTransport(entry: UpstreamEntry, url: URL): 'sse' | 'http' {
  const type = entry.type ?? entry.transport
  if (type !== undefined) return type === 'sse' ? 'sse' : 'http'
  return entry.httpUrl === undefined && /\/sse\/?$/.test(url.pathname) ? 'sse' : 'http'
}

function commandOf(
  entry: Pick<UpstreamEntry, 'command' | 'args' | 'env' | 'cwd'>,
  path: Path,
  fileOf: (path: Path) => string,
): Command {
  const command = { command: entry.command ?? '', args: entry.args ?? [], env: entry.env ?? {} }
  return entry.cwd === undefined ? command : { ...command, cwd: besideFile(fileOf([...path, 'cwd']), entry.cwd) }
}
