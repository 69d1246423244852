import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { afterEach, describe, expect, it } from 'vitest'
import { becomesState, debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { lastStream, oneStream, oneTransport } from '../support/one-connection-servers.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

async function vitalsBefore(
  server: { readonly url: string; readonly stop: () => Promise<void> },
  type: 'http' | 'sse',
) {
  closing.push(server.stop)
  const vitals = await startVitals({
    config: {
      heartbeat: { heartbeat_interval_seconds: 1, adaptive_heartbeat: { enabled: false } },
      mcpServers: { one: { type, url: server.url } },
    },
  })
  closing.push(vitals.stop)
  await becomesState(vitals, 'one', 'healthy', 30_000)
  return vitals
}

interface Connected {
  readonly client: Client
  readonly errors: readonly Error[]
  readonly say: (it: string) => Promise<unknown>
}

async function connect(transport: SSEClientTransport | StreamableHTTPClientTransport): Promise<Connected> {
  const client = new Client({ name: 'mcp-vitals-test', version: '1.0.0' })
  const errors: Error[] = []
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- a client is no EventTarget
  client.onerror = (error) => errors.push(error)
  await client.connect(transport)
  closing.push(() => client.close())
  const say = async (it: string) => (await client.callTool({ name: 'echo', arguments: { it } })).content
  return { client, errors, say }
}

const said = (text: string) => [{ type: 'text', text }]

/** Once heartbeats only look at its transport; it has to have been well all the time. */
function restrained(vitals: RunningVitals) {
  return eventually(
    async () => {
      const upstream = await debugUpstream(vitals, 'one')
      const isRestrained = upstream.recent.filter(({ method }) => method === 'transport').length >= 3
      return isRestrained ? upstream : undefined
    },
    { timeoutMs: 30_000, what: 'three looks at the transport' },
  )
}

describe('servers of one connection', { timeout: 90_000 }, () => {
  it.each([
    ['sse', SSEClientTransport],
    ['mcp', StreamableHTTPClientTransport],
  ])(
    'HTTP+SSE whose answers all go to the last client (/%s): none of ours does, and it loses none',
    async (path, To) => {
      const vitals = await vitalsBefore(await lastStream(), 'sse')
      const { say, errors } = await connect(new To(new URL(`${vitals.dataUrl}/one/${path}`)))
      expect(await say('first')).toEqual(said('first'))
      const upstream = await restrained(vitals)
      expect(upstream).toMatchObject({ state: 'healthy', probe: 'transport', failures: [] })
      expect(upstream.recent.find(({ method }) => method === 'transport')?.reason).toContain(
        'a server of one connection (it answers our heartbeats on the stream of a client)',
      )
      expect(vitals.output().match(/it serves one connection at a time/g)).toHaveLength(1)
      expect(await say('last')).toEqual(said('last'))
      // A client complains of an answer to a question that it did not ask.
      expect(errors).toEqual([])
    },
  )

  it('Streamable HTTP with one transport: the first client gets our session, and the next one the refusal', async () => {
    const vitals = await vitalsBefore(await oneTransport(), 'http')
    const url = new URL(`${vitals.dataUrl}/one/mcp`)
    const transport = new StreamableHTTPClientTransport(url)
    const { say, errors, client } = await connect(transport)
    expect(client.getServerVersion()).toMatchObject({ name: 'one' })
    expect(await say('first')).toEqual(said('first'))
    await expect(connect(new StreamableHTTPClientTransport(url))).rejects.toThrow('Server already initialized')
    expect(await restrained(vitals)).toMatchObject({ state: 'healthy', probe: 'transport' })
    expect(vitals.output().match(/it serves one connection at a time/g)).toHaveLength(1)
    expect(await say('last')).toEqual(said('last'))
    expect(errors).toEqual([])
  })

  it('HTTP+SSE with one stream: ours is closed, and the client gets its own', async () => {
    const vitals = await vitalsBefore(await oneStream(), 'sse')
    const { say, errors } = await connect(new SSEClientTransport(new URL(`${vitals.dataUrl}/one/sse`)))
    expect(await say('first')).toEqual(said('first'))
    expect(await restrained(vitals)).toMatchObject({ state: 'healthy', probe: 'transport', failures: [] })
    expect(await say('last')).toEqual(said('last'))
    expect(errors).toEqual([])
  })
})
