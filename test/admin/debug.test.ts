import { describe, expect, it } from 'vitest'
import { debugReport, debugReportSchema } from '../../src/admin/debug.ts'
import { firstOffsetMs } from '../../src/heartbeat/interval.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import { monitoring } from './fixture.ts'

const config = { heartbeat_interval: 10, adaptive_enabled: true, performance_monitoring: true, last_reload: null }

const usage = { atMs: 0, residentBytes: 8192, cpuSeconds: 1.5, threads: 4, children: 2, orphans: 1, isStopped: false }

/** `/debug/heartbeat` at this moment, checked against the schema that ships. */
async function reportOf({ clock, reader, upstreams }: ReturnType<typeof monitoring>, sessions = directoryOf(clock)) {
  const report = debugReport({
    upstreams,
    sessions: [...sessions.all()],
    metrics: await reader.snapshot(),
    nowMs: clock.now(),
    wallMs: clock.wallTime(),
    silentTogether: [],
    processTable: { usageOf: (pid) => (pid === 42 ? usage : undefined), openFdsOf: () => 12 },
    config,
  })
  return debugReportSchema.parse(report)
}

function directoryOf(clock: ReturnType<typeof monitoring>['clock']) {
  return new SessionDirectory({
    clock,
    maxTracked: 10,
    cleanupIntervalMs: () => 60_000,
    idleLimitMs: () => 60_000,
    onStart: () => undefined,
    onEnd: () => {},
  })
}

