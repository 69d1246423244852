import { type ServerResponse, createServer } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { listenOn, mcpServer, rpcError, sendJson, stopped } from '../support/mcp-server.ts'
import { type RawMessage, headerOf, rawFetch, statusOf, textOf } from '../support/raw-http.ts'
import { type Message, initializeMessage } from '../support/rpc.ts'
import { openSse } from '../support/sse-client.ts'
import { startProxy } from './fixture.ts'

/** What HTTP statuses and events of a server come to at a client of the other transport, in front of the bridge. */

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const path = '/u/mcp'
const json = ['Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream']
const opened = { protocolVersion: '2024-11-05', capabilities: {}, serverInfo: { name: 's', version: '1' } }

interface Reaction {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** The events that answer the request; in them, $ID stands for its id. */
  readonly events?: string
}

/** A bridge to an HTTP+SSE server that does this for requests of these methods, and a session with it. */
async function open(reactions: Readonly<Record<string, Reaction>>) {
  let stream: ServerResponse | undefined
  const http = createServer((request, response) => {
    if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('event: endpoint\ndata: /messages\n\n')
      stream = response
      return
    }
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      const { id, method } = JSON.parse(body) as Message
      const answer = JSON.stringify({ jsonrpc: '2.0', id, result: method === 'initialize' ? opened : {} })
      const {
        status = 202,
        headers = {},
        body: refusal = 'plain text',
        events = `data: ${answer}\n\n`,
      } = reactions[String(method)] ?? {}
      response.writeHead(status, headers).end(status === 202 ? '' : refusal)
      if (status === 202 && id !== undefined) stream?.write(events.replaceAll('$ID', JSON.stringify(id)))
    })
  })
  const port = await listenOn(http)
  closers.push(() => stopped(http))
  const proxy = await startProxy({ upstreams: { u: { url: `http://127.0.0.1:${port}/sse`, transport: 'sse' } } })
  closers.push(() => proxy.close())
  const response = await rawFetch(proxy.port, { path, headers: json, body: JSON.stringify(initializeMessage) })
  const session = ['Mcp-Session-Id', headerOf(response, 'mcp-session-id') ?? 'none', ...json]
  const post = (method: string) =>
    rawFetch(proxy.port, { path, headers: session, body: JSON.stringify({ jsonrpc: '2.0', id: 7, method }) })
  return { proxy, session, post }
}

function seen(response: RawMessage): readonly unknown[] {
  const { id, error } = JSON.parse(textOf(response)) as {
    readonly id: unknown
    readonly error?: { readonly code: number; readonly data: { readonly reason: string } }
  }
  return [statusOf(response), headerOf(response, 'retry-after'), id, error?.code, error?.data.reason]
}

describe('a server that', () => {
  it('no longer knows the session: the request has 404, so that the client initializes anew (MCP 2025-11-25, Session Management, 4)', async () => {
    const { proxy, post } = await open({ ping: { status: 404 } })
    expect(seen(await post('ping'))).toEqual([404, undefined, 7, -32001, 'upstream_session_gone'])
    expect(seen(await post('tools/list')).at(-1)).toBe('session_not_found')
    expect(proxy.told.endedSessions).toEqual(['unknown'])
  })

  it.each([
    [429, '7', 429, '7'],
    [429, undefined, 429, undefined],
    [503, '9', 503, '9'],
    [503, 'Wed, 21 Oct 2026 07:28:00 GMT', 503, 'Wed, 21 Oct 2026 07:28:00 GMT'],
    [503, undefined, 502, undefined],
    [500, '9', 502, undefined],
    [413, undefined, 502, undefined],
  ])('answers %i with Retry-After %s: %i, and the session goes on', async (status, retryAfter, got, gotRetryAfter) => {
    const headers = retryAfter === undefined ? {} : { 'retry-after': retryAfter }
    const { post } = await open({ 'tools/call': { status, headers } })
    expect(seen(await post('tools/call'))).toEqual([got, gotRetryAfter, 7, -32000, 'upstream_http_error'])
    expect(statusOf(await post('ping'))).toBe(200)
  })

  it('refuses a POST unread, with `id: null`: the error has the id of the request', async () => {
    const body = '{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"},"id":null}'
    const { post } = await open({ ping: { status: 400, body } })
    const response = await post('ping')
    expect([statusOf(response), textOf(response)]).toEqual([200, body.replace('null', '7')])
  })

  it('refuses the POST of an HTTP+SSE client so: the error has the id of the request, which the stream needs', async () => {
    const mcp = await mcpServer()
    closers.push(() => mcp.stop())
    mcp.reactions.set('ping', (_message, response) => sendJson(response, 400, rpcError(null, -32_000)))
    const proxy = await startProxy({ upstreams: { u: { url: mcp.url } } })
    closers.push(() => proxy.close())
    const client = await openSse(`${proxy.url}/u/sse`)
    closers.push(() => client.close())
    await client.ask({ ...initializeMessage, id: 0 })
    expect(await client.ask({ jsonrpc: '2.0', id: 7, method: 'ping' })).toEqual(rpcError(7, -32_000))
  })

  it('sends events of other types: they are no messages (WHATWG HTML §9.2.6: `message` is the default)', async () => {
    const answer = (n: number) => `{"jsonrpc":"2.0","id":$ID,"result":{"n":${n}}}`
    const events = `event: custom\ndata: ${answer(1)}\n\nevent: message\ndata: ${answer(2)}\n\n`
    const { post } = await open({ ping: { events } })
    expect(textOf(await post('ping'))).toBe(answer(2).replace('$ID', '7'))
  })
})
