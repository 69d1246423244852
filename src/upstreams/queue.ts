import type { Clock, Timer } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { Breaker, type BreakerOptions } from './breaker.ts'
import { Drain } from './drain.ts'
import type { RequestLimits, Target } from './upstream.ts'

/** A server as the limits of its clients' requests see it; our own heartbeats know none. */
export interface Limited {
  readonly limits: RequestLimits
  readonly queue: RequestQueue
  readonly breaker: Breaker
  readonly drain: Drain
  /** What a request or stream is told that would need one connection too many; undefined if it may go. */
  readonly crowded: (claim: 'answer' | 'stream') => KnownError | undefined
}

export function limited(
  clock: Clock,
  { limits = defaults.requests }: Pick<Target, 'limits'>,
  onCircuit: BreakerOptions['onChange'],
  connections: () => number = () => 0,
): Limited {
  const breaker = new Breaker({ clock, isEnabled: limits.hasBreaker === true, onChange: onCircuit })
  const { maxConnections = Infinity } = limits
  const most = { answer: maxConnections, stream: Math.max(1, Math.floor(maxConnections * streamShare)) }
  const crowded: Limited['crowded'] = (claim) => tooMany(connections(), most[claim])
  return { limits, queue: new RequestQueue(clock, limits), breaker, drain: new Drain(clock), crowded }
}

/** Streams that only listen must not keep the calls of their own sessions out. */
const streamShare = 3 / 4

function tooMany(inUse: number, most: number): KnownError | undefined {
  if (inUse < most) return undefined
  const what = `${inUse} connections to the server are in use, and ${most} may be for this (max_connections)`
  return new KnownError('too_many_connections', what)
}

type QueueLimits = Pick<RequestLimits, 'maxInFlight' | 'maxQueue' | 'queueTimeoutMs'>

/** A place in flight or in the queue. */
export interface Turn {
  /** Gives the place to the next; harmless when there is none to give any more. */
  leave(): void
}

export interface Entrant {
  /** It is its turn, which may be over before this returns. */
  readonly start: (turn: Turn) => void
  /** Its turn will not come. */
  readonly refuse: (error: KnownError) => void
}

interface Place extends Turn {
  readonly entrant: Entrant
  state: 'waiting' | 'in_flight' | 'over'
  timer?: Timer
}

/** Lets a bounded number of requests through at a time, first come, first served, and refuses what waits too long. */
export class RequestQueue {
  readonly #clock: Clock
  readonly #limits: QueueLimits
  readonly #waiting = new Set<Place>()
  #inFlight = 0
  #isAdvancing = false

  constructor(clock: Clock, limits: QueueLimits) {
    this.#clock = clock
    this.#limits = limits
  }

  /** How many wait. */
  get length(): number {
    return this.#waiting.size
  }

  /** Starts or refuses the entrant, at once or later, unless its turn is left before. */
  enter(entrant: Entrant): Turn {
    const { maxInFlight, maxQueue } = this.#limits
    const place: Place = { entrant, state: 'waiting', leave: () => this.#leave(place) }
    if (this.#inFlight < maxInFlight) this.#start(place)
    else if (this.#waiting.size < maxQueue) this.#wait(place)
    else this.#refuse(place, `${maxInFlight} requests are under way and ${maxQueue} wait (max_in_flight, max_queue)`)
    return place
  }

  #start(place: Place): void {
    place.state = 'in_flight'
    this.#inFlight += 1
    place.entrant.start(place)
  }

  #wait(place: Place): void {
    const { queueTimeoutMs } = this.#limits
    this.#waiting.add(place)
    place.timer = this.#clock.after(queueTimeoutMs, () => {
      this.#waiting.delete(place)
      this.#refuse(place, `the request waited ${queueTimeoutMs / 1000} s for its turn (queue_timeout_seconds)`)
    })
  }

  #refuse(place: Place, message: string): void {
    place.state = 'over'
    place.entrant.refuse(new KnownError('queue_full', message))
  }

  #leave(place: Place): void {
    const wasInFlight = place.state === 'in_flight'
    place.state = 'over'
    place.timer?.cancel()
    this.#waiting.delete(place)
    if (!wasInFlight) return
    this.#inFlight -= 1
    this.#advance()
  }

  /** A loop, since turns that are over at once would otherwise lie on the stack, as many as wait. */
  #advance(): void {
    if (this.#isAdvancing) return
    this.#isAdvancing = true
    try {
      for (const next of this.#waiting) {
        if (this.#inFlight >= this.#limits.maxInFlight) return
        this.#waiting.delete(next)
        next.timer?.cancel()
        this.#start(next)
      }
    } finally {
      this.#isAdvancing = false
    }
  }
}
