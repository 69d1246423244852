import { isDeepStrictEqual } from 'node:util'
import { KnownError } from '../errors.ts'
import type { Target } from '../upstreams/upstream.ts'
import type { Config, UpstreamConfig } from './config.ts'

/** What a running instance has to do to follow a new configuration; upstreams that are named nowhere stay as they are. */
export interface Difference {
  readonly added: readonly UpstreamConfig[]
  /** By name; also those that are disabled now. */
  readonly removed: readonly string[]
  /** Those that are reached or started in another way: their sessions end. */
  readonly replaced: readonly UpstreamConfig[]
  /** Those whose heartbeat, supervision or limits alone are others: nothing of theirs is interrupted. */
  readonly retuned: readonly UpstreamConfig[]
  /** The keys outside `mcpServers` that changed, as they are written. */
  readonly settings: readonly string[]
}

/** The keys of a file that hold for the whole program, and whether a running one can follow them. */
const settingKeys = {
  listen: { key: 'listen', needsRestart: true },
  adminListen: { key: 'admin_listen', needsRestart: true },
  publicUrl: { key: 'public_url', needsRestart: true },
  exposition: { key: 'exposition', needsRestart: true },
  configCheckMs: { key: 'config_check_seconds', needsRestart: true },
  auth: { key: 'auth', needsRestart: false },
  allowUnauthenticated: { key: 'allow_unauthenticated', needsRestart: false },
  adminAuth: { key: 'admin_auth', needsRestart: false },
  allowedHosts: { key: 'allowed_hosts', needsRestart: false },
  allowedOrigins: { key: 'allowed_origins', needsRestart: false },
  maxBodyBytes: { key: 'max_body_bytes', needsRestart: false },
  maxSessions: { key: 'max_sessions', needsRestart: false },
  maxSessionsPerClient: { key: 'max_sessions_per_client', needsRestart: false },
  streamKeepAliveMs: { key: 'stream_keep_alive_seconds', needsRestart: false },
  log: { key: 'log', needsRestart: false },
  alerts: { key: 'alerts', needsRestart: false },
  heartbeat: { key: 'heartbeat', needsRestart: false },
} as const satisfies Record<keyof Omit<Config, 'upstreams'>, { readonly key: string; readonly needsRestart: boolean }>

/** Throws one `config_invalid` that names every change that a running program cannot follow. */
export function difference(before: Config, after: Config): Difference {
  const changed = Object.entries(settingKeys).filter(
    ([name]) => !isDeepStrictEqual(pick(before, name), pick(after, name)),
  )
  const fixed = [
    ...changed.filter(([, { needsRestart }]) => needsRestart).map(([, { key }]) => key),
    ...(before.log.format === after.log.format ? [] : ['log.format']),
    ...(before.heartbeat.logging.structured === after.heartbeat.logging.structured
      ? []
      : ['logging.structured_logging']),
  ]
  if (fixed.length > 0) throw new KnownError('config_invalid', fixed.map(needsRestart).join('\n'))
  const old = running(before)
  const now = running(after)
  const both = [...now.values()].flatMap((next) => {
    const last = old.get(next.name)
    return last ? [{ last, next }] : []
  })
  const isReplaced = ({ last, next }: (typeof both)[number]) => !isSameTarget(last.target, next.target)
  return {
    added: [...now.values()].filter(({ name }) => !old.has(name)),
    removed: [...old.keys()].filter((name) => !now.has(name)),
    replaced: both.filter(isReplaced).map(({ next }) => next),
    retuned: both
      .filter((pair) => !isReplaced(pair) && !isDeepStrictEqual(settingsOf(pair.last), settingsOf(pair.next)))
      .map(({ next }) => next),
    settings: changed.map(([, { key }]) => key),
  }
}

function pick(config: Config, name: string): unknown {
  const value: unknown = Object.entries(config).find(([key]) => key === name)?.[1]
  return value instanceof URL ? value.href : value
}

function needsRestart(key: string): string {
  return `${key}: it changed, and a running mcp-vitals cannot follow that; start it again`
}

function running({ upstreams }: Config): ReadonlyMap<string, UpstreamConfig> {
  return new Map(upstreams.filter(({ disabled }) => !disabled).map((upstream) => [upstream.name, upstream]))
}

function settingsOf({ target: _target, ...settings }: UpstreamConfig): Omit<UpstreamConfig, 'target'> {
  return settings
}

function isSameTarget(one: Target, other: Target): boolean {
  return isDeepStrictEqual(plain(one), plain(other))
}

/** A URL keeps its address where no comparison looks. A running upstream sees by itself when its file has another token. */
function plain(target: Target): unknown {
  if (target.transport === 'stdio') return target
  const { credentials } = target
  const kept = credentials?.kind === 'bearer_file' ? credentials.file : credentials
  return { ...target, url: target.url.href, credentials: kept }
}
