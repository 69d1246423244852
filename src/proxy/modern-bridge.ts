import { KnownError, errorMessage } from '../errors.ts'
import type { Line, StdioUpstream } from '../upstreams/stdio.ts'
import { type ByteRange, type Envelope, onOneLine, splice } from '../wire/envelope.ts'
import { statusOfAnswer } from '../wire/era.ts'
import { sseEvent } from '../wire/sse.ts'
import { type Exchange, eraOf, requestHeader } from './exchange.ts'
import { namesIn } from './learn.ts'
import { type ObserveDeps, type Operation, beginOperation } from './observe.ts'
import { ReplyStream } from './reply-stream.ts'
import { errorMessageFor, replyError } from './replies.ts'

export interface ModernBridgeDeps extends ObserveDeps {
  readonly onRequest: (upstream: string, inFlight: 1 | -1) => void
}

interface Waiting {
  readonly exchange: Exchange
  readonly envelope: Envelope
  readonly operation: Operation
  readonly reply: ReplyStream
  readonly line: Line
}

/**
 * What one client may leave unread: the process serves others too, so it is not made to wait for the slowest of them;
 * a client further behind than this is cut off.
 */
const maxUnreadBytes = 16 * 1024 * 1024

/**
 * The requests of all modern clients of one stdio server, on its resident process. They know no session, so their ids,
 * progress tokens and subscription ids become ours on the way in and theirs again on the way out: two clients that
 * both use id 1 never meet. Everything else in a message stays byte for byte.
 */
export class ModernBridge {
  readonly #deps: ModernBridgeDeps
  readonly #name: string
  readonly #upstream: StdioUpstream
  /** By our own id, as raw JSON text. */
  readonly #waiting = new Map<string, Waiting>()
  #lastId = 0

  constructor(deps: ModernBridgeDeps, name: string, upstream: StdioUpstream) {
    this.#deps = deps
    this.#name = name
    this.#upstream = upstream
  }

  async handle(exchange: Exchange, body: Buffer, envelope: Envelope): Promise<void> {
    if (envelope.kind !== 'request') return this.#tell(exchange, body, envelope)
    const operation = beginOperation(this.#deps, {
      peering: { upstream: this.#name, network: 'pipe' },
      envelope,
      protocolVersion: eraOf(exchange, envelope).version,
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs: exchange.arrivedAtMs,
    })
    this.#deps.onRequest(this.#name, 1)
    try {
      const line = await this.#upstream.borrowResident()
      if (exchange.outgoing.destroyed) throw clientGone()
      this.#ask(exchange, body, envelope, operation, line)
    } catch (error) {
      this.#fail({ exchange, envelope, operation }, known(error), false)
    }
  }

  /** True when the message belongs to a request of a client. */
  hear(message: Buffer, envelope: Envelope): boolean {
    if (envelope.kind === 'response') return this.#answer(message, envelope)
    if (envelope.kind !== 'notification') return false
    const key = envelope.progressToken ?? envelope.subscriptionId ?? envelope.requestId
    const waiting = key === undefined ? this.#onlyLogger(envelope) : this.#waiting.get(key)
    if (!waiting) {
      if (key !== undefined) this.#deps.instruments.countDropped(this.#name, 'no_request')
      return key !== undefined
    }
    waiting.reply.message(translate(message, envelope, waiting.envelope))
    const { outgoing } = waiting.exchange
    if (outgoing.writableLength > maxUnreadBytes) outgoing.destroy()
    return key !== undefined
  }

  /** The process is gone: every request on it gets its one error. */
  closed(line: Line, why: string): void {
    const error = new KnownError('upstream_exited', why)
    for (const [id, waiting] of this.#waiting) {
      if (waiting.line !== line) continue
      this.#waiting.delete(id)
      this.#fail(waiting, error, true)
    }
  }

