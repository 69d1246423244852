import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { Session } from '../sessions/session.ts'
import { borrowedChannel } from '../upstreams/borrowed-channel.ts'
import { ClientEndpoint, type HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import { Peer } from '../upstreams/peer.ts'
import { eraOfVersion } from '../wire/era.ts'

/** Our own `ping` inside the forwarded sessions of clients, where the configuration wants it. */
export interface BorrowedSessions {
  /** The client sent a message in this session: from now on its headers, credentials included, are those to ask with. */
  heard(session: Session, endpoint: Endpoint, headers: HeadersFor): void
}

export interface BorrowedSessionsOptions {
  readonly clock: Clock
  /** Whether servers are asked inside forwarded sessions with this upstream. */
  readonly isWanted: (upstream: string) => boolean
}

/** The credentials live as long as the record of their session, and are kept nowhere else. */
export function borrowedSessions({ clock, isWanted }: BorrowedSessionsOptions): BorrowedSessions {
  const endpoints = new WeakMap<Session, ClientEndpoint>()
  return {
    heard: (session, endpoint, headers) => {
      if (!isWanted(session.upstream)) {
        if (endpoints.delete(session)) session.serverPeer = undefined
        return
      }
      const known = endpoints.get(session)
      const own = known ?? new ClientEndpoint(endpoint)
      own.speakFor(headers)
      if (known) return
      endpoints.set(session, own)
      const peer: Peer = new Peer(
        borrowedChannel({
          endpoint: own,
          clock,
          maxBodyBytes: defaults.maxLineBytes,
          sessionId: session.id,
          protocolVersion: () => session.protocolVersion,
          onMessage: (message, envelope) => void peer.takeAnswer(message, envelope),
        }),
        clock,
      )
      session.serverPeer = {
        canAsk: () => isLegacy(session) && isWanted(session.upstream) && !session.questions.isOpen,
        request: (asked) => peer.request(asked),
      }
    },
  }
}

function isLegacy({ protocolVersion }: Session): boolean {
  return protocolVersion !== undefined && eraOfVersion(protocolVersion) === 'legacy'
}
