import type { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import Pool from 'undici/lib/dispatcher/pool.js'
import { defaults } from '../defaults.ts'
import { KnownError, Unreachable, errorMessage } from '../errors.ts'
import { connector, proxyAuthorization, serverNameOf } from './connect.ts'
import { isOwnLack } from './own-lack.ts'
import type { TlsSettings } from './upstream.ts'

/** One request as it goes on the wire: `headers` alternate name and value, `path` includes the query. */
export interface HttpRequest {
  readonly method: string
  readonly path: string
  readonly headers: string[]
  readonly body: Buffer | Readable | null
}

/** The head of a response; header names keep their case, and headers their order and number. */
export interface ResponseHead {
  readonly status: number
  readonly statusText: string
  readonly rawHeaders: string[]
}

/** Hears of one response, in this order: one `onStart`, any `onData`, then `onEnd`; or `onError` at any point. */
export interface HttpResponseHandler {
  onStart(head: ResponseHead): void
  onData(chunk: Buffer): void
  onEnd(): void
  onError(error: KnownError): void
}

/** Steers a request under way; every call is harmless after its end. */
export interface HttpExchange {
  pause(): void
  resume(): void
  /** Closes the connection to the upstream at once; no further event is heard. */
  abort(): void
}

export interface PoolStats {
  readonly active: number
  readonly idle: number
  readonly pending: number
}

export interface HttpPoolOptions {
  /** Of the server; its path does not matter. */
  readonly url: URL
  readonly connectTimeoutMs: number
  readonly idleConnectionMs: number
  readonly tls?: TlsSettings | undefined
  readonly proxy?: URL | undefined
  /** How often our event loop stood still so far; taken for never unless given. */
  readonly standstills?: (() => number) | undefined
}

/**
 * Connections to one origin. Bytes pass as they are: no redirects, no decompression, no retries, no HTTP/2, and no
 * time-outs of its own once connected, since a silent stream is not a broken one.
 *
 * undici counts the age of an idle connection in ticks of its own. After our event loop stood still it takes it for
 * younger than the server does, which may have closed it: then such connections are given up, and what is under way on
 * others goes on.
 */
export class HttpPool {
  readonly #open: () => Pool
  readonly #standstills: () => number
  #pool: Pool
  #openedAfter: number
  /** Take no further requests, and close once theirs are over. */
  readonly #leaving = new Set<Pool>()
  readonly #origin: string
  readonly #servername: string
  /** Before every path: a proxy without a tunnel is asked for whole URLs (RFC 9112 §3.2.2). */
  readonly #prefix: string
  readonly #proxyHeaders: readonly string[]
  #inUse = 0

  constructor(options: HttpPoolOptions) {
    const { url, connectTimeoutMs, idleConnectionMs, tls, proxy, standstills = () => 0 } = options
    const isTunnel = url.protocol === 'https:'
    const authorization = proxy && !isTunnel ? proxyAuthorization(proxy) : undefined
    this.#origin = url.origin
    this.#servername = serverNameOf(url, tls)
    this.#prefix = proxy && !isTunnel ? url.origin : ''
    this.#proxyHeaders = authorization === undefined ? [] : ['proxy-authorization', authorization]
    const end = proxy && !isTunnel ? new URL(proxy.origin) : url
    this.#open = () =>
      new Pool(end.origin, {
        connections: null,
        pipelining: 1,
        allowH2: false,
        headersTimeout: 0,
        bodyTimeout: 0,
        maxHeaderSize: defaults.http.maxHeaderBytes,
        keepAliveTimeout: idleConnectionMs,
        keepAliveTimeoutThreshold: defaults.http.idleMarginMs,
        connect: connector({ url: end, connectTimeoutMs, tls, tunnel: isTunnel ? proxy : undefined }),
      })
    this.#standstills = standstills
    this.#pool = this.#open()
    this.#openedAfter = standstills()
  }

  send(request: HttpRequest, handler: HttpResponseHandler): HttpExchange {
    const { method, body } = request
    const path = this.#prefix + request.path
    const headers = this.#proxyHeaders.length === 0 ? request.headers : [...request.headers, ...this.#proxyHeaders]
    // The name goes with every request: undici closes the connection of a client when the next one has another.
    const options = { method, path, headers, body, servername: this.#servername }
    const exchange = new PoolExchange(handler, this.#origin, () => (this.#inUse -= 1))
    this.#inUse += 1
    this.#renewed().dispatch(options, exchange)
    return exchange
  }

  /** Exchanges under way, each of which has or waits for a connection of its own. */
  inUse(): number {
    return this.#inUse
  }

  stats(): PoolStats {
    return [this.#pool, ...this.#leaving].map(statsOf).reduce((sum, { active, idle, pending }) => ({
      active: sum.active + active,
      idle: sum.idle + idle,
      pending: sum.pending + pending,
    }))
  }

  async close(): Promise<void> {
    await Promise.all([this.#pool, ...this.#leaving].map((pool) => pool.destroy()))
  }

  #renewed(): Pool {
    const standstills = this.#standstills()
    if (standstills === this.#openedAfter) return this.#pool
    this.#openedAfter = standstills
    const former = this.#pool
    this.#pool = this.#open()
    this.#leaving.add(former)
    const forget = () => void this.#leaving.delete(former)
    former.close().then(forget, forget)
    return this.#pool
  }
}

function statsOf({ stats: { running, free, pending, queued } }: Pool): PoolStats {
  return { active: running, idle: free, pending: pending + queued }
}

/** One request under way: what undici tells of it goes on to the handler until it is over. */
class PoolExchange implements HttpExchange, Dispatcher.DispatchHandler {
  readonly #handler: HttpResponseHandler
  readonly #origin: string
  #control: Dispatcher.DispatchController | undefined
  readonly #onOver: () => void
  #isOver = false

  constructor(handler: HttpResponseHandler, origin: string, onOver: () => void) {
    this.#handler = handler
    this.#origin = origin
    this.#onOver = onOver
  }

  pause(): void {
    this.#control?.pause()
  }

  resume(): void {
    this.#control?.resume()
  }

  abort(): void {
    if (this.#isOver) return
    this.#over()
    this.#control?.abort(abortion())
  }

  onRequestStart(control: Dispatcher.DispatchController): void {
    this.#control = control
    if (this.#isOver) control.abort(abortion())
  }

  onResponseStart(control: Dispatcher.DispatchController, status: number, _headers: unknown, statusText = ''): void {
    if (this.#isOver || status < 200) return
    this.#handler.onStart({ status, statusText, rawHeaders: textHeaders(control.rawHeaders) })
  }

  onResponseData(_control: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isOver) this.#handler.onData(chunk)
  }

  onResponseEnd(): void {
    if (this.#isOver) return
    this.#over()
    this.#handler.onEnd()
  }

  onResponseError(_control: Dispatcher.DispatchController, error: Error): void {
    if (this.#isOver) return
    this.#over()
    this.#handler.onError(transportError(error, this.#origin))
  }

  #over(): void {
    this.#isOver = true
    this.#onOver()
  }
}

/** Made only when it is needed: its stack costs as much as reading a small message. */
function abortion(): Error {
  return new Error('closed by us')
}

function textHeaders(raw: unknown): string[] {
  if (!Array.isArray(raw)) return []
  return raw.map((part) => (Buffer.isBuffer(part) ? part.toString('latin1') : String(part)))
}

const refusedCodes = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENOENT'])
/** Nobody was reached who could have refused: without a network, all servers are as silent as one that is gone. */
const silentCodes = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT', 'ENETUNREACH', 'ENETDOWN'])
const resetCodes = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])
/** The request itself cannot be written: nothing was sent, and the upstream has no part in it. */
const unsendableCodes = new Set(['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'])

/** What a socket, TLS or HTTP parser error says about the upstream. */
export function transportError(error: Error, origin: string): KnownError {
  if (error instanceof KnownError) return error
  const code = codeOf(error)
  const message = `${origin}: ${error.message === '' ? code : error.message}`
  if (isOwnLack(code)) return new KnownError('overloaded', `mcp-vitals lacks resources: ${message}`, { cause: error })
  if (silentCodes.has(code)) return new Unreachable(message, { cause: error })
  if (refusedCodes.has(code)) return new KnownError('upstream_refused', message, { cause: error })
  if (resetCodes.has(code)) return new KnownError('upstream_reset', message, { cause: error })
  if (unsendableCodes.has(code)) return new KnownError('internal', message, { cause: error })
  if (isMalformed(error, code)) return new KnownError('upstream_invalid', message, { cause: error })
  if (
    code.startsWith('ERR_TLS') ||
    code.startsWith('ERR_SSL') ||
    /CERT|ISSUER|SELF_SIGNED|LEAF_SIGNATURE|EPROTO/.test(code)
  ) {
    return new KnownError('upstream_refused', message, { cause: error })
  }
  return new KnownError('upstream_reset', `${origin}: ${errorMessage(error)}`, { cause: error })
}

/** undici asserts that a status is one, and checks lengths by itself; the rest is its parser's. */
const malformedCodes = new Set(['ERR_ASSERTION', 'UND_ERR_HEADERS_OVERFLOW', 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH'])

function isMalformed({ name }: Error, code: string): boolean {
  return name === 'HTTPParserError' || malformedCodes.has(code)
}

/** The error's own code; of several inside an AggregateError (happy eyeballs), the first that tells of the server. */
function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return ''
  if ('errors' in error && Array.isArray(error.errors)) {
    const codes = error.errors.map(codeOf)
    return codes.find((code) => !isOwnLack(code) && !silentCodes.has(code)) ?? codes[0] ?? ''
  }
  if ('code' in error && typeof error.code === 'string') return error.code
  return 'cause' in error ? codeOf(error.cause) : ''
}
