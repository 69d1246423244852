import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { everythingStdio } from '../peers/everything.ts'
import { repoRoot } from '../peers/spawn.ts'
import { debugReport, debugUpstream } from '../support/admin.ts'
import { eventually } from '../support/eventually.ts'
import { launchedEverything } from '../support/launched.ts'
import { groupMembers, isRunning } from '../support/processes.ts'
import { modernPost, openPost, openSession, post } from '../support/rpc.ts'
import { type RunningVitals, startVitals } from '../support/vitals.ts'

const isLinux = process.platform === 'linux'
const cwd = repoRoot
const node = process.execPath

/** Runs when a test is over, whatever came of it. */
type Cleanup = (run: () => Promise<void>) => void

async function started(cleanup: Cleanup, mcpServers: Readonly<Record<string, unknown>>): Promise<RunningVitals> {
  const vitals = await startVitals({ config: { mcpServers } })
  cleanup(vitals.stop)
  for (const name of Object.keys(mcpServers)) {
    await eventually(async () => (await debugUpstream(vitals, name)).state === 'healthy', {
      what: `${name} is healthy`,
    })
  }
  return vitals
}

async function temporary(cleanup: Cleanup): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-shutdown-'))
  cleanup(() => rm(directory, { recursive: true }))
  return directory
}

/** All processes of all upstreams. */
async function pidsOf(vitals: RunningVitals): Promise<number[]> {
  const { upstreams } = await debugReport(vitals)
  return Object.values(upstreams).flatMap((upstream) => upstream.process?.all.map(({ pid }) => pid) ?? [])
}

/** Sends SIGTERM; how it ended, and after how many seconds. */
async function terminate({ pid, exited }: RunningVitals) {
  const startedAt = performance.now()
  process.kill(pid, 'SIGTERM')
  const end = await exited
  return { end, seconds: (performance.now() - startedAt) / 1000 }
}

/** A stdio server whose own child ignores every polite signal and never looks at its stdin. */
const stubborn = (server: string) => ({
  command: 'sh',
  args: ['-c', `(trap '' HUP INT TERM; while :; do sleep 1000; done) & exec "$0" ${server}`, node],
  cwd,
})

const slowCall = (seconds: number) => ({
  jsonrpc: '2.0',
  id: 5,
  method: 'tools/call',
  params: {
    name: 'trigger-long-running-operation',
    arguments: { duration: seconds, steps: 10 },
    _meta: { progressToken: 5 },
  },
})

