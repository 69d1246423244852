import type { Config, UpstreamConfig } from '../config/config.ts'
import type { Difference } from '../config/difference.ts'
import { type Monitored, limitedOf } from '../heartbeat/monitored.ts'

/** An upstream that runs: it is started once, and may be given other settings at any time. */
export interface LiveUpstream extends Monitored {
  start(): void
  /** What runs goes on running, but nothing is started any more. */
  startNoMore(): void
  /** Follows what may change while it runs. */
  configure(upstream: UpstreamConfig): void
  /** It takes no more requests for now: its process is about to be replaced. */
  isBeingReplaced(): boolean
  /** Restarts its processes because somebody else thinks that they should be; gives why that cannot be done. */
  restart(): string | undefined
  /** One of its sessions is over. */
  sessionEnded(): void
}

export interface FleetOptions {
  readonly create: (upstream: UpstreamConfig) => LiveUpstream
  /** Resolves when no request to this upstream is under way any more, or when it has been waited for long enough. */
  readonly drained: (name: string) => Promise<void>
  /** An upstream stops for good: its sessions go, and whatever else is kept under its name. */
  readonly onLeaving: (upstream: LiveUpstream) => void
  /** A new one has taken the place of one that had been started. */
  readonly onReplaced: (upstream: LiveUpstream) => void
}

/** The upstreams that run now. A change to one of them touches no other. */
export class Fleet {
  readonly #options: FleetOptions
  readonly #leaving = new Set<string>()
  #upstreams: ReadonlyMap<string, LiveUpstream>

  constructor(options: FleetOptions, { upstreams }: Config) {
    this.#options = options
    const running = upstreams.filter(({ disabled }) => !disabled)
    this.#upstreams = new Map(running.map((upstream) => [upstream.name, options.create(upstream)]))
  }

  /** By name, in the order of the configuration. */
  all(): ReadonlyMap<string, LiveUpstream> {
    return this.#upstreams
  }

  get(name: string): LiveUpstream | undefined {
    return this.#upstreams.get(name)
  }

  /** Whether it takes no more requests: it is being removed or replaced, or its process is. */
  isLeaving(name: string): boolean {
    return this.#leaving.has(name) || (this.#upstreams.get(name)?.isBeingReplaced() ?? false)
  }

  start(): void {
    for (const upstream of this.#upstreams.values()) upstream.start()
  }

  /** Follows a new configuration. Resolves when what had to stop has stopped, and what is new has been started. */
  async follow(config: Config, { added, removed, replaced, retuned }: Difference): Promise<void> {
    for (const upstream of retuned) this.#upstreams.get(upstream.name)?.configure(upstream)
    const add = (upstream: UpstreamConfig, before?: LiveUpstream) => {
      const live = this.#options.create(upstream)
      if (before) holdOn(before, live)
      this.#upstreams = ordered(config, new Map([...this.#upstreams, [upstream.name, live]]))
      live.start()
      return live
    }
    for (const upstream of added) add(upstream)
    await Promise.all([
      ...removed.map((name) => this.#remove(name)),
      ...replaced.map(async (upstream) => {
        const before = await this.#remove(upstream.name)
        this.#options.onReplaced(add(upstream, before))
      }),
    ])
    this.#upstreams = ordered(config, this.#upstreams)
  }

  startNoMore(): void {
    for (const upstream of this.#upstreams.values()) upstream.startNoMore()
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#upstreams.values()].map((upstream) => upstream.stop()))
  }

  /** It stays visible until it has gone, so that nobody takes a reload for an upstream that never was. */
  async #remove(name: string): Promise<LiveUpstream | undefined> {
    const upstream = this.#upstreams.get(name)
    if (!upstream) return undefined
    this.#leaving.add(name)
    try {
      await this.#options.drained(name)
      this.#options.onLeaving(upstream)
      await upstream.stop()
    } finally {
      this.#leaving.delete(name)
      this.#upstreams = new Map([...this.#upstreams].filter(([, other]) => other !== upstream))
    }
    return upstream
  }
}

/** Maintenance and a drain are about the server, however it is reached: what takes its place goes on with them. */
function holdOn(before: LiveUpstream, after: LiveUpstream): void {
  const pausedMs = before.heartbeat.pauseLeftMs()
  if (pausedMs > 0) after.heartbeat.pause(pausedMs)
  const drainedMs = limitedOf(before.access)?.drain.leftMs() ?? 0
  if (drainedMs > 0) limitedOf(after.access)?.drain.begin(drainedMs)
}

function ordered({ upstreams }: Config, live: ReadonlyMap<string, LiveUpstream>): ReadonlyMap<string, LiveUpstream> {
  const places = new Map(upstreams.map(({ name }, place) => [name, place]))
  const placeOf = (name: string) => places.get(name) ?? upstreams.length
  return new Map([...live].toSorted(([one], [other]) => placeOf(one) - placeOf(other)))
}
