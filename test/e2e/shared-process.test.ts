import type { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { ProgressCallback } from '@modelcontextprotocol/sdk/shared/protocol.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectV1, connectV2 } from '../peers/clients.ts'
import { everythingStdio } from '../peers/everything.ts'
import { debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { initializeMessage, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let vitals: RunningVitals

beforeAll(async () => {
  const both = {
    command: process.execPath,
    args: ['test/peers/modern-stdio.ts'],
    cwd: process.cwd(),
    process: 'shared',
  }
  vitals = await startVitals({
    config: {
      mcpServers: {
        shared: { ...everythingStdio, process: 'shared' },
        'both-eras': both,
        'modern-only': { ...both, args: [...both.args, 'modern'] },
      },
    },
  })
  for (const name of ['shared', 'both-eras', 'modern-only']) await isHealthy(name)
}, 60_000)
afterAll(() => vitals?.stop(), 30_000)

function isHealthy(name: string): Promise<unknown> {
  const check = async () => (await debugUpstream(vitals, name)).state === 'healthy'
  return eventually(check, { timeoutMs: 40_000, what: `${name} is healthy` })
}

/** An official client that answers what the server asks, and tells what it was asked and told. */
async function person(name: string, path: 'mcp' | 'sse') {
  const capabilities = { sampling: {}, elicitation: {} }
  const client = await connectV1(`${vitals.dataUrl}/shared/${path}`, { capabilities })
  const asked: string[] = []
  const updated: string[] = []
  client.setRequestHandler(CreateMessageRequestSchema, ({ method }) => {
    asked.push(method)
    return { model: 'm', role: 'assistant', content: { type: 'text', text: `sampled by ${name}` } }
  })
  client.setRequestHandler(ElicitRequestSchema, ({ method }) => {
    asked.push(method)
    return { action: 'accept', content: { name } }
  })
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => void updated.push(params.uri))
  const call = async (tool: string, args: Readonly<Record<string, unknown>> = {}, onprogress?: ProgressCallback) =>
    JSON.stringify(await client.callTool({ name: tool, arguments: args }, undefined, onprogress && { onprogress }))
  const close = async () => {
    if (client.transport instanceof StreamableHTTPClientTransport) await client.transport.terminateSession()
    await client.close()
  }
  return { client, asked, updated, call, close }
}

/** One over Streamable HTTP and one over HTTP+SSE, closed at the end. */
async function two<T>(run: (ada: Person, bob: Person) => Promise<T>): Promise<T> {
  const [ada, bob] = await Promise.all([person('Ada', 'mcp'), person('Bob', 'sse')])
  try {
    return await run(ada, bob)
  } finally {
    await Promise.all([ada.close(), bob.close()])
    await eventually(async () => (await sessions()).every((count) => count === 0), { what: 'both sessions are over' })
  }
}
type Person = Awaited<ReturnType<typeof person>>

const sessions = () => metricValues(vitals, 'mcp_sessions_active', { upstream: 'shared' })
const processes = () => metricValue(vitals, 'mcp_upstream_processes', { upstream: 'shared' })
const dropped = (reason: string) =>
  metricValue(vitals, 'mcp_vitals_dropped_messages_total', { upstream: 'shared', reason })

describe('official clients that share one server-everything', { timeout: 60_000 }, () => {
  it('are one process, and each gets the server’s own answer to initialize', async () => {
    await two(async (ada, bob) => {
      expect(await processes()).toBe(1)
      expect(ada.client.getServerVersion()).toMatchObject({ name: 'mcp-servers/everything' })
      expect(bob.client.getInstructions()).toBe(ada.client.getInstructions())
    })
    await eventually(async () => (await debugUpstream(vitals, 'shared')).process?.restarts === 0, { what: 'it stays' })
    expect(await processes()).toBe(1)
  })

  it('are asked to sample and to elicit by their own tool calls', async () => {
    await two(async (ada, bob) => {
      expect(await ada.call('trigger-sampling-request', { prompt: 'a' })).toContain('sampled by Ada')
      expect(await bob.call('trigger-sampling-request', { prompt: 'b' })).toContain('sampled by Bob')
      expect(await bob.call('trigger-elicitation-request')).toContain('Name: Bob')
      expect(await ada.call('trigger-elicitation-request')).toContain('Name: Ada')
      const both = ['elicitation/create', 'sampling/createMessage']
      expect([ada.asked.toSorted(), bob.asked.toSorted()]).toEqual([both, both])
    })
  })

  it('are not asked while it cannot be told whose call it is: that one fails, counted, and nobody else hears of it', async () => {
    await two(async (ada, bob) => {
      const before = (await dropped('no_session')) ?? 0
      let steps = 0
      const long = ada.call('trigger-long-running-operation', { duration: 3, steps: 30 }, () => void (steps += 1))
      await eventually(() => steps > 0, { what: 'the long operation runs' })
      expect(await bob.call('trigger-sampling-request', { prompt: 'b' })).toMatch(/cannot be told which.*isError/)
      expect([ada.asked, bob.asked]).toEqual([[], []])
      expect(await long).toContain('Long running operation completed')
      // It may also ask for roots once, unasked, in its first second.
      expect(await dropped('no_session')).toBeGreaterThan(before)
    })
  })

  it('each hear of the progress of their own calls, although their SDKs choose the same tokens', async () => {
    await two(async (ada, bob) => {
      const operate = async ({ call }: Person, steps: number) => {
        const totals: unknown[] = []
        await call('trigger-long-running-operation', { duration: 1, steps }, ({ total }) => void totals.push(total))
        return totals
      }
      const [ofAda, ofBob] = await Promise.all([operate(ada, 4), operate(bob, 9)])
      // The SDK itself may pass over the last one, which comes together with the answer.
      expect([ofAda.length, ofBob.length]).toEqual([expect.toBeOneOf([3, 4]), expect.toBeOneOf([8, 9])])
      expect([new Set(ofAda), new Set(ofBob)]).toEqual([new Set([4]), new Set([9])])
    })
  })

  it('each hear of the resources that they subscribed to, until they unsubscribe or leave', async () => {
    const uris = [1, 2].map((id) => `demo://resource/dynamic/text/${id}`) as [string, string]
    await two(async (ada, bob) => {
      await ada.client.subscribeResource({ uri: uris[0] })
      await bob.client.subscribeResource({ uri: uris[1] })
      await ada.call('toggle-subscriber-updates')
      await eventually(() => ada.updated.length > 0 && bob.updated.length > 0, { what: 'both were told' })
      await ada.call('toggle-subscriber-updates')
      expect([new Set(ada.updated), new Set(bob.updated)]).toEqual([new Set([uris[0]]), new Set([uris[1]])])
    })
    await two(async (ada) => {
      // The server was told to forget both; it does so in its own time.
      const isSilent = async () => {
        const unwanted = await dropped('no_subscriber')
        await ada.call('toggle-subscriber-updates') // Tells at once of whatever is subscribed.
        await ada.call('toggle-subscriber-updates')
        return (await dropped('no_subscriber')) === unwanted
      }
      await eventually(isSilent, { what: 'nothing is subscribed' })
      expect(ada.updated).toEqual([])
    })
  })

  it('lose their sessions with the process, each request with one error, and may come back', async () => {
    const url = `${vitals.dataUrl}/shared/mcp`
    const opened = await post(url, initializeMessage)
    const session = { 'mcp-session-id': String(opened.headers['mcp-session-id']) }
    const args = { name: 'trigger-long-running-operation', arguments: { duration: 50, steps: 1 } }
    const call = post(url, { jsonrpc: '2.0', id: 7, method: 'tools/call', params: args }, session)
    await eventually(
      async () => (await metricValue(vitals, 'mcp_upstream_requests_in_flight', { upstream: 'shared' })) === 1,
      { what: 'the call is under way' },
    )
    const { process: before } = await debugUpstream(vitals, 'shared')
    process.kill(before?.pid ?? 0, 'SIGKILL')
    expect(await call).toMatchObject({
      status: 502,
      messages: [{ id: 7, error: { data: { reason: 'upstream_exited', delivered: true } } }],
    })
    expect((await post(url, { jsonrpc: '2.0', id: 8, method: 'ping' }, session)).status).toBe(404)
    await isHealthy('shared')
    await two(async (ada) => expect(await ada.call('echo', { message: 'again' })).toContain('again'))
    expect(await processes()).toBe(1)
  })
})

describe('a shared process of the revision 2026-07-28', { timeout: 60_000 }, () => {
  const serverOf = (client: Client) => client.getServerVersion()?.name

  it('of both eras is opened in the legacy one, whoever comes first, and clients of both find that out', async () => {
    const url = `${vitals.dataUrl}/both-eras/mcp`
    const auto = await connectV2(url, 'auto')
    const legacy = await connectV1(url)
    expect(serverOf(legacy)).toBe(auto.getServerVersion()?.name)
    expect(await auto.listTools()).toMatchObject({
      tools: (await legacy.listTools()).tools.map(({ name }) => ({ name })),
    })
    await Promise.all([auto.close(), legacy.close()])
  })

  it('of that era alone serves its clients, and answers the others’ initialize itself', async () => {
    const url = `${vitals.dataUrl}/modern-only/mcp`
    const modern = await connectV2(url, 'modern')
    expect((await modern.listTools()).tools.length).toBeGreaterThan(0)
    expect(await post(url, initializeMessage)).toMatchObject({ status: 400, messages: [{ error: { code: -32022 } }] })
    await modern.close()
  })
})
