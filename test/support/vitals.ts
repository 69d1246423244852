import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { stringify } from 'yaml'
import { type RunningProcess, jsonLine, startProcess } from '../peers/spawn.ts'
import { type Program, programFile } from './program.ts'

/** A running mcp-vitals with its two addresses. */
export interface RunningVitals {
  /** Where clients connect: `${dataUrl}/<upstream>/mcp` or `/sse`. */
  readonly dataUrl: string
  readonly adminUrl: string
  readonly pid: number
  /** The end of what it has logged so far. */
  readonly output: () => string
  /** How it ended, once it has: `code 0`, `SIGKILL`. */
  readonly exited: Promise<string>
  /** SIGTERM, then SIGKILL when it does not end in time. */
  readonly stop: () => Promise<void>
}

export interface VitalsOptions {
  /** The configuration as an object; both listeners default to a free port on loopback. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string>>
  /** More arguments after `serve --config FILE`; without `config` they follow `serve` alone. */
  readonly args?: readonly string[]
  /** Hears each line of its log. */
  readonly onLine?: (line: string) => void
  /** What is started; the program unless told. */
  readonly script?: Program
}

/** As `npm start`, the image and the systemd unit have it. */
export const nodeFlags = ['--max-semi-space-size=4']

interface Addresses {
  readonly dataUrl: string
  readonly adminUrl: string
}

/** Starts the real program with the given configuration and waits until both of its listeners are bound. */
export async function startVitals(options: VitalsOptions): Promise<RunningVitals> {
  const { config, env = {}, args = [], onLine, script } = options
  if (!config) return started(['serve', ...args], env, onLine, script)
  const directory = await mkdtemp(join(tmpdir(), 'mcp-vitals-test-'))
  const file = join(directory, 'config.yaml')
  await writeFile(file, stringify({ listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', ...config }))
  const removeDirectory = () => rm(directory, { recursive: true, force: true })
  try {
    const running = await started(['serve', '--config', file, ...args], env, onLine, script)
    const stop = async () => {
      await running.stop()
      await removeDirectory()
    }
    return { ...running, stop }
  } catch (error) {
    await removeDirectory()
    throw error
  }
}

/** Starts the real program with these arguments and nothing else; they have to bind ports of their own choice. */
export async function runVitals(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<RunningVitals> {
  return started(args, env)
}

async function started(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  onLine: (line: string) => void = () => undefined,
  script: Program = 'src/cli/main.ts',
): Promise<RunningVitals> {
  try {
    const running = await startProcess({
      args: [...nodeFlags, programFile(script), ...args],
      env: { PATH: ownNodeFirst(), ...env },
      ready: addressCollector(),
      onLine,
    })
    return withAddresses(running)
  } catch (error) {
    throw new Error('mcp-vitals did not start', { cause: error })
  }
}

function withAddresses({ ready, pid, output, exited, stop }: RunningProcess<Addresses>): RunningVitals {
  return { ...ready, pid, output, exited, stop }
}

/** A configuration that says `node` means the one that runs the tests. */
function ownNodeFirst(): string {
  return [dirname(process.execPath), process.env.PATH].filter(Boolean).join(delimiter)
}

/** Gathers the two addresses, whether one `listening` line names both or each listener logs its own. */
function addressCollector(): (line: string) => Addresses | undefined {
  let dataUrl: string | undefined
  let adminUrl: string | undefined
  return (line) => {
    const entry = jsonLine(line)
    if (entry?.msg !== 'listening') return undefined
    if (typeof entry.data_url === 'string') dataUrl = entry.data_url.replace(/\/$/, '')
    if (typeof entry.admin_url === 'string') adminUrl = entry.admin_url.replace(/\/$/, '')
    return dataUrl !== undefined && adminUrl !== undefined ? { dataUrl, adminUrl } : undefined
  }
}
