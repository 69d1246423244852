import type { UpstreamEndpoint } from '../upstreams/endpoint.ts'
import type { PoolStats } from '../upstreams/http.ts'
import type { Limited } from '../upstreams/queue.ts'
import type { StdioUpstream } from '../upstreams/stdio.ts'
import type { Transport } from '../upstreams/upstream.ts'
import type { Silence } from './correlation.ts'
import type { Glance } from './contract.ts'
import type { Heartbeat } from './loop.ts'
import type { Prober } from './probe.ts'
import type { State } from './verdict.ts'

/** One process of an upstream, as `/debug` and the metrics show it. */
export interface ProcessView {
  readonly pid: number
  /** `server` serves a URL; the others are those of a stdio upstream, of which a `spare` waits for its session. */
  readonly role: 'resident' | 'session' | 'spare' | 'server'
  readonly session: string | undefined
  readonly startedAtWallMs: number
  /** The end of what it wrote to stderr. */
  readonly stderrTail: string
}

/** A process that ended other than to make way: what it left tells why. */
export interface EndedView {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined
  readonly endedAtWallMs: number
  /** In words, to follow its name. */
  readonly how: string
  /** The end of what it wrote to stderr. */
  readonly stderrTail: string
}

/** How clients' requests reach an upstream. */
export type Access =
  | { readonly kind: 'endpoint'; readonly endpoint: UpstreamEndpoint; readonly transport: 'http' | 'sse' }
  | ({ readonly kind: 'stdio'; readonly upstream: StdioUpstream } & Limited)
  /** The client that started us talks to it by our pipe, and nobody else: a process, or an endpoint. */
  | { readonly kind: 'pipe'; readonly endpoint?: UpstreamEndpoint }

/** Where a server is reached through us. */
export type Reached = Exclude<Access, { readonly kind: 'pipe' }>

/** What bounds the requests to a server; undefined where nothing of ours does. */
export function limitedOf(access: Reached): Limited
export function limitedOf(access: Access): Limited | undefined
export function limitedOf(access: Access): Limited | undefined {
  return access.kind === 'stdio' ? access : access.endpoint
}

/** One upstream with all that belongs to it: what the proxy forwards to and what admin and metrics tell about. */
export interface Monitored {
  readonly name: string
  readonly transport: Transport
  readonly access: Access
  readonly heartbeat: Heartbeat
  readonly prober: Prober
  processes(): readonly ProcessView[]
  /** The last of its processes that ended other than to make way, if any did. */
  lastEnded(): EndedView | undefined
  /** Undefined where no process is ours. */
  restarts(): number | undefined
  /** How long until its process is started again; undefined while it runs, or nothing will start it. */
  nextStartInMs(): number | undefined
  /**
   * An operator wants a process of ours that does not run to be tried again now, whatever the restart law says. Resolves
   * when its start was begun, at once where none is wanted.
   */
  tryAgain(): Promise<void>
  connections(): PoolStats | undefined
  requestsInFlight(): number
  stop(): Promise<void>
}

interface Judged {
  readonly name: string
  readonly heartbeat: { glance(): Pick<Glance, 'verdict' | 'interval' | 'probe'> }
}

/** Of these nobody hears whether the network is there: none is asked, or none runs. */
const mute: ReadonlySet<State> = new Set(['idle', 'paused', 'disabled', 'crash_loop'])

/**
 * What tells which upstreams fell silent together; those that nobody asks have no part in it, since they would outvote
 * the others. One that only clients ask counts once it is silent.
 */
export function silencesOf(upstreams: readonly Judged[]): readonly Silence[] {
  return upstreams.flatMap(({ name, heartbeat }) => {
    const { verdict, interval, probe } = heartbeat.glance()
    const { state, silentSinceMs } = verdict
    const isHeard = probe === 'active' || silentSinceMs !== undefined
    if (!isHeard || mute.has(state)) return []
    return [{ upstream: name, silentSinceMs, intervalMs: interval.intervalMs }]
  })
}
