/** Where the starts of one upstream wait for a place. */
export interface StartLane {
  /**
   * Resolves with the function that gives the place back (calling it twice is harmless). When `signal` aborts first,
   * the caller leaves the queue and gets a function that does nothing.
   */
  acquire(signal?: AbortSignal): Promise<() => void>
}

interface Lane {
  /** In the order they asked. */
  readonly waiting: Set<() => void>
  held: number
}

/**
 * Lets only so many processes start at the same time, and only so many of one upstream. The upstreams come in turn, so
 * that one with many starts that hang delays another's by the end of one of them, and not of all.
 */
export class StartGate {
  readonly #perLane: number
  /** Those in which somebody waits; whose turn it was last is at the end. */
  readonly #queue = new Set<Lane>()
  #free: number

  constructor(places: number, placesOfOneUpstream = places) {
    this.#free = places
    this.#perLane = placesOfOneUpstream
  }

  /** For one upstream. */
  lane(): StartLane {
    const lane: Lane = { waiting: new Set(), held: 0 }
    return { acquire: (signal) => this.#acquire(lane, signal) }
  }

  #acquire(lane: Lane, signal: AbortSignal | undefined): Promise<() => void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve(() => {})
      const leave = () => {
        lane.waiting.delete(enter)
        if (lane.waiting.size === 0) this.#queue.delete(lane)
        resolve(() => {})
      }
      const enter = () => {
        signal?.removeEventListener('abort', leave)
        resolve(this.#place(lane))
      }
      signal?.addEventListener('abort', leave, { once: true })
      lane.waiting.add(enter)
      this.#queue.add(lane)
      this.#admit()
    })
  }

  #place(lane: Lane): () => void {
    this.#free--
    lane.held++
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      this.#free++
      lane.held--
      this.#admit()
    }
  }

  #admit(): void {
    for (let lane = this.#next(); lane; lane = this.#next()) {
      const [enter] = lane.waiting
      if (!enter) return
      lane.waiting.delete(enter)
      this.#queue.delete(lane)
      if (lane.waiting.size > 0) this.#queue.add(lane)
      enter()
    }
  }

  #next(): Lane | undefined {
    if (this.#free === 0) return undefined
    return [...this.#queue].find(({ held }) => held < this.#perLane)
  }
}
