import type { ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { TooManyRequests } from '../../src/errors.ts'
import { endpoint } from '../../src/upstreams/endpoint.ts'
import { HttpChannel } from '../../src/upstreams/http-channel.ts'
import { eventually } from '../support/eventually.ts'
import { fakeClock } from '../support/fake-clock.ts'
import {
  type McpServerOptions,
  mcpServer,
  result,
  rpcError,
  sendEvents,
  sendJson,
  silence,
} from '../support/mcp-server.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

async function channelTo(options: McpServerOptions = {}) {
  const mcp = await mcpServer(options)
  const clock = fakeClock()
  const target = { transport: 'http', url: new URL(mcp.url), headers: {}, upstreamHost: 'auto' } as const
  const to = endpoint(target, { connectTimeoutMs: 2000, idleConnectionMs: 4000 })
  const heard: string[] = []
  const events = {
    onMessage: (message: Buffer) => void heard.push(message.toString()),
    onTooLong: () => void heard.push('too long'),
  }
  const channel = new HttpChannel({ endpoint: to, clock, maxBodyBytes: 10_000, events })
  closing.push(mcp.stop, () => to.close())
  const send = (method: string, id = 1, signal?: AbortSignal) =>
    channel.send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, method })), { method }, signal)
  const notify = (method: string) => channel.send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method })), { method })
  return { mcp, clock, channel, heard, send, notify, endpoint: to }
}

describe('a session of our own (MCP 2025-11-25, Session Management)', () => {
  it('is the one that the answer to initialize assigns, and no other', async () => {
    const { mcp, send } = await channelTo()
    mcp.reactions.set('server/discover', (_message, response) => {
      response.setHeader('mcp-session-id', 'from-elsewhere')
      sendJson(response, 400, rpcError(null, -32_000))
    })
    await send('server/discover')
    await send('initialize')
    await send('ping')
    const [session] = mcp.sessions
    expect(mcp.heard.map(({ headers }) => headers['mcp-session-id'])).toEqual([undefined, undefined, session])
  })

  it('ends with a DELETE that names it and the revision, and no DELETE where there is none', async () => {
    const { mcp, send, channel } = await channelTo()
    channel.useProtocolVersion('2025-06-18')
    await send('initialize')
    const [session] = mcp.sessions
    await channel.close()
    expect(mcp.heard.at(-1)).toMatchObject({
      what: 'DELETE',
      headers: { 'mcp-session-id': session, 'mcp-protocol-version': '2025-06-18' },
    })
    await channel.close()
    expect(mcp.count('DELETE')).toBe(1)
    const stateless = await channelTo({ hasSessions: false })
    await stateless.send('initialize')
    await stateless.channel.close()
    expect(stateless.mcp.count('DELETE')).toBe(0)
  })

  it('does not keep close() waiting for a server that does not answer the DELETE', async () => {
    const { mcp, send, channel, clock } = await channelTo({ reactions: { DELETE: silence } })
    await send('initialize')
    const closed = channel.close()
    await eventually(() => mcp.count('DELETE') === 1, { what: 'the DELETE' })
    await clock.advance(2000)
    await closed
    expect(clock.pending()).toBe(0)
  })

  it('is gone, too, for a server that answers 400 after it could not be reached, and not before', async () => {
    const { mcp, send, channel } = await channelTo()
    await send('initialize')
    const refuse = (_message: unknown, response: ServerResponse) => sendJson(response, 400, rpcError(null, -32_000))
    mcp.reactions.set('tools/list', refuse)
    await send('tools/list')
    mcp.reactions.set('ping', (_message, response) => void response.destroy())
    await expect(send('ping')).rejects.toMatchObject({ code: 'upstream_reset' })
    await expect(send('tools/list')).rejects.toMatchObject({ code: 'upstream_session_gone' })
    await channel.close()
    expect(mcp.count('DELETE')).toBe(0)
  })

  it('that the server does not know any more is gone, with nothing left to DELETE', async () => {
    const { mcp, send, channel } = await channelTo()
    await send('initialize')
    mcp.sessions.clear()
    await expect(send('ping')).rejects.toMatchObject({ code: 'upstream_session_gone' })
    await channel.close()
    expect(mcp.count('DELETE')).toBe(0)
  })

  it('is not what a 404 is about before there is one', async () => {
    const { mcp, send } = await channelTo()
    mcp.reactions.set('*', (_message, response) => void response.writeHead(404).end())
    await expect(send('initialize')).rejects.toMatchObject({ code: 'upstream_http_error' })
  })
})

