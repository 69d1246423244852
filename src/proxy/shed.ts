import type { Clock, Timer } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { type Sheddable, sheddable } from '../telemetry/instruments.ts'

/** How full we are, each from 0 to 1. */
export interface Fullness {
  /** Our own load. */
  readonly load: number
  /** Of the heap that we may use. */
  readonly heap: number
}

/** Whether that is too much, little enough to take something back, or neither. */
type Trend = 'over' | 'between' | 'under'

/** How many of `sheddable` are given up, and since when the trend has been what it is, or has led to the last step. */
export interface Shedding {
  readonly level: number
  readonly trend: Trend
  readonly sinceMs: number
}

const { loadFrom, loadUntil, heapFrom, heapUntil, escalateAfterMs, relaxAfterMs } = defaults.shedding

/**
 * One step up for each three seconds that an overload lasts, the first at once; one step down for each ten seconds
 * without. In between the two bounds nothing changes, so that what is given up does not flicker.
 */
export function shed(before: Shedding, fullness: Fullness, nowMs: number): Shedding {
  const { level } = before
  const trend = trendOf(fullness)
  const sinceMs = trend === before.trend ? before.sinceMs : nowMs
  const elapsedMs = nowMs - sinceMs
  const isUpDue = trend === 'over' && (level === 0 || elapsedMs >= escalateAfterMs)
  if (isUpDue && level < sheddable.length) return { level: level + 1, trend, sinceMs: nowMs }
  const isDownDue = trend === 'under' && elapsedMs >= relaxAfterMs
  if (isDownDue && level > 0) return { level: level - 1, trend, sinceMs: nowMs }
  return { level, trend, sinceMs }
}

function trendOf({ load, heap }: Fullness): Trend {
  if (load >= loadFrom || heap >= heapFrom) return 'over'
  return load > loadUntil || heap > heapUntil ? 'between' : 'under'
}

export interface ShedderOptions {
  readonly clock: Clock
  readonly fullness: () => Fullness
  /** Something was given up. */
  readonly onShed: (what: Sheddable) => void
  readonly onLevel: (given: readonly Sheddable[], fullness: Fullness) => void
}

const lookEveryMs = 1000

/** Decides once a second what is given up; whoever is about to do it asks. */
export class Shedder {
  readonly #options: ShedderOptions
  #state: Shedding
  #timer: Timer | undefined

  constructor(options: ShedderOptions) {
    this.#options = options
    this.#state = { level: 0, trend: 'under', sinceMs: options.clock.now() }
  }

  start(): void {
    this.#timer = this.#options.clock.after(lookEveryMs, () => {
      this.#look()
      this.start()
    })
  }

  stop(): void {
    this.#timer?.cancel()
  }

  /** Whether this is given up now, which then counts as such. */
  sheds(what: Sheddable): boolean {
    if (this.#state.level === 0 || sheddable.indexOf(what) >= this.#state.level) return false
    this.#options.onShed(what)
    return true
  }

  /** The same for a request, as the reason that its client gets; undefined if it may pass. */
  refusal(method: string | undefined): KnownError | undefined {
    const what = whatOf(method)
    if (!what || !this.sheds(what)) return undefined
    return new KnownError('overloaded', `mcp-vitals is overloaded and refuses ${refused[what]} for now`)
  }

  #look(): void {
    const { clock, fullness, onLevel } = this.#options
    const before = this.#state.level
    const now = fullness()
    this.#state = shed(this.#state, now, clock.now())
    if (this.#state.level !== before) onLevel(sheddable.slice(0, this.#state.level), now)
  }
}

/** Where there is one client, which nothing is gained by refusing. */
export const noShedder: Pick<Shedder, 'refusal'> = { refusal: () => undefined }

const refused = { session: 'new sessions', tool_call: 'tool calls' } as const

function whatOf(method: string | undefined): keyof typeof refused | undefined {
  if (method === 'initialize') return 'session'
  return method === 'tools/call' ? 'tool_call' : undefined
}
