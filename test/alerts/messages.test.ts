import { describe, expect, it } from 'vitest'
import { fingerprint } from '../../src/alerts/fingerprint.ts'
import { alertmanagerAlert, ownLabels, labelsOf, webhookMessage } from '../../src/alerts/messages.ts'
import { alertOf, firingNotice, resolvedNotice } from './fixture.ts'

const wording = {
  labels: { cluster: 'prod' },
  runbookUrl: 'https://example.com/runbooks/',
  externalUrl: 'https://vitals.example.com',
  redact: (text: string) => text.replaceAll('canary', '<secret>'),
}
const labels = {
  cluster: 'prod',
  alertname: 'McpUpstreamDown',
  upstream: 'files',
  transport: 'stdio',
  severity: 'critical',
}

describe('what Alertmanager is told', () => {
  it('of an alert that fires, which ends by itself', () => {
    expect(alertmanagerAlert(firingNotice(), wording, Date.UTC(2026, 0, 1, 0, 4))).toEqual({
      labels,
      annotations: {
        summary: 'MCP server files is down',
        description: 'Since 2026-01-01T00:00:00.000Z: server process 7 was killed by SIGKILL',
        runbook_url: 'https://example.com/runbooks/McpUpstreamDown.md',
      },
      startsAt: '2026-01-01T00:00:00.000Z',
      endsAt: '2026-01-01T00:04:00.000Z',
      generatorURL: 'https://vitals.example.com/debug/heartbeat?upstream=files',
    })
  })

  it('of one that is over', () => {
    expect(alertmanagerAlert(resolvedNotice(), { ...wording, runbookUrl: undefined }, 0)).toMatchObject({
      labels,
      annotations: {
        summary: 'MCP server files is down',
        description:
          'From 2026-01-01T00:00:00.000Z to 2026-01-01T00:01:30.000Z: server process 7 was killed by SIGKILL. ' +
          'Now healthy: ping answered',
      },
      endsAt: '2026-01-01T00:01:30.000Z',
    })
  })

  it('holds no secret that a server wrote into its reason', () => {
    expect(JSON.stringify(alertmanagerAlert(firingNotice({ reason: 'token canary' }), wording, 0))).not.toContain(
      'canary',
    )
  })
})

// https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
describe('what a webhook is told', () => {
  it.each([
    ['firing', firingNotice(), '0001-01-01T00:00:00Z'],
    ['resolved', resolvedNotice(), '2026-01-01T00:01:30.000Z'],
  ])('of an alert that is %s', (status, notice, endsAt) => {
    expect(webhookMessage(notice, wording)).toEqual({
      version: '4',
      groupKey: '{}:{alertname="McpUpstreamDown", upstream="files"}',
      truncatedAlerts: 0,
      status,
      receiver: 'mcp-vitals',
      groupLabels: { alertname: 'McpUpstreamDown', upstream: 'files' },
      commonLabels: labels,
      commonAnnotations: expect.objectContaining({ summary: 'MCP server files is down' }),
      externalURL: 'https://vitals.example.com',
      alerts: [
        {
          status,
          labels,
          annotations: expect.objectContaining({ summary: 'MCP server files is down' }),
          startsAt: '2026-01-01T00:00:00.000Z',
          endsAt,
          generatorURL: 'https://vitals.example.com/debug/heartbeat?upstream=files',
          fingerprint: fingerprint(labels),
        },
      ],
    })
  })
})

it('gives every alert the labels that nobody else may set', () => {
  expect(Object.keys(labelsOf(alertOf(), { labels: {} })).toSorted()).toEqual([...ownLabels].toSorted())
})

it('says nothing of an upstream where an alert is about most of them', () => {
  const notice = firingNotice({ name: 'McpUpstreamsSilentTogether', about: {} })
  expect(labelsOf(notice.alert, { labels: {} })).toEqual({
    alertname: 'McpUpstreamsSilentTogether',
    severity: 'critical',
  })
  expect(webhookMessage(notice, wording)).toMatchObject({
    groupKey: '{}:{alertname="McpUpstreamsSilentTogether"}',
    groupLabels: { alertname: 'McpUpstreamsSilentTogether' },
    commonAnnotations: { summary: 'Most MCP servers fell silent at the same time' },
    alerts: [{ generatorURL: 'https://vitals.example.com/debug/heartbeat' }],
  })
})

// FNV-1a 64 of nothing is its offset basis; the others were computed by an Alertmanager 0.25.
it.each<[Readonly<Record<string, string>>, string]>([
  [{}, 'cbf29ce484222325'],
  [{ alertname: 'a' }, 'd258efc389808447'],
  [{ upstream: 'files', transport: 'stdio', severity: 'critical', alertname: 'McpUpstreamDown' }, '29b28526f0521b77'],
  [{ alertname: 'Zürich', B: 'x', a_b: '1 "q"', _x: '😀' }, 'be40c2bc27fa55af'],
])('calls %j %s', (set, expected) => {
  expect(fingerprint(set)).toBe(expected)
})
