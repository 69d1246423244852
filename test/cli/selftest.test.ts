import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  endpointChecks,
  metricsChecks,
  recoveryChecks,
  sessionChecks,
  upstreamChecks,
} from '../../src/cli/selftest-checks.ts'
import type { Check, Instance } from '../../src/cli/selftest-instance.ts'
import { selftest } from '../../src/cli/selftest.ts'
import { loadConfig } from '../../src/config/load.ts'
import { repoRoot } from '../peers/spawn.ts'
import { freePort } from '../../deploy/stack/ports.ts'

const longestMs = 20_000

interface Ended {
  readonly code: number
  readonly lines: readonly string[]
  readonly stderr: string
  readonly tookMs: number
  /** Command lines of its processes, itself included, once its instance ran and once it had ended. */
  readonly amid: readonly string[]
  readonly left: readonly string[]
}

/** Runs the program to its own end; what it started carries a mark in its environment. */
async function run(main: string, args: readonly string[]): Promise<Ended> {
  const mark = `MCP_VITALS_TEST_MARK=${randomUUID()}`
  const [key = '', value] = mark.split('=')
  const startedMs = performance.now()
  let amid: Promise<readonly string[]> = Promise.resolve([])
  const options = { cwd: tmpdir(), env: { ...process.env, [key]: value }, timeout: longestMs + 5000 }
  const ended = await new Promise<Omit<Ended, 'tookMs' | 'amid' | 'left'>>((resolve) => {
    const child = execFile(process.execPath, [main, 'selftest', ...args], options, (error, stdout, stderr) => {
      const code = error ? Number(error.code ?? -1) : 0
      resolve({ code, lines: stdout.trimEnd().split('\n'), stderr })
    })
    child.stdout?.on('data', (text: string) => {
      if (text.includes('PASS endpoints: /-/ready\n')) amid = marked(mark)
    })
  })
  return { ...ended, tookMs: performance.now() - startedMs, amid: await amid, left: await marked(mark) }
}

async function marked(mark: string): Promise<string[]> {
  if (process.platform !== 'linux') return []
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const read = (pid: string, file: string) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')
  const found = await Promise.all(pids.map(async (pid) => ((await read(pid, 'environ')).includes(mark) ? [pid] : [])))
  return Promise.all(found.flat().map((pid) => read(pid, 'cmdline')))
}

const groups = ['configuration', 'instance', 'upstream', 'endpoints', 'session', 'metrics', 'recovery']

function expectAllPassed({ code, lines, stderr, tookMs, amid, left }: Ended): void {
  const results = lines.slice(0, -1)
  expect(lines.filter((line) => !line.startsWith('PASS '))).toEqual([`${results.length}/${results.length} passed`])
  expect(new Set(results.map((line) => /^PASS (\w+): /.exec(line)?.[1]))).toEqual(new Set(groups))
  expect({ code, stderr, left }).toEqual({ code: 0, stderr: '', left: [] })
  if (process.platform === 'linux') expect(amid).toContainEqual(expect.stringMatching(/selftest-server\.[jt]s/))
  expect(tookMs).toBeLessThan(longestMs)
}

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcp-vitals-selftest-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function configFile(text: string): Promise<string> {
  const file = join(folder, `${randomUUID()}.yaml`)
  await writeFile(file, text)
  return file
}

