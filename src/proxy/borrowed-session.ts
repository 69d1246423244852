import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { Session } from '../sessions/session.ts'
import { type BorrowedPlace, borrowedChannel } from '../upstreams/borrowed-channel.ts'
import { ClientEndpoint, type HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import { Peer } from '../upstreams/peer.ts'
import type { Envelope } from '../wire/envelope.ts'
import { eraOfVersion } from '../wire/era.ts'

/** A message of a client in its forwarded session. */
export interface Lent {
  readonly session: Session
  readonly endpoint: Endpoint
  /** From now on these, credentials included, are those to ask with. */
  readonly headers: HeadersFor
  readonly place: () => BorrowedPlace
  /** Whether an answer could be heard now. */
  readonly canHear: () => boolean
}

/** Our own `ping` inside the forwarded sessions of clients, where the configuration wants it. */
export interface BorrowedSessions {
  heard(lent: Lent): void
  /** Takes an answer to a request of ours that came on the client's own stream. */
  answered(session: Session, message: Buffer, envelope: Envelope): void
}

export interface BorrowedSessionsOptions {
  readonly clock: Clock
  /** Whether servers are asked inside forwarded sessions with this upstream. */
  readonly isWanted: (upstream: string) => boolean
}

interface Borrowed {
  readonly endpoint: ClientEndpoint
  readonly peer: Peer
}

/** The credentials live as long as the record of their session, and are kept nowhere else. */
export function borrowedSessions({ clock, isWanted }: BorrowedSessionsOptions): BorrowedSessions {
  const borrowed = new WeakMap<Session, Borrowed>()
  return {
    heard: ({ session, endpoint, headers, place, canHear }) => {
      if (!isWanted(session.upstream)) {
        if (borrowed.delete(session)) session.serverPeer = undefined
        return
      }
      const known = borrowed.get(session)
      const own = known?.endpoint ?? new ClientEndpoint(endpoint)
      own.speakFor(headers)
      if (known) return
      const peer: Peer = new Peer(
        borrowedChannel({
          endpoint: own,
          clock,
          maxBodyBytes: defaults.maxLineBytes,
          place: place(),
          onMessage: (message, envelope) => void peer.takeAnswer(message, envelope),
        }),
        clock,
      )
      borrowed.set(session, { endpoint: own, peer })
      session.serverPeer = {
        canAsk: () => isLegacy(session) && isWanted(session.upstream) && !session.questions.isOpen && canHear(),
        request: (asked) => peer.request(asked),
      }
    },
    answered: (session, message, envelope) => void borrowed.get(session)?.peer.takeAnswer(message, envelope),
  }
}

function isLegacy({ protocolVersion }: Session): boolean {
  return protocolVersion !== undefined && eraOfVersion(protocolVersion) === 'legacy'
}
