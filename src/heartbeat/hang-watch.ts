import type { Clock } from '../clock.ts'
import { type Diagnosis, type HangLaw, diagnose } from './hang.ts'

export interface CpuReading {
  readonly seconds: number
  readonly atMs: number
}

/** A process of ours, or a server that is not, as it is at this moment. */
export interface Vitals {
  /** Undefined where it is not ours. */
  readonly pid: number | undefined
  /** Of its whole tree, and when that was; undefined where nobody can tell. */
  readonly cpu: CpuReading | undefined
  readonly isStopped: boolean
  /** Monotonic time of its last output. */
  readonly lastHeardMs: number
  /** The same of its last answer to anybody, where a client may reach it though a probe does not. */
  readonly lastServedMs?: number
  /** Requests of clients that wait for its answer. */
  readonly inFlight: number
}

/** Looks at what a check asks: the process of a session, or else the upstream's own. Undefined where there is nothing. */
export type Examine = (session: string | undefined) => Vitals | undefined

/** What is remembered of a process that leaves probes unanswered. */
interface Case {
  readonly pid: number | undefined
  readonly cpu: CpuReading | undefined
  readonly unanswered: number
  readonly unexplained: number
  readonly notedMs: number
  /** Since when requests were seen to be under way without a gap, and when one last was. */
  readonly occupiedSinceMs: number | undefined
  readonly lastOccupiedMs: number
}

/** Follows the processes that leave probes unanswered, from the first such probe to the next sign of life. */
export class HangWatch {
  readonly #examine: Examine
  readonly #clock: Clock
  readonly #law: () => HangLaw
  readonly #cases = new Map<string | undefined, Case>()

  constructor({ examine, clock, law }: { examine: Examine; clock: Clock; law: () => HangLaw }) {
    this.#examine = examine
    this.#clock = clock
    this.#law = law
  }

  /** Probes of these processes, and no others, take longer than usual: from here on their CPU time is measured. */
  begin(sessions: readonly (string | undefined)[]): void {
    for (const session of this.#cases.keys()) if (!sessions.includes(session)) this.close(session)
    for (const session of sessions) {
      const vitals = this.#examine(session)
      if (vitals && !this.#caseOf(session, vitals)) this.#note(session, vitals, 0)
    }
  }

  /** The probe was not answered in time. Undefined where there is nothing to look at. */
  diagnose(session: string | undefined, intervalMs: number): Diagnosis | undefined {
    const vitals = this.#examine(session)
    if (!vitals) return undefined
    const { lastHeardMs, inFlight, cpu, isStopped } = vitals
    const before = this.#caseOf(session, vitals)
    const { unanswered, unexplained, occupiedSinceMs, lastOccupiedMs } = this.#note(session, vitals, 1)
    const nowMs = this.#clock.now()
    const cpuRatio = cpuRatioOf(before?.cpu, cpu)
    const silentMs = nowMs - lastHeardMs
    const occupiedMs = nowMs - (occupiedSinceMs ?? nowMs)
    const unoccupiedMs = inFlight > 0 ? 0 : nowMs - Math.max(lastOccupiedMs, lastHeardMs)
    const since = { silentMs, occupiedMs, unoccupiedMs }
    const signs = { unanswered, unexplained, intervalMs, ...since, inFlight, cpuRatio, isStopped }
    return diagnose(signs, this.#law())
  }

  /** The same where nobody but clients asks: undefined while none of them waits. */
  diagnoseWaiting(session: string | undefined, intervalMs: number): Diagnosis | undefined {
    const isWaiting = (this.#examine(session)?.inFlight ?? 0) > 0
    if (!isWaiting) this.close(session)
    return isWaiting ? this.diagnose(session, intervalMs) : undefined
  }

  /** It answered, or is dealt with: whatever comes is another case. */
  close(session: string | undefined): void {
    this.#cases.delete(session)
  }

  /** Whoever was heard since, by clients for example, begins anew. */
  #caseOf(session: string | undefined, { pid, lastHeardMs }: Vitals): Case | undefined {
    const found = this.#cases.get(session)
    return found && found.pid === pid && lastHeardMs <= found.notedMs ? found : undefined
  }

  #note(session: string | undefined, vitals: Vitals, more: 0 | 1): Case {
    const { pid, cpu, inFlight } = vitals
    const before = this.#caseOf(session, vitals)
    const nowMs = this.#clock.now()
    const noted = {
      pid,
      cpu,
      unanswered: (before?.unanswered ?? 0) + more,
      unexplained: (before?.unexplained ?? 0) + (inFlight > 0 ? 0 : more),
      notedMs: nowMs,
      occupiedSinceMs: inFlight > 0 ? (before?.occupiedSinceMs ?? nowMs) : undefined,
      lastOccupiedMs: inFlight > 0 ? nowMs : (before?.lastOccupiedMs ?? Number.NEGATIVE_INFINITY),
    }
    this.#cases.set(session, noted)
    return noted
  }
}

/** The share of one core that was used between two readings. */
export function cpuRatioOf(before: CpuReading | undefined, now: CpuReading | undefined): number | undefined {
  if (!before || !now || now.atMs <= before.atMs) return undefined
  return (Math.max(0, now.seconds - before.seconds) * 1000) / (now.atMs - before.atMs)
}
