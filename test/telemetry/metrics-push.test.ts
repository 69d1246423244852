import { ExportResultCode, type ExportResult } from '@opentelemetry/core'
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { expect, it } from 'vitest'
import { MetricsPush } from '../../src/telemetry/metrics-push.ts'
import { fakeClock } from '../support/fake-clock.ts'

const none: ResourceMetrics = { resource: resourceFromAttributes({}), scopeMetrics: [] }

/** A push every ten seconds to an exporter that answers when it is told to. */
function pushing(snapshot: () => Promise<ResourceMetrics> = () => Promise.resolve(none)) {
  const clock = fakeClock()
  const events: string[] = []
  const waiting: ((result: ExportResult) => void)[] = []
  const push = new MetricsPush({
    clock,
    intervalMs: 10_000,
    snapshot,
    exporter: {
      export: (_, done) => {
        events.push(`sent at ${clock.now()}`)
        waiting.push(done)
      },
      shutdown: async () => void events.push('closed'),
    },
    onError: ({ message }) => events.push(message),
  })
  const answer = async (error?: Error) => {
    waiting.shift()?.(error ? { code: ExportResultCode.FAILED, error } : { code: ExportResultCode.SUCCESS })
    await clock.advance(0)
  }
  return { clock, events, answer, push }
}

it('pushes one at a time, tells of what failed, and pushes once more at the end', async () => {
  const { clock, events, answer, push } = pushing()
  await clock.advance(9999)
  expect(events).toEqual([])
  await clock.advance(1)
  expect(events).toEqual(['sent at 10000'])
  // The collector takes its time: nothing is sent meanwhile.
  await clock.advance(25_000)
  await answer(new Error('too slow'))
  expect(events.splice(0)).toEqual(['sent at 10000', 'too slow'])
  await clock.advance(10_000)
  expect(events.splice(0)).toEqual(['sent at 45000'])
  const stopped = push.stop()
  await answer()
  expect(events).toEqual(['sent at 45000'])
  await answer()
  await stopped
  await clock.advance(100_000)
  expect(events).toEqual(['sent at 45000', 'closed'])
})

it('survives a snapshot that cannot be taken', async () => {
  const { clock, events } = pushing(() => Promise.reject(new Error('no snapshot')))
  await clock.advance(20_000)
  expect(events).toEqual(['no snapshot', 'no snapshot'])
})
