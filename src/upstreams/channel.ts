import type { KnownError } from '../errors.ts'
import type { Envelope } from '../wire/envelope.ts'

/** Carries raw JSON-RPC messages to one server and back, whatever the transport below. */
export interface Channel {
  /**
   * Sends one message. Rejects with a `KnownError` (`upstream_*`) when the transport proves that it did not get
   * through or will not be answered; an answer itself arrives through `ChannelEvents.onMessage`. Once `signal` aborts,
   * nobody waits for it any more, and what it holds open is closed.
   */
  send(message: Buffer, envelope: Outgoing, signal?: AbortSignal): Promise<void>
  /** Why a message of a client cannot be taken now, if it cannot: what it would wait in is full. */
  refusal?(): KnownError | undefined
  /** Ends the connection; for HTTP that includes the DELETE of our session. */
  close(): Promise<void>
}

/** What a transport needs to know of a message that it carries: some put method and name into headers. */
export interface Outgoing {
  readonly method?: string | undefined
  readonly name?: string | undefined
  readonly uri?: string | undefined
  readonly taskId?: string | undefined
  /** The revision that a modern request claims, in place of the one that was agreed on. */
  readonly protocolVersion?: string | undefined
  /** Of a modern call, those that repeat arguments of its tool; name and value alternate. */
  readonly paramHeaders?: readonly string[] | undefined
}

export interface ChannelEvents {
  onMessage(message: Buffer, envelope: Envelope): void
  /** A message came that is no JSON-RPC. */
  onNoise?(): void
  /** A message came that is too long to be carried; who waits for an answer of it, here or there, is told. */
  onTooLong?(): void
  /** The connection is gone for good; `why` is a sentence for people. */
  onClose(why: string): void
}