describe('/debug/heartbeat (design.md)', () => {
  it('is right by its schema with no upstream at all', async () => {
    expect(await reportOf(monitoring())).toEqual({
      heartbeat_enabled: true,
      timestamp: '2026-01-01T00:00:00.000Z',
      overall_metrics: {
        total_sessions: 0,
        total_heartbeats: 0,
        successful_heartbeats: 0,
        failed_heartbeats: 0,
        overall_success_rate: null,
        average_response_time_ms: 0,
        sessions_with_issues: 0,
      },
      silent_together: [],
      upstreams: {},
      sessions: {},
      config,
    })
  })

  it('says what is known of an upstream before its first answer', async () => {
    const test = monitoring()
    test.add('files', { checks: [{ opening: true, outcome: 'silence' }], openingDeadlineMs: 60_000 })
    await test.clock.advance(1000)
    expect((await reportOf(test)).upstreams['files']).toMatchObject({
      state: 'starting',
      reason: 'it has not answered yet',
      next_probe_in_seconds: null,
      last_success: null,
      response_time_ms: { p50: null, p95: null, p99: null },
      heartbeats: { total: 0, failed: 0, success_rate_percent: null },
      tools: null,
      recent: [],
      process: null,
      connections: null,
    })
  })

  it('adds up: rates and times come from the exported histogram', async () => {
    const test = monitoring()
    const { prober } = test.add('files', { afterMs: 20, tools: ['read', 'write'] })
    // Answered at once three times after 20 ms each, then refused twice; the interval is 10 s.
    const offsetMs = firstOffsetMs('files', 'pod', 10_000)
    await test.clock.advance(offsetMs + 10_000 + 20)
    prober.play({ outcome: 'refused', reason: 'connect ECONNREFUSED 127.0.0.1:9' })
    await test.clock.advance(20_000)
    const report = await reportOf(test)
    expect(report.overall_metrics).toMatchObject({
      total_heartbeats: 5,
      successful_heartbeats: 3,
      failed_heartbeats: 2,
      overall_success_rate: 60,
      average_response_time_ms: 20,
    })
    const { files } = report.upstreams
    expect(files).toMatchObject({
      state: 'down',
      reason: 'connect ECONNREFUSED 127.0.0.1:9',
      // The fourth probe, at offset + 20 s, was refused; now is 20 ms after the fifth.
      since: new Date(test.clock.wallTime() - 10_020).toISOString(),
      unavailable_seconds: 10.02,
      heartbeats: { total: 5, failed: 2, success_rate_percent: 60 },
      interval_seconds: 10,
      next_probe_in_seconds: 9.98,
      last_success: new Date(test.clock.wallTime() - 20_000).toISOString(),
      tools: 2,
    })
    // All three answers are in one bucket, so every quantile is a share of it (as histogram_quantile has it).
    expect(files?.response_time_ms.p50).toBeGreaterThan(0)
    expect(files?.response_time_ms.p99).toBeLessThanOrEqual(50)
    expect(files?.recent.map(({ outcome }) => outcome)).toEqual(['refused', 'refused', 'ok', 'ok', 'ok'])
    expect(files?.failures).toHaveLength(2)
    expect(files?.patterns).toEqual([
      {
        cause: 'refused on ping: connect ECONNREFUSED #:#',
        count: 2,
        first: new Date(test.clock.wallTime() - 10_020).toISOString(),
        last: new Date(test.clock.wallTime() - 20).toISOString(),
      },
    ])
  })

  it('averages over all upstreams by heartbeat, not by upstream', async () => {
    const test = monitoring()
    test.add('fast', { afterMs: 10 })
    test.add('slow', { afterMs: 1000 })
    await test.clock.advance(firstOffsetMs('fast', 'pod', 10_000) + 10)
    const report = await reportOf(test)
    const counts = Object.values(report.upstreams).map(({ heartbeats }) => heartbeats.total)
    const [fast = 0, slow = 0] = counts
    const mean = (fast * 10 + slow * 1000) / (fast + slow)
    expect(report.overall_metrics.total_heartbeats).toBe(fast + slow)
    expect(report.overall_metrics.average_response_time_ms).toBeCloseTo(mean, 3)
  })

  it('shows processes, the first of them as the process', async () => {
    const test = monitoring()
    const view = (pid: number, role: 'resident' | 'session', session?: string) => ({
      pid,
      role,
      session,
      startedAtWallMs: Date.UTC(2026, 0, 1),
      stderrTail: `says ${pid}`,
    })
    test.add(
      'files',
      {},
      { processes: () => [view(41, 'resident'), view(42, 'session', 'a1b2c3d4')], restarts: () => 3 },
    )
    const lastEnded = () => ({
      pid: 40,
      endedAtWallMs: Date.UTC(2026, 0, 1, 0, 0, 1),
      how: 'exited with code 1',
      stderrTail: 'no such database',
    })
    test.add('gone', {}, { processes: () => [], lastEnded, restarts: () => 7, nextStartInMs: () => 29_500 })
    await test.clock.advance(0)
    const { upstreams } = await reportOf(test)
    const started = '2026-01-01T00:00:00.000Z'
    expect(upstreams['files']?.process).toEqual({
      pid: 41,
      restarts: 3,
      next_start_in_seconds: null,
      started,
      stderr_tail: 'says 41',
      last_ended: null,
      all: [
        { pid: 41, role: 'resident', session: null, started, stderr_tail: 'says 41', usage: null },
        {
          pid: 42,
          role: 'session',
          session: 'a1b2c3d4',
          started,
          stderr_tail: 'says 42',
          usage: {
            resident_memory_bytes: 8192,
            cpu_seconds: 1.5,
            open_fds: 12,
            threads: 4,
            children: 2,
            orphans: 1,
          },
        },
      ],
    })
    expect(upstreams['gone']?.process).toEqual({
      pid: null,
      restarts: 7,
      next_start_in_seconds: 29.5,
      started: null,
      stderr_tail: '',
      last_ended: {
        pid: 40,
        at: '2026-01-01T00:00:01.000Z',
        how: 'exited with code 1',
        stderr_tail: 'no such database',
      },
      all: [],
    })
  })

  it('shows sessions under their hash, and counts those that hang or whose server is unavailable', async () => {
    const test = monitoring()
    test.add('files')
    test.add('dead', { outcome: 'refused' })
    await test.clock.advance(1000)
    const directory = directoryOf(test.clock)
    const client = { ip: '192.0.2.7', userAgent: 'agent/1', name: 'inspector' }
    for (const [id, upstream] of [
      ['s1', 'files'],
      ['s2', 'dead'],
      ['s3', 'dead'],
    ] as const) {
      directory.add({ id, upstream, transport: 'http', client, protocolVersion: '2025-11-25' })
    }
    const session = directory.get('files', 's1')
    if (session) {
      const before = session.health.session
      session.health = { ...session.health, session: { ...before, heartbeats: 4, misses: 3, lastMs: 2000 } }
    }
    await test.clock.advance(5000)
    const report = await reportOf(test, directory)
    expect(report.overall_metrics).toMatchObject({ total_sessions: 3, sessions_with_issues: 3 })
    expect(JSON.stringify(report)).not.toContain('"s1"')
    expect(Object.values(report.sessions)[0]).toEqual({
      upstream: 'files',
      transport: 'http',
      protocol_version: '2025-11-25',
      client_name: 'inspector',
      client_ip: '192.0.2.7',
      user_agent: 'agent/1',
      age_seconds: 5,
      idle_seconds: 5,
      pending_messages: 0,
      open_streams: 0,
      messages: 0,
      state: 'hung',
      heartbeats: {
        session: { state: 'hung', heartbeats: 4, misses: 3, round_trip_ms: null, seconds_ago: 4 },
        client: { state: 'unasked', heartbeats: 0, misses: 0, round_trip_ms: null, seconds_ago: null },
      },
    })
  })
})
