import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { type Socket, isIP } from 'node:net'
import type { buildConnector } from 'undici'
import makeConnector from 'undici/lib/core/connect.js'
import { KnownError } from '../errors.ts'
import { readMemory } from './read-memory.ts'
import type { TlsSettings } from './upstream.ts'

export interface ConnectOptions {
  readonly url: URL
  readonly connectTimeoutMs: number
  readonly tls?: TlsSettings | undefined
  /** Where to ask for a tunnel to the server; undefined connects to it directly. */
  readonly tunnel?: URL | undefined
}

/**
 * Opens connections to one server. The certificate is checked against the name in the URL, or the configured one: left
 * to itself, undici would check it against whatever a client put into its `Host` header.
 */
export function connector({ url, connectTimeoutMs, tls = {}, tunnel }: ConnectOptions): buildConnector.connector {
  const servername = serverNameOf(url, tls)
  if (url.protocol === 'http:') return plainConnector(connectTimeoutMs, servername)
  const { ca, cert, key } = tls
  const connect = makeConnector({
    timeout: connectTimeoutMs,
    allowH2: false,
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  })
  if (!tunnel) return (options, done) => connect({ ...options, servername }, done)
  return (options, done) => {
    openTunnel({
      proxy: tunnel,
      authority: authorityOf(url),
      timeoutMs: connectTimeoutMs,
      onOpen: (httpSocket) => connect({ ...options, servername, httpSocket }, done),
      onFail: (error) => done(error, null),
    })
  }
}

function plainConnector(timeout: number, servername: string): buildConnector.connector {
  return (options, done) => {
    // Nothing is read before the connection is there.
    let socket: Socket | null = null
    const onread = readMemory.onread((chunk) => socket?.push(chunk) === true)
    makeConnector({ timeout, allowH2: false, onread })({ ...options, servername }, (...connected) => {
      socket = connected[1]
      done(...connected)
    })
  }
}

/** The name that TLS asks for and checks; an address has none (RFC 6066 §3), so it is empty then. */
export function serverNameOf({ hostname }: URL, tls: TlsSettings = {}): string {
  return tls.servername ?? (isIP(hostname.replace(/^\[|\]$/g, '')) === 0 ? hostname : '')
}

/** What a proxy is told about who we are; nothing when its URL names nobody. */
export function proxyAuthorization({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined
  const credentials = `${decoded(username)}:${decoded(password)}`
  return `Basic ${Buffer.from(credentials).toString('base64')}`
}

/** A percent sign that begins no escape stands for itself, as curl has it. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function authorityOf({ hostname, port, protocol }: URL): string {
  return `${hostname}:${port === '' ? (protocol === 'https:' ? 443 : 80) : port}`
}

interface TunnelOptions {
  readonly proxy: URL
  readonly authority: string
  readonly timeoutMs: number
  readonly onOpen: (socket: Socket) => void
  /** Hears `upstream_refused`, once. */
  readonly onFail: (error: KnownError) => void
}

/** Asks a proxy for a tunnel (RFC 9110 §9.3.6). */
function openTunnel({ proxy, authority, timeoutMs, onOpen, onFail }: TunnelOptions): void {
  const authorization = proxyAuthorization(proxy)
  const isTls = proxy.protocol === 'https:'
  let isOver = false
  const fail = (why: string, cause?: Error) => {
    if (isOver) return
    isOver = true
    onFail(new KnownError('upstream_refused', `proxy ${proxy.host}: ${why}`, { cause }))
  }
  const asking = (isTls ? httpsRequest : httpRequest)({
    host: proxy.hostname.replace(/^\[|\]$/g, ''),
    port: proxy.port === '' ? (isTls ? 443 : 80) : proxy.port,
    method: 'CONNECT',
    path: authority,
    headers: { host: authority, ...(authorization !== undefined && { 'proxy-authorization': authorization }) },
    agent: false,
    timeout: timeoutMs,
  })
  asking.once('connect', ({ statusCode = 0 }, socket) => {
    // The tunnel itself is as silent as the streams in it.
    socket.setTimeout(0)
    if (statusCode >= 200 && statusCode < 300) return onOpen(socket)
    socket.destroy()
    fail(`it answered ${statusCode} to CONNECT ${authority}`)
  })
  asking.once('timeout', () => asking.destroy(new Error(`no tunnel to ${authority} within ${timeoutMs / 1000} s`)))
  asking.on('error', (error) => fail(error.message, error))
  asking.end()
}
