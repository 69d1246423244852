import { type HttpExchange, HttpPool, type HttpRequest, type HttpResponseHandler } from './http.ts'
import type { PoolStats } from './http.ts'
import type { UrlTarget } from './upstream.ts'

/** The address of an HTTP server, its connections, and the headers that we ourselves put on requests to it. */
export interface Endpoint {
  readonly url: URL
  /** Configured headers, in lower case; they replace a client's own of the same name. */
  readonly headers: ReadonlyMap<string, string>
  /** Whether a client's `Host` goes through (see `HostPolicy`). */
  readonly clientHost: boolean
  send(request: HttpRequest, handler: HttpResponseHandler): HttpExchange
  stats(): PoolStats
  close(): Promise<void>
}

export function endpoint(
  target: UrlTarget,
  options: { readonly connectTimeoutMs: number; readonly idleConnectionMs: number },
): Endpoint {
  const pool = new HttpPool({ origin: target.url.origin, ...options })
  return {
    url: target.url,
    headers: new Map(Object.entries(target.headers).map(([name, value]) => [name.toLowerCase(), value])),
    clientHost: target.upstreamHost === 'client' || (target.upstreamHost === 'auto' && isLoopback(target.url.hostname)),
    send: (request, handler) => pool.send(request, handler),
    stats: () => pool.stats(),
    close: () => pool.close(),
  }
}

/** Names and addresses that can only mean this machine. */
export function isLoopback(hostname: string): boolean {
  const bare = hostname.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare.endsWith('.localhost') || bare === '::1' || /^127(\.\d{1,3}){3}$/.test(bare)
}

/** The headers of a request that the sidecar makes for itself. */
export function ownHeaders(target: Endpoint, extra: readonly string[]): string[] {
  const headers = ['host', target.url.host, 'user-agent', 'mcp-vitals', ...extra]
  for (const [name, value] of target.headers) headers.push(name, value)
  return headers
}
