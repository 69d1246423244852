import type { Clock } from '../clock.ts'
import { TooManyRequests, errorMessage } from '../errors.ts'
import type { Era } from '../wire/era.ts'
import { type Leg, type Outcome, outcomeOf } from './classify.ts'
import { type Listing, type Talker, paramsFor } from './conversation.ts'

/** What one probe came to. */
export interface ProbeResult {
  readonly leg: Leg
  /** The JSON-RPC method asked, or what was the evidence in its place: `transport`, `process`, `traffic`. */
  readonly method: string
  readonly outcome: Outcome
  readonly durationMs: number
  /** A sentence for people. */
  readonly reason: string
  /** The hashed key of the session that was probed. */
  readonly session?: string | undefined
  /** Set when this probe was the opening exchange: its duration includes a start, so it says nothing about latency. */
  readonly opening?: boolean | undefined
  /** It answers our opening exchange with a JSON-RPC error, which the reason tells: somebody is there who lets nobody in. */
  readonly turnedAway?: boolean | undefined
  /** The server is there, and wants to be asked less often (HTTP 429). */
  readonly wantsLess?: boolean | undefined
  /** For how long it wants to be left alone, if it says so. */
  readonly retryAfterMs?: number | undefined
  /** The tools, as soon as they are read, which no verdict waits for. Never rejects. */
  readonly inventory?: Promise<Listing> | undefined
  /** The server itself announced that its inventory changed, so another one is no loss. */
  readonly announced?: boolean | undefined
}

/** One check under way. */
export interface ProbeRun {
  readonly leg: Leg
  readonly method: string
  readonly session?: string | undefined
  /** Never rejects, and settles by the deadline. */
  readonly done: Promise<ProbeResult>
  /** How many messages came since its start that are no JSON-RPC; absent where nobody can tell. */
  readonly noise?: () => number
}

/** The checks of one heartbeat. */
export interface Checks {
  /** One, or one for each process; none when there is nothing to ask. */
  readonly runs: readonly ProbeRun[]
  /** Processes that need no check, because they were heard lately. */
  readonly alive: number
  /** When that one of them was heard that has been silent for longest, monotonic; absent without any. */
  readonly aliveSinceMs?: number
}

export interface CheckOptions {
  readonly deadlineMs: number
  /** Whether the tools are to be read too, because what is known of them may be out of date. */
  readonly wantsInventory: boolean
}

/** What the heartbeat loop asks of one upstream, whatever its transport and era. */
export interface Prober {
  start(options: CheckOptions): Checks
  /** Whether clients or a start wait for the opening exchange: then it is made even where nothing else is asked. */
  isAwaited(): boolean
  /** How long the next check may take when it is an opening exchange; undefined when it is none. */
  openingDeadlineMs(): number | undefined
  /** Which rung of the ladder is in use, and what is known of the server. */
  describe(): { readonly probe: string; readonly era: Era | undefined; readonly protocolVersion: string | undefined }
  /** The connection is not to be trusted any more: the next check opens a new one. */
  forget(): void
  stop(): Promise<void>
}

/** The requests of the ladder, by era; what a server of the legacy era is asked is for `Ladder` to say. */
export const rungs = ['server/discover', 'ping', 'tools/list'] as const
export type Rung = (typeof rungs)[number]

/** Whether an upstream is asked at all: `passive` leaves it to clients' traffic, `off` draws no conclusions either. */
export const probeModes = ['active', 'passive', 'off'] as const
export type ProbeMode = (typeof probeModes)[number]

/**
 * What it is asked: `auto` climbs the ladder, `tools/list` is its second rung and nothing else, and `transport` asks
 * nothing of MCP, only whether the address answers HTTP or the process runs.
 */
export const probeMethods = ['auto', 'tools/list', 'transport'] as const
export type ProbeMethod = (typeof probeMethods)[number]

/** What a server is asked where the ladder has no say; undefined where it has. */
export function fixedRung(method: ProbeMethod, era: Era): Rung | undefined {
  if (method === 'tools/list') return method
  return era === 'modern' ? 'server/discover' : undefined
}

export interface AskOptions {
  readonly talker: Pick<Talker, 'request'>
  readonly clock: Clock
  readonly era: Era
  readonly method: Rung
  readonly leg: Leg
  readonly session?: string | undefined
  readonly deadlineMs: number
}

/** The result with the JSON-RPC error code that the server answered with, if it did. */
export interface Asked {
  readonly result: ProbeResult
  readonly errorCode?: number | undefined
}

/** One request as a heartbeat: any JSON-RPC answer means alive, −32601/−32600 to it means `unsupported`. */
export async function ask(options: AskOptions): Promise<Asked> {
  const { talker, clock, era, method, leg, session, deadlineMs } = options
  const startedMs = clock.now()
  const result = (outcome: Outcome, reason: string): ProbeResult => ({
    leg,
    method,
    outcome,
    reason,
    session,
    durationMs: clock.now() - startedMs,
  })
  try {
    const { error } = await talker.request({ method, params: paramsFor(era), timeoutMs: deadlineMs })
    if (!error) return { result: result('ok', `${method} answered`) }
    const outcome = isUnsupported(error.code) ? 'unsupported' : 'ok'
    return { result: result(outcome, `${method} answered with JSON-RPC error ${error.code}`), errorCode: error.code }
  } catch (error) {
    return { result: { ...result(outcomeOf(error), errorMessage(error)), ...waitOf(error) } }
  }
}

/** What an error says of the time until the next heartbeat. */
export function waitOf(error: unknown): Pick<ProbeResult, 'wantsLess' | 'retryAfterMs'> {
  return error instanceof TooManyRequests ? { wantsLess: true, retryAfterMs: error.retryAfterMs } : {}
}

function isUnsupported(code: number): boolean {
  return code === -32601 || code === -32600
}
