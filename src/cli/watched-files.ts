import { statSync } from 'node:fs'
import type { Clock, Timer } from '../clock.ts'

export interface WatchedFilesOptions {
  readonly clock: Clock
  /** How often we look; 0 or `Infinity`: never. */
  readonly everyMs: number
  /** What there is to see of a file; undefined while it cannot be read. */
  readonly look?: (file: string) => string | undefined
  readonly onChange: () => void
}

/**
 * Notices that a file was written, replaced or removed. It looks instead of listening: what the kernel tells of a file
 * is lost when an editor replaces it, when Kubernetes turns a symbolic link, and on network file systems. A change is
 * told once two looks agree, so that a file is not read while it is being written.
 */
export class WatchedFiles {
  readonly #options: WatchedFilesOptions
  #files: readonly string[] = []
  #told = ''
  #seen = ''
  #timer: Timer | undefined

  constructor(options: WatchedFilesOptions) {
    this.#options = options
  }

  /** Watches these files instead of those before, as they are now. */
  watch(files: readonly string[]): void {
    this.stop()
    this.#files = files
    this.#told = this.#look()
    this.#seen = this.#told
    this.#wait()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #wait(): void {
    const { clock, everyMs } = this.#options
    if (everyMs > 0 && Number.isFinite(everyMs)) this.#timer = clock.after(everyMs, () => this.#check())
  }

  #check(): void {
    const seen = this.#look()
    const isSettled = seen === this.#seen
    const isNews = isSettled && seen !== this.#told
    this.#seen = seen
    this.#wait()
    if (!isNews) return
    this.#told = seen
    this.#options.onChange()
  }

  #look(): string {
    const { look = signatureOf } = this.#options
    return this.#files.map((file) => look(file) ?? 'missing').join('\n')
  }
}

/** Changes when the content does, and when another file takes its place. */
function signatureOf(file: string): string | undefined {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false })
  return stat && `${stat.dev} ${stat.ino} ${stat.size} ${stat.mtimeNs}`
}
