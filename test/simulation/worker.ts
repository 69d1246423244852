/** One of the threads of worlds.ts: lives through the worlds that it is sent, one after the other. */
import { parentPort } from 'node:worker_threads'
import { liveThroughFleet } from './fleet.ts'
import { liveThrough } from './small-world.ts'
import type { World } from './worlds.ts'

// Errors are values here, by the thousand: their stacks would be a twentieth of the work.
Error.stackTraceLimit = 0

parentPort?.on('message', (world: World) => {
  const report = world.kind === 'fleet' ? liveThroughFleet(world) : liveThrough(world)
  void report.then((told) => parentPort?.postMessage(told, []))
})
