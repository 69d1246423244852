import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }
import { connectV1 } from '../peers/clients.ts'
import { everythingStdio, startEverything } from '../peers/everything.ts'
import { repoRoot } from '../peers/spawn.ts'
import { runCli } from '../support/cli.ts'
import { runVitals } from '../support/vitals.ts'

const run = promisify(execFile)
const onFreePorts = ['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0']

async function temporary(cleanup: (run: () => Promise<void>) => void): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-cli-'))
  cleanup(() => rm(directory, { recursive: true }))
  return directory
}

describe.concurrent('the command line', { timeout: 60_000 }, () => {
  it.each([
    { line: '--version', code: 0, stdout: `${packageJson.version}\n` },
    { line: '--help', code: 0, stdout: /^mcp-vitals: .*\n[^]*--config FILE/ },
    { line: 'serve --help', code: 0, stdout: /--config FILE/ },
    { line: '', code: 2, stderr: /^mcp-vitals: .*\n[^]*--config FILE/ },
    { line: 'frobnicate', code: 2, stderr: 'unknown command "frobnicate"; see mcp-vitals --help\n' },
    { line: 'serve', code: 2, stderr: /^nothing to run: give --config, --url or -- command/ },
    { line: '--frobnicate x', code: 2, stderr: /^Unknown option '--frobnicate'/ },
    { line: 'serve --config no/such/file.yaml', code: 1, stderr: /^no\/such\/file\.yaml: cannot be read: / },
    { line: 'check --config deploy/demo/mcp-vitals.yaml', code: 0, stdout: /configuration is valid\n$/ },
    {
      line: 'check --config test/config/files/bad/unknown-key.yaml',
      code: 1,
      stderr: /^test\/config\/files\/bad\/unknown-key\.yaml:\d+: .*\n/,
    },
    { line: 'check', code: 2, stderr: /^no --config is given\nusage: / },
  ])('mcp-vitals $line: exits with $code and says why', async ({ line, code, stdout = '', stderr = '' }) => {
    const result = await runCli(line.split(' ').filter(Boolean))
    expect(result.code, result.stderr).toBe(code)
    expect(result.stdout).toEqual(typeof stdout === 'string' ? stdout : expect.stringMatching(stdout))
    expect(result.stderr).toEqual(typeof stderr === 'string' ? stderr : expect.stringMatching(stderr))
  })

  it('serve refuses a bad file with every problem, a line each, before anything is started', async ({
    onTestFinished,
  }) => {
    const file = join(await temporary(onTestFinished), 'bad.yaml')
    await writeFile(file, 'listne: 1\nmcpServers:\n  a:\n    url: ftp://x\n')
    const { code, stdout, stderr } = await runCli(['serve', '--config', file])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    const lines = stderr.trimEnd().split('\n')
    expect(lines).toHaveLength(2)
    expect(lines[0]).toContain(`${file}:1`)
    expect(lines[1]).toContain(`${file}:4`)
  })

  it('ends with the reason when an address is taken, and leaves nothing running', async ({ onTestFinished }) => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => new Promise((resolve) => void taken.close(() => resolve(undefined))))
    const address = taken.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const args = ['--listen', `127.0.0.1:${port}`, '--admin-listen', '127.0.0.1:0', '--url', 'http://127.0.0.1:9/mcp']
    const { code, stderr } = await runCli(args)
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`^listen 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`)),
    })
  })

  it('--url NAME=URL runs in front of a server, without any file', async ({ onTestFinished }) => {
    const server = await startEverything('streamableHttp')
    onTestFinished(server.stop)
    const vitals = await runVitals([...onFreePorts, '--url', `mine=${server.ready}`])
    onTestFinished(vitals.stop)
    const client = await connectV1(`${vitals.dataUrl}/mine/mcp`)
    expect((await client.listTools()).tools.map(({ name }) => name)).toContain('echo')
    await client.close()
  })

  it('-- COMMAND runs in front of a stdio server, without any file', async ({ onTestFinished }) => {
    const command = [everythingStdio.command, ...everythingStdio.args]
    const vitals = await runVitals([...onFreePorts, '--name', 'mine', '--', ...command])
    onTestFinished(vitals.stop)
    const client = await connectV1(`${vitals.dataUrl}/mine/mcp`)
    expect(await client.callTool({ name: 'echo', arguments: { message: 'hi' } })).toMatchObject({
      content: [{ text: 'Echo: hi' }],
    })
    await client.close()
  })

  it('says in one line which Node it needs, when started by an older one', async ({ onTestFinished, skip }) => {
    const old = await oldNode()
    if (!old) return skip('there is no Node older than 22.19 on PATH')
    const directory = await temporary(onTestFinished)
    await run(process.execPath, [join(repoRoot, 'deploy/build.ts'), '--out-dir', directory])
    const result = await runCli(['--version'], { node: old.path, main: join(directory, 'cli/main.js') })
    expect(result).toEqual({
      code: 1,
      stdout: '',
      stderr: `mcp-vitals needs Node 22.19 or newer; this is Node ${old.version}\n`,
    })
  })
})

/** The first node on PATH, outside node_modules, that is too old for us. */
async function oldNode(): Promise<{ readonly path: string; readonly version: string } | undefined> {
  const directories = (process.env.PATH ?? '').split(delimiter).filter((part) => !part.includes('node_modules'))
  for (const path of directories.map((directory) => join(directory, 'node'))) {
    if (!isExecutable(path)) continue
    const { stdout } = await run(path, ['-p', 'process.versions.node'])
    const version = stdout.trim()
    const [major = 0, minor = 0] = version.split('.').map(Number)
    if (major < 22 || (major === 22 && minor < 19)) return { path, version }
  }
  return undefined
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false // It is not there, or not for us.
  }
}
