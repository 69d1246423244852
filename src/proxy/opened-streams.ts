import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { initialize } from '../heartbeat/conversation.ts'
import { ClientEndpoint, type HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import { Peer } from '../upstreams/peer.ts'
import { SseChannel } from '../upstreams/sse-channel.ts'
import type { Envelope } from '../wire/envelope.ts'
import type { Exchange } from './exchange.ts'
import type { SharedLine, SharedLines } from './modern-bridge.ts'

/** Who hears what a server says on such a connection; `ModernBridge` is one. */
export interface SharedListener {
  hear(message: Buffer, envelope: Envelope): boolean
  lost(line: SharedLine, error: KnownError): void
}

export interface OpenedStreamsOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly headers: (exchange: Exchange) => HeadersFor
  readonly listener: () => SharedListener
  /** A message of the server was longer than is carried. */
  readonly onTooLong: () => void
}

/**
 * Modern requests to an HTTP+SSE server, whose transport cannot be asked without a stream and its `initialize`: each
 * request gets a connection that we open, with the credentials of its client, so that the answer is the server's own.
 */
export function openedStreams({ endpoint, clock, headers, listener, onTooLong }: OpenedStreamsOptions): SharedLines {
  return {
    borrow: async (exchange) => {
      const own = new ClientEndpoint(endpoint)
      own.speakFor(headers(exchange))
      const channel = new SseChannel({
        endpoint: own,
        clock,
        maxBodyBytes: defaults.maxLineBytes,
        events: {
          onMessage: (message, envelope) => {
            if (peer.takeAnswer(message, envelope) || listener().hear(message, envelope)) return
            peer.answerServerRequest(envelope).catch(() => undefined) // The server asked on a connection that is gone.
          },
          onTooLong,
          onClose: (why) => {
            const error = new KnownError('upstream_closed', why)
            peer.fail(error)
            listener().lost(line, error)
          },
        },
      })
      const peer = new Peer(channel, clock)
      const line: SharedLine = { channel, peer }
      exchange.outgoing.once('close', () => void channel.close())
      const endsMs = clock.now() + defaults.supervision.startDeadlineMs
      try {
        await channel.open()
        await initialize(peer, { leftMs: () => Math.max(1, endsMs - clock.now()), speak: () => undefined })
        return line
      } catch (error) {
        await channel.close()
        throw error
      }
    },
    release: (line) => void line?.channel.close(),
    isLasting: false,
  }
}
