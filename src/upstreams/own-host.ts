import { headerValue } from '../wire/headers.ts'
import { Attempts, type Send, headed, isRepeatable } from './attempts.ts'
import type { HttpRequest, ResponseHead } from './http.ts'

/**
 * Lets clients' `Host` through to a server on this machine, unless it takes only its own: then everything that clients
 * ask is 403, as the check of the SDK against DNS rebinding has it whose `allowedHosts` name a port. As long as nothing
 * but 403 came for a client's `Host`, a request that meets it goes out once more with the server's own: it was not acted
 * upon. If that is answered otherwise, all others have it at once. It loses nothing: our own listener has checked the
 * client's `Host` already.
 */
export function withFittingHost(send: Send, { host }: URL): Send {
  let fits: 'unknown' | 'own' | 'client' = 'unknown'
  return (request, handler) => {
    const asked = headerValue(request.headers, 'host')
    if (asked === undefined || asked === host || fits === 'client') return send(request, handler)
    if (fits === 'own') return send(named(request, host), handler)
    const attempts = new Attempts()
    const second = (head: ResponseHead) => {
      // Another 403 may be about rights, and says nothing of the Host.
      if (isTaken(head)) fits = 'own'
      handler.onStart(head)
    }
    const first = (head: ResponseHead) => {
      if (head.status !== 403) fits = 'client'
      if (head.status !== 403 || !isRepeatable(request)) return handler.onStart(head)
      attempts.next(() => send(named(request, host), headed(handler, second)))
    }
    attempts.next(() => send(request, headed(handler, first)))
    return attempts
  }
}

/** The server speaks to whoever names it so, be it to ask for credentials. */
function isTaken({ status }: ResponseHead): boolean {
  return status < 400 || status === 401
}

function named(request: HttpRequest, host: string): HttpRequest {
  const headers = request.headers.map((part, index) =>
    index % 2 === 1 && request.headers[index - 1]?.toLowerCase() === 'host' ? host : part,
  )
  return { ...request, headers }
}
