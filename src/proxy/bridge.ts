import { randomUUID } from 'node:crypto'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { type Access, type Reached, limitedOf } from '../heartbeat/monitored.ts'
import { type SessionLimits, refusalOf } from '../sessions/limits.ts'
import { type Session, type SessionEnd, sessionKey } from '../sessions/session.ts'
import type { HeadersFor } from '../upstreams/client-endpoint.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import { type Link, httpLink, sseLink, stdioLink } from '../upstreams/link.ts'
import type { Line } from '../upstreams/stdio.ts'
import { type Envelope, readEnvelope } from '../wire/envelope.ts'
import { eraOfVersion, revisionRefusal } from '../wire/era.ts'
import { headerNames, mirrorMismatch } from '../wire/headers.ts'
import { Admission } from './admission.ts'
import { batchMessages } from './batch-messages.ts'
import { type Asked, BridgeSession, type Posted } from './bridge-session.ts'
import { bridgedHeaders } from './bridged-headers.ts'
import {
  type Exchange,
  clientOf,
  eraOf,
  readBody,
  receiveBody,
  requestHeader,
  searchOf,
  sessionIdOf,
  versionOf,
} from './exchange.ts'
import { type ForwardDeps, messagesPath } from './forward.ts'
import type { LifeDeps } from './life-watch.ts'
import { ModernBridge } from './modern-bridge.ts'
import { type Peering, beginOperation, peeringOf } from './observe.ts'
import { openedStreams } from './opened-streams.ts'
import type { Mount } from './protected-resources.ts'
import { type ReplyOptions, accepted, replyError } from './replies.ts'
import { type GuestListener, SharedProcess } from './shared-process.ts'

export interface BridgeDeps extends ForwardDeps, LifeDeps {
  readonly sessionLimits: SessionLimits
}

/** A message of a resident process. */
export interface Heard {
  readonly line: Line
  readonly message: Buffer
  readonly envelope: Envelope
}

/**
 * Clients in front of servers that speak another transport. Legacy clients get a connection or process each, for the
 * length of their session; the requests of modern clients, who have none, run on connections that are ours.
 */
export class Bridge {
  readonly #deps: BridgeDeps
  readonly #sessions = new Map<string, BridgeSession>()
  readonly #modern = new Map<string, ModernBridge>()
  readonly #shared = new Map<string, SharedProcess>()
  readonly #forgotten = new WeakSet<Access>()

  constructor(deps: BridgeDeps) {
    this.#deps = deps
  }

  /** Takes what the resident process of a stdio server says; true when it was for clients alone. */
  hear(name: string, { line, message, envelope }: Heard): boolean {
    if (this.#shared.get(name)?.hear(line, message, envelope)) return true
    return this.#modern.get(name)?.hear(message, envelope) ?? false
  }

  /** The resident process is gone. */
  residentClosed(name: string, line: Line, error: KnownError): void {
    this.#modern.get(name)?.lost(line, error)
    this.#shared.get(name)?.closed(line, error)
  }

  #sharedOf(name: string, access: Extract<Reached, { kind: 'stdio' }>): SharedProcess {
    const known = this.#shared.get(name)
    if (known) return known
    const made = new SharedProcess({
      clock: this.#deps.clock,
      requestTimeoutMs: limitedOf(access).limits.requestTimeoutMs,
      upstream: access.upstream,
      otherRequests: () => this.#modern.get(name)?.atWork() ?? 0,
      onDropped: (reason) => this.#deps.instruments.countDropped(name, reason),
      onForgotten: () => this.#deps.instruments.countForgotten('request'),
    })
    this.#shared.set(name, made)
    return made
  }

  #modernOf(name: string, access: Reached): ModernBridge {
    const known = this.#modern.get(name)
    if (known) return known
    const lines =
      access.kind === 'stdio'
        ? {
            borrow: () => access.upstream.borrowResident(),
            release: () => access.upstream.releaseResident(),
            isLasting: true,
          }
        : openedStreams({
            endpoint: this.#challenging(access.endpoint, name, 'mcp'),
            clock: this.#deps.clock,
            headers: (exchange) => this.#headers(exchange),
            listener: () => made,
            onTooLong: () => this.#deps.instruments.countDropped(name, 'message_too_long'),
          })
    const leg = access.kind === 'stdio' ? 'upstream' : 'session'
    const question = () => this.#deps.questionTo(name, leg)
    const server = { peering: peering(name, access), limits: limitedOf(access), lines, question }
    const made: ModernBridge = new ModernBridge(this.#deps, server)
    this.#modern.set(name, made)
    return made
  }

