/** The server's end of a conversation on each transport, without any library that would touch a message. */
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Changes, bodyOf, headerOf, listenOnFreePort } from '../support/raw-http.ts'
import { type Arrived, scriptedUpstream } from '../support/scripted-upstream.ts'
import { answerToOurs, cutCharacters, idsAsked, isCall, isOurs, itemsOf, tick } from './messages.ts'

export type Transport = 'http' | 'sse' | 'stdio'

/** What the server says: one message, and how an event stream frames it if not as one event. */
export interface Said {
  readonly message: Buffer
  readonly framed?: readonly Buffer[] | undefined
  /** Whether it goes out in pieces, each character beyond ASCII cut. */
  readonly isCut?: boolean | undefined
}

export interface Server {
  /** Of `http` and `sse`. */
  readonly url: string
  /** Of `stdio`: the arguments of our own node executable. */
  readonly args: readonly string[]
  /**
   * Every message so far, in the order they came. What mcp-vitals asks for itself is answered outside of the script,
   * unless that is about it.
   */
  readonly heard: readonly string[]
  /** The same, a character per byte. */
  bytes(): string
  say(said: Said): Promise<void>
  until<T>(check: () => T | undefined | false): Promise<T>
  close(): Promise<void>
}

export interface ServerOptions {
  /** What mcp-vitals asks for itself is part of the script. */
  readonly hearsOurs?: boolean
}

export function startServer(transport: Transport, { hearsOurs = false }: ServerOptions = {}): Promise<Server> {
  const isAside = (text: string) => !hearsOurs && isOurs(text)
  return { http: httpServer, sse: sseServer, stdio: stdioServer }[transport](isAside)
}

/** Whether a message is answered outside of the script. */
type IsAside = (text: string) => boolean

/** One event; a message of several lines has a data field for each (WHATWG HTML §9.2.6). */
function eventsOf({ message, framed, isCut }: Said): readonly Buffer[] {
  if (framed) return framed
  const lines = message.toString('latin1').split(/\r\n|\r|\n/)
  const event = Buffer.from(`${lines.map((line) => `data: ${line}\n`).join('')}\n`, 'latin1')
  return isCut ? cutCharacters(event) : [event]
}

async function sayOn(stream: Arrived | undefined, said: Said): Promise<void> {
  for (const piece of eventsOf(said)) {
    stream?.chunk(piece)
    if (said.isCut) await tick()
  }
}

/** What was heard, as text and as it came. */
function hearing() {
  const heard: string[] = []
  const bytes: string[] = []
  return {
    heard,
    bytes: () => bytes.join('\n'),
    hear: (message: Buffer) => {
      heard.push(message.toString())
      bytes.push(message.toString('latin1'))
    },
  }
}

const sessionHeader = 'Mcp-Session-Id'
const sessionHeaders = [sessionHeader, 'session-1']
/** In which mcp-vitals asks for itself. */
const ownSession = [sessionHeader, 'session-of-vitals']

async function httpServer(isAside: IsAside): Promise<Server> {
  const changes = new Changes()
  const { heard, bytes, hear } = hearing()
  const posts: { readonly arrived: Arrived; readonly ids: Set<string>; isOpen: boolean }[] = []
  const gets: Arrived[] = []
  const forget = (id: string) => {
    const at = posts.findIndex(({ ids }) => ids.has(id))
    if (at !== -1) posts.splice(at, 1)
  }
  const upstream = await scriptedUpstream(async (arrived) => {
    const [method] = arrived.request.startLine.split(' ')
    const isOwnSession = headerOf(arrived.request, sessionHeader) === ownSession[1]
    if (method === 'DELETE') return arrived.answer(200)
    if (method === 'GET') {
      arrived.openStream()
      if (!isOwnSession) gets.push(arrived)
      return changes.notify()
    }
    const message = bodyOf(await arrived.whole())
    const text = message.toString()
    const ids = idsAsked(text)
    if (ids.length === 0) arrived.answer(202, '', [])
    else if (isAside(text)) arrived.answer(200, answerToOurs(text), ['Content-Type', 'application/json', ...ownSession])
    else posts.push({ arrived, ids: new Set(ids), isOpen: false })
    if (isAside(text) || isOwnSession) return
    for (const id of idsCancelled(text)) forget(id)
    hear(message)
    changes.notify()
  })
  const say = async (said: Said) => {
    const text = said.message.toString()
    const answered = isCall(text) ? [] : idsAsked(text, 'answers')
    const post = isCall(text) ? posts.at(-1) : posts.find(({ ids }) => answered.some((id) => ids.has(id)))
    if (!post) {
      const [stream] = await changes.until(() => gets.length > 0 && gets)
      return sayOn(stream, said)
    }
    for (const id of answered) post.ids.delete(id)
    const isLast = post.ids.size === 0
    if (isLast) posts.splice(posts.indexOf(post), 1)
    // A bridge that takes a batch apart waits for each answer on a POST of its own.
    for (const id of answered) forget(id)
    // The server chooses between JSON and an event stream (MCP 2025-11-25, Transports).
    if (isLast && !post.isOpen && !said.framed && !said.isCut) {
      return post.arrived.answer(200, said.message, ['Content-Type', 'application/json', ...sessionHeaders])
    }
    if (!post.isOpen) post.arrived.openStream(sessionHeaders)
    post.isOpen = true
    await sayOn(post.arrived, said)
    if (isLast) post.arrived.endChunks()
  }
  const url = `http://127.0.0.1:${upstream.port}/mcp`
  return { url, args: [], heard, bytes, say, until: (check) => changes.until(check), close: () => upstream.close() }
}