  #ask(exchange: Exchange, body: Buffer, envelope: Envelope, operation: Operation, line: Line): void {
    const { outgoing } = exchange
    this.#lastId += 1
    const id = `"vitals+${this.#lastId}"`
    const reply = new ReplyStream(outgoing, {}, () => undefined)
    const waiting: Waiting = { exchange, envelope, operation, reply, line }
    this.#waiting.set(id, waiting)
    // In the modern era the end of the client's connection is the cancellation.
    outgoing.once('close', () => this.#cancel(id))
    const edits = [edit(envelope.ranges.id, id), edit(envelope.ranges.progressToken, id)].flat()
    line.channel.send(onOneLine(splice(body, edits))).catch((error: unknown) => {
      if (this.#waiting.delete(id)) this.#fail(waiting, known(error), false)
    })
  }

  /** Gives the process back and tells the client; `delivered` says whether the process got the request. */
  #fail(waiting: Pick<Waiting, 'exchange' | 'envelope' | 'operation'>, error: KnownError, delivered: boolean): void {
    const { exchange, envelope, operation } = waiting
    const { incoming, outgoing } = exchange
    const details = { delivered }
    this.#release()
    operation.end({ kind: 'failure', error })
    if (outgoing.headersSent) {
      outgoing.end(sseEvent({ type: 'message', data: Buffer.from(errorMessageFor(error, envelope.id, details)) }))
    } else replyError(incoming, outgoing, error, { id: envelope.id, details })
  }

  #cancel(id: string): void {
    const waiting = this.#waiting.get(id)
    if (!waiting) return
    this.#waiting.delete(id)
    this.#release()
    waiting.operation.end({ kind: 'failure', error: clientGone() })
    const params = `{"requestId":${id},"reason":"the client closed the connection"}`
    const message = Buffer.from(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":${params}}`)
    waiting.line.channel.send(message).catch(() => undefined) // The process is gone, and the request with it.
  }

  #answer(message: Buffer, envelope: Envelope): boolean {
    const id = envelope.id ?? ''
    const waiting = this.#waiting.get(id)
    if (!waiting) {
      if (id.startsWith('"vitals+')) this.#deps.instruments.countDropped(this.#name, 'client_gone')
      return id.startsWith('"vitals+')
    }
    this.#waiting.delete(id)
    this.#release()
    const { method } = waiting.envelope
    const { labels } = this.#deps.instruments
    if (method === 'tools/list') labels.admit(this.#name, 'tool', namesIn(message, 'tools'))
    if (method === 'prompts/list') labels.admit(this.#name, 'prompt', namesIn(message, 'prompts'))
    waiting.reply.answer(translate(message, envelope, waiting.envelope), statusOfAnswer(envelope.error, 'modern'))
    waiting.operation.end({ kind: 'answer', envelope })
    return true
  }

  /**
   * A log message names no request, so it can only be attributed while there is a single one. Whatever else names none
   * belongs to no client: changes are told to subscriptions (MCP 2026-07-28), or were caused by our own handshake.
   */
  #onlyLogger({ method }: Envelope): Waiting | undefined {
    const isOnly = method === 'notifications/message' && this.#waiting.size === 1
    return isOnly ? this.#waiting.values().next().value : undefined
  }

  /**
   * A client's notification. One that names a request of its own by id is not passed on: in this era the connection's
   * end cancels, and the id could be another client's.
   */
  async #tell(exchange: Exchange, body: Buffer, envelope: Envelope): Promise<void> {
    if (envelope.requestId === undefined && envelope.kind === 'notification') {
      const line = await this.#upstream.borrowResident().finally(() => this.#upstream.releaseResident())
      await line.channel.send(onOneLine(body))
    }
    exchange.outgoing.writeHead(202, { 'content-length': 0 }).end()
  }

  #release(): void {
    this.#deps.onRequest(this.#name, -1)
    this.#upstream.releaseResident()
  }
}

function clientGone(): KnownError {
  return new KnownError('cancelled', 'the client closed the connection')
}

function known(error: unknown): KnownError {
  return error instanceof KnownError ? error : new KnownError('internal', errorMessage(error), { cause: error })
}

/** Our ids back into the client's own. */
function translate(message: Buffer, envelope: Envelope, request: Envelope): Buffer {
  const { id, progressToken, subscriptionId, requestId } = envelope.ranges
  const own = request.id ?? 'null'
  return splice(
    message,
    [
      edit(envelope.kind === 'response' ? id : undefined, own),
      edit(progressToken, request.progressToken ?? own),
      edit(subscriptionId, own),
      edit(requestId, own),
    ].flat(),
  )
}

function edit(range: ByteRange | undefined, text: string): { readonly range: ByteRange; readonly text: string }[] {
  return range ? [{ range, text }] : []
}
