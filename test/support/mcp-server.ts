import { randomUUID } from 'node:crypto'
import {
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
  createServer,
} from 'node:http'
import type { Server } from 'node:net'
import { systemClock } from '../../src/clock.ts'

/** What of a JSON-RPC message tests look at. */
export interface Message {
  readonly id?: unknown
  readonly method?: string
  readonly params?: Readonly<Record<string, unknown>>
  readonly result?: unknown
  readonly error?: unknown
}

export interface Heard {
  /** `POST ping`, `DELETE`. */
  readonly what: string
  readonly message: Message
  readonly headers: IncomingHttpHeaders
  /** Monotonic, one clock for all servers of a process. */
  readonly atMs: number
}

export type Reaction = (message: Message, response: ServerResponse, request: IncomingMessage) => void

export interface McpServer {
  readonly url: string
  readonly stop: () => Promise<void>
  readonly heard: readonly Heard[]
  /** What it heard, in words. */
  readonly log: () => readonly string[]
  readonly count: (what: string) => number
  /** What it does from now on in place of a proper answer, by method; `*` is every request. */
  readonly reactions: Map<string, Reaction>
  readonly sessions: Set<string>
  tools: readonly string[]
  era: 'legacy' | 'modern' | 'dual'
}

export interface McpServerOptions {
  readonly era?: McpServer['era']
  readonly hasSessions?: boolean
  readonly tools?: readonly string[]
  readonly reactions?: Readonly<Record<string, Reaction>>
  /** A free one unless given. */
  readonly port?: number
  /** Whoever shows another token than this gets 401; absent lets everybody in. */
  readonly token?: () => string
}

/** A JSON-RPC result to this request. */
export function result(message: Message, body: unknown = {}): object {
  return { jsonrpc: '2.0', id: message.id, result: body }
}

/** A JSON-RPC error to this request. */
export function rpcError(id: unknown, code: number, message = 'no'): object {
  return { jsonrpc: '2.0', id, error: { code, message } }
}

/** Sends one JSON body. */
export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

/** Answers with these JSON-RPC messages as one event stream, which stays open when asked to. */
export function sendEvents(response: ServerResponse, messages: readonly object[], isLeftOpen = false): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.flushHeaders()
  for (const message of messages) response.write(`data: ${JSON.stringify(message)}\n\n`)
  if (!isLeftOpen) response.end()
}

/** Takes the request and never answers. */
export const silence: Reaction = () => undefined

/**
 * A Streamable HTTP server that does by the book whatever the test does not say otherwise: like the reference servers,
 * legacy ones answer 400 with `id: null` to a request outside of a session and 404 to one in a session they do not know.
 */
export async function mcpServer(options: McpServerOptions = {}): Promise<McpServer> {
  const heard: Heard[] = []
  const http = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => react(body === '' ? {} : (JSON.parse(body) as Message), response, request))
  })
  const react: Reaction = (message, response, request) => {
    const { method = '' } = request
    heard.push({
      what: `${method} ${message.method ?? ''}`.trim(),
      message,
      headers: request.headers,
      atMs: systemClock.now(),
    })
    const { token } = options
    if (token && request.headers.authorization !== `Bearer ${token()}`) {
      return void response.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
    }
    const reaction = mcp.reactions.get('*') ?? mcp.reactions.get(message.method ?? method)
    if (reaction) reaction(message, response, request)
    else answer(mcp, message, response, request, options.hasSessions ?? true)
  }
  const mcp: McpServer = {
    url: `http://127.0.0.1:${await listenOn(http, options.port ?? 0)}/mcp`,
    stop: () => stopped(http),
    heard,
    log: () => heard.map(({ what }) => what),
    count: (what) => heard.filter((one) => one.what === what).length,
    reactions: new Map(Object.entries(options.reactions ?? {})),
    sessions: new Set(),
    tools: options.tools ?? ['read'],
    era: options.era ?? 'legacy',
  }
  return mcp
}

/** Resolves with the port that it listens on, on loopback. */
export function listenOn(server: Server, port = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
}

/** Closes a server with all its connections. */
export function stopped(server: HttpServer): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

function answer(
  mcp: McpServer,
  message: Message,
  response: ServerResponse,
  request: IncomingMessage,
  hasSessions: boolean,
): void {
  const session = request.headers['mcp-session-id']
  if (request.method === 'DELETE') {
    mcp.sessions.delete(String(session))
    return void response.writeHead(200).end()
  }
  const isModern = request.headers['mcp-protocol-version'] === '2026-07-28'
  const isOpening = message.method === 'initialize'
  if (isModern && mcp.era !== 'legacy') return sendJson(response, 200, modernAnswer(mcp, message))
  if (mcp.era === 'modern')
    return sendJson(response, 400, rpcError(message.id, -32_022, 'unsupported protocol version'))
  if (hasSessions && !isOpening && session === undefined) {
    return sendJson(response, 400, rpcError(null, -32_000, 'Bad Request: Server not initialized'))
  }
  if (hasSessions && !isOpening && !mcp.sessions.has(String(session))) {
    return sendJson(response, 404, rpcError(null, -32_001, 'Session not found'))
  }
  if (message.id === undefined) return void response.writeHead(202).end()
  if (isOpening && hasSessions) {
    const id = randomUUID()
    mcp.sessions.add(id)
    response.setHeader('mcp-session-id', id)
  }
  return sendJson(response, 200, legacyAnswer(mcp, message))
}

function legacyAnswer(mcp: McpServer, message: Message): object {
  const capabilities = mcp.tools.length > 0 ? { tools: {} } : {}
  const results: Readonly<Record<string, object>> = {
    initialize: { protocolVersion: '2025-11-25', capabilities, serverInfo: { name: 's', version: '1' } },
    ping: {},
    'tools/list': { tools: listed(mcp.tools) },
  }
  const known = results[message.method ?? '']
  return known ? result(message, known) : rpcError(message.id, -32_601, 'method not found')
}

function modernAnswer(mcp: McpServer, message: Message): object {
  if (message.method === 'tools/list') return result(message, { resultType: 'complete', tools: listed(mcp.tools) })
  if (message.method !== 'server/discover') return rpcError(message.id, -32_601, 'method not found')
  const capabilities = mcp.tools.length > 0 ? { tools: {} } : {}
  return result(message, { resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities, ttlMs: 60_000 })
}

function listed(names: readonly string[]): object[] {
  return names.map((name) => ({ name, inputSchema: { type: 'object' } }))
}
