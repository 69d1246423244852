import { afterEach, describe, expect, it } from 'vitest'
import { type FakeClock, fakeClock } from '../support/fake-clock.ts'
import { RawClient, headerOf, rawFetch, rawRequest, statusOf, textOf } from '../support/raw-http.ts'
import { requestLimits } from '../support/settings.ts'
import { type RunningProxy, startProxy } from './fixture.ts'

const closers: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const path = '/p/mcp'
const json = ['Content-Type', 'application/json']
const both = [...json, 'Accept', 'application/json, text/event-stream']
const modern = [...both, 'MCP-Protocol-Version', '2026-07-28']
const initialize = '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'

interface Setting {
  readonly clock: FakeClock
  readonly proxy: RunningProxy
  /** Opens a session for clients with these headers. */
  readonly open: () => Promise<readonly string[]>
  /** Sends it, and waits until the server is asked. */
  readonly ask: (headers: readonly string[], body: string) => Promise<RawClient>
}

async function start(): Promise<Setting> {
  const clock = fakeClock()
  const upstreams = { p: { script: 'scripted-stdio.mjs', resident: 'always', limits: requestLimits } } as const
  const proxy = await startProxy({ upstreams, clock, keepAliveMs: 15_000 })
  closers.push(() => proxy.close())
  return {
    clock,
    proxy,
    open: async () => {
      const opened = await rawFetch(proxy.port, { path, headers: both, body: initialize })
      return ['Mcp-Session-Id', headerOf(opened, 'mcp-session-id') ?? 'none']
    },
    ask: async (headers, body) => {
      const client = new RawClient(proxy.port)
      closers.push(() => client.close())
      const before = proxy.inFlight('p')
      client.send(rawRequest({ path, headers, body }))
      await proxy.until(() => proxy.inFlight('p') > before)
      return client
    },
  }
}

const silent = (id: number, method = 'tools/call') =>
  `{"jsonrpc":"2.0","id":${id},"method":"${method}","params":{"say":[]}}`
const answer = (id: number) => `{"jsonrpc":"2.0","id":${id},"result":{}}`
const tell = (id: number) => `{"jsonrpc":"2.0","method":"tell","params":{"say":[${JSON.stringify(answer(id))}]}}`

const comment = ': keep-alive\n\n'
const event = (data: string) => `event: message\ndata: ${data}\n\n`

describe('an answer that takes long', () => {
  it('begins as an event stream after 5 s, is kept alive, and comes as the last event', async () => {
    const { clock, proxy, open, ask } = await start()
    const session = await open()
    const client = await ask([...session, ...both], silent(1))
    await clock.advance(4000)
    expect(client.responses).toEqual([])
    await clock.advance(2000)
    const head = await client.head()
    expect([statusOf(head), headerOf(head, 'content-type')]).toEqual([200, 'text/event-stream'])
    await clock.advance(32_000)
    await client.until(() => client.responses[0] !== undefined && textOf(client.responses[0]) === comment + comment)
    await rawFetch(proxy.port, { path, headers: [...session, ...both], body: tell(1) })
    const response = await client.response()
    expect([textOf(response), response.isComplete]).toEqual([comment + comment + event(answer(1)), true])
    expect(proxy.told.streams.map(({ reason }) => reason)).toEqual(['upstream_ended'])
  })

  it('does so for a batch', async () => {
    const { clock, open, ask } = await start()
    const client = await ask([...(await open()), ...both], `[${silent(1)},${silent(2)}]`)
    await clock.advance(6000)
    expect(statusOf(await client.head())).toBe(200)
  })

  it('does so for a client without a session, but for the request from whose status it learns the era', async () => {
    const { clock, ask } = await start()
    const discovering = await ask(modern, silent(1, 'server/discover'))
    const calling = await ask(modern, silent(1))
    await clock.advance(6000)
    expect(statusOf(await calling.head())).toBe(200)
    await clock.advance(53_000)
    expect(discovering.responses).toEqual([])
    await clock.advance(2000)
    expect(statusOf(await discovering.response())).toBe(504)
  })

  it('does not for a client that takes no event stream', async () => {
    const { clock, open, ask } = await start()
    const client = await ask([...(await open()), ...json, 'Accept', 'application/json'], silent(1))
    await clock.advance(59_000)
    expect(client.responses).toEqual([])
    await clock.advance(2000)
    expect(statusOf(await client.response())).toBe(504)
  })

  it('begins nothing for a client that has left', async () => {
    const { clock, proxy, open, ask } = await start()
    const client = await ask([...(await open()), ...both], silent(1))
    client.close()
    await proxy.until(() => proxy.inFlight('p') === 0)
    await clock.advance(10_000)
    expect(proxy.told.streams).toEqual([])
  })
})

describe('the end of a stream', () => {
  it('is that of its client where a whole session ends with it', async () => {
    const { proxy } = await start()
    const client = new RawClient(proxy.port)
    client.send(rawRequest({ method: 'GET', path: '/p/sse' }))
    await client.head()
    client.close()
    await proxy.until(() => proxy.told.streams.length > 0)
    expect(proxy.told.streams).toMatchObject([{ transport: 'sse', reason: 'client_gone' }])
  })

  it('is that of the session where that ends first', async () => {
    const { proxy, open } = await start()
    const session = await open()
    const client = new RawClient(proxy.port)
    closers.push(() => client.close())
    client.send(rawRequest({ method: 'GET', path, headers: session }))
    await client.head()
    await rawFetch(proxy.port, { method: 'DELETE', path, headers: session })
    await client.response()
    expect(proxy.told.streams).toMatchObject([{ transport: 'http', reason: 'upstream_ended' }])
  })
})
