import type { Clock } from '../clock.ts'
import { KnownError, Unanswered } from '../errors.ts'
import type { Sweep, Swept } from './sweep.ts'

/** How long a request may go unanswered; `Infinity` is for ever. */
export interface Deadlines {
  /** Without a single byte of the answer, or since its last one. */
  readonly stallTimeoutMs: number
  /** From the request to the end of its answer. */
  readonly requestTimeoutMs: number
}

/** When a request was sent, and when the upstream last did its part: sent something, or waited for somebody else. */
export interface Wait {
  readonly sentMs: number
  readonly heardMs: number
}

/** The deadline that has passed, as the error that the client gets. */
export function overdue({ sentMs, heardMs }: Wait, deadlines: Deadlines, nowMs: number): KnownError | undefined {
  const { stallTimeoutMs, requestTimeoutMs } = deadlines
  if (nowMs - heardMs >= stallTimeoutMs) {
    const message = `the server sent nothing for ${stallTimeoutMs / 1000} s (stall_timeout_seconds)`
    return new Unanswered(message, nowMs - heardMs)
  }
  if (nowMs - sentMs < requestTimeoutMs) return undefined
  const message = `the answer is not complete after ${requestTimeoutMs / 1000} s (request_timeout_seconds)`
  return new KnownError('upstream_timeout', message)
}

export interface DeadlineOptions {
  readonly clock: Clock
  readonly sweep: Sweep
  readonly deadlines: Deadlines
  /** Whether the server waits for the client now: its silence is not its own then. */
  readonly isExcused: () => boolean
  readonly onOverdue: (error: KnownError) => void
  /**
   * The server was silent for half of the time that it may be, and has so long to show that it lives, by which it is
   * heard; what is given tells whether it has worked since.
   */
  readonly onSilent?: ((leftMs: number) => () => boolean) | undefined
}

/** Holds one open request to its deadlines, from now until `stop`. */
export class DeadlineWatch implements Swept {
  readonly #options: DeadlineOptions
  readonly #sentMs: number
  #heardMs: number
  #hasHeard = false
  #mayBeSilent = false
  #hasWorked: (() => boolean) | undefined
  place: number | undefined

  constructor(options: DeadlineOptions) {
    this.#options = options
    this.#sentMs = options.clock.now()
    this.#heardMs = this.#sentMs
    options.sweep.add(this)
  }

  /** Something came from the server; when is noted at the next sweep, since asking costs more than waiting. */
  heard(): void {
    this.#hasHeard = true
  }

  /** From now on only the deadline for the whole counts. */
  allowSilence(): void {
    this.#mayBeSilent = true
  }

  /** For how long the server has done nothing for it, up to a second less than it was. */
  silentMs(): number {
    const { clock, isExcused } = this.#options
    return this.#hasHeard || isExcused() ? 0 : clock.now() - this.#heardMs
  }

  sweep(nowMs: number): void {
    const { deadlines, isExcused, onOverdue } = this.#options
    if (this.#hasHeard || this.#mayBeSilent || isExcused()) this.#lives(nowMs)
    this.#hasHeard = false
    this.#lookForLife(nowMs)
    const error = overdue({ sentMs: this.#sentMs, heardMs: this.#heardMs }, deadlines, nowMs)
    if (!error) return
    this.stop()
    onOverdue(error)
  }

  #lookForLife(nowMs: number): void {
    const { deadlines, onSilent } = this.#options
    const silentMs = nowMs - this.#heardMs
    if (silentMs < deadlines.stallTimeoutMs / 2) return
    this.#hasWorked ??= onSilent?.(Math.max(1, deadlines.stallTimeoutMs - silentMs))
    if (silentMs >= deadlines.stallTimeoutMs && this.#hasWorked?.()) this.#lives(nowMs)
  }

  #lives(nowMs: number): void {
    this.#heardMs = nowMs
    this.#hasWorked = undefined
  }

  stop(): void {
    this.#options.sweep.delete(this)
  }
}
