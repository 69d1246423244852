import type { Clock } from '../clock.ts'
import { edits, readEnvelope, splice, textAt } from '../wire/envelope.ts'
import { headerNames, headerValue } from '../wire/headers.ts'
import { Attempts, type Send, isRepeatable } from './attempts.ts'
import type { HttpRequest, HttpResponseHandler, ResponseHead } from './http.ts'

/** Our own connection with a server, which may be the only one that it serves. */
export interface OwnPlace {
  /** Whether we hold one that a client could have instead. */
  isHeld(): boolean
  /** Leaves our session to a client; undefined where there is none to be left. */
  handOver(): HandedOver | undefined
  /** Closes it, so that the server may take another one. */
  vacate(): void
}

export interface HandedOver {
  /** Undefined where the server assigned none. */
  readonly sessionId: string | undefined
  /** What the server answered when it was opened. */
  readonly initializeAnswer: Buffer
}

export interface YieldOptions {
  readonly clock: Clock
  /** For how long, and how often, a request is sent again while the server has not noticed yet that we have left. */
  readonly patienceMs: number
  readonly retryMs: number
}

/**
 * Makes way for clients of a server that serves one connection at a time. One that is refused because we hold that
 * connection gets ours: a transport that was initialized once is never initialized again, so it gets our session with
 * the answer that opened it; a server that can connect again is asked once more when we have left.
 */
export function yielding(send: Send, place: OwnPlace, { clock, patienceMs, retryMs }: YieldOptions): Send {
  return (request, handler) => {
    if (!place.isHeld() || !opensConnection(request)) return send(request, handler)
    const attempts = new Attempts()
    let untilMs = Number.NEGATIVE_INFINITY
    const refused = (refusal: Refusal, passOn: () => void) => {
      if (refusal === 'initialized') {
        const left = place.isHeld() ? place.handOver() : undefined
        return left ? answerWith(left, request, handler) : passOn()
      }
      if (place.isHeld()) {
        place.vacate()
        untilMs = clock.now() + patienceMs
      }
      if (clock.now() + retryMs > untilMs) return passOn()
      attempts.later(clock.after(retryMs, attempt))
    }
    const attempt = () => attempts.next(() => send(request, holdingRefusals(handler, refused)))
    attempt()
    return attempts
  }
}

/** How a server says that it has its one connection already. */
export type Refusal = 'initialized' | 'connected'

/** In the words of the official SDK for TypeScript, from which nearly all such servers are made. */
export function refusalIn(body: string): Refusal | undefined {
  if (/server already initialized/i.test(body)) return 'initialized'
  return /already connected to a transport/i.test(body) ? 'connected' : undefined
}

/** Refusals are short; an error with more than this to say is passed on as it comes. */
const maxRefusalBytes = 16 * 1024
/** And so is what opens a session. */
const maxInitializeBytes = 64 * 1024
const initialize = Buffer.from('"initialize"')

/** Whether it begins a session (`initialize` without one) or may begin a stream of HTTP+SSE. */
function opensConnection(request: HttpRequest): boolean {
  const { method, headers, body } = request
  if (!isRepeatable(request) || headerValue(headers, headerNames.sessionId) !== undefined) return false
  if (!Buffer.isBuffer(body)) return method === 'GET'
  const mayBe = method === 'POST' && body.length <= maxInitializeBytes && body.includes(initialize)
  return mayBe && readEnvelope(body)?.method === 'initialize'
}

/** Keeps an error back until it is known whether it is a refusal; whatever else comes passes at once. */
function holdingRefusals(
  handler: HttpResponseHandler,
  onRefused: (refusal: Refusal, passOn: () => void) => void,
): HttpResponseHandler {
  let held: ResponseHead | undefined
  const body: Buffer[] = []
  let bytes = 0
  const release = () => {
    if (!held) return
    handler.onStart(held)
    held = undefined
    for (const chunk of body.splice(0)) handler.onData(chunk)
  }
  return {
    onStart: (head) => {
      if (head.status >= 400) held = head
      else handler.onStart(head)
    },
    onData: (chunk) => {
      if (!held) return handler.onData(chunk)
      body.push(chunk)
      bytes += chunk.length
      if (bytes > maxRefusalBytes) release()
    },
    onEnd: () => {
      const refusal = held && refusalIn(Buffer.concat(body).toString())
      const passOn = () => {
        release()
        handler.onEnd()
      }
      if (refusal) onRefused(refusal, passOn)
      else passOn()
    },
    onError: (error) => {
      release()
      handler.onError(error)
    },
  }
}

/** The server's own answer, under the id of the client's request. */
function answerWith(left: HandedOver, { body }: HttpRequest, handler: HttpResponseHandler): void {
  const { sessionId, initializeAnswer } = left
  const asked = Buffer.isBuffer(body) ? body : Buffer.alloc(0)
  const id = textAt(asked, readEnvelope(asked)?.ranges.id) ?? 'null'
  const message = splice(initializeAnswer, edits([readEnvelope(initializeAnswer)?.ranges.id, id]))
  const session = sessionId === undefined ? [] : [headerNames.sessionId, sessionId]
  handler.onStart({
    status: 200,
    statusText: 'OK',
    rawHeaders: ['content-type', 'application/json', ...session],
  })
  handler.onData(message)
  handler.onEnd()
}
