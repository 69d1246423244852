/** JSON-RPC over HTTP by hand, for what official clients hide: ids, statuses, every single message. */
import { type IncomingMessage, request } from 'node:http'

export type Message = Readonly<Record<string, unknown>>

/** One answer to a POST, with its messages in the order they came. */
export interface PostAnswer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** The JSON body, or every `data` of the event stream. */
  readonly messages: readonly Message[]
}

/** A POST under way. */
export interface OpenPost {
  /** Resolves once the answer has ended; rejects when the connection broke first. */
  readonly done: Promise<PostAnswer>
  /** What has come so far. */
  readonly messages: () => readonly Message[]
  /** Closes the connection. */
  readonly disconnect: () => void
}

/** POSTs one message on a connection of its own. */
export function openPost(url: string, message: unknown, headers: Readonly<Record<string, string>> = {}): OpenPost {
  let body = ''
  let type = ''
  const outgoing = request(url, {
    method: 'POST',
    agent: false,
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
  })
  const done = new Promise<PostAnswer>((resolve, reject) => {
    outgoing.once('error', reject)
    outgoing.once('response', (incoming) => {
      type = incoming.headers['content-type'] ?? ''
      incoming.setEncoding('utf8')
      incoming.on('data', (text: string) => (body += text))
      incoming.once('error', reject)
      incoming.once('end', () => {
        const status = incoming.statusCode ?? 0
        resolve({ status, headers: incoming.headers, body, messages: messagesOf(type, body) })
      })
    })
  })
  done.catch(() => undefined) // Whoever disconnects need not wait for it.
  outgoing.end(typeof message === 'string' ? message : JSON.stringify(message))
  return { done, messages: () => messagesOf(type, body), disconnect: () => outgoing.destroy() }
}

/** POSTs one message and waits for the whole answer. */
export function post(
  url: string,
  message: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<PostAnswer> {
  return openPost(url, message, headers).done
}

function messagesOf(type: string, body: string): Message[] {
  if (type.startsWith('text/event-stream')) {
    const whole = body.split('\n\n').slice(0, -1)
    return whole.flatMap((event) => {
      const data = event.split('\n').filter((line) => line.startsWith('data:'))
      const text = data.map((line) => line.slice(5).trimStart()).join('\n')
      return text === '' ? [] : [parsed(text)]
    })
  }
  return body === '' || !type.startsWith('application/json') ? [] : [parsed(body)]
}

function parsed(text: string): Message {
  return JSON.parse(text) as Message
}

const modernVersion = '2026-07-28'
const modernMeta = {
  'io.modelcontextprotocol/protocolVersion': modernVersion,
  'io.modelcontextprotocol/clientInfo': { name: 'by-hand', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}

export interface ModernRequest {
  readonly id: number | string
  readonly method: string
  readonly params?: Readonly<Record<string, unknown>>
  readonly meta?: Readonly<Record<string, unknown>>
}

/** A request of revision 2026-07-28 and the headers that mirror it (Streamable HTTP, "Standard Request Headers"). */
export function modernRequest({ id, method, params = {}, meta = {} }: ModernRequest): {
  readonly message: Message
  readonly headers: Readonly<Record<string, string>>
} {
  const { name } = params
  return {
    message: { jsonrpc: '2.0', id, method, params: { ...params, _meta: { ...modernMeta, ...meta } } },
    headers: {
      'mcp-protocol-version': modernVersion,
      'mcp-method': method,
      ...(typeof name === 'string' && { 'mcp-name': name }),
    },
  }
}

/** POSTs a request of revision 2026-07-28 on a connection of its own. */
export function modernPost(url: string, request: ModernRequest): OpenPost {
  const { message, headers } = modernRequest(request)
  return openPost(url, message, headers)
}

/** `initialize` as a client of revision 2025-11-25 sends it. */
export const initializeMessage = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'by-hand', version: '1' } },
} as const

/** Opens a legacy session; its id, and the headers that every later request needs. */
export async function openSession(url: string): Promise<Readonly<Record<string, string>>> {
  const answer = await post(url, initializeMessage)
  const id = answer.headers['mcp-session-id']
  if (typeof id !== 'string') throw new Error(`no session: ${answer.status} ${answer.body}`)
  const headers = { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }
  await post(url, { jsonrpc: '2.0', method: 'notifications/initialized' }, headers)
  return headers
}
