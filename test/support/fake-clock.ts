import type { Clock } from '../../src/clock.ts'

export interface FakeClock extends Clock {
  /** Moves time on, firing each timer at its own moment and letting the promises behind it settle before the next. */
  advance(ms: number): Promise<void>
  /** Timers that have not fired. */
  pending(): number
}

/** Virtual time: nothing passes until `advance`. */
export function fakeClock(startMs = 0, wallStartMs = Date.UTC(2026, 0, 1)): FakeClock {
  let nowMs = startMs
  let order = 0
  const timers = new Map<object, { dueMs: number; order: number; run: () => void }>()
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
  const nextDue = (untilMs: number) => {
    let next: [object, { dueMs: number; order: number; run: () => void }] | undefined
    for (const entry of timers) {
      const [, timer] = entry
      if (timer.dueMs > untilMs) continue
      if (!next || timer.dueMs < next[1].dueMs || (timer.dueMs === next[1].dueMs && timer.order < next[1].order)) {
        next = entry
      }
    }
    return next
  }
  return {
    now: () => nowMs,
    wallTime: () => wallStartMs + (nowMs - startMs),
    after: (delayMs, run) => {
      const handle = { cancel: () => void timers.delete(handle) }
      timers.set(handle, { dueMs: nowMs + Math.max(0, delayMs), order: order++, run })
      return handle
    },
    advance: async (ms) => {
      const untilMs = nowMs + ms
      await settle()
      for (let next = nextDue(untilMs); next; next = nextDue(untilMs)) {
        timers.delete(next[0])
        nowMs = Math.max(nowMs, next[1].dueMs)
        next[1].run()
        await settle()
      }
      nowMs = untilMs
      await settle()
    },
    pending: () => timers.size,
  }
}
