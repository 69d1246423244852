import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type SessionLimits, type SessionParties, fateOf, keptForOthers, refusalOf } from '../../src/sessions/limits.ts'
import { newHealth } from '../../src/sessions/health.ts'
import { Questions } from '../../src/sessions/questions.ts'
import type { Session } from '../../src/sessions/session.ts'

const between = (upstream: string, ip: string): SessionParties => ({ upstream, client: { ip } })
const limits: SessionLimits = {
  total: 4,
  perClient: 2,
  perUpstream: (name) => (name === 'tight' ? 1 : 3),
  upstreams: ['files', 'mail', 'web', 'tight'],
}

describe('one more session', () => {
  it.each([
    { what: 'the first', open: [], next: between('files', 'a'), code: undefined },
    { what: 'the last that fits', open: ['files b', 'mail b', 'mail c'], next: between('web', 'a'), code: undefined },
    {
      what: 'the last that fits, while others have none',
      open: ['files b', 'mail b', 'mail c'],
      next: between('files', 'a'),
      code: 'too_many_sessions',
      message: '3 sessions are open, and what max_sessions (4) leaves is kept for servers with fewer than files has',
    },
    {
      what: 'above the limit of its client, with whatever server',
      open: ['files a', 'mail a'],
      next: between('web', 'a'),
      code: 'too_many_client_sessions',
      message: '2 sessions of clients at a are open, which is max_sessions_per_client',
    },
    {
      what: 'above the limit of its server, from whatever client',
      open: ['tight b'],
      next: between('tight', 'a'),
      code: 'too_many_upstream_sessions',
      message: '1 sessions with tight are open, which is its max_sessions',
    },
    {
      what: 'above the limit of all',
      open: ['files b', 'files c', 'mail b', 'mail c'],
      next: between('web', 'a'),
      code: 'too_many_sessions',
      message: '4 sessions are open, which is max_sessions',
    },
    {
      what: 'above all three, of which the widest is told',
      open: ['tight a', 'tight a', 'mail a', 'mail a'],
      next: between('tight', 'a'),
      code: 'too_many_sessions',
    },
  ])('$what', ({ open, next, code, message }) => {
    const parties = open.map((one) => between(one.split(' ')[0] ?? '', one.split(' ')[1] ?? ''))
    const refusal = refusalOf(next, parties, limits)
    expect(refusal?.code).toBe(code)
    if (message !== undefined) expect(refusal?.message).toBe(message)
  })
})

describe('the places that are kept for others', () => {
  const named = (count: number) => Array.from({ length: count }, (_, index) => `s${index}`)
  const some = (name: string, count: number) => Array.from({ length: count }, () => ({ upstream: name }))
  it.each([
    { what: 'none where there are no others', total: 100, servers: 1, open: some('s0', 99), kept: 0 },
    { what: 'a share for the other of two', total: 100, servers: 2, open: some('s0', 12), kept: 12 },
    {
      what: 'what the other lacks of it',
      total: 100,
      servers: 2,
      open: [...some('s0', 50), ...some('s1', 10)],
      kept: 2,
    },
    { what: 'none for one that lacks some itself', total: 100, servers: 2, open: some('s0', 11), kept: 0 },
    { what: 'a share for each of nine others', total: 100, servers: 10, open: some('s0', 80), kept: 18 },
    { what: 'one place each for as many as a quarter holds', total: 100, servers: 26, open: some('s0', 1), kept: 25 },
    { what: 'a quarter at most', total: 100, servers: 500, open: some('s0', 1), kept: 25 },
    { what: 'no more than the other may have', total: 100, servers: 2, most: 3, open: some('s0', 50), kept: 3 },
    { what: 'none of so few', total: 3, servers: 2, open: some('s0', 2), kept: 0 },
  ])('$what: $kept', ({ total, servers, most = total, open, kept }) => {
    const perUpstream = (name: string) => (name === 's0' ? total : most)
    expect(keptForOthers('s0', open, { total, perUpstream, upstreams: named(servers) })).toBe(kept)
  })

  it('leave everybody a share, whatever the others opened before; and none is in vain', () => {
    const counts = fc.array(fc.nat(300), { minLength: 2, maxLength: 25 })
    fc.assert(
      fc.property(fc.integer({ min: 100, max: 200 }), counts, (total, wishes) => {
        const upstreams = named(wishes.length)
        const limits: SessionLimits = { total, perClient: total, perUpstream: () => total, upstreams }
        const open: SessionParties[] = []
        const openAll = (name: string, count: number) => {
          for (let one = 0; one < count && !refusalOf(between(name, 'a'), open, limits); one++) {
            open.push(between(name, 'a'))
          }
          return open.filter(({ upstream }) => upstream === name).length
        }
        const share = Math.floor(Math.floor(total / 4) / upstreams.length)
        wishes.forEach((wish, index) => {
          expect(openAll(`s${index}`, wish)).toBeGreaterThanOrEqual(Math.min(wish, share))
        })
        for (const name of upstreams) openAll(name, total)
        expect(open.length).toBe(total)
      }),
    )
  })
})

