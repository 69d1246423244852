import { type Clock, sleep } from '../clock.ts'
import type { Waiting } from '../sessions/session.ts'
import type { Leg } from './classify.ts'
import type { ProbeResult } from './probe.ts'

export interface UnaskedOptions {
  readonly clock: Clock
  readonly leg: Leg
  readonly session: string | undefined
  readonly deadlineMs: number
}

/** How the process of a client's session is at this moment. */
export interface ClientsProcess {
  /** Whether it ever said something, and whether it has said nothing for so long that it is to be asked again. */
  readonly hasSpoken: boolean
  readonly isIdle: boolean
  /** Whether its client's opening exchange is over. */
  readonly isOpened: boolean
  /** Whether something of ours could go in, and its answer come out. */
  readonly canAsk: boolean
  readonly waiting: Waiting
  /** Whether it has said nothing for so long that no question to its client excuses that any more. */
  readonly isOverdue: boolean
}

/** What its heartbeat is. */
export type Way =
  /** What it said lately. */
  | { readonly kind: 'heard' }
  | { readonly kind: 'ask' }
  /** What it says to its client, who waits. */
  | { readonly kind: 'listen' }
  /** Whether it runs, and what that proves. */
  | { readonly kind: 'look'; readonly proves: Look }

export interface Look {
  readonly outcome: 'ok' | 'inconclusive'
  /** Why no more can be asked of it; to follow "it runs". */
  readonly why?: string
}

/**
 * What the heartbeat of a client's process is. Where nothing of ours may go in it is looked at all the same, for a signal
 * may have stopped it; that one runs proves that it lives only where it has spoken and waits for its client. Where that
 * client waits, too, somebody may have to think before either answers; where it does not, the server should be free to.
 */
export function wayTo({ hasSpoken, isIdle, isOpened, canAsk, waiting, isOverdue }: ClientsProcess): Way {
  if (hasSpoken && !isIdle) return { kind: 'heard' }
  if (waiting === 'both' || (waiting === 'server' && !isOverdue)) return look('ok', 'it waits for its client')
  if (!canAsk) return look('inconclusive', 'its pipe is busy')
  if (waiting === 'client') return isIdle ? { kind: 'listen' } : look('inconclusive', 'it has only just started')
  if (isOpened) return { kind: 'ask' }
  return hasSpoken ? look('ok', 'its client has yet to begin') : look('inconclusive', 'it has said nothing yet')
}

function look(outcome: Look['outcome'], why: string): Way {
  return { kind: 'look', proves: { outcome, why } }
}

/** How often it is looked whether something has changed. */
const lookMs = 250

/** The process that is looked at. */
export interface LookedAt {
  readonly pid: number | undefined
  /** By a signal, which may have happened at any time. */
  readonly isStopped: () => boolean
  readonly hasEnded: () => boolean
}

/** A process that runs, which one that a signal has stopped does not. Of one that ended is told elsewhere. */
export async function processRuns(
  options: UnaskedOptions,
  process: LookedAt,
  { outcome, why }: Look = { outcome: 'ok' },
): Promise<ProbeResult> {
  const { leg, session, deadlineMs } = options
  const name = `process ${process.pid ?? '?'}`
  const found = { leg, session, method: 'process', durationMs: 0 } as const
  const reason = why === undefined ? `${name} runs` : `${name} runs: ${why}`
  const ran = await sooner(options, () => {
    if (process.hasEnded()) return { ...found, outcome: 'inconclusive', reason: `${name} has ended` } as const
    return process.isStopped() ? undefined : ({ ...found, outcome, reason } as const)
  })
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
