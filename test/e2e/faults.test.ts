import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import { type RunningProcess, repoRoot } from '../peers/spawn.ts'
import { becomesState, debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { launchedEverything } from '../support/launched.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { initializeMessage, modernPost, openPost, openSession, post } from '../support/rpc.ts'
import { type ScriptedServer, scriptedServer, sendJson } from '../support/scripted-server.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const maxIntervalSeconds = 2
const [serverEverything] = everythingStdio.args

let vitals: RunningVitals
let hangable: RunningProcess<string>
let holdFile: string
const cleanups: (() => Promise<unknown>)[] = []

/** Every message is refused for want of a token. */
const locked = () =>
  scriptedServer((_message, response) => {
    response.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
  })

/** A legacy server without `ping`. */
const pingless = () =>
  scriptedServer(({ id, method }, response) => {
    const results: Readonly<Record<string, unknown>> = {
      initialize: {
        protocolVersion: '2025-06-18',
        capabilities: { tools: {} },
        serverInfo: { name: 'pingless', version: '1' },
      },
      'tools/list': { tools: [{ name: 'only', inputSchema: { type: 'object' } }] },
    }
    const result = results[String(method)]
    if (id === undefined) response.writeHead(202).end()
    else if (result) sendJson(response, 200, { jsonrpc: '2.0', id, result })
    else sendJson(response, 200, { jsonrpc: '2.0', id, error: { code: -32601, message: 'Method not found' } })
  })

async function during<T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> {
  const started = await starting
  cleanups.push(() => started.stop())
  return started
}

beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-faults-'))
  cleanups.push(() => rm(directory, { recursive: true }))
  holdFile = join(directory, 'hold')
  const scripted: ScriptedServer[] = [await during(locked()), await during(pingless())]
  hangable = await during(startEverything('streamableHttp'))
  const node = process.execPath
  const cwd = repoRoot
  vitals = await during(
    startVitals({
      config: {
        heartbeat: {
          heartbeat_interval_seconds: 1,
          adaptive_heartbeat: { min_interval_seconds: 1, max_interval_seconds: maxIntervalSeconds },
        },
        mcpServers: {
          killed: {
            command: node,
            args: ['--import', './test/peers/hold.mjs', serverEverything, 'stdio'],
            env: { HOLD_FILE: holdFile },
            cwd,
          },
          sessions: { ...everythingStdio, cwd },
          shared: { command: node, args: ['test/peers/modern-stdio.ts'], cwd },
          exit127: { command: 'sh', args: ['-c', 'exit 127'] },
          missing: { command: '/no/such/program' },
          hung: { url: hangable.ready },
          unreachable: { url: `http://127.0.0.1:${await freePort()}/mcp` },
          locked: { url: scripted[0]?.url },
          pingless: { url: scripted[1]?.url },
          launched: await launchedEverything(),
        },
      },
    }),
  )
}, 60_000)
afterAll(async () => {
  for (const cleanup of cleanups.toReversed()) await cleanup()
}, 60_000)

const stateOf = (name: string) => debugUpstream(vitals, name)
const upOf = (upstream: string) => metricValue(vitals, 'mcp_upstream_up', { upstream })
const restartsOf = (upstream: string) =>
  metricValue(vitals, 'mcp_upstream_restarts_total', { upstream, reason: 'signal' })
const urlOf = (name: string) => `${vitals.dataUrl}/${name}/mcp`

/** How often its state changed that way. */
async function changes(upstream: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const counts = await metricValues(vitals, 'mcp_upstream_state_changes_total', { upstream, ...labels })
  expect(counts).not.toEqual([])
  return counts.reduce((sum, count) => sum + count, 0)
}

function becomes(name: string, state: string, timeoutMs = 20_000) {
  return becomesState(vitals, name, state, timeoutMs)
}

function kill(upstream: { readonly process: { readonly pid: number | null } | null }): void {
  if (!upstream.process?.pid) throw new Error('no process runs')
  process.kill(upstream.process.pid, 'SIGKILL')
}

async function pidOf(name: string, role = 'any'): Promise<number> {
  const { process: processes } = await stateOf(name)
  const found = processes?.all.find((one) => role === 'any' || one.role === role)
  if (!found) throw new Error(`${name} has no ${role} process`)
  return found.pid
}

const call = (id: number, name: string, args: object, meta: object = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: args, _meta: meta },
})
const longCall = (id: number, meta: object = {}) =>
  call(id, 'trigger-long-running-operation', { duration: 60, steps: 300 }, meta)

