import { describe, expect, it } from 'vitest'
import { KnownError, type ErrorCode } from '../../src/errors.ts'
import type { Rung } from '../../src/heartbeat/probe.ts'
import { Scheduler } from '../../src/heartbeat/scheduler.ts'
import { type SessionBeat, SessionBeats, type SessionLeg } from '../../src/heartbeat/session-beats.ts'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import { stateOf } from '../../src/sessions/health.ts'
import type { Session } from '../../src/sessions/session.ts'
import type { Answer } from '../../src/upstreams/peer.ts'
import { fakeClock } from '../support/fake-clock.ts'

type Reply = 'ok' | 'unsupported' | 'silence' | ErrorCode

const idle: Readonly<Record<SessionLeg, number>> = { session: 60_000, client: Infinity }

/** Heartbeats inside the sessions of one upstream; each session's ends answer as the test says. */
function beating(idleMs: Readonly<Record<SessionLeg, number>> = idle) {
  const clock = fakeClock()
  const beats: SessionBeat[] = []
  const told: string[] = []
  const allowed = { session: true, client: true }
  const serverMethod: { now: Rung } = { now: 'ping' }
  const intervals = { ...idleMs }
  /** When the server last answered somebody else: always just now unless given. */
  const heard: { atMs?: number } = {}
  const directory = new SessionDirectory({
    clock,
    maxTracked: 1000,
    cleanupIntervalMs: () => 60_000,
    idleLimitMs: () => 1e9,
    onStart: () => undefined,
    onEnd: ({ key }, end) => {
      told.push(`${key} ended: ${end}`)
      sessionBeats.sessionEnded()
    },
  })
  const scheduler = new Scheduler({
    clock,
    perSecond: 50,
    inFlight: 16,
    slotMs: 250,
    onError: (_key, error) => told.push(String(error)),
  })
  const sessionBeats = new SessionBeats({
    upstream: 'files',
    clock,
    scheduler,
    sessions: () => directory.of('files'),
    idleMs: (leg) => intervals[leg],
    isAllowed: (leg) => allowed[leg],
    serverMethod: () => serverMethod.now,
    lastHeardMs: () => heard.atMs ?? clock.now(),
    usualMs: () => undefined,
    timeoutMs: 5000,
    onBeat: (beat) => beats.push(beat),
    onGone: (session) => directory.end(session, 'unknown'),
    onHung: (hung, others) => told.push(`${hung.length} hang, ${others} do not`),
  })
  const asked: string[] = []
  const answer = (reply: Reply, timeoutMs: number): Promise<Answer> => {
    const message = Buffer.from('{}')
    if (reply === 'ok') return Promise.resolve({ message })
    if (reply === 'unsupported') return Promise.resolve({ message, error: { code: -32_601, message: 'no' } })
    if (reply !== 'silence') return Promise.reject(new KnownError(reply, reply))
    return new Promise((_resolve, reject) => {
      clock.after(timeoutMs, () => reject(new KnownError('upstream_timeout', 'no answer')))
    })
  }
  const add = (id: string, replies: { server?: Reply; client?: Reply } = {}, canAsk = () => true): Session => {
    const client = { ip: '', userAgent: '' }
    const session = directory.add({ id, upstream: 'files', transport: 'http', client })
    if (!session) throw new Error('not tracked')
    const peerOf = (end: 'server' | 'client') => ({
      canAsk,
      request: ({ method, timeoutMs }: { method: string; timeoutMs: number }) => {
        asked.push(`${id} ${end} ${method} at ${clock.now() / 1000}`)
        return answer(replies[end] ?? 'ok', timeoutMs)
      },
    })
    session.serverPeer = peerOf('server')
    session.clientPeer = peerOf('client')
    return session
  }
  sessionBeats.start()
  return { clock, directory, sessionBeats, beats, told, asked, allowed, serverMethod, intervals, heard, add }
}

