import type { Credentials } from './credentials.ts'

/** How we talk to a server: a child process, HTTP+SSE (2024-11-05), or Streamable HTTP. */
export const transports = ['stdio', 'sse', 'http'] as const
export type Transport = (typeof transports)[number]

/** Why a process was started again. */
export const restartReasons = ['exit', 'signal', 'hung', 'memory', 'config', 'manual', 'alert'] as const
export type RestartReason = (typeof restartReasons)[number]

/**
 * Whether a process that ended by itself, or that we had to end, is started again: whenever that happens, unless it
 * exited with code 0, or never.
 */
export const restartPolicies = ['always', 'on_failure', 'never'] as const
export type RestartPolicy = (typeof restartPolicies)[number]

/** How the processes of an upstream are watched over; all of it may change while they run. */
export interface Supervision {
  readonly restart: RestartPolicy
  /** Of one process with all that it started; `Infinity` where nobody minds. */
  readonly maxMemoryBytes: number
}

/** A command to run: without a shell, in a process group of its own. */
export interface Command {
  readonly command: string
  readonly args: readonly string[]
  /** Added to our own environment; the whole environment of the child is both together. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string | undefined
}

/** When a stdio server's resident process (the sidecar's own, for heartbeats and modern requests) runs. */
export type ResidentPolicy = 'always' | 'when_idle' | 'never'

/** Whether each legacy client session has a process of its own, or all of them use the resident one. */
export type ProcessPolicy = 'per_session' | 'shared'

/** Which `Host` an HTTP upstream sees. `auto` is the client's for loopback URLs, else the upstream's. */
export type HostPolicy = 'auto' | 'client' | 'upstream'

/** How much a server is given to do at a time, and how long each of it may take; `Infinity` is for ever. */
export interface RequestLimits {
  /** While a request is open: without a byte of its answer when forwarded, without a message when bridged. */
  readonly stallTimeoutMs: number
  /** From a request to the end of its answer. */
  readonly requestTimeoutMs: number
  /** Requests that the server works on at the same time. */
  readonly maxInFlight: number
  /** Requests that wait until it has finished one, and for how long. */
  readonly maxQueue: number
  readonly queueTimeoutMs: number
  /** Connections in use beyond which a server behind a URL gets no more requests and streams; no limit unless given. */
  readonly maxConnections?: number
  /** Whether requests are refused for a while after others failed; not unless given. */
  readonly hasBreaker?: boolean
}

/** How we prove who we are and check who the server is; PEM texts, not files. */
export interface TlsSettings {
  /** Certificates to trust, in place of those that Node trusts. */
  readonly ca?: string | undefined
  /** The client certificate with its chain, and its key. */
  readonly cert?: string | undefined
  readonly key?: string | undefined
  /** The name to ask for and to check, in place of the URL's host. */
  readonly servername?: string | undefined
}

export interface StdioTarget {
  readonly transport: 'stdio'
  readonly launch: Command
  readonly resident: ResidentPolicy
  /** How many processes to start ahead of the sessions that will need them; none unless given. */
  readonly spareProcesses?: number
  /** Those of `defaults.ts` unless given. */
  readonly limits?: RequestLimits | undefined
  /** `per_session` unless given. */
  readonly process?: ProcessPolicy | undefined
}

export interface UrlTarget {
  readonly transport: 'sse' | 'http'
  readonly url: URL
  /** Sent with every request to the upstream; they replace the client's own headers of the same name. */
  readonly headers: Readonly<Record<string, string>>
  readonly upstreamHost: HostPolicy
  /** Those of `defaults.ts` unless given. */
  readonly limits?: RequestLimits | undefined
  /** Replace a client's `Authorization`. */
  readonly credentials?: Credentials | undefined
  /** For https only. */
  readonly tls?: TlsSettings | undefined
  /** The command that serves `url`, when we start and supervise it ourselves. */
  readonly launch?: Command | undefined
}

export type Target = StdioTarget | UrlTarget
