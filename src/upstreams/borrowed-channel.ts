import type { Clock } from '../clock.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { headerNames } from '../wire/headers.ts'
import type { Channel } from './channel.ts'
import type { Endpoint } from './endpoint.ts'
import { post } from './post.ts'

/** How messages are sent inside the session of a client. */
export interface BorrowedPlace {
  /** Path and query. */
  readonly path: string
  readonly headers: () => readonly string[]
  /** Where answers come on the client's own stream: keeps the one to this id (its JSON text) back there. */
  readonly expect?: (id: string) => void
}

/**
 * A Streamable HTTP session: a request is answered on its own POST (MCP 2025-11-25, Transports, "Sending Messages to the
 * Server"), so the client's streams see nothing of it. `sessionId` is what the client got from the server.
 */
export function insideSession(
  { url }: Endpoint,
  sessionId: string,
  protocolVersion: () => string | undefined,
): BorrowedPlace {
  return {
    path: url.pathname + url.search,
    headers: () => {
      const version = protocolVersion()
      const revision = version === undefined ? [] : [headerNames.protocolVersion, version]
      return ['accept', 'application/json, text/event-stream', headerNames.sessionId, sessionId, ...revision]
    },
  }
}

/** An HTTP+SSE session: `messages` is where the server wants its client to POST; answers come on the client's stream. */
export function besideStream(messages: URL, expect: (id: string) => void): BorrowedPlace {
  return { path: messages.pathname + messages.search, headers: () => [], expect }
}

export interface BorrowedChannelOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly maxBodyBytes: number
  readonly place: BorrowedPlace
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
}

/** Messages of ours inside the session of a client; since it is not ours, it is neither opened nor ended. */
export function borrowedChannel(options: BorrowedChannelOptions): Channel {
  const { endpoint, clock, maxBodyBytes, place, onMessage } = options
  const life = new AbortController()
  return {
    send: async (message, _outgoing, signal) => {
      const id = readEnvelope(message)?.id
      if (id !== undefined) place.expect?.(id)
      await post({
        endpoint,
        clock,
        path: place.path,
        message,
        headers: place.headers(),
        maxBodyBytes,
        isAnsweredElsewhere: place.expect !== undefined,
        signals: signal ? [signal, life.signal] : [life.signal],
        onStart: (status) => status === 404, // MCP 2025-11-25, Session Management, 3.
        onMessage,
        onTooLong: () => undefined, // What a client's session says here is for us alone, and we ask for little.
      })
    },
    close: () => {
      life.abort()
      return Promise.resolve()
    },
  }
}
