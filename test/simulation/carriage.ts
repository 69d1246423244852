import type { CircuitState } from '../../src/upstreams/breaker.ts'
import { defaults } from '../../src/defaults.ts'
import type { KnownError } from '../../src/errors.ts'
import type { Limited } from '../../src/upstreams/queue.ts'
import type { RequestLimits } from '../../src/upstreams/upstream.ts'

/** A request under way. */
export interface Ticket {
  readonly startedMs: number
  /** The one that is let through to find out whether the server is there again. */
  readonly isTrial: boolean
}

export interface CarriageOptions {
  readonly limits: Pick<Limited, 'breaker' | 'queue'>
  readonly now: () => number
  /** How long our own event loop was in trouble between two moments. */
  readonly troubleMs: (fromMs: number, untilMs: number) => number
  readonly violate: (rule: 'circuit' | 'queue', what: string) => void
}

/** Fewer than by default, so that crowds of clients have to wait. */
export const simulatedLimits: RequestLimits = { ...defaults.requests, maxInFlight: 64 }

const mostInFlight = 64
const mostWaiting = 128
const queueMs = 3000
/** Without a sign of the server; given up at the next look, which comes each second. */
const stallMs = 60_000
const graceMs = 2500
/** A circuit refuses for a minute at most; the next heartbeat that is answered, or a request, then finds it half open. */
const longestOpenMs = 60_000 + 30_000
/** While a request tries, the next one that may try waits this long. */
const trialMs = 1000

/** Holds what clients ask of one server to the limits that it has, and its circuit breaker to its law. */
export class Carriage {
  readonly #options: CarriageOptions
  readonly #underWay = new Set<Ticket>()
  #trial: Ticket | undefined
  /** How requests ended since the circuit last closed. */
  #results: { readonly atMs: number; readonly isOk: boolean }[] = []
  #state: CircuitState = 'closed'
  #openedMs = 0

  constructor(options: CarriageOptions) {
    this.#options = options
  }

  starts(waitedMs: number): Ticket {
    const { now, violate } = this.#options
    const state = this.#look()
    if (state === 'open') violate('circuit', 'a request passes an open circuit')
    const isTrial = state === 'half_open'
    if (isTrial && this.#trial && now() - this.#trial.startedMs < trialMs) {
      violate('circuit', 'two requests try within a second')
    }
    const ticket = { startedMs: now(), isTrial }
    if (isTrial) this.#trial = ticket
    this.#underWay.add(ticket)
    if (this.#underWay.size > mostInFlight) violate('queue', `${this.#underWay.size} requests are under way`)
    this.#waited(waitedMs)
    return ticket
  }

  /** Before anybody else hears of it. */
  ends(ticket: Ticket, how: 'ok' | 'failed' | 'nothing'): void {
    const { now } = this.#options
    const wasClosed = this.#look() === 'closed'
    this.#underWay.delete(ticket)
    if (this.#trial === ticket) this.#trial = undefined
    if (how === 'ok' && !wasClosed) this.#results = []
    else if (how !== 'nothing') this.#results.push({ atMs: now(), isOk: how === 'ok' })
    if (this.#results.length > 1000) this.#results.splice(0, 500)
  }

  /** For how long the youngest of those under way is; `Infinity` where there is none. */
  youngestMs(): number {
    const { now } = this.#options
    return Math.min(Infinity, ...[...this.#underWay].map(({ startedMs }) => now() - startedMs))
  }

  refused(error: KnownError, waitedMs: number): void {
    const { limits, violate } = this.#options
    this.#waited(waitedMs)
    if (error.code === 'circuit_open') {
      if (this.#look() === 'closed') violate('circuit', `refused although it is closed: ${error.message}`)
      return
    }
    const isFull = this.#underWay.size >= mostInFlight
    const isOverdue = waitedMs >= queueMs - 1
    if (!isFull || !(isOverdue || limits.queue.length >= mostWaiting)) {
      violate(
        'queue',
        `refused with ${this.#underWay.size} under way and ${limits.queue.length} waiting: ${error.message}`,
      )
    }
  }

  opened(): void {
    if (this.#state === 'closed' && !this.#mayOpen()) {
      this.#options.violate(
        'circuit',
        `opens after ${this.#results
          .slice(-30)
          .map(({ isOk }) => (isOk ? '+' : '-'))
          .join('')}`,
      )
    }
    this.#state = 'open'
    this.#openedMs = this.#options.now()
    this.#trial = undefined
  }

  /** Whether clients are kept off: it stays `open` until somebody asks, whom it may let in. */
  refuses(): boolean {
    return this.#options.limits.breaker.refusal() !== undefined
  }

  /** What shows only by not happening. `servesSinceMs`: since when nothing is the matter with the server. */
  check(servesSinceMs: number | undefined): void {
    const { limits, now, troubleMs, violate } = this.#options
    const [oldest] = this.#underWay
    const openMs = oldest ? now() - oldest.startedMs : 0
    if (oldest && openMs > stallMs + graceMs + troubleMs(oldest.startedMs, now())) {
      violate('queue', `a request has been under way for ${Math.round(openMs / 1000)} s`)
    }
    if (this.#underWay.size < mostInFlight && limits.queue.length > 0) violate('queue', 'requests wait for nothing')
    if (limits.queue.length > mostWaiting) violate('queue', `${limits.queue.length} requests wait`)
    const state = this.#look()
    if (state === 'half_open' && !this.#trial && limits.breaker.refusal()) {
      violate('circuit', 'nobody tries, and nobody may')
    }
    if (state !== 'open' || servesSinceMs === undefined) return
    const sinceMs = Math.max(servesSinceMs, this.#openedMs)
    if (now() - sinceMs > longestOpenMs + graceMs + troubleMs(sinceMs, now())) {
      violate('circuit', `open, though the server has been well for ${Math.round((now() - sinceMs) / 1000)} s`)
    }
  }

  #waited(waitedMs: number): void {
    const { now, troubleMs, violate } = this.#options
    if (waitedMs <= queueMs + 1 + troubleMs(now() - waitedMs, now())) return
    violate('queue', `a request waited ${Math.round(waitedMs)} ms for its turn`)
  }

  #look(): CircuitState {
    this.#state = this.#options.limits.breaker.view().state
    return this.#state
  }

  /** Five failures in a row, or less than 80 % of at least ten within 30 s, which are counted in whole seconds. */
  #mayOpen(): boolean {
    const nowMs = this.#options.now()
    const latest = this.#results.toReversed()
    if (latest.length >= 5 && latest.slice(0, 5).every(({ isOk }) => !isOk)) return true
    let [all, failed] = [0, 0]
    for (const [at, { atMs, isOk }] of latest.entries()) {
      if (nowMs - atMs > 30_000) break
      all += 1
      failed += isOk ? 0 : 1
      const next = latest[at + 1]
      const isWindow = !next || nowMs - next.atMs >= 29_000
      if (isWindow && all >= 10 && failed / all > 0.2) return true
    }
    return false
  }
}