  /** Streamable HTTP, in front of a stdio or HTTP+SSE server. */
  handle(exchange: Exchange, access: Reached): void {
    if (exchange.incoming.method === 'POST') this.#post(exchange, access)
    else this.#answer(exchange, undefined, () => this.#route(exchange))
  }

  /** HTTP+SSE: the stream of one client, in front of a stdio or Streamable HTTP server. */
  openStream(exchange: Exchange, access: Reached): void {
    this.#answer(exchange, undefined, () => this.#openStream(exchange, access))
  }

  /** HTTP+SSE: a message of the client whose stream it is. */
  postMessage(exchange: Exchange, access: Reached): void {
    this.#answer(exchange, undefined, () => this.#postMessage(exchange, access))
  }

  /** The directory ended a session by itself (idle, shutdown): its connection or process goes too. */
  sessionEnded(session: Session, end: SessionEnd): void {
    const bridged = this.#sessions.get(session.id)
    if (bridged?.upstream === session.upstream) bridged.end(end)
  }

  /**
   * An upstream stops for good: its sessions and requests end, what is still on its way to it is refused, and another
   * one may come under its name.
   */
  forget(upstream: string, access: Access): void {
    this.#forgotten.add(access)
    for (const session of this.#sessions.values()) if (session.upstream === upstream) session.end('removed')
    this.#modern.get(upstream)?.end(leaving(upstream))
    this.#modern.delete(upstream)
    this.#shared.delete(upstream)
  }

  /** Answers with what the work throws or rejects with; most of it is done at once, without a promise. */
  #answer(exchange: Exchange, id: string | undefined, work: () => Promise<void> | void): void {
    try {
      work()?.catch((error: unknown) => this.#refuse(exchange, error, id))
    } catch (error) {
      this.#refuse(exchange, error, id)
    }
  }

  #route(exchange: Exchange): void {
    const { method } = exchange.incoming
    if ((method !== 'GET' && method !== 'DELETE') || isModern(exchange)) {
      throw new KnownError('method_not_allowed', `${method ?? ''} is not allowed here`)
    }
    const session = this.#sessionOf(exchange)
    if (method === 'GET') return session.openStream(exchange)
    session.end('deleted')
    exchange.outgoing.writeHead(200, { 'content-length': 0 }).end()
  }

  #post(exchange: Exchange, access: Reached): void {
    const posted = (body: Buffer) => {
      const envelope = readEnvelope(body)
      const id = envelope?.kind === 'request' ? envelope.id : undefined
      this.#answer(exchange, id, () => this.#message(exchange, access, body, envelope))
    }
    receiveBody(exchange, this.#deps.maxBodyBytes, posted, (error) => this.#refuse(exchange, error, undefined))
  }