it.each(['12345678901234567890', '-0'])('an answer to the id %s is one, also as JavaScript writes it', async (id) => {
  const { channel, heard } = await channelTo()
  await channel.send(Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":"initialize"}`), { method: 'initialize' })
  expect(heard.map((text) => (JSON.parse(text) as { id: unknown }).id)).toEqual([
    JSON.parse(JSON.stringify(Number(id))),
  ])
})

it('a byte order mark in front of an answer is not part of it', async () => {
  const { mcp, send, heard } = await channelTo()
  const answer = '{"jsonrpc":"2.0","id":1,"result":{}}'
  mcp.reactions.set('initialize', (_message, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(`\uFEFF${answer}`)
  })
  await send('initialize')
  expect(heard).toEqual([answer])
})

describe('a server that wants fewer requests (429)', () => {
  it.each([
    ['7', 7000],
    [undefined, undefined],
    ['Wed, 21 Oct 2026 07:28:00 GMT', undefined],
    ['-1', undefined],
  ])('says Retry-After: %s', async (retryAfter, retryAfterMs) => {
    const { mcp, send } = await channelTo()
    const headers = retryAfter === undefined ? {} : { 'retry-after': retryAfter }
    mcp.reactions.set('*', (_message, response) => void response.writeHead(429, headers).end('slow down'))
    const refused = send('initialize')
    await expect(refused).rejects.toBeInstanceOf(TooManyRequests)
    await expect(refused).rejects.toMatchObject({ code: 'upstream_http_error', retryAfterMs })
  })
})

describe('headers', () => {
  it('of the modern era repeat method and revision (MCP 2026-07-28, Streamable HTTP)', async () => {
    const { mcp, send, channel } = await channelTo({ era: 'modern' })
    channel.useProtocolVersion('2026-07-28')
    await send('tools/list')
    expect(mcp.heard[0]?.headers).toMatchObject({
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/list',
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'user-agent': 'mcp-vitals',
      'accept-encoding': 'identity',
    })
  })
})

describe('what came for the request', () => {
  it('is handed on byte for byte, notifications on the way included', async () => {
    const { mcp, send, heard } = await channelTo()
    const progress = { jsonrpc: '2.0', method: 'notifications/progress', params: { progress: 1 } }
    mcp.reactions.set('ping', (message, response) => sendEvents(response, [progress, result(message)]))
    await send('ping', 7)
    expect(heard).toEqual([JSON.stringify(progress), '{"jsonrpc":"2.0","id":7,"result":{}}'])
  })

  it('with `id: null` is the answer to it: the server refused before it read the id', async () => {
    const { mcp, send, heard } = await channelTo()
    mcp.reactions.set('ping', (_message, response) => sendJson(response, 400, rpcError(null, -32_700, 'no')))
    await send('ping', 7)
    expect(heard).toEqual(['{"jsonrpc":"2.0","id":7,"error":{"code":-32700,"message":"no"}}'])
  })

  it('that is too large on an event stream ends it', async () => {
    const { mcp, send, endpoint: to } = await channelTo()
    mcp.reactions.set('ping', (message, response) => {
      sendEvents(response, [result(message, { text: 'x'.repeat(20_000) })], true)
    })
    await expect(send('ping')).rejects.toMatchObject({ code: 'upstream_invalid' })
    await eventually(() => to.stats().active === 0, { what: 'the connection is closed' })
  })

  it.each(['POST', 'GET'])('and is a request that is too long gets an error, on the stream of a %s', async (method) => {
    const { mcp, channel, send, heard } = await channelTo({ hasSessions: false })
    const asked = { jsonrpc: '2.0', id: 'q', method: 'roots/list', params: { text: 'x'.repeat(20_000) } }
    const said = { jsonrpc: '2.0', method: 'n', params: asked.params }
    const isGet = method === 'GET'
    mcp.reactions.set('POST', (_message, response) => void response.writeHead(202).end())
    mcp.reactions.set('GET', (_message, response) => sendEvents(response, [said, asked], true))
    mcp.reactions.set('ping', (message, response) => {
      sendEvents(response, isGet ? [result(message)] : [said, asked, result(message)])
    })
    if (isGet) channel.listen(() => undefined)
    await send('ping', 7)
    const told = () => mcp.heard.find(({ message }) => message.id === 'q')?.message
    await eventually(() => told() !== undefined, { what: 'the server hears' })
    const error = {
      code: -32_000,
      message: `mcp-vitals: a request of ${JSON.stringify(asked).length} bytes; the limit is 10000`,
    }
    expect(told()).toEqual({ jsonrpc: '2.0', id: 'q', error })
    expect(heard.toSorted()).toEqual(['too long', 'too long', '{"jsonrpc":"2.0","id":7,"result":{}}'])
  })

  it('is nothing for a notification: 202, or whatever else is no failure', async () => {
    const { mcp, notify } = await channelTo({ hasSessions: false })
    await notify('notifications/initialized')
    mcp.reactions.set('*', (_message, response) => void response.writeHead(200).end())
    await notify('notifications/initialized')
    mcp.reactions.set('*', (_message, response) => void response.writeHead(500).end())
    await expect(notify('notifications/initialized')).rejects.toMatchObject({ code: 'upstream_http_error' })
  })
})

describe('nobody waits any more', () => {
  it('for a notification whose event stream stays open: it is taken at once, and the stream closed after a second', async () => {
    const { mcp, clock, notify } = await channelTo()
    const closed = new Promise((resolve) => {
      mcp.reactions.set('notifications/x', (_message, response) => {
        response.on('close', resolve)
        sendEvents(response, [], true)
      })
    })
    await notify('notifications/x')
    await clock.advance(1000)
    await closed
    expect(clock.pending()).toBe(0)
  })

  it('when the signal aborts: the connection is closed', async () => {
    const { mcp, send, endpoint: to } = await channelTo({ reactions: { ping: silence } })
    const waiting = new AbortController()
    const sent = expect(send('ping', 1, waiting.signal)).rejects.toMatchObject({ code: 'cancelled' })
    await eventually(() => mcp.count('POST ping') === 1, { what: 'the ping' })
    expect(to.stats().active).toBe(1)
    waiting.abort()
    await sent
    await eventually(() => to.stats().active === 0, { what: 'the connection is closed' })
  })

  it('after close(): what is under way fails, and nothing new goes out', async () => {
    const { mcp, send, channel } = await channelTo({ reactions: { ping: silence } })
    const sent = expect(send('ping')).rejects.toMatchObject({ code: 'cancelled' })
    await eventually(() => mcp.count('POST ping') === 1, { what: 'the ping' })
    await channel.close()
    await sent
    await expect(send('tools/list')).rejects.toMatchObject({ code: 'cancelled' })
    expect(mcp.log()).toEqual(['POST ping'])
  })
})

it('a modern request bears the headers that mirror it, and no session (MCP 2026-07-28, Streamable HTTP)', async () => {
  const { mcp, send, channel } = await channelTo({ era: 'dual' })
  await send('initialize')
  mcp.reactions.set('tools/call', (message, response) => sendJson(response, 404, rpcError(message.id, -32_601)))
  const message = Buffer.from('{"jsonrpc":"2.0","id":2,"method":"tools/call"}')
  await channel.send(message, { method: 'tools/call', name: 'é', protocolVersion: '2026-07-28' })
  expect(mcp.heard.at(-1)?.headers).toMatchObject({
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/call',
    'mcp-name': '=?base64?w6k=?=',
  })
  expect(mcp.heard.at(-1)?.headers).not.toHaveProperty('mcp-session-id')
  await channel.close()
  expect(mcp.count('DELETE'), 'the 404 was about the method').toBe(1)
})
