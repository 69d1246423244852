import { type Server, STATUS_CODES, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { errorMessageFor, statusOf } from './replies.ts'

/** What still comes from the client is read for so long, or it could lose the answer (RFC 9112 §9.6). */
const lingerBytes = 1024 * 1024
const lingerIdleMs = 5000

/**
 * What Node's parser refuses never becomes a request, so nobody else answers it: the error of ours is written to the
 * connection itself, which closes then.
 */
export function answerMalformed(server: Server, onRefused: (error: KnownError) => void): void {
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (!(socket instanceof Socket) || socket.destroyed) return
    // It has its answer, and goes on sending.
    if (!socket.writable) return void (socket.bytesRead > lingerBytes && socket.destroy())
    const refusal = isAnswering(socket) ? undefined : refusalOf(error)
    if (!refusal) return void socket.destroy()
    onRefused(refusal)
    socket.setTimeout(lingerIdleMs, () => socket.destroy())
    socket.end(responseOf(refusal))
  })
}

/** Whether bytes of an answer are on the connection. Node's own handler finds out in this way; there is no public one. */
function isAnswering(socket: Socket): boolean {
  const current: unknown = Reflect.get(socket, '_httpMessage')
  return current instanceof ServerResponse && current.headersSent
}

/** Undefined where nobody is left to be answered, or nothing was asked in time. */
function refusalOf({ code = '', message }: NodeJS.ErrnoException): KnownError | undefined {
  if (!code.startsWith('HPE_')) return undefined
  if (code !== 'HPE_HEADER_OVERFLOW') return new KnownError('malformed_request', `no HTTP request: ${message}`)
  return new KnownError('headers_too_large', `the headers are longer than ${defaults.http.maxHeaderBytes} bytes`)
}

function responseOf(refusal: KnownError): string {
  const status = statusOf(refusal.code)
  const body = errorMessageFor(refusal, undefined)
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}
