import { describe, expect, it } from 'vitest'
import type { ReceivedAlert } from '../../src/alerts/received.ts'
import { Recoveries } from '../../src/alerts/recoveries.ts'
import { createLogger } from '../../src/log.ts'
import type { RecoveryAction } from '../../src/telemetry/instruments.ts'
import { pipeline } from '../telemetry/fixture.ts'

function recovering() {
  const { clock, recorder, samplesOf } = pipeline()
  const log: Record<string, unknown>[] = []
  const done: string[] = []
  const refusal: { reason: string | undefined } = { reason: undefined }
  const recoveries = new Recoveries({
    clock,
    log: createLogger({
      level: 'info',
      format: 'json',
      isTerminal: false,
      write: (line) => log.push(JSON.parse(line) as Record<string, unknown>),
    }),
    settings: () => ({
      actions: new Map<string, RecoveryAction>([
        ['McpUpstreamDown', 'restart'],
        ['McpHeartbeatSlow', 'probe_now'],
      ]),
      minIntervalMs: 60_000,
    }),
    upstreams: () => ['files', 'mail'],
    recover: (upstream, action) => {
      if (refusal.reason === undefined) done.push(`${action} ${upstream}`)
      return refusal.reason
    },
    instruments: recorder,
  })
  const alert = (name: string, upstream: string, startsAt = '2026-11-22T14:11:10Z'): ReceivedAlert => ({
    status: 'firing',
    labels: { alertname: name, upstream },
    startsAt,
    fingerprint: `${name} ${upstream}`,
  })
  return { clock, recoveries, alert, done, refusal, log, samplesOf }
}

describe('alerts that come in', () => {
  it('are acted upon, answered, counted and logged with who sent them', async () => {
    const { recoveries, alert, done, log, samplesOf } = recovering()
    const down = alert('McpUpstreamDown', 'files')
    const results = recoveries.receive(
      [down, alert('McpHeartbeatSlow', 'mail'), alert('McpUpstreamDown', 'nobody'), { ...down, status: 'resolved' }],
      '10.0.0.7',
    )
    expect(results).toEqual([
      { alert: 'McpUpstreamDown', upstream: 'files', action: 'restart', outcome: 'started' },
      { alert: 'McpHeartbeatSlow', upstream: 'mail', action: 'probe_now', outcome: 'started' },
      { alert: 'McpUpstreamDown', upstream: 'nobody', outcome: 'no_upstream' },
      { alert: 'McpUpstreamDown', upstream: 'files', outcome: 'resolved' },
    ])
    expect(done).toEqual(['restart files', 'probe_now mail'])
    expect(log).toHaveLength(2)
    expect(log[0]).toMatchObject({
      level: 'warn',
      from: '10.0.0.7',
      alert: 'McpUpstreamDown',
      upstream: 'files',
      action: 'restart',
      outcome: 'started',
      fingerprint: 'McpUpstreamDown files',
    })
    expect(await samplesOf('mcp_vitals_received_alerts_total')).toEqual([
      'mcp_vitals_received_alerts_total{outcome="recovery"} 2',
      'mcp_vitals_received_alerts_total{outcome="no_upstream"} 1',
      'mcp_vitals_received_alerts_total{outcome="resolved"} 1',
    ])
    expect(await samplesOf('mcp_vitals_recoveries_total')).toEqual([
      'mcp_vitals_recoveries_total{upstream="files",action="restart",outcome="started"} 1',
      'mcp_vitals_recoveries_total{upstream="mail",action="probe_now",outcome="started"} 1',
    ])
  })

  it('are acted upon once each, and not too often', async () => {
    const { clock, recoveries, alert, done } = recovering()
    const outcomes = (one: ReceivedAlert) => recoveries.receive([one], 'me').map(({ outcome }) => outcome)
    const first = alert('McpUpstreamDown', 'files')
    const second = alert('McpUpstreamDown', 'files', '2026-11-22T14:12:00Z')
    expect([outcomes(first), outcomes(first), outcomes(second)]).toEqual([['started'], ['repeated'], ['limited']])
    await clock.advance(60_000)
    expect([outcomes(second), outcomes(first)]).toEqual([['started'], ['repeated']])
    expect(done).toHaveLength(2)
  })

  it('may be refused, which is no reason to refuse them the next time', () => {
    const { recoveries, alert, refusal } = recovering()
    refusal.reason = 'no process of it runs'
    const one = alert('McpUpstreamDown', 'files')
    expect(recoveries.receive([one], 'me')).toMatchObject([{ outcome: 'refused', reason: 'no process of it runs' }])
    refusal.reason = undefined
    expect(recoveries.receive([one], 'me')).toMatchObject([{ outcome: 'started' }])
  })

  it('have counters that start at 0 for what may happen', async () => {
    const { recoveries, samplesOf } = recovering()
    recoveries.follow()
    const samples = await samplesOf('mcp_vitals_recoveries_total')
    // Two upstreams, two actions, four outcomes.
    expect(samples).toHaveLength(16)
    expect(samples.every((sample) => sample.endsWith(' 0'))).toBe(true)
  })
})
