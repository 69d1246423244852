import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { repoRoot } from '../peers/spawn.ts'
import { debugUpstream, metricValue } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { isRunning } from '../support/processes.ts'
import { initializeMessage, openSession, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

/** The real program, with a server whose processes are its clients' own: limits, spare processes, and what is counted. */

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop()
})

const server = {
  command: 'node',
  args: [join(repoRoot, 'test/peers/children/scripted-stdio.mjs')],
  resident: 'never',
}

async function start(more: Readonly<Record<string, unknown>>, top: Readonly<Record<string, unknown>> = {}) {
  const vitals = await startVitals({ config: { ...top, mcpServers: { p: { ...server, ...more } } } })
  stops.push(() => vitals.stop())
  return { vitals, url: `${vitals.dataUrl}/p/mcp` }
}

/** The processes of the server by their role, as `/debug/heartbeat` shows them. */
async function processesOf(vitals: RunningVitals, role: string): Promise<number[]> {
  const { process } = await debugUpstream(vitals, 'p')
  return process?.all.flatMap((one) => (one.role === role ? [one.pid] : [])) ?? []
}

const spareOf = (vitals: RunningVitals, isNew: (pid: number) => boolean = () => true) =>
  eventually(async () => (await processesOf(vitals, 'spare')).find((pid) => isNew(pid)), { what: 'a spare process' })

describe('bridged sessions of the running program', () => {
  it('a spare process becomes a session’s, is counted, replaced, restarted when it is killed, and ended', async () => {
    const { vitals, url } = await start({ spare_processes: 1 })
    const first = await spareOf(vitals)
    expect(await metricValue(vitals, 'mcp_upstream_processes', { upstream: 'p' })).toBe(1)
    await openSession(url)
    expect(await processesOf(vitals, 'session')).toEqual([first])
    const second = await spareOf(vitals)
    expect(await metricValue(vitals, 'mcp_upstream_processes', { upstream: 'p' })).toBe(2)
    expect(await metricValue(vitals, 'mcp_upstream_restarts_total', { reason: 'signal' })).toBe(0)
    process.kill(second, 'SIGKILL')
    const third = await spareOf(vitals, (pid) => pid !== second)
    expect(await metricValue(vitals, 'mcp_upstream_restarts_total', { reason: 'signal' })).toBe(1)
    expect(vitals.output()).toContain(`spare process ${second} was killed by SIGKILL`)
    await vitals.stop()
    // On a busy machine a process that was killed may still have to die.
    await eventually(() => ![first, second, third].some((pid) => isRunning(pid)), { what: 'no process is left' })
  })

  it('one is sent heartbeats, and ends when a signal has stopped its process', { timeout: 60_000 }, async () => {
    const hurried = { heartbeat_interval_seconds: 1, adaptive_heartbeat: { enabled: false }, hang_idle_seconds: 2 }
    const { vitals, url } = await start({ heartbeat: { ...hurried, max_timeout_seconds: 2 } })
    const session = await openSession(url)
    const answered = () => metricValue(vitals, 'mcp_heartbeats_total', { leg: 'session', outcome: 'ok' })
    await eventually(async () => ((await answered()) ?? 0) > 0, { what: 'a heartbeat in the session' })
    const [pid = 0] = await processesOf(vitals, 'session')
    process.kill(pid, 'SIGSTOP')
    await eventually(() => !isRunning(pid), { what: 'its process is ended', timeoutMs: 40_000 })
    expect((await post(url, { jsonrpc: '2.0', id: 2, method: 'ping' }, session)).status).toBe(404)
  })

  it('one more than its max_sessions gets 503, and each refusal is counted under its own reason', async () => {
    const { vitals, url } = await start({ max_sessions: 1 })
    await openSession(url)
    const refused = await post(url, initializeMessage)
    expect([refused.status, refused.headers['retry-after']]).toEqual([503, '1'])
    const counted = (reason: string) => metricValue(vitals, 'mcp_vitals_rejected_requests_total', { reason })
    expect(await counted('too_many_upstream_sessions')).toBe(1)
    expect([await counted('too_many_sessions'), await counted('too_many_client_sessions')]).toEqual([0, 0])
  })

  it('one that nobody uses ends after session_timeout_seconds, whatever cleanup_interval_seconds says', async () => {
    const { vitals, url } = await start(
      {},
      { heartbeat: { session_timeout_seconds: 1, cleanup_interval_seconds: 3600 } },
    )
    const session = await openSession(url)
    const [pid = 0] = await processesOf(vitals, 'session')
    await eventually(() => !isRunning(pid), { what: 'its process has ended' })
    expect((await post(url, { jsonrpc: '2.0', id: 2, method: 'ping' }, session)).status).toBe(404)
    expect(vitals.output()).toContain('"reason":"expired"')
  })

  it('what its server prints on stdout besides messages is dropped and counted', async () => {
    const { vitals, url } = await start({})
    const session = await openSession(url)
    const say = ['npm notice: hello', '{"jsonrpc":"2.0","id":$ID,"result":{}}', 'Listening…']
    const answer = await post(url, { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { say } }, session)
    expect(answer.messages).toEqual([{ jsonrpc: '2.0', id: 2, result: {} }])
    const noise = () => metricValue(vitals, 'mcp_vitals_dropped_messages_total', { upstream: 'p', reason: 'noise' })
    await eventually(async () => (await noise()) === 2, { what: 'both lines are counted' })
  })
})
