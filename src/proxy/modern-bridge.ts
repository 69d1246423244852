import { KnownError, errorMessage } from '../errors.ts'
import type { Channel } from '../upstreams/channel.ts'
import { type ByteRange, type Envelope, splice } from '../wire/envelope.ts'
import { statusOfAnswer } from '../wire/era.ts'
import { type Exchange, eraOf, requestHeader } from './exchange.ts'
import { namesIn } from './learn.ts'
import { type ObserveDeps, type Operation, type Peering, beginOperation } from './observe.ts'
import { ReplyStream } from './reply-stream.ts'
import { accepted } from './replies.ts'
import type { Streams } from './streams.ts'

export interface ModernBridgeDeps extends ObserveDeps {
  readonly streams: Streams
  readonly onRequest: (upstream: string, inFlight: 1 | -1) => void
}

/** An opened connection that no client owns: the resident process, or one that is ours to an HTTP+SSE server. */
export interface SharedLine {
  readonly channel: Channel
}

/** Where such connections come from; each is given back after the request, also when it could not be had. */
export interface SharedLines {
  borrow(exchange: Exchange): Promise<SharedLine>
  release(line: SharedLine | undefined): void
}

interface Waiting {
  readonly exchange: Exchange
  readonly envelope: Envelope
  readonly operation: Operation
  readonly reply: ReplyStream
  line: SharedLine | undefined
}

/**
 * What one client may leave unread: the process serves others too, so it is not made to wait for the slowest of them;
 * a client further behind than this is cut off.
 */
const maxUnreadBytes = 16 * 1024 * 1024

/**
 * The requests of all modern clients of one server that needs an opening exchange, on connections that we opened. They
 * know no session, so their ids, progress tokens and subscription ids become ours on the way in and theirs again on the
 * way out: two clients that both use id 1 never meet. Everything else in a message stays byte for byte.
 */
export class ModernBridge {
  readonly #deps: ModernBridgeDeps
  readonly #peering: Peering
  readonly #lines: SharedLines
  /** By our own id, as raw JSON text. */
  readonly #waiting = new Map<string, Waiting>()
  #lastId = 0

  constructor(deps: ModernBridgeDeps, peering: Peering, lines: SharedLines) {
    this.#deps = deps
    this.#peering = peering
    this.#lines = lines
  }

  async handle(exchange: Exchange, body: Buffer, envelope: Envelope): Promise<void> {
    if (envelope.kind !== 'request') return this.#tell(exchange, body, envelope)
    const operation = beginOperation(this.#deps, {
      peering: this.#peering,
      envelope,
      protocolVersion: eraOf(exchange, envelope).version,
      httpTraceparent: requestHeader(exchange, 'traceparent'),
      httpTracestate: requestHeader(exchange, 'tracestate'),
      arrivedAtMs: exchange.arrivedAtMs,
    })
    this.#deps.onRequest(this.#peering.upstream, 1)
    const { streams } = this.#deps
    const reply = new ReplyStream({ exchange, transport: 'http', streams, pressure: () => undefined })
    const waiting: Waiting = { exchange, envelope, operation, reply, line: undefined }
    try {
      waiting.line = await this.#lines.borrow(exchange)
      if (exchange.outgoing.destroyed) throw clientGone()
      this.#ask(body, waiting, waiting.line)
    } catch (error) {
      this.#fail(waiting, known(error), false)
    }
  }

  /** True when the message belongs to a request of a client. */
  hear(message: Buffer, envelope: Envelope): boolean {
    if (envelope.kind === 'response') return this.#answer(message, envelope)
    if (envelope.kind !== 'notification') return false
    const key = envelope.progressToken ?? envelope.subscriptionId ?? envelope.requestId
    const waiting = key === undefined ? this.#onlyLogger(envelope) : this.#waiting.get(key)
    if (!waiting) {
      if (key !== undefined) this.#deps.instruments.countDropped(this.#peering.upstream, 'no_request')
      return key !== undefined
    }
    waiting.reply.message(translate(message, envelope, waiting.envelope))
    const { outgoing } = waiting.exchange
    if (outgoing.writableLength > maxUnreadBytes) outgoing.destroy()
    return key !== undefined
  }

  /** The process is gone: every request on it gets its one error. */
  closed(line: SharedLine, why: string): void {
    this.lost(line, new KnownError('upstream_exited', why))
  }

  /** The same for any connection. */
  lost(line: SharedLine, error: KnownError): void {
    for (const [id, waiting] of this.#waiting) {
      if (waiting.line !== line) continue
      this.#waiting.delete(id)
      this.#fail(waiting, error, true)
    }
  }

  #ask(body: Buffer, waiting: Waiting, { channel }: SharedLine): void {
    const { exchange, envelope } = waiting
    this.#lastId += 1
    const id = `"vitals+${this.#lastId}"`
    this.#waiting.set(id, waiting)
    // In the modern era the end of the client's connection is the cancellation.
    exchange.outgoing.once('close', () => this.#cancel(id))
    const edits = [edit(envelope.ranges.id, id), edit(envelope.ranges.progressToken, id)].flat()
    channel.send(splice(body, edits), {}).catch((error: unknown) => {
      if (this.#waiting.delete(id)) this.#fail(waiting, known(error), false)
    })
  }

  /** Gives the connection back and tells the client; `delivered` says whether the server got the request. */
  #fail(waiting: Waiting, error: KnownError, delivered: boolean): void {
    this.#release(waiting)
    waiting.operation.end({ kind: 'failure', error })
    waiting.reply.fail(error, waiting.envelope.id, { delivered })
  }

  #cancel(id: string): void {
    const waiting = this.#waiting.get(id)
    if (!waiting) return
    this.#waiting.delete(id)
    waiting.operation.end({ kind: 'failure', error: clientGone() })
    const { line } = waiting
    const params = `{"requestId":${id},"reason":"the client closed the connection"}`
    const message = Buffer.from(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":${params}}`)
    line?.channel.send(message, {}).catch(() => undefined) // The connection is gone, and the request with it.
    this.#release(waiting)
  }

  #answer(message: Buffer, envelope: Envelope): boolean {
    const id = envelope.id ?? ''
    const waiting = this.#waiting.get(id)
    if (!waiting) {
      if (id.startsWith('"vitals+')) this.#deps.instruments.countDropped(this.#peering.upstream, 'client_gone')
      return id.startsWith('"vitals+')
    }
    this.#waiting.delete(id)
    this.#release(waiting)
    const { method } = waiting.envelope
    const { labels } = this.#deps.instruments
    if (method === 'tools/list') labels.admit(this.#peering.upstream, 'tool', namesIn(message, 'tools'))
    if (method === 'prompts/list') labels.admit(this.#peering.upstream, 'prompt', namesIn(message, 'prompts'))
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
      let line: SharedLine | undefined
      try {
        line = await this.#lines.borrow(exchange)
        await line.channel.send(body, {})
      } finally {
        this.#lines.release(line)
      }
    }
    accepted(exchange)
  }

  #release({ line }: Waiting): void {
    this.#deps.onRequest(this.#peering.upstream, -1)
    this.#lines.release(line)
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