/** The requests that nobody waits for any more. */
function idsCancelled(text: string): string[] {
  return itemsOf(text).flatMap(({ method, params }) => {
    const { requestId } = (params ?? {}) as { readonly requestId?: unknown }
    return method === 'notifications/cancelled' ? [JSON.stringify(requestId)] : []
  })
}

interface EventStream {
  readonly arrived: Arrived
  /** Opened by mcp-vitals: for a heartbeat, or for the request of a client who cannot open one. */
  isOurs: boolean
}

async function sseServer(isAside: IsAside): Promise<Server> {
  const changes = new Changes()
  const { heard, bytes, hear } = hearing()
  const streams: EventStream[] = []
  /** On which the client spoke last. */
  let current: EventStream | undefined
  const upstream = await scriptedUpstream(async (arrived) => {
    const [method, target = ''] = arrived.request.startLine.split(' ')
    if (method === 'GET') {
      arrived.openStream()
      arrived.chunk(`event: endpoint\ndata: /messages?s=${streams.length}\n\n`)
      streams.push({ arrived, isOurs: false })
      return
    }
    const message = bodyOf(await arrived.whole())
    const text = message.toString()
    const stream = streams[Number(new URLSearchParams(target.split('?')[1]).get('s'))]
    arrived.answer(202, 'Accepted', ['Content-Type', 'text/plain'])
    if (!stream) return
    if (isAside(text)) {
      stream.isOurs = true
      return stream.arrived.chunk(`event: message\ndata: ${answerToOurs(text)}\n\n`)
    }
    if (stream.isOurs && text.includes('"notifications/initialized"')) return
    current = stream
    hear(message)
    changes.notify()
  })
  const say = (said: Said) => sayOn(current?.arrived, said)
  const url = `http://127.0.0.1:${upstream.port}/sse`
  return { url, args: [], heard, bytes, say, until: (check) => changes.until(check), close: () => upstream.close() }
}

interface PipedServer {
  /** What starts it. */
  readonly command: readonly string[]
  say(bytes: Buffer): Promise<void>
  close(): Promise<void>
}

/** A stdio server whose stdin ends here, and whose stdout begins here. */
export async function pipedServer(onData: (chunk: Buffer) => void): Promise<PipedServer> {
  const changes = new Changes()
  const sockets: Socket[] = []
  const { server, port } = await listenOnFreePort((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', onData)
    changes.notify()
  })
  const script = fileURLToPath(new URL('../peers/children/piped.mjs', import.meta.url))
  return {
    command: [process.execPath, script, String(port)],
    say: async (bytes) => {
      const socket = await changes.until(() => sockets.at(-1))
      socket.write(bytes)
    },
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function stdioServer(isAside: IsAside): Promise<Server> {
  const changes = new Changes()
  const { heard, bytes, hear } = hearing()
  let rest = Buffer.alloc(0)
  const piped = await pipedServer((chunk) => {
    rest = Buffer.concat([rest, chunk])
    for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
      const line = Buffer.from(rest.subarray(0, end))
      if (isAside(line.toString())) void piped.say(Buffer.from(`${answerToOurs(line.toString())}\n`))
      else hear(line)
      rest = rest.subarray(end + 1)
    }
    changes.notify()
  })
  return {
    url: '',
    args: piped.command.slice(1),
    heard,
    bytes,
    say: async ({ message, isCut }) => {
      const line = Buffer.from(`${message.toString('latin1').replaceAll(/[\r\n]/g, ' ')}\n`, 'latin1')
      for (const piece of isCut ? cutCharacters(line) : [line]) {
        await piped.say(piece)
        await tick()
      }
    },
    until: (check) => changes.until(check),
    close: () => piped.close(),
  }
}