describe.concurrent('SIGTERM', { timeout: 40_000 }, () => {
  it('lets requests in flight finish, refuses new ones, ends every process and exits 0', async ({ onTestFinished }) => {
    const vitals = await started(onTestFinished, {
      stdio: { ...everythingStdio, cwd },
      shared: { command: node, args: ['test/peers/modern-stdio.ts'], cwd },
      http: await launchedEverything(),
    })
    const [stdio, shared, http] = ['stdio', 'shared', 'http'].map((name) => `${vitals.dataUrl}/${name}/mcp`) as [
      string,
      string,
      string,
    ]
    const [inStdio, inHttp] = [await openSession(stdio), await openSession(http)]
    const running = [
      openPost(stdio, slowCall(2), inStdio),
      openPost(http, slowCall(2), inHttp),
      modernPost(shared, {
        id: 5,
        method: 'tools/call',
        params: { name: 'slow', arguments: { seconds: 2, steps: 10 } },
        meta: { progressToken: 5 },
      }),
    ]
    for (const { messages } of running) await eventually(() => messages().length > 0, { what: 'the tools work' })
    const pids = await pidsOf(vitals)
    expect(pids.length).toBeGreaterThanOrEqual(3)

    const ending = terminate(vitals)
    const refused = await eventually(
      async () => {
        const status = await post(stdio, { jsonrpc: '2.0', id: 6, method: 'ping' }, inStdio).then(
          (answer) => answer.status,
          (error: NodeJS.ErrnoException) => error.code,
        )
        return status !== 200 && status
      },
      { what: 'new requests are refused' },
    )
    expect([503, 'ECONNREFUSED', 'ECONNRESET']).toContain(refused)
    for (const { done } of running) {
      expect((await done).messages.at(-1)).toMatchObject({ id: 5, result: { content: [{ type: 'text' }] } })
    }
    const { end, seconds } = await ending
    expect(end).toBe('code 0')
    expect(seconds).toBeLessThan(15)
    expect(pids.filter(isRunning)).toEqual([])
  })

  it('ends a request that does not end by itself with an error, and still exits 0 within 15 s', async ({
    onTestFinished,
  }) => {
    const vitals = await started(onTestFinished, { stdio: { ...everythingStdio, cwd } })
    const url = `${vitals.dataUrl}/stdio/mcp`
    const session = await openSession(url)
    const endless = openPost(url, slowCall(600), session)
    await eventually(async () => (await debugUpstream(vitals, 'stdio')).requests_in_flight === 1, {
      what: 'the tool works',
    })
    const [{ end, seconds }, answer] = await Promise.all([terminate(vitals), endless.done])
    // News of the server may have come before it.
    expect(answer.messages.at(-1)).toMatchObject({ error: { data: { reason: 'shutting_down', delivered: true } } })
    expect(end).toBe('code 0')
    expect(seconds).toBeLessThan(15)
  })

  it.runIf(isLinux)('ends whole process groups: also a grandchild that ignores SIGTERM', async ({ onTestFinished }) => {
    const vitals = await started(onTestFinished, { stubborn: stubborn(everythingStdio.args.join(' ')) })
    const [group = 0] = await pidsOf(vitals)
    const members = groupMembers(group)
    expect(members.length).toBeGreaterThanOrEqual(2)
    const ending = terminate(vitals)
    // That grandchild takes its time, and the admin listener shows it.
    await eventually(async () => (await fetch(`${vitals.adminUrl}/-/ready`)).status === 503, {
      what: 'not ready any more',
    })
    expect((await fetch(`${vitals.adminUrl}/metrics`)).status).toBe(200)
    const { end, seconds } = await ending
    expect(end).toBe('code 0')
    expect(seconds).toBeLessThan(15)
    expect(members.filter(isRunning)).toEqual([])
  })

  it('exits 0 even when it is told to stop while it starts, and a SIGHUP then is not its end', async ({
    onTestFinished,
  }) => {
    const directory = await temporary((run) => onTestFinished(run))
    const file = join(directory, 'config.yaml')
    // A notice is the first thing that it writes, before it listens.
    const settings = { listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', max_sessions: 1, max_sessions_per_client: 2 }
    await writeFile(file, JSON.stringify({ ...settings, mcpServers: { everything: everythingStdio } }))
    const child = spawn(node, ['src/cli/main.ts', 'serve', '--config', file], {
      cwd,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    const [first] = await once(child.stdout, 'data')
    expect(String(first)).toContain('has no effect')
    child.kill('SIGHUP')
    child.kill('SIGTERM')
    child.stdout.resume()
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  it('gives the process of an open session the time to end that it needs (MCP 2025-11-25, Lifecycle, Shutdown)', async ({
    onTestFinished,
  }) => {
    const directory = await temporary(onTestFinished)
    const farewell = join(directory, 'farewell')
    const script = `
      const { setTimeout: sleep } = require('node:timers/promises')
      process.stdin.on('end', async () => { await sleep(700); require('node:fs').writeFileSync(process.argv[1], 'done'); process.exit(0) })
      let rest = ''
      process.stdin.on('data', (chunk) => {
        const lines = (rest + chunk).split('\\n'); rest = lines.pop()
        for (const line of lines) {
          const { id, method, params } = JSON.parse(line)
          if (id === undefined) continue
          const result = method === 'initialize' ? { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 'slow to end', version: '1' } } : undefined
          const answer = result ? { result } : { error: { code: -32601, message: 'Method not found' } }
          process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, ...answer }) + '\\n')
        }
      })`
    const vitals = await started(onTestFinished, { server: { command: node, args: ['-e', script, farewell] } })
    await openSession(`${vitals.dataUrl}/server/mcp`)
    await rm(farewell, { force: true }) // The resident process has left its own when it made room for the session.
    const { end } = await terminate(vitals)
    expect(end).toBe('code 0')
    expect(existsSync(farewell), 'the server could do what it does at the end').toBe(true)
  })
})

describe.runIf(isLinux).concurrent('kill -9 of the sidecar', { timeout: 40_000 }, () => {
  it('leaves no orphan behind: neither servers, nor their children, nor the watchdog', async ({ onTestFinished }) => {
    const vitals = await started(onTestFinished, {
      stubborn: stubborn(everythingStdio.args.join(' ')),
      http: await launchedEverything(),
    })
    await openSession(`${vitals.dataUrl}/stubborn/mcp`)
    const pids = (await pidsOf(vitals)).flatMap((pid) => groupMembers(pid))
    const watchdogs = await childrenOf(vitals.pid)
    expect(pids.length).toBeGreaterThanOrEqual(3)
    process.kill(vitals.pid, 'SIGKILL')
    expect(await vitals.exited).toBe('SIGKILL')
    await eventually(() => [...pids, ...watchdogs].every((pid) => !isRunning(pid)), {
      timeoutMs: 5000,
      what: 'every process is gone',
    })
  })
})

async function childrenOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return children.trim().split(/\s+/).map(Number)
}
