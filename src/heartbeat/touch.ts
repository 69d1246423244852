import { type Clock, giveUpAfter } from '../clock.ts'
import { KnownError, errorMessage } from '../errors.ts'
import { type Endpoint, ownHeaders } from '../upstreams/endpoint.ts'
import { headerValue, isEventStream } from '../wire/headers.ts'
import { outcomeOf } from './classify.ts'
import type { ProbeResult } from './probe.ts'

export interface TouchOptions {
  readonly endpoint: Endpoint
  readonly clock: Clock
  readonly deadlineMs: number
  /** What is asked for; the endpoint's own path unless given. */
  readonly path?: string
}

/**
 * Whether there is an HTTP server at the address: any answer below 500 will do. OPTIONS is safe (RFC 9110 §9.2.1) and
 * opens no session; what it says about MCP is nothing.
 */
export async function touch(options: TouchOptions): Promise<ProbeResult> {
  const { clock } = options
  const startedMs = clock.now()
  const result = (outcome: ProbeResult['outcome'], reason: string): ProbeResult => ({
    leg: 'upstream',
    method: 'transport',
    outcome,
    reason,
    durationMs: clock.now() - startedMs,
  })
  try {
    const status = await statusOf(options)
    const reason = `OPTIONS answered with ${status}`
    if (status === 401 || status === 403) return result('unauthorized', reason)
    return result(status < 500 ? 'ok' : 'http_error', reason)
  } catch (error) {
    return result(outcomeOf(error), errorMessage(error))
  }
}

function statusOf({ endpoint, clock, deadlineMs, path }: TouchOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void) => {
      timer.cancel()
      settle()
    }
    const timer = giveUpAfter(clock, deadlineMs, () => {
      exchange.abort()
      reject(new KnownError('upstream_timeout', `no answer within ${Math.round(deadlineMs)} ms`))
    })
    const { pathname, search } = endpoint.url
    const headers = ownHeaders(endpoint, [])
    const request = { method: 'OPTIONS', path: path ?? pathname + search, headers, body: null }
    const exchange = endpoint.send(request, {
      onStart: ({ status, rawHeaders }) => {
        // Whoever takes any method for GET has opened a stream, which would never end.
        if (isEventStream(headerValue(rawHeaders, 'content-type'))) exchange.abort()
        finish(() => resolve(status))
      },
      onData: () => undefined,
      onEnd: () => undefined,
      onError: (error) => finish(() => reject(error)),
    })
  })
}
