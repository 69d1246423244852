import { headerValue } from '../wire/headers.ts'
import { Attempts, type Send, headed, isRepeatable } from './attempts.ts'
import type { HttpRequest, ResponseHead } from './http.ts'

/**
 * Lets clients' `Host` through to a server on this machine, unless it takes only its own: then everything that clients
 * ask is 403, as the check of the SDK against DNS rebinding has it whose `allowedHosts` name a port. A request that meets
 * it was not acted upon, so it goes out once more with the server's own host, and if that helps all others have it at
 * once. It loses nothing: our own listener has checked the client's `Host` already.
 */
export function withFittingHost(send: Send, { host }: URL): Send {
  let fits: 'unknown' | 'own' | 'either' = 'unknown'
  return (request, handler) => {
    const asked = headerValue(request.headers, 'host')
    if (asked === undefined || asked === host || fits === 'either') return send(request, handler)
    if (fits === 'own') return send(named(request, host), handler)
    if (!isRepeatable(request)) return send(request, handler)
    const attempts = new Attempts()
    const second = (head: ResponseHead) => {
      fits = head.status === 403 ? 'either' : 'own'
      handler.onStart(head)
    }
    const first = (head: ResponseHead) => {
      if (head.status !== 403) return handler.onStart(head)
      attempts.next(() => send(named(request, host), headed(handler, second)))
    }
    attempts.next(() => send(request, headed(handler, first)))
    return attempts
  }
}

function named(request: HttpRequest, host: string): HttpRequest {
  const headers = request.headers.map((part, index) =>
    index % 2 === 1 && request.headers[index - 1]?.toLowerCase() === 'host' ? host : part,
  )
  return { ...request, headers }
}
