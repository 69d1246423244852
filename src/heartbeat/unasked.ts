import { type Clock, sleep } from '../clock.ts'
import type { Leg } from './classify.ts'
import type { ProbeResult } from './probe.ts'

export interface UnaskedOptions {
  readonly clock: Clock
  readonly leg: Leg
  readonly session: string | undefined
  readonly deadlineMs: number
}

/** How often it is looked whether something has changed. */
const lookMs = 250

/** A process that runs, which one that a signal has stopped does not. Of one that ended is told elsewhere. */
export async function processRuns(
  options: UnaskedOptions,
  process: { readonly pid: number | undefined; readonly isStopped: () => boolean },
): Promise<ProbeResult> {
  const { leg, session, deadlineMs } = options
  const name = `process ${process.pid ?? '?'}`
  const found = { leg, session, method: 'process', durationMs: 0 } as const
  const ran = await sooner(options, () =>
    process.isStopped() ? undefined : ({ ...found, outcome: 'ok', reason: `${name} runs` } as const),
  )
  return ran ?? { ...found, outcome: 'timeout', durationMs: deadlineMs, reason: `a signal has stopped ${name}` }
}

/**
 * A client waits for the answer of this process, so that nothing of ours goes in: whatever the process says now is the
 * heartbeat, and its silence is for others to judge.
 */
export async function saysSomething(
  options: UnaskedOptions,
  server: { readonly lastHeardMs: () => number; readonly isAwaited: () => boolean },
): Promise<ProbeResult> {
  const { leg, session, deadlineMs } = options
  const sinceMs = server.lastHeardMs()
  const found = { leg, session, method: 'traffic', durationMs: 0 } as const
  const heard = await sooner(options, () => {
    if (server.lastHeardMs() > sinceMs) return { ...found, outcome: 'ok', reason: 'it answered its client' } as const
    if (server.isAwaited()) return undefined
    return { ...found, outcome: 'inconclusive', reason: 'its client waits no more' } as const
  })
  return heard ?? { ...found, outcome: 'timeout', durationMs: deadlineMs, reason: 'its client waits, and it is silent' }
}

/** What `look` finds, at the latest at the deadline. */
async function sooner<T>({ clock, deadlineMs }: UnaskedOptions, look: () => T | undefined): Promise<T | undefined> {
  const endsMs = clock.now() + deadlineMs
  for (;;) {
    const found = look()
    const leftMs = endsMs - clock.now()
    if (found !== undefined || leftMs <= 0) return found
    await sleep(clock, Math.min(lookMs, leftMs))
  }
}
