import type { Clock } from '../clock.ts'
import type { KnownError } from '../errors.ts'
import { Attempts, type Send, isRepeatable } from './attempts.ts'

export interface PatienceOptions {
  readonly clock: Clock
  /** Whether the server is on its way: its process runs, and nobody has reached it yet. */
  readonly isStarting: () => boolean
  readonly patienceMs: number
  readonly retryMs: number
}

/**
 * Waits for a server that is only starting: a request that it refused to connect for was not delivered, so it goes out
 * again, unless its body is no longer at hand. One that is late with its port costs its clients a moment, no error.
 */
export function patient(send: Send, { clock, isStarting, patienceMs, retryMs }: PatienceOptions): Send {
  return (request, handler) => {
    if (!isRepeatable(request)) return send(request, handler)
    const untilMs = clock.now() + patienceMs
    const attempts = new Attempts()
    const failed = (error: KnownError) => {
      const isUndelivered = error.code === 'upstream_refused'
      if (!isUndelivered || !isStarting() || clock.now() + retryMs > untilMs) return handler.onError(error)
      attempts.later(clock.after(retryMs, attempt))
    }
    const attempt = () =>
      attempts.next(() =>
        send(request, {
          onStart: (head) => handler.onStart(head),
          onData: (chunk) => handler.onData(chunk),
          onEnd: () => handler.onEnd(),
          onError: failed,
        }),
      )
    attempt()
    return attempts
  }
}
