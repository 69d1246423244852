import type { Clock } from '../clock.ts'
import { errorCode, errorMessage } from '../errors.ts'
import type { Era } from '../wire/era.ts'
import { type Leg, type Outcome, outcomeOfCode } from './classify.ts'
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
  readonly inventory?: Inventory | undefined
  /** The server itself announced that its inventory changed, so another one is no loss. */
  readonly announced?: boolean | undefined
}

/** One check under way. `done` never rejects. */
export interface ProbeRun {
  readonly leg: Leg
  readonly method: string
  readonly session?: string | undefined
  readonly done: Promise<ProbeResult>
}

/** What the heartbeat loop asks of one upstream, whatever its transport and era. */
export interface Prober {
  /** Starts the checks of one heartbeat: one, or one per client session's process; none when there is nothing to ask. */
  start(deadlineMs: number): readonly ProbeRun[]
  /** Whether the next check is an opening exchange, and how long that may take. */
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

export interface AskOptions {
  readonly talker: Talker
  readonly clock: Clock
  readonly era: Era
  readonly method: Rung
  readonly leg: Leg
  readonly session?: string | undefined
  readonly deadlineMs: number
}

/** One request as a heartbeat: any JSON-RPC answer means alive, −32601/−32600 to it means `unsupported`. */
export async function ask(options: AskOptions): Promise<ProbeResult> {
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
    if (error && isUnsupported(error.code)) return result('unsupported', `${method} is not supported (${error.code})`)
    return result('ok', error ? `${method} answered with JSON-RPC error ${error.code}` : `${method} answered`)
  } catch (error) {
    return result(outcomeOfCode(errorCode(error)), errorMessage(error))
  }
}

function isUnsupported(code: number): boolean {
  return code === -32601 || code === -32600
}
