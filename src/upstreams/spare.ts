import { type Clock, sleep } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ExitReason, ServerProcess } from './process.ts'
import { afterGone, afterReady, delayOf, freshRestartState, type RestartDecision, restartReason } from './restart.ts'
import type { StartLane } from './start-gate.ts'
import type { RestartReason } from './upstream.ts'

export interface SpareEvents {
  /** One ended that nobody had taken; the next starts as decided. */
  onSpareExited(process: ServerProcess, exit: ExitReason, decision: RestartDecision): void
  /** One was started in place of one that had ended by itself. */
  onRestart(reason: RestartReason): void
}

export interface SparePoolOptions {
  readonly clock: Clock
  /** In [0, 1), for the jitter of the back-off. */
  readonly random: () => number
  readonly start: () => ServerProcess
  readonly starts: StartLane
  /** How many to keep; 0 is none. */
  readonly count: number
  /** Whether a signal has stopped the process of this id. */
  readonly isStopped: (pid: number) => boolean
  readonly events: SpareEvents
}

/**
 * Resolves when a start no longer counts as one: the process said something to whoever reads it, it ended, or so much
 * time has passed that what it still waits for is hardly the processor.
 */
export async function startedUp(process: ServerProcess, clock: Clock, firstWord?: AbortSignal): Promise<void> {
  const over = new AbortController()
  const end = () => over.abort()
  void process.exited.then(end)
  firstWord?.addEventListener('abort', end, { once: true })
  await sleep(clock, defaults.supervision.startHoldMs, over.signal)
}

/** A start takes the processor from the session that took the spare before, whose first answer is awaited. */
const replaceAfterMs = 100

/**
 * Processes that were started ahead, so that a session need not wait for one. Nothing was sent to them and nothing read:
 * whoever takes one gets it as new. One that ends by itself is replaced by the restart law (restart.ts), where up and
 * running counts as ready, since nobody asks it anything.
 */
export class SparePool {
  readonly #options: SparePoolOptions
  readonly #spares = new Set<ServerProcess>()
  #law = freshRestartState
  #notBeforeMs = 0
  /** The reason to give for the next start, if it is a restart. */
  #because: RestartReason | undefined
  #life: AbortController | undefined
  /** Ends the wait for one to be missing. */
  #wake: () => void = () => {}
  /** Ends the wait for the next start. */
  #pause: AbortController | undefined

  constructor(options: SparePoolOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#life || this.#options.count === 0) return
    this.#life = new AbortController()
    void this.#keep(this.#life.signal)
  }

  /** Those that wait for a session, the oldest first. */
  all(): readonly ServerProcess[] {
    return [...this.#spares].filter((process) => process.pid !== undefined && !process.exit())
  }

  /** The oldest that no signal has stopped, which is most likely to have started up; it is replaced. */
  take(): ServerProcess | undefined {
    const { isStopped } = this.#options
    const process = this.all().find(({ pid }) => pid !== undefined && !isStopped(pid))
    if (!process) return undefined
    this.#spares.delete(process)
    this.#notBeforeMs = Math.max(this.#notBeforeMs, this.#options.clock.now() + replaceAfterMs)
    this.#wake()
    return process
  }

  /** The next start waits no more, and the past is forgotten. */
  tryAgain(): void {
    this.#law = freshRestartState
    this.#notBeforeMs = 0
    this.#pause?.abort()
  }

  /** Resolves when the last one has gone. */
  async stop(): Promise<void> {
    this.#life?.abort()
    this.#life = undefined
    this.#pause?.abort()
    this.#wake()
    const spares = [...this.#spares]
    this.#spares.clear()
    await Promise.all(spares.map((process) => process.stop()))
  }

  async #keep(life: AbortSignal): Promise<void> {
    const { clock, count } = this.#options
    while (!life.aborted) {
      if (this.#spares.size < count) {
        this.#pause = new AbortController()
        await sleep(clock, this.#notBeforeMs - clock.now(), this.#pause.signal)
        await this.#startOne(life)
      } else await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  async #startOne(life: AbortSignal): Promise<void> {
    const { clock, starts, start, events } = this.#options
    const release = await starts.acquire(life)
    if (life.aborted) return release()
    const process = start()
    this.#spares.add(process)
    if (this.#because && process.pid !== undefined) events.onRestart(this.#because)
    this.#because = undefined
    void process.exited.then((exit) => this.#exited(process, exit))
    await startedUp(process, clock)
    release()
    if (!process.exit()) this.#law = afterReady(this.#law, clock.now())
  }

  #exited(process: ServerProcess, exit: ExitReason): void {
    if (!this.#spares.delete(process)) return
    const { clock, random, events } = this.#options
    const gone = { kind: 'exited', exit } as const
    const { state, decision } = afterGone(this.#law, { gone, nowMs: clock.now(), random: random() })
    this.#law = state
    if (process.pid !== undefined) this.#because = restartReason(gone)
    this.#notBeforeMs = clock.now() + delayOf(decision)
    events.onSpareExited(process, exit, decision)
    this.#wake()
  }
}
