/** Clients that open event streams and listen, as cheaply as a client can: a socket and a counter each. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { initializeMessage, post } from '../support/rpc.ts'

/** `http`: the GET stream of a Streamable HTTP session; `sse`: the stream of an HTTP+SSE session. */
export const streamKinds = ['http', 'sse'] as const
export type StreamKind = (typeof streamKinds)[number]

export interface StreamClient {
  /** Whether the other side ended it. */
  isDropped(): boolean
  /** How many comments came on it. */
  comments(): number
  close(): Promise<void>
}

/** Where the two kinds of streams are, on one origin. */
export type StreamUrls = Readonly<Record<StreamKind, string>>

/** As many are being opened or closed at a time; it is not the opening that is measured. */
const atATime = 50

/** Opens that many streams; fails when one cannot be opened. */
export async function openStreams(urls: StreamUrls, kind: StreamKind, count: number): Promise<StreamClient[]> {
  const clients: StreamClient[] = []
  await inBatches(Array.from({ length: count }), async () => {
    clients.push(kind === 'http' ? await openInSession(urls.http) : await openStream(urls.sse, {}))
  })
  return clients
}

/** Closes them all; those of Streamable HTTP end their sessions too. */
export async function closeStreams(clients: readonly StreamClient[]): Promise<void> {
  await inBatches(clients, (client) => client.close())
}

async function inBatches<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values()
  const workers = Array.from({ length: atATime }, async () => {
    for (const item of rest) await work(item)
  })
  await Promise.all(workers)
}

async function openInSession(url: string): Promise<StreamClient> {
  const { status, headers, body } = await post(url, initializeMessage)
  const id = headers['mcp-session-id']
  if (typeof id !== 'string') throw new Error(`${url} opened no session: ${status} ${body}`)
  const stream = await openStream(url, { 'Mcp-Session-Id': id, 'MCP-Protocol-Version': '2025-11-25' })
  const close = async () => {
    await stream.close()
    await fetch(url, { method: 'DELETE', headers: { 'mcp-session-id': id } })
  }
  return { ...stream, close }
}

const comment = Buffer.from('\n: ')

function openStream(url: string, headers: Readonly<Record<string, string>>): Promise<StreamClient> {
  const { hostname, port, host, pathname } = new URL(url)
  const lines = [
    `GET ${pathname} HTTP/1.1`,
    `Host: ${host}`,
    'Accept: text/event-stream',
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ]
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) })
    socket.once('error', reject)
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
    socket.once('data', (head: Buffer) => {
      if (!head.toString('latin1').startsWith('HTTP/1.1 200 ')) return reject(new Error(`${url}: ${head.toString()}`))
      socket.off('error', reject)
      resolve(listen(socket))
    })
  })
}

function listen(socket: Socket): StreamClient {
  let comments = 0
  let isDropped = false
  let isClosing = false
  socket.on('data', (data: Buffer) => {
    if (data.includes(comment)) comments += 1
  })
  socket.on('error', () => undefined) // It closes.
  socket.on('close', () => {
    isDropped = !isClosing
  })
  return {
    isDropped: () => isDropped,
    comments: () => comments,
    close: async () => {
      isClosing = true
      if (socket.closed) return
      const closed = once(socket, 'close')
      socket.destroy()
      await closed
    },
  }
}
