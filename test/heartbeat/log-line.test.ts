import { describe, expect, it } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import type { Outcome } from '../../src/heartbeat/classify.ts'
import { firstDecision } from '../../src/heartbeat/interval.ts'
import { type LogLineInput, LogPacer, heartbeatFields, levelOf, shortened } from '../../src/heartbeat/log-line.ts'
import type { ProbeResult } from '../../src/heartbeat/probe.ts'
import { newVerdict } from '../../src/heartbeat/verdict.ts'
import { newHealth } from '../../src/sessions/health.ts'
import { Questions } from '../../src/sessions/questions.ts'
import type { Session } from '../../src/sessions/session.ts'
import { intervalSettings } from '../support/settings.ts'

const interval = firstDecision(intervalSettings)

const session: Session = {
  key: 'a1b2c3d4',
  id: 'the-secret-id',
  upstream: 'files',
  transport: 'http',
  client: { ip: '192.0.2.7', userAgent: `agent/${'x'.repeat(60)}`, name: 'client' },
  startedAtMs: 10_000,
  startedAtWallMs: 0,
  protocolVersion: '2025-11-25',
  lastActiveMs: 70_000,
  pending: 2,
  openStreams: 0,
  questions: new Questions(),
  messages: 9,
  health: newHealth,
  serverPeer: undefined,
  clientPeer: undefined,
  endings: new Set(),
}

function inputOf(changes: Partial<LogLineInput> = {}, result: Partial<ProbeResult> = {}): LogLineInput {
  return {
    upstream: 'files',
    transport: 'stdio',
    protocolVersion: '2025-11-25',
    report: {
      result: {
        leg: 'upstream',
        method: 'ping',
        outcome: 'ok',
        durationMs: 12.3456,
        reason: 'ping answered',
        ...result,
      },
      startedAtWallMs: 0,
      timeoutMs: 2000.4,
    },
    status: {
      verdict: newVerdict('healthy', 'it answers', 0),
      interval: { ...interval, inputs: { ...interval.inputs, e: 0.0123 } },
      timeoutMs: 4000,
      nextProbeInMs: 9876,
      lastSuccessWallMs: 0,
      inventory: undefined,
      unasked: undefined,
      unavailableSeconds: 0,
      flapPenalty: 0,
      probe: 'active',
      rung: 'ping',
      pausedUntilWallMs: undefined,
    },
    totals: { heartbeats: 40, answered: 39, failures: 1 },
    session: undefined,
    pendingMessages: 5,
    nowMs: 75_500,
    traceId: '0af7651916cd43dd8448eb211c80319c',
    includeClient: true,
    includePerformance: true,
    ...changes,
  }
}