  #message(exchange: Exchange, access: Reached, body: Buffer, envelope: Envelope | undefined): Promise<void> | void {
    if (!envelope) throw new KnownError('invalid_message', 'the body is no JSON-RPC message')
    // Its body may have come too slowly.
    if (this.#forgotten.has(access)) throw leaving(exchange.upstream)
    if (eraOf(exchange, envelope) === 'modern') {
      checkMirror(exchange, envelope)
      return this.#modernOf(exchange.upstream, access).handle(exchange, body, envelope)
    }
    const posted: Posted = { message: body, envelope, headers: this.#headers(exchange) }
    if (sessionIdOf(exchange) === undefined && envelope.kind === 'request' && envelope.method === 'initialize') {
      const { session } = this.#newSession(exchange, access, 'http', envelope)
      return session.request(exchange, this.#ask(exchange, access, session, posted))
    }
    const session = this.#sessionOf(exchange)
    if (envelope.kind === 'request') return session.request(exchange, this.#ask(exchange, access, session, posted))
    if (envelope.kind === 'batch') return this.#batch(exchange, access, session, posted)
    return session.tell(exchange, posted).then(() => accepted(exchange))
  }

  /**
   * The messages of a batch go to the server one by one, as the SDK's own server transport hands them on: servers exist
   * in numbers that take batches over HTTP and choke on one anywhere else (MCP 2025-03-26, Basic, "Batching").
   */
  async #batch(exchange: Exchange, access: Reached, session: BridgeSession, batch: Posted): Promise<void> {
    const asked: Asked[] = []
    const told: Posted[] = []
    for (const one of batchMessages(batch)) {
      const posted = { ...one, headers: batch.headers }
      if (posted.envelope.kind === 'request') asked.push(this.#ask(exchange, access, session, posted))
      else told.push(posted)
    }
    for (const posted of told) await session.tell(exchange, posted)
    if (asked.length === 0) accepted(exchange)
    else if (session.transport === 'http') session.requests(exchange, asked)
    else session.requestsOnStream(exchange, asked)
  }

  #ask(exchange: Exchange, access: Reached, session: BridgeSession, posted: Posted): Asked {
    const { envelope } = posted
    if (session.session && this.#deps.directory.isTooOld(session.session)) {
      throw new KnownError('session_not_found', 'the session has reached max_session_seconds; initialize again')
    }
    const begin = () =>
      beginOperation(this.#deps, {
        peering: peering(exchange.upstream, access, hasOwnProcess(access)),
        envelope,
        protocolVersion: versionOf(exchange, envelope) ?? session.session?.protocolVersion,
        sessionId: session.key,
        httpTraceparent: requestHeader(exchange, 'traceparent'),
        httpTracestate: requestHeader(exchange, 'tracestate'),
        arrivedAtMs: exchange.arrivedAtMs,
      })
    return { message: posted.message, envelope, headers: posted.headers, begin }
  }

  #sessionOf(exchange: Exchange): BridgeSession {
    const id = sessionIdOf(exchange)
    if (id === undefined) throw new KnownError('session_missing', `the header ${headerNames.sessionId} is missing`)
    const session = this.#find(exchange, id, 'http', 'no session has this id; initialize again')
    const refusal = revisionRefusal(
      requestHeader(exchange, headerNames.protocolVersion),
      session.session?.protocolVersion,
    )
    if (refusal) throw new KnownError('malformed_request', refusal)
    return session
  }

