/** The kinds of faults of the soak: whom they befall, how they are made and mended, and what must follow from them. */
import { rm, writeFile } from 'node:fs/promises'
import { defaults } from '../../src/defaults.ts'
import type { HangTimes } from '../../src/heartbeat/hang.ts'
import { blockingCall, refusalMs } from './fault-call.ts'
import type { Expectation } from './fault-soak-referee.ts'
import { type Pace, type Server, quickIntervals } from './fault-soak-servers.ts'

/** The constants of control that decide how soon a fault is found; those of this run. */
export interface Law {
  readonly hang: HangTimes
  readonly memoryLookMs: number
}

/** Whom a fault is done to. */
export interface Victim {
  readonly server: Server
  /** The process that serves now. */
  readonly pid: number
  /** Where clients reach it through mcp-vitals. */
  readonly url: string
  readonly law: Law
}

export interface Kind {
  readonly kind: string
  readonly befalls: (server: Server) => boolean
  readonly expected: (server: Server, law: Law) => Expectation
  readonly inject: (victim: Victim) => void | Promise<unknown>
  /** Ends it; absent where it ends by itself, or by what mcp-vitals does. */
  readonly mend?: (victim: Victim) => void | Promise<unknown>
  /** It costs a core or much memory, so that there is one at a time. */
  readonly isHeavy?: true
  /** Done again until it is found: what it needs to be noticed is not in our hands. */
  readonly isRepeated?: true
}

/** What other programs on the machine may add to any of the times below. */
const slackMs = 20_000
const { maxTimeoutMs, missesToDown, lateAnswerMs } = defaults.heartbeat
/** With our own health at its worst, and twice from the third miss on, a time-out is no longer than this. */
const longestTimeoutMs = Math.max(2 * maxTimeoutMs, lateAnswerMs)

function intervalsOf(pace: Pace) {
  const { min_interval_seconds: min, max_interval_seconds: max } = quickIntervals
  const { minIntervalSeconds, maxIntervalSeconds } = defaults.heartbeat
  return pace === 'quick'
    ? { minMs: min * 1000, maxMs: max * 1000 }
    : { minMs: minIntervalSeconds * 1000, maxMs: maxIntervalSeconds * 1000 }
}

/** When the next heartbeat is over: the longest interval with its jitter, and a time-out. */
export function oneProbeMs({ pace }: Server): number {
  return intervalsOf(pace).maxMs * 1.1 + longestTimeoutMs
}

function missesMs(server: Server): number {
  return oneProbeMs(server) + (missesToDown - 1) * Math.max(longestTimeoutMs, intervalsOf(server.pace).minMs)
}

/** From the fault to the end of a process that hangs; its verdict comes before that. */
function hungMs(server: Server, silentMs: number): number {
  return missesMs(server) + Math.max(silentMs, 3 * intervalsOf(server.pace).maxMs) + 2 * longestTimeoutMs + slackMs
}

/** From the mending of a fault, or the verdict on it, to `healthy`: the action, a start, and a few heartbeats. */
export function recoveryMs(server: Server, { hang, memoryLookMs }: Law): number {
  const { maxBackoffMs, startDeadlineMs, memoryDrainMs, termGraceMs, stdinGraceMs } = defaults.supervision
  const actionMs = hungMs(server, Math.max(hang.silentMs, hang.spinningMs)) + 2 * memoryLookMs + memoryDrainMs
  return actionMs + stdinGraceMs + termGraceMs + maxBackoffMs + startDeadlineMs + 3 * oneProbeMs(server)
}

const isOurs = ({ guest }: Server) => guest === undefined
const isPatient = ({ make }: Server) => make === 'patient'
const speaksHttp = ({ place }: Server) => place.transport !== 'stdio'

const signal = (name: NodeJS.Signals) => (victim: Victim) => void process.kill(victim.pid, name)

/** A patient reads what it suffers from when it gets this signal. */
const suffer =
  (ailment: string) =>
  async ({ server, pid }: Victim) => {
    await writeFile(server.ailmentFile, ailment)
    process.kill(pid, 'SIGUSR2')
  }
const recover = suffer('nothing')

const atOnce = () => slackMs
const ended = { verdict: 'down', outcome: 'exited' } as const
const silent = { verdict: 'down', reason: /no answer within/, outcome: 'timeout' } as const
const noAnswer = (server: Server) => ({ ...silent, action: 'none', withinMs: missesMs(server) + slackMs }) as const
const hangs = (server: Server) => ({ ...silent, action: 'hung', withinMs: missesMs(server) + slackMs }) as const

/** Of the heartbeats that meet a call, so many may be spoiled because our own event loop stands still now and then. */
const spoiledBeats = 2
const busyMs = (server: Server) => (spoiledBeats + 1) * oneProbeMs(server)
/** How long a call must last so that a heartbeat meets it that tells something, whatever the interval. */
const callSeconds = (server: Server) => Math.ceil(busyMs(server) / 1000) + 3

async function call({ server, url }: Victim): Promise<void> {
  const { leave } = await blockingCall(url, server.place, { name: 'wait', seconds: callSeconds(server) })
  leave().catch(() => undefined) // Whether the call succeeds is no matter of ours.
}

