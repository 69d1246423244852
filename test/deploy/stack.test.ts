/** `npm run stack`, as a user runs it. */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, afterEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type RunningProcess, repoRoot, startProcess } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { descendants, isRunning } from '../support/processes.ts'
import { needed } from '../support/prometheus.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** Starts it, and waits until it says what runs where. */
async function startStack(env: Readonly<Record<string, string>> = {}): Promise<RunningProcess<true>> {
  const stack = await startProcess({
    args: ['deploy/stack/main.ts'],
    env,
    ready: (line) => line.startsWith('Ctrl-C stops all of it') || undefined,
    startDeadlineMs: 90_000,
    termGraceMs: 30_000,
  })
  cleanups.push(stack.stop)
  return stack
}

/** The address that a line of its output begins with, if that line ends so. */
function addressBefore(stack: RunningProcess<true>, end: string): string {
  const line = stack
    .output()
    .split('\n')
    .find((one) => one.endsWith(end))
  return /^ *(http:\S+)/.exec(line ?? '')?.[1] ?? ''
}

const places = (stack: RunningProcess<true>) => ({
  page: addressBefore(stack, 'every upstream at a glance'),
  prometheus: addressBefore(stack, 'whether that works').replace(/\/targets$/, ''),
  alertmanager: addressBefore(stack, 'is printed here'),
  folder: dirname(/--targets-dir (\S+)/.exec(stack.output())?.[1] ?? ''),
})

/** The pid of the program of that name which the stack started. */
function partOf(stack: RunningProcess<true>, name: string): number {
  const found = descendants(stack.pid).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(name))
  if (found === undefined) throw new Error(`the stack has no ${name}`)
  return found
}

function needsBoth(context: TestContext): void {
  needed(context, 'prometheus')
  needed(context, 'prometheus-alertmanager')
}

/** Keeps a port from others, if nobody has it already. */
function occupy(port: number): Promise<void> {
  const server = createServer()
  cleanups.push(() => new Promise((resolve) => server.close(resolve)))
  return new Promise((resolve) => {
    server.once('error', () => resolve())
    server.listen(port, '127.0.0.1', () => resolve())
  })
}

const json = async (url: string, init?: RequestInit): Promise<unknown> => (await fetch(url, init)).json()
const vector = z.object({ data: z.object({ result: z.array(z.object({ metric: z.record(z.string(), z.string()) })) }) })
const groups = z.object({ data: z.object({ groups: z.array(z.unknown()) }) })

describe('npm run stack', { timeout: 180_000 }, () => {
  it('starts the demo, Prometheus and Alertmanager beside whoever has their ports, and leaves nothing', async (context) => {
    needsBoth(context)
    for (const port of [9090, 9093, 9464]) await occupy(port)
    const stack = await startStack()
    const { page, prometheus, alertmanager, folder } = places(stack)
    for (const [url, port] of [
      [page, '9464'],
      [prometheus, '9090'],
      [alertmanager, '9093'],
    ] as const) {
      expect(new URL(url).port).not.toBe(port)
    }
    expect(await (await fetch(page)).text()).toContain('everything-sse')

    const up = `${prometheus}/api/v1/query?${new URLSearchParams({ query: 'mcp_upstream_up == 1' }).toString()}`
    const upstreams = ['everything', 'everything-http', 'everything-sse', 'modern']
    await eventually(
      async () => {
        const seen = vector.parse(await json(up)).data.result.map(({ metric }) => metric['upstream'])
        return upstreams.every((name) => seen.includes(name))
      },
      { timeoutMs: 60_000, what: 'Prometheus sees every demo server up' },
    )
    expect(await json(`${prometheus}/api/v1/alertmanagers`)).toMatchObject({
      data: { activeAlertmanagers: [{ url: `${alertmanager}api/v2/alerts` }] },
    })
    const ruleFiles = existsSync(join(repoRoot, 'dashboards/rules'))
      ? readdirSync(join(repoRoot, 'dashboards/rules'))
      : []
    const loaded = groups.parse(await json(`${prometheus}/api/v1/rules`)).data.groups
    expect(loaded.length).toBeGreaterThanOrEqual(ruleFiles.length)

    const labels = { alertname: 'McpUpstreamDown', severity: 'critical', upstream: 'made-up' }
    await fetch(`${alertmanager}api/v2/alerts`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify([{ labels, annotations: { summary: 'Only a test.' } }]),
    })
    await eventually(
      () => stack.output().includes('alertmanager → pages: McpUpstreamDown firing (critical, made-up): Only a test.'),
      { timeoutMs: 30_000, what: 'what Alertmanager sends is printed' },
    )

    const started = descendants(stack.pid)
    expect(started.length).toBeGreaterThan(6)
    process.kill(stack.pid, 'SIGTERM')
    expect(await stack.exited).toBe('code 0')
    await eventually(() => started.every((pid) => !isRunning(pid)), { what: 'every process has ended' })
    expect(existsSync(folder)).toBe(false)
    expect(stack.output()).toContain('SIGTERM: stopping everything\neverything has stopped\n')
  })

  it('stops when a part of it dies, and says which', async (context) => {
    needsBoth(context)
    const stack = await startStack()
    const started = descendants(stack.pid)
    process.kill(partOf(stack, '--storage.tsdb.path'), 'SIGKILL')
    expect(await stack.exited).toBe('code 1')
    expect(stack.output()).toContain('prometheus was killed by SIGKILL: stopping everything else')
    await eventually(() => started.every((pid) => !isRunning(pid)), { what: 'every process has ended' })
  })

  it('leaves nothing when it is killed itself', async (context) => {
    needsBoth(context)
    const stack = await startStack()
    const started = descendants(stack.pid)
    cleanups.push(() => rm(places(stack).folder, { recursive: true, force: true }))
    process.kill(stack.pid, 'SIGKILL')
    await eventually(() => started.every((pid) => !isRunning(pid)), { what: 'every process has ended' })
  })

  it('runs without Prometheus and Alertmanager, and says what to install', async () => {
    const path = await mkdtemp(join(tmpdir(), 'mcp-vitals-path-'))
    cleanups.push(() => rm(path, { recursive: true }))
    await symlink(process.execPath, join(path, 'node'))
    const stack = await startStack({ PATH: path })
    expect(stack.output()).toContain('Prometheus is not installed: apt-get install prometheus\n')
    expect(stack.output()).toContain('Alertmanager is not installed: apt-get install prometheus-alertmanager\n')
    expect((await fetch(places(stack).page)).status).toBe(200)
    process.kill(stack.pid, 'SIGINT')
    expect(await stack.exited).toBe('code 0')
  })
})
