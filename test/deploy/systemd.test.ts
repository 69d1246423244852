/** deploy/systemd: the unit by the rules of systemd itself, and what it runs. No systemd is there to start it. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, afterAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { loadConfig } from '../../src/config/load.ts'
import { defaults } from '../../src/defaults.ts'
import { findExecutable } from '../../src/upstreams/executable.ts'
import { repoRoot } from '../peers/spawn.ts'
import { eventually } from '../support/eventually.ts'
import { nodeFlags, startVitals } from '../support/vitals.ts'

const here = join(repoRoot, 'deploy/systemd')
const unit = readFileSync(join(here, 'mcp-vitals.service'), 'utf8')
const example = readFileSync(join(here, 'config.yaml'), 'utf8')

/** The values of a setting, in their order. */
function setting(name: string): string[] {
  return [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value ?? '')
}

const folder = mkdtempSync(join(tmpdir(), 'mcp-vitals-systemd-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** What systemd-analyze says of the unit, with the Node that runs here. */
function analyze(context: TestContext, args: readonly string[]) {
  const found = findExecutable('systemd-analyze', { path: process.env['PATH'] })
  if (found.kind === 'missing') return context.skip('systemd-analyze is not installed')
  const file = join(folder, 'mcp-vitals.service')
  writeFileSync(file, unit.replace('ExecStart=/usr/bin/node', `ExecStart=${process.execPath}`))
  const { status, stdout, stderr } = spawnSync(found.path, [...args, file], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

describe('the unit', () => {
  it('is one by systemd-analyze', (context) => {
    const { status, stderr } = analyze(context, ['verify', '--man=no'])
    // Units that it loads besides may have faults of their own.
    expect(stderr.split('\n').filter((line) => line.includes('mcp-vitals'))).toEqual([])
    expect(status).toBe(0)
  })

  it('exposes as little as systemd-analyze wants of a hardened service (2.0 of 10)', (context) => {
    const { status, stdout } = analyze(context, ['security', '--no-pager', '--offline=true', '--threshold=20'])
    expect(status, stdout).toBe(0)
  })

  it('gives the program the time that it takes to stop, and lets it stop its servers itself', () => {
    expect(Number(setting('TimeoutStopSec')[0]) * 1000).toBeGreaterThan(defaults.shutdownDeadlineMs)
    expect(setting('KillMode')).toEqual(['mixed'])
  })

  it('runs what npm run build makes', () => {
    const { bin } = z
      .object({ bin: z.object({ 'mcp-vitals': z.string() }) })
      .parse(JSON.parse(readFileSync(join(repoRoot, 'package.json'), 'utf8')))
    const words = setting('ExecStart')[0]?.split(' ') ?? []
    expect(words.slice(1)).toEqual([
      ...nodeFlags,
      `/opt/mcp-vitals/${bin['mcp-vitals']}`,
      'serve',
      '--config',
      '/etc/mcp-vitals/config.yaml',
    ])
  })
})

describe('its configuration', () => {
  const load = (text: string, env: Readonly<Record<string, string>> = {}) =>
    loadConfig({
      files: ['config.yaml'],
      env,
      readFile: (path) => (path === 'config.yaml' ? text : path === '/run/credentials/admin.token' ? 'a-token\n' : ''),
    })

  it('is accepted, with the server in comments too', () => {
    expect(load(example).config.upstreams.map(({ name }) => name)).toEqual(['search'])
    const uncommented = example.replaceAll(/^ {2}# (?=files:| {2})/gm, '  ')
    expect(load(uncommented).config.upstreams.map(({ name }) => name)).toEqual(['search', 'files'])
  })

  it('may name a credential of the unit', () => {
    expect(unit).toContain('${CREDENTIALS_DIRECTORY}/admin.token')
    const text = `${example}admin_auth: { bearer_file: '\${CREDENTIALS_DIRECTORY}/admin.token' }\n`
    expect(load(text, { CREDENTIALS_DIRECTORY: '/run/credentials' }).config.adminAuth.bearerToken).toBe('a-token')
  })

  it('runs in the environment of the unit, is loaded again on its ExecReload, and stops on SIGTERM', async () => {
    const places = { '%S': join(folder, 'state'), '%C': join(folder, 'cache') }
    const expanded = (text: string) => text.replaceAll(/%[SC]/g, (one) => (one === '%S' ? places['%S'] : places['%C']))
    const pairs = expanded(setting('Environment')[0] ?? '').matchAll(/(\S+)=(\S+)/g)
    const env = Object.fromEntries([...pairs].map(([, name = '', value = '']) => [name, value]))
    mkdirSync(join(places['%S'], 'mcp-vitals'), { recursive: true })
    const file = join(folder, 'config.yaml')
    writeFileSync(file, example)
    const listeners = ['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0']
    // The tests' own cache would take the place of the unit's.
    const alone = { ...env, NODE_COMPILE_CACHE: '' }
    const running = await startVitals({ args: ['--config', file, ...listeners], env: alone })
    try {
      const signal = /^\/bin\/kill -(\w+) \$MAINPID$/.exec(setting('ExecReload')[0] ?? '')?.[1]
      process.kill(running.pid, `SIG${signal}`)
      await eventually(() => running.output().includes('"msg":"the configuration was reloaded"'), {
        what: 'it is loaded again',
      })
      process.kill(running.pid, 'SIGTERM')
      expect(await running.exited).toBe('code 0')
      expect(existsSync(join(places['%C'], setting('CacheDirectory')[0] ?? ''))).toBe(true)
    } finally {
      await running.stop()
    }
  })
})
