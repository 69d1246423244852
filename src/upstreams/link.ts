import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorCode } from '../errors.ts'
import { cancellationOf } from '../wire/cancellation.ts'
import { type Envelope, isSameId } from '../wire/envelope.ts'
import { entriesIn } from '../wire/lists.ts'
import type { Channel, Outgoing } from './channel.ts'
import { ClientEndpoint, type HeadersFor } from './client-endpoint.ts'
import type { Endpoint, OwnRequests } from './endpoint.ts'
import { HttpChannel } from './http-channel.ts'
import { Peer } from './peer.ts'
import { SseChannel } from './sse-channel.ts'
import { type Line, type StdioUpstream, beingReplaced } from './stdio.ts'
import { ToolHeaders } from './tool-headers.ts'

/** What tells whether a server lives that says nothing. */
export interface Life {
  /** Our own end of the connection. */
  readonly peer?: Pick<Peer, 'request'>
  /** Where it is ours. */
  readonly process?: { readonly pid: number | undefined }
}

/** A client session's own connection to a server, whatever the transport below. */
export interface Link {
  /** Connects or starts the process. Rejects with a `KnownError`, also when the link is closed meanwhile. */
  open(headers: HeadersFor): Promise<void>
  /** Sends one message of the client, with the headers that came with it. Rejects like `Channel.send`. */
  send(message: Buffer, envelope: Envelope, headers: HeadersFor): Promise<void>
  /** Tells the server that nobody waits for the answer to this request any more, whether it hears that or not. */
  giveUp(id: string, reason: string, headers: HeadersFor): void
  /** Back-pressure: while the client does not read, the server is not read either. */
  hold(isFull: boolean): void
  close(): Promise<void>
  /** What to look at while the server owes an answer; absent while it is not connected, or where nobody looks. */
  readonly life?: Life | undefined
  /** Our own end of the connection, with the headers that the client sent last; absent where others ask, or nobody can. */
  readonly peer?: Pick<Peer, 'request'> | undefined
}

/** The client session's end of a link. */
export interface LinkListener {
  onMessage(message: Buffer, envelope: Envelope): void
  /** The server's end is gone; not heard after `close`. */
  onClose(error: KnownError): void
}

/** A process of its own. Its opening exchange is the client's, so heartbeats wait until that is over. */
export function stdioLink(upstream: StdioUpstream, session: string, listener: LinkListener): Link {
  let line: Line | undefined
  const closed = new AbortController()
  return {
    get life() {
      return line
    },
    open: async () => {
      const hears = {
        onMessage: (message: Buffer, envelope: Envelope) => listener.onMessage(message, envelope),
        onClose: (error: KnownError) => listener.onClose(error),
      }
      const opened = await upstream.openSession(session, hears, closed.signal)
      if (closed.signal.aborted) {
        await upstream.closeSession(opened)
        throw new KnownError('cancelled', 'the session ended while its process started')
      }
      line = opened
    },
    send: (message, { kind, method }) => {
      const to = line
      if (!to) return Promise.reject(new KnownError('upstream_exited', 'the process of this session does not run'))
      // What the process asked, and what cancels a request, still helps it to finish.
      if (to.isLeaving && kind !== 'response' && kind !== 'notification') return Promise.reject(beingReplaced())
      const refusal = to.channel.refusal()
      if (refusal) return Promise.reject(refusal)
      const sent = to.channel.send(message)
      return !to.opened && isOpenedBy(to, kind, method) ? sent.then(() => void (to.opened = true)) : sent
    },
    giveUp: (id, reason) => {
      line?.channel.send(cancellationOf(id, reason)).catch(() => undefined) // It has gone, and the request with it.
    },
    hold: (isFull) => {
      if (isFull) line?.process.stdout.pause()
      else line?.process.stdout.resume()
    },
    close: async () => {
      closed.abort()
      if (line) await upstream.closeSession(line)
    },
  }
}

/** Some clients never say that their opening exchange is over: what they ask after it says so too. */
function isOpenedBy({ firstHeardMs }: Line, kind: Envelope['kind'], method: string | undefined): boolean {
  if (method === 'notifications/initialized') return true
  return kind === 'request' && firstHeardMs !== undefined && method !== 'initialize' && method !== 'ping'
}

export interface UrlLinkOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  /** The longest message of the server that is carried. */
  readonly maxBodyBytes: number
  readonly listener: LinkListener
  /** A message was longer, and those who wait for an answer of it are told. */
  readonly onTooLong: () => void
  /** Of too many tools, one whose arguments headers repeat is not remembered. */
  readonly onForgottenTool?: () => void
  /** What we ask the server elsewhere; an HTTP+SSE server may answer that here. */
  readonly ownRequests?: OwnRequests | undefined
}

interface OpenPost {
  readonly end: AbortController
  readonly isModern: boolean
  readonly isToolList: boolean
}

/**
 * The POSTs of requests, which end when the request is given up: a server that hangs may leave them open for ever. Those
 * of all else, which takes no turn and has no limit but this, wait in at most so many bytes until the server took them.
 */
class OpenPosts {
  readonly #channel: Channel
  readonly #clock: Clock
  readonly #open = new Map<string, OpenPost>()
  #untakenBytes = 0

  constructor(channel: Channel, clock: Clock) {
    this.#channel = channel
    this.#clock = clock
  }

  get(id: string | undefined): OpenPost | undefined {
    return this.#open.get(id ?? '')
  }

