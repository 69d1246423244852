import { randomUUID } from 'node:crypto'
import { KnownError, errorMessage } from '../errors.ts'
import type { SessionDirectory } from '../sessions/directory.ts'
import { type Session, type SessionEnd, sessionKey } from '../sessions/session.ts'
import type { StdioUpstream } from '../upstreams/stdio.ts'
import { type Envelope, onOneLine, readEnvelope } from '../wire/envelope.ts'
import { BridgeSession } from './bridge-session.ts'
import { type Exchange, clientOf, eraOf, readBody, requestHeader, sessionIdOf } from './exchange.ts'
import { ModernBridge } from './modern-bridge.ts'
import { type ObserveDeps, beginOperation } from './observe.ts'
import { type ReplyOptions, replyError } from './replies.ts'
import { headerNames } from '../wire/headers.ts'
import { eraOfVersion } from '../wire/era.ts'

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
  #opening = 0

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
    this.#route(exchange, upstream).catch((error: unknown) => this.#refuse(exchange, error))
  }

  /** The directory ended a session by itself (idle, shutdown): its process goes too. */
  sessionEnded(session: Session, end: SessionEnd): void {
    this.#sessions.get(session.id)?.end(end)
  }

  async #route(exchange: Exchange, upstream: StdioUpstream): Promise<void> {
    const { method } = exchange.incoming
    const version = requestHeader(exchange, headerNames.protocolVersion)
    if (method === 'POST') return this.#post(exchange, upstream)
    if ((method !== 'GET' && method !== 'DELETE') || (version !== undefined && eraOfVersion(version) === 'modern')) {
      // MCP 2026-07-28, Transports: Streamable HTTP is POST only.
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
    if (eraOf(exchange, envelope).era === 'modern') {
      return this.modern(exchange.upstream, upstream).handle(exchange, body, envelope)
    }
    const message = onOneLine(body)
    if (sessionIdOf(exchange) === undefined && envelope.method === 'initialize') {
      return this.#openSession(exchange, upstream, message, envelope)
    }
    const session = this.#session(exchange)
    if (envelope.kind === 'request')
      return session.request(exchange, message, envelope, this.#operation(exchange, envelope, session))
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
    if (this.#sessions.size + this.#opening >= maxSessions) {
      directory.expire()
      if (this.#sessions.size + this.#opening >= maxSessions) {
        throw new KnownError('too_many_sessions', `${maxSessions} sessions are open, which is max_sessions`)
      }
    }
    this.#opening += 1
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
      const line = await upstream.openSession(session.key, session)
      this.#opening -= 1
      session.attach(line)
      session.request(exchange, message, envelope, operation)
    } catch (error) {
      this.#opening -= 1
      session.end('exited')
      const known = error instanceof KnownError ? error : new KnownError('internal', errorMessage(error))
      operation.end({ kind: 'failure', error: known })
      throw error
    }
  }

  #refuse(exchange: Exchange, error: unknown): void {
    const { incoming, outgoing, upstream } = exchange
    const known =
      error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
    if (known.code === 'cancelled') return
    if (known.code.startsWith('upstream_')) this.#deps.traffic.onFailed(upstream, known)
    else this.#deps.instruments.countRejected(known.code)
    const options: ReplyOptions = known.code === 'method_not_allowed' ? { headers: { allow: 'POST' } } : {}
    replyError(incoming, outgoing, known, options)
  }
}
