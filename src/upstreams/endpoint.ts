import { type Clock, systemClock } from '../clock.ts'
import type { KnownError } from '../errors.ts'
import type { Envelope } from '../wire/envelope.ts'
import { identityCoding } from '../wire/headers.ts'
import { authorized } from './authorized.ts'
import { readBearerFile, tokenInFile } from './bearer-file.ts'
import type { Credentials } from './credentials.ts'
import {
  type HttpExchange,
  HttpPool,
  type HttpPoolOptions,
  type HttpRequest,
  type HttpResponseHandler,
  type PoolStats,
} from './http.ts'
import { type OauthOptions, type TokenClient, tokenClient } from './oauth.ts'
import type { BreakerOptions } from './breaker.ts'
import { withFittingHost } from './own-host.ts'
import { type Limited, limited } from './queue.ts'
import { slashed } from './slash.ts'
import { TokenCache, type TokenCacheOptions } from './token-cache.ts'
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

/** Opens the connections to one origin. */
export type OpenPool = (options: HttpPoolOptions) => Pick<HttpPool, 'send' | 'inUse' | 'stats' | 'close'>

/** What we ask the server ourselves, on a connection of our own. */
export interface OwnRequests {
  /** Whether this id (its JSON text) is one of ours. */
  hasAsked(id: string): boolean
  /** Takes a message that came on the connection of a client if it answers one of ours; false when it does not. */
  answeredElsewhere(message: Buffer, envelope: Envelope): boolean
}

/** The endpoint of an upstream as clients' requests use it; our own heartbeats know no queue. */
export interface UpstreamEndpoint extends Endpoint, Limited {
  readonly ownRequests?: OwnRequests
}

export function endpoint(
  target: UrlTarget,
  options: {
    readonly connectTimeoutMs: number
    readonly idleConnectionMs: number
    readonly standstills?: () => number
    readonly clock?: Clock
    /** The proxy by which a URL is reached; none unless given. */
    readonly proxyFor?: (url: URL) => URL | undefined
    /** Hears why there is no new token for the server. */
    readonly onTokenFailure?: (error: KnownError) => void
    readonly onCircuit?: BreakerOptions['onChange']
    /** With sockets unless given. */
    readonly openPool?: OpenPool | undefined
  },
): UpstreamEndpoint {
  const {
    clock = systemClock,
    proxyFor = () => undefined,
    onTokenFailure = () => undefined,
    onCircuit,
    openPool = (pool) => new HttpPool(pool),
    ...connecting
  } = options
  const { url, tls, credentials } = target
  const pool = openPool({ ...connecting, url, tls, proxy: proxyFor(url) })
  const headers = new Map(Object.entries(target.headers).map(([name, value]) => [name.toLowerCase(), value]))
  const clientHost =
    target.upstreamHost === 'client' || (target.upstreamHost === 'auto' && isLoopback(target.url.hostname))
  if (!clientHost && !headers.has('host')) headers.set('host', target.url.host)
  // We have answered `Expect: 100-continue` ourselves.
  const replaced = new Set(['expect', ...headers.keys()])
  const send = slashed((request, handler) => pool.send(request, handler), url)
  const plain = {
    url,
    headers,
    clientHost,
    replaced,
    ...limited(clock, target, onCircuit, () => pool.inUse()),
    send: clientHost && target.upstreamHost === 'auto' ? withFittingHost(send, url) : send,
    stats: () => pool.stats(),
    close: () => pool.close(),
  }
  if (!credentials) return plain
  const { obtain, close, initial } = tokensOf(credentials, {
    clock,
    serverUrl: url,
    send: plain.send,
    headers,
    tls,
    proxyFor,
  })
  return {
    ...plain,
    replaced: replaced.add('authorization'),
    send: authorized(plain.send, new TokenCache({ clock, obtain, initial, onFailure: onTokenFailure })),
    close: async () => {
      await Promise.all([pool.close(), close()])
    },
  }
}

function tokensOf(
  credentials: Credentials,
  options: Omit<OauthOptions, 'credentials'>,
): TokenClient & Pick<TokenCacheOptions, 'initial'> {
  switch (credentials.kind) {
    case 'bearer_file':
      return {
        initial: tokenInFile(credentials),
        obtain: () => readBearerFile(credentials),
        close: () => Promise.resolve(),
      }
    case 'client_credentials':
      return tokenClient({ ...options, credentials })
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
  const coding = target.headers.has('accept-encoding') ? [] : identityCoding
  const headers = [...host, ...agent, ...coding, ...extra]
  for (const [name, value] of target.headers) headers.push(name, value)
  return headers
}
