import type { AbandonedRequests } from './abandoned-requests.ts'
import { cancellationOf } from '../wire/cancellation.ts'
import { type Envelope, edits, readEnvelope, splice, textAt } from '../wire/envelope.ts'
import { isLogLevel, mostVerbose } from './log-levels.ts'
import { declaredCapabilities, textParam } from './params.ts'
import { capabilityOfMethod } from './shared-capabilities.ts'
import { emptyAnswer, levelRequest, refusal, unsubscription } from './shared-messages.ts'

/** Why a message goes to nobody, or not where it was meant to go. */
export type SharedDrop = 'client_gone' | 'no_request' | 'no_session' | 'no_subscriber' | 'too_many_subscriptions'

/** One thing to do with a message. */
export type Move =
  /** `request` is our id of it, to be forgotten if it cannot be sent. */
  | { readonly to: 'server'; readonly message: Buffer; readonly request?: string }
  | { readonly to: 'client'; readonly session: string; readonly message: Buffer; readonly envelope: Envelope }
  | { readonly to: 'nobody'; readonly reason: SharedDrop }

/** What to do with a message of the server; `isTaken` says that it was meant for sessions and for nobody else. */
export interface Routed {
  readonly moves: readonly Move[]
  readonly isTaken: boolean
}

/** A request under way, in either direction: its receiver knows it by our id, which is also its progress token. */
interface Renamed {
  /** Raw JSON text, to be put back as it came. */
  readonly id: string
  readonly progressToken: string | undefined
  readonly envelope: Envelope
}

interface ClientRequest extends Renamed {
  /** What was not subscribed before this request, and is not after an error. */
  readonly newUri?: string | undefined
}

interface Member {
  readonly session: string
  /** Its `initialize` was answered. */
  isOpen: boolean
  capabilities: ReadonlySet<string>
  logLevel: string | undefined
  /** What it asked the server, by our id as raw JSON text. */
  readonly requests: Map<string, ClientRequest>
  /** What the server asked it. */
  readonly asked: Map<string, Renamed>
  readonly uris: Set<string>
}

/** Ids of clients' requests, and, with the dash, of those that we make in nobody's name. */
const prefix = '"vitals/'
const ownPrefix = '"vitals/-'

/** Of one session in a process that it shares. */
export const maxSubscriptions = 1000

const methodNotFound = -32601
/** The first of the codes for errors of ours (design.md: −32000…−32019). */
const notRouted = -32000

/**
 * Who gets which message between one legacy server process and the sessions of several clients, without any I/O: a
 * message in, what to do with it out. Ids and progress tokens become ours on the way in and the sender's own again on
 * the way back, so that clients that use the same ones never meet; everything else stays byte for byte.
 */
export class SharedTable {
  readonly #opening: { readonly message: Buffer; readonly envelope: Envelope }
  readonly #members = new Map<string, Member>()
  /** Whose request it is, by our id. */
  readonly #owners = new Map<string, Member>()
  /** By session, which may have ended. */
  readonly #abandoned: AbandonedRequests<string>
  #lastId = 0

  /** `initializeAnswer` is what the server answered to our own `initialize`: each client gets it under its own id. */
  constructor(initializeAnswer: Buffer, abandoned: AbandonedRequests<string>) {
    this.#abandoned = abandoned
    this.#opening = { message: initializeAnswer, envelope: readEnvelope(initializeAnswer) ?? noEnvelope }
  }

