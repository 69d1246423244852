import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import type { ProbeMethod } from '../../src/heartbeat/probe.ts'
import { WrapperProber, type WrapperProberOptions } from '../../src/heartbeat/wrapper-prober.ts'
import type { Waiting } from '../../src/sessions/session.ts'
import type { Answer } from '../../src/upstreams/peer.ts'
import { fakeClock } from '../support/fake-clock.ts'

type Reply = 'ok' | 'unknown' | 'silence' | 'cancelled'
type Session = { -readonly [Key in keyof WrapperProberOptions['session']]: WrapperProberOptions['session'][Key] }

/** A prober whose server answers each method like this, `ok` unless said otherwise. */
function proberOf(replies: Readonly<Record<string, Reply>> = {}, method: ProbeMethod = 'auto') {
  const clock = fakeClock(100_000)
  const asked: string[] = []
  let waits: Waiting = 'nobody'
  const session: Session = {
    key: 'abc',
    era: undefined,
    protocolVersion: undefined,
    lastHeardMs: 0,
    hasTools: undefined,
    waiting: () => waits,
  }
  let canAsk = true
  let isStopped = false
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
    process: { pid: 7, isStopped: () => isStopped, hasEnded: () => false },
    canAsk: () => canAsk,
    idleSinceMs: () => clock.now() - 10_000,
    excusedMs: 60_000,
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
  const wait = (next: Waiting) => (waits = next)
  return {
    prober,
    clock,
    asked,
    session,
    start,
    outcome,
    wait,
    forbid: () => (canAsk = false),
    halt: () => (isStopped = true),
  }
}

describe('WrapperProber', () => {
  it('asks nothing before the opening exchange of the client is over, but looks at the process', async () => {
    const { prober, asked, start, session, clock, halt } = proberOf()
    session.lastHeardMs = Number.NEGATIVE_INFINITY
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'inconclusive' })
    session.lastHeardMs = 0
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    halt()
    const [stopped] = start().runs
    await clock.advance(10_000)
    expect(await stopped?.done).toMatchObject({ method: 'process', outcome: 'timeout' })
    expect(asked).toEqual([])
    expect(prober.openingDeadlineMs()).toBeUndefined()
  })

  it('listens while its client waits for the end of the opening exchange', async () => {
    const { start, session, wait, clock } = proberOf()
    session.lastHeardMs = Number.NEGATIVE_INFINITY
    wait('client')
    const [run] = start().runs
    await clock.advance(10_000)
    expect(await run?.done).toMatchObject({ method: 'traffic', outcome: 'timeout' })
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

  it('asks nothing of a server that spoke lately, which is alive, or while nothing can be put in, which proves nothing', async () => {
    const { clock, asked, session, start, forbid } = proberOf()
    session.era = 'legacy'
    session.lastHeardMs = clock.now() - 9999
    expect(start()).toEqual({ runs: [], alive: 1, aliveSinceMs: session.lastHeardMs })
    session.lastHeardMs = clock.now() - 10_000
    forbid()
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'inconclusive' })
    expect(asked).toEqual([])
  })

  it('puts nothing in while the client waits: what the server says to it is the heartbeat', async () => {
    const { clock, asked, session, start, wait } = proberOf()
    session.era = 'legacy'
    wait('client')
    const [run] = start().runs
    await clock.advance(3000)
    session.lastHeardMs = clock.now()
    await clock.advance(250)
    expect(await run?.done).toMatchObject({ leg: 'session', method: 'traffic', outcome: 'ok', session: 'abc' })
    const [silent] = (await clock.advance(10_001), start().runs)
    await clock.advance(10_000)
    expect(await silent?.done).toMatchObject({ method: 'traffic', outcome: 'timeout' })
    const [given] = start().runs
    wait('nobody')
    await clock.advance(250)
    expect(await given?.done).toMatchObject({ outcome: 'inconclusive' })
    wait('server')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    expect(asked).toEqual([])
  })

  it('asks a server that has waited for its client for too long, unless its client waits for it, too', async () => {
    const { clock, asked, session, start, wait } = proberOf()
    session.era = 'legacy'
    session.lastHeardMs = clock.now()
    wait('server')
    await clock.advance(59_999)
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    await clock.advance(1)
    wait('both')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    expect(asked).toEqual([])
    wait('server')
    expect(await start().runs[0]?.done).toMatchObject({ method: 'ping', outcome: 'ok' })
  })

  it('looks at the process of a server without tools that answers nothing, and asks it all the same', async () => {
    const { clock, asked, session, start, prober, halt } = proberOf({ ping: 'silence', 'tools/list': 'silence' })
    session.era = 'legacy'
    session.hasTools = false
    const [first] = start().runs
    await clock.advance(1500)
    expect(await first?.done).toMatchObject({ method: 'process', outcome: 'ok', reason: 'process 7 runs' })
    expect(prober.describe().probe).toBe('process')
    await clock.advance(10_000)
    expect(await start().runs[0]?.done).toMatchObject({ method: 'process', outcome: 'ok' })
    expect(asked).toEqual(['ping', 'tools/list', 'ping'])
    halt()
    const [stopped] = (await clock.advance(10_000), start().runs)
    await clock.advance(10_000)
    expect(await stopped?.done).toMatchObject({ outcome: 'timeout', reason: 'a signal has stopped process 7' })
  })

  it('takes the silence of a server with tools for what it is', async () => {
    const { clock, session, start } = proberOf({ ping: 'silence', 'tools/list': 'silence' })
    session.era = 'legacy'
    session.hasTools = true
    const [run] = start().runs
    await clock.advance(10_000)
    expect(await run?.done).toMatchObject({ method: 'ping', outcome: 'timeout' })
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
