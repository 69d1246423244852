import type { Clock } from '../clock.ts'
import { KnownError } from '../errors.ts'
import type { HttpExchange, HttpRequest, HttpResponseHandler, ResponseHead } from './http.ts'

/** A response that is small enough to be held as a whole. */
export interface WholeResponse extends ResponseHead {
  readonly body: Buffer
}

export interface WholeOptions {
  readonly clock: Clock
  /** For all of it: connecting, waiting and receiving. */
  readonly timeoutMs: number
  readonly maxBytes: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Sends a request and waits for all of its answer. Rejects with a `KnownError`: `upstream_timeout`, `upstream_invalid`
 * for one that is too long, `cancelled` by the signal, or what the connection says.
 */
export function receiveWhole(
  send: (request: HttpRequest, handler: HttpResponseHandler) => HttpExchange,
  request: HttpRequest,
  { clock, timeoutMs, maxBytes, signal }: WholeOptions,
): Promise<WholeResponse> {
  return new Promise((resolve, reject) => {
    let head: ResponseHead | undefined
    const chunks: Buffer[] = []
    let bytes = 0
    const finish = (tell: () => void) => {
      timer.cancel()
      signal?.removeEventListener('abort', cancel)
      tell()
    }
    const give = (error: KnownError) => {
      exchange.abort()
      finish(() => reject(error))
    }
    const cancel = () => give(new KnownError('cancelled', `${request.method} ${request.path} was cancelled`))
    const timer = clock.after(timeoutMs, () =>
      give(new KnownError('upstream_timeout', `${request.path} was not answered within ${timeoutMs / 1000} s`)),
    )
    const exchange = send(request, {
      onStart: (started) => {
        head = started
      },
      onData: (chunk) => {
        bytes += chunk.length
        if (bytes <= maxBytes) chunks.push(chunk)
        else give(new KnownError('upstream_invalid', `${request.path} is longer than ${maxBytes} bytes`))
      },
      onEnd: () =>
        finish(() => {
          if (head) resolve({ ...head, body: Buffer.concat(chunks) })
          else reject(new KnownError('upstream_closed', `${request.path} ended before it began`))
        }),
      onError: (error) => finish(() => reject(error)),
    })
    signal?.addEventListener('abort', cancel)
    if (signal?.aborted) cancel()
  })
}