  join(session: string): void {
    this.#members.set(session, {
      session,
      isOpen: false,
      capabilities: new Set(),
      logLevel: undefined,
      requests: new Map(),
      asked: new Map(),
      uris: new Set(),
    })
  }

  /** The session is over: nothing of it stays with the server. */
  leave(session: string): readonly Move[] {
    const member = this.#members.get(session)
    if (!member) return []
    this.#members.delete(session)
    for (const id of member.requests.keys()) {
      this.#owners.delete(id)
      this.#abandoned.add(id, session)
    }
    const abandoned = [...member.uris].filter((uri) => !this.#isSubscribed(uri))
    const gone = 'the session that was asked has ended'
    return [
      ...[...member.requests.keys()].map((id) => toServer(cancellationOf(id, "the client's session ended"))),
      ...[...member.asked.values()].map(({ id }) => toServer(refusal(id, notRouted, gone))),
      ...abandoned.map((uri) => toServer(unsubscription(this.#nextId(ownPrefix), uri))),
    ]
  }

  /** A request did not reach the server. */
  forget(request: string): void {
    this.#owners.get(request)?.requests.delete(request)
    this.#owners.delete(request)
  }

  fromClient(session: string, message: Buffer, envelope: Envelope): readonly Move[] {
    const member = this.#members.get(session)
    if (!member) return [dropped('client_gone')]
    switch (envelope.kind) {
      case 'request':
        return this.#requestOf(member, message, envelope)
      case 'notification':
        return this.#notificationOf(member, message, envelope)
      case 'response':
        return answerOf(member, message, envelope)
      case 'batch': // Bridges hand on its messages one by one.
        return [dropped('no_request')]
    }
  }

  /** `otherRequests` are under way in the same process and belong to no session: those of modern clients. */
  fromServer(message: Buffer, envelope: Envelope, otherRequests: number): Routed {
    switch (envelope.kind) {
      case 'response':
        return this.#answer(message, envelope)
      case 'notification':
        return this.#notify(message, envelope)
      case 'request':
        return this.#ask(message, envelope, otherRequests)
      case 'batch':
        return passedOver
    }
  }

  #requestOf(member: Member, message: Buffer, envelope: Envelope): readonly Move[] {
    const own = textAt(message, envelope.ranges.id) ?? 'null'
    switch (envelope.method ?? '') {
      case 'initialize':
        return [this.#open(member, message, envelope)]
      case 'resources/subscribe':
        return this.#subscribe(member, message, envelope)
      case 'resources/unsubscribe': {
        const uri = textParam(message, 'uri') ?? ''
        member.uris.delete(uri)
        // The others are still to hear of it, so the server is not told.
        return [this.#isSubscribed(uri) ? toClient(member, emptyAnswer(own)) : this.#send(member, message, envelope)]
      }
      case 'logging/setLevel':
        return [this.#setLevel(member, message, envelope)]
      default:
        return [this.#send(member, message, envelope)]
    }
  }

  /** The server was initialized once, by us; whoever asks again gets what it said then. */
  #open(member: Member, initialize: Buffer, { ranges, id }: Envelope): Move {
    const { message, envelope } = this.#opening
    member.isOpen = !envelope.error
    member.capabilities = declaredCapabilities(initialize)
    const own = textAt(initialize, ranges.id) ?? 'null'
    const answer = splice(message, edits([envelope.ranges.id, own]))
    return { to: 'client', session: member.session, message: answer, envelope: { ...envelope, id, ranges: {} } }
  }

  #send(member: Member, message: Buffer, envelope: Envelope, newUri?: string): Move {
    const request = this.#nextId(prefix)
    member.requests.set(request, { ...renamed(message, envelope), newUri })
    this.#owners.set(request, member)
    return { to: 'server', message: rename(message, envelope, request), request }
  }

  /** From now on, since the first update may come before the answer. */
  #subscribe(member: Member, message: Buffer, envelope: Envelope): readonly Move[] {
    const uri = textParam(message, 'uri')
    if (uri === undefined || member.uris.has(uri)) return [this.#send(member, message, envelope)]
    if (member.uris.size >= maxSubscriptions) {
      const why = `the session has ${maxSubscriptions} subscriptions, which is the most`
      const answer = refusal(textAt(message, envelope.ranges.id) ?? 'null', notRouted, why)
      return [toClient(member, answer), dropped('too_many_subscriptions')]
    }
    member.uris.add(uri)
    return [this.#send(member, message, envelope, uri)]
  }

  /** The server has one level for all of them: the most verbose that a session asked for, so that nobody misses any. */
  #setLevel(member: Member, message: Buffer, envelope: Envelope): Move {
    const level = textParam(message, 'level')
    const sent = this.#send(member, message, envelope)
    if (!isLogLevel(level) || sent.to !== 'server' || sent.request === undefined) return sent
    member.logLevel = level
    const wanted = mostVerbose([...this.#members.values()].flatMap(({ logLevel }) => logLevel ?? []))
    return wanted === undefined || wanted === level ? sent : { ...sent, message: levelRequest(sent.request, wanted) }
  }

  #notificationOf(member: Member, message: Buffer, envelope: Envelope): readonly Move[] {
    const { method, requestId, progressToken, ranges } = envelope
    if (method === 'notifications/initialized') return [] // The server had ours.
    if (method === 'notifications/cancelled') {
      const request = latestNamed(member.requests, requestId)
      if (request === undefined) return [dropped('no_request')]
      this.forget(request)
      this.#abandoned.add(request, member.session)
      return [toServer(splice(message, edits([ranges.requestId, request])))]
    }
    if (progressToken !== undefined) {
      const own = member.asked.get(progressToken)?.progressToken
      return [own === undefined ? dropped('no_request') : toServer(splice(message, edits([ranges.progressToken, own])))]
    }
    return [toServer(message)]
  }

  #answer(message: Buffer, envelope: Envelope): Routed {
    const ours = envelope.id ?? ''
    if (!ours.startsWith(prefix)) return passedOver
    if (ours.startsWith(ownPrefix)) return taken()
    this.#abandoned.answered(ours)
    const owner = this.#owners.get(ours)
    const request = owner?.requests.get(ours)
    if (!owner || !request) return taken(dropped('client_gone'))
    this.forget(ours)
    if (envelope.error && request.newUri !== undefined) owner.uris.delete(request.newUri)
    const answer = splice(message, edits([envelope.ranges.id, request.id]))
    return taken({
      to: 'client',
      session: owner.session,
      message: answer,
      envelope: { ...envelope, id: request.envelope.id, ranges: {} },
    })
  }

  #notify(message: Buffer, envelope: Envelope): Routed {
    const { method, progressToken, requestId, subscriptionId } = envelope
    if (progressToken?.startsWith(prefix)) return this.#progress(message, envelope, progressToken)
    if (method === 'notifications/cancelled' && requestId !== undefined) {
      return this.#takenBack(message, envelope, requestId)
    }
    if (progressToken !== undefined || requestId !== undefined || subscriptionId !== undefined) return passedOver
    if (method === 'notifications/resources/updated') {
      const uri = textParam(message, 'uri') ?? ''
      const subscribers = [...this.#members.values()].filter(({ uris }) => isAmong(uri, uris))
      if (subscribers.length === 0) return taken(dropped('no_subscriber'))
      return taken(...subscribers.map((member) => toClient(member, message, envelope)))
    }
    const open = [...this.#members.values()].filter(({ isOpen }) => isOpen)
    return { moves: open.map((member) => toClient(member, message, envelope)), isTaken: false }
  }

  #progress(message: Buffer, envelope: Envelope, ours: string): Routed {
    const owner = this.#owners.get(ours)
    const request = owner?.requests.get(ours)
    if (!owner || request?.progressToken === undefined) return taken(dropped('no_request'))
    const { progressToken } = request.envelope
    const told = splice(message, edits([envelope.ranges.progressToken, request.progressToken]))
    return taken(toClient(owner, told, { ...envelope, progressToken, ranges: {} }))
  }

  /** The server gave up a request of its own. */
  #takenBack(message: Buffer, envelope: Envelope, requestId: string): Routed {
    for (const member of this.#members.values()) {
      const ours = latestNamed(member.asked, requestId)
      if (ours === undefined) continue
      member.asked.delete(ours)
      const told = splice(message, edits([envelope.ranges.requestId, ours]))
      return taken(toClient(member, told, { ...envelope, requestId: ours, ranges: {} }))
    }
    return passedOver
  }

  /**
   * Nothing in a request of the server tells whose it is. So it goes to the one session that can have caused it, and
   * where that could be another, to nobody: a prompt must never reach a stranger. A `ping` is ours to answer, since a
   * client that does not must not make the server give up the others.
   */
  #ask(message: Buffer, envelope: Envelope, otherRequests: number): Routed {
    if (envelope.method === 'ping') return passedOver
    const id = textAt(message, envelope.ranges.id) ?? 'null'
    const member = this.#onlyCause(otherRequests)
    if (!member) {
      const why = 'it cannot be told which of the clients that share this process is asked'
      return taken(toServer(refusal(id, notRouted, why)), dropped('no_session'))
    }
    const capability = capabilityOfMethod.get(envelope.method ?? '')
    if (capability !== undefined && !member.capabilities.has(capability)) {
      const why = `the client did not declare the capability ${capability}`
      return taken(toServer(refusal(id, methodNotFound, why)), dropped('no_session'))
    }
    const ours = this.#nextId(prefix)
    member.asked.set(ours, renamed(message, envelope))
    const own = { id: ours, progressToken: envelope.progressToken && ours, ranges: {} }
    return taken(toClient(member, rename(message, envelope, ours), { ...envelope, ...own }))
  }

  /**
   * The only session with a request under way, or one that it gave up and the server may not; while nobody has any, the
   * only session. Undefined also where it has ended.
   */
  #onlyCause(otherRequests: number): Member | undefined {
    if (otherRequests > 0) return undefined
    const open = [...this.#members.values()].filter(({ isOpen }) => isOpen)
    const busy = [...this.#members.values()].filter(({ requests }) => requests.size > 0)
    const causes = new Set([...busy.map(({ session }) => session), ...this.#abandoned.owners()])
    const [only] = causes.size > 0 ? causes : open.map(({ session }) => session)
    const isSingle = causes.size === 1 || (causes.size === 0 && open.length === 1)
    return only !== undefined && isSingle ? this.#members.get(only) : undefined
  }

  #isSubscribed(uri: string): boolean {
    return [...this.#members.values()].some(({ uris }) => uris.has(uri))
  }

  #nextId(start: string): string {
    this.#lastId += 1
    return `${start}${this.#lastId}"`
  }
}

const noEnvelope: Envelope = { kind: 'response', ranges: {} }
const passedOver: Routed = { moves: [], isTaken: false }

/** The client's answer to a request of the server, if it was the one that was asked. */
function answerOf(member: Member, message: Buffer, { id = '', ranges }: Envelope): readonly Move[] {
  const asked = member.asked.get(id)
  if (!asked) return [dropped('no_request')]
  member.asked.delete(id)
  return [toServer(splice(message, edits([ranges.id, asked.id])))]
}

/** An update may be about a part of what was subscribed (MCP 2025-11-25, `ResourceUpdatedNotificationParams`). */
function isAmong(uri: string, subscribed: ReadonlySet<string>): boolean {
  return subscribed.has(uri) || [...subscribed].some((one) => uri.startsWith(one.endsWith('/') ? one : `${one}/`))
}

/** Our id of the last request that its sender calls so; undefined when none is under way. */
function latestNamed(requests: ReadonlyMap<string, Renamed>, id: string | undefined): string | undefined {
  return id === undefined ? undefined : [...requests].findLast(([, { envelope }]) => envelope.id === id)?.[0]
}

function renamed(message: Buffer, envelope: Envelope): Renamed {
  const { id, progressToken } = envelope.ranges
  return { id: textAt(message, id) ?? 'null', progressToken: textAt(message, progressToken), envelope }
}

function rename(message: Buffer, { ranges }: Envelope, ours: string): Buffer {
  return splice(message, edits([ranges.id, ours], [ranges.progressToken, ours]))
}

function toServer(message: Buffer): Move {
  return { to: 'server', message }
}

function toClient({ session }: Member, message: Buffer, envelope = readEnvelope(message) ?? noEnvelope): Move {
  return { to: 'client', session, message, envelope }
}

function dropped(reason: SharedDrop): Move {
  return { to: 'nobody', reason }
}

function taken(...moves: readonly Move[]): Routed {
  return { moves, isTaken: true }
}
