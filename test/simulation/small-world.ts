import { anyFaults } from './faults.ts'
import { type WorldReport, runWorld } from './world.ts'

/** A small world in which everything goes wrong; all of it follows from the seed. */
export interface SmallWorld {
  readonly seed: number
  readonly upstreams: number
  readonly hours: number
}

export function liveThrough(
  { seed, upstreams, hours }: SmallWorld,
  tell?: (line: string) => void,
): Promise<WorldReport> {
  const plan = anyFaults(seed, upstreams, hours)
  return runWorld({ seed, plan, policy: 'adaptive', ...(tell && { tell }) })
}
