import { monitorEventLoopDelay, performance as perf } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import type { Clock } from '../clock.ts'

/** How full our heap is, from 0 to 1, where 1 ends the process. */
export function heapRatio(): number {
  const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics()
  return used / limit
}

/** How busy our own event loop is, of late. */
export interface LoopLoad {
  readonly delayP99Ms: number
  /** 0…1. */
  readonly utilisation: number
}

/** What can be told of an event loop since the last `restart`. */
export interface LoopProbe {
  readonly read: () => LoopLoad & { readonly longestDelayMs: number }
  readonly restart: () => void
  readonly stop: () => void
}

/** In a window younger than this, the 99th percentile is its one latest tick. */
const settledMs = 5000
/** For whoever looks once a second, a burst counts no more when it has been over for two. */
const freshMs = 1000

/**
 * Measures our event loop over the last five to ten seconds. Nobody is said to wait for longer than the longest delay
 * of the last two seconds: what escalates while a load lasts must not do so on the memory of it.
 */
export class LoopMeter {
  readonly #clock: Clock
  readonly #startedMs: number
  readonly #settled: Overlapping
  readonly #fresh: Overlapping

  constructor(clock: Clock, probe: () => LoopProbe = ownLoop) {
    this.#clock = clock
    this.#startedMs = clock.now()
    this.#settled = new Overlapping(clock, settledMs, probe)
    this.#fresh = new Overlapping(clock, freshMs, probe)
  }

  read(): LoopLoad {
    const { delayP99Ms, utilisation } = this.#settled.read()
    const { longestDelayMs } = this.#fresh.read()
    if (this.#clock.now() - this.#startedMs < settledMs) return { delayP99Ms: 0, utilisation: 0 }
    return { delayP99Ms: Math.min(delayP99Ms, longestDelayMs), utilisation }
  }

  stop(): void {
    this.#settled.stop()
    this.#fresh.stop()
  }
}

/**
 * Two probes that are restarted in turn: each reading is of the last one to two windows, or, where those who read come
 * more rarely, of the time since the last but one.
 */
class Overlapping {
  readonly #clock: Clock
  readonly #windowMs: number
  #older: LoopProbe
  #younger: LoopProbe
  #youngerSinceMs: number

  constructor(clock: Clock, windowMs: number, probe: () => LoopProbe) {
    this.#clock = clock
    this.#windowMs = windowMs
    this.#older = probe()
    this.#younger = probe()
    this.#youngerSinceMs = clock.now()
  }

  /** The older one is read before it is restarted: a probe misses what delays its very first tick. */
  read(): ReturnType<LoopProbe['read']> {
    const load = this.#older.read()
    const nowMs = this.#clock.now()
    if (nowMs - this.#youngerSinceMs >= this.#windowMs) {
      this.#older.restart()
      ;[this.#older, this.#younger] = [this.#younger, this.#older]
      this.#youngerSinceMs = nowMs
    }
    return load
  }

  stop(): void {
    this.#older.stop()
    this.#younger.stop()
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
      const delayMs = (nanoseconds: number) => (delays.count === 0 ? 0 : Math.max(0, nanoseconds / 1e6 - resolutionMs))
      return {
        delayP99Ms: delayMs(delays.percentile(99)),
        longestDelayMs: delayMs(delays.max),
        utilisation: perf.eventLoopUtilization(since).utilization,
      }
    },
    restart: () => {
      since = perf.eventLoopUtilization()
      delays.reset()
    },
    stop: () => delays.disable(),
  }
}