  /** `paramHeaders` repeat arguments of a call. */
  async send(message: Buffer, envelope: Envelope, paramHeaders: readonly string[] = []): Promise<void> {
    const { kind, id, method, metaProtocolVersion } = envelope
    const isModern = metaProtocolVersion !== undefined
    const post = { end: new AbortController(), isModern, isToolList: isModern && method === 'tools/list' }
    const takesNoTurn = kind === 'notification' || kind === 'response'
    if (takesNoTurn && this.#untakenBytes >= defaults.maxUnreadBytes) throw tooMuchUntaken(this.#untakenBytes)
    if (kind === 'request' && id !== undefined) this.#open.set(id, post)
    const untakenBytes = takesNoTurn ? message.length : 0
    this.#untakenBytes += untakenBytes
    try {
      await this.#channel.send(message, { ...outgoingOf(envelope), paramHeaders }, post.end.signal)
    } finally {
      this.#untakenBytes -= untakenBytes
      if (id !== undefined && this.#open.get(id) === post) this.#open.delete(id)
    }
  }

  /** The end of its connection is how a modern request is cancelled (MCP 2026-07-28, Streamable HTTP). */
  giveUp(id: string, reason: string): void {
    const post = this.get(id)
    post?.end.abort()
    if (post?.isModern) return
    const expiry = new AbortController()
    const timer = this.#clock.after(defaults.http.cancellationMs, () => expiry.abort())
    this.#channel
      .send(cancellationOf(id, reason), { method: 'notifications/cancelled' }, expiry.signal)
      .catch(() => undefined) // It need not hear it.
      .finally(() => timer.cancel())
  }
}

function tooMuchUntaken(bytes: number): KnownError {
  const untaken = `the server has not taken ${bytes} bytes of notifications and answers`
  return new KnownError('queue_full', `${untaken}; the limit is ${defaults.maxUnreadBytes}`)
}

/** An event stream of its own. */
export function sseLink({ endpoint, clock, maxBodyBytes, listener, onTooLong, ownRequests }: UrlLinkOptions): Link {
  const own = new ClientEndpoint(endpoint)
  let isOpen = false
  let lost: KnownError | undefined
  const channel = new SseChannel({
    endpoint: own,
    clock,
    maxBodyBytes,
    events: {
      onMessage: (message, envelope) => {
        if (peer.takeAnswer(message, envelope) || ownRequests?.answeredElsewhere(message, envelope)) return
        listener.onMessage(message, envelope)
      },
      onTooLong,
      onClose: (why) => {
        lost = new KnownError('upstream_closed', why)
        peer.fail(lost)
        if (isOpen) listener.onClose(lost)
      },
    },
  })
  const peer = new Peer(channel, clock)
  const posts = new OpenPosts(channel, clock)
  return {
    peer,
    life: { peer },
    open: async (headers) => {
      own.speakFor(headers)
      await channel.open()
      if (lost) throw lost
      isOpen = true
    },
    send: async (message, envelope, headers) => {
      own.speakFor(headers)
      try {
        await posts.send(message, envelope)
      } catch (error) {
        // Nothing can come on a stream that the server no longer knows.
        if (errorCode(error) === 'upstream_session_gone') await channel.close()
        throw error
      }
    },
    giveUp: (id, reason, headers) => {
      own.speakFor(headers)
      posts.giveUp(id, reason)
    },
    hold: (isFull) => own.hold(isFull),
    close: () => channel.close(),
  }
}

/** A session of its own, with the stream on which the server speaks unasked (MCP 2025-11-25, "Listening for Messages"). */
export function httpLink({
  endpoint,
  clock,
  maxBodyBytes,
  listener,
  onTooLong,
  onForgottenTool,
}: UrlLinkOptions): Link {
  const own = new ClientEndpoint(endpoint)
  const toolHeaders = new ToolHeaders(onForgottenTool)
  let openingId: string | undefined
  const channel = new HttpChannel({
    endpoint: own,
    clock,
    maxBodyBytes,
    resumes: true,
    events: {
      onMessage: (message, envelope) => {
        if (peer.takeAnswer(message, envelope)) return
        const isAgreed = envelope.kind === 'response' && openingId !== undefined && isSameId(openingId, envelope.id)
        if (isAgreed && !envelope.error) channel.useProtocolVersion(envelope.protocolVersion)
        const isToolList = envelope.kind === 'response' && posts.get(envelope.id)?.isToolList === true
        if (isToolList) toolHeaders.learn(entriesIn(message, 'tools'))
        listener.onMessage(message, envelope)
      },
      onTooLong,
    },
  })
  const peer = new Peer(channel, clock)
  const posts = new OpenPosts(channel, clock)
  return {
    peer,
    life: { peer },
    open: () => Promise.resolve(),
    send: async (message, envelope, headers) => {
      const { id, method, requestId } = envelope
      own.speakFor(headers)
      if (method === 'initialize') openingId = id
      const cancelled = method === 'notifications/cancelled' ? posts.get(requestId) : undefined
      // The end of its connection is how a modern request is cancelled (MCP 2026-07-28, Streamable HTTP).
      if (cancelled?.isModern) return cancelled.end.abort()
      await posts.send(message, envelope, toolHeaders.headersFor(message, envelope))
      if (method === 'notifications/initialized') channel.listen((error) => listener.onClose(error))
      // Its answer will not come, and servers then leave the stream open that it would have come on.
      cancelled?.end.abort()
    },
    giveUp: (id, reason, headers) => {
      own.speakFor(headers)
      posts.giveUp(id, reason)
    },
    hold: (isFull) => own.hold(isFull),
    close: () => channel.close(),
  }
}

/** What a transport repeats of a message in headers. */
function outgoingOf({ method, name, uri, taskId, metaProtocolVersion }: Envelope): Outgoing {
  if (metaProtocolVersion === undefined) return { method }
  return { method, name, uri, taskId, protocolVersion: metaProtocolVersion }
}
