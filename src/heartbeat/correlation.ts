import { defaults } from '../defaults.ts'

/** What tells whether one upstream fell silent together with others. */
export interface Silence {
  readonly upstream: string
  /** When the first probe began that was never answered; undefined while it answers, or fails in another way. */
  readonly silentSinceMs: number | undefined
  /** How far apart its probes are: two that fall silent at the same time are noticed so much apart. */
  readonly intervalMs: number
}

const { fewestUpstreams, windowMs, excusedMs } = defaults.correlation

/**
 * The upstreams that fell silent together, or none: when more than half of at least five do so within ten seconds (or
 * one interval, which it takes to notice), the fault is ours or the network's, not theirs. Pure; ends by itself as they
 * answer again.
 */
export function silentTogether(upstreams: readonly Silence[]): readonly string[] {
  if (upstreams.length < fewestUpstreams) return []
  const silent = upstreams.flatMap(({ upstream, silentSinceMs, intervalMs }) =>
    silentSinceMs === undefined ? [] : [{ upstream, silentSinceMs, intervalMs }],
  )
  const window = Math.max(windowMs, ...silent.map(({ intervalMs }) => intervalMs))
  const inOrder = silent.toSorted((a, b) => a.silentSinceMs - b.silentSinceMs)
  const crowds = inOrder.map((first, at) =>
    inOrder.slice(at).filter(({ silentSinceMs }) => silentSinceMs - first.silentSinceMs <= window),
  )
  const largest = crowds.reduce((most, crowd) => (crowd.length > most.length ? crowd : most), [])
  return largest.length * 2 > upstreams.length ? largest.map(({ upstream }) => upstream) : []
}

/**
 * Whether the silence of this one is put down to what it has in common with others, so that starting it again would help
 * nobody: it fell silent together with them, and less than two minutes ago. Pure.
 */
export function isExcused(upstream: string, upstreams: readonly Silence[], nowMs: number): boolean {
  if (!silentTogether(upstreams).includes(upstream)) return false
  const own = upstreams.find((one) => one.upstream === upstream)
  return nowMs - (own?.silentSinceMs ?? Number.NEGATIVE_INFINITY) < excusedMs
}

export interface SilenceWatchOptions {
  readonly silences: () => readonly Silence[]
  /** They fell silent together, or (none) they do so no more. */
  readonly onChange: (together: readonly string[]) => void
}

/** Notices when upstreams begin and cease to be silent together. */
export class SilenceWatch {
  readonly #options: SilenceWatchOptions
  #isTogether = false

  constructor(options: SilenceWatchOptions) {
    this.#options = options
  }

  /** Who is silent together now; tells when that begins or ends. */
  look(): readonly string[] {
    const { silences, onChange } = this.#options
    const together = silentTogether(silences())
    if (together.length > 0 !== this.#isTogether) {
      this.#isTogether = !this.#isTogether
      onChange(together)
    }
    return together
  }
}
