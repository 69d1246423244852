import type { Clock } from '../clock.ts'
import { errorCode, errorMessage } from '../errors.ts'
import type { Era } from '../wire/era.ts'
import { type Leg, type Outcome, isAnswered, outcomeOfCode } from './classify.ts'
import { type Inventory, type Talker, paramsFor } from './conversation.ts'

/** What one probe came to. */
export interface ProbeResult {
  readonly leg: Leg
  /** The JSON-RPC method asked, or `process` when the process itself was the evidence. */
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
  /** The tools, as soon as they are read, which no verdict waits for; undefined when they were not told. Never rejects. */
  readonly inventory?: Promise<Inventory | undefined> | undefined
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
}

/** The checks of one heartbeat. */
export interface Checks {
  /** One, or one for each process; none when there is nothing to ask. */
  readonly runs: readonly ProbeRun[]
  /** Processes that need no check, because they were heard lately. */
  readonly alive: number
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

/**
 * The rungs of the ladder above the transport: what to ask a server that answers, by era. A server that does not know
 * `ping`, or never answers it, is asked for its tools instead; an unsupported ping is never held against it.
 */
export type Rung = 'server/discover' | 'ping' | 'tools/list'

export function firstRung(era: Era): Rung {
  return era === 'modern' ? 'server/discover' : 'ping'
}

/** Whether an upstream is asked at all: `passive` leaves it to clients' traffic, `off` draws no conclusions either. */
export const probeModes = ['active', 'passive', 'off'] as const
export type ProbeMode = (typeof probeModes)[number]

/**
 * What it is asked: `auto` climbs the ladder, `tools/list` begins at its second rung, and `transport` asks nothing of
 * MCP, only whether the address answers HTTP or the process runs.
 */
export const probeMethods = ['auto', 'tools/list', 'transport'] as const
export type ProbeMethod = (typeof probeMethods)[number]

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
    return { result: result(outcomeOfCode(errorCode(error)), errorMessage(error)) }
  }
}

function isUnsupported(code: number): boolean {
  return code === -32601 || code === -32600
}

/** How long a server may leave a `ping` unanswered that never answered one. Half the shortest time-out of a probe. */
const pingPatienceMs = 1000

/**
 * `ping` while nobody knows whether this server answers it: some stay silent. They get the next rung within the same
 * probe, early enough for its time-out, so that such a server never looks ill.
 */
export async function askUnprovenPing(options: Omit<AskOptions, 'method'>): Promise<Asked> {
  const { deadlineMs, clock } = options
  const startedMs = clock.now()
  const ping = await ask({ ...options, method: 'ping', deadlineMs: Math.min(pingPatienceMs, deadlineMs) })
  const leftMs = deadlineMs - (clock.now() - startedMs)
  if (ping.result.outcome !== 'timeout' || leftMs <= 0) return ping
  const next = await ask({ ...options, method: 'tools/list', deadlineMs: leftMs })
  if (isAnswered(next.result.outcome)) return next
  return { result: { ...next.result, method: 'ping', durationMs: clock.now() - startedMs } }
}
