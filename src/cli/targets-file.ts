import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface ScrapeTarget {
  readonly folder: string
  readonly upstream: string
  /** `host:port` of the admin listener. */
  readonly address: string
}

/**
 * Tells Prometheus where to scrape us (file_sd_configs), in one atomic step. Returns what takes that back, which does
 * not throw and may be called twice.
 */
export function announceTarget({ folder, upstream, address }: ScrapeTarget): () => void {
  const name = `mcp-vitals-${upstream}-${process.pid}`
  const path = join(folder, `${name}.json`)
  // Prometheus matches *.json; a name that begins otherwise is never read half written.
  const unfinished = join(folder, `.${name}.tmp`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(unfinished, `${JSON.stringify([{ targets: [address], labels: { upstream } }])}\n`)
  renameSync(unfinished, path)
  return () => {
    try {
      rmSync(path, { force: true })
    } catch {
      // The folder is no longer ours to change; a target that does not answer is what Prometheus is there to tell.
    }
  }
}