export const kinds: readonly Kind[] = [
  {
    kind: 'killed (SIGKILL)',
    befalls: isOurs,
    expected: () => ({ ...ended, reason: /SIGKILL/, action: 'signal', withinMs: atOnce() }),
    inject: signal('SIGKILL'),
  },
  {
    kind: 'exit with code 0',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: () => ({ ...ended, reason: /exited with code 0/, action: 'exit', withinMs: atOnce() }),
    inject: suffer('exit'),
  },
  {
    kind: 'exit with code 3',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: () => ({ ...ended, reason: /exited with code 3/, action: 'exit', withinMs: atOnce() }),
    inject: suffer('fail'),
  },
  {
    kind: 'killed, and a tool is gone',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: (server) => ({
      verdict: 'degraded',
      reason: /write/,
      outcome: 'exited',
      action: 'signal',
      mayBe: ['down'],
      // It has to be started again first.
      withinMs: defaults.supervision.maxBackoffMs + defaults.supervision.startDeadlineMs + 3 * oneProbeMs(server),
    }),
    inject: async ({ server, pid }) => {
      await rm(server.toolsFile)
      process.kill(pid, 'SIGKILL')
    },
    mend: ({ server }) => writeFile(server.toolsFile, ''),
  },
  {
    kind: 'stopped (SIGSTOP), ours',
    befalls: isOurs,
    expected: hangs,
    inject: signal('SIGSTOP'),
  },
  {
    kind: 'never answers, ours',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: hangs,
    inject: suffer('silent'),
  },
  {
    kind: 'spins, ours',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: hangs,
    inject: suffer('spin'),
    isHeavy: true,
  },
  {
    kind: 'outgrows its memory',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: (_server, { memoryLookMs }) => ({
      verdict: 'starting',
      reason: /uses \d+ MiB of memory, more than/,
      outcome: undefined,
      action: 'memory',
      withinMs: 3 * memoryLookMs + defaults.supervision.memoryDrainMs + slackMs,
    }),
    inject: suffer('grow'),
    isHeavy: true,
  },
  {
    kind: 'long tool call',
    befalls: (server) => isOurs(server) && isPatient(server),
    expected: (server) => ({
      verdict: 'busy',
      reason: /^busy: a request is under way/,
      // A heartbeat that is answered after all, when the call is over, is late.
      outcome: undefined,
      action: 'none',
      withinMs: busyMs(server) + 2 * refusalMs + slackMs,
    }),
    inject: call,
  },
  {
    kind: 'answers late',
    befalls: isPatient,
    expected: (server) => ({
      verdict: 'suspect',
      // The heartbeat that was missed, its answer, or how slow that was: whichever is heard of first.
      reason: /no answer within|after its time-out|× their baseline/,
      outcome: 'late',
      action: 'none',
      withinMs: 3 * oneProbeMs(server) + slackMs,
    }),
    inject: suffer('late'),
    // While we are overloaded ourselves, time-outs are longer, and nothing is late.
    isRepeated: true,
  },
  {
    kind: 'answers 500',
    befalls: (server) => isPatient(server) && speaksHttp(server),
    expected: (server) => ({ ...noAnswer(server), reason: /500/, outcome: 'http_error' }),
    inject: suffer('http_error'),
    mend: recover,
  },
  {
    kind: 'answers garbage',
    befalls: (server) => isPatient(server) && server.place.transport === 'http',
    expected: (server) => ({ ...noAnswer(server), reason: /no answer to the request/, outcome: 'invalid' }),
    inject: suffer('garbage'),
    mend: recover,
  },
  {
    kind: 'garbage in place of messages',
    befalls: (server) => isPatient(server) && server.place.transport !== 'http',
    expected: (server) => ({ ...noAnswer(server), reason: /no JSON-RPC/, outcome: 'invalid' }),
    inject: suffer('garbage'),
    mend: recover,
  },
  {
    kind: 'answers 401',
    befalls: (server) => isPatient(server) && speaksHttp(server),
    expected: (server) => ({
      verdict: 'needs_auth',
      reason: /401/,
      outcome: 'unauthorized',
      action: 'none',
      withinMs: oneProbeMs(server) + slackMs,
    }),
    inject: suffer('unauthorized'),
    mend: recover,
  },
  {
    kind: 'connection refused',
    befalls: (server) => !isOurs(server) && !isPatient(server),
    expected: (server) => ({
      verdict: 'down',
      reason: /ECONNREFUSED/,
      outcome: 'refused',
      action: 'none',
      withinMs: missesMs(server) + slackMs,
    }),
    inject: signal('SIGKILL'),
    mend: ({ server }) => server.guest?.start(),
  },
  {
    kind: 'stopped (SIGSTOP)',
    befalls: (server) => !isOurs(server),
    expected: noAnswer,
    inject: signal('SIGSTOP'),
    mend: signal('SIGCONT'),
  },
  {
    kind: 'accepts, never answers',
    befalls: (server) => !isOurs(server) && isPatient(server),
    expected: noAnswer,
    inject: suffer('silent'),
    mend: recover,
  },
  {
    kind: 'half-open connections',
    befalls: (server) => !isOurs(server) && isPatient(server),
    expected: noAnswer,
    inject: ({ server }) => server.guest?.cut(),
    mend: ({ server }) => server.guest?.mend(),
  },
]
