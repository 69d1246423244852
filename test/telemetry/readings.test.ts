import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { sleep } from '../../src/clock.ts'
import { outcomes, type Outcome } from '../../src/heartbeat/classify.ts'
import {
  diffReading,
  emptyReading,
  isInfrastructureFailure,
  quantile,
  readUpstreams,
  ReadingsCache,
  type UpstreamReading,
} from '../../src/telemetry/readings.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { pipeline, toolCall } from './fixture.ts'

const heartbeat = { upstream: 'files', transport: 'http', leg: 'upstream', method: 'ping', outcome: 'ok' } as const

describe('readUpstreams', () => {
  it.each([
    ['ok', 0, 1],
    ['late', 0, 1],
    ['unsupported', 0, 1],
    ['unauthorized', 0, 0],
    ['session_gone', 0, 0],
    ['inconclusive', 0, 0],
    ['timeout', 1, 0],
    ['refused', 1, 0],
    ['reset', 1, 0],
    ['closed', 1, 0],
    ['exited', 1, 0],
    ['http_error', 1, 0],
    ['invalid', 1, 0],
  ] satisfies [Outcome, number, number][])('%s: %d failures, %d round trips', async (outcome, failures, rttCount) => {
    const { recorder, reader } = pipeline()
    recorder.recordHeartbeat({ ...heartbeat, outcome, durationSeconds: 0.5 })
    const reading = readUpstreams(await reader.snapshot()).get('files')
    expect(reading).toMatchObject({ heartbeats: 1, failures, rttCount, rttSumSeconds: rttCount * 0.5 })
    expect(reading?.buckets.counts.reduce((sum, count) => sum + count)).toBe(rttCount)
  })

  it('knows what every outcome is', () => expect(outcomes).toHaveLength(13))

  it('sums legs and methods, but not the heartbeats of clients', async () => {
    const { recorder, reader } = pipeline()
    recorder.recordHeartbeat({ ...heartbeat, durationSeconds: 0.5 })
    recorder.recordHeartbeat({ ...heartbeat, leg: 'session', method: 'server/discover', durationSeconds: 0.25 })
    recorder.recordHeartbeat({ ...heartbeat, leg: 'client', outcome: 'timeout', durationSeconds: 5 })
    recorder.recordHeartbeat({ ...heartbeat, upstream: 'other', durationSeconds: 1 })
    const readings = readUpstreams(await reader.snapshot())
    expect(readings.get('files')).toMatchObject({ heartbeats: 2, failures: 0, rttSumSeconds: 0.75, rttCount: 2 })
    expect(readings.get('other')).toMatchObject({ heartbeats: 1 })
  })

  it('takes operations from the client side, and not what servers ask of clients', async () => {
    const { recorder, reader } = pipeline()
    recorder.recordOperation({ ...toolCall, side: 'server' })
    recorder.recordOperation({ ...toolCall, side: 'client', durationSeconds: 2 })
    recorder.recordOperation({ ...toolCall, side: 'client', errorType: 'tool_error', durationSeconds: 1 })
    recorder.recordOperation({ ...toolCall, side: 'client', errorType: 'upstream_timeout', durationSeconds: 60 })
    recorder.recordOperation({ ...toolCall, side: 'client', method: 'sampling/createMessage', durationSeconds: 90 })
    expect(readUpstreams(await reader.snapshot()).get('files')).toMatchObject({
      operations: 3,
      operationFailures: 1,
    })
  })
})

describe('isInfrastructureFailure', () => {
  it.each([
    ['upstream_timeout', true],
    ['upstream_refused', true],
    ['upstream_http_error', true],
    ['upstream_unauthorized', false],
    ['upstream_session_gone', false],
    ['503', true],
    ['404', false],
    ['tool_error', false],
    ['-32601', false],
    [undefined, false],
  ])('%s: %s', (errorType, isFailure) => expect(isInfrastructureFailure(errorType)).toBe(isFailure))
})

const bounds = [1, 2]
const readingArb: fc.Arbitrary<UpstreamReading> = fc
  .record({
    heartbeats: fc.nat(99),
    failures: fc.nat(99),
    answered: fc.nat(99),
    rttSumSeconds: fc.nat(99),
    rttCount: fc.nat(99),
    counts: fc.tuple(fc.nat(99), fc.nat(99), fc.nat(99)),
    operations: fc.nat(99),
    operationFailures: fc.nat(99),
  })
  .map(({ counts, ...rest }) => ({ ...rest, buckets: { bounds, counts } }))

