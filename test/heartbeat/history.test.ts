import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/heartbeat/classify.ts'
import { History, causeOf } from '../../src/heartbeat/history.ts'

const beat = (atWallMs: number, outcome: Outcome = 'ok', reason?: string, method = 'ping') => ({
  atWallMs,
  leg: 'upstream' as const,
  method,
  outcome,
  ...(reason === undefined ? {} : { reason }),
})

describe('History', () => {
  it('keeps the last heartbeats, newest first', () => {
    const history = new History({ recentKept: 3, failuresKept: 2 })
    for (const at of [1, 2, 3, 4]) history.record(beat(at))
    expect(history.recent().map((entry) => entry.atWallMs)).toEqual([4, 3, 2])
  })

  it('keeps failures that many successes would have evicted', () => {
    const history = new History({ recentKept: 3, failuresKept: 2 })
    history.record(beat(1, 'timeout', 'no answer'))
    for (let at = 2; at < 100; at++) history.record(beat(at))
    expect(history.recent().map((entry) => entry.outcome)).toEqual(['ok', 'ok', 'ok'])
    expect(history.failures()).toEqual([beat(1, 'timeout', 'no answer')])
  })

  it('counts all, and as failures what the law calls a failure', () => {
    const history = new History({ recentKept: 1, failuresKept: 1 })
    const outcomes: Outcome[] = ['ok', 'late', 'unsupported', 'unauthorized', 'session_gone', 'inconclusive', 'reset']
    for (const outcome of outcomes) history.record(beat(1, outcome))
    expect(history.counts()).toEqual({ heartbeats: 7, answered: 3, failures: 1 })
  })

  it('keeps and groups who wants credentials, which is no failure by count', () => {
    const history = new History({ recentKept: 1, failuresKept: 1 })
    expect(history.record(beat(1, 'unauthorized', 'HTTP 401'))).toBe('unauthorized on ping: HTTP 401')
    expect(history.failures()).toHaveLength(1)
    expect(history.patterns()).toMatchObject([{ cause: 'unauthorized on ping: HTTP 401', count: 1 }])
    expect(history.counts()).toEqual({ heartbeats: 1, answered: 0, failures: 0 })
  })

  it('takes a cause for news again once it was not seen for an hour', () => {
    const history = new History({ recentKept: 1, failuresKept: 1 })
    const news = [0, 3_599_999, 7_199_998, 10_799_998].map((at) => history.record(beat(at, 'timeout')))
    expect(news).toEqual(['timeout on ping', undefined, undefined, 'timeout on ping'])
    expect(history.patterns()).toMatchObject([{ count: 4 }])
  })

  it('hands out copies', () => {
    const history = new History({ recentKept: 3, failuresKept: 3 })
    const before = history.recent()
    history.record(beat(1))
    expect(before).toEqual([])
  })

  it('groups failures by cause, the most frequent first, with the first and the last time', () => {
    const history = new History({ recentKept: 1, failuresKept: 1 })
    history.record(beat(1, 'refused', 'connect ECONNREFUSED 127.0.0.1:41234'))
    history.record(beat(2, 'timeout', 'no answer within 2000 ms'))
    history.record(beat(9, 'timeout', 'no answer within 2173.5 ms'))
    expect(history.patterns()).toEqual([
      { cause: 'timeout on ping: no answer within # ms', count: 2, firstWallMs: 2, lastWallMs: 9 },
      { cause: 'refused on ping: connect ECONNREFUSED #:#', count: 1, firstWallMs: 1, lastWallMs: 1 },
    ])
  })

  it('keeps so many causes; the one unseen for longest moves to `other`, and no failure is lost', () => {
    const history = new History({ recentKept: 1, failuresKept: 1, patternsKept: 2 })
    const methods = ['a', 'b', 'b', 'a', 'a', 'c']
    methods.forEach((method, at) => history.record(beat(at, 'timeout', undefined, method)))
    expect(history.patterns().map(({ cause, count }) => [cause, count])).toEqual([
      ['timeout on a', 3],
      ['timeout on c', 1],
      ['other', 2],
    ])
    expect(history.patterns().at(-1)).toEqual({ cause: 'other', count: 2, firstWallMs: 1, lastWallMs: 2 })
  })
})

describe('causeOf', () => {
  it.each([
    ['nothing to add', undefined, 'timeout on ping'],
    ['an empty reason', '', 'timeout on ping'],
    ['numbers', 'no answer on port 41234 within 1.25 s', 'timeout on ping: no answer on port # within # s'],
    [
      'no status',
      'HTTP 503 without a JSON-RPC answer: 12 B',
      'timeout on ping: HTTP 503 without a JSON-RPC answer: # B',
    ],
    ['no exit code', 'process 42 exited with code 127', 'timeout on ping: process # exited with code 127'],
    ['no signal', 'process 42 was killed by SIGKILL', 'timeout on ping: process # was killed by SIGKILL'],
    ['no code of an error', 'JSON-RPC error -32603: 7 left', 'timeout on ping: JSON-RPC error -32603: # left'],
    ['no status of what was touched', 'OPTIONS answered with 502', 'timeout on ping: OPTIONS answered with 502'],
    ['ids', 'vitals-3f2a9c1e-0b7d-4e21-9d55-aa10b2c3d4e5 lost', 'timeout on ping: vitals-# lost'],
    ['words stay words', 'deadbeef defaced', 'timeout on ping: deadbeef defaced'],
  ])('generalises %s', (_, reason, expected) => {
    expect(causeOf('timeout', 'ping', reason)).toBe(expected)
  })

  it('is bounded', () => {
    expect(causeOf('timeout', 'ping', 'x'.repeat(1_000_000)).length).toBe(160)
  })
})
