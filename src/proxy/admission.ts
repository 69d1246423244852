import type { Clock } from '../clock.ts'
import { GivenUp, KnownError } from '../errors.ts'
import type { Limited, Turn } from '../upstreams/queue.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Permit } from '../upstreams/breaker.ts'
import { type DeadlineOptions, DeadlineWatch } from './deadlines.ts'
import type { Shedder } from './shed.ts'
import type { Sweep } from './sweep.ts'

/** Its answer is a stream that lasts (MCP 2026-07-28, "Subscriptions"). */
const listenMethod = 'subscriptions/listen'

/**
 * What a message asks of the limits of its server: a request takes a turn and is to be answered in time; anything else
 * is to be delivered in time, yet takes no turn, since requests under way may wait for the very answer or cancellation
 * that it is; a stream that lasts does neither.
 */
export type Claim = 'answer' | 'delivery' | 'stream'

export function claimOf(envelope: Envelope | undefined): Claim {
  if (envelope?.kind === 'batch') return claimOfBatch(envelope)
  if (envelope?.kind !== 'request') return 'delivery'
  return envelope.method === listenMethod ? 'stream' : 'answer'
}

/** One that is too long to be taken apart is not let past the limits. */
function claimOfBatch({ messages }: Envelope): Claim {
  return !messages || messages.some((message) => claimOf(message) === 'answer') ? 'answer' : 'delivery'
}

export interface AdmissionDeps {
  readonly clock: Clock
  readonly sweep: Sweep
  readonly onRequest: (upstream: string, inFlight: 1 | -1) => void
  readonly shedder: Pick<Shedder, 'refusal'>
}

export type Answering = Pick<DeadlineOptions, 'isExcused' | 'onOverdue' | 'onSilent'>

/** What bounds a message; without a breaker where no failure of others is a reason to refuse it. */
export type Bounds = Omit<Limited, 'breaker'> & { readonly breaker?: Limited['breaker'] | undefined }

/**
 * One message of a client on its way through the limits of its server, on every path the same: it waits for its turn,
 * counts as in flight once it is sent, and has its deadlines until it is over, which gives everything back.
 */
export class Admission {
  readonly #deps: AdmissionDeps
  readonly #upstream: string
  readonly #server: Bounds
  #claim: Claim = 'delivery'
  #turn: Turn | undefined
  #permit: Permit | undefined
  #watch: DeadlineWatch | undefined
  #isCounted = false
  #isAbandoned = false
  #isOver = false

  constructor(deps: AdmissionDeps, upstream: string, server: Bounds) {
    this.#deps = deps
    this.#upstream = upstream
    this.#server = server
  }

  /**
   * Calls `go` at once, or when it is the request's turn, or with the reason why that will not come. `method` is what
   * is known of it by now. A server that is given time to recover keeps nobody waiting for a turn.
   */
  enter(claim: Claim, method: string | undefined, go: (refusal?: KnownError) => void): void {
    this.#claim = claim
    const { breaker, drain, crowded } = this.#server
    // A stream without a method belongs to a session that is open already.
    const isNew = claim === 'answer' || (claim === 'stream' && method !== undefined)
    const drained = isNew ? drain.refusal() : undefined
    if (drained) return go(drained)
    if (claim !== 'answer') return go(claim === 'stream' ? crowded('stream') : undefined)
    const refusal = this.#deps.shedder.refusal(method) ?? breaker?.refusal()
    if (refusal) return go(refusal)
    const start = (turn: Turn) => {
      this.#turn = turn
      const permit = crowded('answer') ?? breaker?.enter()
      if (permit instanceof KnownError) return go(permit)
      this.#permit = permit
      go()
    }
    this.#turn = this.#server.queue.enter({ start, refuse: go })
  }

  /** The message goes to the server now, or began to; what counts is the first time. */
  sent(answering: Answering): void {
    if (this.#isOver || this.#watch || this.#claim === 'stream') return
    const { clock, sweep } = this.#deps
    this.#count(!this.#isAbandoned)
    const { onSilent } = answering
    // Whoever lives takes in what is delivered: only an answer may take long.
    const look = onSilent && ((leftMs: number) => (this.#claim === 'answer' ? onSilent(leftMs) : () => false))
    this.#watch = new DeadlineWatch({ ...answering, onSilent: look, clock, sweep, deadlines: this.#server.limits })
  }

  /** Something came from the server for this request. */
  heard(): void {
    this.#watch?.heard()
  }

  /** What a long body is shows only when it has passed. */
  turnsOut(claim: Claim): void {
    this.#claim = claim
    if (claim !== 'answer') this.#leave()
    if (claim !== 'stream') return
    this.#watch?.stop()
    this.#count(false)
  }

  /** The client wants no answer any more, as the error that this is. */
  givenUp(why: string): KnownError {
    return new GivenUp(why, this.#claim === 'answer' ? (this.#watch?.silentMs() ?? 0) : 0)
  }

  /** The client waits no more, but the server is still busy with it. */
  abandon(): void {
    this.#isAbandoned = true
    this.#count(false)
  }

  /** Answered or cancelled, though its stream may go on: that has no time-out but the one of a whole answer. */
  settled(): void {
    this.#watch?.allowSilence()
    this.#count(false)
    this.#leave()
  }

  /** Answered, failed, or given up; harmless when it is over already. */
  over(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#watch?.stop()
    this.#count(false)
    this.#leave()
  }

  #leave(): void {
    this.#turn?.leave()
    this.#permit?.release()
    this.#permit = undefined
  }

  #count(isInFlight: boolean): void {
    if (this.#isCounted === isInFlight) return
    this.#isCounted = isInFlight
    this.#deps.onRequest(this.#upstream, isInFlight ? 1 : -1)
  }
}

/** Delivers what nothing answers; rejects when the server does not take it in time. */
export async function deliver(admission: Admission, send: () => Promise<void>): Promise<void> {
  admission.enter('delivery', undefined, () => undefined)
  try {
    await new Promise<void>((resolve, reject) => {
      admission.sent({ isExcused: () => false, onOverdue: reject })
      send().then(resolve, reject)
    })
  } finally {
    admission.over()
  }
}
