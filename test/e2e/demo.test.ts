import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ClientEra, inspectorCli } from '../peers/clients.ts'
import { everythingStdio } from '../peers/everything.ts'
import { debugReport } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { comparable, expectSuccess, legacyScript, outcome, transcriptOf } from '../support/everything-script.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { initializeMessage, modernPost, post } from '../support/rpc.ts'
import { type Place, type UniformClient, uniformV1, uniformV2 } from '../support/uniform-client.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let vitals: RunningVitals
/** Where each upstream of the demo is reached without us. */
let direct: Readonly<Record<string, Place>>

beforeAll(async () => {
  const [sse, http, modern] = [await freePort(), await freePort(), await freePort()]
  vitals = await startVitals({
    args: ['--config', 'deploy/demo/mcp-vitals.yaml'],
    env: {
      MCP_VITALS_LISTEN: '127.0.0.1:0',
      MCP_VITALS_ADMIN_LISTEN: '127.0.0.1:0',
      DEMO_SSE_PORT: String(sse),
      DEMO_HTTP_PORT: String(http),
      DEMO_MODERN_PORT: String(modern),
    },
  })
  direct = {
    everything: everythingStdio,
    'everything-sse': `http://127.0.0.1:${sse}/sse`,
    'everything-http': `http://127.0.0.1:${http}/mcp`,
    modern: `http://127.0.0.1:${modern}/mcp`,
  }
  await eventually(
    async () => {
      const { upstreams } = await debugReport(vitals)
      const states = Object.values(upstreams).map(({ state }) => state)
      return states.length === 4 && states.every((state) => state === 'healthy')
    },
    { timeoutMs: 30_000, what: 'all four upstreams of the demo are healthy' },
  )
}, 60_000)
afterAll(() => vitals?.stop(), 30_000)

function through(upstream: string): string {
  return `${vitals.dataUrl}/${upstream}/${upstream.endsWith('sse') ? 'sse' : 'mcp'}`
}

function directly(upstream: string): Place {
  const place = direct[upstream]
  if (place === undefined) throw new Error(`the demo has no upstream "${upstream}"`)
  return place
}

function directUrl(upstream: string): string {
  const place = directly(upstream)
  if (typeof place !== 'string') throw new Error(`"${upstream}" has no URL of its own`)
  return place
}

/** Everything that the demo's server of revision 2026-07-28 offers. */
async function modernScript(client: UniformClient) {
  return {
    server: client.server(),
    tools: await client.listTools(),
    echo: await client.callTool('echo', { message: 'grüße \u{1F9EA} <&>"\\' }),
    add: await client.callTool('add', { a: 2, b: 40 }),
    progress: await client.callTool('slow', { seconds: 0.25, steps: 5 }),
    failing: await client.callTool('fail'),
    wrongArguments: await outcome(client.callTool('add', { a: 'no number' })),
    unknownTool: await outcome(client.callTool('no-such-tool')),
  }
}

const v1 = { client: 'SDK v1', connect: (place: Place) => uniformV1(place) }
const v2 = (era: ClientEra) => ({ client: `SDK v2, ${era}`, connect: (place: Place) => uniformV2(place, era) })
const legacyServers = ['everything', 'everything-sse', 'everything-http'] as const

describe('official clients work unchanged through every upstream of the demo', { timeout: 60_000 }, () => {
  const legacyCases = [
    ...[v1, v2('legacy')].flatMap((client) => legacyServers.map((upstream) => ({ ...client, upstream }))),
    { ...v2('auto'), upstream: 'everything' },
    { ...v2('auto'), upstream: 'everything-http' },
  ]
  it.each(legacyCases)('$client on $upstream: each answer is the one it gets directly', async (row) => {
    const [alone, proxied] = await Promise.all([
      transcriptOf(row.connect(directly(row.upstream)), legacyScript),
      transcriptOf(row.connect(through(row.upstream)), legacyScript),
    ])
    expect(comparable(proxied)).toEqual(comparable(alone))
    expectSuccess(proxied)
  })

  it.each([v2('auto'), v2('modern')])('$client on modern: each answer is the one it gets directly', async (row) => {
    const [alone, proxied] = await Promise.all([
      transcriptOf(row.connect(directly('modern')), modernScript),
      transcriptOf(row.connect(through('modern')), modernScript),
    ])
    expect(comparable(proxied)).toEqual(comparable(alone))
    expect(proxied.server).toContain('modern')
    expect(proxied.progress.progress).toBe(5)
    expect(proxied.failing).toMatchObject({ result: { isError: true } })
    expect(proxied.add).toMatchObject({ result: { content: [{ text: '42' }] } })
  })

  it('mcp-inspector --cli lists and calls tools', async () => {
    const list = ['--method', 'tools/list']
    const call = ['--method', 'tools/call', '--tool-name', 'echo', '--tool-arg', 'message=hello']
    const listDirectly = (upstream: string) => inspectorCli(directUrl(upstream), list)
    const [everything, modern] = await Promise.all([listDirectly('everything-http'), listDirectly('modern')])
    for (const upstream of [...legacyServers, 'modern']) {
      const [listed, called] = await Promise.all([
        inspectorCli(through(upstream), list),
        inspectorCli(through(upstream), call),
      ])
      expect(listed, upstream).toEqual(upstream === 'modern' ? modern : everything)
      expect(called, upstream).toMatchObject({ content: [{ type: 'text', text: expect.stringContaining('hello') }] })
    }
  })
})

/** What a server says to a client of the other era is its own; clients detect the era by it. */
describe('the eras are never translated', { timeout: 30_000 }, () => {
  it('a legacy client on a modern server gets what the server itself says (2026-07-28, Lifecycle, Negotiation)', async () => {
    const [alone, proxied] = await Promise.all([
      post(directUrl('modern'), initializeMessage),
      post(through('modern'), initializeMessage),
    ])
    expect({ status: proxied.status, body: proxied.body }).toEqual({ status: alone.status, body: alone.body })
    expect(proxied.messages[0]).toMatchObject({ id: 1, error: { code: expect.any(Number) } })
    const refusals = await Promise.all(
      [directly('modern'), through('modern')].map((place) => refusalOf(uniformV1(place))),
    )
    expect(refusals[1]).toBe(refusals[0])
  })

  it('a modern client on a legacy server gets what the server itself says', async () => {
    const request = { id: 7, method: 'server/discover' }
    const [alone, proxied] = await Promise.all([
      modernPost(directUrl('everything-http'), request).done,
      modernPost(through('everything-http'), request).done,
    ])
    expect({ status: proxied.status, body: proxied.body }).toEqual({ status: alone.status, body: alone.body })
    const [refusedAlone, refused] = await Promise.all(
      [directly('everything-http'), through('everything-http')].map((place) => refusalOf(uniformV2(place, 'modern'))),
    )
    expect(refused).toBe(refusedAlone)
  })

  it('a modern request to a legacy stdio server: its JSON-RPC answer, with the status of SDK v2 for it', async () => {
    const answer = await modernPost(through('everything'), { id: 'seven', method: 'server/discover' }).done
    const error = { code: -32601, message: 'Method not found' }
    expect(answer).toMatchObject({ status: 404, messages: [{ jsonrpc: '2.0', id: 'seven', error }] })
    await expect(uniformV2(through('everything'), 'modern')).rejects.toThrow()
  })
})

/** Why a client could not connect. */
async function refusalOf(connecting: Promise<UniformClient>): Promise<string> {
  const client = await connecting.catch((error: unknown) => String(error))
  if (typeof client === 'string') return client
  await client.close()
  throw new Error('the client connected')
}
