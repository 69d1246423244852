import { describe, expect, it } from 'vitest'
import { SessionDirectory } from '../../src/sessions/directory.ts'
import type { Session } from '../../src/sessions/session.ts'
import { fakeClock } from '../support/fake-clock.ts'

const client = { ip: '127.0.0.1', userAgent: '' }

function tracked({ maxTracked = 10 } = {}) {
  const clock = fakeClock(5000)
  const ended: string[] = []
  const directory = new SessionDirectory({
    clock,
    maxTracked,
    cleanupIntervalMs: 1000,
    idleLimitMs: (upstream) => (upstream === 'short' ? 3000 : 60_000),
    onEnd: (session, end, durationMs) => ended.push(`${session.id} ${end} after ${durationMs} ms`),
  })
  const add = (id: string, upstream = 'short'): Session => {
    const session = directory.add({ id, upstream, transport: 'http', client })
    if (!session) throw new Error('not tracked')
    return session
  }
  return { clock, ended, directory, add }
}

describe('idle sessions', () => {
  it('expire at the limit of their upstream, and not a moment sooner', async () => {
    const { clock, ended, directory, add } = tracked()
    directory.start()
    add('a')
    add('b', 'long')
    await clock.advance(2999)
    expect(ended).toEqual([])
    await clock.advance(1)
    expect(ended).toEqual(['a expired after 3000 ms'])
  })

  it.each(['openStreams', 'pending'] as const)('never with %s, however long', async (open) => {
    const { clock, ended, directory, add } = tracked()
    directory.start()
    const session = add('a')
    session[open] = 1
    await clock.advance(1_000_000)
    expect(ended).toEqual([])
    session[open] = 0
    directory.touch(session)
    await clock.advance(3000)
    expect(ended).toEqual(['a expired after 1003000 ms'])
  })

  it('start anew with each sign of life', async () => {
    const { clock, ended, directory, add } = tracked()
    directory.start()
    const session = add('a')
    for (let n = 0; n < 5; n++) {
      await clock.advance(2000)
      directory.touch(session)
    }
    expect(ended).toEqual([])
    await clock.advance(3000)
    expect(ended).toEqual(['a expired after 13000 ms'])
  })
})

describe('the directory', () => {
  it('ends a session once', () => {
    const { ended, directory, add } = tracked()
    const session = add('a')
    directory.end(session, 'deleted')
    directory.end(session, 'unknown')
    expect(ended).toEqual(['a deleted after 0 ms'])
    expect(directory.get('short', 'a')).toBeUndefined()
  })

  it('keeps apart the same id of two upstreams, and knows an id again', () => {
    const { directory, add } = tracked()
    const session = add('a')
    expect(add('a', 'long')).not.toBe(session)
    expect(add('a')).toBe(session)
    expect([...directory.all()].length).toBe(2)
  })

  it('tracks no more than its limit, but makes room where something has expired', async () => {
    const { clock, ended, directory, add } = tracked({ maxTracked: 2 })
    add('a')
    add('b')
    expect(directory.add({ id: 'c', upstream: 'short', transport: 'http', client })).toBeUndefined()
    await clock.advance(3000)
    expect(add('c').id).toBe('c')
    expect(ended).toEqual(['a expired after 3000 ms', 'b expired after 3000 ms'])
  })

  it('ends everything at shutdown, and its timer', () => {
    const { clock, ended, directory, add } = tracked()
    directory.start()
    add('a').openStreams = 1
    directory.stop()
    expect(ended).toEqual(['a shutdown after 0 ms'])
    expect(clock.pending()).toBe(0)
  })

  it('shows of an id only a hash, never the id', () => {
    const { add } = tracked()
    const { key } = add('secret-session-id')
    expect(key).toMatch(/^[0-9a-f]{8}$/)
    expect(add('secret-session-id').key).toBe(key)
    expect(add('another').key).not.toBe(key)
  })
})
