import { type Clock, sleep } from '../clock.ts'
import { type BackoffLaw, retryDelayMs } from './backoff.ts'
import type { Delivery } from './delivery.ts'
import { type NoticeQueue, emptyQueue, nextBatch, offer, sending, settled } from './queue.ts'
import type { Notice } from './tracking.ts'

export interface MessengerEvents {
  /** After each request. */
  onDelivery(delivery: Delivery, notices: number, durationMs: number): void
  /** A request failed, and the next try comes in a while. */
  onRetry(reason: string, inMs: number, waiting: number): void
  /** These will never be sent: there was no room for them, or no time. */
  onDropped(notices: number): void
}

export interface MessengerOptions {
  readonly clock: Clock
  /** In [0, 1), for the jitter of the back-off. */
  readonly random: () => number
  /** Sends these together; never rejects. */
  readonly send: (batch: readonly Notice[], signal: AbortSignal) => Promise<Delivery>
  readonly batchSize: number
  readonly maxWaiting: number
  readonly backoff: BackoffLaw
  readonly events: MessengerEvents
}

/** Tells one receiver what is to be told, one request at a time and in its order, for as long as that takes. */
export class Messenger {
  readonly #options: MessengerOptions
  readonly #life = new AbortController()
  #queue: NoticeQueue = emptyQueue
  #failures = 0
  #delivering: Promise<void> | undefined
  /** Ends the wait for the next try. */
  #pause: AbortController | undefined
  #isStopping = false

  constructor(options: MessengerOptions) {
    this.#options = options
  }

  /** How many notices wait, those under way included. */
  waiting(): number {
    return this.#queue.waiting.size
  }

  tell(notices: readonly Notice[]): void {
    for (const notice of notices) {
      const { queue, dropped } = offer(this.#queue, notice, this.#options.maxWaiting)
      this.#queue = queue
      if (dropped > 0) this.#options.events.onDropped(dropped)
    }
    if (!this.#isStopping) this.#deliver()
  }

  /** Tries once more to send what waits, for this long at most; what is left then is lost. */
  async stop(withinMs: number): Promise<void> {
    this.#isStopping = true
    const deadline = this.#options.clock.after(withinMs, () => this.#life.abort())
    this.#pause?.abort()
    await this.#delivering
    deadline.cancel()
    this.#life.abort()
    if (this.waiting() > 0) this.#options.events.onDropped(this.waiting())
    this.#queue = emptyQueue
  }

  #deliver(): void {
    this.#delivering ??= this.#deliverAll().finally(() => {
      this.#delivering = undefined
      if (this.waiting() > 0 && !this.#isStopping) this.#deliver()
    })
  }

  async #deliverAll(): Promise<void> {
    const { clock, random, backoff, events } = this.#options
    while (this.waiting() > 0 && !this.#life.signal.aborted) {
      const delivery = await this.#deliverSome()
      if (delivery.kind !== 'failed') this.#failures = 0
      else {
        this.#failures += 1
        if (this.#isStopping) return
        const inMs = retryDelayMs(this.#failures, { random: random(), retryAfterMs: delivery.retryAfterMs }, backoff)
        events.onRetry(delivery.reason, inMs, this.waiting())
        this.#pause = new AbortController()
        await sleep(clock, inMs, this.#pause.signal)
        this.#pause = undefined
      }
    }
  }

  async #deliverSome(): Promise<Delivery> {
    const { clock, send, batchSize, events } = this.#options
    const batch = nextBatch(this.#queue, batchSize)
    this.#queue = sending(this.#queue, batch)
    const startedMs = clock.now()
    const delivery = await send(batch, this.#life.signal)
    if (delivery.kind !== 'failed') this.#queue = settled(this.#queue, batch)
    events.onDelivery(delivery, batch.length, clock.now() - startedMs)
    return delivery
  }
}
