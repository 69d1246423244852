import type { HeartbeatConfig } from './config.ts'
import { type HeartbeatBlock, heartbeatDefaults } from './schema.ts'

type FullBlock = { readonly [K in keyof HeartbeatBlock]-?: Required<NonNullable<HeartbeatBlock[K]>> }
type AdaptiveBlock = NonNullable<HeartbeatBlock['adaptive_heartbeat']>

/** Each layer laid over the one before, and all over the defaults. Bounds that nobody wrote make room for the rest. */
export function mergeHeartbeat(layers: readonly HeartbeatBlock[]): FullBlock {
  const merged = layers.reduce<FullBlock>(overlay, heartbeatDefaults)
  const interval = merged.heartbeat_interval_seconds
  const given = layers.reduce<AdaptiveBlock>((all, layer) => ({ ...all, ...layer.adaptive_heartbeat }), {})
  const preset = heartbeatDefaults.adaptive_heartbeat
  const bounds = {
    min_interval_seconds: Math.min(preset.min_interval_seconds, interval, given.max_interval_seconds ?? interval),
    max_interval_seconds: Math.max(preset.max_interval_seconds, interval, given.min_interval_seconds ?? interval),
  }
  const adaptive_heartbeat = { ...merged.adaptive_heartbeat, ...bounds, ...given }
  return { ...merged, ...timeoutBounds(layers), adaptive_heartbeat }
}

function timeoutBounds(layers: readonly HeartbeatBlock[]) {
  const { min_timeout_seconds: min, max_timeout_seconds: max } = layers.reduce<HeartbeatBlock>(
    (all, layer) => ({ ...all, ...layer }),
    {},
  )
  const preset = heartbeatDefaults
  return {
    min_timeout_seconds: min ?? Math.min(preset.min_timeout_seconds, max ?? Infinity),
    max_timeout_seconds: max ?? Math.max(preset.max_timeout_seconds, min ?? 0),
  }
}

function overlay(below: FullBlock, above: HeartbeatBlock): FullBlock {
  return {
    ...below,
    ...above,
    performance_monitoring: { ...below.performance_monitoring, ...above.performance_monitoring },
    adaptive_heartbeat: { ...below.adaptive_heartbeat, ...above.adaptive_heartbeat },
    logging: { ...below.logging, ...above.logging },
  }
}

/** The heartbeat of the last of `layers`, in milliseconds and ratios. */
export function heartbeatOf(layers: readonly HeartbeatBlock[]): HeartbeatConfig {
  const block = mergeHeartbeat(layers)
  const { performance_monitoring: performance, adaptive_heartbeat: adaptive, logging } = block
  return {
    probe: block.probe,
    probeMethod: block.probe_method,
    intervalMs: milliseconds(block.heartbeat_interval_seconds),
    missesToDown: block.misses_to_down,
    minTimeoutMs: milliseconds(block.min_timeout_seconds),
    maxTimeoutMs: milliseconds(block.max_timeout_seconds),
    hang: { silentMs: milliseconds(block.hang_idle_seconds), spinningMs: milliseconds(block.hang_spinning_seconds) },
    sessionPingMs: orNever(block.session_ping_seconds),
    clientPingMs: orNever(block.client_ping_seconds),
    pingForwardedSessions: block.ping_forwarded_sessions,
    sessionTimeoutMs: milliseconds(block.session_timeout_seconds),
    cleanupIntervalMs: milliseconds(block.cleanup_interval_seconds),
    logIntervalMs: milliseconds(block.heartbeat_log_interval_seconds),
    performanceMonitoring: {
      enabled: performance.enabled,
      responseTimeThresholdMs: performance.response_time_threshold_ms,
      errorRateThresholdRatio: performance.error_rate_threshold_percent / 100,
    },
    adaptive: {
      enabled: adaptive.enabled,
      minIntervalMs: milliseconds(adaptive.min_interval_seconds),
      maxIntervalMs: milliseconds(adaptive.max_interval_seconds),
      loadBased: adaptive.load_based_adjustment,
      errorBased: adaptive.error_based_adjustment,
    },
    logging: {
      enhanced: logging.enhanced_heartbeat_logging,
      clientInfo: logging.include_client_info,
      structured: logging.structured_logging,
    },
  }
}

/** 0 seconds is what turns something off. */
function orNever(seconds: number): number {
  return seconds === 0 ? Number.POSITIVE_INFINITY : milliseconds(seconds)
}

function milliseconds(seconds: number): number {
  return Math.round(seconds * 1000)
}
