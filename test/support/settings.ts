import { defaults } from '../../src/defaults.ts'
import type { IntervalSettings } from '../../src/heartbeat/interval.ts'
import type { HeartbeatSettings } from '../../src/heartbeat/contract.ts'
import type { RequestLimits } from '../../src/upstreams/upstream.ts'

/** How intervals adapt where a test is about something else. */
export const intervalSettings: IntervalSettings = {
  adaptive: true,
  initialMs: 10_000,
  minMs: 5000,
  maxMs: 30_000,
  errorBased: true,
  loadBased: true,
  thresholdsEnabled: true,
  errorRateThresholdRatio: 0.05,
  responseTimeThresholdMs: 1000,
}

/** How servers are heartbeated where a test is about something else. */
export const heartbeatSettings: HeartbeatSettings = {
  ...intervalSettings,
  probe: 'active',
  minTimeoutMs: defaults.heartbeat.minTimeoutMs,
  maxTimeoutMs: defaults.heartbeat.maxTimeoutMs,
  hang: { silentMs: defaults.hang.silentMs, spinningMs: defaults.hang.spinningMs },
  lateAnswerMs: defaults.heartbeat.lateAnswerMs,
  missesToDown: 3,
  goodsToHealthy: 2,
  inventoryAgeMs: defaults.heartbeat.inventoryAgeMs,
  recentKept: 20,
  failuresKept: 20,
}

/** What servers may be asked, and for how long, where a test changes only some of it; without a circuit breaker. */
export const requestLimits: RequestLimits = {
  stallTimeoutMs: 60_000,
  requestTimeoutMs: 600_000,
  maxInFlight: 64,
  maxQueue: 128,
  queueTimeoutMs: 3000,
}
