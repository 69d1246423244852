import { describe, expect, it } from 'vitest'
import type { Delivery } from '../../src/alerts/delivery.ts'
import { Messenger } from '../../src/alerts/messenger.ts'
import type { Notice } from '../../src/alerts/tracking.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { firingNotice, resolvedNotice, server } from './fixture.ts'

const failed: Delivery = { kind: 'failed', reason: 'it answered 500' }

/** A receiver that answers as scripted, then takes everything; each request lasts `tookMs`. */
function receiver(script: readonly Delivery[], { tookMs = 0, batchSize = 10, maxWaiting = 100 } = {}) {
  const clock = fakeClock()
  const left = [...script]
  const requests: { readonly atMs: number; readonly batch: readonly Notice[] }[] = []
  const told: string[] = []
  const messenger = new Messenger({
    clock,
    random: () => 0.5,
    batchSize,
    maxWaiting,
    backoff: { firstMs: 1000, maxMs: 8000, maxRetryAfterMs: 60_000 },
    send: (batch, signal) => {
      requests.push({ atMs: clock.now(), batch })
      return new Promise((resolve) => {
        const timer = clock.after(tookMs, () => resolve(left.shift() ?? { kind: 'sent' }))
        signal.addEventListener('abort', () => {
          timer.cancel()
          resolve({ kind: 'failed', reason: 'given up' })
        })
      })
    },
    events: {
      onDelivery: ({ kind }, notices, durationMs) => told.push(`${kind} ${notices} in ${durationMs} ms`),
      onRetry: (reason, inMs, waiting) => told.push(`${reason}: again in ${inMs} ms, ${waiting} waiting`),
      onDropped: (notices) => told.push(`dropped ${notices}`),
    },
  })
  return { clock, messenger, requests, told }
}

const upstreams = (...names: readonly string[]) => names.map((upstream) => firingNotice(server(upstream)))

describe('a messenger', () => {
  it('sends what there is together, and what comes meanwhile next', async () => {
    const { clock, messenger, requests, told } = receiver([], { tookMs: 100, batchSize: 2 })
    messenger.tell(upstreams('a', 'b', 'c'))
    await clock.advance(50)
    messenger.tell(upstreams('d'))
    expect(messenger.waiting()).toBe(4)
    await clock.advance(1000)
    expect(requests.map(({ batch }) => batch.map(({ alert }) => alert.about.upstream))).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
    expect(told).toEqual(['sent 2 in 100 ms', 'sent 2 in 100 ms'])
    expect(messenger.waiting()).toBe(0)
    messenger.tell([resolvedNotice(server('a'))])
    await clock.advance(100)
    expect(requests).toHaveLength(3)
  })

  it('tries again, later and later, with the newest, and as late as it is asked to', async () => {
    const { clock, messenger, requests, told } = receiver([failed, failed, { ...failed, retryAfterMs: 30_000 }, failed])
    messenger.tell(upstreams('a'))
    await clock.advance(100)
    messenger.tell([firingNotice({ ...server('a'), reason: 'newer' })])
    await clock.advance(60_000)
    expect(requests.map(({ atMs }) => atMs)).toEqual([0, 750, 2250, 32_250, 38_250])
    expect(requests.at(-1)?.batch).toEqual([firingNotice({ ...server('a'), reason: 'newer' })])
    expect(told.slice(0, 2)).toEqual(['failed 1 in 0 ms', 'it answered 500: again in 750 ms, 1 waiting'])
    expect(told.at(-1)).toBe('sent 1 in 0 ms')
  })

  it('gives up what is refused, and begins anew with its patience', async () => {
    const { clock, messenger, requests, told } = receiver([failed, { kind: 'rejected', reason: 'it answered 400' }])
    messenger.tell(upstreams('a'))
    await clock.advance(1000)
    expect(messenger.waiting()).toBe(0)
    expect(told.at(-1)).toBe('rejected 1 in 0 ms')
    messenger.tell(upstreams('b'))
    await clock.advance(0)
    expect(requests).toHaveLength(3)
  })

  it('holds a bounded number for a receiver that is away, and counts what it loses', async () => {
    const { clock, messenger, requests, told } = receiver(
      Array.from({ length: 100 }, () => failed),
      { maxWaiting: 3 },
    )
    messenger.tell(upstreams('a', 'b', 'c', 'd', 'e'))
    await clock.advance(300_000)
    expect(messenger.waiting()).toBe(3)
    expect(told.filter((line) => line === 'dropped 1')).toHaveLength(2)
    // One request in 6 s, three quarters of the longest wait: nothing storms.
    expect(requests.length).toBeLessThan(60)
  })

  it('tries once more at the end, whatever it was waiting for', async () => {
    const { clock, messenger, requests, told } = receiver([failed, failed])
    messenger.tell(upstreams('a'))
    await clock.advance(100)
    const stopped = messenger.stop(1000)
    await clock.advance(0)
    await stopped
    expect(requests.map(({ atMs }) => atMs)).toEqual([0, 100])
    expect(told.at(-1)).toBe('dropped 1')
    await clock.advance(100_000)
    expect(requests).toHaveLength(2)
    expect(clock.pending()).toBe(0)
  })

  it('waits a moment at the end for a request under way, and no longer', async () => {
    const quick = receiver([], { tookMs: 500 })
    quick.messenger.tell(upstreams('a'))
    const sent = quick.messenger.stop(1000)
    await quick.clock.advance(500)
    await sent
    expect(quick.told).toEqual(['sent 1 in 500 ms'])

    const slow = receiver([], { tookMs: 5000 })
    slow.messenger.tell(upstreams('a'))
    const left = slow.messenger.stop(1000)
    await slow.clock.advance(1000)
    await left
    expect(slow.told).toEqual(['failed 1 in 1000 ms', 'dropped 1'])
    expect(slow.clock.pending()).toBe(0)
  })
})
