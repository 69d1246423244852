import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectV1, connectV2 } from '../peers/clients.ts'
import { debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { type Message, type ModernRequest, initializeMessage, modernPost, post } from '../support/rpc.ts'
import { uniformV1 } from '../support/uniform-client.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const fixture = 'test/peers/modern-stdio.ts'
let vitals: RunningVitals | undefined
let url: string

beforeAll(async () => {
  const running = await startVitals({
    config: {
      // So long that nothing here may wait for the next planned heartbeat.
      heartbeat: { heartbeat_interval_seconds: 300 },
      mcpServers: {
        'both-eras': { command: process.execPath, args: [fixture], cwd: process.cwd() },
        'modern-only': { command: process.execPath, args: [fixture, 'modern'], cwd: process.cwd() },
      },
    },
  })
  vitals = running
  url = `${running.dataUrl}/both-eras/mcp`
  for (const name of ['both-eras', 'modern-only']) {
    await eventually(async () => (await debugUpstream(running, name)).state === 'healthy', {
      what: `${name} is healthy`,
    })
  }
}, 30_000)
afterAll(() => vitals?.stop(), 30_000)

function call(name: string, args: Readonly<Record<string, unknown>> = {}, more: Partial<ModernRequest> = {}) {
  return modernPost(url, { id: 1, method: 'tools/call', params: { name, arguments: args }, ...more })
}

/** The text that a tool answered. */
function textOf(message: Message | undefined): string {
  const { content } = (message?.result ?? {}) as { readonly content?: readonly { readonly text?: string }[] }
  return content?.[0]?.text ?? ''
}

/** Every message that the resident process was sent, as it came on its stdin. */
async function received(): Promise<{ readonly line: string; readonly message: Message }[]> {
  const { messages } = await call('received').done
  const lines = JSON.parse(textOf(messages.at(-1))) as string[]
  return lines.map((line) => ({ line, message: JSON.parse(line) as Message }))
}

/** The id under which a request that holds this text went to the process. */
async function wireIdOf(nonce: string): Promise<unknown> {
  const found = (await received()).find(({ line }) => line.includes(nonce) && line.includes('"tools/call"'))
  return found?.message.id
}

async function isCancelled(id: unknown): Promise<boolean> {
  return (await received()).some(({ message: { method, params } }) => {
    return method === 'notifications/cancelled' && (params as { requestId?: unknown }).requestId === id
  })
}

describe('modern clients of one stdio server', { timeout: 60_000 }, () => {
  it('each get their own answer although all use JSON-RPC id 1 at the same moment', async () => {
    const nonces = Array.from({ length: 24 }, (_, index) => `nonce-${index}-${crypto.randomUUID()}`)
    const answers = await Promise.all(
      // The earlier asked, the later answered: no order can stand in for the id.
      nonces.map((message, index) => call('echo', { message, ms: (nonces.length - index) * 10 }).done),
    )
    expect(answers.map(({ messages }) => messages)).toEqual(
      nonces.map((text) => [
        expect.objectContaining({
          jsonrpc: '2.0',
          id: 1,
          result: expect.objectContaining({ content: [{ type: 'text', text }] }),
        }),
      ]),
    )
    const wireIds = (await received())
      .filter(({ line }) => nonces.some((nonce) => line.includes(nonce)))
      .map(({ message }) => message.id)
    expect(new Set(wireIds).size).toBe(nonces.length)
  })

  it('each get the progress of their own request, under their own token, before the answer', async () => {
    const runs = await Promise.all(
      [2, 3, 5].map(async (steps) => {
        const { done } = call('slow', { seconds: 0.3, steps }, { meta: { progressToken: 'same' } })
        return { steps, messages: (await done).messages }
      }),
    )
    for (const { steps, messages } of runs) {
      const progress = Array.from({ length: steps }, (_, index) => ({
        jsonrpc: '2.0',
        method: 'notifications/progress',
        params: { progressToken: 'same', progress: index + 1, total: steps },
      }))
      expect(messages.slice(0, -1)).toMatchObject(progress)
      expect(messages.at(-1)).toMatchObject({ id: 1 })
    }
  })

  it('as SDK v2 clients: they call concurrently and hear their own progress', async () => {
    const clients = await Promise.all([connectV2(url, 'modern'), connectV2(url, 'auto')])
    const results = await Promise.all(
      clients.map((client, index) =>
        client.callTool({ name: 'echo', arguments: { message: `client ${index}`, ms: 100 } }),
      ),
    )
    expect(results.map(({ content }) => content)).toMatchObject([[{ text: 'client 0' }], [{ text: 'client 1' }]])
    expect(clients.map((client) => client.getProtocolEra())).toEqual(['modern', 'modern'])
    await Promise.all(clients.map((client) => client.close()))
  })

  it('reach the server byte for byte, but for the ids', async () => {
    const nonce = crypto.randomUUID()
    await call(
      'echo',
      { message: nonce },
      { meta: { traceparent: '00-11111111111111111111111111111111-2222222222222222-01', unknown: [1, { x: null }] } },
    ).done
    const raw = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"${nonce}-raw"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"a","version":"1"},"io.modelcontextprotocol/clientCapabilities":{},"big":12345678901234567890,"exact":1.0}}}`
    const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'echo' }
    expect((await post(url, raw, headers)).messages).toMatchObject([{ id: 1 }])
    const lines = await received()
    const sent = lines.find(({ line }) => line.includes(`${nonce}-raw`))
    expect(sent?.line).toBe(raw.replace('"id":1', `"id":${JSON.stringify(sent?.message.id)}`))
    expect(lines.find(({ line }) => line.includes(`"${nonce}"`))?.message).toMatchObject({
      params: { _meta: { unknown: [1, { x: null }] } },
    })
  })

  it('hear which revisions there are when they ask for another (2026-07-28, Lifecycle), and the server is not asked', async () => {
    const [version, nonce] = ['2027-01-01', crypto.randomUUID()]
    const meta = {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const request = { jsonrpc: '2.0', id: nonce, method: 'tools/list', params: { _meta: meta } }
    const headers = { 'mcp-protocol-version': version, 'mcp-method': 'tools/list' }
    expect(await post(url, request, headers)).toMatchObject({
      status: 400,
      messages: [{ id: nonce, error: { code: -32022, data: { supported: ['2026-07-28'], requested: version } } }],
    })
    expect((await received()).filter(({ line }) => line.includes(nonce) || line.includes(version))).toEqual([])
  })

  it('cancel by closing the connection: the server hears notifications/cancelled for that request and no other (2026-07-28, Streamable HTTP, "Cancellation")', async () => {
    const [leaving, staying] = [crypto.randomUUID(), crypto.randomUUID()]
    const left = call('echo', { message: leaving, ms: 20_000 })
    const stayed = call('echo', { message: staying, ms: 1500 })
    const wireId = await eventually(() => wireIdOf(leaving), { what: 'the request is with the server' })
    expect(await isCancelled(wireId)).toBe(false)
    left.disconnect()
    await eventually(() => isCancelled(wireId), { what: 'the server hears of the cancellation' })
    expect(textOf((await stayed.done).messages.at(-1))).toBe(staying)
    expect(await isCancelled(await wireIdOf(staying))).toBe(false)
  })

  it('listen for changes: every message carries the id of the own subscription (2026-07-28, Subscriptions)', async () => {
    const listen = (id: number | string) =>
      modernPost(url, { id, method: 'subscriptions/listen', params: { notifications: { toolsListChanged: true } } })
    const listeners = [1, 1, 'three'].map((id) => ({ id, stream: listen(id) }))
    for (const { stream } of listeners) {
      await eventually(() => stream.messages().length === 1, { what: 'the subscription is acknowledged' })
    }
    await call('change').done
    for (const { id, stream } of listeners) {
      await eventually(() => stream.messages().length === 2, { what: 'the change is told' })
      const params = { _meta: { 'io.modelcontextprotocol/subscriptionId': id } }
      expect(stream.messages()).toMatchObject([
        { method: 'notifications/subscriptions/acknowledged', params },
        { method: 'notifications/tools/list_changed', params },
      ])
    }
    const [first, second, third] = listeners.map(({ stream }) => stream)
    first?.disconnect()
    await eventually(async () => (await cancellations()).length > 0, { what: 'the subscription is cancelled' })
    await call('change').done
    await eventually(() => second?.messages().length === 3, { what: 'the others still hear' })
    await eventually(() => third?.messages().length === 3, { what: 'the others still hear' })
    expect(first?.messages()).toHaveLength(2)
    second?.disconnect()
    third?.disconnect()
  })

  it('as an SDK v2 client: listen() opens, hears the change, and close() ends it', async () => {
    const client = await connectV2(url, 'modern')
    let changes = 0
    client.setNotificationHandler('notifications/tools/list_changed', () => void (changes += 1))
    const subscription = await client.listen({ toolsListChanged: true })
    expect(subscription.honoredFilter).toEqual({ toolsListChanged: true })
    await client.callTool({ name: 'change', arguments: {} })
    await eventually(() => changes === 1, { what: 'the client hears of the change' })
    await subscription.close()
    expect(await subscription.closed).toBe('local')
    await client.close()
  })
})

/** The listen requests that were cancelled. */
async function cancellations(): Promise<Message[]> {
  const lines = (await received()).map(({ message }) => message)
  const listens = new Set(lines.filter(({ method }) => method === 'subscriptions/listen').map(({ id }) => id))
  return lines.filter(({ method, params }) => {
    return method === 'notifications/cancelled' && listens.has((params as { requestId?: unknown }).requestId)
  })
}

describe('a legacy client of a stdio server', { timeout: 60_000 }, () => {
  it('has a process of its own beside the one of the modern clients, when the server knows both eras', async () => {
    const client = await connectV1(url)
    expect(await client.callTool({ name: 'echo', arguments: { message: 'legacy' } })).toMatchObject({
      content: [{ text: 'legacy' }],
    })
    const { messages } = await call('echo', { message: 'modern' }).done
    expect(textOf(messages.at(-1))).toBe('modern')
    await client.close()
  })

  it('is refused in the words of a server that is modern alone, with the status of SDK v2 for them', async () => {
    const proxied = `${vitals?.dataUrl}/modern-only/mcp`
    const answer = await post(proxied, initializeMessage)
    expect(answer).toMatchObject({ status: 400, messages: [{ id: 1, error: { code: -32022 } }] })
    expect(answer.headers['mcp-session-id'], 'no session began').toBeUndefined()
    const alone = uniformV1({ command: process.execPath, args: [fixture, 'modern'] })
    const refused = await alone.then(() => 'not refused', String)
    const refusal = refused.replace(/^McpError: MCP error -32022: /, '')
    expect(refusal).toContain('rotocol version')
    expect(answer.messages[0]).toMatchObject({ error: { message: refusal } })
  })
})
