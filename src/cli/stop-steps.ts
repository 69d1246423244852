import { type Clock, sleep } from '../clock.ts'
import { errorMessage } from '../errors.ts'

export interface StopReport {
  /** Steps that threw or were still at work at the deadline, each with why. */
  readonly problems: readonly string[]
}

/** What must be undone at the end, in the reverse of the order in which it was done. */
export class StopSteps {
  readonly #steps: { readonly name: string; readonly run: () => Promise<void> | void }[] = []

  add(name: string, run: () => Promise<void> | void): void {
    this.#steps.push({ name, run })
  }

  /** Runs every step, last first, under one deadline; a step that fails or lags does not keep the others from running. */
  async run(clock: Clock, deadlineMs: number): Promise<StopReport> {
    const endsMs = clock.now() + deadlineMs
    const problems: string[] = []
    for (const { name, run } of this.#steps.splice(0).toReversed()) {
      const leftMs = Math.max(100, endsMs - clock.now())
      const stopped = (async () => run())().then(
        () => undefined,
        (error: unknown) => `${name}: ${errorMessage(error)}`,
      )
      const waiting = new AbortController()
      const late = sleep(clock, leftMs, waiting.signal).then(() => `${name}: not done in time`)
      const problem = await Promise.race([stopped, late])
      waiting.abort()
      if (problem !== undefined) problems.push(problem)
    }
    return { problems }
  }
}
