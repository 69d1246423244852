import type { ReloadOutcome } from '../admin/app.ts'
import type { Clock } from '../clock.ts'
import type { Config, UpstreamConfig } from '../config/config.ts'
import { signsOfCutOff } from '../config/cut-off.ts'
import { type Difference, difference } from '../config/difference.ts'
import type { Loaded } from '../config/load.ts'
import { KnownError, errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'

/** Who asked for a reload. */
export type ReloadCause = 'signal' | 'request' | 'file'

/** What came of the last attempt to load the configuration. */
export interface ReloadStatus {
  readonly successful: boolean
  readonly lastSuccessWallMs: number
  /** What was wrong with it, a line for each problem; undefined when nothing was. */
  readonly problem: string | undefined
}

export interface ReloaderOptions {
  readonly clock: Clock
  readonly log: Logger
  /** What is in force now. */
  readonly config: Config
  /** Reads the configuration again, and throws what is wrong with it. */
  readonly load: () => Loaded
  /** Swaps the live parts: what may fail is behind us. */
  readonly apply: (config: Config, changes: Difference) => Promise<void>
  /** The files of the configuration in force, each time that they may be others. */
  readonly onFiles: (files: readonly string[]) => void
}

/**
 * Loads the configuration again while everything runs. All that can fail comes before the first live part is touched,
 * so a faulty file changes nothing. One reload at a time: who asks meanwhile gets one that begins after this one.
 */
export class Reloader {
  readonly #options: ReloaderOptions
  #config: Config
  #upstreams: ReadonlyMap<string, UpstreamConfig>
  #status: ReloadStatus
  #last: Promise<unknown> = Promise.resolve()
  #isStopped = false

  constructor(options: ReloaderOptions) {
    this.#options = options
    this.#config = options.config
    this.#upstreams = byName(options.config)
    this.#status = { successful: true, lastSuccessWallMs: options.clock.wallTime(), problem: undefined }
  }

  /** The configuration in force. */
  config(): Config {
    return this.#config
  }

  /** What is in force for one upstream. */
  upstream(name: string): UpstreamConfig | undefined {
    return this.#upstreams.get(name)
  }

  status(): ReloadStatus {
    return this.#status
  }

  reload(cause: ReloadCause): Promise<ReloadOutcome> {
    const outcome = this.#last.then(() => this.#reload(cause))
    this.#last = outcome.catch(() => undefined) // Who asked hears of it; the next reload is another try.
    return outcome
  }

  /** Lets a reload under way finish and refuses any other. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#last
  }

  async #reload(cause: ReloadCause): Promise<ReloadOutcome> {
    const { clock, log, load, apply, onFiles } = this.#options
    if (this.#isStopped) return { kind: 'refused', problem: 'mcp-vitals is shutting down' }
    let loaded: Loaded
    let changes: Difference
    try {
      loaded = load()
      refuseCutOff(signsOfCutOff(this.#config, loaded))
      changes = difference(this.#config, loaded.config)
    } catch (error) {
      const problem = errorMessage(error)
      this.#status = { ...this.#status, successful: false, problem }
      log.error({ cause, problem }, 'the configuration was not reloaded; the old one stays in force')
      return { kind: 'refused', problem }
    }
    // Nothing below can fail because of the file.
    this.#config = loaded.config
    this.#upstreams = byName(loaded.config)
    for (const notice of loaded.notices) log.warn(notice)
    await apply(loaded.config, changes)
    this.#status = { successful: true, lastSuccessWallMs: clock.wallTime(), problem: undefined }
    onFiles(loaded.files)
    log.info({ cause, ...describeChanges(changes) }, 'the configuration was reloaded')
    return { kind: 'reloaded', changes: describeChanges(changes) }
  }
}

function refuseCutOff(signs: readonly string[]): void {
  if (signs.length > 0) throw new KnownError('config_invalid', signs.join('\n'))
}

function byName({ upstreams }: Config): ReadonlyMap<string, UpstreamConfig> {
  return new Map(upstreams.map((upstream) => [upstream.name, upstream]))
}

/** What changed, by name, for people and for the answer of `/-/reload`. */
export function describeChanges(changes: Difference): Readonly<Record<keyof Difference, readonly string[]>> {
  const names = (upstreams: readonly { readonly name: string }[]) => upstreams.map(({ name }) => name)
  return {
    added: names(changes.added),
    removed: changes.removed,
    replaced: names(changes.replaced),
    retuned: names(changes.retuned),
    settings: changes.settings,
  }
}
