import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { type Running, serve } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/log.ts'
import { quickMemoryLookMs } from '../peers/quick-law.ts'
import { repoRoot } from '../peers/spawn.ts'
import { becomesState, debugUpstream, metricValue, metricValues } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../../deploy/stack/ports.ts'
import { launchedEverything } from '../support/launched.ts'
import { isRunning } from '../support/processes.ts'
import { openPost, openSession, post } from '../support/rpc.ts'

// Real servers, and shorter times for hangs: what is silent, or spins, for 8 s hangs.
const stubborn = async () => {
  const port = String(await freePort())
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    launch: {
      command: process.execPath,
      args: ['test/peers/children/stubborn-http.mjs'],
      env: { PORT: port },
      cwd: repoRoot,
    },
  }
}
const blockable = { command: process.execPath, args: ['test/peers/children/blockable-stdio.mjs'], cwd: repoRoot }

let vitals: Running
const log: string[] = []

beforeAll(async () => {
  const file = {
    listen: '127.0.0.1:0',
    admin_listen: '127.0.0.1:0',
    heartbeat: {
      heartbeat_interval_seconds: 1,
      hang_idle_seconds: 8,
      hang_spinning_seconds: 8,
      adaptive_heartbeat: { min_interval_seconds: 1, max_interval_seconds: 1 },
    },
    mcpServers: {
      stopped: blockable,
      spinning: blockable,
      hangingSession: { ...blockable, resident: 'always' },
      working: blockable,
      waiting: blockable,
      growing: { ...blockable, max_memory_mb: 200 },
      growingShared: { ...blockable, max_memory_mb: 200, process: 'shared' },
      always: blockable,
      onFailure: { ...blockable, restart: 'on_failure' },
      never: { ...blockable, restart: 'never' },
      launched: await launchedEverything(),
      stubborn: await stubborn(),
      closing: await stubborn(),
      deaf: blockable,
      deafSession: blockable,
      finished: { ...(await launchedEverything()), restart: 'on_failure' },
    },
  }
  const { config } = loadConfig({ files: ['a.yaml'], env: {}, readFile: () => stringify(file) })
  vitals = await serve({
    config,
    env: {},
    memoryLookMs: quickMemoryLookMs,
    log: createLogger({ level: 'info', format: 'json', isTerminal: false, write: (line) => log.push(line) }),
  })
}, 60_000)
afterAll(() => vitals.stop(), 60_000)

const stateOf = (name: string) => debugUpstream(vitals, name)
const urlOf = (name: string) => `${vitals.dataUrl}/${name}/mcp`
const restartsOf = (upstream: string, reason: string) =>
  metricValue(vitals, 'mcp_upstream_restarts_total', { upstream, reason })

/** How often it went down. */
async function outagesOf(upstream: string): Promise<number> {
  const counts = await metricValues(vitals, 'mcp_upstream_state_changes_total', { upstream, to: 'down' })
  return counts.reduce((sum, count) => sum + count, 0)
}

function becomes(name: string, state: string, timeoutMs = 40_000) {
  return becomesState(vitals, name, state, timeoutMs)
}

async function pidOf(name: string, role: string): Promise<number> {
  const { process: processes } = await becomes(name, 'healthy')
  const found = processes?.all.find((one) => one.role === role)
  if (!found) throw new Error(`${name} has no ${role} process`)
  return found.pid
}

/** Waits until another process has taken the place of this one, and answers. */
function replaced(name: string, pid: number) {
  return eventually(
    async () => {
      const { state, process: now } = await stateOf(name)
      return state === 'healthy' && now?.pid !== null && now?.pid !== pid
    },
    { timeoutMs: 60_000, what: `${name} has another process` },
  )
}

/** A session; while the machine is busy with all that spins here, new ones may be refused for a moment. */
const opened = (name: string) =>
  eventually(() => openSession(urlOf(name)), { timeoutMs: 60_000, what: `a session with ${name}` })

const call = (name: string, args: object) => ({
  jsonrpc: '2.0',
  id: 9,
  method: 'tools/call',
  params: { name, arguments: args },
})

/** What the log says of the hangs of an upstream. */
const hangsOf = (upstream: string) =>
  log.filter((line) => line.includes(`"upstream":"${upstream}"`) && line.includes('a server process hangs'))

