import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import type { Clock } from '../clock.ts'
import type { Endpoint } from '../upstreams/endpoint.ts'
import type { ResponseHead } from '../upstreams/http.ts'
import { type WholeResponse, receiveWhole } from '../upstreams/whole.ts'
import { withResourceMetadata } from '../wire/challenge.ts'
import { endToEndHeaders, identityCoding } from '../wire/headers.ts'
import {
  issuerOf,
  metadataPaths,
  resourceMetadataPath,
  serverMetadataPath,
  withResource,
} from '../wire/resource-metadata.ts'
import { type Exchange, searchOf } from './exchange.ts'
import { replyError } from './replies.ts'

/** The paths by which clients reach an upstream, each a resource of its own to them. */
export type Mount = 'mcp' | 'sse'

export interface ProtectedResourcesOptions {
  readonly publicUrl: URL
  readonly clock: Clock
}

/** What of a client's headers has no meaning for a server that we ask ourselves. */
const ofClient: ReadonlySet<string> = new Set(['accept-encoding', 'authorization', 'content-length', 'host'])

/**
 * Servers that want OAuth tokens, seen from the address by which clients reach us: a client only trusts metadata whose
 * `resource` is the address that it uses itself (RFC 9728 §3.3), and behind a proxy that is not the server's own.
 */
export class ProtectedResources {
  readonly #options: ProtectedResourcesOptions
  /** Where on its own site each server said that its metadata is. */
  readonly #announced = new Map<string, URL>()
  #open = 0

  constructor(options: ProtectedResourcesOptions) {
    this.#options = options
  }

  /** The head of an answer as clients get it: a 401 or 403 leads to the metadata that we serve. */
  asPublic(head: ResponseHead, upstream: string, mount: Mount, endpoint: Endpoint): ResponseHead {
    if ((head.status !== 401 && head.status !== 403) || hasOwnCredentials(endpoint)) return head
    const rawHeaders = head.rawHeaders.map((text, at, all) => {
      if (at % 2 === 0 || all[at - 1]?.toLowerCase() !== 'www-authenticate') return text
      return withResourceMetadata(text, (url) => this.#announce(url, upstream, mount, endpoint))
    })
    return { ...head, rawHeaders }
  }

  /** An endpoint for a bridge, whose answers are those of `asPublic`. */
  endpoint<T extends Endpoint>(endpoint: T, upstream: string, mount: Mount): T {
    return {
      ...endpoint,
      send: (request, handler) =>
        endpoint.send(request, {
          onStart: (head) => handler.onStart(this.asPublic(head, upstream, mount, endpoint)),
          onData: (chunk) => handler.onData(chunk),
          onEnd: () => handler.onEnd(),
          onError: (error) => handler.onError(error),
        }),
    }
  }

  /** Answers with the server's metadata, for the resource that the client knows. */
  serve(exchange: Exchange, mount: Mount, endpoint: Endpoint): KnownError | void {
    const { incoming, outgoing, upstream } = exchange
    if (hasOwnCredentials(endpoint)) {
      return new KnownError('unknown_path', `"${upstream}" needs no token of a client: its credentials are ours`)
    }
    const { maxMetadataRequests } = defaults.http
    if (this.#open >= maxMetadataRequests) {
      return new KnownError(
        'queue_full',
        `${maxMetadataRequests} requests for metadata are under way, which is the most`,
      )
    }
    this.#open += 1
    this.#relay(exchange, mount, endpoint)
      .catch((error: unknown) => {
        if (!outgoing.destroyed) replyError(incoming, outgoing, error)
      })
      .finally(() => {
        this.#open -= 1
      })
  }

  async #relay(exchange: Exchange, mount: Mount, endpoint: Endpoint): Promise<void> {
    const { incoming, outgoing } = exchange
    const left = new AbortController()
    outgoing.once('close', () => left.abort())
    const answer = await this.#find(exchange, mount, endpoint, left.signal)
    outgoing.sendDate = false
    outgoing.writeHead(answer.status, withLength(answer))
    outgoing.end(answer.body)
    incoming.resume()
  }

  /** A foreign site's metadata is not ours to fetch (SSRF), so its address stays. */
  #announce(url: URL, upstream: string, mount: Mount, endpoint: Endpoint): URL | undefined {
    // Behind us a server may take the client's Host for its own name.
    const { origin, host } = this.#options.publicUrl
    const isOwn =
      url.origin === endpoint.url.origin || (endpoint.clientHost && (url.origin === origin || url.host === host))
    if (!isOwn) return undefined
    this.#announced.set(upstream, url)
    return this.#below(`${resourceMetadataPath}/${upstream}/${mount}`)
  }

  #below(path: string): URL {
    const { publicUrl } = this.#options
    return new URL(publicUrl.pathname.replace(/\/$/, '') + path, publicUrl)
  }

  async #find(exchange: Exchange, mount: Mount, endpoint: Endpoint, signal: AbortSignal): Promise<WholeResponse> {
    const { upstream } = exchange
    const announced = this.#announced.get(upstream)
    const search = searchOf(exchange)
    const places = [
      ...(announced ? [announced.pathname + announced.search] : []),
      ...metadataPaths(endpoint.url).map((path) => path + search),
    ]
    const resource = this.#below(`/${upstream}/${mount}`)
    let answer: WholeResponse | undefined
    for (const path of new Set(places)) {
      answer = await this.#ask(exchange, endpoint, path, signal)
      if (answer.status < 400)
        return { ...answer, body: withResource(answer.body, { from: endpoint.url, to: resource }) }
      if (answer.status >= 500) return answer
    }
    const own = await this.#ask(exchange, endpoint, serverMetadataPath, signal)
    const issuer = own.status === 200 ? issuerOf(own.body) : undefined
    if (issuer === undefined) return answer ?? own
    // MCP 2025-03-26, Authorization: without metadata, the server's site is its authorization server.
    return { ...own, body: Buffer.from(JSON.stringify({ resource: resource.href, authorization_servers: [issuer] })) }
  }

  #ask({ incoming }: Exchange, endpoint: Endpoint, path: string, signal: AbortSignal): Promise<WholeResponse> {
    const { clock } = this.#options
    const { metadataTimeoutMs, maxMetadataBytes } = defaults.http
    const headers = endToEndHeaders(incoming.rawHeaders, { drop: new Set([...ofClient, ...endpoint.replaced]) })
    if (!endpoint.headers.has('host')) headers.push('host', endpoint.url.host)
    if (!endpoint.headers.has('accept-encoding')) headers.push(...identityCoding)
    for (const [name, value] of endpoint.headers) headers.push(name, value)
    const method = incoming.method === 'OPTIONS' ? 'OPTIONS' : 'GET'
    const send = endpoint.send.bind(endpoint)
    return receiveWhole(
      send,
      { method, path, headers, body: null },
      { clock, timeoutMs: metadataTimeoutMs, maxBytes: maxMetadataBytes, signal },
    )
  }
}

/** Whether clients' tokens are replaced by ours anyway. */
function hasOwnCredentials({ replaced }: Endpoint): boolean {
  return replaced.has('authorization')
}

function withLength({ status, rawHeaders, body }: WholeResponse): string[] {
  const headers = endToEndHeaders(rawHeaders, { drop: new Set(['content-length']) })
  // RFC 9110 §8.6: the first two never have one.
  return status === 204 || status === 304 ? headers : [...headers, 'content-length', String(body.length)]
}
