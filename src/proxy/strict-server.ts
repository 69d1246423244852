import {
  type IncomingMessage,
  type RequestListener,
  STATUS_CODES,
  type Server,
  ServerResponse,
  createServer,
} from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { defaults } from '../defaults.ts'
import { KnownError } from '../errors.ts'
import { hostnameOf } from './guard.ts'
import { sendWhole, statusOf } from './replies.ts'

/** What still comes from the client is read for so long, or it could lose the answer (RFC 9112 §9.6). */
const lingerBytes = 1024 * 1024
const lingerIdleMs = 5000

export interface Refusals {
  /** The body, in JSON, that tells a client of this listener about an error. */
  readonly bodyOf: (error: KnownError) => string
  readonly onRefused: (error: KnownError) => void
}

/**
 * A server that answers whatever is no request of HTTP with an error of ours, and hands on all else: what Node's parser
 * refuses, for which Node has a bare 400; what it lets pass though the protocol forbids it; and CONNECT, at which Node
 * closes the connection without a word. An `Expect` that nobody knows is none (RFC 9110 §10.1.1), where Node has 417.
 */
export function strictServer(handle: RequestListener, { bodyOf, onRefused }: Refusals): Server {
  const isHost = hostCheck()
  const answer: RequestListener = (incoming, outgoing) => {
    const problem = problemOf(incoming, isHost)
    if (problem === undefined && isForServer(incoming)) return void outgoing.writeHead(204).end()
    if (problem === undefined) return handle(incoming, outgoing)
    const refusal = new KnownError('malformed_request', problem)
    onRefused(refusal)
    sendWhole(incoming, outgoing, { status: statusOf(refusal.code), headers: closing, body: bodyOf(refusal) })
  }
  const end = (socket: Duplex, refusal: KnownError) => {
    onRefused(refusal)
    endWith(socket, responseOf(refusal, bodyOf(refusal)))
  }
  // The parser's own check for a Host would answer with a bare 400.
  const server = createServer({ maxHeaderSize: defaults.http.maxHeaderBytes, requireHostHeader: false }, answer)
  server.on('checkExpectation', answer)
  server.on('connect', (_incoming, socket) => {
    socket.on('error', () => undefined)
    socket.resume()
    end(socket, new KnownError('malformed_request', 'CONNECT asks for a tunnel, and this is no proxy for others'))
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (!(socket instanceof Socket) || socket.destroyed) return
    // It has its answer, and goes on sending.
    if (!socket.writable) return void (socket.bytesRead > lingerBytes && socket.destroy())
    const refusal = refusalOf(error)
    if (!refusal) return void socket.destroy()
    if (isAnswering(socket)) endWith(socket)
    else end(socket, refusal)
  })
  return server
}

const closing = { connection: 'close' }

/** Ends the connection behind what was written to it. */
function endWith(socket: Duplex, last?: string): void {
  if (socket instanceof Socket) socket.setTimeout(lingerIdleMs, () => socket.destroy())
  socket.end(last)
}

/**
 * What the parser lets pass, and every server has to refuse or could misread. More than one Host, none (but of HTTP/1.0,
 * as many health checks still have it), or an invalid one: RFC 9112 §3.2; it must be that of a whole URL as target: RFC 9112 §3.2.2; a transfer coding besides chunked,
 * which would reach the server undone: RFC 9112 §6.1.
 */
function problemOf(incoming: IncomingMessage, isHost: (host: string) => boolean): string | undefined {
  const { headers, rawHeaders, httpVersion, url = '' } = incoming
  const { host } = headers
  if (host === undefined && httpVersion !== '1.0') return 'there is no Host header'
  if (isRepeated(rawHeaders, 'host')) return 'there is more than one Host header'
  if (host !== undefined && !isHost(host)) return `the Host header "${host}" is none`
  if (!url.startsWith('/') && !isForServer(incoming) && !isAtHost(url, host ?? ''))
    return `the target "${url}" is no path, and no URL at "${host}"`
  const coding = headers['transfer-encoding']
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') return `the transfer coding "${coding}" is unknown`
  return undefined
}

/** `OPTIONS *` asks nothing of any path; it shows whether there is a server of HTTP (RFC 9110 §9.3.7). */
function isForServer({ method, url }: IncomingMessage): boolean {
  return url === '*' && method === 'OPTIONS'
}

function isRepeated(rawHeaders: readonly string[], name: string): boolean {
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.length === name.length && rawHeaders[i]?.toLowerCase() === name) count++
  }
  return count > 1
}

/** Whether a Host header is one of HTTP. Nearly all requests have that of the one before them. */
function hostCheck(): (host: string) => boolean {
  let last = ''
  return (host) => {
    if (host === last) return host !== ''
    if (hostnameOf(host) === undefined || !URL.canParse(`http://${host}/`)) return false
    last = host
    return true
  }
}

function isAtHost(target: string, host: string): boolean {
  const [scheme] = /^https?:\/\//i.exec(target) ?? []
  return scheme !== undefined && URL.parse(target)?.host === URL.parse(scheme + host)?.host
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

function responseOf(refusal: KnownError, body: string): string {
  const status = statusOf(refusal.code)
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}
