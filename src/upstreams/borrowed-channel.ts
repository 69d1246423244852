import type { Clock } from '../clock.ts'
import type { Envelope } from '../wire/envelope.ts'
import { headerNames } from '../wire/headers.ts'
import type { Channel } from './channel.ts'
import type { Endpoint } from './endpoint.ts'
import { post } from './post.ts'

export interface BorrowedChannelOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly maxBodyBytes: number
  /** `Mcp-Session-Id`, which a client got from the server. */
  readonly sessionId: string
  readonly protocolVersion: () => string | undefined
  readonly onMessage: (message: Buffer, envelope: Envelope) => void
}

/**
 * Messages of ours inside the Streamable HTTP session of a client. A request is answered on its own POST (MCP 2025-11-25,
 * Transports, "Sending Messages to the Server"), so the client's streams see nothing of it; and since the session is not
 * ours, it is neither opened nor ended.
 */
export function borrowedChannel(options: BorrowedChannelOptions): Channel {
  const { endpoint, clock, maxBodyBytes, sessionId, protocolVersion, onMessage } = options
  const life = new AbortController()
  return {
    send: async (message, _outgoing, signal) => {
      const version = protocolVersion()
      await post({
        endpoint,
        clock,
        path: endpoint.url.pathname + endpoint.url.search,
        message,
        headers: [
          'accept',
          'application/json, text/event-stream',
          headerNames.sessionId,
          sessionId,
          ...(version === undefined ? [] : [headerNames.protocolVersion, version]),
        ],
        maxBodyBytes,
        isAnsweredElsewhere: false,
        signal: signal ? AbortSignal.any([signal, life.signal]) : life.signal,
        onStart: (status) => status === 404, // MCP 2025-11-25, Session Management, 3.
        onMessage,
      })
    },
    close: () => {
      life.abort()
      return Promise.resolve()
    },
  }
}