describe('the heartbeat log line (design.md, "The heartbeat log line")', () => {
  it('has all its fields; ts, level and msg come from the logger', () => {
    expect(heartbeatFields(inputOf({ session }))).toEqual({
      upstream: 'files',
      transport: 'stdio',
      leg: 'upstream',
      protocol_version: '2025-11-25',
      session: 'a1b2c3d4',
      method: 'ping',
      outcome: 'ok',
      response_time_ms: 12.35,
      heartbeat_count: 40,
      interval_seconds: 10,
      next_in_seconds: 9.9,
      timeout_ms: 2000,
      success_rate_percent: 97.5,
      error_rate_percent: 1.23,
      state: 'healthy',
      reason: 'it answers',
      session_age_seconds: 65.5,
      pending_messages: 2,
      client_ip: '192.0.2.7',
      user_agent: `agent/${'x'.repeat(44)}…`,
      trace_id: '0af7651916cd43dd8448eb211c80319c',
    })
  })

  it('never holds the id of a session', () => {
    expect(JSON.stringify(heartbeatFields(inputOf({ session })))).not.toContain('the-secret-id')
  })

  it('has the same fields without a session, and counts what is pending for the whole upstream', () => {
    const fields = heartbeatFields(inputOf())
    expect(Object.keys(fields)).toEqual(Object.keys(heartbeatFields(inputOf({ session }))))
    const none = { session: null, session_age_seconds: null, client_ip: null, user_agent: null }
    expect(fields).toMatchObject({ ...none, pending_messages: 5 })
  })

  it('names the hashed session that was probed even when it is tracked no more', () => {
    expect(heartbeatFields(inputOf({}, { session: 'ffff0000' })).session).toBe('ffff0000')
  })

  it('tells why the heartbeat failed; of one that was answered, why the state is what it is', () => {
    const failed = { outcome: 'refused', reason: 'connect ECONNREFUSED' } as const
    expect(heartbeatFields(inputOf({}, failed)).reason).toBe('connect ECONNREFUSED')
    expect(heartbeatFields(inputOf({}, { outcome: 'late', reason: 'slow' })).reason).toBe('it answers')
  })

  it('leaves out what is switched off', () => {
    const fields = Object.keys(heartbeatFields(inputOf({ session, includeClient: false, includePerformance: false })))
    const off = ['client_ip', 'user_agent', 'success_rate_percent', 'error_rate_percent']
    expect(fields.filter((name) => off.includes(name))).toEqual([])
    expect(fields.length + 3).toBeGreaterThanOrEqual(15)
  })

  it('tells no success rate where none was a success or a failure, and the interval while nothing is planned', () => {
    const { status } = inputOf()
    const input = inputOf({
      totals: { heartbeats: 0, answered: 0, failures: 0 },
      status: { ...status, nextProbeInMs: undefined },
    })
    expect(heartbeatFields(input)).toMatchObject({ success_rate_percent: null, next_in_seconds: 10 })
  })
})

it.each([
  ['', ''],
  ['x'.repeat(50), 'x'.repeat(50)],
  ['x'.repeat(51), `${'x'.repeat(50)}…`],
  ['🙂'.repeat(50), '🙂'.repeat(50)],
  ['🙂'.repeat(51), `${'🙂'.repeat(50)}…`],
])('cuts a user agent at 50 characters: %s', (userAgent, text) => {
  expect(shortened(userAgent)).toBe(text)
})

describe('the level', () => {
  it.each<[Outcome, boolean, 'info' | 'warn']>([
    ['ok', true, 'info'],
    ['ok', false, 'warn'],
    ['timeout', false, 'warn'],
    ['inconclusive', false, 'info'],
  ])('of %s (routine: %s) is %s', (outcome, isRoutine, level) => expect(levelOf(outcome, isRoutine)).toBe(level))
})

describe('the pace', () => {
  const intervalMs = defaults.heartbeat.logIntervalSeconds * 1000

  it('is one line per target and interval for routine successes, and every other heartbeat', () => {
    const pacer = new LogPacer()
    expect(pacer.isDue({ target: '', isRoutine: true, nowMs: 0, intervalMs })).toBe(true)
    expect(pacer.isDue({ target: '', isRoutine: true, nowMs: intervalMs - 1, intervalMs })).toBe(false)
    expect(pacer.isDue({ target: 'a', isRoutine: true, nowMs: intervalMs - 1, intervalMs })).toBe(true)
    expect(pacer.isDue({ target: '', isRoutine: false, nowMs: intervalMs - 1, intervalMs })).toBe(true)
    expect(pacer.isDue({ target: '', isRoutine: false, nowMs: intervalMs - 1, intervalMs })).toBe(true)
    expect(pacer.isDue({ target: '', isRoutine: true, nowMs: intervalMs, intervalMs })).toBe(true)
    expect(pacer.isDue({ target: '', isRoutine: true, nowMs: intervalMs + 1, intervalMs })).toBe(false)
  })

  it('is not kept for targets that are long gone', () => {
    const pacer = new LogPacer()
    for (let session = 0; session < 10_000; session++)
      pacer.isDue({ target: `session ${session}`, isRoutine: true, nowMs: session * 1000, intervalMs })
    expect(pacer.size).toBeLessThanOrEqual(60)
  })
})
