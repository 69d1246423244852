import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { type KnownError, RetryLater } from '../errors.ts'

export const circuitStates = ['closed', 'open', 'half_open'] as const
export type CircuitState = (typeof circuitStates)[number]

/** Whether requests go to a server, and since when not. Plain data; times are monotonic milliseconds. */
export type Circuit =
  | { readonly kind: 'closed'; readonly failuresInRow: number }
  | {
      readonly kind: 'open'
      readonly untilMs: number
      readonly openForMs: number
      readonly reason: string
      /** Whether a sign of life has ended a wait since it was last closed. */
      readonly hadSign: boolean
    }
  /** One request is let through to find out, and another one each second while none has ended. */
  | {
      readonly kind: 'half_open'
      /** Since when the last of them has been trying; undefined when it told nothing. */
      readonly triedAtMs: number | undefined
      readonly openForMs: number
      readonly reason: string
      readonly hadSign: boolean
    }

/** How requests ended lately. */
export interface Tally {
  readonly ok: number
  readonly failed: number
}

export const closedCircuit: Circuit = { kind: 'closed', failuresInRow: 0 }

const { failuresToOpen, successFloor, minRequests, windowMs, firstOpenMs, maxOpenMs, trialMs } = defaults.breaker

/**
 * The circuit after a request that failed below JSON-RPC. It opens at five such failures in a row, or when less than
 * 80 % of at least ten requests within 30 s succeeded; a trial that fails doubles the wait, up to a minute.
 */
export function afterFailure(circuit: Circuit, tally: Tally, reason: string, nowMs: number): Circuit {
  if (circuit.kind === 'open') return circuit
  if (circuit.kind === 'half_open') {
    const openForMs = Math.min(maxOpenMs, circuit.openForMs * 2)
    return { kind: 'open', untilMs: nowMs + openForMs, openForMs, reason, hadSign: circuit.hadSign }
  }
  const failuresInRow = circuit.failuresInRow + 1
  if (failuresInRow >= failuresToOpen) {
    return firstOpen(`${failuresInRow} requests in a row failed, the last one: ${reason}`, nowMs)
  }
  const all = tally.ok + tally.failed
  if (all >= minRequests && tally.ok / all < successFloor) {
    const share = `${tally.failed} of ${all} requests within ${windowMs / 1000} s failed`
    return firstOpen(`${share}, the last one: ${reason}`, nowMs)
  }
  return { kind: 'closed', failuresInRow }
}

/** A success closes it, whichever request it came from: the server is there. */
export function afterSuccess(circuit: Circuit): Circuit {
  return circuit.kind === 'closed' && circuit.failuresInRow === 0 ? circuit : closedCircuit
}

/**
 * There is other evidence that the server is there again, so the next request may try at once. Once: a server that
 * answers heartbeats and fails clients all the same is given its time.
 */
export function afterSignOfLife(circuit: Circuit, nowMs: number): Circuit {
  if (circuit.kind !== 'open' || (circuit.hadSign && nowMs < circuit.untilMs)) return circuit
  return { ...halfOpen(circuit, undefined), hadSign: true }
}

export type Passage =
  | { readonly kind: 'pass'; readonly circuit: Circuit; readonly isTrial: boolean }
  | { readonly kind: 'refused'; readonly retryInMs: number; readonly reason: string }

/** Whether a request may go now. One that takes minutes must not keep all others waiting for what it tells. */
export function pass(circuit: Circuit, nowMs: number): Passage {
  if (circuit.kind === 'closed') return { kind: 'pass', circuit, isTrial: false }
  if (circuit.kind === 'open' && nowMs < circuit.untilMs) {
    return { kind: 'refused', retryInMs: circuit.untilMs - nowMs, reason: circuit.reason }
  }
  if (circuit.kind === 'half_open' && circuit.triedAtMs !== undefined && nowMs < circuit.triedAtMs + trialMs) {
    return { kind: 'refused', retryInMs: circuit.triedAtMs + trialMs - nowMs, reason: circuit.reason }
  }
  return { kind: 'pass', circuit: halfOpen(circuit, nowMs), isTrial: true }
}

/** The trial of that moment ended without telling anything: its client left. The next request is one. */
export function afterNothing(circuit: Circuit, triedAtMs: number): Circuit {
  return circuit.kind === 'half_open' && circuit.triedAtMs === triedAtMs ? halfOpen(circuit, undefined) : circuit
}

function firstOpen(reason: string, nowMs: number): Circuit {
  return { kind: 'open', untilMs: nowMs + firstOpenMs, openForMs: firstOpenMs, reason, hadSign: false }
}

type HalfOpen = Extract<Circuit, { kind: 'half_open' }>

