/** The client side of HTTP+SSE (2024-11-05) by hand: one stream, POSTs, and every message in the order it came. */
import { type IncomingMessage, request } from 'node:http'
import { SseMessageReader } from '../../src/wire/sse.ts'
import { Changes } from './raw-http.ts'
import { type Message, type PostAnswer, post } from './rpc.ts'

export interface SseClient {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  /** The path that the `endpoint` event named; empty when none came. */
  readonly endpoint: string
  /** The text of each message so far. */
  readonly texts: readonly string[]
  isEnded(): boolean
  post(message: unknown, headers?: Readonly<Record<string, string>>): Promise<PostAnswer>
  /** POSTs a request and waits for the message on the stream that answers it. */
  ask(message: Message, headers?: Readonly<Record<string, string>>): Promise<Message>
  until<T>(check: () => T | undefined | false): Promise<T>
  /** Stops reading the stream. */
  pause(): void
  resume(): void
  close(): void
}

/** Opens a stream; resolves once its first event is here, or the answer is something else. */
export function openSse(url: string, headers: Readonly<Record<string, string>> = {}): Promise<SseClient> {
  const changes = new Changes()
  const texts: string[] = []
  let endpoint = ''
  let isEnded = false
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent: false, headers: { accept: 'text/event-stream', ...headers } })
    outgoing.on('error', reject)
    outgoing.once('response', (incoming) => {
      const send = (message: unknown, more: Readonly<Record<string, string>> = {}) =>
        post(new URL(endpoint, url).href, message, { ...headers, ...more })
      const client = (): SseClient => ({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        endpoint,
        texts,
        isEnded: () => isEnded,
        post: send,
        ask: async (message, more) => {
          const { status, body } = await send(message, more)
          if (status !== 202) throw new Error(`${status} ${body}`)
          return changes.until(() => texts.map(parsed).find((one) => one.id === message.id && !('method' in one)))
        },
        until: (check) => changes.until(check),
        pause: () => void incoming.pause(),
        resume: () => void incoming.resume(),
        close: () => outgoing.destroy(),
      })
      const reader = new SseMessageReader({
        maxBytes: 64 * 1024 * 1024,
        onMessage: ({ type, data }) => {
          if (type !== 'endpoint') texts.push(data.toString())
          else {
            endpoint = data.toString()
            resolve(client())
          }
        },
        onTooLarge: () => undefined,
      })
      incoming.on('data', (chunk: Buffer) => {
        reader.push(chunk)
        changes.notify()
      })
      incoming.on('error', () => undefined)
      incoming.on('close', () => {
        isEnded = true
        resolve(client())
        changes.notify()
      })
    })
    outgoing.end()
  })
}

function parsed(text: string): Message {
  return JSON.parse(text) as Message
}
