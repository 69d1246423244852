import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { KnownError, errorMessage } from '../errors.ts'
import type { Redact } from '../redaction.ts'
import { HttpPool } from '../upstreams/http.ts'
import { type WholeResponse, receiveWhole } from '../upstreams/whole.ts'
import { retryAfterMs } from './backoff.ts'

/** What came of one request to a receiver. */
export type Delivery =
  | { readonly kind: 'sent' }
  /** It may do better another time. */
  | { readonly kind: 'failed'; readonly reason: string; readonly retryAfterMs?: number | undefined }
  /** It understood, and does not want it: the same again would be refused again. */
  | { readonly kind: 'rejected'; readonly reason: string }

export interface ReceiverAddress {
  readonly url: URL
  /** What `Authorization: Bearer` carries. */
  readonly bearerToken?: string | undefined
}

export interface PosterOptions {
  readonly clock: Clock
  readonly address: ReceiverAddress
  /** The proxy by which a URL is reached. */
  readonly proxyFor: (url: URL) => URL | undefined
  readonly timeoutMs: number
  /** Hides secrets in what the receiver says. */
  readonly redact: Redact
}

/** Posts JSON to one address. */
export interface Poster {
  /** Never rejects. */
  readonly post: (message: object, signal: AbortSignal) => Promise<Delivery>
  readonly close: () => Promise<void>
}

const maxAnswerBytes = 64 * 1024
const maxReasonChars = 300

export function poster({ clock, address, proxyFor, timeoutMs, redact }: PosterOptions): Poster {
  const { url, bearerToken } = address
  const pool = new HttpPool({ ...defaults.http, url, proxy: proxyFor(url) })
  const post: Poster['post'] = async (message, signal) => {
    const body = Buffer.from(JSON.stringify(message))
    const headers = {
      host: url.host,
      'user-agent': 'mcp-vitals',
      accept: 'application/json',
      'content-type': 'application/json',
      'content-length': String(body.length),
      ...(bearerToken !== undefined && { authorization: `Bearer ${bearerToken}` }),
    }
    const request = { method: 'POST', path: url.pathname + url.search, headers: Object.entries(headers).flat(), body }
    try {
      const limits = { clock, timeoutMs, maxBytes: maxAnswerBytes, signal }
      return deliveryOf(await receiveWhole((...args) => pool.send(...args), request, limits), clock.wallTime(), redact)
    } catch (error) {
      return { kind: 'failed', reason: redact(reasonOf(error, url, timeoutMs)) }
    }
  }
  return { post, close: () => pool.close() }
}

/** Statuses that ask for another try: what is wrong is the time, not the request. */
const passing: ReadonlySet<number> = new Set([408, 425, 429])

/** What an answer means. A redirect is no delivery, and the same request would meet it again. */
export function deliveryOf({ status, rawHeaders, body }: WholeResponse, wallMs: number, redact: Redact): Delivery {
  if (status >= 200 && status < 300) return { kind: 'sent' }
  const words = redact(body.toString('utf8').replaceAll(/\s+/g, ' ').trim()).slice(0, maxReasonChars)
  const reason = words === '' ? `it answered ${status}` : `it answered ${status}: ${words}`
  if (status < 500 && !passing.has(status)) return { kind: 'rejected', reason }
  const at = rawHeaders.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'retry-after')
  const waitMs = at === -1 ? undefined : retryAfterMs(rawHeaders[at + 1], wallMs)
  return { kind: 'failed', reason, ...(waitMs !== undefined && { retryAfterMs: waitMs }) }
}

/** The path of a webhook may be as good as a password, so it is left out. */
function reasonOf(error: unknown, { origin }: URL, timeoutMs: number): string {
  const code = error instanceof KnownError ? error.code : undefined
  if (code === 'upstream_timeout') return `${origin}: no answer within ${timeoutMs / 1000} s`
  if (code === 'upstream_invalid')
    return `${origin}: what it answers is no HTTP, or longer than ${maxAnswerBytes} bytes`
  if (code === 'cancelled') return `${origin}: given up, since mcp-vitals stops or has another configuration`
  return errorMessage(error)
}
