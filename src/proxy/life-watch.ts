import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { isAnswered } from '../heartbeat/classify.ts'
import { type CpuReading, cpuRatioOf } from '../heartbeat/hang-watch.ts'
import { ask } from '../heartbeat/probe.ts'
import type { Question } from '../heartbeat/question.ts'
import type { Life } from '../upstreams/link.ts'

export interface LifeDeps {
  readonly clock: Clock
  /** What a server may be asked on our own connection, or in a client's session; undefined where nothing. */
  readonly questionTo: (upstream: string, leg: 'upstream' | 'session') => Question | undefined
  /** CPU time of a process with all its children; undefined where nobody can tell. */
  readonly cpuOf: (pid: number) => CpuReading | undefined
}

export interface LifeWatchOptions extends Pick<LifeDeps, 'clock' | 'cpuOf'> {
  readonly life: () => Life | undefined
  readonly question: () => Question | undefined
  readonly onAnswered: () => void
}

/**
 * Finds out whether a server lives that owes an answer and says nothing: a tool that works for minutes without a word is
 * not to be given up while its server answers others, or uses the processor (control-law.md, "stdio supervision").
 */
export class LifeWatch {
  readonly #options: LifeWatchOptions
  #isAsking = false

  constructor(options: LifeWatchOptions) {
    this.#options = options
  }

  /** Asks the server; it has so long to answer. What is given tells whether its process has worked since then. */
  look(timeoutMs: number): () => boolean {
    const life = this.#options.life()
    const question = this.#options.question()
    if (life?.peer && question && !this.#isAsking) void this.#ask(life.peer, question, timeoutMs)
    const before = this.#cpuOf(life)
    return () => (cpuRatioOf(before, this.#cpuOf(life)) ?? 0) >= defaults.hang.idleCpuRatio
  }

  async #ask(talker: NonNullable<Life['peer']>, { era, method }: Question, deadlineMs: number): Promise<void> {
    const { clock, onAnswered } = this.#options
    this.#isAsking = true
    const { result } = await ask({ talker, clock, era, method, leg: 'session', deadlineMs })
    this.#isAsking = false
    if (isAnswered(result.outcome)) onAnswered()
  }

  #cpuOf(life: Life | undefined): CpuReading | undefined {
    const pid = life?.process?.pid
    return pid === undefined ? undefined : this.#options.cpuOf(pid)
  }
}