function halfOpen(circuit: Exclude<Circuit, { kind: 'closed' }>, triedAtMs: number | undefined): HalfOpen {
  const { openForMs, reason, hadSign } = circuit
  return { kind: 'half_open', triedAtMs, openForMs, reason, hadSign }
}

export interface BreakerOptions {
  readonly clock: Clock
  /** Off: everything passes. */
  readonly isEnabled: boolean
  readonly onChange?: ((from: CircuitState, to: CircuitState, reason: string) => void) | undefined
}

/** A request on its way through the breaker. */
export interface Permit {
  /** The request is over, however it ended. */
  release(): void
}

const noTrial: Permit = { release: () => undefined }

/** The circuit breaker of one server: while it is open, requests are refused at once instead of failing slowly. */
export class Breaker {
  readonly #options: BreakerOptions
  readonly #recent: RecentTally
  #circuit = closedCircuit

  constructor(options: BreakerOptions) {
    this.#options = options
    this.#recent = new RecentTally(options.clock)
  }

  /** What a request would be told now; undefined if it may go. */
  refusal(): KnownError | undefined {
    if (this.#circuit.kind === 'closed') return undefined
    const answer = pass(this.#circuit, this.#options.clock.now())
    return answer.kind === 'refused' ? refused(answer) : undefined
  }

  /** Lets a request go, or says why not. */
  enter(): Permit | KnownError {
    if (this.#circuit.kind === 'closed') return noTrial
    const nowMs = this.#options.clock.now()
    const answer = pass(this.#circuit, nowMs)
    if (answer.kind === 'refused') return refused(answer)
    this.#become(answer.circuit)
    return answer.isTrial ? { release: () => this.#become(afterNothing(this.#circuit, nowMs)) } : noTrial
  }

  succeeded(): void {
    this.#recent.add(true)
    const next = afterSuccess(this.#circuit)
    if (next === this.#circuit) return
    if (this.#circuit.kind !== 'closed') this.#recent.clear()
    this.#become(next)
  }

  failed(reason: string): void {
    if (!this.#options.isEnabled) return
    this.#recent.add(false)
    this.#become(afterFailure(this.#circuit, this.#recent.read(), reason, this.#options.clock.now()))
  }

  /** A heartbeat was answered. */
  signOfLife(): void {
    this.#become(afterSignOfLife(this.#circuit, this.#options.clock.now()))
  }

  /** For people and metrics. */
  view(): {
    readonly state: CircuitState
    readonly reason: string | undefined
    readonly retryInMs: number | undefined
  } {
    const circuit = this.#circuit
    if (circuit.kind === 'closed') return { state: 'closed', reason: undefined, retryInMs: undefined }
    const retryInMs = circuit.kind === 'open' ? Math.max(0, circuit.untilMs - this.#options.clock.now()) : 0
    return { state: circuit.kind, reason: circuit.reason, retryInMs }
  }

  #become(next: Circuit): void {
    const before = this.#circuit
    this.#circuit = next
    if (before.kind === next.kind) return
    this.#options.onChange?.(before.kind, next.kind, next.kind === 'closed' ? 'a request succeeded' : next.reason)
  }
}

function refused({ retryInMs, reason }: Extract<Passage, { kind: 'refused' }>): KnownError {
  const seconds = Math.max(1, Math.ceil(retryInMs / 1000))
  return new RetryLater('circuit_open', `the server is given ${seconds} s to recover: ${reason}`, seconds)
}

const slotMs = 1000

/** Counts successes and failures of the last 30 s in slots of a second, without remembering each. */
class RecentTally {
  readonly #clock: Clock
  readonly #ok = new Uint32Array(windowMs / slotMs)
  readonly #failed = new Uint32Array(windowMs / slotMs)
  #slot: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#slot = Math.floor(clock.now() / slotMs)
  }

  add(isOk: boolean): void {
    const at = this.#advance()
    const counts = isOk ? this.#ok : this.#failed
    counts[at] = (counts[at] ?? 0) + 1
  }

  read(): Tally {
    this.#advance()
    const sum = (counts: Uint32Array) => counts.reduce((total, count) => total + count, 0)
    return { ok: sum(this.#ok), failed: sum(this.#failed) }
  }

  clear(): void {
    this.#ok.fill(0)
    this.#failed.fill(0)
  }

  /** Empties the slots that were not used since, and gives that of this moment. */
  #advance(): number {
    const now = Math.floor(this.#clock.now() / slotMs)
    const slots = this.#ok.length
    if (now - this.#slot >= slots) this.clear()
    else {
      for (let slot = this.#slot + 1; slot <= now; slot++) {
        this.#ok[slot % slots] = 0
        this.#failed[slot % slots] = 0
      }
    }
    this.#slot = now
    return now % slots
  }
}
