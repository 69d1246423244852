import { describe, expect, it } from 'vitest'
import { conditionOf } from '../../src/alerts/condition.ts'
import { verdictAlerts } from '../../src/alerts/names.ts'
import { type State, states } from '../../src/heartbeat/verdict.ts'
import { verdict } from './fixture.ts'

const [on, off, may] = ['on', 'off', 'undecided']

/** What each state says about each alert, in the order of `verdictAlerts`. */
const table: Readonly<Record<State, readonly (string | undefined)[]>> = {
  //           Down CrashLooping NeedsAuth InventoryShrank SessionsWithIssues
  starting: [may, may, may, may, may],
  healthy: [off, off, off, off, off],
  suspect: [off, off, off, off, off],
  busy: [off, off, off, off, off],
  degraded: [off, off, off, off, off],
  recovering: [may, may, may, may, may],
  down: [on, may, may, may, may],
  crash_loop: [may, on, may, may, may],
  needs_auth: [may, off, on, may, may],
  idle: [off, off, off, off, off],
  paused: [off, off, off, off, off],
  disabled: [off, off, off, off, off],
}

describe('what a verdict says about alerts', () => {
  it.each(states)('%s', (state) => {
    expect(verdictAlerts.map((alert) => conditionOf(alert, verdict(state), false).kind)).toEqual(table[state])
  })

  it('tells lost tools from sessions that hang where a server is degraded', () => {
    const both = verdict('degraded', { different: '1 gone (echo)', hung: '1 of 3 sessions hangs', sinceMs: 5 })
    expect(conditionOf('McpInventoryShrank', both, false)).toEqual({ kind: 'on', reason: '1 gone (echo)', sinceMs: 5 })
    expect(conditionOf('McpSessionsWithIssues', both, false)).toMatchObject({
      kind: 'on',
      reason: '1 of 3 sessions hangs',
    })
    expect(conditionOf('McpInventoryShrank', verdict('degraded', { hung: 'one' }), false)).toEqual({ kind: 'off' })
  })

  it('leaves open whether a server is down that fell silent together with most others', () => {
    const kinds = verdictAlerts.map((alert) => conditionOf(alert, verdict('down'), true).kind)
    expect(kinds).toEqual(verdictAlerts.map(() => 'undecided'))
    expect(conditionOf('McpUpstreamDown', verdict('healthy'), true).kind).toBe('off')
  })

  it('dates an outage back to the first failure, and a crash loop to its beginning', () => {
    const facts = { sinceMs: 30_000, failingSinceMs: 10_000 }
    expect(conditionOf('McpUpstreamDown', verdict('down', facts), false)).toMatchObject({ sinceMs: 10_000 })
    expect(conditionOf('McpUpstreamNeedsAuth', verdict('needs_auth', facts), false)).toMatchObject({ sinceMs: 10_000 })
    expect(conditionOf('McpProcessCrashLooping', verdict('crash_loop', facts), false)).toMatchObject({
      sinceMs: 30_000,
    })
    expect(conditionOf('McpUpstreamDown', verdict('down', { sinceMs: 30_000 }), false)).toMatchObject({
      sinceMs: 30_000,
    })
  })
})
