import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type LegHealth,
  type SessionPing,
  newHealth,
  nextPingMs,
  observePing,
  observeTraffic,
  stateOf,
  worstOf,
} from '../../src/sessions/health.ts'

const unasked = newHealth.session
const meanings = ['answered', 'missed', 'refused', 'nothing', 'forgotten'] as const

/** What is known after these heartbeats, ten seconds apart. */
function after(...said: readonly SessionPing['meaning'][]): LegHealth {
  return said.reduce<LegHealth>(
    (health, meaning, index) => observePing(health, { meaning, atMs: (index + 1) * 10_000, roundTripMs: index + 1 }),
    unasked,
  )
}

describe('the state of one end of a session', () => {
  it.each<{ said: readonly SessionPing['meaning'][]; state: string; roundTripMs?: number }>([
    { said: [], state: 'unasked' },
    { said: ['answered'], state: 'healthy', roundTripMs: 1 },
    { said: ['missed'], state: 'suspect' },
    { said: ['answered', 'missed', 'missed'], state: 'suspect', roundTripMs: 1 },
    { said: ['missed', 'missed', 'missed'], state: 'hung' },
    { said: ['missed', 'missed', 'nothing', 'missed'], state: 'hung' },
    { said: ['missed', 'missed', 'missed', 'refused'], state: 'hung' },
    { said: ['missed', 'missed', 'missed', 'answered'], state: 'healthy', roundTripMs: 4 },
    { said: ['refused'], state: 'unasked' },
    { said: ['nothing', 'nothing'], state: 'unasked' },
    { said: ['answered', 'nothing', 'refused'], state: 'healthy', roundTripMs: 1 },
    { said: ['answered', 'missed', 'forgotten'], state: 'unasked' },
  ])('$said: $state', ({ said, state, roundTripMs }) => {
    const health = after(...said)
    expect([stateOf(health), health.roundTripMs, health.heartbeats]).toEqual([state, roundTripMs, said.length])
  })

  it('is healthy again as soon as the server answers its client', () => {
    expect(stateOf(observeTraffic(after('missed', 'missed', 'missed')))).toBe('healthy')
    const fine = after('answered')
    expect(observeTraffic(fine)).toBe(fine)
  })

  it('of a session is that of its worse end', () => {
    expect(worstOf(newHealth)).toBe('unasked')
    expect(worstOf({ session: unasked, client: after('answered') })).toBe('healthy')
    expect(worstOf({ session: after('missed'), client: after('answered') })).toBe('suspect')
    expect(worstOf({ session: after('answered'), client: after('missed', 'missed', 'missed') })).toBe('hung')
  })

  it('hangs after three misses in a row and no fewer, whatever came before', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...meanings)), (said) => {
        const decisive = said.filter((meaning) => meaning !== 'nothing' && meaning !== 'refused')
        const row = decisive.length - 1 - decisive.findLastIndex((meaning) => meaning !== 'missed')
        expect(stateOf(after(...said)) === 'hung').toBe(row >= 3)
      }),
    )
  })
})

describe('when a session may be asked', () => {
  const minute = 60_000
  it.each([
    { what: 'first, when it was idle for so long', health: unasked, activeMs: 5000, dueMs: 65_000 },
    { what: 'again, as long after', health: after('answered'), activeMs: 5000, dueMs: 70_000 },
    { what: 'later, as its client came back', health: after('answered'), activeMs: 40_000, dueMs: 100_000 },
    { what: 'sooner after a miss', health: after('answered', 'missed'), activeMs: 5000, dueMs: 30_000 },
    { what: 'never with refused credentials', health: after('refused'), activeMs: 5000, dueMs: Infinity },
    { what: 'once the client has shown others', health: after('refused'), activeMs: 30_000, dueMs: 90_000 },
  ])('$what', ({ health, activeMs, dueMs }) => {
    expect(nextPingMs(health, activeMs, minute)).toBe(dueMs)
  })

  it('never while it is used, and never more often than it is told, but for what missed', () => {
    const times = fc.record({ activeMs: fc.nat(1e6), idleMs: fc.integer({ min: 1000, max: 1e6 }) })
    fc.assert(
      fc.property(times, fc.array(fc.constantFrom(...meanings)), ({ activeMs, idleMs }, said) => {
        const health = after(...said)
        const quietMs = nextPingMs(health, activeMs, idleMs) - Math.max(activeMs, health.lastMs)
        expect(quietMs).toBeGreaterThanOrEqual(health.misses > 0 ? Math.min(idleMs, 10_000) : idleMs)
      }),
    )
  })
})
