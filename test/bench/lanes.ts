import { get } from 'node:http'
import { type Socket, connect } from 'node:net'
import { SseMessageReader } from '../../src/wire/sse.ts'
import type { Lane } from './load.ts'
import { type Answer, ResponseReader } from './response-reader.ts'

/** A POST as it goes on the wire, over and over. */
export interface Post {
  readonly url: URL
  readonly headers: readonly string[]
  readonly body: string
}

function wireBytes({ url, headers, body }: Post): Buffer {
  const lines = [
    `POST ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    'Content-Type: application/json',
    'Accept: application/json, text/event-stream',
    ...headers,
    `Content-Length: ${Buffer.byteLength(body)}`,
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`)
}

/** A connection on which the same POST is answered again and again, in JSON or by an event stream that ends. */
export async function postLane(
  post: Post,
  { isWhole, fail }: { readonly isWhole: (answer: Answer) => boolean; readonly fail: (error: Error) => void },
): Promise<Lane> {
  const request = wireBytes(post)
  let answered = () => undefined as void
  const socket = await openSocket(post.url, fail)
  const reader = new ResponseReader((answer) => {
    if (isWhole(answer)) answered()
    else fail(new Error(`answered ${answer.status} with ${answer.bodyBytes} bytes`))
  })
  socket.on('data', (data: Buffer) => {
    try {
      reader.push(data)
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)))
    }
  })
  return {
    call: (done) => {
      answered = done
      socket.write(request)
    },
    close: () => socket.destroy(),
  }
}

/** A client of HTTP+SSE: it posts to one address, and every answer comes on one stream. */
export class SseClient {
  readonly #waiting = new Map<number, (message: string) => void>()
  #messagesUrl = new URL('http://localhost')

  /** Resolves when the stream has said where to post; rejects when it cannot be opened. */
  open(url: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const reader = new SseMessageReader({
        maxBytes: 16 * 1024 * 1024,
        onMessage: ({ type, data }) => {
          if (type !== 'endpoint') return this.#heard(data)
          this.#messagesUrl = new URL(data.toString(), url)
          resolve()
        },
        onTooLarge: () => undefined,
      })
      const stream = get(url, { headers: { accept: 'text/event-stream' } }, (response) => {
        response.on('data', (chunk: Buffer) => reader.push(chunk))
        response.on('close', () => reject(new Error(`${url} closed the stream`)))
      })
      stream.on('error', reject)
    })
  }

  #heard(data: Buffer): void {
    const message = data.toString()
    const id = idOf(message)
    const done = id === undefined ? undefined : this.#waiting.get(id)
    if (id === undefined || !done) return
    this.#waiting.delete(id)
    done(message)
  }

  /** Sends one message; resolves with its answer, or with nothing if it has no id. */
  async send(body: string): Promise<string> {
    const id = idOf(body)
    const answered = new Promise<string>((resolve) => (id === undefined ? resolve('') : this.#waiting.set(id, resolve)))
    const headers = { 'content-type': 'application/json' }
    await fetch(this.#messagesUrl, { method: 'POST', headers, body })
    return answered
  }

  /** A connection for requests of that id. */
  async lane(id: number, { body, fail }: { readonly body: string; fail: (error: Error) => void }): Promise<Lane> {
    const isWhole = ({ status }: Answer) => status === 200 || status === 202
    const lane = await postLane({ url: this.#messagesUrl, headers: [], body }, { isWhole, fail })
    return {
      call: (done) => {
        this.#waiting.set(id, () => done())
        lane.call(() => undefined)
      },
      close: () => lane.close(),
    }
  }
}

function idOf(message: string): number | undefined {
  return (JSON.parse(message) as { readonly id?: number }).id
}

function openSocket({ hostname, port }: URL, fail: (error: Error) => void): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => resolve(socket))
    socket.once('error', fail)
    socket.once('end', () => fail(new Error('closed a connection in mid-round')))
  })
}
