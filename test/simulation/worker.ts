/** One of the threads of worlds.ts: lives through the worlds that it is sent, one after the other. */
import { parentPort } from 'node:worker_threads'
import { type SmallWorld, liveThrough } from './small-world.ts'

// Errors are values here, by the thousand: their stacks would be a twentieth of the work.
Error.stackTraceLimit = 0

parentPort?.on('message', (world: SmallWorld) => {
  void liveThrough(world).then((report) => parentPort?.postMessage(report, []))
})
