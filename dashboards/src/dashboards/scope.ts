/** Which series a dashboard asks for: all its selectors hold what the user chose. */
import { type Metric, label, metrics } from '../../../src/telemetry/names.ts'
import { type Matches, onInstance, select } from '../promql.ts'

export interface Scope {
  series(metric: Metric, matches?: Matches): string
  /** The buckets of a histogram. */
  buckets(metric: Metric, matches?: Matches): string
  /** The count of a histogram. */
  counts(metric: Metric, matches?: Matches): string
  /** What a recording rule gives. */
  recorded(record: string): string
}

const chosenSidecars = ['job=~"$job"', 'instance=~"$instance"']

/** The chosen sidecars. */
export const sidecars = scope(chosenSidecars)

/** The chosen upstreams of the chosen sidecars. */
export const upstreams = scope([...chosenSidecars, `${label.upstream}=~"$upstream"`])

/** The one upstream that a dashboard is about. */
export const oneUpstream = scope([...chosenSidecars, `${label.upstream}="$upstream"`])

function scope(chosen: readonly string[]): Scope {
  return {
    series: (metric, matches = {}) => select(metric, matches, '', chosen),
    buckets: (metric, matches = {}) => select(metric, matches, '_bucket', chosen),
    counts: (metric, matches = {}) => select(metric, matches, '_count', chosen),
    recorded: (record) => `${record}{${chosen.join(', ')}}`,
  }
}

/** Series of prom-client that dashboards show. */
export const runtimeSeries = [
  'process_cpu_seconds_total',
  'process_resident_memory_bytes',
  'process_open_fds',
  'process_max_fds',
  'process_start_time_seconds',
  'nodejs_heap_size_total_bytes',
  'nodejs_heap_size_used_bytes',
  'nodejs_external_memory_bytes',
  'nodejs_eventloop_lag_p50_seconds',
  'nodejs_eventloop_lag_p99_seconds',
  'nodejs_gc_duration_seconds_sum',
  'nodejs_active_handles',
] as const
export type RuntimeSeries = (typeof runtimeSeries)[number]

/** What Prometheus itself writes down for each scrape. */
export const scrapeSeries = [
  'up',
  'scrape_duration_seconds',
  'scrape_samples_scraped',
  'scrape_samples_post_metric_relabeling',
  'scrape_series_added',
] as const
export type ScrapeSeries = (typeof scrapeSeries)[number]

/** Other programs have these series too, and `$job` may be `.+`: `ofSidecars` leaves ours. */
export function foreign(name: RuntimeSeries | ScrapeSeries): string {
  return `${name}{${chosenSidecars.join(', ')}}`
}

/**
 * Only those of these series that a sidecar's scrape has, which is known by its build info. It was seen at any time of
 * the window, so that a sidecar which is down now still counts.
 */
export function ofSidecars(expr: string, window = '$__range'): string {
  return `${expr} and ${onInstance} max_over_time(${sidecars.series(metrics.buildInfo)}[${window}])`
}
