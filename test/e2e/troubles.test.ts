/** Troubles that users of MCP proxies tell of, as far as no other test has them: the README says which test has which. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEverything } from '../peers/everything.ts'
import type { RunningProcess } from '../peers/spawn.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { becomesState, debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { halfOpenable } from '../support/half-open.ts'
import { type McpServer, mcpServer } from '../support/mcp-server.ts'
import { openPost, openSession, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let vitals: RunningVitals
let everything: RunningProcess<string>
let way: Awaited<ReturnType<typeof halfOpenable>>
let billed: McpServer
let asked: McpServer

beforeAll(async () => {
  everything = await startEverything('streamableHttp')
  way = await halfOpenable(new URL(everything.ready))
  billed = await mcpServer()
  asked = await mcpServer()
  const adaptive_heartbeat = { min_interval_seconds: 1, max_interval_seconds: 2 }
  vitals = await startVitals({
    config: {
      heartbeat: { heartbeat_interval_seconds: 1, adaptive_heartbeat },
      mcpServers: {
        blipping: { url: `${way.origin}/mcp` },
        billed: { url: billed.url, heartbeat: { probe: 'passive' } },
        asked: { url: asked.url },
        unreachable: { url: `http://127.0.0.1:${await freePort()}/mcp` },
        failing: { command: 'sh', args: ['-c', 'exit 1'] },
      },
    },
  })
}, 60_000)
afterAll(async () => {
  await vitals.stop()
  await way.stop()
  await Promise.all([everything.stop(), billed.stop(), asked.stop()])
}, 60_000)

const call = (id: number, name: string, args: object) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: args, _meta: { progressToken: id } },
})

describe('troubles of other proxies', { timeout: 60_000 }, () => {
  it('one blip ends nothing for good: the request under way fails, and the next in the same session is answered', async () => {
    await becomesState(vitals, 'blipping', 'healthy', 20_000)
    const url = `${vitals.dataUrl}/blipping/mcp`
    const session = await openSession(url)
    for (const id of [1, 11, 21]) {
      const working = openPost(url, call(id, 'trigger-long-running-operation', { duration: 60, steps: 300 }), session)
      await eventually(() => working.messages().length > 0, { what: 'the tool works' })
      way.mend() // Every connection to the server breaks at this moment.
      await expect(working.done).rejects.toThrow()
      const { status, messages } = await post(url, call(id + 1, 'echo', { message: 'there' }), session)
      expect([status, messages.at(-1)?.result]).toEqual([200, { content: [{ type: 'text', text: 'Echo: there' }] }])
    }
    await becomesState(vitals, 'blipping', 'healthy', 20_000)
  })

  it('a server that bills each request is asked for nothing but what its clients ask', async () => {
    await eventually(() => asked.count('POST ping') >= 5, { what: 'the other server is asked again and again' })
    expect(billed.log()).toEqual([])
    const url = `${vitals.dataUrl}/billed/mcp`
    const session = await openSession(url)
    await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/list' }, session)
    const before = asked.count('POST ping')
    await eventually(() => asked.count('POST ping') >= before + 3, { what: 'the other server is asked again' })
    expect(billed.log()).toEqual(['POST initialize', 'POST notifications/initialized', 'POST tools/list'])
    expect((await debugUpstream(vitals, 'billed')).state).toBe('healthy')
  })

  it('whatever is down says when it is tried again: asked, or started', async () => {
    const down = await becomesState(vitals, 'unreachable', 'down', 20_000)
    const due = await eventually(
      async () => (await debugUpstream(vitals, 'unreachable')).next_probe_in_seconds ?? undefined,
      { what: 'its next heartbeat is planned' },
    )
    expect(due).toBeLessThanOrEqual(2)
    expect(down.why_this_interval).toContain('in a row')
    const inSeconds = await eventually(
      async () => (await debugUpstream(vitals, 'failing')).process?.next_start_in_seconds ?? undefined,
      { what: 'its next start is planned' },
    )
    expect(inSeconds).toBeGreaterThan(0)
    expect(inSeconds).toBeLessThanOrEqual(600)
    const says = async () => /starts in \d+\.\d s/.test(await (await fetch(`${vitals.adminUrl}/`)).text())
    await eventually(says, { what: 'the index says so' })
  })
})
