import type { Era } from '../wire/era.ts'
import type { Leg } from './classify.ts'
import { type ProbeMode, type Rung, rungs } from './probe.ts'

/** One request of ours. */
export interface Question {
  readonly era: Era
  readonly method: Rung
}

/** What is known of a server, and whether it is asked at all. */
export interface Asked {
  readonly mode: ProbeMode
  readonly isPaused: boolean
  /** What its heartbeats ask, or what is the evidence in its place. */
  readonly probe: string
  readonly era: Era | undefined
}

/**
 * What a server may be asked besides its heartbeats, on a connection of our own or inside a session of a client: the same
 * as those ask, and nothing where they ask nothing. Clients with a session are of the legacy era.
 */
export function questionFor(leg: Exclude<Leg, 'client'>, { mode, isPaused, probe, era }: Asked): Question | undefined {
  const method = rungs.find((rung) => rung === probe)
  if (mode !== 'active' || isPaused || method === undefined) return undefined
  if (leg === 'upstream' && era === 'modern') return { era, method }
  return { era: 'legacy', method: method === 'server/discover' ? 'ping' : method }
}
