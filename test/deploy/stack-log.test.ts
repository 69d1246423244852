import { describe, expect, it } from 'vitest'
import { notificationLines } from '../../deploy/stack/notifications.ts'
import { logEvent } from '../../deploy/stack/vitals-log.ts'

describe('what the stack makes of a line of the log', () => {
  it.each([
    [
      { level: 'info', msg: 'listening', data_url: 'http://127.0.0.1:1', admin_url: 'http://127.0.0.1:2' },
      { kind: 'listening', adminUrl: 'http://127.0.0.1:2' },
    ],
    [
      { level: 'info', msg: 'upstream', upstream: 'files', url: 'http://127.0.0.1:1/files/mcp' },
      { kind: 'upstream', name: 'files', url: 'http://127.0.0.1:1/files/mcp' },
    ],
    [
      {
        level: 'info',
        msg: 'upstream state changed',
        upstream: 'files',
        from: 'down',
        state: 'recovering',
        reason: 'ok',
      },
      { kind: 'news', text: 'files: down → recovering: ok' },
    ],
    [
      { level: 'warn', ts: 'now', msg: 'server process restarted', upstream: 'files', reason: 'signal', restarts: 1 },
      { kind: 'news', text: 'files: server process restarted reason=signal restarts=1' },
    ],
    [
      { level: 'error', ts: 'now', msg: 'a reload failed' },
      { kind: 'news', text: 'a reload failed' },
    ],
    [{ level: 'warn', msg: 'heartbeat', upstream: 'files' }, { kind: 'detail' }],
    [{ level: 'info', msg: 'stopped' }, { kind: 'detail' }],
  ])('%j', (entry, event) => {
    expect(logEvent(JSON.stringify(entry))).toEqual(event)
  })

  it('passes on what is no JSON', () => {
    expect(logEvent('FATAL ERROR: heap')).toEqual({ kind: 'news', text: 'FATAL ERROR: heap' })
  })
})

describe('what the stack prints of a notification', () => {
  it('is a line for each alert', () => {
    const alerts = [
      {
        status: 'firing',
        labels: { alertname: 'McpUpstreamDown', upstream: 'files', severity: 'critical' },
        annotations: { summary: 'A server is down.' },
      },
      { status: 'resolved', labels: { alertname: 'McpVitalsDown' }, annotations: {} },
    ]
    expect(notificationLines('pages', { version: '4', alerts })).toEqual([
      'pages: McpUpstreamDown firing (critical, files): A server is down.',
      'pages: McpVitalsDown resolved',
    ])
  })

  it('says so when it is none of Alertmanager', () => {
    expect(notificationLines('pages', { hello: 1 })).toEqual(["pages: a notification that is not Alertmanager's"])
  })
})
