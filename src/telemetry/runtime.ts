import type { Clock } from '../clock.ts'
import { replaceLoopLag } from './loop-lag.ts'
import type { MetricObjectWithValues, MetricValueWithName, Registry } from 'prom-client'

/** One family of prom-client with its samples. */
export type RuntimeFamily = MetricObjectWithValues<MetricValueWithName<string>>

/** The `process_*` and `nodejs_*` metrics of this process, under the names that ready-made dashboards know. */
export interface RuntimeMetrics {
  collect(): Promise<RuntimeFamily[]>
  /** The same in prom-client's own text format. */
  text(): Promise<string>
  stop(): Promise<void>
}

/** Gauges whose names end in `_total`, which promtool's lint refuses and OpenMetrics forbids. */
const misnamed = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/**
 * Observes this process from the first scrape on, so that the start does not wait for it, with a registry of its own,
 * which stays on one content type: flipped to OpenMetrics and back it loses its `_total` suffixes. None of its observers
 * keeps the process alive; `stop` only empties the registry, since prom-client gives no handle on them.
 */
export function runtimeMetrics(clock: Clock): RuntimeMetrics {
  let loading: Promise<Registry> | undefined
  const registry = () => (loading ??= observedRegistry(clock))
  return {
    collect: async () => (await registry()).getMetricsAsJSON(),
    text: async () => (await registry()).metrics(),
    stop: async () => (await loading)?.clear(),
  }
}

async function observedRegistry(clock: Clock): Promise<Registry> {
  const { Gauge, Registry: OwnRegistry, collectDefaultMetrics } = await import('prom-client')
  const registry = new OwnRegistry()
  collectDefaultMetrics({ register: registry })
  for (const name of misnamed) registry.removeSingleMetric(name)
  replaceLoopLag(registry, Gauge, clock)
  return registry
}
