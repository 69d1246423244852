import type { Clock } from '../clock.ts'
import type { HangLaw } from './hang.ts'
import type { Examine } from './hang-watch.ts'

/** What is seen of a process of ours that runs, and that one more probe could not reach: its pipe or its port is closed. */
export interface ReachSigns {
  /** Probes in a row that could not reach it, this one included. */
  readonly failures: number
  /** Since the first of them. */
  readonly unreachedMs: number
  /** The present interval between probes. */
  readonly intervalMs: number
  /** Requests of clients that it was given before, and may still answer. */
  readonly inFlight: number
}

/** Nobody can use it any more, which is as good as a hang, after the same time; what it writes to its log changes nothing. */
export function isLost({ failures, unreachedMs, intervalMs, inFlight }: ReachSigns, law: HangLaw): boolean {
  const mayServe = inFlight > 0 && unreachedMs < law.waitingMs
  return (
    failures >= law.unanswered && unreachedMs >= Math.max(law.silentMs, law.silentIntervals * intervalMs) && !mayServe
  )
}

/** Probes in a row that could not reach one process. */
interface Row {
  readonly pid: number | undefined
  readonly failures: number
  readonly sinceMs: number
}

/** Follows the processes of ours that run without being reached, from the first such probe to the next answer. */
export class ReachWatch {
  readonly #examine: Examine
  readonly #clock: Clock
  readonly #law: () => HangLaw
  readonly #rows = new Map<string | undefined, Row>()

  constructor({ examine, clock, law }: { examine: Examine; clock: Clock; law: () => HangLaw }) {
    this.#examine = examine
    this.#clock = clock
    this.#law = law
  }

  /** The probe that began then could not reach the process. Gives for how long, once that is too long. */
  failed(session: string | undefined, startedMs: number, intervalMs: number): number | undefined {
    this.#forgetGone()
    const vitals = this.#examine(session)
    if (!vitals) return undefined
    const { pid, inFlight, lastServedMs = Number.NEGATIVE_INFINITY } = vitals
    const found = this.#rows.get(session)
    const before = found && found.pid === pid && found.sinceMs > lastServedMs ? found : undefined
    const row = { pid, failures: (before?.failures ?? 0) + 1, sinceMs: before?.sinceMs ?? startedMs }
    this.#rows.set(session, row)
    const unreachedMs = this.#clock.now() - row.sinceMs
    return isLost({ failures: row.failures, unreachedMs, intervalMs, inFlight }, this.#law()) ? unreachedMs : undefined
  }

  /** It answered, or is dealt with. */
  close(session: string | undefined): void {
    this.#rows.delete(session)
  }

  #forgetGone(): void {
    for (const session of this.#rows.keys()) if (!this.#examine(session)) this.close(session)
  }
}
