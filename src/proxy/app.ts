import type { RequestListener } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import type { Clock } from '../clock.ts'
import { KnownError } from '../errors.ts'
import type { Access, Monitored } from '../heartbeat/monitored.ts'
import { resourceMetadataPath } from '../wire/resource-metadata.ts'
import { type Bridge, leaving } from './bridge.ts'
import type { DataContext, Exchange } from './exchange.ts'
import { type ForwardDeps, forward } from './forward.ts'
import type { SseForwarder } from './forward-sse.ts'
import type { Guard } from './guard.ts'
import { type ReplyOptions, replyError } from './replies.ts'

export interface DataAppOptions {
  readonly clock: Clock
  readonly guard: Guard
  readonly upstreams: () => ReadonlyMap<string, Monitored>
  readonly forwarding: ForwardDeps
  readonly sse: SseForwarder
  readonly bridge: Bridge
  readonly isStopping: () => boolean
  /** Whether this upstream takes no more requests, because it is being removed or replaced. */
  readonly isLeaving: (upstream: string) => boolean
}

/** Takes the exchange over, or says why this upstream cannot be reached on this path. */
type Carry = (exchange: Exchange, upstream: Monitored) => KnownError | void

/**
 * The data listener: Hono routes and guards, then the raw Node request and response go to whoever carries the bytes,
 * so that none is copied through web streams. Hono gets no web request of its own either: a route needs a method and a
 * path, and what handlers read or write is Node's.
 */
export function dataApp(options: DataAppOptions): RequestListener {
  const { clock, guard, upstreams, forwarding, sse, bridge, isStopping, isLeaving } = options
  const refuse = (c: DataContext, error: KnownError, reply?: ReplyOptions) => {
    forwarding.instruments.countRejected(error.code)
    replyError(c.env.incoming, c.env.outgoing, error, reply)
    return RESPONSE_ALREADY_SENT
  }
  const guarded = (carry: Carry, reply?: ReplyOptions) => (c: DataContext) => {
    const refusal = guard(c.env.incoming.headers)
    if (refusal) return refuse(c, refusal)
    if (isStopping()) return refuse(c, new KnownError('shutting_down', 'mcp-vitals is shutting down'))
    const name = c.req.param('upstream') ?? ''
    const upstream = upstreams().get(name)
    if (!upstream) return refuse(c, unknownUpstream(name), { details: { upstreams: [...upstreams().keys()] } })
    if (isLeaving(name)) return refuse(c, leaving(name))
    const { incoming, outgoing } = c.env
    const mismatch = carry({ incoming, outgoing, upstream: name, arrivedAtMs: clock.now() }, upstream)
    return mismatch ? refuse(c, mismatch, reply) : RESPONSE_ALREADY_SENT
  }
  const notBut = (allow: 'GET' | 'POST') =>
    guarded(({ incoming: { method } }) => new KnownError('method_not_allowed', `${method ?? ''} is not allowed here`), {
      headers: { allow },
    })
  const app = new Hono<{ Bindings: HttpBindings }>({ getPath: (_request, at) => pathOfTarget(at?.env?.incoming.url) })
  app.all(
    '/:upstream/mcp',
    guarded((exchange, { access, name }) => {
      if (access.kind === 'pipe') return unreachable(name)
      if (isOf(access, 'http')) return forward(forwarding, exchange, access.endpoint)
      return bridge.handle(exchange, access)
    }),
  )
  app.get(
    '/:upstream/sse',
    guarded((exchange, { access, name }) => {
      if (access.kind === 'pipe') return unreachable(name)
      if (isOf(access, 'sse')) return sse.openStream(exchange, access.endpoint)
      return bridge.openStream(exchange, access)
    }),
  )
  app.post(
    '/:upstream/messages',
    guarded((exchange, { access, name }) => {
      if (access.kind === 'pipe') return unreachable(name)
      if (isOf(access, 'sse')) return sse.postMessage(exchange, access.endpoint)
      return bridge.postMessage(exchange, access)
    }),
  )
  app.all('/:upstream/sse', notBut('GET'))
  app.all('/:upstream/messages', notBut('POST'))
  const { protectedResources } = forwarding
  if (protectedResources) {
    for (const mount of ['mcp', 'sse'] as const) {
      const serve = guarded((exchange, { access, name }) => {
        if (access.kind === 'endpoint') return protectedResources.serve(exchange, mount, access.endpoint)
        return new KnownError('unknown_path', `"${name}" is no server behind a URL: nothing is known of its tokens`)
      })
      // The first is RFC 9728 §3.1; some clients append instead, as OpenID Connect Discovery does.
      for (const path of [`${resourceMetadataPath}/:upstream/${mount}`, `/:upstream/${mount}${resourceMetadataPath}`]) {
        app.on(['GET', 'OPTIONS'], path, serve)
      }
    }
  }
  app.notFound((c) => {
    const refusal = guard(c.env.incoming.headers)
    const paths = [...upstreams().values()].flatMap(pathsOf)
    const message = `${c.env.incoming.method} ${c.req.path} is no path here; each upstream has its own`
    return refuse(c, refusal ?? new KnownError('unknown_path', message), refusal ? {} : { details: { paths } })
  })
  app.onError((error, c) => refuse(c, new KnownError('internal', error.message, { cause: error })))
  // HEAD is routed as GET, and what is neither GET nor POST is routed alike.
  const get = new Request('http://localhost/')
  const post = new Request(get, { method: 'POST' })
  const other = new Request(get, { method: 'PUT' })
  const routes = new Map([
    ['GET', get],
    ['HEAD', get],
    ['POST', post],
  ])
  return (incoming, outgoing) => {
    void app.fetch(routes.get(incoming.method ?? '') ?? other, { incoming, outgoing })
  }
}

/** The path of a request target, which names an origin too when the client takes us for a proxy (RFC 9112 §3.2.2). */
function pathOfTarget(target = '/'): string {
  if (!target.startsWith('/') && URL.canParse(target)) return new URL(target).pathname
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}

/** Where clients reach an upstream by the transport that it speaks itself; a stdio server by Streamable HTTP. */
export function pathOf({ name, access }: Monitored): string {
  return isOf(access, 'sse') ? `/${name}/sse` : `/${name}/mcp`
}

/** Where clients reach an upstream by any transport. */
export function pathsOf({ name }: Monitored): readonly string[] {
  return [`/${name}/mcp`, `/${name}/sse`]
}

function isOf(access: Access, transport: 'http' | 'sse'): access is Extract<Access, { kind: 'endpoint' }> {
  return access.kind === 'endpoint' && access.transport === transport
}

function unknownUpstream(name: string): KnownError {
  return new KnownError('unknown_upstream', `no upstream is called "${name}"`)
}

function unreachable(name: string): KnownError {
  return new KnownError('unknown_path', `"${name}" belongs to the client that started it`)
}
