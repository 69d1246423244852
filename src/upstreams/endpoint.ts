import { type Clock, systemClock } from '../clock.ts'
import { type HttpExchange, HttpPool, type HttpRequest, type HttpResponseHandler, type PoolStats } from './http.ts'
import { type Limited, limited } from './queue.ts'
import type { UrlTarget } from './upstream.ts'

/** The address of an HTTP server, its connections, and the headers that we ourselves put on requests to it. */
export interface Endpoint {
  readonly url: URL
  /** What we put on every request, by lower-case name: configured headers, and the URL's host unless the client's goes. */
  readonly headers: ReadonlyMap<string, string>
  /** Whether a client's `Host` goes through (see `HostPolicy`). */
  readonly clientHost: boolean
  /** What of a client's headers does not go through, in lower case: replaced by ours, or for us alone. */
  readonly replaced: ReadonlySet<string>
  send(request: HttpRequest, handler: HttpResponseHandler): HttpExchange
  stats(): PoolStats
  close(): Promise<void>
}

/** The endpoint of an upstream as clients' requests use it; our own heartbeats know no queue. */
export interface UpstreamEndpoint extends Endpoint, Limited {}

export function endpoint(
  target: UrlTarget,
  options: {
    readonly connectTimeoutMs: number
    readonly idleConnectionMs: number
    readonly clock?: Clock
    readonly proxy?: URL | undefined
  },
): UpstreamEndpoint {
  const { clock = systemClock, ...connecting } = options
  const pool = new HttpPool({ ...connecting, url: target.url, tls: target.tls })
  const headers = new Map(Object.entries(target.headers).map(([name, value]) => [name.toLowerCase(), value]))
  const clientHost =
    target.upstreamHost === 'client' || (target.upstreamHost === 'auto' && isLoopback(target.url.hostname))
  if (!clientHost && !headers.has('host')) headers.set('host', target.url.host)
  return {
    url: target.url,
    headers,
    clientHost,
    // We have answered `Expect: 100-continue` ourselves.
    replaced: new Set(['expect', ...headers.keys()]),
    ...limited(clock, target),
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
  const host = target.headers.has('host') ? [] : ['host', target.url.host]
  const agent = target.headers.has('user-agent') ? [] : ['user-agent', 'mcp-vitals']
  const headers = [...host, ...agent, ...extra]
  for (const [name, value] of target.headers) headers.push(name, value)
  return headers
}
