import type { Clock } from '../clock.ts'
import type { Session } from '../sessions/session.ts'
import { Peer } from '../upstreams/peer.ts'
import type { Envelope } from '../wire/envelope.ts'
import { eraOfVersion } from '../wire/era.ts'

/** A forwarded event stream on which something of ours may be said. */
export interface ListeningStream {
  /** Whether the client would get it at once, between two events of the server. */
  canSay(): boolean
  say(message: Buffer): void
}

/** Its clients may answer in a batch, which is forwarded as one and could not lose a part. */
const batchRevision = '2025-03-26'

/**
 * Our own requests to the clients of forwarded sessions, on the stream that each holds open. Their answers come as POSTs
 * in the session and are taken out of the way to the server.
 */
export class ClientPeers {
  readonly #clock: Clock
  /** Of clients that were asked. */
  readonly #peers = new WeakMap<Session, Peer>()
  readonly #streams = new WeakMap<Session, ListeningStream>()
  /** Whoever sends long bodies of unknown length is not asked: they pass before we can tell what they are. */
  readonly #unread = new WeakSet<Session>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The latest stream of a session is the one to be used. */
  opened(session: Session, stream: ListeningStream): void {
    this.#streams.set(session, stream)
    session.clientPeer = {
      canAsk: () => isAskable(session) && !this.#unread.has(session) && stream.canSay(),
      request: (asked) => this.#peerOf(session).request(asked),
    }
  }

  closed(session: Session, stream: ListeningStream): void {
    if (this.#streams.get(session) !== stream) return
    this.#streams.delete(session)
    session.clientPeer = undefined
  }

  passesUnread(session: Session): void {
    this.#unread.add(session)
  }

  hasAsked(session: Session): boolean {
    return this.#peers.has(session)
  }

  /** True when the message answers a request of ours, and is not for the server. */
  takeAnswer(session: Session, message: Buffer, envelope: Envelope): boolean {
    return this.#peers.get(session)?.takeAnswer(message, envelope) ?? false
  }

  #peerOf(session: Session): Peer {
    const known = this.#peers.get(session)
    if (known) return known
    const send = (message: Buffer) => {
      this.#streams.get(session)?.say(message)
      return Promise.resolve()
    }
    const peer = new Peer({ send, close: () => Promise.resolve() }, this.#clock)
    this.#peers.set(session, peer)
    return peer
  }
}

function isAskable({ protocolVersion, questions }: Session): boolean {
  if (protocolVersion === undefined || protocolVersion === batchRevision || questions.isOpen) return false
  return eraOfVersion(protocolVersion) === 'legacy'
}
