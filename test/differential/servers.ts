/** The server's end of a conversation on each transport, without any library that would touch a message. */
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Changes, bodyOf, listenOnFreePort } from '../support/raw-http.ts'
import { type Arrived, scriptedUpstream } from '../support/scripted-upstream.ts'
import { idsAsked, isCall } from './messages.ts'

export type Transport = 'http' | 'sse' | 'stdio'

/** What the server says: one message, and how an event stream frames it if not as one event. */
export interface Said {
  readonly message: Buffer
  readonly framed?: readonly Buffer[] | undefined
}

export interface Server {
  /** Of `http` and `sse`. */
  readonly url: string
  /** Of `stdio`: the arguments of our own node executable. */
  readonly args: readonly string[]
  /** Every message so far, in the order they came. */
  readonly heard: readonly string[]
  say(said: Said): Promise<void>
  until<T>(check: () => T | undefined | false): Promise<T>
  close(): Promise<void>
}

export function startServer(transport: Transport): Promise<Server> {
  return { http: httpServer, sse: sseServer, stdio: stdioServer }[transport]()
}

/** One event; a message of several lines has a data field for each (WHATWG HTML §9.2.6). */
function eventsOf({ message, framed }: Said): readonly Buffer[] {
  if (framed) return framed
  const lines = message.toString('latin1').split(/\r\n|\r|\n/)
  return [Buffer.from(`${lines.map((line) => `data: ${line}\n`).join('')}\n`, 'latin1')]
}

const sessionHeaders = ['Mcp-Session-Id', 'session-1']

async function httpServer(): Promise<Server> {
  const changes = new Changes()
  const heard: string[] = []
  const posts: { readonly arrived: Arrived; readonly ids: Set<string>; isOpen: boolean }[] = []
  const gets: Arrived[] = []
  const upstream = await scriptedUpstream(async (arrived) => {
    const [method] = arrived.request.startLine.split(' ')
    if (method === 'DELETE') return arrived.answer(200)
    if (method === 'GET') {
      arrived.openStream()
      gets.push(arrived)
      return changes.notify()
    }
    const message = bodyOf(await arrived.whole())
    const ids = idsAsked(message.toString())
    if (ids.length === 0) arrived.answer(202, '', [])
    else posts.push({ arrived, ids: new Set(ids), isOpen: false })
    heard.push(message.toString())
    changes.notify()
  })
  const say = async (said: Said) => {
    const text = said.message.toString()
    const answered = isCall(text) ? [] : idsAsked(text, 'answers')
    const post = isCall(text) ? posts.at(-1) : posts.find(({ ids }) => answered.some((id) => ids.has(id)))
    if (!post) {
      const [stream] = await changes.until(() => gets.length > 0 && gets)
      for (const bytes of eventsOf(said)) stream?.chunk(bytes)
      return
    }
    for (const id of answered) post.ids.delete(id)
    const isLast = post.ids.size === 0
    if (isLast) posts.splice(posts.indexOf(post), 1)
    // The server chooses between JSON and an event stream (MCP 2025-11-25, Transports).
    if (isLast && !post.isOpen && !said.framed) {
      return post.arrived.answer(200, said.message, ['Content-Type', 'application/json', ...sessionHeaders])
    }
    if (!post.isOpen) post.arrived.openStream(sessionHeaders)
    post.isOpen = true
    for (const bytes of eventsOf(said)) post.arrived.chunk(bytes)
    if (isLast) post.arrived.endChunks()
  }
  const url = `http://127.0.0.1:${upstream.port}/mcp`
  return { url, args: [], heard, say, until: (check) => changes.until(check), close: () => upstream.close() }
}

async function sseServer(): Promise<Server> {
  const changes = new Changes()
  const heard: string[] = []
  let stream: Arrived | undefined
  const upstream = await scriptedUpstream(async (arrived) => {
    if (arrived.request.startLine.startsWith('GET')) {
      arrived.openStream()
      arrived.chunk('event: endpoint\ndata: /messages?s=1\n\n')
      stream = arrived
      return
    }
    heard.push(bodyOf(await arrived.whole()).toString())
    changes.notify()
    arrived.answer(202, 'Accepted', ['Content-Type', 'text/plain'])
  })
  const say = async (said: Said) => {
    for (const bytes of eventsOf(said)) stream?.chunk(bytes)
  }
  const url = `http://127.0.0.1:${upstream.port}/sse`
  return { url, args: [], heard, say, until: (check) => changes.until(check), close: () => upstream.close() }
}

async function stdioServer(): Promise<Server> {
  const changes = new Changes()
  const heard: string[] = []
  const sockets: Socket[] = []
  const { server, port } = await listenOnFreePort((socket) => {
    let rest = Buffer.alloc(0)
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk])
      for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
        heard.push(rest.toString('utf8', 0, end))
        rest = rest.subarray(end + 1)
      }
      changes.notify()
    })
    changes.notify()
  })
  return {
    url: '',
    args: [fileURLToPath(new URL('../peers/children/piped.mjs', import.meta.url)), String(port)],
    heard,
    say: async ({ message }) => {
      const socket = await changes.until(() => sockets.at(-1))
      socket.write(`${message.toString('latin1').replaceAll(/[\r\n]/g, ' ')}\n`, 'latin1')
    },
    until: (check) => changes.until(check),
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