describe.concurrent('supervision', { timeout: 120_000 }, () => {
  it('SIGSTOP: down, hung, started again, none left', async () => {
    const pid = await pidOf('stopped', 'resident')
    process.kill(pid, 'SIGSTOP')
    await becomes('stopped', 'down')
    await replaced('stopped', pid)
    expect(await restartsOf('stopped', 'hung')).toBe(1)
    expect(hangsOf('stopped')[0]).toContain('and a signal has stopped it')
    expect(isRunning(pid)).toBe(false)
  })

  it.each([
    ['deaf', 'resident', 'SIGWINCH', 'write EPIPE|no longer reads'],
    ['closing', 'server', 'SIGHUP', 'ECONNREFUSED'],
  ] as const)('%s, but it runs: down, and started again like a hung one', async (name, role, signal, why) => {
    const pid = await pidOf(name, role)
    process.kill(pid, signal)
    await becomes(name, 'down')
    expect(isRunning(pid)).toBe(true)
    await replaced(name, pid)
    expect(await restartsOf(name, 'hung')).toBe(1)
    expect(hangsOf(name)[0]).toMatch(new RegExp(`it runs, and was not reached for (8|9|\\d\\d) s .*(${why})`))
    expect(await metricValue(vitals, 'mcp_heartbeats_total', { upstream: name, outcome: 'exited' })).toBe(0)
    expect(isRunning(pid)).toBe(false)
  })

  it('a session whose process reads no more: one request fails, and then it is over', async () => {
    const session = await opened('deafSession')
    const pid = await pidOf('deafSession', 'session')
    process.kill(pid, 'SIGWINCH')
    await eventually(() => !existsSync(`/proc/${pid}/fd/0`), { what: 'it closed its stdin' })
    const statuses = new Set<number>()
    const ping = { jsonrpc: '2.0', id: 2, method: 'ping' }
    await eventually(async () => statuses.add((await post(urlOf('deafSession'), ping, session)).status).has(404), {
      what: 'its session is over',
    })
    expect([...statuses]).toEqual([502, 404])
    await replaced('deafSession', pid)
    expect(isRunning(pid)).toBe(false)
  })

  it('spinning with nothing in flight: down, hung, started again', async () => {
    const pid = await pidOf('spinning', 'resident')
    process.kill(pid, 'SIGUSR2')
    await becomes('spinning', 'down')
    await replaced('spinning', pid)
    expect(await restartsOf('spinning', 'hung')).toBe(1)
    expect(hangsOf('spinning')[0]).toMatch(/it uses \d+ % of a core/)
  })

  it("a session's process that hangs is ended, and its client told; the others never notice", async () => {
    const resident = await pidOf('hangingSession', 'resident')
    const session = await opened('hangingSession')
    const pid = await pidOf('hangingSession', 'session')
    process.kill(pid, 'SIGSTOP')
    await eventually(() => !isRunning(pid), { timeoutMs: 60_000, what: 'its process is gone' })
    const answer = await eventually(
      async () => {
        const { status } = await post(urlOf('hangingSession'), { jsonrpc: '2.0', id: 2, method: 'ping' }, session)
        return status === 404
      },
      { what: 'its session is over' },
    )
    expect(answer).toBe(true)
    expect(hangsOf('hangingSession')[0]).toContain('its session with it')
    expect(await outagesOf('hangingSession')).toBe(0)
    expect(await pidOf('hangingSession', 'resident')).toBe(resident)
  })

  it.each([
    ['working', 'spin', /^busy: a request is under way, and it uses \d+ % of a core$/],
    ['waiting', 'wait', /^busy: a request is under way, and it uses [01] % of a core$/],
  ])('%s for a client on its only thread: busy, and nothing else happens', async (name, tool, reason) => {
    const session = await opened(name)
    const pid = await pidOf(name, 'session')
    const working = openPost(urlOf(name), call(tool, { seconds: 14 }), session)
    const busy = await becomes(name, 'busy')
    expect(busy.reason).toMatch(reason)
    expect(await metricValue(vitals, 'mcp_upstream_up', { upstream: name })).toBe(1)
    const { status, body } = await working.done
    expect(status).toBe(200)
    expect(body).toContain(`${tool} is done`)
    expect(await pidOf(name, 'session')).toBe(pid)
    expect(await outagesOf(name)).toBe(0)
    expect(hangsOf(name)).toEqual([])
  })

  it("a session's process that outgrows its limit ends after the answer, and the resident one takes its place", async () => {
    const session = await opened('growing')
    const pid = await pidOf('growing', 'session')
    expect((await post(urlOf('growing'), call('grow', { megabytes: 250 }), session)).status).toBe(200)
    await eventually(() => !isRunning(pid), { timeoutMs: 60_000, what: 'its process is gone' })
    await eventually(
      async () => (await post(urlOf('growing'), { jsonrpc: '2.0', id: 3, method: 'ping' }, session)).status === 404,
      { what: 'its session is over' },
    )
    await replaced('growing', pid)
    expect(await restartsOf('growing', 'memory')).toBe(1)
    expect(log.join('')).toMatch(/it uses \d+ MiB of memory, more than 200 MiB/)
    const { process } = await stateOf('growing')
    expect(process?.last_ended?.how).toMatch(/, after mcp-vitals ended it: it uses \d+ MiB of memory, more than/)
    const ends = log.filter((line) => line.includes('session ended') && line.includes('"upstream":"growing"'))
    expect(ends.map((line) => String(JSON.parse(line).reason))).toEqual(['replaced'])
  })

  it('a shared process that outgrows its limit is started again', async () => {
    const session = await opened('growingShared')
    const pid = await pidOf('growingShared', 'resident')
    expect((await post(urlOf('growingShared'), call('grow', { megabytes: 250 }), session)).status).toBe(200)
    await replaced('growingShared', pid)
    expect(await restartsOf('growingShared', 'memory')).toBe(1)
    expect(await outagesOf('growingShared')).toBe(0)
  })

  it('exit 0 under each restart policy', async () => {
    const pids = new Map<string, number>()
    for (const name of ['always', 'onFailure', 'never']) pids.set(name, await pidOf(name, 'resident'))
    for (const pid of pids.values()) process.kill(pid, 'SIGHUP')
    await replaced('always', pids.get('always') ?? 0)
    expect(await restartsOf('always', 'exit')).toBe(1)
    const idle = await becomes('onFailure', 'idle')
    expect(idle.reason).toBe('the resident process exited with code 0 (restart: on_failure)')
    expect(await outagesOf('onFailure')).toBe(0)
    const down = await becomes('never', 'down')
    expect(down.reason).toBe('the resident process exited with code 0 (restart: never)')
    expect([await restartsOf('onFailure', 'exit'), await restartsOf('never', 'exit')]).toEqual([0, 0])
  })

  it('a launched server under SIGSTOP: down, hung, started again', async () => {
    const pid = await pidOf('launched', 'server')
    process.kill(pid, 'SIGSTOP')
    await becomes('launched', 'down')
    await replaced('launched', pid)
    expect(await restartsOf('launched', 'hung')).toBe(1)
    expect(isRunning(pid)).toBe(false)
  })

  it('one that answers again while it is being ended is not asked until its successor runs, and that is a start', async () => {
    // The first restart comes at once, the second has to wait.
    for (let hangs = 1; hangs <= 2; hangs++) {
      const pid = await pidOf('stubborn', 'server')
      process.kill(pid, 'SIGUSR2')
      await becomes('stubborn', 'down')
      await replaced('stubborn', pid)
      expect(await restartsOf('stubborn', 'hung')).toBe(hangs)
    }
    expect(await outagesOf('stubborn')).toBe(2)
    const starts = log.filter((line) => line.includes('its process was stopped to be restarted (hung)'))
    expect(starts.length).toBeGreaterThan(0)
    for (const line of starts) expect(JSON.parse(line)).toMatchObject({ from: 'recovering', state: 'starting' })
    const upstream = 'stubborn'
    expect(await metricValue(vitals, 'mcp_heartbeats_total', { upstream, leg: 'upstream', outcome: 'refused' })).toBe(0)
  })

  it('a launched server that exits with 0 under on_failure is idle, and not asked any more', async () => {
    const pid = await pidOf('finished', 'server')
    process.kill(pid, 'SIGINT') // It closes its sessions and exits with 0.
    const { reason } = await becomes('finished', 'idle')
    expect(reason).toBe('the server process exited with code 0 (restart: on_failure)')
    expect(await restartsOf('finished', 'exit')).toBe(0)
    expect(await outagesOf('finished')).toBe(0)
  })
})
