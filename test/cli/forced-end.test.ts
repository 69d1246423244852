import { describe, expect, it } from 'vitest'
import { type EndSigns, forcedEnd, watchEnd } from '../../src/cli/forced-end.ts'
import type { ExitReason } from '../../src/upstreams/process.ts'
import { fakeClock } from '../support/fake-clock.ts'

const nothing: EndSigns = { termAtMs: undefined, askedAtMs: undefined, isInputOver: false, isClientGone: false }

describe('at 20 s, a server that has not ended', () => {
  it.each<[string, Partial<EndSigns>, 'kill' | 'stop' | undefined]>([
    ['was told nothing', {}, undefined],
    ['was sent SIGTERM 14 s ago', { termAtMs: 6000, askedAtMs: 6000 }, 'kill'],
    ['was sent SIGTERM a little later', { termAtMs: 6001, askedAtMs: 6001 }, undefined],
    ['was sent SIGINT long ago, and is still spoken to', { askedAtMs: 0 }, undefined],
    ['was sent SIGINT long ago, and its input has ended', { askedAtMs: 0, isInputOver: true }, 'kill'],
    ['has heard the end of its input, from a client that lives', { isInputOver: true }, undefined],
    ['has heard the end of its input, from a client that is gone', { isInputOver: true, isClientGone: true }, 'stop'],
    ['is still spoken to, though whoever started it has ended', { isClientGone: true }, undefined],
  ])('%s', (_what, signs, expected) => {
    expect(forcedEnd({ ...nothing, ...signs }, 20_000)).toBe(expected)
  })
})

/** A server that ends when it is killed or stopped, with what was done to it and when. */
function watched() {
  const clock = fakeClock()
  const { promise: exited, resolve } = Promise.withResolvers<ExitReason>()
  let exit: ExitReason | undefined
  const end = (reason: ExitReason) => {
    exit = reason
    resolve(reason)
  }
  const done: string[] = []
  const note = (what: string) => done.push(`${what} at ${clock.now() / 1000} s`)
  const server = {
    exited,
    exit: () => exit,
    kill: (signal: NodeJS.Signals) => {
      note(signal)
      end({ kind: 'signal', signal })
    },
    stop: () => {
      note('stop')
      end({ kind: 'exit', code: 0 })
      return exited
    },
  }
  const signs: { now: EndSigns } = { now: nothing }
  const onForced = (why: string) => void note(why)
  return { clock, done, end, signs, watch: () => watchEnd({ clock, server, signs: () => signs.now, onForced }) }
}

it('kills it when its time is up, and looks no more', async () => {
  const { clock, done, signs, watch } = watched()
  signs.now = { ...nothing, termAtMs: 0, askedAtMs: 0 }
  const over = watch()
  await clock.advance(60_000)
  await over
  expect(done).toEqual(['the server has not ended 14 s after it was told to, and is killed at 14 s', 'SIGKILL at 14 s'])
  expect(clock.pending()).toBe(0)
})

it('stops it once its client is gone', async () => {
  const { clock, done, signs, watch } = watched()
  signs.now = { ...nothing, isInputOver: true }
  const over = watch()
  await clock.advance(3_600_000)
  expect(done).toEqual([])
  signs.now = { ...nothing, isInputOver: true, isClientGone: true }
  await clock.advance(1000)
  await over
  expect(done).toEqual(['the client is gone, and the server is stopped at 3601 s', 'stop at 3601 s'])
})

it('leaves alone what ends by itself', async () => {
  const { clock, done, end, signs, watch } = watched()
  signs.now = { ...nothing, termAtMs: 0, askedAtMs: 0 }
  const over = watch()
  await clock.advance(5000)
  end({ kind: 'exit', code: 3 })
  await clock.advance(0)
  await over
  expect(done).toEqual([])
  expect(clock.pending()).toBe(0)
})
