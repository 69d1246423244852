import { describe, expect, it } from 'vitest'
import { SessionDirectory, type NewSession } from '../../src/sessions/directory.ts'
import { type Session, isExpired, sessionKey } from '../../src/sessions/session.ts'
import { fakeClock } from '../support/fake-clock.ts'

const client = { ip: '127.0.0.1', userAgent: 'test/1' }

interface Options {
  readonly maxTracked?: number
  readonly idleLimitMs?: (upstream: string) => number
  readonly maxAgeMs?: (upstream: string) => number
  readonly cleanupIntervalMs?: () => number
}

function directoryOf({
  maxTracked = 100,
  idleLimitMs = () => 300_000,
  maxAgeMs = () => Infinity,
  cleanupIntervalMs = () => 60_000,
}: Options = {}) {
  const clock = fakeClock()
  const ended: string[] = []
  const forgotten: string[] = []
  const directory = new SessionDirectory({
    clock,
    maxTracked,
    cleanupIntervalMs,
    idleLimitMs,
    maxAgeMs,
    onForgotten: (what) => forgotten.push(what),
    onStart: () => undefined,
    onEnd: ({ id }, end, durationMs) => ended.push(`${id} ${end} after ${durationMs} ms`),
  })
  const add = (id: string, more: Partial<NewSession> = {}): Session => {
    const session = directory.add({ id, upstream: 'files', transport: 'http', client, ...more })
    if (!session) throw new Error(`${id} is not tracked`)
    return session
  }
  return { clock, directory, ended, forgotten, add, ids: () => [...directory.all()].map(({ id }) => id) }
}

describe('a session', () => {
  it('is found by upstream and id, since two upstreams may give the same id', () => {
    const { directory, add } = directoryOf()
    const files = add('1')
    const mail = add('1', { upstream: 'mail' })
    expect(mail).not.toBe(files)
    expect(directory.get('files', '1')).toBe(files)
    expect(directory.get('mail', '1')).toBe(mail)
    expect(directory.get('other', '1')).toBeUndefined()
    expect(add('1')).toBe(files)
  })

  it('begins with nothing open, and with its era where that is known', async () => {
    const { clock, add } = directoryOf()
    await clock.advance(5000)
    expect(add('1', { protocolVersion: '2025-11-25' })).toMatchObject({
      protocolVersion: '2025-11-25',
      startedAtMs: 5000,
      startedAtWallMs: clock.wallTime(),
      lastActiveMs: 5000,
      pending: 0,
      openStreams: 0,
      messages: 0,
    })
  })

  it('is shown by a hash that gives its id away to nobody', () => {
    const { add } = directoryOf()
    const { key } = add('3f2b8a10-secret')
    expect(key).toMatch(/^[0-9a-f]{8}$/)
    expect(key).toBe(sessionKey('3f2b8a10-secret'))
    expect(key).not.toBe(sessionKey('3f2b8a11-secret'))
    expect('3f2b8a10-secret').not.toContain(key)
  })

  it('ends once, with its age', async () => {
    const { clock, directory, ended, add } = directoryOf()
    const session = add('1')
    await clock.advance(1234)
    directory.end(session, 'deleted')
    directory.end(session, 'exited')
    expect(ended).toEqual(['1 deleted after 1234 ms'])
    expect(directory.get('files', '1')).toBeUndefined()
  })
})

describe('expiry', () => {
  it('ends a forwarded session that was idle for as long as its upstream allows, at the next cleaning', async () => {
    const limits: Readonly<Record<string, number>> = { files: 100_000, mail: 200_000 }
    const { clock, directory, ended, add, ids } = directoryOf({ idleLimitMs: (upstream) => limits[upstream] ?? 0 })
    directory.start()
    add('1')
    add('2', { upstream: 'mail' })
    await clock.advance(119_999) // Cleaned at 60 s; idle since 0 s.
    expect(ids()).toEqual(['1', '2'])
    await clock.advance(1)
    expect(ended).toEqual(['1 expired after 120000 ms'])
    await clock.advance(120_000)
    expect(ended).toEqual(['1 expired after 120000 ms', '2 expired after 240000 ms'])
  })

  it('counts from the last activity', async () => {
    const { clock, directory, add, ids } = directoryOf()
    directory.start()
    const session = add('1')
    await clock.advance(290_000)
    directory.touch(session)
    await clock.advance(299_000)
    expect(ids()).toEqual(['1'])
    await clock.advance(61_000)
    expect(ids()).toEqual([])
  })

  it.each([
    { what: 'a stream is open', change: (session: Session) => (session.openStreams = 1) },
    { what: 'a request waits for its answer', change: (session: Session) => (session.pending = 1) },
  ])('spares a session while $what, however long', async ({ change }) => {
    const { clock, directory, add, ids } = directoryOf()
    directory.start()
    change(add('1'))
    await clock.advance(24 * 3_600_000)
    expect(ids()).toEqual(['1'])
  })

  it('is exact to the millisecond', () => {
    const { add } = directoryOf()
    const session = add('1')
    expect(isExpired(session, 99, 100)).toBe(false)
    expect(isExpired(session, 100, 100)).toBe(true)
  })
})

