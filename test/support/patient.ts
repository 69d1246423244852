/** An MCP server of our own for all transports, which falls ill when it is told to. */
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import { type Message, listenOn, result, rpcError, sendJson, stopped } from './mcp-server.ts'

/** What it does from now on with every message; `late` and `silent_once` with the next heartbeat alone, `slow` with each. */
export type Ailment = 'silent' | 'silent_once' | 'late' | 'slow' | 'http_error' | 'garbage' | 'unauthorized'

export interface Patient {
  readonly era: 'legacy' | 'modern'
  /** `fails` is HTTP 500, and `swallowed` 202 without an answer, where there is HTTP. */
  readonly ping: 'answered' | 'unsupported' | 'silent' | 'fails' | 'swallowed'
  readonly tools: () => readonly string[]
  ailment: Ailment | undefined
  /** After how long `late` and `slow` answer; 4 s unless given. */
  readonly lateMs?: number
  /** How long it takes for each answer; no time unless given. */
  readonly answerMs?: number
  /** Its tools that keep its only thread for so many seconds. */
  readonly blocking?: Readonly<Record<string, (seconds: number) => void>>
  /** It answers `initialize` with a JSON-RPC error, and lets nobody in. */
  readonly refusesInitialize?: boolean
  /** Hears of each heartbeat that was left unanswered. */
  readonly onSilence?: () => void
}

/** How a message is answered on its transport. */
interface Way {
  readonly answer: (body: object) => void
  readonly garble: () => void
  /** Undefined where there is no HTTP, as is the next. */
  readonly refuse?: (status: number) => void
  /** 202, and nothing else. */
  readonly swallow?: () => void
}

const heartbeats: ReadonlySet<string | undefined> = new Set(['ping', 'server/discover'])

/** Answers one message as its health allows. */
export function treat(patient: Patient, message: Message, way: Way): void {
  const isHeartbeat = heartbeats.has(message.method)
  const say = () => {
    if (isFailing(patient, message)) return way.refuse?.(500)
    if (message.method === 'ping' && patient.ping === 'swallowed') return way.swallow?.()
    const body = answerOf(patient, message)
    if (body) way.answer(body)
  }
  const properly = patient.answerMs === undefined ? say : () => void setTimeout(say, patient.answerMs)
  const afterwards = () => void setTimeout(properly, patient.lateMs ?? 4000)
  switch (patient.ailment) {
    case 'silent':
      return
    case 'silent_once':
    case 'late':
      if (!isHeartbeat) return properly()
      if (patient.ailment === 'late') afterwards()
      patient.ailment = undefined
      return patient.onSilence?.()
    case 'slow':
      return isHeartbeat ? afterwards() : properly()
    case 'http_error':
      return way.refuse?.(500)
    case 'unauthorized':
      return way.refuse?.(401)
    case 'garbage':
      return way.garble()
    case undefined:
      return properly()
  }
}

/** Whether it answers this message by an error of HTTP, ill or not. */
function isFailing({ ailment, ping }: Patient, { method }: Message): boolean {
  return ailment === 'http_error' || (method === 'ping' && ping === 'fails')
}

function answerOf(patient: Patient, message: Message): object | undefined {
  const { era, ping, tools, blocking = {}, refusesInitialize } = patient
  const { id, method = '', params } = message
  if (method === 'tools/call') return called(blocking, message)
  if (method === 'initialize' && refusesInitialize) return rpcError(id, -32_603, 'no licence')
  if (id === undefined || (method === 'ping' && ping === 'silent')) return undefined
  const capabilities = { tools: {} }
  const serverInfo = { name: 'patient', version: '1.0.0' }
  const listed = [...tools(), ...Object.keys(blocking)].map((name) => ({ name, inputSchema: { type: 'object' } }))
  const legacy: Readonly<Record<string, object>> = {
    initialize: { protocolVersion: params?.protocolVersion, capabilities, serverInfo },
    'tools/list': { tools: listed },
    ...(ping === 'answered' && { ping: {} }),
  }
  const modern: Readonly<Record<string, object>> = {
    'server/discover': { resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities, ttlMs: 0 },
    'tools/list': { resultType: 'complete', tools: listed },
  }
  const known = (era === 'modern' ? modern : legacy)[method]
  return known ? result(message, known) : rpcError(id, -32_601, 'no such method')
}

function called(blocking: NonNullable<Patient['blocking']>, message: Message): object {
  const { name, arguments: given } = message.params as { name: string; arguments: { readonly seconds: number } }
  const block = blocking[name]
  if (!block) return rpcError(message.id, -32_602, 'no such tool')
  block(given.seconds)
  return result(message, { resultType: 'complete', content: [{ type: 'text', text: `${name} is done` }] })
}

/** Streamable HTTP at `/mcp` and HTTP+SSE at `/sse`. */
export async function patientServer(patient: Patient, port = 0) {
  const streams = new Map<string, ServerResponse>()
  const http = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => react(body === '' ? undefined : (JSON.parse(body) as Message), request, response))
  })
  const react = (message: Message | undefined, request: IncomingMessage, response: ServerResponse) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://patient')
    const refuse = (status: number) => void response.writeHead(status, { 'www-authenticate': 'Bearer' }).end('no')
    if (!message) {
      if (request.method !== 'GET' || pathname !== '/sse') return refuse(405)
      return openStream(patient, streams, response, refuse)
    }
    if (pathname === '/mcp') {
      const garble = () => void response.writeHead(200, { 'content-type': 'application/json' }).end('<garbage>')
      const swallow = () => void response.writeHead(202).end()
      if (message.id === undefined) return swallow()
      return treat(patient, message, { answer: (body) => sendJson(response, 200, body), garble, refuse, swallow })
    }
    const stream = streams.get(searchParams.get('session') ?? '')
    if (!stream) return refuse(404)
    const say = (text: string) => void stream.write(`event: message\ndata: ${text}\n\n`)
    if (!isFailing(patient, message) && patient.ailment !== 'unauthorized') response.writeHead(202).end()
    treat(patient, message, { answer: (body) => say(JSON.stringify(body)), garble: () => say('<garbage>'), refuse })
  }
  const origin = `http://127.0.0.1:${await listenOn(http, port)}`
  return { origin, stop: () => stopped(http) }
}

function openStream(
  { ailment }: Patient,
  streams: Map<string, ServerResponse>,
  response: ServerResponse,
  refuse: (status: number) => void,
): void {
  if (ailment === 'silent') return
  if (ailment === 'http_error') return refuse(500)
  if (ailment === 'unauthorized') return refuse(401)
  const session = String(streams.size)
  streams.set(session, response)
  const text = ailment === 'garbage' ? 'data: <garbage>\n\n' : `event: endpoint\ndata: /messages?session=${session}\n\n`
  response.writeHead(200, { 'content-type': 'text/event-stream' }).write(text)
}