describe('mcp-vitals selftest', { timeout: 60_000 }, () => {
  it('passes from the sources, ends by itself, says nothing else and leaves no process behind', async () => {
    expectAllPassed(await run(join(repoRoot, 'src/cli/main.ts'), []))
  })

  it('passes from the built package, whose files end in .js', async () => {
    // Away from all packages: it needs none.
    const args = [join(repoRoot, 'deploy/build.ts'), '--out-dir', join(folder, 'dist')]
    await new Promise<void>((resolve, reject) => {
      execFile(process.execPath, args, (error, _stdout, stderr) => (error ? reject(new Error(stderr)) : resolve()))
    })
    await writeFile(join(folder, 'package.json'), '{"type":"module"}')
    expectAllPassed(await run(join(folder, 'dist/cli/main.js'), []))
  })

  it("runs one's own configuration beside its server, and fails when a server of that is dead", async () => {
    const peer = join(repoRoot, 'src/cli/selftest-server.ts')
    const token = join(folder, 'token')
    await writeFile(token, 'a-token')
    const file = await configFile(`
exposition: stock
auth: { bearer_file: ${token} }
admin_auth: { bearer_file: ${token} }
mcpServers:
  selftest: { command: ${process.execPath}, args: [${peer}] }
  dead: { url: 'http://127.0.0.1:${await freePort()}/mcp' }
  unused: { command: ${process.execPath}, args: [${peer}], resident: never }
`)
    const { code, lines, left } = await run(join(repoRoot, 'src/cli/main.ts'), ['--config', file])
    const failed = lines.filter((line) => line.startsWith('FAIL '))
    expect(failed).toEqual([expect.stringMatching(/^FAIL upstream: dead is up or idle: 503 .*ECONNREFUSED/)])
    expect(lines).toContain(`PASS configuration: ${file} is valid`)
    for (const name of ['selftest', 'selftest-2', 'unused'])
      expect(lines).toContain(`PASS upstream: ${name} is up or idle`)
    expect(lines.at(-1)).toBe(`${lines.length - 2}/${lines.length - 1} passed`)
    expect({ code, left }).toEqual({ code: 1, left: [] })
  })

  it('tells what is wrong with a configuration that does not load, and exits with 1', async () => {
    const file = await configFile('mcpServers:\n  files: { comand: npx }\n')
    const lines: string[] = []
    const code = await selftest(['--config', file], { stdout: (line) => lines.push(line), env: {} })
    expect(code).toBe(1)
    expect(lines.slice(3)).toEqual([
      expect.stringContaining(`FAIL configuration: ${file} is valid: ${file}:2: mcpServers.files.comand`),
      expect.stringContaining(`FAIL instance: starts: ${file}:2: `),
      '3/5 passed',
    ])
    expect(lines.slice(0, 3).every((line) => line.startsWith('PASS '))).toBe(true)
  })

  it('refuses an option that it does not know', async () => {
    const io = { stdout: () => undefined, env: {} }
    await expect(selftest(['--nope'], io)).rejects.toMatchObject({ code: 'usage' })
  })
})

describe('the checks of selftest', () => {
  /** Never waits: whoever looks at the time finds that a minute has passed. */
  const hastyClock = () => {
    let nowMs = 0
    return {
      now: () => (nowMs += 60_000),
      wallTime: () => 0,
      after: (_delayMs: number, run: () => void) => {
        queueMicrotask(run)
        return { cancel: () => undefined }
      },
    }
  }

  /** All checks, on something that gives every request this answer. */
  async function complaints(status: number, body: string): Promise<ReadonlyMap<string, unknown>> {
    const server = createServer((request, response) => {
      request.resume()
      response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(body)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const upstreamUrls = new Map([['selftest', `${url}/selftest/mcp`]])
    const instance: Instance = {
      running: {
        dataUrl: url,
        adminUrl: url,
        upstreamUrls,
        reload: async () => ({ kind: 'refused', problem: 'not asked here' }),
        stop: async () => ({ problems: [] }),
      },
      config: loadConfig({ files: [], env: {} }).config,
      server: 'selftest',
      clock: hastyClock(),
      endsMs: Infinity,
      signal: new AbortController().signal,
    }
    const session = sessionChecks(instance)
    const all: readonly Check[] = [
      ...upstreamChecks(instance, ['selftest']),
      ...endpointChecks(instance),
      ...session.checks,
      ...metricsChecks(instance),
      ...recoveryChecks(instance),
    ]
    const results = new Map<string, unknown>()
    for (const { name, run } of all) {
      results.set(name, await Promise.resolve(run()).catch((error: unknown) => error))
    }
    await session.close()
    server.close()
    return results
  }

  it.each([
    [500, 'down'],
    [404, '{}'],
    [200, ''],
    [200, '{}'],
  ])('have no good word for a program that answers %i %j to everything', async (status, body) => {
    const results = await complaints(status, body)
    expect(results.size).toBeGreaterThan(20)
    const satisfied = [...results].filter(([, complaint]) => complaint === undefined).map(([name]) => name)
    // A status of 200 is all that this one asks for: the verdict itself is the program's.
    expect(satisfied).toEqual(status === 200 ? ['upstream: selftest is up or idle'] : [])
  })
})
