import { KnownError } from '../../src/errors.ts'
import type { OpenPool } from '../../src/upstreams/endpoint.ts'
import {
  type HttpExchange,
  type HttpRequest,
  type HttpResponseHandler,
  transportError,
} from '../../src/upstreams/http.ts'
import { type Message, answerTo, letsIn } from './answers.ts'
import type { SimulatedServer } from './server.ts'
import type { VirtualTime } from './virtual-time.ts'

export interface ScriptedPoolOptions {
  readonly server: SimulatedServer
  readonly time: VirtualTime
}

/** One response: what comes, and after what time. */
interface Scripted {
  readonly status: number
  readonly headers?: readonly string[]
  readonly body?: string
}

const json = ['content-type', 'application/json']
const unknownSession = '{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}'
const html = ['content-type', 'text/html']

/** As undici tells it. */
class ConnectTimeout extends Error {
  readonly code = 'UND_ERR_CONNECT_TIMEOUT'
  override readonly message = 'Connect Timeout Error'
}

/**
 * The connections to a simulated server behind a URL. Everything above them is the real thing: the prober with its
 * ladder, opening exchanges of both eras, sessions, JSON-RPC, time-outs, reasons. Left out are sockets, TLS and the parser
 * of HTTP, and HTTP+SSE, by which the same prober asks the same.
 */
export function scriptedPool({ server, time }: ScriptedPoolOptions): OpenPool {
  const traits = server.traits()
  let sessions = 0
  /** A server that ended knows none of its sessions. */
  const newSession = () => `${server.ends}-${sessions++}`
  const isKnown = (session: string) => session.startsWith(`${server.ends}-`)

  const respond = ({ method: verb, headers }: HttpRequest, message: Message): Scripted | undefined => {
    const session = headers[headers.indexOf('mcp-session-id') + 1]
    const isNamed = headers.includes('mcp-session-id') && session !== undefined
    if (isNamed && !isKnown(session)) return { status: traits.unknownSession, headers: json, body: unknownSession }
    if (verb === 'DELETE') return { status: 204 }
    if (message.id === undefined) return { status: 202 }
    const isStranger = traits.era === 'legacy' && !isNamed && message.method !== 'initialize'
    const answer = isStranger
      ? { error: { code: -32_000, message: 'Bad Request: Server not initialized' } }
      : answerTo(message, traits)
    if (!answer) return undefined
    if (letsIn(message, answer)) server.opened()
    const isAssigned = message.method === 'initialize' && 'result' in answer
    return {
      status: isStranger ? 400 : 200,
      headers: isAssigned ? [...json, 'mcp-session-id', newSession()] : json,
      body: JSON.stringify({ jsonrpc: '2.0', id: isStranger ? null : message.id, ...answer }),
    }
  }

  return ({ connectTimeoutMs, url }) => ({
    send: (request: HttpRequest, handler: HttpResponseHandler): HttpExchange => {
      const message = messageOf(request)
      if (message.id !== undefined) server.asked(message.method ?? '')
      let isOver = false
      const end = (tell: () => void) => {
        if (isOver) return
        isOver = true
        forget()
        tell()
      }
      const fail = (code: 'upstream_refused' | 'upstream_reset', why: string) =>
        end(() => handler.onError(new KnownError(code, `${url.origin}: ${why}`)))
      const finish = (scripted: Scripted | undefined) => {
        if (isOver || !scripted) return
        const { status, headers = [], body } = scripted
        handler.onStart({ status, statusText: '', rawHeaders: [...headers] })
        if (body !== undefined) handler.onData(Buffer.from(body))
        end(() => handler.onEnd())
      }
      const reply = server.reply(message.id === undefined ? 'notification' : 'request')
      const forget = server.whenItEnds(() => fail('upstream_reset', 'connection reset'))
      const after = (ms: number, run: () => void) => time.at(time.now() + ms, run)
      switch (reply.kind) {
        case 'answer':
          after(reply.afterMs, () => finish(isOver ? undefined : respond(request, message)))
          break
        case 'garbage':
          after(reply.afterMs, () => finish({ status: 200, headers: html, body: '<html>Welcome!</html>' }))
          break
        case 'error':
          after(reply.afterMs, () => finish({ status: 500, headers: html, body: '<html>Sorry.</html>' }))
          break
        case 'locked':
          after(reply.afterMs, () => finish({ status: 401 }))
          break
        case 'refused':
          after(0, () => fail('upstream_refused', 'connect ECONNREFUSED'))
          break
        case 'nothing':
          // Connections are closed long before the next heartbeat, so that it needs a new one.
          after(connectTimeoutMs, () => end(() => handler.onError(transportError(new ConnectTimeout(), url.origin))))
      }
      return { pause: () => undefined, resume: () => undefined, abort: () => end(() => undefined) }
    },
    inUse: () => 0,
    stats: () => ({ active: 0, idle: 0, pending: 0 }),
    close: () => Promise.resolve(),
  })
}

function messageOf({ body }: HttpRequest): Message {
  return Buffer.isBuffer(body) ? JSON.parse(body.toString()) : {}
}
