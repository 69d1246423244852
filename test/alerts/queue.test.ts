import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { verdictAlerts } from '../../src/alerts/names.ts'
import { type NoticeQueue, emptyQueue, nextBatch, offer, sending, settled } from '../../src/alerts/queue.ts'
import { type Notice, keyOf } from '../../src/alerts/tracking.ts'
import { alertOf, firingNotice, resolvedNotice, server } from './fixture.ts'

const queued = (notices: readonly Notice[], from = emptyQueue, max = 10) =>
  notices.reduce((queue, notice) => offer(queue, notice, max).queue, from)
const sent = (queue: NoticeQueue, batch = nextBatch(queue, 10)) => settled(sending(queue, batch), batch)

describe('what waits for a receiver', () => {
  it('is the newest about each alert, in the order of the news', () => {
    const queue = queued([firingNotice(), firingNotice(server('other')), firingNotice({ reason: 'newer' })])
    expect(nextBatch(queue, 10)).toEqual([firingNotice(server('other')), firingNotice({ reason: 'newer' })])
    expect(nextBatch(queue, 1)).toEqual([firingNotice(server('other'))])
  })

  it('is nothing when an alert ends of which the receiver never heard', () => {
    expect(nextBatch(queued([firingNotice(), resolvedNotice()]), 10)).toEqual([])
    expect(nextBatch(queued([resolvedNotice()]), 10)).toEqual([])
  })

  it('is the end of an alert that was sent, even if nobody knows whether it arrived', () => {
    const tried = sending(queued([firingNotice()]), [firingNotice()])
    expect(nextBatch(queued([resolvedNotice()], tried), 10)).toEqual([resolvedNotice()])
    expect(nextBatch(queued([resolvedNotice()], sent(queued([firingNotice()]))), 10)).toEqual([resolvedNotice()])
  })

  it('keeps what came while something older about the same alert was sent', () => {
    const queue = queued([firingNotice()])
    const batch = nextBatch(queue, 10)
    const after = settled(queued([resolvedNotice()], sending(queue, batch)), batch)
    expect(nextBatch(after, 10)).toEqual([resolvedNotice()])
  })

  it('loses the oldest when there is no more room, and says so', () => {
    const full = queued([firingNotice(server('a')), firingNotice(server('b'))], emptyQueue, 2)
    const { queue, dropped } = offer(full, firingNotice(server('c')), 2)
    expect(dropped).toBe(1)
    expect(nextBatch(queue, 10).map(({ alert }) => alert.about.upstream)).toEqual(['b', 'c'])
    expect(offer(full, firingNotice(server('b')), 2).dropped).toBe(0)
  })
})

describe('a receiver that takes what it is sent, now and then', () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constantFrom('fire' as const, 'resolve' as const),
      upstream: fc.constantFrom('a', 'b', 'c'),
      name: fc.constantFrom(...verdictAlerts),
    }),
    // `arrives` is whether the receiver heard, `answers` whether we know.
    fc.record({ do: fc.constant('send' as const), size: fc.integer({ min: 1, max: 4 }), outcome: fc.nat(2) }),
  )

  it('knows in the end which alerts fire, and never hears the end of one of which it did not hear', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const truth = new Set<string>()
        const known = new Set<string>()
        let queue = emptyQueue
        const send = (size: number, arrives: boolean, answers: boolean) => {
          const batch = nextBatch(queue, size)
          queue = sending(queue, batch)
          for (const { kind, alert } of arrives ? batch : []) {
            if (kind === 'firing') known.add(keyOf(alert))
            else known.delete(keyOf(alert))
          }
          if (answers) queue = settled(queue, batch)
        }
        for (const one of steps) {
          if (one.do === 'send') {
            send(one.size, one.outcome > 0, one.outcome > 1)
            continue
          }
          const alert = alertOf({ ...server(one.upstream), name: one.name })
          const key = keyOf(alert)
          if (one.do === 'fire') {
            truth.add(key)
            queue = queued([{ kind: 'firing', alert }], queue, 100)
          } else if (truth.delete(key)) {
            queue = queued(
              [{ kind: 'resolved', alert, endsAtWallMs: alert.startsAtWallMs, now: 'healthy' }],
              queue,
              100,
            )
          }
        }
        while (nextBatch(queue, 1).length > 0) send(3, true, true)
        expect(known).toEqual(truth)
      }),
    )
  })
})
