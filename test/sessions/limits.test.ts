import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type SessionParties, fateOf, refusalOf } from '../../src/sessions/limits.ts'
import { newHealth } from '../../src/sessions/health.ts'
import { Questions } from '../../src/sessions/questions.ts'
import type { Session } from '../../src/sessions/session.ts'

const between = (upstream: string, ip: string): SessionParties => ({ upstream, client: { ip } })
const limits = { total: 4, perClient: 2, perUpstream: (name: string) => (name === 'tight' ? 1 : 3) }

describe('one more session', () => {
  it.each([
    { what: 'the first', open: [], next: between('files', 'a'), code: undefined },
    { what: 'the last that fits', open: ['files b', 'mail b', 'mail c'], next: between('files', 'a'), code: undefined },
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
