import type { Clock } from '../clock.ts'
import { isQuestion, wasAsked } from './classify.ts'
import type { ProbeResult } from './probe.ts'
import { type RttEstimate, observeHealth, observeRtt, probeTimeoutMs } from './timeout.ts'

/** What bounds a time-out, and what stretches it. */
export interface Patience {
  /** Whether so many heartbeats in a row were missed that the upstream is down. */
  readonly isDown: boolean
  readonly minTimeoutMs: number
  readonly maxTimeoutMs: number
}

/** When one server was heard, how long it takes to answer, and so for how long an answer is to be waited for. */
export class Answers {
  readonly #clock: Clock
  #heardMs = Number.NEGATIVE_INFINITY
  #noiseMs = Number.NEGATIVE_INFINITY
  #probedMs = Number.NEGATIVE_INFINITY
  #successWallMs: number | undefined
  #rtt: RttEstimate | undefined
  #localHealth = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** When it last answered anybody, monotonic. */
  get heardMs(): number {
    return this.#heardMs
  }

  /** The same, or when something came that is no answer. */
  get heardOrNoiseMs(): number {
    return Math.max(this.#heardMs, this.#noiseMs)
  }

  /** When it last answered a request of ours, monotonic. */
  get probedMs(): number {
    return this.#probedMs
  }

  /** When it last answered anybody, as wall time. */
  get successWallMs(): number | undefined {
    return this.#successWallMs
  }

  /** Smoothed; undefined as long as nothing was measured. */
  get roundTripMs(): number | undefined {
    return this.#rtt?.smoothedMs
  }

  /** It answered somebody. */
  heard(): void {
    this.#heardMs = this.#clock.now()
    this.#successWallMs = this.#clock.wallTime()
  }

  /** It answered a heartbeat. */
  probed({ method, opening, durationMs }: ProbeResult): void {
    this.heard()
    this.#localHealth = observeHealth(this.#localHealth, 'success')
    if (isQuestion(method)) this.#probedMs = this.#clock.now()
    if (!opening && wasAsked(method)) this.#rtt = observeRtt(this.#rtt, durationMs)
  }

  /** Something came in place of an answer. */
  noise(): void {
    this.#noiseMs = this.#clock.now()
  }

  /** Our own event loop spoiled a heartbeat. */
  spoiled(): void {
    this.#localHealth = observeHealth(this.#localHealth, 'inconclusive')
  }

  timeoutMs({ isDown, minTimeoutMs: minMs, maxTimeoutMs: maxMs }: Patience): number {
    return probeTimeoutMs(this.#rtt, { isDown, localHealth: this.#localHealth, minMs, maxMs })
  }
}