  #find(exchange: Exchange, id: string, transport: BridgeSession['transport'], otherwise: string): BridgeSession {
    const session = this.#sessions.get(id)
    if (session?.upstream === exchange.upstream && session.transport === transport) return session
    throw new KnownError('session_not_found', otherwise)
  }

  async #openStream(exchange: Exchange, access: Reached): Promise<void> {
    const { incoming, outgoing, upstream } = exchange
    if (incoming.method !== 'GET') throw new KnownError('method_not_allowed', `${incoming.method ?? ''} is not allowed`)
    const { id, session } = this.#newSession(exchange, access, 'sse', undefined)
    const leave = () => session.end('stream_closed')
    outgoing.once('close', leave)
    try {
      await session.open(this.#headers(exchange))
    } catch (error) {
      leave()
      throw error
    }
    session.openSseStream(exchange, messagesPath(this.#deps, upstream, id))
  }

  async #postMessage(exchange: Exchange, access: Reached): Promise<void> {
    const id = new URLSearchParams(searchOf(exchange)).get('session_id')
    if (id === null) throw new KnownError('session_missing', 'the query has no session_id')
    const find = () => this.#find(exchange, id, 'sse', 'no open stream has this session_id')
    find()
    const body = await readBody(exchange, this.#deps.maxBodyBytes)
    // The stream may have ended while the body came.
    const session = find()
    const envelope = readEnvelope(body)
    if (!envelope) throw new KnownError('invalid_message', 'the body is no JSON-RPC message')
    const posted: Posted = { message: body, envelope, headers: this.#headers(exchange) }
    if (envelope.kind === 'batch') return this.#batch(exchange, access, session, posted)
    if (envelope.kind === 'request') {
      return session.requestOnStream(exchange, this.#ask(exchange, access, session, posted))
    }
    await session.tell(exchange, posted)
    accepted(exchange)
  }

  #newSession(
    exchange: Exchange,
    access: Reached,
    transport: BridgeSession['transport'],
    envelope: Envelope | undefined,
  ): { readonly id: string; readonly session: BridgeSession } {
    const { sessionLimits, directory, streams, instruments, shedder } = this.#deps
    const { upstream } = exchange
    const unwelcome = shedder.refusal('initialize') ?? limitedOf(access).drain.refusal()
    if (unwelcome) throw unwelcome
    const client = clientOf(exchange, envelope)
    const refusal = refusalOf({ upstream, client }, [...this.#sessions.values()], sessionLimits)
    if (refusal) throw refusal
    const id = randomUUID()
    const key = sessionKey(id)
    const limits = limitedOf(access)
    const bounds = hasOwnProcess(access) ? { ...limits, breaker: undefined } : limits
    const session = new BridgeSession({
      id,
      key,
      upstream,
      transport,
      clock: this.#deps.clock,
      directory,
      streams,
      client,
      link: (listener) => this.#link(access, { key, upstream, transport }, listener),
      signs: { question: () => this.#deps.questionTo(upstream, 'session'), cpuOf: this.#deps.cpuOf },
      admission: () => new Admission(this.#deps, upstream, bounds),
      onRejected: (code) => instruments.countRejected(code),
      onDropped: (reason) => instruments.countDropped(upstream, reason),
      onForgotten: (what) => instruments.countForgotten(what),
      onNames: (kind, names) => instruments.labels.admit(upstream, kind, names),
      onEnd: () => this.#sessions.delete(id),
    })
    this.#sessions.set(id, session)
    return { id, session }
  }

  #link(
    access: Reached,
    session: Pick<BridgeSession, 'key' | 'upstream' | 'transport'>,
    listener: GuestListener,
  ): Link {
    const { key, upstream: name, transport } = session
    if (access.kind === 'stdio') {
      const { upstream } = access
      return upstream.isShared() ? this.#sharedOf(name, access).link(key, listener) : stdioLink(upstream, key, listener)
    }
    const endpoint = this.#challenging(access.endpoint, name, transport === 'sse' ? 'sse' : 'mcp')
    const { ownRequests } = access.endpoint
    const { clock, instruments } = this.#deps
    const onTooLong = () => instruments.countDropped(name, 'message_too_long')
    const onForgottenTool = () => instruments.countForgotten('tool')
    const maxBodyBytes = defaults.maxLineBytes
    const options = { endpoint, clock, maxBodyBytes, listener, onTooLong, onForgottenTool, ownRequests }
    return access.transport === 'sse' ? sseLink(options) : httpLink(options)
  }

  /** An endpoint whose challenges lead to the metadata that we serve, if we do. */
  #challenging(endpoint: Endpoint, upstream: string, mount: Mount): Endpoint {
    return this.#deps.protectedResources?.endpoint(endpoint, upstream, mount) ?? endpoint
  }

  #headers(exchange: Exchange): HeadersFor {
    return bridgedHeaders(exchange, this.#deps.ownsAuthorization)
  }

  #refuse(exchange: Exchange, error: unknown, id: string | undefined): void {
    const { incoming, outgoing, upstream } = exchange
    const failure = known(error)
    if (outgoing.destroyed && !failure.code.startsWith('upstream_')) return
    if (failure.code.startsWith('upstream_')) this.#deps.traffic.onFailed(upstream, failure)
    else this.#deps.instruments.countRejected(failure.code)
    const options: ReplyOptions = failure.code === 'method_not_allowed' ? { headers: { allow: allowed(exchange) } } : {}
    replyError(incoming, outgoing, failure, { id, ...options })
  }
}

/** What is told to those who come while an upstream is restarted, replaced or removed, and to those who are left then. */
export function leaving(upstream: string): KnownError {
  return new KnownError('shutting_down', `"${upstream}" is being restarted, replaced or removed`)
}

/** The server behind a bridge sees the body alone, so that the headers agree with it is checked here. */
function checkMirror(exchange: Exchange, { kind, method, name, uri, taskId, metaProtocolVersion }: Envelope): void {
  if (kind !== 'request' || method === undefined || metaProtocolVersion === undefined) return
  const request = { method, name, uri, taskId, protocolVersion: metaProtocolVersion }
  const mismatch = mirrorMismatch(request, (header) => requestHeader(exchange, header))
  if (mismatch !== undefined) throw new KnownError('header_mismatch', mismatch)
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}

/** Whether each session has a process that serves no other. */
function hasOwnProcess(access: Reached): boolean {
  return access.kind === 'stdio' && !access.upstream.isShared()
}

/** How metrics name the server's side. */
function peering(name: string, access: Reached, isOwnProcess = false): Peering {
  return access.kind === 'stdio' ? { upstream: name, network: 'pipe', isOwnProcess } : peeringOf(name, access.endpoint)
}

/** MCP 2026-07-28, Transports: Streamable HTTP is POST only. */
function allowed(exchange: Exchange): string {
  return isModern(exchange) ? 'POST' : 'GET, POST, DELETE'
}

function isModern(exchange: Exchange): boolean {
  const version = requestHeader(exchange, headerNames.protocolVersion)
  return version !== undefined && eraOfVersion(version) === 'modern'
}
