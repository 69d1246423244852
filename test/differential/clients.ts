/** The client's end of a conversation on each transport, without any library that would touch a message. */
import { spawn } from 'node:child_process'
import { encodeHeaderValue } from '../../src/wire/headers.ts'
import {
  Changes,
  RawClient,
  type RawMessage,
  bodyOf,
  chunk,
  headerOf,
  rawRequest,
  statusOf,
} from '../support/raw-http.ts'
import { idsAsked, tick } from './messages.ts'

export interface Client {
  /** Every message so far, in the order they came. */
  heard(): readonly string[]
  /** The bytes of all responses, of the HTTP+SSE stream or of stdout, a character each. */
  bytes(): string
  /** Says a message, in these pieces. */
  send(pieces: readonly Buffer[]): Promise<void>
  /** The opening exchange was answered. */
  opened(): Promise<void>
  until<T>(check: () => T | undefined | false): Promise<T>
  close(): Promise<void> | void
}

/** The data of the events in a whole stream so far, by the plainest reading of WHATWG HTML §9.2.6. */
function dataOf(stream: string): string[] {
  const events: string[] = []
  let data: string[] = []
  let type = ''
  for (const line of stream
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\r|\n/)
    .slice(0, -1)) {
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (name === 'data') data.push(value)
    if (name === 'event') type = value
    if (line !== '') continue
    if (data.join('') !== '' && type !== 'endpoint') events.push(data.join('\n'))
    data = []
    type = ''
  }
  return events
}

/** The messages of a response so far. */
function messagesOf(response: RawMessage): string[] {
  const body = bodyOf(response).toString()
  if (/^text\/event-stream/i.test(headerOf(response, 'content-type') ?? '')) return dataOf(body)
  return response.isComplete && body !== '' ? [body] : []
}

/** The headers that mirror a modern message (MCP 2026-07-28, Streamable HTTP, "Standard Request Headers"). */
function mirrored(message: Buffer): string[] {
  const { method, params } = JSON.parse(message.toString()) as { method: string; params: { name?: string } }
  const name = params.name === undefined ? [] : ['Mcp-Name', encodeHeaderValue(params.name)]
  return ['MCP-Protocol-Version', '2026-07-28', 'Mcp-Method', method, ...name]
}

/** A POST of these pieces: of a single one the length is told, several are chunks. */
async function sendRequest(client: RawClient, path: string, headers: readonly string[], pieces: readonly Buffer[]) {
  if (pieces.length === 1) return client.send(rawRequest({ path, headers, body: pieces[0] }))
  client.send(rawRequest({ path, headers: [...headers, 'Transfer-Encoding', 'chunked'] }))
  for (const piece of pieces) {
    await tick()
    client.send(chunk(piece))
  }
  client.send('0\r\n\r\n')
}

function assertAccepted(response: RawMessage): void {
  if (statusOf(response) !== 202) throw new Error(`${response.startLine}: ${bodyOf(response).toString()}`)
}

const jsonHeaders = ['Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream']

/** Streamable HTTP, a connection for each message. */
export function httpClient(port: number, path: string, era: 'legacy' | 'modern'): Client {
  const changes = new Changes()
  const heard: string[] = []
  const exchanges: { readonly client: RawClient; seen: number }[] = []
  let session: string[] = []
  const open = () => {
    const client = new RawClient(port)
    exchanges.push({ client, seen: 0 })
    client.socket.on('data', () => changes.notify())
    return client
  }
  return {
    heard: () => {
      for (const exchange of exchanges) {
        const [response] = exchange.client.responses
        const messages = response ? messagesOf(response) : []
        heard.push(...messages.slice(exchange.seen))
        exchange.seen = messages.length
      }
      return heard
    },
    bytes: () =>
      exchanges.map(({ client }) => client.responses.map((one) => bodyOf(one).toString('latin1'))).join('\n'),
    send: async (pieces) => {
      const body = Buffer.concat(pieces)
      const headers = [...jsonHeaders, ...session, ...(era === 'modern' ? mirrored(body) : [])]
      const client = open()
      await sendRequest(client, path, headers, pieces)
      if (idsAsked(body.toString()).length === 0) assertAccepted(await client.response())
    },
    opened: async () => {
      const response = await exchanges[0]?.client.head()
      const id = response && headerOf(response, 'mcp-session-id')
      session = id === undefined ? [] : ['Mcp-Session-Id', id]
      const stream = open()
      stream.send(rawRequest({ method: 'GET', path, headers: ['Accept', 'text/event-stream', ...session] }))
      await stream.head()
    },
    until: (check) => changes.until(check),
    close: () => exchanges.forEach(({ client }) => client.close()),
  }
}

/** HTTP+SSE: one stream, and a connection for each message that is posted. */
export async function sseClient(port: number, path: string): Promise<Client> {
  const stream = new RawClient(port)
  stream.send(rawRequest({ method: 'GET', path, headers: ['Accept', 'text/event-stream'] }))
  const response = await stream.head()
  const address = await stream.until(
    () => /^event: endpoint\r?\ndata: (\S+)\r?\n/.exec(bodyOf(response).toString())?.[1],
  )
  return {
    heard: () => dataOf(bodyOf(response).toString()),
    // The one thing that may differ is where to post.
    bytes: () => bodyOf(response).toString('latin1').replace(address, '<address>'),
    send: async (pieces) => {
      const client = new RawClient(port)
      await sendRequest(client, address, jsonHeaders, pieces)
      const accepted = client
        .response()
        .then(assertAccepted)
        .finally(() => client.close())
      // That of an initialize waits for the server; a request that was refused is missed on the other side.
      if (idsAsked(Buffer.concat(pieces).toString()).length === 0) return accepted
      accepted.catch(() => {})
    },
    opened: () => Promise.resolve(),
    until: (check) => stream.until(check),
    close: () => stream.close(),
  }
}

/** A command that speaks on its stdin and stdout. */
export function stdioClient([command = '', ...args]: readonly string[]): Client {
  const changes = new Changes()
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const chunks: Buffer[] = []
  child.stdin.on('error', () => {}) // It may have ended.
  child.stdout.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    changes.notify()
  })
  return {
    heard: () => Buffer.concat(chunks).toString().split('\n').slice(0, -1),
    bytes: () => Buffer.concat(chunks).toString('latin1'),
    send: async (pieces) => {
      for (const piece of pieces) {
        child.stdin.write(piece.toString('latin1').replaceAll(/[\r\n]/g, ' '), 'latin1')
        await tick()
      }
      child.stdin.write('\n')
    },
    opened: () => Promise.resolve(),
    until: (check) => changes.until(check),
    close: async () => {
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.stdin.end()
      await exited
    },
  }
}
