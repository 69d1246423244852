import type { IncomingMessage, ServerResponse } from 'node:http'
import { Transform } from 'node:stream'
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'
import { KnownError } from '../errors.ts'
import type { SessionClient } from '../sessions/session.ts'
import { type Envelope, EnvelopeReader } from '../wire/envelope.ts'
import { type Era, detectEra } from '../wire/era.ts'
import { headerNames } from '../wire/headers.ts'

export type DataContext = Context<{ Bindings: HttpBindings }>

/** One request of a client on the data listener. */
export interface Exchange {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  readonly upstream: string
  readonly arrivedAtMs: number
}

/** A header of the request; a repeated one counts as its first value. */
export function requestHeader({ incoming }: Exchange, name: string): string | undefined {
  const value = incoming.headers[name]
  return Array.isArray(value) ? value[0] : value
}

export function sessionIdOf(exchange: Exchange): string | undefined {
  return requestHeader(exchange, headerNames.sessionId)
}

/** The query of the request's URL, with its question mark, or nothing. */
export function searchOf({ incoming }: Exchange): string {
  const url = incoming.url ?? ''
  const start = url.indexOf('?')
  return start === -1 ? '' : url.slice(start)
}

export function clientOf(exchange: Exchange, envelope: Envelope | undefined): SessionClient {
  return {
    ip: exchange.incoming.socket.remoteAddress ?? '',
    userAgent: requestHeader(exchange, 'user-agent') ?? '',
    name: envelope?.clientName,
  }
}

/** Which era the client speaks in this request. */
export function eraOf(exchange: Exchange, envelope: Envelope): Era {
  return detectEra({
    protocolVersionHeader: requestHeader(exchange, headerNames.protocolVersion),
    method: envelope.method,
    metaProtocolVersion: envelope.metaProtocolVersion,
    hasSession: sessionIdOf(exchange) !== undefined,
  })
}

/** The revision that the client speaks in this request, where it says so. */
export function versionOf(exchange: Exchange, envelope: Envelope): string | undefined {
  return requestHeader(exchange, headerNames.protocolVersion) ?? envelope.protocolVersion
}

/** Hears once that the client left before the end, also when that was before this call. */
export function onGone({ outgoing }: Exchange, listener: () => void): void {
  if (outgoing.destroyed) return listener()
  // It closes once, and `once` costs more than `on`.
  outgoing.on('close', () => {
    if (!outgoing.writableFinished) listener()
  })
}

/** Bodies up to this size are held whole, which is one copy less and one system call less than a stream. */
export const holdWholeBytes = 64 * 1024

/** The declared length of the body: 0 without one, undefined when it comes in chunks of unknown sum. */
export function declaredBytes({ incoming }: Exchange): number | undefined {
  const length = incoming.headers['content-length']
  if (length !== undefined) return Number(length)
  return incoming.headers['transfer-encoding'] === undefined ? 0 : undefined
}

export function tooLarge(maxBytes: number): KnownError {
  return new KnownError('body_too_large', `the body is larger than max_body_bytes (${maxBytes} bytes)`)
}

/** Reads the body whole. Rejects with `body_too_large`, or with `cancelled` when the client leaves halfway. */
export function readBody(exchange: Exchange, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => receiveBody(exchange, maxBytes, resolve, reject))
}

/** `readBody` without a promise, for the hot path; exactly one of the two is called, once. */
export function receiveBody(
  exchange: Exchange,
  maxBytes: number,
  done: (body: Buffer) => void,
  fail: (error: KnownError) => void,
): void {
  const { incoming } = exchange
  if ((declaredBytes(exchange) ?? 0) > maxBytes) return fail(tooLarge(maxBytes))
  const chunks: Buffer[] = []
  let bytes = 0
  let over = false
  const failOnce = (error: KnownError) => {
    if (over) return
    over = true
    chunks.length = 0
    fail(error)
  }
  incoming.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > maxBytes) failOnce(tooLarge(maxBytes))
    else if (!over) chunks.push(chunk)
  })
  incoming.on('end', () => {
    if (over) return
    over = true
    const [only] = chunks
    done(chunks.length === 1 && only ? only : Buffer.concat(chunks, bytes))
  })
  incoming.on('error', (error) => {
    failOnce(leftWithin(error))
  })
}

export interface BodyReceiver {
  readonly whole: (body: Buffer) => void
  readonly long: () => void
  readonly fail: (error: KnownError) => void
}

/**
 * `whole` gets a short body. `long` is called for any other, which is to be read as it comes. One of them or `fail` is
 * called, once.
 */
export function receive(exchange: Exchange, maxBytes: number, receiver: BodyReceiver): void {
  const declared = declaredBytes(exchange)
  if (declared === undefined) return receiveShort(exchange, maxBytes, receiver)
  if (declared > maxBytes) receiver.fail(tooLarge(maxBytes))
  else if (declared > holdWholeBytes) receiver.long()
  else receiveBody(exchange, maxBytes, receiver.whole, receiver.fail)
}

/**
 * For a body of unknown length: `whole` gets one that ends within what is held whole. `long` is called for any other, of
 * which nothing is lost: what was read stands in front of the rest, which is to be read. One of them or `fail` is called,
 * once.
 */
function receiveShort({ incoming }: Exchange, maxBytes: number, { whole, long, fail }: BodyReceiver): void {
  const chunks: Buffer[] = []
  let bytes = 0
  const settle = () => {
    incoming.off('data', onData).off('end', onEnd).off('error', onError)
    return Buffer.concat(chunks, bytes)
  }
  const onData = (chunk: Buffer) => {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes <= Math.min(holdWholeBytes, maxBytes)) return
    incoming.pause()
    incoming.unshift(settle())
    if (bytes > maxBytes) fail(tooLarge(maxBytes))
    else long()
  }
  const onEnd = () => whole(settle())
  const onError = (error: Error) => {
    settle()
    fail(leftWithin(error))
  }
  incoming.on('data', onData).on('end', onEnd).on('error', onError)
}

function leftWithin(cause: Error): KnownError {
  return new KnownError('cancelled', 'the client closed the connection within its request', { cause })
}

/** An answer may come before the request is over; its rest must not block the connection's next request. */
export function dropUnread({ incoming }: Exchange): void {
  if (incoming.complete) return
  incoming.unpipe()
  incoming.resume()
}

/** Passes a body on as it comes, while its envelope is read; fails with `body_too_large` where the limit is crossed. */
export class ObservedBody extends Transform {
  readonly #reader = new EnvelopeReader()
  readonly #maxBytes: number
  readonly #onEnvelope: (envelope: Envelope | undefined) => void
  #bytes = 0

  constructor(maxBytes: number, onEnvelope: (envelope: Envelope | undefined) => void) {
    super()
    this.#maxBytes = maxBytes
    this.#onEnvelope = onEnvelope
  }

  override _transform(chunk: Buffer, _encoding: string, pass: (error?: Error | null, chunk?: Buffer) => void): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes) return pass(tooLarge(this.#maxBytes))
    this.#reader.push(chunk)
    pass(null, chunk)
  }

  override _flush(pass: (error?: Error | null) => void): void {
    this.#onEnvelope(this.#reader.end())
    pass()
  }
}
