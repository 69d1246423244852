import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ReceivedAlert } from '../../src/alerts/received.ts'
import { askedBy, noRecoveries, permit, remember } from '../../src/alerts/recovery.ts'
import { type RecoveryAction, recoveryActions } from '../../src/telemetry/instruments.ts'

const actions = new Map<string, RecoveryAction>([['McpUpstreamDown', 'restart']])
const isUpstream = (name: string) => name === 'files'
const alert: ReceivedAlert = {
  status: 'firing',
  labels: { alertname: 'McpUpstreamDown', upstream: 'files', action: 'drain', command: 'rm -rf /' },
  startsAt: '2026-11-22T14:11:10Z',
  fingerprint: 'abc',
}

describe('what an alert asks for', () => {
  it('is the action that the configuration has for its name, on the upstream of its label, and nothing else', () => {
    expect(askedBy(alert, actions, isUpstream)).toEqual({
      kind: 'recovery',
      request: { upstream: 'files', action: 'restart', occurrence: 'abc\u00002026-11-22T14:11:10Z' },
    })
  })

  it.each<[string, Partial<ReceivedAlert>]>([
    ['resolved', { status: 'resolved' }],
    ['no_action', { labels: { alertname: 'Other', upstream: 'files' } }],
    ['no_action', { labels: { upstream: 'files' } }],
    ['no_upstream', { labels: { alertname: 'McpUpstreamDown', upstream: 'nobody' } }],
    ['no_upstream', { labels: { alertname: 'McpUpstreamDown' } }],
    ['no_upstream', { labels: { alertname: 'McpUpstreamDown', upstream: '__proto__' } }],
  ])('is nothing: %s', (kind, changes) => {
    expect(askedBy({ ...alert, ...changes }, actions, isUpstream)).toEqual({ kind })
  })
})

describe('what was asked for', () => {
  const request = { upstream: 'files', action: 'restart', occurrence: 'one' } as const

  it('is done once for one occurrence, and not too soon after the last', () => {
    expect(permit(noRecoveries, request, 0, 60_000)).toBe('go')
    const memory = remember(noRecoveries, request, 0, 10)
    expect(permit(memory, request, 1e9, 60_000)).toBe('repeated')
    const next = { ...request, occurrence: 'two' }
    expect(permit(memory, next, 59_999, 60_000)).toBe('limited')
    expect(permit(memory, next, 60_000, 60_000)).toBe('go')
    expect(permit(memory, { ...next, upstream: 'other' }, 0, 60_000)).toBe('go')
    expect(permit(memory, { ...next, action: 'probe_now' }, 0, 60_000)).toBe('go')
  })

  it('is never done twice for one occurrence that is remembered, nor twice in the interval, and memory is bounded', () => {
    const asked = fc.record({
      upstream: fc.constantFrom('a', 'b'),
      action: fc.constantFrom(...recoveryActions),
      occurrence: fc.constantFrom('1', '2', '3', '4', '5', '6'),
      afterMs: fc.integer({ min: 0, max: 40_000 }),
    })
    fc.assert(
      fc.property(fc.array(asked, { maxLength: 100 }), (all) => {
        let memory = noRecoveries
        let nowMs = 0
        const started: { readonly place: string; readonly occurrence: string; readonly atMs: number }[] = []
        for (const { afterMs, ...one } of all) {
          nowMs += afterMs
          if (permit(memory, one, nowMs, 60_000) !== 'go') continue
          memory = remember(memory, one, nowMs, 100)
          started.push({ place: `${one.upstream} ${one.action}`, occurrence: one.occurrence, atMs: nowMs })
        }
        expect(new Set(started.map(({ place, occurrence }) => `${place} ${occurrence}`)).size).toBe(started.length)
        for (const [index, { place, atMs }] of started.entries()) {
          const before = started.slice(0, index).findLast((one) => one.place === place)
          if (before) expect(atMs - before.atMs).toBeGreaterThanOrEqual(60_000)
        }
      }),
    )
    let memory = noRecoveries
    for (let n = 0; n < 50; n++) memory = remember(memory, { ...request, occurrence: String(n) }, n, 10)
    expect(memory.done.size).toBe(10)
    expect(permit(memory, { ...request, occurrence: '49' }, 1e9, 0)).toBe('repeated')
  })
})
