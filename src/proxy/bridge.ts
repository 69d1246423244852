import { randomUUID } from 'node:crypto'
import { KnownError, errorMessage } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import { type Session, type SessionEnd, sessionKey } from '../sessions/session.ts'
import type { StdioUpstream } from '../upstreams/stdio.ts'
import { type Envelope, onOneLine, readEnvelope } from '../wire/envelope.ts'
import { eraOfVersion } from '../wire/era.ts'
import { headerNames } from '../wire/headers.ts'
import { BridgeSession } from './bridge-session.ts'
import { type Exchange, clientOf, eraOf, readBody, requestHeader, sessionIdOf } from './exchange.ts'
import { ModernBridge } from './modern-bridge.ts'
import { type ObserveDeps, beginOperation } from './observe.ts'
import { type ReplyOptions, replyError } from './replies.ts'

export interface BridgeDeps extends ObserveDeps {
  readonly directory: SessionDirectory
  readonly maxBodyBytes: number
  readonly maxSessions: number
  readonly onRequest: (upstream: string, inFlight: 1 | -1) => void
}

/**
 * Streamable HTTP in front of stdio servers. Legacy clients get a process each, for the length of their session; the
 * requests of modern clients, who have none, share the resident process.
 */
export class Bridge {
  readonly #deps: BridgeDeps
  readonly #sessions = new Map<string, BridgeSession>()
  readonly #modern = new Map<string, ModernBridge>()

  constructor(deps: BridgeDeps) {
    this.#deps = deps
  }

  /** The part of this bridge that serves modern clients of one upstream; it hears what the resident process says. */
  modern(name: string, upstream: StdioUpstream): ModernBridge {
    const known = this.#modern.get(name)
    if (known) return known
    const made = new ModernBridge(this.#deps, name, upstream)
    this.#modern.set(name, made)
    return made
  }

  handle(exchange: Exchange, upstream: StdioUpstream): void {
    this.#route(exchange, upstream).catch((error: unknown) => this.#refuse(exchange, error, undefined))
  }

  /** The directory ended a session by itself (idle, shutdown): its process goes too. */
  sessionEnded(session: Session, end: SessionEnd): void {
    const bridged = this.#sessions.get(session.id)
    if (bridged?.upstream === session.upstream) bridged.end(end)
  }

  async #route(exchange: Exchange, upstream: StdioUpstream): Promise<void> {
    const { method } = exchange.incoming
    if (method === 'POST') return this.#post(exchange, upstream)
    if ((method !== 'GET' && method !== 'DELETE') || isModern(exchange)) {
      throw new KnownError('method_not_allowed', `${method ?? ''} is not allowed here`)
    }
    const session = this.#session(exchange)
    if (method === 'GET') return session.openStream(exchange)
    session.end('deleted')
    exchange.outgoing.writeHead(200, { 'content-length': 0 }).end()
  }

  async #post(exchange: Exchange, upstream: StdioUpstream): Promise<void> {
    const body = await readBody(exchange, this.#deps.maxBodyBytes)
    const envelope = readEnvelope(body)
    if (!envelope) throw new KnownError('invalid_message', 'the body is no JSON-RPC message')
    if (envelope.kind === 'batch') {
      throw new KnownError('invalid_message', 'a batch cannot be bridged; send its messages one by one')
    }
    try {
      await this.#message(exchange, upstream, body, envelope)
    } catch (error) {
      this.#refuse(exchange, error, envelope.kind === 'request' ? envelope.id : undefined)
    }
  }

  async #message(exchange: Exchange, upstream: StdioUpstream, body: Buffer, envelope: Envelope): Promise<void> {
    if (eraOf(exchange, envelope).era === 'modern') {
      return this.modern(exchange.upstream, upstream).handle(exchange, body, envelope)
    }
    const message = onOneLine(body)
    if (sessionIdOf(exchange) === undefined && envelope.kind === 'request' && envelope.method === 'initialize') {
      return this.#openSession(exchange, upstream, message, envelope)
    }
    const session = this.#session(exchange)
    if (envelope.kind === 'request') {
      return session.request(exchange, message, envelope, this.#operation(exchange, envelope, session))
    }
    await session.tell(message, envelope)
    exchange.outgoing.writeHead(202, { 'content-length': 0 }).end()
  }

  #operation(exchange: Exchange, envelope: Envelope, session: BridgeSession) {
    return beginOperation(this.#deps, {
      peering: { upstream: exchange.upstream, network: 'pipe' },
      envelope,
      protocolVersion: eraOf(exchange, envelope).version ?? session.session?.protocolVersion,
      sessionId: session.key,
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs: exchange.arrivedAtMs,
    })
  }

  #session(exchange: Exchange): BridgeSession {
    const id = sessionIdOf(exchange)
    if (id === undefined) throw new KnownError('session_missing', `the header ${headerNames.sessionId} is missing`)
    const session = this.#sessions.get(id)
    if (!session || session.upstream !== exchange.upstream) {
      throw new KnownError('session_not_found', 'no session has this id; initialize again')
    }
    return session
  }

  async #openSession(exchange: Exchange, upstream: StdioUpstream, message: Buffer, envelope: Envelope): Promise<void> {
    const { maxSessions, directory, instruments, onRequest } = this.#deps
    if (this.#sessions.size >= maxSessions) directory.expire()
    if (this.#sessions.size >= maxSessions) {
      throw new KnownError('too_many_sessions', `${maxSessions} sessions are open, which is max_sessions`)
    }
    const id = randomUUID()
    const session = new BridgeSession({
      id,
      key: sessionKey(id),
      upstream: exchange.upstream,
      directory,
      client: clientOf(exchange, envelope),
      onRequest: (inFlight) => onRequest(exchange.upstream, inFlight),
      onDropped: (reason) => instruments.countDropped(exchange.upstream, reason),
      onNames: (kind, names) => instruments.labels.admit(exchange.upstream, kind, names),
      onEnd: async (line) => {
        this.#sessions.delete(id)
        if (line) await upstream.closeSession(line)
      },
    })
    this.#sessions.set(id, session)
    const operation = this.#operation(exchange, envelope, session)
    try {
      session.attach(await upstream.openSession(session.key, session))
      session.request(exchange, message, envelope, operation)
    } catch (error) {
      session.end('exited')
      const failure = known(error)
      operation.end({ kind: 'failure', error: failure })
      const details = { delivered: false }
      replyError(exchange.incoming, exchange.outgoing, failure, { id: envelope.id, details })
    }
  }

  #refuse(exchange: Exchange, error: unknown, id: string | undefined): void {
    const { incoming, outgoing, upstream } = exchange
    const failure = known(error)
    if (failure.code === 'cancelled') return
    if (failure.code.startsWith('upstream_')) this.#deps.traffic.onFailed(upstream, failure)
    else this.#deps.instruments.countRejected(failure.code)
    const options: ReplyOptions = failure.code === 'method_not_allowed' ? { headers: { allow: allowed(exchange) } } : {}
    replyError(incoming, outgoing, failure, { id, ...options })
  }
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}

/** MCP 2026-07-28, Transports: Streamable HTTP is POST only. */
function allowed(exchange: Exchange): string {
  return isModern(exchange) ? 'POST' : 'GET, POST, DELETE'
}

function isModern(exchange: Exchange): boolean {
  const version = requestHeader(exchange, headerNames.protocolVersion)
  return version !== undefined && eraOfVersion(version) === 'modern'
}
