import { describe, expect, it } from 'vitest'
import type { Delivery, ReceiverAddress } from '../../src/alerts/delivery.ts'
import { Notifier, type NotifierSettings } from '../../src/alerts/notifier.ts'
import type { Judged } from '../../src/alerts/tracking.ts'
import { createLogger } from '../../src/log.ts'
import { fakeClock } from '../support/fake-clock.ts'
import { pipeline } from '../telemetry/fixture.ts'
import { judgedAs } from './fixture.ts'

/** What a receiver was sent, as far as a test looks at it. */
interface Sent {
  readonly to: string
  readonly token: string | undefined
  readonly text: string
  readonly atMs: number
}

function notifying(receivers: NotifierSettings['receivers']) {
  const clock = fakeClock()
  const { recorder, samplesOf } = pipeline()
  const world: { upstreams: Judged[]; settings: NotifierSettings; answer: Delivery } = {
    upstreams: [judgedAs('healthy')],
    settings: {
      holds: { forMs: 5000, keepFiringForMs: 5000 },
      wording: { labels: {}, externalUrl: 'http://127.0.0.1:9464' },
      receivers,
    },
    answer: { kind: 'sent' },
  }
  const sent: Sent[] = []
  const open: string[] = []
  const log: string[] = []
  const notifier = new Notifier({
    clock,
    random: () => 0.5,
    settings: () => world.settings,
    situation: () => ({ upstreams: world.upstreams, silentTogether: [] }),
    open: ({ url, bearerToken: token }: ReceiverAddress) => {
      open.push(url.host)
      return {
        post: (message) => {
          sent.push({ to: url.host, token, text: JSON.stringify(message), atMs: clock.now() })
          return Promise.resolve(world.answer)
        },
        close: () => Promise.resolve(void open.splice(open.indexOf(url.host), 1)),
      }
    },
    redact: (text) => text,
    log: createLogger({ level: 'info', format: 'json', isTerminal: false, write: (line) => log.push(line) }),
    instruments: recorder,
  })
  const becomes = (...upstreams: Judged[]) => void (world.upstreams = upstreams)
  const follow = (changed: NotifierSettings['receivers']) => {
    world.settings = { ...world.settings, receivers: changed }
    notifier.follow()
  }
  return { clock, notifier, world, becomes, follow, sent, open, log, samplesOf }
}

const alertmanager = { url: new URL('http://alertmanager') }
const webhook = { url: new URL('http://webhook') }

describe('a notifier', () => {
  it('tells each receiver in its own form, and Alertmanager again every minute while it lasts', async () => {
    const { clock, notifier, becomes, sent, samplesOf, log } = notifying({ alertmanager, webhook })
    notifier.start()
    await clock.advance(10_000)
    becomes(judgedAs('down'))
    await clock.advance(130_000)
    becomes(judgedAs('healthy'))
    await clock.advance(100_000)
    const times = (host: string) => sent.filter(({ to }) => to === host).map(({ atMs }) => atMs / 1000)
    // It is seen at 11 s and fires at 16 s; then come the minutes, and the end, seen at 140 s, at 146 s.
    expect(times('alertmanager')).toEqual([16, 60, 120, 146])
    expect(times('webhook')).toEqual([16, 146])
    expect(sent.at(-1)?.text).toContain('"version":"4"')
    expect(sent[0]?.text).toMatch(/^\[\{"labels":/)
    expect(await samplesOf('mcp_vitals_notifications_total')).toEqual([
      'mcp_vitals_notifications_total{receiver="alertmanager",outcome="sent"} 4',
      'mcp_vitals_notifications_total{receiver="alertmanager",outcome="failed"} 0',
      'mcp_vitals_notifications_total{receiver="alertmanager",outcome="rejected"} 0',
      'mcp_vitals_notifications_total{receiver="alertmanager",outcome="dropped"} 0',
      'mcp_vitals_notifications_total{receiver="webhook",outcome="sent"} 2',
      'mcp_vitals_notifications_total{receiver="webhook",outcome="failed"} 0',
      'mcp_vitals_notifications_total{receiver="webhook",outcome="rejected"} 0',
      'mcp_vitals_notifications_total{receiver="webhook",outcome="dropped"} 0',
    ])
    expect(log.map((line) => /"msg":"([^"]*)"/.exec(line)?.[1])).toEqual(['alert is firing', 'alert is resolved'])
    await notifier.stop()
    expect(clock.pending()).toBe(0)
  })

  it('looks at nothing while nobody is to be told, and tells a new receiver what fires', async () => {
    const { clock, notifier, becomes, follow, sent } = notifying({})
    notifier.start()
    becomes(judgedAs('down'))
    expect(clock.pending()).toBe(0)
    follow({ webhook })
    await clock.advance(10_000)
    expect(sent.map(({ to }) => to)).toEqual(['webhook'])
    follow({ webhook, alertmanager })
    await clock.advance(0)
    expect(sent.map(({ to }) => to)).toEqual(['webhook', 'alertmanager'])
    follow({})
    await clock.advance(0)
    expect(clock.pending()).toBe(0)
    expect(sent).toHaveLength(2)
  })

  it('loses nothing when a receiver wants another token, and keeps nothing for one that is replaced', async () => {
    const { clock, notifier, world, becomes, follow, sent, open } = notifying({ webhook })
    world.answer = { kind: 'failed', reason: 'it answered 503' }
    notifier.start()
    becomes(judgedAs('down'))
    await clock.advance(6000)
    follow({ webhook: { ...webhook, bearerToken: 'new' } })
    world.answer = { kind: 'sent' }
    await clock.advance(3000)
    expect(sent.at(-1)).toMatchObject({ to: 'webhook', token: 'new' })
    const before = sent.length
    follow({ webhook: { url: new URL('http://other') } })
    await clock.advance(0)
    expect(sent.slice(before).map(({ to }) => to)).toEqual(['other'])
    expect(open).toEqual(['other'])
    await notifier.stop()
    expect(open).toEqual([])
  })

  it('logs once a minute at most what a receiver does not take, and when it takes it again', async () => {
    const { clock, notifier, world, becomes, log } = notifying({ webhook })
    world.answer = { kind: 'failed', reason: 'it answered 503' }
    notifier.start()
    becomes(judgedAs('down'))
    await clock.advance(125_000)
    world.answer = { kind: 'sent' }
    await clock.advance(60_000)
    const lines = log.filter((line) => line.includes('"receiver":"webhook"'))
    const problems = lines.filter((line) => line.includes('could not be sent'))
    expect(problems).toHaveLength(2)
    expect(problems[0]).toContain('"reason":"it answered 503"')
    expect(lines.at(-1)).toContain('notifications are sent again')
  })

  it('resolves nothing when it stops', async () => {
    const { clock, notifier, becomes, sent } = notifying({ alertmanager, webhook })
    notifier.start()
    becomes(judgedAs('down'))
    await clock.advance(10_000)
    await notifier.stop()
    expect(sent.filter(({ text }) => text.includes('resolved'))).toEqual([])
  })
})
