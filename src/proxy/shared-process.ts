import type { Clock } from '../clock.ts'
import { KnownError } from '../errors.ts'
import type { Link, LinkListener } from '../upstreams/link.ts'
import type { Line, StdioUpstream } from '../upstreams/stdio.ts'
import { cancellationOf } from '../wire/cancellation.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { AbandonedRequests } from './abandoned-requests.ts'
import { type Move, type SharedDrop, SharedTable } from './shared-table.ts'

/** Of the client: the process serves others too, so it is not made to wait; who is further behind is cut off. */
const maxUnreadBytes = 16 * 1024 * 1024

export interface SharedProcessOptions {
  readonly clock: Clock
  /** For how long the process may be at work on a request. */
  readonly requestTimeoutMs: number
  readonly upstream: Pick<StdioUpstream, 'borrowResident' | 'releaseResident'>
  /** Requests under way in the process that belong to no session. */
  readonly otherRequests: () => number
  readonly onDropped: (reason: SharedDrop) => void
  /** Of too many requests that were given up, one is not remembered. */
  readonly onForgotten?: (() => void) | undefined
}

/** The session's end of a link to a process that it shares. */
export interface GuestListener extends LinkListener {
  /** The client reads so slowly that the process cannot go on with it. */
  onBehind(): void
}

/** One session at a process that it shares. */
interface Guest {
  readonly listener: GuestListener
  isHeld: boolean
  /** What it was sent since it is held. */
  unreadBytes: number
}

/** One process and the sessions that share it, from the first of them to its end. */
interface Household {
  readonly line: Pick<Line, 'channel' | 'peer' | 'process'>
  readonly table: SharedTable
  readonly guests: Map<string, Guest>
}

/**
 * `process: shared`: the sessions of all legacy clients in the resident process, which ends none of them and ends with
 * none. The table decides who gets which message; here is only what carries that out.
 */
export class SharedProcess {
  readonly #options: SharedProcessOptions
  /** By the process's line: the last words of one may come when the next already serves. */
  readonly #households = new Map<Line, Household>()

  constructor(options: SharedProcessOptions) {
    this.#options = options
  }

  /** A session's end of the process: opened and closed like a connection of its own. */
  link(session: string, listener: GuestListener): Link {
    const { upstream } = this.#options
    const guest: Guest = { listener, isHeld: false, unreadBytes: 0 }
    let household: Household | undefined
    let isBorrowed = false
    let isClosed = false
    return {
      get life() {
        return household?.line
      },
      open: async () => {
        isBorrowed = true
        const line = await upstream.borrowResident()
        if (isClosed) throw new KnownError('cancelled', 'the session ended while the process started')
        household = this.#householdOf(line)
        household.guests.set(session, guest)
        household.table.join(session)
      },
      send: async (message, envelope) => {
        if (!household) throw new KnownError('upstream_exited', 'the process of this session does not run')
        const refusal = household.line.channel.refusal()
        if (refusal) throw refusal
        await this.#carryOut(household, household.table.fromClient(session, message, envelope))
      },
      giveUp: (id, reason) => {
        const message = cancellationOf(id, reason)
        const envelope = readEnvelope(message)
        if (!household || !envelope) return
        // The process may be gone, and the request with it.
        this.#carryOut(household, household.table.fromClient(session, message, envelope)).catch(() => undefined)
      },
      hold: (isFull) => {
        guest.isHeld = isFull
        guest.unreadBytes = 0
      },
      close: async () => {
        isClosed = true
        if (isBorrowed) upstream.releaseResident()
        isBorrowed = false
        household?.guests.delete(session)
        // The process may be gone, and everything with it.
        if (household) await this.#carryOut(household, household.table.leave(session)).catch(() => undefined)
      },
    }
  }

  /** True when the message was for sessions alone; what all of them hear is for others too. */
  hear(line: Line, message: Buffer, envelope: Envelope): boolean {
    const household = this.#households.get(line)
    if (!household) return false
    const { moves, isTaken } = household.table.fromServer(message, envelope, this.#options.otherRequests())
    // A refusal that does not reach the server has a process to blame that is gone.
    this.#carryOut(household, moves).catch(() => undefined)
    return isTaken
  }

  /** The process is gone, and with it what it knew of its sessions: each ends, after one error for each open request. */
  closed(line: Line, error: KnownError): void {
    const household = this.#households.get(line)
    this.#households.delete(line)
    const guests = [...(household?.guests.values() ?? [])]
    for (const { listener } of guests) listener.onClose(error)
  }

  #householdOf(line: Line): Household {
    const known = this.#households.get(line)
    if (known) return known
    const { initializeAnswer } = line
    if (!initializeAnswer) throw new KnownError('upstream_invalid', 'the server has not answered our initialize')
    const { clock, requestTimeoutMs: lastingMs, onForgotten } = this.#options
    const table = new SharedTable(initializeAnswer, new AbandonedRequests({ clock, lastingMs, onForgotten }))
    const made: Household = { line, table, guests: new Map() }
    this.#households.set(line, made)
    return made
  }

  /** Rejects when a message does not reach the server; the sender of a request then knows that it was not asked. */
  async #carryOut({ line, table, guests }: Household, moves: readonly Move[]): Promise<void> {
    const sent: Promise<void>[] = []
    for (const move of moves) {
      switch (move.to) {
        case 'server':
          sent.push(send(line, table, move))
          break
        case 'client':
          deliver(guests.get(move.session), move)
          break
        case 'nobody':
          this.#options.onDropped(move.reason)
      }
    }
    await Promise.all(sent)
  }
}

async function send(
  { channel }: Household['line'],
  table: SharedTable,
  { message, request }: Extract<Move, { to: 'server' }>,
): Promise<void> {
  try {
    await channel.send(message)
  } catch (error) {
    if (request !== undefined) table.forget(request)
    throw error
  }
}

function deliver(guest: Guest | undefined, { message, envelope }: Extract<Move, { to: 'client' }>): void {
  if (!guest) return
  guest.listener.onMessage(message, envelope)
  if (!guest.isHeld) return
  guest.unreadBytes += message.length
  if (guest.unreadBytes > maxUnreadBytes) guest.listener.onBehind()
}
