import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import { KnownError } from '../errors.ts'
import { isLoopback } from '../upstreams/endpoint.ts'

export interface GuardOptions {
  /** Names besides loopback's under which clients may reach us. */
  readonly allowedHosts: readonly string[]
  /** Origins besides loopback's whose pages may call us. */
  readonly allowedOrigins: readonly string[]
  /** What `Authorization: Bearer` must carry; nothing is asked when absent. */
  readonly bearerToken?: string | undefined
}

export type Guard = (headers: IncomingHttpHeaders) => KnownError | undefined

/**
 * Lets a request pass only when its Host names us and its Origin is no stranger's. A DNS-rebinding page reaches
 * loopback, but cannot forge Host, and always sends its Origin (MCP 2025-11-25, Transports, "Security Warning").
 * A Host that is an IP address is safe: rebinding needs a name.
 */
export function guard({ allowedHosts, allowedOrigins, bearerToken }: GuardOptions): Guard {
  const hosts = new Set(allowedHosts.map((host) => host.toLowerCase()))
  const origins = new Set(allowedOrigins.map((origin) => origin.toLowerCase()))
  const token = bearerToken === undefined ? undefined : digest(bearerToken)
  const knownHosts = new Map<string, boolean>()
  const isHostAllowed = (host: string) => {
    const known = knownHosts.get(host)
    if (known !== undefined) return known
    const name = hostnameOf(host)
    const allowed = name !== undefined && (isLoopback(name) || isAddress(name) || hosts.has(name))
    if (knownHosts.size < 1000) knownHosts.set(host, allowed)
    return allowed
  }
  return (headers) => {
    const { host, origin, authorization } = headers
    if (host === undefined || !isHostAllowed(host)) {
      return new KnownError('host_not_allowed', `host "${host ?? ''}" is not allowed; name it in allowed_hosts`)
    }
    if (origin !== undefined && !isOriginAllowed(origin, origins)) {
      return new KnownError('origin_not_allowed', `origin "${origin}" is not allowed; name it in allowed_origins`)
    }
    if (token && !timingSafeEqual(digest(bearerOf(authorization)), token)) {
      return new KnownError('unauthorized', 'a bearer token is required, and this request has none or another one')
    }
    return undefined
  }
}

function isOriginAllowed(origin: string, allowed: ReadonlySet<string>): boolean {
  if (allowed.has(origin.toLowerCase())) return true
  return /^https?:/i.test(origin) && URL.canParse(origin) && isLoopback(new URL(origin).hostname)
}

/** The token of `Bearer …`; the scheme's case means nothing (RFC 9110 §11.1). A missing one reads as empty. */
function bearerOf(authorization: string | undefined): string {
  return /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1] ?? ''
}

function isAddress(hostname: string): boolean {
  return isIP(hostname.replace(/^\[|\]$/g, '')) !== 0
}

/** The name in a Host header, lower case and without its port; undefined when it is no host. */
export function hostnameOf(host: string): string | undefined {
  const match = /^(\[[0-9a-f:.]+\]|[^:/?#@\s]+)(?::\d{1,5})?$/i.exec(host)
  return match?.[1]?.toLowerCase()
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