describe('a bridged session, which holds a process or connection', () => {
  const bridged = { isBridged: true }

  it('expires to the millisecond, whenever the others are cleaned up', async () => {
    const { clock, directory, ended, add } = directoryOf({ idleLimitMs: () => 100_000 })
    const session = add('1', bridged)
    await clock.advance(99_000)
    directory.touch(session)
    await clock.advance(99_999)
    expect(ended).toEqual([])
    await clock.advance(1)
    expect(ended).toEqual(['1 expired after 199000 ms'])
    expect(clock.pending()).toBe(0)
  })

  it('expires after the last of its streams and requests is over', async () => {
    const { clock, directory, ended, add } = directoryOf({ idleLimitMs: () => 100_000 })
    const session = add('1', bridged)
    Object.assign(session, { pending: 1, openStreams: 1 })
    await clock.advance(1_000_000)
    Object.assign(session, { pending: 0, openStreams: 0 })
    directory.touch(session)
    await clock.advance(99_999)
    expect(ended).toEqual([])
    await clock.advance(1)
    expect(ended).toEqual(['1 expired after 1100000 ms'])
  })

  it('ends at its greatest age, whatever stream is open', async () => {
    const { clock, directory, ended, add } = directoryOf({ maxAgeMs: () => 3_600_000 })
    const session = add('1', bridged)
    session.openStreams = 1
    await clock.advance(3_599_999)
    expect([directory.isTooOld(session), ended]).toEqual([false, []])
    await clock.advance(1)
    expect(ended).toEqual(['1 too_old after 3600000 ms'])
  })

  it('that is too old lets the requests under way finish, for as long as they take', async () => {
    const { clock, directory, ended, add } = directoryOf({ maxAgeMs: () => 3_600_000 })
    const session = add('1', bridged)
    session.pending = 1
    await clock.advance(7_200_000)
    expect([directory.isTooOld(session), ended]).toEqual([true, []])
    session.pending = 0
    directory.touch(session)
    await clock.advance(1000)
    expect(ended).toEqual(['1 too_old after 7201000 ms'])
  })

  it('is tracked beyond the limit of those that are not: it must not be forgotten', async () => {
    const { clock, ended, add } = directoryOf({ maxTracked: 1 })
    add('1')
    add('2', bridged)
    await clock.advance(300_000)
    expect(ended).toEqual(['2 expired after 300000 ms'])
  })

  it('that ended otherwise is not looked at again', () => {
    const { clock, directory, add } = directoryOf()
    directory.end(add('1', bridged), 'deleted')
    expect(clock.pending()).toBe(0)
  })
})

describe('other limits while it runs', () => {
  it('hold at once for bridged sessions, and from the next cleaning on for the others', async () => {
    const limits = { idleMs: 300_000, maxAgeMs: Infinity, cleanupMs: 300_000 }
    const { clock, directory, ended, add } = directoryOf({
      idleLimitMs: () => limits.idleMs,
      maxAgeMs: () => limits.maxAgeMs,
      cleanupIntervalMs: () => limits.cleanupMs,
    })
    directory.start()
    add('forwarded')
    add('idle', { isBridged: true })
    add('open', { isBridged: true }).openStreams = 1
    await clock.advance(1000)
    Object.assign(limits, { idleMs: 5000, cleanupMs: 10_000 })
    directory.follow()
    await clock.advance(10_000)
    expect(ended).toEqual(['idle expired after 5000 ms', 'forwarded expired after 11000 ms'])
    limits.maxAgeMs = 20_000
    directory.follow()
    await clock.advance(9000)
    expect(ended.slice(2)).toEqual(['open too_old after 20000 ms'])
  })

  it('begin nothing that has not begun', () => {
    const { clock, directory } = directoryOf()
    directory.follow()
    expect(clock.pending()).toBe(0)
  })
})

describe('the limit', () => {
  it('leaves further sessions untracked, but makes room by what has expired', async () => {
    const { clock, directory, ended, forgotten, add, ids } = directoryOf({ maxTracked: 2 })
    add('1')
    add('2')
    expect(directory.add({ id: '3', upstream: 'files', transport: 'http', client })).toBeUndefined()
    expect(forgotten).toEqual(['session'])
    expect(add('2').id).toBe('2')
    await clock.advance(300_000)
    expect(add('3').id).toBe('3')
    expect(ids()).toEqual(['3'])
    expect(ended).toHaveLength(2)
    expect(forgotten).toEqual(['session'])
  })
})

describe('stop()', () => {
  it('ends every session and its own timer', async () => {
    const { clock, directory, ended, add } = directoryOf()
    directory.start()
    add('1')
    add('2', { isBridged: true })
    directory.stop()
    expect(ended).toEqual(['1 shutdown after 0 ms', '2 shutdown after 0 ms'])
    expect(clock.pending()).toBe(0)
    await clock.advance(600_000)
    expect(clock.pending()).toBe(0)
  })
})
