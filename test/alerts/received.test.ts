import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { webhookMessage } from '../../src/alerts/messages.ts'
import { receivedAlerts } from '../../src/alerts/received.ts'
import { firingNotice } from './fixture.ts'

const alert = {
  status: 'firing',
  labels: { alertname: 'McpUpstreamDown', upstream: 'files' },
  annotations: { summary: 'x' },
  startsAt: '2026-11-22T14:11:10.773+01:00',
  endsAt: '0001-01-01T00:00:00Z',
  fingerprint: '29b28526f0521b77',
}
const payload = { version: '4', status: 'firing', groupKey: '{}', truncatedAlerts: 0, alerts: [alert] }

/** What is said of a payload that differs from a good one. */
function problemOf(changed: object): string {
  const received = receivedAlerts(JSON.stringify(changed))
  return received.kind === 'invalid' ? received.problem : received.kind
}

// https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
describe('the body of a webhook of Alertmanager', () => {
  it('is read for what matters', () => {
    const { status, labels, startsAt, fingerprint } = alert
    expect(receivedAlerts(JSON.stringify(payload))).toEqual({
      kind: 'alerts',
      alerts: [{ status, labels, startsAt, fingerprint }],
    })
  })

  it('may be one of ours', () => {
    const wording = { labels: {}, externalUrl: 'http://127.0.0.1', redact: (text: string) => text }
    expect(receivedAlerts(JSON.stringify(webhookMessage(firingNotice(), wording)))).toMatchObject({ kind: 'alerts' })
  })

  it.each<[string, object, string]>([
    ['another version', { ...payload, version: '3' }, 'version: "3" is not one of "4"'],
    ['no version', { alerts: [] }, 'version: a missing value is not one of "4"'],
    ['no alerts', { version: '4' }, 'alerts: a missing value is not a list'],
    ['alerts that are none', { ...payload, alerts: ['x'] }, 'alerts[0]: "x" is not a mapping'],
    [
      'a state that does not exist',
      { ...payload, alerts: [alert, { ...alert, status: 'pending' }] },
      'alerts[1].status: "pending" is not one of "firing", "resolved"',
    ],
    [
      'a label that is no text',
      { ...payload, alerts: [{ ...alert, labels: { upstream: 7 } }] },
      'alerts[0].labels.upstream: 7 is not a text',
    ],
    [
      'a time that is none',
      { ...payload, alerts: [{ ...alert, startsAt: 'yesterday' }] },
      'alerts[0].startsAt: "yesterday" is not a time as in RFC 3339',
    ],
    [
      'an empty fingerprint',
      { ...payload, alerts: [{ ...alert, fingerprint: '' }] },
      'alerts[0].fingerprint: "" is empty',
    ],
    [
      'a long one',
      { ...payload, alerts: [{ ...alert, fingerprint: 'f'.repeat(2000) }] },
      `alerts[0].fingerprint: "${'f'.repeat(79)}… has more than 128 characters`,
    ],
    ['nothing of it', [], 'the body: [] is not a mapping'],
  ])('with %s is refused with the value and the rule', (_what, changed, problem) => {
    expect(problemOf(changed)).toBe(problem)
  })

  it.each(['', '{', 'nonsense', '{"version":"4"'])('that is %j is no JSON', (text) => {
    const received = receivedAlerts(text)
    expect(received).toEqual({ kind: 'invalid', problem: expect.stringMatching(/^the body is no JSON: /) })
  })

  it('may be anything, and is read or refused', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const received = receivedAlerts(JSON.stringify(value))
        if (received.kind === 'invalid') expect(received.problem).toMatch(/^[^:]+: ./)
      }),
    )
  })
})
