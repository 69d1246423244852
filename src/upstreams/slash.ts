import { headerNames, headerValue } from '../wire/headers.ts'
import { Attempts, type Send, headed, isRepeatable } from './attempts.ts'
import type { HttpRequest, ResponseHead } from './http.ts'

/**
 * Follows the one redirect that stays where it is: many servers are mounted at `/mcp/` and answer `/mcp` with 307 to it,
 * or the other way round, and direct clients follow that unseen. Other requests go there at once from then on, until it
 * is not there any more. Every other redirect is an answer like any other.
 */
export function slashed(send: Send, url: URL): Send {
  const own = url.pathname
  const other = own.endsWith('/') ? own.slice(0, -1) : `${own}/`
  // The path of a server at its root is `/` with and without.
  if (other === '') return send
  let path = own
  return (request, handler) => {
    if (request.path.split('?', 1)[0] !== own) return send(request, handler)
    const elsewhere = { ...request, path: other + request.path.slice(own.length) }
    if (path === other) {
      const arrived = (head: ResponseHead) => {
        if (isGone(head, request) || leadsTo(own, head, elsewhere, url)) path = own
        handler.onStart(head)
      }
      return send(elsewhere, headed(handler, arrived))
    }
    if (!isRepeatable(request)) return send(request, handler)
    const attempts = new Attempts()
    const redirected = (head: ResponseHead) => {
      if (!leadsTo(other, head, request, url)) return handler.onStart(head)
      path = other
      attempts.next(() => send(elsewhere, handler))
    }
    attempts.next(() => send(request, headed(handler, redirected)))
    return attempts
  }
}

/** In a session, 404 says that the session is gone (MCP 2025-11-25, Transports, Session Management). */
function isGone({ status }: ResponseHead, { headers }: HttpRequest): boolean {
  return status === 404 && headerValue(headers, headerNames.sessionId) === undefined
}

/** With these the same request is wanted elsewhere, its method and body included; others make a GET of it (RFC 9110 §15.4). */
const redirects = new Set([307, 308])
const redirectsOfGet = new Set([301, 302, 303, 307, 308])

/** Whether it is wanted there, on the server that we asked. */
function leadsTo(path: string, { status, rawHeaders }: ResponseHead, request: HttpRequest, url: URL): boolean {
  const location = headerValue(rawHeaders, 'location')
  const isRedirect = (request.method === 'GET' ? redirectsOfGet : redirects).has(status)
  if (!isRedirect || location === undefined) return false
  // A server builds its own address from the Host that it was asked by, which may be the client's.
  const host = headerValue(request.headers, 'host') ?? url.host
  const target = URL.parse(location, `${url.protocol}//${host}${request.path}`)
  return target?.pathname === path && (target.host === host.toLowerCase() || target.host === url.host)
}
