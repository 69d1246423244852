import { describe, expect, it } from 'vitest'
import { StopSteps } from '../../src/cli/stop-steps.ts'
import { fakeClock } from '../support/fake-clock.ts'

describe('StopSteps', () => {
  it('runs every step, last first, one after the other, and once', async () => {
    const clock = fakeClock()
    const steps = new StopSteps()
    const done: string[] = []
    steps.add('first', () => void done.push('first'))
    steps.add('second', async () => {
      await new Promise<void>((resolve) => clock.after(100, resolve))
      done.push('second')
    })
    steps.add('third', () => void done.push('third'))
    const running = steps.run(clock, 1000)
    await clock.advance(0)
    expect(done).toEqual(['third'])
    await clock.advance(100)
    expect(done).toEqual(['third', 'second', 'first'])
    expect(await running).toEqual({ problems: [] })
    expect(await steps.run(clock, 1000)).toEqual({ problems: [] })
    expect(done).toHaveLength(3)
    expect(clock.pending()).toBe(0)
  })

  it('tells which step failed and which was late, and runs the others nevertheless', async () => {
    const clock = fakeClock()
    const steps = new StopSteps()
    const done: string[] = []
    steps.add('after the deadline', () => void done.push('after the deadline'))
    steps.add('hanging', () => new Promise<void>(() => undefined))
    steps.add('throwing', () => {
      throw new Error('no such thing')
    })
    steps.add('rejecting', () => Promise.reject(new Error('no luck')))
    const running = steps.run(clock, 1000)
    await clock.advance(999)
    expect(done).toEqual([])
    await clock.advance(1)
    expect(await running).toEqual({
      problems: ['rejecting: no luck', 'throwing: no such thing', 'hanging: not done in time'],
    })
    expect(done).toEqual(['after the deadline'])
  })
})