describe.concurrent('faults', { timeout: 60_000 }, () => {
  it('kill -9 of a stdio server: down and mcp_upstream_up 0 at once, restarted, healthy in seconds, counted', async () => {
    const before = await becomes('killed', 'healthy')
    expect([await upOf('killed'), await restartsOf('killed')]).toEqual([1, 0])
    await writeFile(holdFile, '') // The next process waits, so that nothing here depends on how fast it is back.
    const killedAt = Date.now()
    kill(before)

    const down = await becomes('killed', 'down', 2000)
    expect(Date.parse(down.since) - killedAt).toBeLessThan(1000)
    expect(down.reason).toContain('SIGKILL')
    // A probe that was under way ends by the exit, else the exit is a heartbeat of its own (method `process`).
    const exited = { outcome: 'exited', reason: expect.stringContaining('SIGKILL') }
    expect(down.failures).toContainEqual(expect.objectContaining(exited))
    expect(await upOf('killed')).toBe(0)
    expect((await fetch(`${vitals.adminUrl}/-/ready/killed`)).status).toBe(503)
    const other = await fetch(`${vitals.adminUrl}/-/ready`)
    expect(other.status, 'our own readiness does not depend on an upstream').toBe(200)

    await rm(holdFile)
    const after = await becomes('killed', 'healthy', 10_000)
    expect([await upOf('killed'), await restartsOf('killed')]).toEqual([1, 1])
    expect(after.process).toMatchObject({ restarts: 1 })
    expect(after.process?.pid).not.toBe(before.process?.pid)
    expect(after.unavailable_seconds).toBeGreaterThan(0)
    const answer = await modernPost(urlOf('killed'), { id: 1, method: 'server/discover' }).done
    expect(answer.status, 'the new process answers').toBe(404)
  })

  it("kill -9 of a client session's process: one JSON-RPC error for each request, then 404, then a new session", async () => {
    await becomes('sessions', 'healthy')
    const session = await openSession(urlOf('sessions'))
    // What the server announces once it is initialized goes out with this answer, and not with the ones below.
    await post(urlOf('sessions'), { jsonrpc: '2.0', id: 4, method: 'ping' }, session)
    const plain = openPost(urlOf('sessions'), longCall(5), session)
    const streaming = openPost(urlOf('sessions'), longCall(6, { progressToken: 6 }), session)
    await eventually(() => streaming.messages().length > 0, { what: 'the tool works' })
    process.kill(await pidOf('sessions', 'session'), 'SIGKILL')

    const [refused, cut] = await Promise.all([plain.done, streaming.done])
    const error = { code: -32000, data: { reason: 'upstream_exited', delivered: true } }
    expect(refused).toMatchObject({ status: 502, messages: [{ id: 5, error }] })
    const answers = cut.messages.filter((message) => 'id' in message)
    expect(answers).toMatchObject([{ id: 6, error }])
    expect(answers).toHaveLength(1)
    expect(cut.messages.at(-1)).toBe(answers[0])

    const late = await post(urlOf('sessions'), { jsonrpc: '2.0', id: 7, method: 'ping' }, session)
    expect(late.status, 'MCP 2025-11-25, Transports, "Session Management"').toBe(404)
    const again = await openSession(urlOf('sessions'))
    const { messages } = await post(urlOf('sessions'), call(8, 'echo', { message: 'alive' }), again)
    expect(messages.at(-1)).toMatchObject({ id: 8, result: { content: [{ text: 'Echo: alive' }] } })
    expect([await upOf('sessions'), await restartsOf('sessions')]).toEqual([1, 1])
    // Recovery waits for a look at the tools, which only a process of our own allows: the resident one comes back.
    await fetch(urlOf('sessions'), { method: 'DELETE', headers: again })
    await becomes('sessions', 'healthy')
  })

  it('kill -9 of the process that modern clients share: one JSON-RPC error each, whatever their ids', async () => {
    await becomes('shared', 'healthy')
    const slow = (meta: object = {}) =>
      modernPost(urlOf('shared'), {
        id: 1,
        method: 'tools/call',
        params: { name: 'slow', arguments: { seconds: 60, steps: 300 } },
        meta: { ...meta },
      })
    const plain = [slow(), slow(), slow()]
    const streaming = slow({ progressToken: 'p' })
    await eventually(() => streaming.messages().length > 0, { what: 'the tools work' })
    process.kill(await pidOf('shared'), 'SIGKILL')
    const error = { code: -32000, data: { reason: 'upstream_exited', delivered: true } }
    for (const { done } of plain) expect(await done).toMatchObject({ status: 502, messages: [{ id: 1, error }] })
    const { messages } = await streaming.done
    expect(messages.filter((message) => 'id' in message)).toMatchObject([{ id: 1, error }])
    await becomes('shared', 'healthy')
    const answer = await modernPost(urlOf('shared'), { id: 1, method: 'server/discover' }).done
    expect(answer).toMatchObject({ status: 200, messages: [{ id: 1, result: {} }] })
    expect(await restartsOf('shared')).toBe(1)
  })

  it.each(['exit127', 'missing'])(
    '%s, a command that cannot run: crash_loop, with the reason, and no hot loop',
    async (name) => {
      const { reason, process: processes, failures } = await becomes(name, 'crash_loop')
      expect(failures).toContainEqual(expect.objectContaining({ method: 'process', outcome: 'exited' }))
      expect(reason).toMatch(name === 'exit127' ? /127/ : /no '\/no\/such\/program'/)
      expect(processes).toMatchObject({ pid: null, restarts: 0 })
      expect(await upOf(name)).toBe(0)
      const asked = modernPost(urlOf(name), { id: 3, method: 'server/discover' })
      const error = { code: -32000, data: { reason: 'upstream_restarting', delivered: false } }
      expect(await asked.done).toMatchObject({ status: 503, messages: [{ id: 3, error }] })
      const opened = await post(urlOf(name), initializeMessage)
      expect(opened).toMatchObject({ status: 503, messages: [{ error }] })
    },
  )

  it('SIGSTOP of an HTTP server: suspect at the first missed probe, down at the third, up again after SIGCONT', async () => {
    const { timeout_ms: timeoutMs } = await eventually(
      async () => {
        const upstream = await stateOf('hung')
        return upstream.state === 'healthy' && upstream.heartbeats.total >= 3 && upstream
      },
      { what: 'hung is healthy and its round trip is known' },
    )
    const stoppedAt = Date.now()
    process.kill(hangable.pid, 'SIGSTOP')
    try {
      const suspect = await leaves('hung', 'healthy')
      expect(suspect).toMatchObject({ state: 'suspect', reason: expect.stringMatching(/^1 miss /) })
      expect(await upOf('hung'), 'suspect is still up').toBe(1)
      const down = await leaves('hung', 'suspect')
      expect(down).toMatchObject({ state: 'down', reason: expect.stringMatching(/^3 misses in a row/) })
      expect(await upOf('hung')).toBe(0)
      // The longest interval with its jitter, three time-outs in a row, and a second for a busy machine.
      const boundMs = maxIntervalSeconds * 1100 + 3 * timeoutMs + 1000
      expect(Date.parse(down.since) - stoppedAt).toBeLessThan(boundMs)
    } finally {
      process.kill(hangable.pid, 'SIGCONT')
    }
    await becomes('hung', 'healthy')
    expect(await upOf('hung')).toBe(1)
  })

  it('an unreachable URL: down, and says why', async () => {
    const { reason, failures } = await becomes('unreachable', 'down')
    expect(reason).toContain('ECONNREFUSED')
    expect(failures[0]).toMatchObject({ outcome: 'refused' })
    expect(await upOf('unreachable')).toBe(0)
    const answer = await post(urlOf('unreachable'), initializeMessage)
    expect(answer).toMatchObject({
      status: 502,
      messages: [{ id: 1, error: { data: { reason: 'upstream_refused' } } }],
    })
  })

  it('a server that wants a token: needs_auth, which is not down', async () => {
    const { failures } = await becomes('locked', 'needs_auth')
    expect(failures.map(({ outcome }) => outcome)).not.toContain('http_error')
    const answer = await post(urlOf('locked'), initializeMessage)
    expect(answer.status, "the client gets the server's own 401").toBe(401)
    expect(answer.headers['www-authenticate']).toBe('Bearer')
  })

  it('a server that answers ping with -32601 stays healthy on the next rung of the ladder', async () => {
    const { recent, failures, state, probe } = await eventually(
      async () => {
        const upstream = await stateOf('pingless')
        return upstream.recent.filter(({ method }) => method === 'tools/list').length >= 2 && upstream
      },
      { what: 'pingless is asked for its tools' },
    )
    expect({ state, probe, failures }).toEqual({ state: 'healthy', probe: 'tools/list', failures: [] })
    expect(recent.map(({ method, outcome }) => `${method} ${outcome}`)).toEqual(
      expect.arrayContaining(['initialize ok', 'ping unsupported', 'tools/list ok']),
    )
    expect(recent.filter(({ method }) => method === 'ping')).toHaveLength(1)
    expect(await changes('pingless', { from: 'healthy' }), 'it never left that state').toBe(0)
  })

  it('kill -9 of a server that a URL was launched with: a request in flight fails at once, and it is restarted', async () => {
    const before = await becomes('launched', 'healthy')
    const session = await openSession(urlOf('launched'))
    const working = openPost(urlOf('launched'), longCall(5, { progressToken: 5 }), session)
    await eventually(() => working.messages().length > 0, { what: 'the tool works' })
    kill(before)
    // Its stream had begun, so its end is all that can be said; a direct client would see no more.
    await expect(working.done).rejects.toThrow()
    const down = await eventually(
      async () => {
        const upstream = await stateOf('launched')
        return upstream.failures.some(({ outcome }) => outcome === 'exited') && upstream
      },
      { timeoutMs: 2000, what: 'the exit is known' },
    )
    expect(down.failures.find(({ outcome }) => outcome === 'exited')?.reason).toContain('SIGKILL')
    const after = await eventually(
      async () => {
        const upstream = await stateOf('launched')
        return upstream.state === 'healthy' && upstream.process?.restarts === 1 && upstream
      },
      { what: 'launched is healthy again' },
    )
    expect(after.process?.pid).not.toBe(before.process?.pid)
    expect(await restartsOf('launched')).toBe(1)
    expect(await changes('launched', { to: 'down' })).toBe(1)
    await openSession(urlOf('launched'))
  })
})

/** What the upstream is as soon as it is no longer in this state. */
function leaves(name: string, state: string) {
  return eventually(
    async () => {
      const upstream = await stateOf(name)
      return upstream.state !== state && upstream
    },
    { timeoutMs: 30_000, what: `${name} is no longer ${state}` },
  )
}
