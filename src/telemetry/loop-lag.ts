import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Gauge, Registry } from 'prom-client'
import type { Clock } from '../clock.ts'

/** Delays of the event loop in nanoseconds. */
export type Delays = ReturnType<typeof monitorEventLoopDelay>

/** Each scraper sees the last 30 to 60 seconds, so one that scrapes every 30 seconds or faster misses nothing. */
const windowMs = 30_000

/** As prom-client measures it. */
const resolutionMs = 10

const seconds = (nanoseconds: number) => nanoseconds / 1e9

/** What prom-client says of the event loop, but for what it measures at the scrape itself. */
const figures: readonly (readonly [name: string, help: string, read: (lag: Delays) => number])[] = [
  ['min', 'The minimum recorded event loop delay.', (lag) => seconds(lag.min)],
  ['max', 'The maximum recorded event loop delay.', (lag) => seconds(lag.max)],
  ['mean', 'The mean of the recorded event loop delays.', (lag) => seconds(lag.mean)],
  ['stddev', 'The standard deviation of the recorded event loop delays.', (lag) => seconds(lag.stddev)],
  ['p50', 'The 50th percentile of the recorded event loop delays.', (lag) => seconds(lag.percentile(50))],
  ['p90', 'The 90th percentile of the recorded event loop delays.', (lag) => seconds(lag.percentile(90))],
  ['p99', 'The 99th percentile of the recorded event loop delays.', (lag) => seconds(lag.percentile(99))],
]

/** A histogram of delays that no reading resets: it goes on for two windows and is then replaced by a younger one. */
export class LoopLag {
  readonly #clock: Clock
  readonly #start: () => Delays
  #older: Delays
  #younger: Delays
  #youngerSinceMs: number

  constructor(clock: Clock, start = startHistogram) {
    this.#clock = clock
    this.#start = start
    this.#older = start()
    this.#younger = this.#older
    this.#youngerSinceMs = clock.now()
  }

  /** The delays of at least the last 30 seconds. */
  read(): Delays {
    if (this.#clock.now() - this.#youngerSinceMs >= windowMs) {
      if (this.#older !== this.#younger) this.#older.disable()
      this.#older = this.#younger
      this.#younger = this.#start()
      this.#youngerSinceMs = this.#clock.now()
    }
    return this.#older
  }
}

function startHistogram(): Delays {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs })
  histogram.enable()
  return histogram
}

/**
 * Puts gauges of ours in the place of those of prom-client, which resets its histogram at each scrape: of two scrapers,
 * each would see what the other left over.
 */
export function replaceLoopLag(registry: Registry, makeGauge: typeof Gauge, clock: Clock): void {
  const lag = new LoopLag(clock)
  for (const [figure, help, read] of figures) {
    const name = `nodejs_eventloop_lag_${figure}_seconds`
    registry.removeSingleMetric(name)
    const gauge: Gauge = new makeGauge({
      name,
      help,
      registers: [registry],
      collect: () => {
        const histogram = lag.read()
        if (histogram.count > 0) gauge.set(read(histogram))
      },
    })
  }
}