const session = (change: Partial<Session> = {}): Session => ({
  key: '',
  id: '',
  upstream: 'files',
  transport: 'http',
  client: { ip: '', userAgent: '' },
  startedAtMs: 0,
  startedAtWallMs: 0,
  protocolVersion: undefined,
  lastActiveMs: 0,
  pending: 0,
  openStreams: 0,
  questions: new Questions(),
  messages: 0,
  health: newHealth,
  serverPeer: undefined,
  clientPeer: undefined,
  endings: new Set(),
  ...change,
})

const ends = (end: string) => ({ kind: 'ends', end })
const lives = (lookAgainInMs: number) => ({ kind: 'lives', lookAgainInMs })

describe('the fate of a session that may be idle for 300 ms and 1000 ms old', () => {
  it.each([
    { what: 'new', change: {}, atMs: 0, fate: lives(300) },
    { what: 'idle, not yet long enough', change: { lastActiveMs: 100 }, atMs: 399, fate: lives(1) },
    { what: 'idle for long enough', change: { lastActiveMs: 100 }, atMs: 400, fate: ends('expired') },
    { what: 'with an open stream', change: { openStreams: 1 }, atMs: 600, fate: lives(300) },
    { what: 'with a request under way', change: { pending: 1 }, atMs: 600, fate: lives(300) },
    { what: 'busy, and soon too old', change: { openStreams: 1 }, atMs: 990, fate: lives(10) },
    { what: 'too old, whatever stream is open', change: { openStreams: 1 }, atMs: 1000, fate: ends('too_old') },
    { what: 'too old, but with a request under way', change: { pending: 1 }, atMs: 1000, fate: lives(1000) },
    { what: 'too old, just after its last answer', change: { lastActiveMs: 1700 }, atMs: 1700, fate: ends('too_old') },
  ])('$what', ({ change, atMs, fate }) => {
    expect(fateOf(session(change), { idleMs: 300, maxAgeMs: 1000 }, atMs)).toEqual(fate)
  })

  it('is not looked at too late: until then nothing that happens can make it end', () => {
    const ms = fc.integer({ min: 0, max: 5000 })
    const busy = fc.record({ pending: fc.integer({ min: 0, max: 2 }), openStreams: fc.integer({ min: 0, max: 1 }) })
    const idle = fc.integer({ min: 1, max: 5000 })
    const maxAge = fc.oneof(fc.constant(Infinity), ms)
    fc.assert(
      fc.property(ms, idle, maxAge, busy, busy, fc.double({ min: 0, max: 0.999, noNaN: true }), (...values) => {
        const [lastActiveMs, idleMs, maxAgeMs, before, after, part] = values
        const nowMs = 5000
        const fate = fateOf(session({ ...before, lastActiveMs }), { idleMs, maxAgeMs }, nowMs)
        if (fate.kind === 'ends' || maxAgeMs <= nowMs) return
        const laterMs = nowMs + fate.lookAgainInMs * part
        const wasBusy = before.pending + before.openStreams > 0
        const later = session({ ...after, lastActiveMs: wasBusy ? nowMs : lastActiveMs })
        expect(fateOf(later, { idleMs, maxAgeMs }, laterMs).kind).toBe('lives')
      }),
    )
  })
})
