import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { Fleet } from './fleet.ts'
import type { SmallWorld } from './small-world.ts'
import type { WorldReport } from './world.ts'

/** What a thread can be told to live through. */
export type World = ({ readonly kind: 'small' } & SmallWorld) | ({ readonly kind: 'fleet' } & Fleet)

/**
 * Lives through all these worlds, on so many threads, and tells of each as it ends, in no particular order. A world that
 * fails ends all.
 */
export async function liveThroughAll<W extends World>(
  worlds: Iterable<W>,
  workers: number,
  onReport: (world: W, report: WorldReport) => void,
): Promise<void> {
  const left = worlds[Symbol.iterator]()
  const work = async () => {
    let next = left.next()
    if (next.done) return
    // Most of what a world leaves behind is young.
    const resourceLimits = { maxYoungGenerationSizeMb: 256 }
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { resourceLimits })
    try {
      for (; !next.done; next = left.next()) {
        worker.postMessage(next.value, [])
        const [report]: WorldReport[] = await once(worker, 'message')
        if (report) onReport(next.value, report)
      }
    } finally {
      await worker.terminate()
    }
  }
  await Promise.all(Array.from({ length: workers }, work))
}

/** Small worlds of so many seeds. */
export function* smallWorlds(
  first: number,
  count: number,
  size: Omit<SmallWorld, 'seed'>,
): Generator<World & { readonly kind: 'small' }> {
  for (let seed = first; seed < first + count; seed++) yield { kind: 'small', seed, ...size }
}
