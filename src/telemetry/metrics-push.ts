import type { ExportResult } from '@opentelemetry/core'
import type { PushMetricExporter, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { Clock, Timer } from '../clock.ts'
import type { PushSettings } from './push-settings.ts'

export interface MetricsPushOptions {
  readonly clock: Clock
  readonly intervalMs: number
  /** What `/metrics` shows: with a reader of its own a push would double the cost of each measurement. */
  readonly snapshot: () => Promise<ResourceMetrics>
  readonly exporter: Pick<PushMetricExporter, 'export' | 'shutdown'>
  /** Hears of each push that failed. Nothing is lost by one: sums are cumulative, so the next push has it all. */
  readonly onError: (error: Error) => void
}

/** Sends all metrics now and then, one push at a time, and once more at the end. */
export class MetricsPush {
  readonly #options: MetricsPushOptions
  #timer: Timer | undefined
  #underWay: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(options: MetricsPushOptions) {
    this.#options = options
    this.#plan()
  }

  /** Waits for a push under way, sends what has come since, and leaves. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    await this.#underWay
    await this.#push()
    await this.#options.exporter.shutdown()
  }

  #plan(): void {
    if (this.#isStopped) return
    this.#timer = this.#options.clock.after(this.#options.intervalMs, () => {
      this.#underWay = this.#push()
      void this.#underWay.then(() => this.#plan())
    })
  }

  async #push(): Promise<void> {
    const { snapshot, exporter, onError } = this.#options
    try {
      const metrics = await snapshot()
      const { error } = await new Promise<ExportResult>((resolve) => exporter.export(metrics, resolve))
      if (error) onError(error)
    } catch (error) {
      onError(error instanceof Error ? error : new Error(String(error)))
    }
  }
}

/** The exporter of OpenTelemetry, loaded only where it is needed; it reads headers, time-out and the like by itself. */
export async function metricsExporter({ url }: PushSettings): Promise<MetricsPushOptions['exporter']> {
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-proto')
  return new OTLPMetricExporter({ url })
}
