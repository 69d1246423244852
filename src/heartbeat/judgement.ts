import type { Clock } from '../clock.ts'
import type { Redact } from '../redaction.ts'
import { type Availability, newAvailability, observeAvailability, unavailableSeconds } from './availability.ts'
import { type Evidence, type Limits, type State, type Verdict, isUnavailable, judge, newVerdict } from './verdict.ts'

export interface JudgementOptions {
  readonly clock: Clock
  readonly state: State
  readonly reason: string
  /** Looked up each time. */
  readonly limits: () => Limits
  /** Hides secrets in reasons, which may be the words of a server. */
  readonly redact: Redact | undefined
  /** The state is another one; `traceId` as it was given with the evidence. */
  readonly onChange: (from: Verdict, to: Verdict, traceId: string | undefined) => void
}

/** The verdict on one upstream as it stands, and how long it was unavailable by it. */
export class Judgement {
  readonly #options: JudgementOptions
  #verdict: Verdict
  #availability: Availability = newAvailability()

  constructor(options: JudgementOptions) {
    this.#options = options
    this.#verdict = newVerdict(options.state, options.reason, options.clock.now())
  }

  get verdict(): Verdict {
    return this.#verdict
  }

  unavailableSeconds(): number {
    return unavailableSeconds(this.#availability, this.#options.clock.now())
  }

  weigh(evidence: Evidence | undefined, traceId?: string): void {
    if (evidence) this.weighAll([evidence], traceId)
  }

  /** Several pieces that are one piece of news: what each alone would come to is told to nobody. */
  weighAll(pieces: readonly (Evidence | undefined)[], traceId?: string): void {
    const { clock, limits, onChange } = this.#options
    const before = this.#verdict
    for (const evidence of pieces) {
      if (!evidence) continue
      const reason = this.shown(evidence.reason)
      const shown = reason === evidence.reason ? evidence : { ...evidence, reason }
      this.#verdict = judge(this.#verdict, shown, clock.now(), limits())
    }
    if (this.#verdict === before) return
    const sinceMs = this.#verdict.failingSinceMs ?? before.failingSinceMs
    const isLost = isUnavailable(this.#verdict)
    this.#availability = observeAvailability(this.#availability, isLost, clock.now(), sinceMs)
    if (this.#verdict.state !== before.state) onChange(before, this.#verdict, traceId)
  }

  /** As people may read it. */
  shown(reason: string): string {
    return this.#options.redact?.(reason) ?? reason
  }
}