describe('heartbeats inside sessions', () => {
  it('ask the server inside a session that was idle for the interval, and again after each further one', async () => {
    const { clock, add, asked, beats } = beating()
    add('a')
    await clock.advance(59_999)
    expect(asked).toEqual([])
    await clock.advance(120_001)
    expect(asked).toEqual(['a server ping at 60', 'a server ping at 120', 'a server ping at 180'])
    expect(beats.at(-1)).toMatchObject({
      result: { leg: 'session', method: 'ping', outcome: 'ok', session: beats[0]?.session.key },
      intervalMs: 60_000,
      nextInMs: 60_000,
    })
  })

  it('ask the server what it is asked otherwise, and the client a ping', async () => {
    const { clock, add, asked, serverMethod } = beating({ session: 60_000, client: 60_000 })
    serverMethod.now = 'tools/list'
    add('a')
    await clock.advance(60_000)
    expect(asked.toSorted()).toEqual(['a client ping at 60', 'a server tools/list at 60'])
  })

  it('leave a session alone that is used, that waits for an answer, or that may not be asked now', async () => {
    const { clock, add, asked, directory } = beating()
    const used = add('used')
    add('waiting').pending = 1
    add('opening', {}, () => false)
    for (let at = 0; at < 6; at++) {
      await clock.advance(30_000)
      directory.touch(used)
    }
    expect(asked).toEqual([])
  })

  it('do not touch the session: it expires as if nobody had asked', async () => {
    const { clock, add } = beating()
    const session = add('a')
    await clock.advance(200_000)
    expect([session.lastActiveMs, session.messages, session.pending]).toEqual([0, 0, 0])
  })

  it('ask the client on its own leg and interval', async () => {
    const { clock, add, asked } = beating({ session: Infinity, client: 30_000 })
    const session = add('a', { client: 'unsupported' })
    await clock.advance(60_000)
    expect(asked).toEqual(['a client ping at 30', 'a client ping at 60'])
    expect(stateOf(session.health.client)).toBe('healthy')
    expect(stateOf(session.health.session)).toBe('unasked')
  })

  it('ask again soon after a miss, and tell which session hangs from the third on, until it answers', async () => {
    const { clock, add, asked, told } = beating()
    const replies: { server?: Reply } = { server: 'silence' }
    const hung = add('a', replies)
    add('b')
    await clock.advance(95_000)
    expect(asked.filter((line) => line.startsWith('a'))).toEqual([
      'a server ping at 60',
      'a server ping at 75',
      'a server ping at 90',
    ])
    expect(told).toEqual(['1 hang, 1 do not'])
    expect(stateOf(hung.health.session)).toBe('hung')
    await clock.advance(15_000)
    expect(told, 'again, since an outage of the server may have come between').toEqual(
      told.map(() => '1 hang, 1 do not'),
    )
    expect(told).toHaveLength(2)
    replies.server = 'ok'
    await clock.advance(30_000)
    expect(told.slice(2)).toEqual(['0 hang, 2 do not'])
  })

  it('take no session for hung whose server answers nobody else: it is silent as a whole, or at work', async () => {
    const { clock, add, told, heard } = beating()
    const session = add('a', { server: 'silence' })
    heard.atMs = 59_999
    await clock.advance(200_000)
    expect([told, stateOf(session.health.session)]).toEqual([[], 'suspect'])
    heard.atMs = 60_001
    await clock.advance(15_000)
    expect([told, stateOf(session.health.session)]).toEqual([['1 hang, 0 do not'], 'hung'])
  })

  it('a session that hung and ended hangs no more', async () => {
    const { clock, add, told, directory } = beating()
    const session = add('a', { server: 'silence' })
    await clock.advance(95_000)
    directory.end(session, 'deleted')
    expect(told).toEqual(['1 hang, 0 do not', `${session.key} ended: deleted`, '0 hang, 0 do not'])
  })

  it('404 ends that session and says nothing about the others', async () => {
    const { clock, add, told, beats, directory } = beating()
    const session = add('a', { server: 'upstream_session_gone' })
    add('b')
    await clock.advance(61_000)
    expect(told).toEqual([`${session.key} ended: unknown`])
    expect(beats.map(({ result }) => result.outcome)).toEqual(['session_gone', 'ok'])
    expect([...directory.all()].map(({ id }) => id)).toEqual(['b'])
  })

  it('after 401 wait for the client, who alone can bring other credentials', async () => {
    const { clock, add, asked, directory } = beating()
    const session = add('a', { server: 'upstream_unauthorized' })
    await clock.advance(300_000)
    expect(asked).toEqual(['a server ping at 60'])
    directory.touch(session)
    await clock.advance(70_000)
    expect(asked).toHaveLength(2)
    expect(stateOf(session.health.session)).toBe('unasked')
  })

  it('go one after the other, so that sessions that hang take one place of the common budget', async () => {
    const { clock, add, asked } = beating()
    for (const id of ['a', 'b', 'c']) add(id, { server: 'silence' })
    await clock.advance(70_000)
    expect(asked).toEqual(['a server ping at 60', 'b server ping at 65', 'c server ping at 70'])
  })

  it('follow their settings, and cost no timer while they are off', async () => {
    const { clock, add, asked, allowed, intervals, sessionBeats } = beating()
    add('a')
    allowed.session = false
    await clock.advance(100_000)
    expect(asked).toEqual([])
    allowed.session = true
    await clock.advance(10_000)
    expect(asked).toHaveLength(1)
    intervals.session = Infinity
    sessionBeats.start()
    expect(clock.pending()).toBe(0)
    intervals.session = 10_000
    sessionBeats.start()
    await clock.advance(10_000)
    expect(asked).toHaveLength(2)
  })

  it('an answer for a session that ended meanwhile counts for nobody', async () => {
    const { clock, add, beats, directory } = beating()
    const session = add('a', { server: 'silence' })
    await clock.advance(62_000)
    directory.end(session, 'deleted')
    await clock.advance(10_000)
    expect(beats).toEqual([])
  })

  it('stop for good', async () => {
    const { clock, add, asked, sessionBeats } = beating()
    add('a')
    sessionBeats.stop()
    sessionBeats.start()
    await clock.advance(100_000)
    expect([asked, clock.pending()]).toEqual([[], 0])
  })
})
