import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace'

/** Why a span never arrived at the collector. */
export const spanDropReasons = ['queue_full', 'export_failed'] as const
export type SpanDropReason = (typeof spanDropReasons)[number]

/** How many spans wait for how long; the names are those of the OTEL_BSP_ variables. */
export interface BatchSettings {
  readonly scheduleDelayMs: number
  readonly exportTimeoutMs: number
  readonly maxQueueSize: number
  readonly maxExportBatchSize: number
}

export interface SpanQueueOptions {
  readonly exporter: SpanExporter
  readonly batches: BatchSettings
  readonly onExportError: (error: Error) => void
  readonly onDropped: (reason: SpanDropReason, spans: number) => void
}

/**
 * OpenTelemetry's batch processor with its losses counted. It drops what exceeds its queue without a word to us, so what
 * waits is counted here, and what would be too much does not get that far.
 */
export async function spanQueue({
  exporter,
  batches,
  onExportError,
  onDropped,
}: SpanQueueOptions): Promise<SpanProcessor> {
  const { BatchSpanProcessor } = await import('@opentelemetry/sdk-trace')
  const { scheduleDelayMs, exportTimeoutMs, maxQueueSize, maxExportBatchSize } = batches
  let waiting = 0
  const processor = new BatchSpanProcessor({
    scheduledDelayMillis: scheduleDelayMs,
    exportTimeoutMillis: exportTimeoutMs,
    maxQueueSize,
    maxExportBatchSize: Math.min(maxExportBatchSize, maxQueueSize),
    exporter: {
      export: (spans: ReadableSpan[], done) => {
        waiting -= spans.length
        exporter.export(spans, (result) => {
          if (result.error) {
            onExportError(result.error)
            onDropped('export_failed', spans.length)
          }
          done(result)
        })
      },
      shutdown: () => exporter.shutdown(),
      forceFlush: async () => exporter.forceFlush?.(),
    },
  })
  return {
    onStart: (span, context) => processor.onStart(span, context),
    onEnd: (span) => {
      if (waiting >= maxQueueSize) return onDropped('queue_full', 1)
      waiting += 1
      processor.onEnd(span)
    },
    forceFlush: () => processor.forceFlush(),
    shutdown: () => processor.shutdown(),
  }
}
