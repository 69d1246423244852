import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KnownError } from '../../src/errors.ts'
import { isAnswered } from '../../src/heartbeat/classify.ts'
import { Ladder } from '../../src/heartbeat/ladder.ts'
import type { ProbeResult } from '../../src/heartbeat/probe.ts'
import type { Answer } from '../../src/upstreams/peer.ts'
import { fakeClock } from '../support/fake-clock.ts'

type Reply = 'ok' | 'slow' | 'unsupported' | 'silence' | 'broken'

/** How a server is during one heartbeat. */
interface Mood {
  readonly ping: Reply
  readonly list: Reply
  /** Its process runs. */
  readonly lives: boolean
  readonly hasTools: boolean
}

/** Slower than a server may be at first, before it is asked something else. */
const slowMs = 1300

const mute: Mood = { ping: 'silence', list: 'silence', lives: true, hasTools: false }

/** A server in virtual time, asked one heartbeat after the other, ten seconds apart. */
function climbing() {
  const clock = fakeClock()
  const ladder = new Ladder('process')
  const asked: string[] = []
  const reply = (mood: Mood, method: string, timeoutMs: number): Promise<Answer> => {
    const message = Buffer.from('{}')
    const one = method === 'ping' ? mood.ping : mood.list
    if (one === 'ok') return Promise.resolve({ message })
    if (one === 'slow' && timeoutMs > slowMs)
      return new Promise((resolve) => clock.after(slowMs, () => resolve({ message })))
    if (one === 'unsupported') return Promise.resolve({ message, error: { code: -32_601, message: 'no' } })
    if (one === 'broken') return Promise.reject(new KnownError('upstream_http_error', 'HTTP 500'))
    return new Promise((_resolve, reject) =>
      clock.after(timeoutMs, () => reject(new KnownError('upstream_timeout', 'no answer'))),
    )
  }
  const beat = async (mood: Mood): Promise<ProbeResult & { readonly tookMs: number }> => {
    const startedMs = clock.now()
    let tookMs = Number.POSITIVE_INFINITY
    const climbed = ladder.ask({
      talker: {
        request: ({ method, timeoutMs }) => {
          asked.push(method)
          return reply(mood, method, timeoutMs)
        },
      },
      clock,
      era: 'legacy',
      leg: 'upstream',
      deadlineMs: 10_000,
      liveness: mood.hasTools
        ? undefined
        : () =>
            Promise.resolve({
              leg: 'upstream',
              method: 'process',
              outcome: mood.lives ? 'ok' : 'timeout',
              durationMs: 0,
              reason: mood.lives ? 'it runs' : 'a signal has stopped it',
            }),
    })
    void climbed.then(() => (tookMs = clock.now() - startedMs))
    await clock.advance(10_000)
    return { ...(await climbed).result, tookMs }
  }
  return { ladder, asked, beat }
}

const isAtLoss = (reply: Reply) => reply === 'silence' || reply === 'broken'

const replies = fc.constantFrom<Reply>('ok', 'slow', 'unsupported', 'silence', 'broken')
const moods = fc.record({ ping: replies, list: replies, lives: fc.boolean(), hasTools: fc.boolean() })
/** Before some heartbeats the connection is opened anew. */
const lives = fc.array(fc.record({ mood: moods, isReopened: fc.boolean() }), { minLength: 1, maxLength: 12 })

describe('the ladder of a legacy server', () => {
  it.each<[string, Partial<Mood>, string, string]>([
    ['answers ping', { ping: 'ok' }, 'ping ok', 'ping'],
    ['knows no ping', { ping: 'unsupported', list: 'ok' }, 'ping unsupported', 'tools/list'],
    ['ignores ping', { list: 'ok' }, 'tools/list ok', 'tools/list'],
    ['is slow to answer ping', { ping: 'slow', list: 'ok' }, 'tools/list ok', 'ping'],
    ['is slow to answer ping, and to list its tools', { ping: 'slow', list: 'slow' }, 'ping ok', 'ping'],
    ['is slow to answer ping, and has no tools', { ping: 'slow' }, 'ping ok', 'ping'],
    ['ignores ping and knows no tools', { list: 'unsupported' }, 'tools/list unsupported', 'tools/list'],
    ['fails at ping', { ping: 'broken', list: 'ok' }, 'ping unsupported', 'tools/list'],
    ['fails at ping, and knows no tools', { ping: 'broken', list: 'unsupported' }, 'ping unsupported', 'tools/list'],
    [
      'fails at ping, and is slow to list its tools',
      { ping: 'broken', list: 'slow' },
      'ping unsupported',
      'tools/list',
    ],
    ['fails at both', { ping: 'broken', list: 'broken' }, 'ping http_error', 'ping'],
    ['fails at ping and ignores tools/list', { ping: 'broken' }, 'ping http_error', 'ping'],
    ['ignores both', {}, 'process ok', 'process'],
    ['ignores both and has tools', { hasTools: true }, 'ping timeout', 'ping'],
    ['ignores both and is stopped', { lives: false }, 'process timeout', 'ping'],
  ])('one that %s', async (_what, mood, heard, next) => {
    const { ladder, beat } = climbing()
    const { method, outcome, tookMs } = await beat({ ...mute, ...mood })
    expect(`${method} ${outcome}`).toBe(heard)
    expect(ladder.rung({ hasTools: mood.hasTools })).toBe(next)
    // Early enough for the shortest time-out of a probe, so that it never looks ill.
    if (isAnswered(outcome)) expect(tookMs).toBeLessThan(2000)
  })

  it('asks a server on the lowest rung one ping a heartbeat, for which nobody waits', async () => {
    const { asked, beat } = climbing()
    await beat(mute)
    for (let beats = 0; beats < 5; beats++) {
      expect(await beat(mute)).toMatchObject({ method: 'process', outcome: 'ok', tookMs: 0 })
    }
    expect(asked).toEqual(['ping', 'tools/list', 'ping', 'ping', 'ping', 'ping', 'ping'])
  })

  it('asks a server that fails at ping for its tools from then on, over re-openings too', async () => {
    const { ladder, asked, beat } = climbing()
    const mood: Mood = { ...mute, ping: 'broken', list: 'ok' }
    await beat(mood)
    await beat(mood)
    ladder.reopened()
    expect(await beat(mood)).toMatchObject({ method: 'tools/list', outcome: 'ok' })
    expect(asked).toEqual(['ping', 'tools/list', 'tools/list', 'tools/list'])
  })

  it('never excuses a server that fails at ping after it answered one', async () => {
    const { beat } = climbing()
    await beat({ ...mute, ping: 'ok' })
    expect(await beat({ ...mute, ping: 'broken', list: 'ok' })).toMatchObject({ method: 'ping', outcome: 'http_error' })
  })

  it('never excuses the silence of a server that answered a heartbeat before, or that has tools', async () => {
    await fc.assert(
      fc.asyncProperty(lives, async (life) => {
        const { ladder, beat } = climbing()
        let hasAnswered = false
        for (const { mood, isReopened } of life) {
          if (isReopened) ladder.reopened()
          const { method, outcome } = await beat(mood)
          if (method === 'process') expect([hasAnswered, mood.hasTools]).toEqual([false, false])
          if (isAnswered(outcome) && isAtLoss(mood.ping) && isAtLoss(mood.list)) {
            expect([method, mood.lives]).toEqual(['process', true])
          }
          // On the lowest rung a ping is asked besides.
          hasAnswered ||= method === 'process' ? !isAtLoss(mood.ping) : isAnswered(outcome)
        }
      }),
    )
  })
})
