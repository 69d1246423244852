import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { SmallWorld } from './small-world.ts'
import type { WorldReport } from './world.ts'

export interface WorldsOptions extends Omit<SmallWorld, 'seed'> {
  readonly first: number
  readonly count: number
  /** As many worlds are lived through at a time. */
  readonly workers: number
  /** In no particular order. */
  readonly onReport: (seed: number, report: WorldReport) => void
}

/** Lives through worlds of so many seeds, on so many threads. A world that fails ends all. */
export async function liveThroughAll(options: WorldsOptions): Promise<void> {
  const { first, count, workers, upstreams, hours, onReport } = options
  let next = first
  const work = async () => {
    // Most of what a world leaves behind is young.
    const resourceLimits = { maxYoungGenerationSizeMb: 64 }
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { resourceLimits })
    try {
      while (next < first + count) {
        const seed = next++
        worker.postMessage({ seed, upstreams, hours } satisfies SmallWorld, [])
        const [report]: WorldReport[] = await once(worker, 'message')
        if (report) onReport(seed, report)
      }
    } finally {
      await worker.terminate()
    }
  }
  await Promise.all(Array.from({ length: Math.min(workers, count) }, work))
}
