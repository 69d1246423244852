import { monitorEventLoopDelay, performance as perf } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import type { Clock } from '../clock.ts'

/** How full our heap is, from 0 to 1, where 1 ends the process. */
export function heapRatio(): number {
  const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics()
  return used / limit
}

/** How busy our own event loop is, over the last window. */
export interface LoopLoad {
  readonly delayP99Ms: number
  /** 0…1. */
  readonly utilisation: number
}

/** What can be told of an event loop since the last `restart`. */
export interface LoopProbe {
  readonly read: () => LoopLoad
  readonly restart: () => void
  readonly stop: () => void
}

const windowMs = 10_000
/** In a window younger than this, the 99th percentile is its one latest tick. */
const settledMs = 5000

/**
 * Measures our event loop in windows of ten seconds. Whoever reads sees the window that goes on now, or, until that has
 * seen enough, the one before.
 */
export class LoopMeter {
  readonly #clock: Clock
  readonly #probe: LoopProbe
  #windowStartMs: number
  #before: LoopLoad = { delayP99Ms: 0, utilisation: 0 }

  constructor(clock: Clock, probe: LoopProbe = ownLoop()) {
    this.#clock = clock
    this.#probe = probe
    this.#windowStartMs = clock.now()
  }

  read(): LoopLoad {
    const ageMs = this.#clock.now() - this.#windowStartMs
    if (ageMs < settledMs) return this.#before
    const load = this.#probe.read()
    if (ageMs < windowMs) return load
    this.#before = load
    this.#windowStartMs = this.#clock.now()
    this.#probe.restart()
    return load
  }

  stop(): void {
    this.#probe.stop()
  }
}

const resolutionMs = 20

/** The event loop that this runs in. */
function ownLoop(): LoopProbe {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs })
  let since = perf.eventLoopUtilization()
  delays.enable()
  return {
    read: () => {
      // The monitor measures from tick to tick, so its own period is in every value.
      const p99Ms = delays.count === 0 ? 0 : delays.percentile(99) / 1e6 - resolutionMs
      return { delayP99Ms: Math.max(0, p99Ms), utilisation: perf.eventLoopUtilization(since).utilization }
    },
    restart: () => {
      since = perf.eventLoopUtilization()
      delays.reset()
    },
    stop: () => delays.disable(),
  }
}
