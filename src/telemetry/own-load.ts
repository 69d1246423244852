import { type EventLoopUtilization, monitorEventLoopDelay, performance as perf } from 'node:perf_hooks'
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

const resolutionMs = 20
const windowMs = 10_000

/** Measures our event loop in windows of ten seconds; whoever reads in between sees the window that goes on now. */
export class LoopMeter {
  readonly #clock: Clock
  readonly #delays = monitorEventLoopDelay({ resolution: resolutionMs })
  #since: EventLoopUtilization = perf.eventLoopUtilization()
  #windowStartMs: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#windowStartMs = clock.now()
    this.#delays.enable()
  }

  read(): LoopLoad {
    const { utilization } = perf.eventLoopUtilization(this.#since)
    // The monitor measures from tick to tick, so its own period is in every value.
    const p99Ms = this.#delays.count === 0 ? 0 : this.#delays.percentile(99) / 1e6 - resolutionMs
    if (this.#clock.now() - this.#windowStartMs >= windowMs) this.#turn()
    return { delayP99Ms: Math.max(0, p99Ms), utilisation: utilization }
  }

  #turn(): void {
    this.#windowStartMs = this.#clock.now()
    this.#since = perf.eventLoopUtilization()
    this.#delays.reset()
  }

  stop(): void {
    this.#delays.disable()
  }
}
