import { afterEach, describe, expect, it } from 'vitest'
import { post } from '../support/rpc.ts'
import { type ScriptedServer, scriptedServer, sendJson } from '../support/scripted-server.ts'
import { type RunningProxy, startProxy } from './fixture.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Seen {
  readonly method: unknown
  readonly id: unknown
  readonly headers: Readonly<Record<string, unknown>>
}

/** A server with one session, behind a proxy; gives what arrived at the server. */
async function start(pingForwardedSessions: boolean) {
  const seen: Seen[] = []
  const state = { knowsSession: true, wantsToken: 'one' }
  const server: ScriptedServer = await scriptedServer((message, response, { headers }) => {
    seen.push({ method: message['method'], id: message.id, headers })
    if (message['method'] === 'initialize') {
      response.setHeader('mcp-session-id', 's1')
      return sendJson(response, 200, { jsonrpc: '2.0', id: message.id, result: { protocolVersion: '2025-11-25' } })
    }
    if (headers.authorization !== `Bearer ${state.wantsToken}`) return sendJson(response, 401, {})
    if (!state.knowsSession) return sendJson(response, 404, {})
    sendJson(response, 200, { jsonrpc: '2.0', id: message.id, result: {} })
  })
  closers.push(() => server.stop())
  const proxy: RunningProxy = await startProxy({ upstreams: { u: { url: server.url } }, pingForwardedSessions })
  closers.push(() => proxy.close())
  const say = (message: object, headers: Readonly<Record<string, string>>) =>
    post(`${proxy.url}/u/mcp`, { jsonrpc: '2.0', ...message }, headers)
  const ask = (id: number, token: string) =>
    say(
      { id, method: 'tools/list' },
      {
        'mcp-session-id': 's1',
        'mcp-protocol-version': '2025-11-25',
        authorization: `Bearer ${token}`,
        'x-mine': 'yes',
      },
    )
  const open = async () => {
    await say({ id: 1, method: 'initialize', params: {} }, { authorization: 'Bearer one' })
    const session = proxy.directory.get('u', 's1')
    if (!session) throw new Error('the session is not known')
    return session
  }
  return { seen, state, proxy, ask, open }
}

describe('our own ping inside a forwarded session', () => {
  it('is not sent unless the configuration says so, and nothing is kept for it', async () => {
    const { ask, open } = await start(false)
    const session = await open()
    await ask(2, 'one')
    expect(session.serverPeer).toBeUndefined()
  })

  it('bears the session and the headers of its client, the latest, under an id of ours', async () => {
    const { ask, open, seen, state } = await start(true)
    const session = await open()
    expect(session.serverPeer?.canAsk()).toBe(true)
    state.wantsToken = 'two'
    await ask(2, 'two')
    const before = { messages: session.messages, lastActiveMs: session.lastActiveMs }
    await session.serverPeer?.request({ method: 'ping', timeoutMs: 5000 })
    expect(seen.at(-1)).toMatchObject({
      method: 'ping',
      id: expect.stringMatching(/^vitals-[0-9a-f-]{36}$/),
      headers: {
        'mcp-session-id': 's1',
        'mcp-protocol-version': '2025-11-25',
        authorization: 'Bearer two',
        'x-mine': 'yes',
      },
    })
    expect(session).toMatchObject(before)
  })

  it('401 is an answer about the credentials, and 404 about this session alone', async () => {
    const { open, state } = await start(true)
    const session = await open()
    const ping = () => session.serverPeer?.request({ method: 'ping', timeoutMs: 5000 })
    state.wantsToken = 'another'
    await expect(ping()).rejects.toMatchObject({ code: 'upstream_unauthorized' })
    state.wantsToken = 'one'
    state.knowsSession = false
    await expect(ping()).rejects.toMatchObject({ code: 'upstream_session_gone' })
  })

  it('is possible no longer than the session lasts', async () => {
    const { open, proxy } = await start(true)
    const session = await open()
    proxy.directory.end(session, 'deleted')
    expect(session.serverPeer).toBeUndefined()
  })
})
