import type { RequestLimits } from '../../src/upstreams/upstream.ts'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'
import { eventually } from '../support/eventually.ts'
import { type Message, initializeMessage, modernPost, openPost, openSession } from '../support/rpc.ts'
import { type SseClient, openSse } from '../support/sse-client.ts'
import { type ProxyOptions, type RunningProxy, type TestUpstream, startProxy } from './fixture.ts'
import { createServer, type ServerResponse } from 'node:http'
import { listenOn, stopped } from '../support/mcp-server.ts'
import { requestLimits } from '../support/settings.ts'

/** A server that answers nothing but what it must, and keeps what it heard. */
interface QuietServer {
  readonly upstream: TestUpstream
  /** The text of every message that it got, over all sessions; a stdio server has to be asked. */
  readonly heard: (() => readonly string[]) | undefined
  /** Answers a request that it kept, by the number among those. */
  readonly answer: (index: number) => void
  readonly stop: () => Promise<void>
}

const opened = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 's', version: '1' } }

/** Over HTTP, in either transport: `silent` is kept, anything else is answered at once. */
async function quietHttp(transport: 'http' | 'sse'): Promise<QuietServer> {
  const heard: string[] = []
  const kept: (() => void)[] = []
  let stream: ServerResponse | undefined
  const http = createServer((request, response) => {
    if (request.method === 'GET') {
      if (transport === 'http') return void response.writeHead(405).end()
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('event: endpoint\ndata: /messages\n\n')
      stream = response
      return
    }
    if (request.method === 'DELETE') return void response.writeHead(200).end()
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      heard.push(body)
      const { id, method } = JSON.parse(body) as Message
      const answer = JSON.stringify({ jsonrpc: '2.0', id, result: method === 'initialize' ? opened : {} })
      const onStream = stream
      const reply = () => {
        if (transport === 'sse') return void onStream?.write(`data: ${answer}\n\n`)
        const session = method === 'initialize' && { 'mcp-session-id': 's1' }
        response.writeHead(200, { 'content-type': 'application/json', ...session }).end(answer)
      }
      if (transport === 'sse' || id === undefined) response.writeHead(202).end()
      if (method === 'silent') kept.push(reply)
      else if (id !== undefined) reply()
    })
  })
  const port = await listenOn(http)
  return {
    upstream: { url: `http://127.0.0.1:${port}/${transport === 'sse' ? 'sse' : 'mcp'}`, transport },
    heard: () => heard,
    answer: (index) => kept[index]?.(),
    stop: () => stopped(http),
  }
}

function quietStdio(): QuietServer {
  return {
    upstream: { script: 'scripted-stdio.mjs' },
    heard: undefined,
    answer: () => undefined,
    stop: () => Promise.resolve(),
  }
}

/** What a client got for one request: the status of its POST, and the message that answers it. */
export interface Got {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly message: Message | undefined
}

/** One client of one server through us. */
export interface Path {
  readonly clock: FakeClock
  readonly proxy: RunningProxy
  readonly server: QuietServer
  ask(id: number, method: string, params?: Readonly<Record<string, unknown>>): Promise<Got>
  /** Tells the server something that it does not answer; not known in the modern era. */
  tell(message: Message): Promise<number>
  /** What the server heard so far. */
  heard(): Promise<readonly string[]>
  /** The client goes, with all its connections. */
  leave(): void
}

type Asker = Pick<Path, 'ask' | 'tell' | 'leave'>

async function httpClient(proxy: RunningProxy): Promise<Asker> {
  const url = `${proxy.url}/u/mcp`
  const headers = await openSession(url)
  const open = new Set<() => void>()
  const send = async (message: Message): Promise<Got> => {
    const post = openPost(url, message, headers)
    open.add(post.disconnect)
    const { status, headers: got, messages } = await post.done
    return { status, headers: got, message: messages.at(-1) }
  }
  return {
    ask: (id, method, params = {}) => send({ jsonrpc: '2.0', id, method, params }),
    tell: async (message) => (await send(message)).status,
    leave: () => open.forEach((disconnect) => disconnect()),
  }
}

function modernClient(proxy: RunningProxy): Promise<Asker> {
  const open = new Set<() => void>()
  return Promise.resolve({
    ask: async (id, method, params = {}) => {
      const post = modernPost(`${proxy.url}/u/mcp`, { id, method, params })
      open.add(post.disconnect)
      const { status, headers, messages } = await post.done
      return { status, headers, message: messages.at(-1) }
    },
    tell: () => Promise.resolve(202),
    leave: () => open.forEach((disconnect) => disconnect()),
  })
}

async function sseClient(proxy: RunningProxy): Promise<Asker> {
  const client: SseClient = await openSse(`${proxy.url}/u/sse`)
  await client.ask(initializeMessage)
  await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
  const answerTo = (id: number) =>
    client.texts.map((text) => JSON.parse(text) as Message).find((one) => one['id'] === id && !('method' in one))
  return {
    ask: async (id, method, params = {}) => {
      const { status, headers, messages } = await client.post({ jsonrpc: '2.0', id, method, params })
      if (status !== 202) return { status, headers, message: messages.at(-1) }
      return { status, headers, message: await client.until(() => answerTo(id)) }
    },
    tell: async (message) => (await client.post(message)).status,
    leave: () => client.close(),
  }
}

const clients = { http: httpClient, modern: modernClient, sse: sseClient } as const
const servers = {
  stdio: () => Promise.resolve(quietStdio()),
  http: () => quietHttp('http'),
  sse: () => quietHttp('sse'),
} as const

export type ClientKind = keyof typeof clients
export type ServerKind = keyof typeof servers

/** Every pair of client and server that there is a path for; those of one transport are forwarded. */
export const pairs: readonly (readonly [client: ClientKind, server: ServerKind])[] = [
  ['http', 'stdio'],
  ['http', 'sse'],
  ['modern', 'stdio'],
  ['modern', 'sse'],
  ['sse', 'stdio'],
  ['sse', 'http'],
  ['http', 'http'],
  ['modern', 'http'],
  ['sse', 'sse'],
]

export interface PathOptions extends Omit<Partial<ProxyOptions>, 'upstreams' | 'clock'> {
  readonly limits?: Partial<RequestLimits>
}

/** Opens one path in virtual time; what it opens is closed by `closers`. */
export async function openPath(
  client: ClientKind,
  kind: ServerKind,
  closers: (() => Promise<void> | void)[],
  { limits = {}, ...options }: PathOptions = {},
): Promise<Path> {
  const clock = fakeClock()
  const server = await servers[kind]()
  closers.push(() => server.stop())
  const all = { ...requestLimits, ...limits }
  const proxy = await startProxy({ ...options, clock, upstreams: { u: { ...server.upstream, limits: all } } })
  closers.push(() => proxy.close())
  const asker = await clients[client](proxy)
  closers.push(() => asker.leave())
  let questions = 9000
  return {
    clock,
    proxy,
    server,
    ...asker,
    heard: async () => {
      if (server.heard) return server.heard()
      const { message } = await asker.ask((questions += 1), 'received')
      return (message as { readonly result: { readonly received: readonly string[] } }).result.received
    },
  }
}

/** Resolves once the server heard what `check` looks for. */
export async function heardOf(path: Path, check: (text: string) => boolean): Promise<string> {
  return eventually(async () => (await path.heard()).find(check), { what: 'the server hears it' })
}
