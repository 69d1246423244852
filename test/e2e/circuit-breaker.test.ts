import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { repoRoot } from '../peers/spawn.ts'
import { debugUpstream, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { initializeMessage, openPost, openSession, post } from '../support/rpc.ts'
import { type ScriptedServer, scriptedServer, sendJson } from '../support/scripted-server.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

let silent: ScriptedServer
let vitals: RunningVitals

const scripted = { command: process.execPath, args: [join(repoRoot, 'test/peers/children/scripted-stdio.mjs')] }
/** Requests are given up soon, and the server is not asked by us, so that nothing but clients' requests counts. */
const impatient = { stall_timeout_seconds: 1, heartbeat: { probe: 'passive' } }

beforeAll(async () => {
  silent = await scriptedServer(({ id, method }, response) => {
    const { protocolVersion } = initializeMessage.params
    const result = { protocolVersion, capabilities: {}, serverInfo: { name: 'silent', version: '1' } }
    if (method === 'initialize') sendJson(response, 200, { jsonrpc: '2.0', id, result })
    else if (id === undefined) response.writeHead(202).end()
  })
  vitals = await startVitals({
    config: {
      mcpServers: {
        stdio: { ...scripted, ...impatient, process: 'shared' },
        each: { ...scripted, ...impatient },
        http: { url: silent.url, ...impatient },
        good: scripted,
      },
    },
  })
})

afterAll(async () => {
  await vitals.stop()
  await silent.stop()
})

const request = (id: number, method: string) => ({ jsonrpc: '2.0', id, method })

/** The headers of an opened session; a server without sessions gives none. */
async function sessionAt(url: string): Promise<Readonly<Record<string, string>>> {
  const { headers } = await post(url, initializeMessage)
  const id = headers['mcp-session-id']
  return typeof id === 'string' ? { 'mcp-session-id': id } : {}
}

describe.each(['stdio', 'http'])('a server over %s that answers nobody', (name) => {
  it('is asked no more after five requests, says so everywhere, and nobody else is refused', async () => {
    const url = `${vitals.dataUrl}/${name}/mcp`
    const session = await sessionAt(url)
    expect(await metricValue(vitals, 'mcp_upstream_circuit_opened_total', { upstream: name })).toBe(0)
    const asked = [1, 2, 3, 4, 5].map((id) => openPost(url, request(id, 'silent'), session).done)

    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([504, 504, 504, 504, 504])
    const refused = await eventually(
      async () => {
        const answer = await post(url, request(6, 'silent'), session)
        return answer.status === 503 && answer
      },
      { what: 'a request is refused' },
    )
    expect(refused.messages[0]).toMatchObject({ error: { data: { reason: 'circuit_open' } } })
    expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(1)
    const opened = await metricValue(vitals, 'mcp_upstream_circuit_opened_total', { upstream: name })
    expect(opened).toBeGreaterThanOrEqual(1)
    expect((await debugUpstream(vitals, name)).circuit?.reason).toContain('requests in a row failed')
    expect(vitals.output()).toMatch(
      new RegExp(`"requests to the upstream are refused for a while","upstream":"${name}"`),
    )
    const good = `${vitals.dataUrl}/good/mcp`
    expect((await post(good, request(1, 'ping'), await openSession(good))).status).toBe(200)
    expect(await metricValue(vitals, 'mcp_upstream_circuit_opened_total', { upstream: 'good' })).toBe(0)
  })
})

it('a process that serves one session alone has nobody else refused, however many of its requests fail', async () => {
  const url = `${vitals.dataUrl}/each/mcp`
  const session = await sessionAt(url)
  const asked = [1, 2, 3, 4, 5].map((id) => openPost(url, request(id, 'silent'), session).done)
  expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([504, 504, 504, 504, 504])
  for (const asking of [await sessionAt(url), session]) {
    expect((await post(url, request(6, 'ping'), asking)).status).toBe(200)
  }
  expect(await metricValue(vitals, 'mcp_upstream_circuit_opened_total', { upstream: 'each' })).toBe(0)
})
