import { ExportResultCode, type ExportResult } from '@opentelemetry/core'
import { TracerProvider } from '@opentelemetry/sdk-trace'
import { describe, expect, it } from 'vitest'
import { spanQueue, type SpanDropReason } from '../../src/telemetry/span-queue.ts'
import { eventually } from '../support/eventually.ts'

const batches = { scheduleDelayMs: 1, exportTimeoutMs: 30_000, maxQueueSize: 5, maxExportBatchSize: 4 }

/** A queue whose exporter answers when it is told to, and a tracer that fills it. */
async function queue() {
  const under: { readonly spans: number; readonly done: (result: ExportResult) => void }[] = []
  const dropped: [SpanDropReason, number][] = []
  const errors: string[] = []
  const processor = await spanQueue({
    exporter: {
      export: (spans, done) => void under.push({ spans: spans.length, done }),
      shutdown: () => Promise.resolve(),
      forceFlush: () => Promise.resolve(),
    },
    batches,
    onExportError: (error) => errors.push(error.message),
    onDropped: (...what) => dropped.push(what),
  })
  const tracer = new TracerProvider({ spanProcessors: [processor] }).getTracer('test')
  const end = (spans: number) => {
    for (let at = 0; at < spans; at++) tracer.startSpan('x').end()
  }
  return { under, dropped, errors, end }
}

describe('the queue of spans', () => {
  it('drops what exceeds it and counts that, while the collector does not answer', async () => {
    const { under, dropped, end } = await queue()
    end(4)
    await eventually(() => under.length === 1, { what: 'the first batch' })
    end(100)
    expect(under.map(({ spans }) => spans)).toEqual([4])
    expect(dropped).toEqual(Array.from({ length: 95 }, () => ['queue_full', 1]))
    under[0]?.done({ code: ExportResultCode.SUCCESS })
    await eventually(() => under.length === 2, { what: 'the second batch' })
    end(4)
    expect(dropped).toHaveLength(95)
  })

  it('counts the spans of a batch that was not taken', async () => {
    const { under, dropped, errors, end } = await queue()
    end(3)
    await eventually(() => under.length === 1, { what: 'a batch' })
    under[0]?.done({ code: ExportResultCode.FAILED, error: new Error('no room') })
    expect(dropped).toEqual([['export_failed', 3]])
    expect(errors).toEqual(['no room'])
  })
})