function sum(a: UpstreamReading, b: UpstreamReading): UpstreamReading {
  return {
    heartbeats: a.heartbeats + b.heartbeats,
    failures: a.failures + b.failures,
    answered: a.answered + b.answered,
    rttSumSeconds: a.rttSumSeconds + b.rttSumSeconds,
    rttCount: a.rttCount + b.rttCount,
    buckets: { bounds, counts: a.buckets.counts.map((count, index) => count + (b.buckets.counts[index] ?? 0)) },
    operations: a.operations + b.operations,
    operationFailures: a.operationFailures + b.operationFailures,
  }
}

describe('diffReading', () => {
  it('is what was added', () => {
    fc.assert(
      fc.property(readingArb, readingArb, (a, b) => {
        expect(diffReading(a, sum(a, b))).toEqual(b)
      }),
    )
  })

  it('is all of it the first time and after a reset', () => {
    fc.assert(
      fc.property(readingArb, (reading) => {
        expect(diffReading(undefined, reading)).toEqual(reading)
        const before = sum(reading, { ...emptyReading(bounds), heartbeats: 1 })
        expect(diffReading(before, reading)).toEqual(reading)
      }),
    )
  })

  it('is never negative', () => {
    fc.assert(
      fc.property(readingArb, readingArb, (a, b) => {
        const { buckets, ...figures } = diffReading(a, b)
        expect(Math.min(...Object.values(figures), ...buckets.counts)).toBeGreaterThanOrEqual(0)
      }),
    )
  })
})

describe('quantile (Prometheus, histogram_quantile)', () => {
  it.each([
    ['nothing', [0, 0, 0], 0.5, undefined],
    ['not a quantile', [1, 1, 1], Number.NaN, undefined],
    ['the middle of the first bucket', [4, 0, 0], 0.5, 0.5],
    ['linear in the second', [0, 4, 0], 0.25, 1.25],
    ['on a bound', [2, 2, 0], 0.5, 1],
    ['the last bucket reads as the highest bound', [0, 0, 3], 0.99, 2],
    ['the least', [0, 4, 0], 0, 1],
    ['the most', [1, 3, 0], 1, 2],
    ['beyond one', [1, 3, 0], 7, 2],
  ])('%s', (_, counts, q, value) => expect(quantile(bounds, counts, q)).toBe(value))

  it('rises with q and stays within the bounds', () => {
    const counts = fc.tuple(fc.nat(9), fc.nat(9), fc.nat(9)).filter((list) => list.some((count) => count > 0))
    const q = fc.double({ min: 0, max: 1, noNaN: true })
    fc.assert(
      fc.property(counts, q, q, (list, a, b) => {
        const [low, high] = [quantile(bounds, list, Math.min(a, b)), quantile(bounds, list, Math.max(a, b))]
        expect(low).toBeGreaterThanOrEqual(0)
        expect(high).toBeGreaterThanOrEqual(low ?? NaN)
        expect(high).toBeLessThanOrEqual(2)
      }),
    )
  })
})

describe('ReadingsCache', () => {
  function cache() {
    const clock = fakeClock()
    const snapshots: ResourceMetrics[] = []
    let error: Error | undefined
    let tookMs = 0
    const collect = async () => {
      if (error) throw error
      if (tookMs > 0) await sleep(clock, tookMs)
      const made: ResourceMetrics = { resource: resourceFromAttributes({}), scopeMetrics: [] }
      snapshots.push(made)
      return made
    }
    const fail = (with_: Error | undefined) => (error = with_)
    const take = (ms: number) => (tookMs = ms)
    return { clock, snapshots, fail, take, cache: new ReadingsCache(clock, collect) }
  }

  it('collects once for all who ask within a second', async () => {
    const { clock, snapshots, cache: shared } = cache()
    const [one, other] = await Promise.all([shared.current(), shared.current()])
    expect(other).toBe(one)
    await clock.advance(999)
    expect(await shared.current()).toBe(one)
    await clock.advance(1)
    expect(await shared.current()).not.toBe(one)
    expect(snapshots).toHaveLength(2)
  })

  it.each([
    [5, 1000],
    [20, 2000],
    [200, 5000],
  ])('whose collection takes %d ms is kept for %d ms', async (tookMs, keptMs) => {
    const { clock, take, cache: shared } = cache()
    take(tookMs)
    const collected = shared.current()
    await clock.advance(tookMs)
    const one = await collected
    await clock.advance(keptMs - tookMs - 1)
    expect(await shared.current()).toBe(one)
    await clock.advance(1)
    take(0)
    expect(await shared.current()).not.toBe(one)
  })

  it('tries again after a failure', async () => {
    const { fail, cache: shared } = cache()
    fail(new Error('no'))
    await expect(shared.current()).rejects.toThrow('no')
    fail(undefined)
    await expect(shared.current()).resolves.toBeDefined()
  })
})
