import type { HangTimes } from '../heartbeat/hang.ts'
import type { ProbeMethod, ProbeMode } from '../heartbeat/probe.ts'
import type { Receiver, RecoveryAction } from '../telemetry/instruments.ts'
import type { Supervision, Target } from '../upstreams/upstream.ts'
import type { Address } from './address.ts'

/** How one upstream is heartbeated; the predecessor's block, with durations in milliseconds. */
export interface HeartbeatConfig {
  readonly probe: ProbeMode
  readonly probeMethod: ProbeMethod
  readonly intervalMs: number
  readonly missesToDown: number
  /** Between which the time-out of a heartbeat follows the server's round trips. */
  readonly minTimeoutMs: number
  readonly maxTimeoutMs: number
  /** When a process of ours hangs that is silent, or that spins as well. */
  readonly hang: HangTimes
  /** How long a session is idle before its server is asked inside it, or its client; `Infinity` asks nobody. */
  readonly sessionPingMs: number
  readonly clientPingMs: number
  /** Whether servers are asked inside forwarded sessions too. */
  readonly pingForwardedSessions: boolean
  readonly sessionTimeoutMs: number
  readonly cleanupIntervalMs: number
  readonly logIntervalMs: number
  readonly performanceMonitoring: {
    readonly enabled: boolean
    readonly responseTimeThresholdMs: number
    readonly errorRateThresholdRatio: number
  }
  readonly adaptive: {
    readonly enabled: boolean
    readonly minIntervalMs: number
    readonly maxIntervalMs: number
    readonly loadBased: boolean
    readonly errorBased: boolean
  }
  readonly logging: { readonly enhanced: boolean; readonly clientInfo: boolean; readonly structured: boolean }
}

/** One entry of `mcpServers`. */
export interface UpstreamConfig {
  readonly name: string
  readonly disabled: boolean
  readonly target: Target
  readonly heartbeat: HeartbeatConfig
  readonly supervision: Supervision
  /** Whether requests name our span in their `_meta`. */
  readonly injectsTraceparent: boolean
  readonly maxSessions: number
  /** `Infinity` where sessions last as long as they are used. */
  readonly maxSessionMs: number
}

/** Who may use a listener: whoever shows this token, or, without one, everybody who reaches it. */
export interface AuthConfig {
  readonly bearerToken?: string
}

/** Somebody who is told of alerts. */
export interface ReceiverConfig {
  readonly url: string
  readonly bearerToken?: string
}

/** Whom to tell when upstreams fail, and how. */
export interface AlertsConfig {
  readonly forMs: number
  readonly keepFiringForMs: number
  readonly labels: Readonly<Record<string, string>>
  readonly runbookUrl: string | undefined
  /** Where people reach the admin listener; undefined where its address will do. */
  readonly externalUrl: string | undefined
  readonly alertmanager: ReceiverConfig | undefined
  readonly webhook: ReceiverConfig | undefined
  readonly receive: ReceiveConfig | undefined
}

/** Which alerts may come in, and what they may do. */
export interface ReceiveConfig {
  readonly bearerToken: string
  /** By the name of the alert. */
  readonly actions: Readonly<Record<string, RecoveryAction>>
  readonly minIntervalMs: number
  readonly drainMs: number
}

/** What was read from the token files of the alerts block. */
export type AlertSecrets = Readonly<Record<Receiver | 'receive', AuthConfig>>

/** Everything that the program can be told, with every default filled in. */
export interface Config {
  readonly listen: Address
  readonly adminListen: Address
  /** Where clients reach the data listener; undefined when nobody has to know. */
  readonly publicUrl: URL | undefined
  readonly auth: AuthConfig
  readonly allowUnauthenticated: boolean
  readonly adminAuth: AuthConfig
  readonly allowedHosts: readonly string[]
  readonly allowedOrigins: readonly string[]
  readonly maxBodyBytes: number
  readonly maxSessions: number
  readonly maxSessionsPerClient: number
  /** `Infinity` where nothing is added to streams. */
  readonly streamKeepAliveMs: number
  /** `Infinity` where nobody looks. */
  readonly configCheckMs: number
  readonly exposition: 'own' | 'stock'
  readonly log: {
    readonly level: 'debug' | 'info' | 'warn' | 'error'
    readonly format: 'auto' | 'json' | 'logfmt'
  }
  readonly alerts: AlertsConfig
  readonly heartbeat: HeartbeatConfig
  readonly upstreams: readonly UpstreamConfig[]
}
