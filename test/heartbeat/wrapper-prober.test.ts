import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import type { ProbeMethod } from '../../src/heartbeat/probe.ts'
import { WrapperProber, type WrapperProberOptions } from '../../src/heartbeat/wrapper-prober.ts'
import type { Answer } from '../../src/upstreams/peer.ts'
import { fakeClock } from '../support/fake-clock.ts'

type Reply = 'ok' | 'unknown' | 'silence' | 'cancelled'
type Session = { -readonly [Key in keyof WrapperProberOptions['session']]: WrapperProberOptions['session'][Key] }

/** A prober whose server answers each method like this, `ok` unless said otherwise. */
function proberOf(replies: Readonly<Record<string, Reply>> = {}, method: ProbeMethod = 'auto') {
  const clock = fakeClock(100_000)
  const asked: string[] = []
  const session: Session = { key: 'abc', era: undefined, protocolVersion: undefined, lastHeardMs: 0 }
  let canAsk = true
  const answer = (method: string, timeoutMs: number): Promise<Answer> => {
    const message = Buffer.from('{}')
    const reply = replies[method] ?? 'ok'
    switch (reply) {
      case 'unknown':
        return Promise.resolve({ message, error: { code: -32_601, message: 'no' } })
      case 'silence':
        return new Promise((_resolve, reject) =>
          clock.after(timeoutMs, () => reject(new KnownError('upstream_timeout', 'no answer'))),
        )
      case 'cancelled':
        return Promise.reject(new KnownError('cancelled', 'the client is in the middle of something'))
      case 'ok':
        return Promise.resolve({ message })
    }
  }
  const prober = new WrapperProber({
    talker: {
      request: ({ method, timeoutMs }) => {
        asked.push(method)
        return answer(method, timeoutMs)
      },
      notify: () => Promise.resolve(),
    },
    clock,
    session,
    canAsk: () => canAsk,
    idleSinceMs: () => clock.now() - 10_000,
    method: () => method,
  })
  const start = () => prober.start({ deadlineMs: 10_000, wantsInventory: true })
  const outcome = async () => {
    const [run] = start().runs
    expect(run).toMatchObject({ leg: 'session', session: 'abc' })
    const result = run?.done
    await clock.advance(1000)
    return (await result)?.outcome
  }
  return { prober, clock, asked, session, start, outcome, forbid: () => (canAsk = false) }
}

describe('WrapperProber', () => {
  it('asks nothing before the opening exchange of the client is over', () => {
    const { prober, asked, start } = proberOf()
    expect(start()).toEqual({ runs: [], alive: 0 })
    expect(asked).toEqual([])
    expect(prober.openingDeadlineMs()).toBeUndefined()
  })

  it.each([
    ['tools/list' as const, ['tools/list']],
    ['transport' as const, []],
  ])('asks %s where that is preferred: %j', async (method, expected) => {
    const { asked, session, outcome } = proberOf({}, method)
    session.era = 'legacy'
    expect(await outcome()).toBe('ok')
    expect(asked).toEqual(expected)
  })

  it('asks nothing of a server that spoke lately, which is alive, or while nothing can be put in, which proves nothing', () => {
    const { clock, asked, session, start, forbid } = proberOf()
    session.era = 'legacy'
    session.lastHeardMs = clock.now() - 9999
    expect(start()).toEqual({ runs: [], alive: 1 })
    session.lastHeardMs = clock.now() - 10_000
    forbid()
    expect(start()).toEqual({ runs: [], alive: 0 })
    expect(asked).toEqual([])
  })

  it.each([
    ['legacy', {}, ['ping', 'ping'], ['ok', 'ok']],
    ['modern', {}, ['server/discover', 'server/discover'], ['ok', 'ok']],
    ['legacy', { ping: 'unknown' }, ['ping', 'tools/list'], ['unsupported', 'ok']],
    ['legacy', { ping: 'silence' }, ['ping', 'tools/list', 'tools/list'], ['ok', 'ok']],
    ['legacy', { ping: 'cancelled' }, ['ping', 'ping'], ['inconclusive', 'inconclusive']],
    [
      'modern',
      { 'server/discover': 'cancelled' },
      ['server/discover', 'server/discover'],
      ['inconclusive', 'inconclusive'],
    ],
  ] as const)('in the session of a %s client of a server with %j asks %j', async (era, replies, methods, outcomes) => {
    const { asked, session, outcome } = proberOf(replies)
    session.era = era
    expect([await outcome(), await outcome()]).toEqual(outcomes)
    expect(asked).toEqual(methods)
  })
})
